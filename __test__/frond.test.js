'use strict';

// frond.js runs here as a page runs it, in a global scope of its own, over real sockets: the browser's
// WebSocket is the one of `ws`, the server is a `ws` server. The e2e tests run it in Chromium.

const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');
const WebSocket = require('ws');

const FILE = path.join(__dirname, '..', 'public', 'js', 'frond.js');
const SOURCE = fs.readFileSync(FILE, 'utf8');
const FAST = { reconnectInterval: 20 };

/** A page at `url`: a window with frond.js loaded, what it warned of and what its listeners threw. */
function openPage(url) {
  const location = new URL(url);
  const page = new EventTarget();
  page.warnings = [];
  page.thrown = [];
  page.delays = [];
  page.opened = [];
  class PageSocket extends WebSocket {
    constructor(address, protocols) {
      super(address, protocols);
      page.opened.push(this);
    }
  }
  const scope = {
    WebSocket: PageSocket,
    TextEncoder,
    performance,
    location,
    console: { warn: (line) => page.warnings.push(line) },
    clearTimeout,
    setTimeout: (run, delay) => {
      if (delay !== undefined) page.delays.push(delay);
      return setTimeout(() => {
        try {
          run();
        } catch (error) {
          page.thrown.push(error);
        }
      }, delay);
    },
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
  };
  scope.window = scope;
  vm.runInNewContext(SOURCE, scope, { filename: FILE });
  page.frond = scope.frond;
  page.scope = scope;
  return page;
}

/** Resolves with the arguments of the next `event`. */
const next = (ws, event) =>
  new Promise((resolve) => {
    const off = ws.on(event, (...args) => {
      off();
      resolve(args);
    });
  });

async function until(condition, what) {
  const deadline = Date.now() + 4000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let server, port, seen, opened;

async function listen(options = {}) {
  server = new WebSocket.Server({ port: options.port || 0, host: '127.0.0.1', ...options });
  await new Promise((resolve) => server.once('listening', resolve));
  port = server.address().port;
  server.on('connection', (peer, request) => {
    seen.push(peer);
    peer.request = request;
    peer.got = [];
    peer.on('message', (data, binary) => peer.got.push(binary ? data : String(data)));
  });
}

/** Ends the listener and every socket, as a killed server does. */
async function kill() {
  for (const peer of server.clients) peer.terminate();
  await new Promise((resolve) => server.close(resolve));
}

function connect(target = '/ws/x', options) {
  const page = openPage(`http://127.0.0.1:${port}/pages/here?q=1`);
  const ws = page.frond.ws(target, options);
  opened.push(ws);
  return { page, ws };
}

beforeEach(async () => {
  seen = [];
  opened = [];
  await listen();
});

afterEach(async () => {
  for (const ws of opened) ws.close();
  await kill();
});

test('frond.js is smaller than 10 KB and adds one global', () => {
  expect(Buffer.byteLength(SOURCE)).toBeLessThan(10000);
  const page = openPage('http://localhost/');
  expect(Object.keys(page.frond)).toEqual(['ws']);
});

describe('address', () => {
  const through = async (target) => {
    const { ws } = connect(target);
    await next(ws, 'open');
    return seen[seen.length - 1].request.url;
  };

  test.each([
    '</script><b>',
    '\\',
    'R&D',
    'a"b',
    'two words',
    ' edges ',
    'C#',
    '100%',
    '50%zz',
    '%ff',
    '%E2%82',
    'josé',
    '😀',
    '日本',
    'a\tb\nc',
    'a|b^c`{d}[e]',
    "it's",
    '+1',
    'a:b@c;d=e,f',
    '~x!',
    'ſK',
    '.hidden',
    '...',
    '<br/>',
    '<a href="/x">',
    '</',
  ])('the room %j appended raw is the room that the server reads', async (room) => {
    const [, ws, kind, ...names] = (await through('/ws/room/' + room)).split('/');
    expect([ws, kind]).toEqual(['ws', 'room']);
    expect(names.map(decodeURIComponent)).toEqual([room]);
  });

  test('raw names between separators stay segments', async () => {
    expect(await through('/ws/two words/josé/<i>/a<b')).toBe('/ws/two%20words/jos%C3%A9/%3Ci%3E/a%3Cb');
  });

  test.each(['a/b', 'why?', '%20', '100%25'])('the room %j arrives through encodeURIComponent', async (room) => {
    const url = await through('/ws/room/' + encodeURIComponent(room));
    expect(decodeURIComponent(url.slice('/ws/room/'.length))).toBe(room);
  });

  test('a lone surrogate becomes the replacement character', async () => {
    expect(await through('/ws/\uD800x')).toBe('/ws/%EF%BF%BDx');
  });

  test('a query stays a query', async () => {
    expect(await through('/ws/secure?token=a.b-c_d&next=/x?y&e=%3D')).toBe('/ws/secure?token=a.b-c_d&next=/x?y&e=%3D');
    expect(await through('/ws/x?t=a b#c')).toBe('/ws/x?t=a%20b%23c');
  });

  test("a path that looks like another host stays on the page's host", async () => {
    expect(await through('//other.invalid/x')).toBe('//other.invalid/x');
    expect(await through('/\\other.invalid/x')).toBe('/%5Cother.invalid/x');
  });

  test('a path without a leading slash is beside the page', async () => {
    expect(await through('ws/x')).toBe('/pages/ws/x');
  });

  test('ws and http URLs are used as they are', async () => {
    expect(await through(`ws://127.0.0.1:${port}/ws/a b`)).toBe('/ws/a%20b');
    expect(await through(`http://127.0.0.1:${port}/ws/c`)).toBe('/ws/c');
    expect(await through(`HTTP://127.0.0.1:${port}`)).toBe('/');
    expect(await through(new URL(`http://127.0.0.1:${port}/u?v=1`))).toBe('/u?v=1');
  });

  test('a page on https opens wss', async () => {
    for (const [url, target, expected] of [
      [`https://127.0.0.1:${port}/`, '/ws/x', `wss://127.0.0.1:${port}/ws/x`],
      [`http://127.0.0.1:${port}/`, `https://127.0.0.1:${port}/y`, `wss://127.0.0.1:${port}/y`],
    ]) {
      const page = openPage(url);
      const ws = page.frond.ws(target, { reconnect: false });
      opened.push(ws);
      expect(page.opened[0].url).toBe(expected);
      await next(ws, 'error');
    }
  });

  test.each(['/ws/..', '/ws/./x', '/ws/%2E%2e', '/ws/.%2e?x', '..'])(
    'the dot segment in %j is refused by name',
    (target) => {
      expect(() => connect(target)).toThrow(/has a segment "\." or "\.\.", which no URL can carry/);
    },
  );

  test('dots in a query are no segments', async () => {
    expect(await through('/ws/x?back=/..')).toBe('/ws/x?back=/..');
  });

  test.each(['', 'ftp://host/x', 'javascript://x'])('%j is refused with what is accepted', (target) => {
    expect(() => connect(target)).toThrow(/neither a path nor a ws, wss, http or https URL/);
  });
});

describe('messages', () => {
  test('text arrives as the raw string, binary as an ArrayBuffer', async () => {
    const { ws } = connect();
    const first = next(ws, 'message');
    await next(ws, 'open');
    seen[0].send('{"a":1}');
    expect(await first).toEqual(['{"a":1}']);
    const second = next(ws, 'message');
    seen[0].send(Buffer.from([1, 2, 255]));
    const [data] = await second;
    expect(Object.prototype.toString.call(data)).toBe('[object ArrayBuffer]');
    expect([...new Uint8Array(data)]).toEqual([1, 2, 255]);
  });

  test('strings go as text, objects as JSON, buffers and views as binary', async () => {
    const { ws } = connect();
    await next(ws, 'open');
    const bytes = new Uint8Array([9, 1, 2, 3, 9]);
    expect(ws.send('text')).toBe(true);
    ws.send({ a: [1, null] });
    ws.send([1]);
    ws.send(7);
    ws.send(null);
    ws.send(bytes.subarray(1, 4));
    ws.send(bytes.buffer);
    await until(() => seen[0].got.length === 7, 'seven messages');
    expect(seen[0].got).toEqual(['text', '{"a":[1,null]}', '[1]', '7', 'null', Buffer.from([1, 2, 3]), Buffer.from(bytes)]);
  });

  test('what has no JSON form is a TypeError', () => {
    const { ws } = connect();
    expect(() => ws.send(undefined)).toThrow(/cannot send undefined/);
    expect(() => ws.send(() => {})).toThrow(/cannot send function/);
    const loop = {};
    loop.loop = loop;
    expect(() => ws.send(loop)).toThrow(/circular/i);
  });

  test('the subprotocol that was offered is negotiated', async () => {
    const { page, ws } = connect('/ws/x', { protocols: ['chat.v1'] });
    await next(ws, 'open');
    expect(page.opened[0].protocol).toBe('chat.v1');
  });
});

describe('listeners', () => {
  test('on returns an unsubscribe, which takes away that one registration', async () => {
    const { ws } = connect();
    const got = [];
    const listener = (data) => got.push(data);
    const off = ws.on('message', listener);
    ws.on('message', listener);
    await next(ws, 'open');
    off();
    off();
    seen[0].send('one');
    await until(() => got.length > 0, 'a message');
    await pause(20);
    expect(got).toEqual(['one']);
  });

  test('a listener that throws is reported and stops no other', async () => {
    const { page, ws } = connect();
    const got = [];
    ws.on('message', () => {
      throw new Error('mine');
    });
    ws.on('message', (data) => got.push(data));
    await next(ws, 'open');
    seen[0].send('x');
    seen[0].send('y');
    await until(() => got.length === 2, 'both messages');
    await until(() => page.thrown.length === 2, 'both reports');
    expect(page.thrown[0].message).toBe('mine');
    expect(ws.status).toBe('open');
  });

  test('a listener that throws in open does not hold back what was buffered', async () => {
    const { page, ws } = connect();
    ws.on('open', () => {
      throw new Error('mine');
    });
    ws.send('early');
    await until(() => seen.length && seen[0].got.length, 'the message');
    expect(page.thrown).toHaveLength(1);
  });

  test('an unknown event and a listener that is no function are refused', () => {
    const { ws } = connect();
    expect(() => ws.on('mesage', () => {})).toThrow(
      /no event "mesage" in open, message, close, error, reconnect, reconnect_failed/,
    );
    expect(() => ws.on('open')).toThrow(/must be a function/);
  });

  test('onOpen, onClose and onError listen from the start', async () => {
    const calls = [];
    connect('/ws/x', {
      ...FAST,
      maxReconnectAttempts: 1,
      onOpen: () => calls.push('open'),
      onClose: (code, reason) => calls.push([code, reason]),
      onError: () => calls.push('error'),
    });
    await until(() => calls.length === 1, 'open');
    server.close();
    seen[0].close(4001, 'bye');
    await until(() => calls.length === 3, 'close and the failed attempt');
    expect(calls).toEqual(['open', [4001, 'bye'], 'error']);
    await listen();
  });
});

describe('buffer', () => {
  test('what was sent before the first open follows what the open listeners send, in order', async () => {
    const { ws } = connect();
    ws.on('open', () => ws.send('name'));
    for (let i = 0; i < 5; i++) expect(ws.send(`early ${i}`)).toBe(true);
    ws.on('open', () => ws.send('second listener'));
    await until(() => seen.length && seen[0].got.length === 7, 'seven messages');
    expect(seen[0].got).toEqual(['name', 'second listener', 'early 0', 'early 1', 'early 2', 'early 3', 'early 4']);
  });

  test('what was sent while the server was gone arrives after the name, once', async () => {
    const { ws } = connect('/ws/x', FAST);
    ws.on('open', () => ws.send('name'));
    await next(ws, 'open');
    const closed = next(ws, 'close');
    const freed = port;
    await kill();
    await closed;
    ws.send('a');
    ws.send(new Uint8Array([1]));
    ws.send({ c: 1 });
    expect(ws.status).toBe('reconnecting');
    await listen({ port: freed });
    await until(() => seen.length === 2 && seen[1].got.length === 4, 'the flush');
    expect(seen[1].got).toEqual(['name', 'a', Buffer.from([1]), '{"c":1}']);
    await pause(20);
    expect(seen[1].got).toHaveLength(4);
  });

  test('a view is copied when it is buffered', async () => {
    const { ws } = connect();
    const bytes = new Uint8Array([1, 2]);
    ws.send(bytes);
    ws.send(bytes.buffer);
    bytes.fill(9);
    await until(() => seen.length && seen[0].got.length === 2, 'the messages');
    expect(seen[0].got).toEqual([Buffer.from([1, 2]), Buffer.from([1, 2])]);
  });

  test('message 1,001 is dropped with a warning and an error event, the others arrive', async () => {
    const { page, ws } = connect();
    const errors = [];
    ws.on('error', (error) => errors.push(error.message));
    for (let i = 0; i < 1000; i++) expect(ws.send(String(i))).toBe(true);
    expect(ws.send('too many')).toBe(false);
    expect(errors).toEqual(['frond.ws: message dropped, the buffer is full (1,000 messages or 1 MiB)']);
    expect(page.warnings).toEqual(errors);
    await until(() => seen.length && seen[0].got.length === 1000, 'the buffered messages');
    expect(seen[0].got).toEqual(Array.from({ length: 1000 }, (_, i) => String(i)));
    expect(ws.send('room again')).toBe(true);
  });

  test('1 MiB is kept, counted in UTF-8 bytes, and not a byte more', async () => {
    const { ws } = connect();
    expect(ws.send('é'.repeat(512 * 1024 - 1))).toBe(true);
    expect(ws.send('abc')).toBe(false);
    expect(ws.send(new Uint8Array(3))).toBe(false);
    expect(ws.send('ab')).toBe(true);
    expect(ws.send('a')).toBe(false);
    await until(() => seen.length && seen[0].got.length === 2, 'the buffered messages');
  });

  test('the room of flushed messages is free again at the next loss', async () => {
    const { ws } = connect('/ws/x', FAST);
    ws.send('x'.repeat(1024 * 1024));
    await until(() => seen.length && seen[0].got.length === 1, 'the first flush');
    const closed = next(ws, 'close');
    seen[0].terminate();
    await closed;
    expect(ws.send('y'.repeat(1024 * 1024))).toBe(true);
    await until(() => seen.length === 2 && seen[1].got.length === 1, 'the second flush');
  });
});

describe('reconnecting', () => {
  test('attempts count from 1, each announced when it begins, then reconnect_failed', async () => {
    const { ws } = connect('/ws/x', { ...FAST, maxReconnectAttempts: 3 });
    await next(ws, 'open');
    const events = [];
    ws.on('close', (code) => events.push(`close ${code}, ${ws.status}`));
    ws.on('reconnect', (attempt) => events.push(`reconnect ${attempt}, ${ws.status}`));
    ws.on('error', () => events.push('error'));
    ws.on('reconnect_failed', () => events.push(`failed, ${ws.status}`));
    const failed = next(ws, 'reconnect_failed');
    await pause(40);
    await kill();
    await failed;
    await pause(80);
    expect(events).toEqual([
      'close 1006, reconnecting',
      'reconnect 1, reconnecting',
      'error',
      'reconnect 2, reconnecting',
      'error',
      'reconnect 3, reconnecting',
      'error',
      'failed, closed',
    ]);
    await listen();
  });

  test('a page whose server is not there yet connects when it is', async () => {
    const freed = port;
    await kill();
    const { ws } = connect('/ws/x', FAST);
    const closes = [];
    ws.on('close', () => closes.push(1));
    expect(ws.status).toBe('connecting');
    await next(ws, 'reconnect');
    await listen({ port: freed });
    await next(ws, 'open');
    expect(ws.status).toBe('open');
    expect(closes).toEqual([]);
  });

  test('a page refused after the upgrade gives up, with one close for each connection', async () => {
    server.on('connection', (peer) => peer.close(4401, 'no token'));
    const { ws } = connect('/ws/x', { reconnectInterval: 60, maxReconnectAttempts: 3 });
    const attempts = [];
    const closes = [];
    ws.on('reconnect', (attempt) => attempts.push(attempt));
    ws.on('close', (code, reason) => closes.push([code, reason]));
    await next(ws, 'reconnect_failed');
    expect(attempts).toEqual([1, 2, 3]);
    expect(closes).toEqual(Array(4).fill([4401, 'no token']));
    expect(seen).toHaveLength(4);
  });

  test('a page refused at the upgrade gives up without a close', async () => {
    await kill();
    await listen({ verifyClient: (info, done) => done(false, 401, 'no') });
    const { ws } = connect('/ws/x', { ...FAST, maxReconnectAttempts: 2 });
    const closes = [];
    ws.on('close', () => closes.push(1));
    await next(ws, 'reconnect_failed');
    expect(closes).toEqual([]);
    expect(ws.status).toBe('closed');
  });

  test('the count begins anew once a connection has lasted longer than the interval', async () => {
    const { ws } = connect('/ws/x', { reconnectInterval: 30, maxReconnectAttempts: 2 });
    const attempts = [];
    ws.on('reconnect', (attempt) => attempts.push(attempt));
    for (let round = 1; round <= 4; round++) {
      await until(() => seen.length === round && ws.status === 'open', `connection ${round}`);
      await pause(60);
      seen[round - 1].terminate();
    }
    await until(() => seen.length === 5, 'the fifth connection');
    expect(attempts).toEqual([1, 1, 1, 1]);
  });

  test('waits are the interval, give or take 20 %', async () => {
    await kill();
    const { page, ws } = connect('/ws/x', { reconnectInterval: 10, maxReconnectAttempts: 12 });
    await next(ws, 'reconnect_failed');
    expect(page.delays).toHaveLength(12);
    for (const delay of page.delays) {
      expect(delay).toBeGreaterThanOrEqual(8);
      expect(delay).toBeLessThanOrEqual(12);
    }
    expect(new Set(page.delays).size).toBeGreaterThan(1);
    await listen();
  });

  test('reconnectDelay doubles up to maxReconnectDelay', async () => {
    await kill();
    const { page, ws } = connect('/ws/x', { reconnectDelay: 4, maxReconnectDelay: 20, maxReconnectAttempts: 5 });
    await next(ws, 'reconnect_failed');
    const expected = [4, 8, 16, 20, 20];
    expect(page.delays).toHaveLength(expected.length);
    page.delays.forEach((delay, i) => {
      expect(delay).toBeGreaterThanOrEqual(expected[i] * 0.8);
      expect(delay).toBeLessThanOrEqual(expected[i] * 1.2);
    });
    await listen();
  });

  test('maxReconnectDelay alone lets reconnectInterval double', async () => {
    await kill();
    const { page, ws } = connect('/ws/x', { reconnectInterval: 4, maxReconnectDelay: 9, maxReconnectAttempts: 3 });
    await next(ws, 'reconnect_failed');
    const expected = [4, 8, 9];
    page.delays.forEach((delay, i) => expect(Math.abs(delay - expected[i])).toBeLessThanOrEqual(expected[i] * 0.2));
    await listen();
  });

  test('the defaults are 3 seconds and 10 attempts, ± 20 %', async () => {
    await kill();
    const { page, ws } = connect('/ws/x');
    await until(() => page.delays.length === 1, 'the first loss');
    expect(page.delays[0]).toBeGreaterThanOrEqual(2400);
    expect(page.delays[0]).toBeLessThanOrEqual(3600);
    ws.close();
    page.scope.setTimeout = (run) => setTimeout(run); // every wait is over at once
    const eager = page.frond.ws('/ws/x');
    const attempts = [];
    eager.on('reconnect', (attempt) => attempts.push(attempt));
    await next(eager, 'reconnect_failed');
    expect(attempts).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await listen();
  });

  test('reconnect: false is one connection and no reconnect_failed', async () => {
    const { ws } = connect('/ws/x', { ...FAST, reconnect: false });
    const events = [];
    ws.on('reconnect', () => events.push('reconnect'));
    ws.on('reconnect_failed', () => events.push('failed'));
    ws.on('close', () => events.push(`close, ${ws.status}`));
    await next(ws, 'open');
    seen[0].close(1001);
    await next(ws, 'close');
    await pause(60);
    expect(events).toEqual(['close, closed']);
    expect(seen).toHaveLength(1);
  });

  test('maxReconnectAttempts: 0 fails at the first loss', async () => {
    const { ws } = connect('/ws/x', { ...FAST, maxReconnectAttempts: 0 });
    await next(ws, 'open');
    seen[0].terminate();
    await next(ws, 'reconnect_failed');
    expect(seen).toHaveLength(1);
  });

  test.each([
    ['reconnectInterval', -1],
    ['reconnectInterval', '3000'],
    ['maxReconnectAttempts', NaN],
    ['reconnectDelay', null],
    ['maxReconnectDelay', {}],
  ])('option %s: %p is refused by name', (name, value) => {
    expect(() => connect('/ws/x', { [name]: value })).toThrow(new RegExp(`${name} must be a number from 0 up`));
  });
});

describe('#close', () => {
  test('ends the connection with its code and reason and stays closed', async () => {
    const { ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const ended = new Promise((resolve) => seen[0].once('close', (code, reason) => resolve([code, String(reason)])));
    const closed = next(ws, 'close');
    ws.close(4000, 'enough');
    expect(ws.status).toBe('closed');
    expect(await ended).toEqual([4000, 'enough']);
    expect(await closed).toEqual([4000, 'enough']);
    await pause(60);
    expect(seen).toHaveLength(1);
  });

  test('uses 1000 without arguments; a second close is nothing', async () => {
    const { ws } = connect();
    await next(ws, 'open');
    const closes = [];
    ws.on('close', (code) => closes.push(code));
    ws.close();
    ws.close(4000);
    await until(() => closes.length, 'close');
    await pause(20);
    expect(closes).toEqual([1000]);
  });

  test('before the first open: no open, no close, no attempt', async () => {
    const { ws } = connect('/ws/x', FAST);
    const events = [];
    for (const event of ['open', 'close', 'reconnect', 'reconnect_failed']) ws.on(event, () => events.push(event));
    ws.close();
    await pause(80);
    expect(events).toEqual([]);
    expect(ws.status).toBe('closed');
  });

  test.each(['close', 'reconnect', 'open'])('in a %s listener it stops reconnecting', async (event) => {
    const { ws } = connect('/ws/x', FAST);
    if (event === 'open') ws.on('open', () => ws.close());
    await until(() => seen.length === 1, 'the connection');
    if (event !== 'open') {
      ws.on(event, () => ws.close());
      if (ws.status !== 'open') await next(ws, 'open');
      seen[0].terminate();
    }
    await pause(100);
    expect(ws.status).toBe('closed');
    expect(seen).toHaveLength(1);
  });

  test('while reconnecting: what was buffered is dropped and said so', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const closed = next(ws, 'close');
    seen[0].terminate();
    await closed;
    const errors = [];
    ws.on('error', (error) => errors.push(error.message));
    ws.send('a');
    ws.send('b');
    ws.close();
    expect(errors).toEqual(['frond.ws: 2 buffered message(s) dropped, the connection is closed']);
    expect(page.warnings).toEqual(errors);
    await pause(80);
    expect(seen).toHaveLength(1);
  });

  test('send afterwards is dropped with a warning and an error event', async () => {
    const { page, ws } = connect();
    const errors = [];
    ws.on('error', (error) => errors.push(error.message));
    ws.close();
    expect(ws.send('late')).toBe(false);
    expect(errors).toEqual(['frond.ws: message dropped, the connection is closed']);
    expect(page.warnings).toEqual(errors);
  });

  test('no message is delivered after it', async () => {
    const { ws } = connect();
    const got = [];
    ws.on('message', (data) => {
      got.push(data);
      ws.close();
    });
    await next(ws, 'open');
    seen[0].send('one');
    seen[0].send('two');
    await next(ws, 'close');
    expect(got).toEqual(['one']);
  });

  test.each([999, 1001, 1006, 2999, 5000, '1000', 3000.5])('code %p is refused and nothing is closed', async (code) => {
    const { ws } = connect();
    await next(ws, 'open');
    expect(() => ws.close(code)).toThrow(/is neither 1000 nor from 3000 to 4999/);
    expect(() => ws.close(1000, 'é'.repeat(62))).toThrow(/over 123 bytes/);
    expect(ws.status).toBe('open');
  });
});

describe('leaving the page', () => {
  test('no attempt is made while the page is away, one when it comes back', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    page.dispatchEvent(new Event('pagehide'));
    seen[0].terminate();
    await next(ws, 'close');
    await pause(80);
    expect(seen).toHaveLength(1);
    page.dispatchEvent(new Event('pageshow'));
    await next(ws, 'open');
    expect(seen).toHaveLength(2);
  });

  test('a wait that has begun is given up', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const closed = next(ws, 'close');
    seen[0].terminate();
    await closed;
    page.dispatchEvent(new Event('pagehide'));
    await pause(80);
    expect(seen).toHaveLength(1);
  });

  test('the pageshow of a page that was never away starts no second connection', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const closed = next(ws, 'close');
    seen[0].terminate();
    await closed;
    page.dispatchEvent(new Event('pageshow'));
    await pause(80);
    expect(seen).toHaveLength(2);
  });
});
