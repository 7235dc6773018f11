'use strict';

// What a Node user meets when something fails around a server that runs: its own thread is blocked, handlers never settle, peers
// stall, freeze or trickle, file descriptors run out. What is promised when a server ends is in faults-exit.test.js.

const net = require('node:net');
const { WebSocket } = require('ws');
const { endForked, forkServer } = require('./forked');
const { UPGRADE, endPeers, frame, peerProcess, upgraded } = require('./rough');
const { raw, sleep, until } = require('./support.js');

const KIB = 1024;
const MIB = 1024 * KIB;
/** Milliseconds for what must come, on a machine that has other things to do. */
const WAIT = 20_000;
jest.setTimeout(60_000);

afterEach(async () => {
  endPeers();
  await endForked();
});

const upTo = (count) => Array.from({ length: count }, (_, n) => n);
const numberOf = (text) => Number(text.slice(0, text.indexOf(' ')));

test('while the JavaScript thread is blocked pings are answered, what was broadcast is written, peers are accepted; nothing is lost', async () => {
  const app = await forkServer((Router, { blocked, messages }) => {
    Router.websocket('/ws/room', (connection, event, data) => {
      if (event === 'message' && data === 'block') {
        for (let n = 0; n < messages; n += 1) connection.broadcast(`${n} ${'x'.repeat(16 * 1024)}`);
        // What was broadcast is with the other thread when this batch has ended.
        setTimeout(() => {
          console.log('blocked');
          for (const end = performance.now() + blocked; performance.now() < end;);
          console.log('free');
        }, 50);
      }
    });
    Router.websocket('/ws/echo', (connection, event, data) => {
      if (event === 'message') connection.send(data);
    });
  }, {
    // Twice the time in which a peer that says nothing is cut, which is long enough for peers on a busy machine.
    given: { blocked: 5_000, messages: 60 },
    config: { wsPingInterval: 0.5, wsPingTimeout: 2, wsMaxBacklog: 8 * MIB },
  });
  const members = await Promise.all(upTo(20).map(() => app.connect('/ws/room')));
  const early = await Promise.all(upTo(5).map(() => app.connect('/ws/echo')));
  for (const member of members) member.socket.pause();
  members[0].send('block');
  await until(() => app.output.includes('blocked'), 'the blocking', WAIT);

  // More than the server takes of one peer before it stops to read; its pongs stand behind that.
  const COUNT = 400;
  for (const peer of early) for (let n = 0; n < COUNT; n += 1) peer.send(`${n} ${'y'.repeat(KIB)}`);
  const [quiet] = await Promise.all([app.connect('/ws/echo'), ...members.map((member) => member.socket.resume())]);
  const late = await Promise.all(upTo(20).map(() => app.connect('/ws/echo')));
  late.forEach((peer, n) => peer.send(`${n} late`));
  const pong = new Promise((resolve) => quiet.socket.once('pong', resolve));
  quiet.socket.ping('still there?');
  expect(String(await pong)).toBe('still there?');
  for (const member of members) for (const n of upTo(60)) expect(numberOf(await member.next())).toBe(n);
  // All of this came from a process whose thread does nothing for anybody.
  expect(app.output).not.toContain('free');

  for (const peer of early) for (const n of upTo(COUNT)) expect(numberOf(await peer.next())).toBe(n);
  for (const n of upTo(20)) expect(await late[n].next()).toBe(`${n} late`);
  expect(app.output).toContain('free');
  for (const [who, peers] of Object.entries({ members, early, late, quiet: [quiet] })) {
    for (const peer of peers) expect([who, peer.pending(), peer.socket.readyState]).toEqual([who, 0, WebSocket.OPEN]);
  }
});

test('a handler that never settles costs its own connection, an HTTP request gets 503; others go on and nothing stays', async () => {
  const app = await forkServer((Router) => {
    Router.websocket('/ws/stuck', (connection, event) => {
      if (event === 'message') return new Promise(() => {});
      if (event === 'close') console.log('its close handler ran');
      return undefined;
    });
    Router.websocket('/ws/echo', (connection, event, data) => {
      if (event === 'message') connection.send(data);
    });
    Router.get('/stuck', () => new Promise(() => {}));
  }, { config: { wsCloseGrace: 0.2, handlerTimeout: 0.5 } });
  const other = await app.connect('/ws/echo');
  const stuck = await Promise.all(upTo(10).map(() => app.connect('/ws/stuck')));
  for (const peer of stuck) for (let n = 0; n < 5; n += 1) peer.send('stay');
  const answers = upTo(10).map(() => app.fetch('/stuck', { headers: { connection: 'close' } }));
  const echoes = async (text) => {
    other.send(text);
    expect(await other.next()).toBe(text);
  };
  await app.until('every request', ({ engine }) => engine.requests === 10);
  await echoes('beside them');
  for (const answer of answers) expect((await answer).status).toBe(503);
  for (const peer of stuck) peer.close();
  await app.until('their end', ({ engine }) => engine.members === 1);
  const counted = (pattern) => app.output.match(pattern)?.length;
  expect(counted(/its close handler ran/g)).toBe(10);
  expect(counted(/still pending 0\.2 s after the socket's end; its close handler runs without waiting for it/g)).toBe(10);
  await echoes('after them');
  await other.close();
  await app.untilEmpty();
});

test('of 300 in a room the one that does not read is closed with 1013; the others get every message in order, and memory stays bounded', async () => {
  const app = await forkServer((Router) => {
    Router.websocket('/ws/room', (connection, event, data) => {
      if (event === 'message') connection.broadcast(data);
    });
  }, { config: { wsMaxBacklog: 256 * KIB, wsClosingTimeout: WAIT / 1000 } });
  const others = await Promise.all(upTo(299).map(() => app.connect('/ws/room')));
  const stalled = await app.connect('/ws/room');
  stalled.socket.pause();
  const before = app.resident();
  let most = 0;
  // More than the kernel takes on its way, one for all before the next.
  const COUNT = 100;
  const text = 'x'.repeat(64 * KIB);
  for (let n = 0; n < COUNT; n += 1) {
    others[0].send(`${n} ${text}`);
    for (const other of others) expect(numberOf(await other.next())).toBe(n);
    most = Math.max(most, app.resident());
  }
  // Its backlog, and what arrives and leaves of one message.
  expect(most - before).toBeLessThan(32 * MIB);
  expect(others.every(({ socket }) => socket.readyState === WebSocket.OPEN)).toBe(true);
  stalled.socket.resume();
  expect((await stalled.closed).code).toBe(1013);
  const received = upTo(stalled.pending());
  for (const n of received) expect(numberOf(await stalled.next())).toBe(n);
  expect(received.length).toBeLessThan(COUNT);
  expect((await app.measure()).engine).toMatchObject({ slowConsumers: 1 });
});

describe('a peer whose process is stopped', () => {
  const room = (Router) => {
    Router.websocket('/ws/{room}', (connection, event, data) => {
      if (event === 'message') connection.broadcast(data);
      if (event === 'close') console.log('left', connection.params.room);
    });
  };
  const config = { wsPingInterval: 0.3, wsPingTimeout: 0.3, wsClosingTimeout: 0.3 };

  test('is noticed within ping interval and timeout, and those that answer stay', async () => {
    const app = await forkServer(room, { config });
    const other = await app.connect('/ws/quiet');
    const child = await peerProcess(`ws://127.0.0.1:${app.port}/ws/quiet`);
    child.kill('SIGSTOP');
    await until(() => app.output.includes('left quiet'), 'its close event', WAIT);
    const { engine } = await app.measure();
    expect([engine.members, engine.connections, other.socket.readyState]).toEqual([1, 1, WebSocket.OPEN]);
  });

  test('is noticed too while much is sent to it, with what is queued for it given back', async () => {
    const app = await forkServer(room, { config });
    const sender = await app.connect('/ws/busy');
    const child = await peerProcess(`ws://127.0.0.1:${app.port}/ws/busy`);
    child.kill('SIGSTOP');
    const bytes = 'x'.repeat(64 * KIB);
    while (!app.output.includes('left busy')) {
      sender.send(bytes);
      await sender.next();
    }
    await sender.close();
    await app.untilEmpty();
  });
});

describe('a peer at a byte or two a second', () => {
  test('that reads so is closed as a slow consumer, and keeps nobody waiting', async () => {
    const app = await forkServer((Router) => {
      Router.websocket('/ws/room', (connection, event, data) => {
        if (event === 'message') connection.broadcast(data);
      });
    }, { config: { wsMaxBacklog: 256 * KIB, wsPingInterval: 1, wsPingTimeout: 1, wsClosingTimeout: 1 } });
    // Node reads as much as there is unless it is given a buffer of one byte.
    let bytes = 0;
    const slow = net.connect({
      port: app.port,
      host: '127.0.0.1',
      onread: { buffer: Buffer.alloc(1), callback: () => { bytes += 1; return false; } },
    });
    slow.on('error', () => {});
    slow.write(`GET /ws/room HTTP/1.1\r\n${UPGRADE}`);
    const timer = setInterval(() => slow.resume(), 1_000);
    const other = await app.connect('/ws/room');
    await app.until('both', ({ engine }) => engine.members === 2);
    const before = app.resident();
    let most = 0;
    const text = 'x'.repeat(64 * KIB);
    for (let n = 0; !app.output.includes('closed with 1013, reading too slowly'); n += 1) {
      other.send(`${n} ${text}`);
      expect(numberOf(await other.next())).toBe(n);
      most = Math.max(most, app.resident());
    }
    expect(most - before).toBeLessThan(32 * MIB);
    // It will not get to the close frame in its time.
    await app.until('its end', ({ engine }) => engine.members === 1 && engine.sockets === 1);
    clearInterval(timer);
    slow.destroy();
    expect(bytes).toBeLessThan(60);
    other.send('-1 still here');
    expect(await other.next()).toBe('-1 still here');
  });

  test('that writes so is served, and is no trouble for others; a head that comes so has its time', async () => {
    const app = await forkServer((Router) => {
      Router.websocket('/ws', (connection, event, data) => {
        if (event === 'message') connection.send(data);
      });
    }, { config: { wsPingInterval: 1, wsPingTimeout: 1, headerTimeout: 1 } });
    const other = await app.connect('/ws');
    const head = net.connect(app.port, '127.0.0.1');
    head.on('error', () => {});
    const headEnded = new Promise((resolve) => head.once('close', resolve));
    const slow = await upgraded(app.port, '/ws');
    let answer = Buffer.alloc(0);
    slow.on('data', (chunk) => { answer = Buffer.concat([answer, chunk]); });
    for (const byte of frame(1, 'k')) {
      slow.write(Buffer.from([byte]));
      if (head.writable) head.write('G');
      other.send('quick');
      expect(await other.next()).toBe('quick');
      await sleep(500);
    }
    // Pings of the server may have come before.
    await until(() => answer.includes(Buffer.from([0x81, 1, ...Buffer.from('k')])), 'the echo', WAIT);
    await headEnded;
    slow.destroy();
  });
});

test('out of file descriptors the log says so once a second at most, connections go on, and afterwards all is well', async () => {
  const app = await forkServer((Router) => {
    Router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') connection.send(data);
    });
    Router.get('/', (req, res) => res.text('here'));
  }, { files: 80, config: { headerTimeout: 60 } });
  const before = await app.measure();
  const peers = await Promise.all(upTo(5).map(() => app.connect('/ws')));
  const echo = async (peer, text) => {
    peer.send(text);
    expect(await peer.next()).toBe(text);
  };
  const begun = performance.now();
  const crowd = upTo(150).map(() => net.connect(app.port, '127.0.0.1').on('error', () => {}));
  const complaints = () => app.output.match(/no socket could be accepted/g)?.length ?? 0;
  await until(() => complaints() >= 3, 'three complaints', WAIT);
  for (const peer of peers) await echo(peer, 'beside the crowd');
  const seconds = (performance.now() - begun) / 1_000;
  expect(complaints()).toBeLessThanOrEqual(Math.floor(seconds) + 1);
  // Whoever waits in the kernel's queue is served when there is room.
  const waiting = raw(app.port, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  for (const socket of crowd) socket.destroy();
  expect(await waiting).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*here$/);
  const late = await app.connect('/ws');
  await echo(late, 'after the crowd');
  for (const peer of [...peers, late]) await peer.close();
  const after = await app.untilEmpty();
  expect([after.files, after.threads]).toEqual([before.files, before.threads]);
});
