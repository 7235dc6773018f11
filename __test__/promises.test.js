'use strict';

// What a handler is promised about its events and about what it sends. Each promise is held against a model while many
// connections come, talk and go at random; the single cases are in dispatch.test.js and connection.test.js. What is promised
// about memory and about a blocked thread is in pressure.test.js, about the end of servers and processes in lifecycle.test.js.

const { Worker } = require('node:worker_threads');
const { Router, startServer } = require('..');
const { cleanUp, connect, deferred, keptLog, serve, sleep, temporaryFolder, until } = require('./support.js');

const LEAVE = ['close', 'terminate', 'server'];

afterEach(cleanUp);

/** Whole numbers from 0 to below `limit`, the same in every run. */
function dice(seed) {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** A pending handler takes ten seconds to be reported: it begins with the file and is looked at by its last test. */
const stuck = { log: keptLog(), gate: deferred(), ids: {}, events: [] };

beforeAll(async () => {
  const router = new Router();
  router.websocket('/ws/{event}', async (connection, event, data) => {
    stuck.ids[connection.params.event] = connection.id;
    stuck.events.push(`${connection.params.event} ${event} ${data}`);
    if (event === connection.params.event) await stuck.gate.promise;
  });
  stuck.server = await startServer({
    host: '127.0.0.1', port: 0, router, directory: temporaryFolder(), logger: stuck.log, wsCloseGrace: 60, ioThreads: 1,
  });
  const url = stuck.server.url.replace('http', 'ws');
  const [inOpen, inMessage] = [await connect(`${url}/ws/open`), await connect(`${url}/ws/message`)];
  inOpen.send('1');
  inOpen.send('2');
  inOpen.close();
  inMessage.send('only one');
  stuck.begun = performance.now();
});

afterAll(async () => {
  stuck.gate.resolve();
  await stuck.server.close();
});

test('open first, close exactly once and last, messages in the order received, for every connection', async () => {
  const roll = dice(1);
  const logs = new Map();
  const { connect: join, log } = await serve((router) => router.websocket('/ws/{n:int}', (connection, event, data) => {
    const { n } = connection.params;
    if (event === 'open') logs.set(connection, { n, lines: [] });
    const { lines } = logs.get(connection);
    lines.push(event === 'message' ? data : event);
    if (data === 'leave') connection.close();
    // Handlers of every kind, in every event.
    switch (roll(6)) {
      case 0: return sleep(roll(4));
      case 1: return Promise.resolve();
      case 2: throw new Error('thrown');
      case 3: return Promise.reject(new Error('rejected'));
      default: return undefined;
    }
  }), { ioThreads: 3 });

  const TALKERS = 60;
  await Promise.all(Array.from({ length: TALKERS }, async (_, n) => {
    const peer = await join(`/ws/${n}`);
    const count = roll(100);
    for (let i = 0; i < count; i += 1) {
      peer.send(String(i));
      if (roll(10) === 0) await sleep(roll(5));
    }
    const how = LEAVE[n % LEAVE.length];
    if (how === 'server') peer.send('leave');
    else peer.socket[how]();
    await peer.closed;
  }));
  await until(() => [...logs.values()].every(({ lines }) => lines.at(-1) === 'close'), 'every close');
  await sleep(50);

  expect([...logs.values()].map(({ n }) => n).sort((a, b) => a - b)).toEqual(Array.from({ length: TALKERS }, (_, n) => n));
  for (const { n, lines } of logs.values()) {
    expect(lines[0]).toBe('open');
    expect(lines.at(-1)).toBe('close');
    const messages = lines.slice(1, -1);
    // What a cut socket still had in flight may be lost, but only from its end.
    expect(messages).toEqual(messages.map((text, index) => (text === 'leave' ? text : String(index))));
    if (LEAVE[n % LEAVE.length] === 'server') expect(messages.at(-1)).toBe('leave');
  }
  expect(log.text()).toContain('Error: thrown');
  expect(log.text()).toContain('Error: rejected');
});

test('one event at a time per connection: the next waits for the promise, other connections go on', async () => {
  const roll = dice(2);
  const running = new Map();
  let [together, mostTogether, overlaps] = [0, 0, 0];
  const handled = new Map();
  const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
    if (running.get(connection)) overlaps += 1;
    running.set(connection, true);
    together += 1;
    mostTogether = Math.max(mostTogether, together);
    await sleep(roll(3));
    handled.set(connection, (handled.get(connection) ?? 0) + 1);
    together -= 1;
    running.set(connection, false);
    if (event === 'close') handled.delete(connection);
  }));
  const peers = await Promise.all(Array.from({ length: 20 }, () => join('/ws')));
  for (const peer of peers) for (let i = 0; i < 100; i += 1) peer.send(String(i));
  await until(() => [...handled.values()].filter((count) => count === 101).length === 20, 'every message', 15_000);
  for (const peer of peers) peer.close();
  await until(() => handled.size === 0, 'every close');
  expect(overlaps).toBe(0);
  expect(mostTogether).toBeGreaterThan(5);
});

test('if the socket ends meanwhile, close waits for the pending handler at most TINA4_WS_CLOSE_GRACE', async () => {
  const ends = {};
  const never = new Promise(() => {});
  const { connect: join } = await serve((router) => router.websocket('/ws/{how}', async (connection, event) => {
    const { how } = connection.params;
    if (event === 'close') ends[how] = performance.now();
    if (event === 'open') await (how === 'quick' ? sleep(150) : never);
  }), { wsCloseGrace: 0.6 });
  const peers = [await join('/ws/quick'), await join('/ws/never')];
  const cut = performance.now();
  for (const peer of peers) peer.socket.terminate();
  await until(() => ends.quick && ends.never);
  // The one is over with its handler, the other with the grace.
  expect(ends.quick - cut).toBeLessThan(450);
  expect(ends.never - cut).toBeGreaterThan(550);
  expect(ends.never - cut).toBeLessThan(2000);
});

test('{ concurrent: true } starts the events in order without waiting, so that a handler can await a reply on its socket', async () => {
  const asked = [];
  const { connect: join } = await serve((router) => {
    const replies = new Map();
    router.websocket('/ws', async (connection, event, data) => {
      if (event !== 'message') return;
      const [kind, n] = data.split(' ');
      if (kind === 'reply') {
        replies.get(n).resolve();
        return;
      }
      asked.push(Number(n));
      replies.set(n, deferred());
      connection.send(`question ${n}`);
      await replies.get(n).promise;
      connection.send(`done ${n}`);
    }, { concurrent: true });
  });
  const peer = await join('/ws');
  const COUNT = 100;
  for (let n = 0; n < COUNT; n += 1) peer.send(`ask ${n}`);
  for (let n = 0; n < COUNT; n += 1) expect(await peer.next()).toBe(`question ${n}`);
  for (let n = COUNT - 1; n >= 0; n -= 1) peer.send(`reply ${n}`);
  for (let n = COUNT - 1; n >= 0; n -= 1) expect(await peer.next()).toBe(`done ${n}`);
  expect(asked).toEqual(Array.from({ length: COUNT }, (_, n) => n));
});

describe('JS order is the truth for what this process sends', () => {
  test('connectionCount() counts a connection in open and no longer in close', async () => {
    const roll = dice(3);
    const here = new Map();
    const wrong = [];
    let closes = 0;
    const { connect: join } = await serve((router) => router.websocket('/ws/{room}', (connection, event) => {
      const room = here.get(connection.path) ?? new Set();
      here.set(connection.path, room);
      if (event === 'open') room.add(connection);
      if (event === 'close') {
        room.delete(connection);
        closes += 1;
      }
      const count = connection.connectionCount();
      if (count !== room.size) wrong.push([event, count, room.size]);
      if (event === 'message') connection.close();
    }), { ioThreads: 3 });
    const VISITS = 300;
    let begun = 0;
    await Promise.all(Array.from({ length: 15 }, async () => {
      while (begun < VISITS) {
        begun += 1;
        const peer = await join(`/ws/${roll(4)}`);
        if (roll(2)) await sleep(roll(5));
        const how = LEAVE[roll(LEAVE.length)];
        if (how === 'server') peer.send('leave');
        else peer.socket[how]();
        if (roll(2)) await peer.closed;
      }
    }));
    await until(() => closes === begun, 'every close');
    expect(wrong).toEqual([]);
    expect([...here.values()].map((room) => room.size)).toEqual([0, 0, 0, 0]);
  });

  test('a connection receives its own broadcast from open, everything after it and nothing from before it', async () => {
    let [counter, opens] = [0, 0];
    const { connect: join, router } = await serve((app) => app.websocket('/ws', (connection, event) => {
      if (event !== 'open') return;
      opens += 1;
      counter += 1;
      connection.broadcast(String(counter));
      connection.send(`joined ${counter}`);
    }), { ioThreads: 3 });
    // Broadcasts go on while connections come.
    const timer = setInterval(() => {
      for (let i = 0; i < 20; i += 1) {
        counter += 1;
        router.pushToWebSocket('/ws', String(counter));
      }
    }, 1);
    const peers = [];
    for (let i = 0; i < 40; i += 1) peers.push(...await Promise.all([join('/ws'), join('/ws'), join('/ws')]));
    await until(() => opens === peers.length, 'every open');
    clearInterval(timer);
    counter += 1;
    router.pushToWebSocket('/ws', String(counter));

    for (const peer of peers) {
      const first = Number(await peer.next());
      expect(await peer.next()).toBe(`joined ${first}`);
      const rest = [];
      while (rest.at(-1) !== counter) rest.push(Number(await peer.next()));
      expect(rest).toEqual(Array.from({ length: counter - first }, (_, index) => first + 1 + index));
    }
  });

  test('nothing reaches a connection whose open waits behind a busy thread, although its socket is up', async () => {
    const { router, url } = await serve((app) => app.websocket('/ws', (connection, event) => {
      if (event === 'open') connection.send('opened');
    }));
    // The peer has a thread of its own, so that it connects while this one is busy.
    const isUp = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(`
      const { parentPort, workerData } = require('node:worker_threads');
      const { WebSocket } = require(workerData.ws);
      const socket = new WebSocket(workerData.url);
      socket.on('open', () => {
        Atomics.store(workerData.isUp, 0, 1);
        Atomics.notify(workerData.isUp, 0);
      });
      socket.on('message', (data) => parentPort.postMessage(String(data)));
      parentPort.on('message', () => socket.close());`,
    { eval: true, workerData: { isUp, url: `${url.replace('http', 'ws')}/ws`, ws: require.resolve('ws') } });
    const received = [];
    worker.on('message', (text) => received.push(text));
    expect(Atomics.wait(isUp, 0, 0, 10_000)).toBe('ok');
    router.pushToWebSocket('/ws', 'before its open');
    await until(() => received.length > 0, 'the first message');
    router.pushToWebSocket('/ws', 'after its open');
    await until(() => received.length > 1, 'the second message');
    expect(received).toEqual(['opened', 'after its open']);
    await worker.terminate();
  });

  test('a socket that died gets no writes but counts until its close', async () => {
    const gate = deferred();
    const counts = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event, data) => {
      counts.push([event, connection.connectionCount()]);
      if (data === 'wait') {
        await gate.promise;
        // Its socket is long gone, its close has not run.
        counts.push(['settled', connection.connectionCount()]);
        connection.send('to nobody');
      }
      if (data === 'say') connection.broadcast('said');
    }));
    const dying = await join('/ws');
    const living = await join('/ws');
    await until(() => counts.length === 2, 'every open');
    dying.send('wait');
    await until(() => counts.length === 3);
    dying.socket.terminate();
    await sleep(100);
    living.send('say');
    expect(await living.next()).toBe('said');
    gate.resolve();
    await until(() => counts.at(-1)[0] === 'close');
    expect(counts).toEqual([['open', 1], ['open', 2], ['message', 2], ['message', 2], ['settled', 2], ['close', 1]]);
    expect(dying.pending()).toBe(0);
  });
});

test('send, then broadcast, then close from one handler reach a peer in that order', async () => {
  // Sizes around what a batch commits early at, what is copied together, and what is written by itself.
  const sizes = [10, 20_000, 300_000, 10, 70_000];
  let opens = 0;
  const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
    if (event === 'open') opens += 1;
    if (data !== 'go') return;
    for (const [index, size] of sizes.entries()) {
      connection.send(`s${index} ${'x'.repeat(size)}`);
      connection.broadcast(`b${index} ${'x'.repeat(size)}`);
    }
    connection.close(4000, 'done');
    connection.send('after the close');
    connection.broadcast('after the close');
  }), { ioThreads: 3 });
  const others = await Promise.all(Array.from({ length: 6 }, () => join('/ws')));
  const peer = await join('/ws');
  await until(() => opens === 7, 'every open');
  peer.send('go');
  for (const [index, size] of sizes.entries()) {
    expect(await peer.next()).toBe(`s${index} ${'x'.repeat(size)}`);
    expect(await peer.next()).toBe(`b${index} ${'x'.repeat(size)}`);
  }
  expect(await peer.closed).toEqual({ code: 4000, reason: 'done' });
  expect(peer.pending()).toBe(0);
  for (const other of others) {
    for (const [index, size] of sizes.entries()) expect(await other.next()).toBe(`b${index} ${'x'.repeat(size)}`);
    expect(await other.next()).toBe('after the close');
  }
});

test('text and bytes of every make arrive as they are, by send, broadcast and push', async () => {
  const ten = new Uint8Array([0, 1, 2, 3, 4, 5, 6, 7, 254, 255]).buffer;
  const messages = [
    ['plain', 'plain'],
    ['', ''],
    ['zwölf 😀 \u0000 日本', 'zwölf 😀 \u0000 日本'],
    // Half a surrogate pair has no UTF-8.
    ['a\ud83db', 'a\ufffdb'],
    ['\udc00', '\ufffd'],
    [Buffer.from('buffer'), Buffer.from('buffer')],
    [Buffer.alloc(0), Buffer.alloc(0)],
    [new Uint8Array(ten, 2, 3), Buffer.from([2, 3, 4])],
    [new DataView(ten, 8), Buffer.from([254, 255])],
    [new Uint16Array(ten, 2, 1), Buffer.from([2, 3])],
    [new Uint8Array(new SharedArrayBuffer(2)), Buffer.from([0, 0])],
  ];
  const { connect: join, router } = await serve((app) => app.websocket('/ws', (connection, event, data) => {
    if (event !== 'message') return;
    for (const [message] of messages) {
      connection.send(message);
      connection.broadcast(message);
    }
  }));
  const peer = await join('/ws');
  peer.send('go');
  for (const [, received] of messages) expect([await peer.next(), await peer.next()]).toEqual([received, received]);
  for (const [message] of messages) router.pushToWebSocket('/ws', message);
  for (const [, received] of messages) expect(await peer.next()).toEqual(received);
});

test('a handler that throws or rejects is reported with route, event and id; the connection and the process live on', async () => {
  const lines = [];
  // Not even a log that fails itself changes that.
  const logger = {
    debug() {},
    info() {},
    warn() {},
    error(line) {
      lines.push(line);
      throw new Error('the disk is full');
    },
  };
  const ids = [];
  const { connect: join, fetch } = await serve((router) => {
    router.websocket('/ws/{how}', (connection, event, data) => {
      if (event === 'open') ids.push(connection.id);
      if (data === 'ping') return connection.send('pong');
      if (connection.params.how === 'reject') return sleep(1).then(() => Promise.reject(new Error('on purpose')));
      throw new Error('on purpose');
    });
    router.get('/fails', () => { throw new Error('on purpose'); });
  }, { logger });
  for (const how of ['throw', 'reject']) {
    const peer = await join(`/ws/${how}`);
    peer.send('bad');
    peer.send('ping');
    expect(await peer.next()).toBe('pong');
    await peer.close();
  }
  expect((await fetch('/fails')).status).toBe(500);
  await until(() => lines.length === 7, 'every report');
  const reports = lines.map((line) => line.split('\n', 1)[0]);
  for (const id of ids) {
    const events = ['open', 'message', 'close'].map((event) => `The ${event} handler of /ws/{how} (connection ${id}) failed.`);
    expect(reports.filter((line) => line.includes(id))).toEqual(events);
  }
  expect(reports).toContain('The handler of GET /fails failed.');
});

test('a handle kept after its connection closed is a harmless no-op, in every member, whoever has its place since', async () => {
  const kept = [];
  const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
    if (event === 'close') kept.push(connection);
    if (data !== 'use the dead') return;
    const members = Object.getOwnPropertyNames(Object.getPrototypeOf(connection)).filter((name) => name !== 'constructor');
    // Arguments that do something on an open connection.
    const given = { send: ['ghost'], sendJson: [{ ghost: true }], broadcast: ['ghost'], close: [4000, 'ghost'] };
    for (const dead of kept) {
      for (const name of members) {
        if (typeof dead[name] === 'function') dead[name](...(given[name] ?? []));
      }
    }
    connection.send(JSON.stringify([kept.length, members]));
  }));
  // It keeps their path alive: nothing they send may reach it.
  const stays = await join('/ws');
  // Their slots are taken again and again.
  for (let i = 0; i < 50; i += 1) {
    const peers = await Promise.all([join('/ws'), join('/ws'), join('/ws'), join('/ws')]);
    for (const peer of peers) peer.socket[LEAVE[i % 2]]();
  }
  await until(() => kept.length === 200);
  const heirs = [...await Promise.all(Array.from({ length: 4 }, () => join('/ws'))), stays];
  heirs[0].send('use the dead');
  const [used, members] = await heirs[0].json();
  expect(used).toBe(200);
  expect(members).toEqual(expect.arrayContaining(['send', 'sendJson', 'broadcast', 'close', 'drained', 'connectionCount', 'bufferedAmount']));
  await sleep(50);
  expect(heirs.map((heir) => [heir.pending(), heir.socket.readyState])).toEqual(Array(5).fill([0, 1]));
});

test('a handler pending for 10 s is reported once, with route, id and the events that wait', async () => {
  await sleep(12_500 - (performance.now() - stuck.begun));
  expect(stuck.log.lines.filter((line) => line.includes('pending')).sort()).toEqual([
    `warn: The message handler of /ws/{event} (connection ${stuck.ids.message}) has been pending for 10 s; 0 events wait for it.`,
    `warn: The open handler of /ws/{event} (connection ${stuck.ids.open}) has been pending for 10 s; 3 events wait for it.`,
  ]);
  expect(stuck.events).toEqual(['open open ', 'message open ', 'message message only one']);
  stuck.gate.resolve();
  await until(() => stuck.events.at(-1) === 'open close ');
  expect(stuck.events.slice(3)).toEqual(['open message 1', 'open message 2', 'open close ']);
});
