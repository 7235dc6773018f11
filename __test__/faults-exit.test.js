'use strict';

// What is promised when a server ends in the middle of traffic: by signals, with its thread, with its process.

const fs = require('node:fs');
const { once } = require('node:events');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { endForked, forkServer } = require('./forked');
const { ROOT, endAll, makeApp, serve: serveApp } = require('./served');
const { connect, sleep, until } = require('./support.js');

const MIB = 1024 * 1024;
const WAIT = 20_000;
/** How often a process is ended in each way: each one costs a second on a busy machine. */
const TIMES = Number(process.env.FAULTS_TIMES ?? 5);

jest.setTimeout(60_000 + TIMES * 5_000);

const children = new Set();
const folders = [];

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await endForked();
  await endAll();
  for (const folder of folders.splice(0)) folder.remove();
});

const upTo = (count) => Array.from({ length: count }, (_, n) => n);

/** Serves a chat that counts what it has begun to answer, with `tina4 serve`. */
async function busyApp() {
  const folder = makeApp({});
  folders.push(folder);
  const file = path.join(folder.directory, 'src', 'routes', 'a.js');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `
    const { Router } = require('tina4-nodejs');
    let asked = 0;
    Router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') connection.send(data);
    });
    Router.get('/', async (req, res) => {
      asked += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      res.text('answered');
    });
    process.on('exit', () => console.log('asked', asked));
  `);
  return serveApp(folder.directory, { env: { TINA4_SHUTDOWN_TIMEOUT: '15' } });
}

/** Peers that send numbers without a pause and check their echoes, and clients that ask, all until they are cut. */
async function load(app) {
  const peers = await Promise.all(upTo(40).map(() => connect(`ws://127.0.0.1:${app.port}/ws`)));
  const state = { echoed: 0, answered: 0, wrong: [] };
  state.ends = peers.map((peer) => {
    let [sent, received] = [0, 0];
    const send = () => {
      while (sent - received < 30 && peer.socket.readyState === 1) peer.send(String(sent++));
    };
    peer.socket.removeAllListeners('message');
    peer.socket.on('message', (data) => {
      if (Number(data) !== received) state.wrong.push(`${data} instead of ${received}`);
      received += 1;
      state.echoed += 1;
      send();
    });
    send();
    return peer.closed;
  });
  state.asking = upTo(8).map(async () => {
    for (;;) {
      try {
        const answer = await fetch(app.origin, { headers: { connection: 'close' } });
        if (answer.status !== 200 || await answer.text() !== 'answered') state.wrong.push(`an answer ${answer.status}`);
        state.answered += 1;
      } catch {
        return;
      }
    }
  });
  await until(() => state.echoed > 2_000 && state.answered > 50, 'the load', WAIT);
  return state;
}

describe('under full load', () => {
  test.each([
    ['SIGTERM', ['SIGTERM']],
    ['SIGTERM twice, as npm passes it on', ['SIGTERM', 'SIGTERM']],
    ['SIGINT and SIGTERM at once', ['SIGINT', 'SIGTERM']],
  ])('%s: what was asked is answered, every socket is closed with 1001, exit 0 in time', async (_, signals) => {
    const app = await busyApp();
    const state = await load(app);
    const begun = performance.now();
    for (const signal of signals) app.child.kill(signal);
    expect(await app.ended).toEqual({ code: 0, signal: null });
    expect(performance.now() - begun).toBeLessThan(15_500);
    for (const end of state.ends) expect((await end).code).toBe(1001);
    await Promise.all(state.asking);
    expect(state.wrong).toEqual([]);
    await until(() => /^asked \d+$/m.test(app.output), 'the count', WAIT);
    expect(state.answered).toBe(Number(/^asked (\d+)$/m.exec(app.output)[1]));
  });

  test('SIGINT, and SIGTERM in earnest while it still drains: it ends at once', async () => {
    const folder = makeApp({});
    folders.push(folder);
    const file = path.join(folder.directory, 'src', 'routes', 'a.js');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, `
      const { Router } = require('tina4-nodejs');
      Router.websocket('/ws', (connection, event) => {
        if (event === 'open') connection.send('open');
        if (event === 'close') return new Promise(() => {});
      });`);
    const app = await serveApp(folder.directory);
    const peer = await connect(`ws://127.0.0.1:${app.port}/ws`);
    await peer.next();
    app.child.kill('SIGINT');
    expect((await peer.closed).code).toBe(1001);
    await sleep(700);
    expect(app.child.exitCode).toBe(null);
    app.child.kill('SIGTERM');
    expect(await app.ended).toEqual({ code: 143, signal: null });
  });
});

test('a thread with a server is terminated 20 times in mid-traffic: the next one takes its port, and nothing is left', async () => {
  const app = await forkServer((Router, { root }) => {
    const { Worker } = require('node:worker_threads');
    let worker = null;
    let port = 0;
    Router.get('/start', async (req, res) => {
      worker = new Worker(`
        const { parentPort, workerData: { root, port } } = require('node:worker_threads');
        const { Router, startServer } = require(root);
        Router.websocket('/ws', async (connection, event, data) => {
          if (event !== 'message') return;
          connection.broadcast(data);
          if (Math.random() < 0.5) await new Promise((resolve) => setTimeout(resolve, 1));
          connection.send(Buffer.alloc(10_000, 'x'));
        });
        Router.post('/body', (req, res) => { setTimeout(() => res.json(req.body), 5); });
        startServer({ port, host: '127.0.0.1', routesDir: false, logLevel: 'ERROR', ioThreads: 2 })
          .then((server) => parentPort.postMessage(server.port));`, { eval: true, workerData: { root, port } });
      port = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      return res.json(port);
    });
    Router.get('/terminate', async (req, res) => res.json(await worker.terminate()));
  }, { given: { root: ROOT } });
  const ask = async (target) => (await app.fetch(target, { headers: { connection: 'close' } })).json();
  const ports = new Set();
  const round = async () => {
    const port = await ask('/start');
    ports.add(port);
    const peers = await Promise.all(upTo(8).map(() => connect(`ws://127.0.0.1:${port}/ws`)));
    let received = 0;
    for (const peer of peers) {
      peer.socket.removeAllListeners('message');
      peer.socket.on('message', () => {
        received += 1;
        if (received % 4 === 0 && peer.socket.readyState === 1) peer.send('again');
      });
      for (let n = 0; n < 10; n += 1) peer.send('x');
    }
    const posts = upTo(4).map(() => fetch(`http://127.0.0.1:${port}/body`, {
      method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json', connection: 'close' },
    }).catch(() => 'cut off'));
    await until(() => received > 100, 'traffic', WAIT);
    await ask('/terminate');
    await Promise.all([...peers.map((peer) => peer.closed), ...posts]);
  };
  const rest = async () => {
    await app.untilEmpty();
    return { ...await app.measure(), resident: app.resident() };
  };
  for (let n = 0; n < 5; n += 1) await round();
  const before = await rest();
  for (let n = 0; n < 20; n += 1) await round();
  const after = await rest();
  expect(ports.size).toBe(1);
  expect([after.files, after.threads, after.handles]).toEqual([before.files, before.threads, before.handles]);
  expect(after.resident - before.resident).toBeLessThan(32 * MIB);
});

/** Runs a program whose server ends in mid-traffic by `ending`, and resolves with how its process ended. */
async function endInTraffic(ending) {
  const source = `
    const { Router, startServer } = require(${JSON.stringify(ROOT)});
    let count = 0;
    const end = () => { ${ending} };
    Router.websocket('/ws', async (connection, event, data) => {
      if (event === 'message') connection.broadcast(data);
      if ((count += 1) === 300) setImmediate(end);
    });
    Router.get('/never', () => new Promise(() => {}));
    startServer({ port: 0, host: '127.0.0.1', routesDir: false, logLevel: 'ERROR' }).then((server) => process.send(server.port));`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  children.add(child);
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { errors += text; });
  const ended = new Promise((resolve) => child.once('close', (code, signal) => {
    children.delete(child);
    resolve({ code, signal });
  }));
  const port = await new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('close', () => reject(new Error(errors)));
  });
  const peers = await Promise.all(upTo(10).map(() => connect(`ws://127.0.0.1:${port}/ws`)));
  const request = fetch(`http://127.0.0.1:${port}/never`).catch(() => 'cut off');
  for (const peer of peers) {
    peer.socket.removeAllListeners('message');
    peer.socket.on('message', () => { if (peer.socket.readyState === 1) peer.send('x'); });
    peer.send('x');
  }
  const end = await ended;
  await Promise.all([request, ...peers.map((peer) => peer.closed)]);
  return { ...end, errors };
}

test('threads with servers come and go in a process whose first thread never loads the package', async () => {
  const source = `
    const { Worker } = require('node:worker_threads');
    const start = (after) => new Promise((resolve, reject) => {
      const worker = new Worker(\`
        const { startServer } = require(${JSON.stringify(ROOT)});
        startServer({ host: '127.0.0.1', port: 0, routesDir: false }).then(async (server) => {
          await fetch('http://127.0.0.1:' + server.port + '/health');
          \${after}
        });\`, { eval: true, stdout: true });
      worker.once('error', reject).once('exit', resolve);
    });
    (async () => {
      for (const after of ['await server.close();', 'process.exit(0);', 'await server.close();', 'process.exit(0);']) await start(after);
      await Promise.all(Array.from({ length: 3 }, () => start('await server.close();')));
    })();`;
  const child = spawn(process.execPath, ['-e', source], { stdio: 'inherit' });
  children.add(child);
  const [code, signal] = await once(child, 'close');
  children.delete(child);
  expect({ code, signal }).toEqual({ code: 0, signal: null });
});

test.each([
  ['process.exit()', 'process.exit(7);', 7, ''],
  ['an exception that nothing catches', 'throw new Error("of the app");', 1, 'Error: of the app'],
])('%s with open sockets and traffic ends the process with its code, every time', async (_, ending, code, said) => {
  let left = TIMES;
  const runs = upTo(2).map(async () => {
    while (left > 0) {
      left -= 1;
      const { errors, ...ended } = await endInTraffic(ending);
      expect(ended).toEqual({ code, signal: null });
      expect(errors).toContain(said);
      if (said === '') expect(errors).toBe('');
    }
  });
  await Promise.all(runs);
});
