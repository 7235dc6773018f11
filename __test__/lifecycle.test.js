'use strict';

// What is promised when a server ends, in this process, in others and in threads, while peers are in the middle of something.

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { Worker } = require('node:worker_threads');
const { endForked, forkServer } = require('./forked');
const { ROOT, endAll, makeApp, serve: serveApp } = require('./served');
const { cleanUp, connect, deferred, serve, sleep, until } = require('./support.js');

const upTo = (count) => Array.from({ length: count }, (_, n) => n);

jest.setTimeout(30_000);

afterEach(async () => {
  await cleanUp();
  await endForked();
  await endAll();
});

describe('close()', () => {
  test('stops accepting, answers in-flight HTTP, closes sockets with 1001 and runs the close handlers, whose broadcasts reach nobody', async () => {
    const gate = deferred();
    const closes = new Map();
    let [opens, asked] = [0, false];
    const { server, connect: join, fetch, port } = await serve((router) => {
      router.websocket('/ws/{room}', async (connection, event) => {
        if (event === 'open') opens += 1;
        if (event !== 'close') return;
        const { room } = connection.params;
        closes.set(room, [...(closes.get(room) ?? []), connection.connectionCount()]);
        connection.broadcast('I left');
        await sleep(20);
        connection.broadcast('I left a while ago');
        router.pushToWebSocket('/ws/a', 'somebody left');
        router.pushToWebSocket('/ws/b', 'somebody left');
      });
      router.get('/slow', async (req, res) => {
        asked = true;
        await gate.promise;
        res.text('answered');
      });
    }, { ioThreads: 2 });
    const peers = await Promise.all(upTo(20).map((n) => join(n % 2 ? '/ws/a' : '/ws/b')));
    const answer = fetch('/slow');
    await until(() => opens === 20 && asked, 'every open and the request');

    const closing = server.close();
    expect(await Promise.all(peers.map((peer) => peer.closed))).toEqual(Array(20).fill({ code: 1001, reason: 'server is shutting down' }));
    const refused = new Promise((resolve) => net.connect(port, '127.0.0.1').once('error', resolve));
    expect((await refused).code).toBe('ECONNREFUSED');
    gate.resolve();
    const response = await answer;
    expect([response.status, await response.text()]).toEqual([200, 'answered']);
    await closing;
    for (const room of ['a', 'b']) expect(closes.get(room)).toEqual(upTo(10).reverse());
    expect(peers.map((peer) => peer.pending())).toEqual(Array(20).fill(0));
  });

  test('what was sent before it still arrives', async () => {
    const { server, router, connect: join } = await serve((app) => app.websocket('/ws', (connection, event) => {
      if (event === 'open') connection.send('opened');
    }));
    const peers = await Promise.all(upTo(5).map(() => join('/ws')));
    for (const peer of peers) expect(await peer.next()).toBe('opened');
    for (let n = 0; n < 100; n += 1) router.pushToWebSocket('/ws', String(n));
    await server.close();
    for (const peer of peers) {
      await peer.closed;
      for (let n = 0; n < 100; n += 1) expect(await peer.next()).toBe(String(n));
    }
  });

  test('a peer that answers no close frame holds it up for TINA4_WS_CLOSING_TIMEOUT, not for the shutdown timeout', async () => {
    const { server, connect: join } = await serve((router) => router.websocket('/ws', () => {}), { wsClosingTimeout: 0.3 });
    const peer = await join('/ws');
    peer.socket.pause();
    const begun = performance.now();
    await server.close();
    expect(performance.now() - begun).toBeGreaterThan(250);
    expect(performance.now() - begun).toBeLessThan(2_000);
  });

  test('waits for handlers that are pending, their close handlers after them', async () => {
    const log = [];
    const { server, connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      await sleep(event === 'message' ? 150 : 10);
      log.push(event);
    }));
    const peer = await join('/ws');
    peer.send('work');
    await until(() => log.includes('open'));
    await sleep(30);
    await server.close();
    expect(log).toEqual(['open', 'message', 'close']);
  });

  test('while peers come and flood: every connection that was opened is closed, once', async () => {
    const states = new Map();
    const { server, url } = await serve((router) => router.websocket('/ws', (connection, event) => {
      if (event === 'message') connection.broadcast('x');
      else states.set(connection.id, [...(states.get(connection.id) ?? []), event]);
    }), { ioThreads: 2 });
    let coming = true;
    const visitors = upTo(10).map(async () => {
      while (coming) {
        try {
          const peer = await connect(`${url.replace('http', 'ws')}/ws`);
          for (let n = 0; n < 20; n += 1) peer.send('x');
          await Promise.race([peer.closed, sleep(5)]);
          peer.close();
        } catch {
          await sleep(1);
        }
      }
    });
    await until(() => states.size > 50, 'visitors');
    await server.close();
    coming = false;
    await Promise.all(visitors);
    for (const events of states.values()) expect(events).toEqual(['open', 'close']);
  });

  test('the process ends by itself afterwards', async () => {
    const app = await forkServer((Router) => {
      Router.websocket('/ws', async (connection, event) => {
        if (event === 'message') connection.send('hello');
        if (event === 'close') console.log('left');
      });
    });
    const peer = await app.connect('/ws');
    peer.send('hi');
    expect(await peer.next()).toBe('hello');
    expect(await app.close()).toEqual({ code: 0, signal: null });
    expect((await peer.closed).code).toBe(1001);
    expect(app.output).toContain('left\n');
  });
});

test.each(['SIGTERM', 'SIGINT'])('%s drains as close() does and exits with 0', async (signal) => {
  const folder = makeApp({});
  const file = path.join(folder.directory, 'src', 'routes', 'a.ts');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `
    import { Router } from "tina4-nodejs";
    const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    Router.websocket("/ws", async (connection, event) => {
      if (event !== "close") return;
      await sleep(100);
      console.log("finished", connection.id);
    });
    Router.get("/slow", async (req, res) => {
      console.log("asked");
      await sleep(500);
      res.text("answered");
    });
  `);
  const app = await serveApp(folder.directory);
  const peers = await Promise.all(upTo(30).map(() => connect(`ws://127.0.0.1:${app.port}/ws`)));
  const answer = fetch(`${app.origin}/slow`, { headers: { connection: 'close' } });
  await until(() => app.output.includes('asked'));
  app.child.kill(signal);
  expect(await app.ended).toEqual({ code: 0, signal: null });
  for (const peer of peers) expect((await peer.closed).code).toBe(1001);
  expect(await (await answer).text()).toBe('answered');
  expect(new Set(app.output.match(/^finished \w+$/gm)).size).toBe(30);
  folder.remove();
});

describe('servers beside each other', () => {
  test('two servers in one process with routers of their own share nothing', async () => {
    const make = (name) => serve((router) => {
      router.websocket('/ws/{room}', (connection, event, data) => {
        if (event === 'message') connection.broadcast(`${name} ${connection.connectionCount()} ${data}`);
      });
      router.get('/', (req, res) => res.text(name));
    }, { ioThreads: 1 });
    const [one, two] = await Promise.all([make('one'), make('two')]);
    const peers = await Promise.all([one, one, two].map((app) => app.connect('/ws/same')));
    for (const peer of peers) peer.send('hi');
    for (const peer of peers.slice(0, 2)) expect([await peer.next(), await peer.next()]).toEqual(['one 2 hi', 'one 2 hi']);
    expect(await peers[2].next()).toBe('two 1 hi');
    one.router.pushToWebSocket('/ws/same', 'for one');
    two.router.pushToWebSocket('/ws/same', 'for two');
    expect(await Promise.all(peers.map((peer) => peer.next()))).toEqual(['for one', 'for one', 'for two']);

    await one.server.close();
    two.router.get('/late', (req, res) => res.text('registered while running'));
    expect(await (await two.fetch('/late')).text()).toBe('registered while running');
    peers[2].send('still here');
    expect(await peers[2].next()).toBe('two 1 still here');
  });

  test('a server in a worker thread works; the thread is terminated in mid-traffic and the process goes on', async () => {
    const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') connection.send(data);
    }));
    const own = await join('/ws');
    for (let round = 0; round < 5; round += 1) {
      const worker = new Worker(`
        const { parentPort } = require('node:worker_threads');
        const { Router, startServer } = require(${JSON.stringify(ROOT)});
        Router.websocket('/ws', async (connection, event, data) => {
          connection.broadcast('x'.repeat(10_000));
          if (event === 'message' && Math.random() < 0.5) await null;
        });
        Router.post('/body', (req, res) => setTimeout(() => res.json(req.body), 5));
        startServer({ port: 0, host: '127.0.0.1', routesDir: false, logLevel: 'ERROR', ioThreads: 2 })
          .then((server) => parentPort.postMessage(server.port));`,
      { eval: true });
      const port = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      const peers = await Promise.all(upTo(10).map(() => connect(`ws://127.0.0.1:${port}/ws`)));
      let received = 0;
      for (const peer of peers) peer.socket.on('message', () => { received += 1; });
      const flood = setInterval(() => { for (const peer of peers) peer.send('x'); }, 1);
      const posts = upTo(5).map(() => fetch(`http://127.0.0.1:${port}/body`, {
        method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json', connection: 'close' },
      }).catch(() => 'cut off'));
      await until(() => received > 100, 'traffic');
      await worker.terminate();
      clearInterval(flood);
      await Promise.all([...peers.map((peer) => peer.closed), ...posts]);
      own.send(`round ${round}`);
      expect(await own.next()).toBe(`round ${round}`);
    }
  });

  test('close() while the thread that owns the server ends leaves nothing behind', async () => {
    const worker = new Worker(`
      const { Router, startServer } = require(${JSON.stringify(ROOT)});
      Router.websocket('/ws', () => {});
      startServer({ port: 0, host: '127.0.0.1', routesDir: false, logLevel: 'ERROR' }).then((server) => {
        server.close();
        process.exit(7);
      });`, { eval: true });
    expect(await new Promise((resolve) => worker.once('exit', resolve))).toBe(7);
  });
});

test('Router.pushToWebSocket reaches sockets from HTTP handlers, timers, promises and other connections', async () => {
  const { connect: join, fetch, router } = await serve((app) => {
    app.websocket('/ws/inbox/{user}', () => {});
    app.websocket('/ws/sender', (connection, event) => {
      if (event === 'message') app.pushToWebSocket('/ws/inbox/7', 'from a connection');
    });
    app.post('/push', async (req, res) => {
      app.pushToWebSocket('/ws/inbox/7', 'from a handler');
      await sleep(5);
      app.pushToWebSocket('/ws/inbox/7', 'from a handler, later');
      res.json({});
    });
    app.websocket('/ws/ready', (connection, event) => {
      if (event === 'open') connection.send('ready');
    });
  }, { ioThreads: 1 });
  const [inbox, other] = [await join('/ws/inbox/7'), await join('/ws/inbox/8')];
  // One thread for all sockets: its open is dispatched after theirs.
  expect(await (await join('/ws/ready')).next()).toBe('ready');
  await fetch('/push', { method: 'POST' });
  expect([await inbox.next(), await inbox.next()]).toEqual(['from a handler', 'from a handler, later']);
  const sender = await join('/ws/sender');
  sender.send('go');
  expect(await inbox.next()).toBe('from a connection');
  setTimeout(() => router.pushToWebSocket('/ws/inbox/7', 'from a timer'), 1);
  setImmediate(() => router.pushToWebSocket('/ws/inbox/7', 'from an immediate'));
  Promise.resolve().then(() => router.pushToWebSocket('/ws/inbox/7', 'from a promise'));
  const rest = [await inbox.next(), await inbox.next(), await inbox.next()];
  expect(rest.sort()).toEqual(['from a promise', 'from a timer', 'from an immediate']);
  expect(other.pending()).toBe(0);
});
