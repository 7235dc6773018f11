'use strict';

// Addresses, messages, listeners and the buffer of frond.js.

const { FAST, SOURCE, connect, kill, listen, net, next, openPage, pause, until, useNetwork } = require('./frond-page');

useNetwork();

test('frond.js is smaller than 10 KB and adds one global', () => {
  expect(Buffer.byteLength(SOURCE)).toBeLessThan(10000);
  const page = openPage('http://localhost/');
  expect(Object.keys(page.frond)).toEqual(['ws']);
});

describe('address', () => {
  const through = async (target) => {
    const { ws } = connect(target);
    await next(ws, 'open');
    return net.seen[net.seen.length - 1].request.url;
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
    expect(await through(`ws://127.0.0.1:${net.port}/ws/a b`)).toBe('/ws/a%20b');
    expect(await through(`http://127.0.0.1:${net.port}/ws/c`)).toBe('/ws/c');
    expect(await through(`HTTP://127.0.0.1:${net.port}`)).toBe('/');
    expect(await through(new URL(`http://127.0.0.1:${net.port}/u?v=1`))).toBe('/u?v=1');
  });

  test('a page on https opens wss', async () => {
    for (const [url, target, expected] of [
      [`https://127.0.0.1:${net.port}/`, '/ws/x', `wss://127.0.0.1:${net.port}/ws/x`],
      [`http://127.0.0.1:${net.port}/`, `https://127.0.0.1:${net.port}/y`, `wss://127.0.0.1:${net.port}/y`],
    ]) {
      const page = openPage(url);
      const ws = page.frond.ws(target, { reconnect: false });
      net.opened.push(ws);
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
    net.seen[0].send('{"a":1}');
    expect(await first).toEqual(['{"a":1}']);
    const second = next(ws, 'message');
    net.seen[0].send(Buffer.from([1, 2, 255]));
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
    await until(() => net.seen[0].got.length === 7, 'seven messages');
    expect(net.seen[0].got).toEqual([
      'text',
      '{"a":[1,null]}',
      '[1]',
      '7',
      'null',
      Buffer.from([1, 2, 3]),
      Buffer.from(bytes),
    ]);
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
    net.seen[0].send('one');
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
    net.seen[0].send('x');
    net.seen[0].send('y');
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
    await until(() => net.seen.length && net.seen[0].got.length, 'the message');
    // It is thrown by a timer, which the message may overtake.
    await until(() => page.thrown.length, 'the error');
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
    net.server.close();
    net.seen[0].close(4001, 'bye');
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
    await until(() => net.seen.length && net.seen[0].got.length === 7, 'seven messages');
    expect(net.seen[0].got).toEqual(['name', 'second listener', 'early 0', 'early 1', 'early 2', 'early 3', 'early 4']);
  });

  test('what was sent while the server was gone arrives after the name, once', async () => {
    const { ws } = connect('/ws/x', FAST);
    ws.on('open', () => ws.send('name'));
    await next(ws, 'open');
    const closed = next(ws, 'close');
    const freed = net.port;
    await kill();
    await closed;
    ws.send('a');
    ws.send(new Uint8Array([1]));
    ws.send({ c: 1 });
    expect(ws.status).toBe('reconnecting');
    await listen({ port: freed });
    await until(() => net.seen.length === 2 && net.seen[1].got.length === 4, 'the flush');
    expect(net.seen[1].got).toEqual(['name', 'a', Buffer.from([1]), '{"c":1}']);
    await pause(20);
    expect(net.seen[1].got).toHaveLength(4);
  });

  test('a view is copied when it is buffered', async () => {
    const { ws } = connect();
    const bytes = new Uint8Array([1, 2]);
    ws.send(bytes);
    ws.send(bytes.buffer);
    bytes.fill(9);
    await until(() => net.seen.length && net.seen[0].got.length === 2, 'the messages');
    expect(net.seen[0].got).toEqual([Buffer.from([1, 2]), Buffer.from([1, 2])]);
  });

  test('message 1,001 is dropped with a warning and an error event, the others arrive', async () => {
    const { page, ws } = connect();
    const errors = [];
    ws.on('error', (error) => errors.push(error.message));
    for (let i = 0; i < 1000; i++) expect(ws.send(String(i))).toBe(true);
    expect(ws.send('too many')).toBe(false);
    expect(errors).toEqual(['frond.ws: message dropped, the buffer is full (1,000 messages or 1 MiB)']);
    expect(page.warnings).toEqual(errors);
    await until(() => net.seen.length && net.seen[0].got.length === 1000, 'the buffered messages');
    expect(net.seen[0].got).toEqual(Array.from({ length: 1000 }, (_, i) => String(i)));
    expect(ws.send('room again')).toBe(true);
  });

  test('1 MiB is kept, counted in UTF-8 bytes, and not a byte more', async () => {
    const { ws } = connect();
    expect(ws.send('é'.repeat(512 * 1024 - 1))).toBe(true);
    expect(ws.send('abc')).toBe(false);
    expect(ws.send(new Uint8Array(3))).toBe(false);
    expect(ws.send('ab')).toBe(true);
    expect(ws.send('a')).toBe(false);
    await until(() => net.seen.length && net.seen[0].got.length === 2, 'the buffered messages');
  });

  test('the room of flushed messages is free again at the next loss', async () => {
    const { ws } = connect('/ws/x', FAST);
    ws.send('x'.repeat(1024 * 1024));
    await until(() => net.seen.length && net.seen[0].got.length === 1, 'the first flush');
    const closed = next(ws, 'close');
    net.seen[0].terminate();
    await closed;
    expect(ws.send('y'.repeat(1024 * 1024))).toBe(true);
    await until(() => net.seen.length === 2 && net.seen[1].got.length === 1, 'the second flush');
  });
});
