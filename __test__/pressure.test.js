'use strict';

// What is promised about memory when a peer sends faster than handlers run or reads slower than they send, and about the
// sockets while the JavaScript thread is blocked.

const { WebSocket } = require('ws');
const { endForked, forkServer } = require('./forked');
const { cleanUp, deferred, serve, sleep, until } = require('./support.js');

const KIB = 1024;
const MIB = 1024 * KIB;
/** What the kernel may hold of one connection on its way, both ends together. */
const KERNEL = 10 * MIB;

jest.setTimeout(30_000);

afterEach(async () => {
  await cleanUp();
  await endForked();
});

/** The numbers in front of messages: `"17 xxxx"`. */
const numberOf = (text) => Number(text.slice(0, text.indexOf(' ')));
const upTo = (count) => Array.from({ length: count }, (_, n) => n);

describe('inbound backpressure', () => {
  test('a peer that sends faster than an async handler runs is not read: memory stays flat, and everything arrives in order', async () => {
    const app = await forkServer((Router) => {
      const seen = [];
      let open, complete;
      const gate = new Promise((resolve) => { open = resolve; });
      const completed = new Promise((resolve) => { complete = resolve; });
      Router.websocket('/ws', async (connection, event, data) => {
        if (event !== 'message') return;
        if (seen.length === 0) await gate;
        seen.push(Number(data.slice(0, data.indexOf(' '))));
        if (seen.length === 800) complete();
        await null;
      });
      Router.post('/open', (req, res) => { open(); return res.json({}); });
      Router.get('/seen', async (req, res) => {
        await completed;
        return res.json(seen);
      });
    });
    const peer = await app.connect('/ws');
    const before = app.resident();
    const COUNT = 800;
    const text = 'x'.repeat(100 * KIB);
    for (let n = 0; n < COUNT; n += 1) peer.send(`${n} ${text}`);
    await sleep(500);
    // 80 MiB are on their way. The server holds 256 KiB of them, and the rest of one read; what the
    // allocator keeps grew by 4 to 8 MiB, in steps of 2.
    expect(app.resident() - before).toBeLessThan(16 * MIB);
    const unsent = peer.socket.bufferedAmount;
    expect(unsent).toBeGreaterThan(COUNT * 100 * KIB - KERNEL);
    await sleep(200);
    expect(peer.socket.bufferedAmount).toBe(unsent);

    await app.fetch('/open', { method: 'POST' });
    expect(await (await app.fetch('/seen')).json()).toEqual(upTo(COUNT));
    expect(app.resident() - before).toBeLessThan(32 * MIB);
  });

  test('small messages are not read either: what they would become in JavaScript is many times their size', async () => {
    const app = await forkServer((Router) => {
      let count = 0;
      let open;
      const gate = new Promise((resolve) => { open = resolve; });
      Router.websocket('/ws', (connection, event) => {
        if (event !== 'message') return undefined;
        count += 1;
        return count === 1 ? gate : undefined;
      });
      Router.post('/open', (req, res) => { open(); return res.json({}); });
      Router.get('/count', (req, res) => res.json(count));
    });
    const peer = await app.connect('/ws');
    await app.heap();
    const before = app.resident();
    // Masked text frames of one letter, 7 bytes each, put on the wire as they are.
    const frames = Buffer.alloc(70_000, Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x78]));
    const PIECES = 250;
    const wire = peer.socket._socket;
    for (let n = 0; n < PIECES; n += 1) wire.write(frames);
    await sleep(500);
    const unsent = wire.writableLength;
    expect(unsent).toBeGreaterThan(PIECES * frames.length - KERNEL);
    expect(app.resident() - before).toBeLessThan(8 * MIB);
    await app.fetch('/open', { method: 'POST' });
    let count = 0;
    for (let tries = 0; tries < 400 && count < PIECES * 10_000; tries += 1) {
      await sleep(50);
      count = await (await app.fetch('/count')).json();
    }
    expect(count).toBe(PIECES * 10_000);
  });

  test('while a socket is not read, its peer owes no pong', async () => {
    const gate = deferred();
    let closed = false;
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event, data) => {
      if (event === 'close') closed = true;
      if (event === 'message' && data.startsWith('0 ')) await gate.promise;
      if (event === 'message' && data.startsWith('last')) connection.send('got the last');
    }), { wsPingInterval: 0.2, wsPingTimeout: 0.2 });
    const peer = await join('/ws');
    // Its pongs stand behind what the server does not read.
    const text = 'x'.repeat(512 * KIB);
    for (let n = 0; n < 40; n += 1) peer.send(`${n} ${text}`);
    await sleep(1500);
    expect(closed).toBe(false);
    gate.resolve();
    peer.send('last');
    expect(await peer.next()).toBe('got the last');
  });

  test('a peer that is read and answers no ping is closed, so the promise above is no accident', async () => {
    const { connect: join } = await serve((router) => router.websocket('/ws', () => {}), { wsPingInterval: 0.2, wsPingTimeout: 0.2 });
    const peer = await join('/ws', { autoPong: false });
    const { code } = await peer.closed;
    expect([1001, 1006]).toContain(code);
  });
});

describe('outbound backpressure', () => {
  test('a peer that does not read is closed with 1013 past TINA4_WS_MAX_BACKLOG; everyone else is unaffected', async () => {
    let [opens, shut] = [0, 0];
    const { connect: join, router } = await serve((app) => app.websocket('/ws', (connection, event) => {
      if (event === 'open') opens += 1;
      if (event === 'close') shut += 1;
    }), { wsMaxBacklog: 256 * KIB, ioThreads: 2 });
    const slow = await join('/ws');
    const others = await Promise.all(Array.from({ length: 5 }, () => join('/ws')));
    await until(() => opens === 6, 'every open');
    slow.socket.pause();
    const text = 'x'.repeat(64 * KIB);
    const COUNT = 400;
    // 25 MiB: more than the kernel and the backlog take of the one, and never more than the backlog ahead of the others.
    for (let n = 0; n < COUNT; n += 1) {
      router.pushToWebSocket('/ws', `${n} ${text}`);
      if (n % 2 === 1) for (const other of others) expect([numberOf(await other.next()), numberOf(await other.next())]).toEqual([n - 1, n]);
    }
    expect(others.map((other) => [other.pending(), other.socket.readyState])).toEqual(Array(5).fill([0, WebSocket.OPEN]));

    // What it gets when it reads again: whole messages without a gap, far fewer than were sent, then the close.
    slow.socket.resume();
    expect(await slow.closed).toEqual({ code: 1013, reason: expect.stringMatching(/slow/) });
    const received = [];
    while (slow.pending() > 0) received.push(numberOf(await slow.next()));
    expect(received).toEqual(upTo(received.length));
    expect(received.length).toBeLessThan(COUNT - 50);
    await until(() => shut === 1, 'its close');
  });

  test('one message of any size fits an empty outbox', async () => {
    const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') connection.send('x'.repeat(Number(data)));
    }), { wsMaxBacklog: 64 * KIB });
    const peer = await join('/ws');
    for (const size of [64 * KIB, 5 * MIB, 20 * MIB]) {
      peer.send(String(size));
      expect((await peer.next()).length).toBe(size);
    }
  });

  test('awaiting drained() sends any amount to a slow peer without passing the cap', async () => {
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      if (event !== 'message') return;
      for (let n = 0; n < 200; n += 1) {
        connection.send(`${n} ${'x'.repeat(100 * KIB)}`);
        if (connection.bufferedAmount > 100 * KIB) await connection.drained();
      }
    }), { wsMaxBacklog: 256 * KIB });
    const peer = await join('/ws');
    peer.send('go');
    peer.socket.pause();
    await sleep(200);
    peer.socket.resume();
    for (let n = 0; n < 200; n += 1) expect(numberOf(await peer.next())).toBe(n);
  });

  test('a handler that sends far more than its peer reads, in one go, costs no more memory than the caps', async () => {
    const app = await forkServer((Router) => {
      Router.websocket('/ws', (connection, event) => {
        if (event !== 'message') return;
        const bytes = Buffer.alloc(64 * 1024, 'x');
        for (let n = 0; n < 8_000; n += 1) connection.send(bytes);
        connection.broadcast(bytes);
      });
      Router.get('/alive', (req, res) => res.json(true));
    });
    const peer = await app.connect('/ws');
    await app.heap();
    const before = app.resident();
    peer.socket.pause();
    peer.send('go');
    let most = 0;
    const timer = setInterval(() => { most = Math.max(most, app.resident()); }, 5);
    await sleep(20);
    expect(await (await app.fetch('/alive')).json()).toBe(true);
    clearInterval(timer);
    peer.socket.resume();
    expect((await peer.closed).code).toBe(1013);
    // 500 MiB were sent.
    expect(most - before).toBeLessThan(64 * MIB);
  });
});

describe('TINA4_MAX_BUFFERED', () => {
  test('above it reading pauses and new bodies get 503; when handlers have caught up, all goes on', async () => {
    const gate = deferred();
    const seen = new Map();
    const { connect: join, fetch } = await serve((router) => {
      router.websocket('/ws/{n}', async (connection, event, data) => {
        if (event !== 'message') return;
        const { n } = connection.params;
        seen.set(n, [...(seen.get(n) ?? []), numberOf(data)]);
        if (n !== 'quick') await gate.promise;
      });
      router.post('/body', (req, res) => res.json(req.body.length));
    }, { maxBuffered: MIB, ioThreads: 1 });
    const post = async () => (await fetch('/body', { method: 'POST', body: 'x'.repeat(1000), headers: { 'content-type': 'text/plain' } })).status;
    const quick = await join('/ws/quick');
    expect(await post()).toBe(200);

    // Each may have 256 KiB of its own waiting; together they pass the bound. What has come of unfinished messages is little
    // beside it, so that nobody has to be closed for it.
    const peers = await Promise.all(upTo(8).map((n) => join(`/ws/${n}`)));
    for (const peer of peers) for (let n = 0; n < 200; n += 1) peer.send(`${n} ${'x'.repeat(10 * KIB)}`);
    await sleep(300);
    expect(await post()).toBe(503);
    quick.send('0 not read yet');
    await sleep(200);
    expect(seen.has('quick')).toBe(false);

    gate.resolve();
    await until(() => [...seen.values()].flat().length === 8 * 200 + 1, 'every message', 15_000);
    for (const n of upTo(8)) expect(seen.get(String(n))).toEqual(upTo(200));
    expect(seen.get('quick')).toEqual([0]);
    expect(await post()).toBe(200);
  });

  test('above it the largest outboxes close with 1013, and small ones stay', async () => {
    let opens = 0;
    const { connect: join, router, fetch } = await serve((app) => {
      app.websocket('/ws/{n}', (connection, event) => {
        if (event === 'open') opens += 1;
      });
      app.post('/body', (req, res) => res.json(req.body.length));
    }, { maxBuffered: 8 * MIB, wsMaxBacklog: 64 * MIB, ioThreads: 1 });
    const [large, small, fast] = await Promise.all(['large', 'small', 'fast'].map((n) => join(`/ws/${n}`)));
    await until(() => opens === 3, 'every open');
    large.socket.pause();
    small.socket.pause();
    const bytes = Buffer.alloc(256 * KIB);
    for (let n = 0; n < 4; n += 1) router.pushToWebSocket('/ws/small', bytes);
    // The kernel takes a part, the outbox the rest.
    for (let n = 0; n < 96; n += 1) {
      router.pushToWebSocket('/ws/large', bytes);
      await null;
    }
    await sleep(100);
    large.socket.resume();
    expect((await large.closed).code).toBe(1013);
    expect((await fetch('/body', { method: 'POST', body: 'x' })).status).toBe(200);
    small.socket.resume();
    for (let n = 0; n < 4; n += 1) expect((await small.next()).length).toBe(256 * KIB);
    router.pushToWebSocket('/ws/fast', 'hello');
    expect(await fast.next()).toBe('hello');
    expect([small.socket.readyState, fast.socket.readyState]).toEqual([WebSocket.OPEN, WebSocket.OPEN]);
  });

  test('what was dropped at the end of a connection is given back', async () => {
    const never = new Promise(() => {});
    const { connect: join, fetch } = await serve((router) => {
      router.websocket('/ws/stuck', async (connection, event) => {
        if (event === 'message') await never;
      });
      router.websocket('/ws/echo', (connection, event, data) => {
        if (event === 'message') connection.send(data);
      });
      router.post('/body', (req, res) => res.json(req.body.length));
    }, { maxBuffered: MIB, wsCloseGrace: 0.05, ioThreads: 1 });
    for (let round = 0; round < 6; round += 1) {
      const peers = await Promise.all(upTo(4).map(() => join('/ws/stuck')));
      for (const peer of peers) for (let n = 0; n < 4; n += 1) peer.send('x'.repeat(50 * KIB));
      await sleep(100);
      for (const peer of peers) peer.socket.terminate();
      await Promise.all(peers.map((peer) => peer.closed));
    }
    await sleep(300);
    expect((await fetch('/body', { method: 'POST', body: 'x'.repeat(1000) })).status).toBe(200);
    const peer = await join('/ws/echo');
    peer.send('x'.repeat(200 * KIB));
    expect((await peer.next()).length).toBe(200 * KIB);
  });
});

test('pings and the writing of queued frames go on while the JavaScript thread is blocked', async () => {
  const app = await forkServer((Router) => {
    Router.websocket('/ws/{what}', (connection, event) => {
      if (event !== 'message') return;
      for (let n = 0; n < 60; n += 1) connection.send(`${n} ${'x'.repeat(256 * 1024)}`);
      // What was sent is on its way to the other thread when this batch has ended.
      setTimeout(() => {
        console.log('blocked');
        for (const end = performance.now() + 2_000; performance.now() < end;);
        connection.send('-1 free again');
      }, 50);
    });
    Router.get('/now', (req, res) => res.text('now'));
  }, { config: { wsPingInterval: 0.2, wsPingTimeout: 0.3, wsMaxBacklog: 32 * MIB } });
  const idle = await app.connect('/ws/idle');
  let pings = 0;
  idle.socket.on('ping', () => { pings += 1; });
  const reader = await app.connect('/ws/reader');
  reader.socket.pause();
  reader.send('block');
  await until(() => app.output.includes('blocked'), 'the blocking');
  const begun = performance.now();
  const pingsBefore = pings;
  const answer = app.fetch('/now').then(() => performance.now() - begun);

  reader.socket.resume();
  for (let n = 0; n < 60; n += 1) expect(numberOf(await reader.next())).toBe(n);
  expect(performance.now() - begun).toBeLessThan(1_200);
  // Long enough for pings and for the deadline of their pongs, all without that thread.
  await sleep(1_200 - (performance.now() - begun));
  expect(pings - pingsBefore).toBeGreaterThanOrEqual(3);
  expect(idle.socket.readyState).toBe(WebSocket.OPEN);
  expect(reader.pending()).toBe(0);

  expect(numberOf(await reader.next())).toBe(-1);
  expect(await answer).toBeGreaterThan(1_200);
});
