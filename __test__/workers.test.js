'use strict';

// `tina4 serve --workers`: several processes on one port and in one chat, as a user runs them.

const net = require('node:net');
const { cleanUp, newApp, tina4 } = require('./cli-app');
const { endBuses } = require('./bus.js');
const { Redis } = require('./redis.js');
const { until } = require('./served');
const { connect, raw } = require('./support.js');

jest.setTimeout(60_000);

/** A chat whose peers learn which process they are with. */
const CHAT = `
import { Router } from "tina4-nodejs";
Router.websocket("/ws/{room}", (connection, event, data) => {
  if (event === "open") connection.send(String(process.pid));
  if (event === "message") connection.broadcast(String(data));
});
Router.get("/push/{room}", (req, res) => {
  Router.pushToWebSocket("/ws/" + req.params.room, "pushed");
  return res.text("ok");
});
Router.get("/count/{room}", async (req, res) =>
  res.json(await Router.connectionCount("/ws/" + req.params.room, { cluster: true })));
Router.get("/worker", (req, res) => res.text([process.pid, process.env.TINA4_WORKER, process.env.TINA4_IO_THREADS].join(" ")));
`;

const SERVE = ['serve', '--production', '--port', '0'];

afterEach(cleanUp);
afterAll(endBuses);

const serve = (workers, files = {}, env = {}) =>
  tina4(newApp({ 'src/routes/chat.ts': CHAT, ...files }).directory, [...SERVE, '--workers', String(workers)], { env });

/** A peer and the process that it is with. */
async function join(run, room = 'r') {
  const peer = await connect(`ws://127.0.0.1:${run.port}/ws/${room}`);
  return { ...peer, pid: Number(await peer.next()) };
}

/** Peers until so many processes have one. The kernel chooses who takes a connection. */
async function joinAll(run, processes, room = 'r') {
  const peers = [];
  while (new Set(peers.map(({ pid }) => pid)).size < processes) {
    if (peers.length > 500) throw new Error(`500 connections, and not ${processes} processes have one`);
    // Together: one at a time, the process that is awake would take them all.
    peers.push(...(await Promise.all(Array.from({ length: 5 }, () => join(run, room)))));
  }
  return peers;
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** A request on a connection of its own: one that is kept alive stays with its worker. */
const ask = async (port, target) => /\r\n\r\n([^]*)$/.exec(await raw(port, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`))[1];

const refused = (port) =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(socket.destroy() === null)).once('error', () => resolve(true));
  });

test('several processes are one chat on one port, and drain on SIGTERM', async () => {
  const run = await serve(3).ready();
  expect(run.stdout).toMatch(/Served by 3 workers/);
  const peers = await joinAll(run, 3);
  const pids = new Set(peers.map(({ pid }) => pid));
  expect(pids.has(run.child.pid)).toBe(false);
  const elsewhere = await join(run, 'elsewhere');

  await until(async () => Number(await run.fetch('/count/r')) === peers.length, 'the workers to know of each other');
  peers[0].send('hello');
  for (const peer of peers) expect(await peer.next()).toBe('hello');
  await run.fetch('/push/r');
  for (const peer of peers) expect(await peer.next()).toBe('pushed');
  expect(elsewhere.pending() + peers.reduce((sum, peer) => sum + peer.pending(), 0)).toBe(0);

  run.child.kill('SIGTERM');
  for (const peer of peers) expect(await peer.closed).toEqual({ code: 1001, reason: 'server is shutting down' });
  expect(await run.exit()).toEqual({ code: 0, signal: null });
  for (const pid of pids) expect(isAlive(pid)).toBe(false);
});

test('a worker knows its number, and has one thread for sockets unless told otherwise', async () => {
  const seen = async (run) => {
    const workers = new Map();
    await until(async () => {
      const answers = await Promise.all(Array.from({ length: 8 }, () => ask(run.port, '/worker')));
      for (const answer of answers) workers.set(answer.split(' ')[1], answer.split(' ')[2]);
      return workers.size === 2;
    }, 'an answer of each worker');
    return Object.fromEntries(workers);
  };
  expect(await seen(await serve(2).ready())).toEqual({ 1: '1', 2: '1' });
  expect(await seen(await serve(2, {}, { TINA4_IO_THREADS: '2' }).ready())).toEqual({ 1: '2', 2: '2' });
});

test('one that dies is replaced, and the peers of the others notice nothing', async () => {
  const run = await serve(2).ready();
  const peers = await joinAll(run, 2);
  const victim = peers[0].pid;
  const [lost, kept] = [peers.filter(({ pid }) => pid === victim), peers.filter(({ pid }) => pid !== victim)];
  process.kill(victim, 'SIGKILL');
  for (const peer of lost) expect((await peer.closed).code).toBe(1006);
  await run.says(/Worker \d ended by itself \(signal SIGKILL\); another one starts/);
  await until(async () => {
    const fresh = await Promise.all(Array.from({ length: 5 }, () => join(run, 'fresh')));
    return fresh.some(({ pid }) => pid !== kept[0].pid);
  }, 'a peer of the fresh worker');
  for (const peer of kept) expect(peer.socket.readyState).toBe(peer.socket.OPEN);
  const came = await joinAll(run, 2);
  await until(async () => Number(await run.fetch('/count/r')) === kept.length + came.length, 'the fresh one to be known');
  kept[0].send('all of you');
  for (const peer of [...kept, ...came]) expect(await peer.next()).toBe('all of you');
});

test('one that keeps dying is started again more and more slowly', async () => {
  const dies = 'process.env.TINA4_WORKER === "2" && setTimeout(() => process.exit(7), 300);\n';
  const run = await serve(2, { 'src/routes/dies.ts': dies }).ready();
  await run.says(/Worker 2 ended by itself \(exit code 7\); another one starts in 0\.2 s/);
  expect(run.output()).toMatch(/exit code 7\); another one starts\.[^]*exit code 7\); another one starts in 0\.1 s/);
  expect(await run.fetch('/count/r')).toBe('0');
});

test('SIGHUP replaces them one by one: 1012 for their peers, and nobody is refused', async () => {
  const run = await serve(2).ready();
  const peers = await joinAll(run, 2);
  let going = true;
  const failures = [];
  const asking = (async () => {
    while (going) await run.fetch('/count/x').catch((error) => failures.push(String(error.cause ?? error)));
  })();
  run.child.kill('SIGHUP');
  await run.says(/Replacing 2 workers one by one/);
  for (const peer of peers) expect((await peer.closed).code).toBe(1012);
  await run.says(/All 2 workers have been replaced/);
  going = false;
  await asking;
  expect(failures).toEqual([]);
  const before = new Set(peers.map(({ pid }) => pid));
  for (const { pid } of await joinAll(run, 2)) expect(before.has(pid)).toBe(false);
});

test('when a fresh one cannot start, the old ones keep serving', async () => {
  const app = newApp({ 'src/routes/chat.ts': CHAT });
  const run = await tina4(app.directory, [...SERVE, '--workers', '2']).ready();
  const peers = await joinAll(run, 2);
  app.write('app.ts', 'throw new Error("no database");\n');
  run.child.kill('SIGHUP');
  await run.says(/no database/);
  await run.says(/The workers that were not replaced keep serving/);
  for (const peer of peers) expect(peer.socket.readyState).toBe(peer.socket.OPEN);
});

test('an app that cannot start ends everything with one report', async () => {
  const run = serve(3, { 'app.ts': 'throw new Error("no database");\n' });
  expect((await run.exit()).code).toBe(1);
  expect(run.output().match(/could not be loaded: no database/g)).toHaveLength(1);
});

test('a port in use is one sentence', async () => {
  const other = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address();
  const run = tina4(newApp({ 'src/routes/chat.ts': CHAT }).directory, ['serve', '--production', '--port', String(port), '--workers', '2']);
  expect((await run.exit()).code).toBe(1);
  expect(run.output().trim().split('\n')).toEqual([expect.stringContaining(`Port ${port} on 127.0.0.1 is already in use`)]);
  other.close();
});

test('an app that starts its own server is served by all of them', async () => {
  const run = await serve(2, {
    'app.ts': 'import { startServer } from "tina4-nodejs";\nawait startServer({ host: "127.0.0.1", port: Number(process.env.TINA4_PORT) });\n',
    'package.json': '{ "type": "module" }\n',
  }).ready();
  const peers = await joinAll(run, 2);
  await until(async () => Number(await run.fetch('/count/r')) === peers.length, 'the workers to know of each other');
});

test('TINA4_WORKERS in .env says how many, and 1 is no worker at all', async () => {
  const files = { 'src/routes/chat.ts': CHAT, '.env': 'TINA4_WORKERS=2\n' };
  const two = await tina4(newApp(files).directory, SERVE).ready();
  expect(two.stdout).toMatch(/Served by 2 workers/);
  const one = await tina4(newApp(files).directory, [...SERVE, '--workers', '1']).ready();
  expect((await join(one)).pid).toBe(one.child.pid);
});

test.each(['0', '65', 'x', '1.5', ''])('--workers %p is refused', async (value) => {
  const run = tina4(newApp({}).directory, ['serve', '--workers', value]);
  expect((await run.exit()).code).toBe(1);
  expect(run.output()).toMatch(/1 to 64|auto/);
});

test('without the first process nothing is left', async () => {
  const run = await serve(2).ready();
  const pids = new Set((await joinAll(run, 2)).map(({ pid }) => pid));
  run.child.kill('SIGKILL');
  await until(() => [...pids].every((pid) => !isAlive(pid)), 'the workers to end', 15_000);
  expect(await refused(run.port)).toBe(true);
});

test('with Redis they use that, together with others', async () => {
  const bus = await new Redis().start();
  const env = { TINA4_WS_BACKPLANE: 'redis', TINA4_WS_BACKPLANE_URL: bus.url };
  const run = await serve(2, {}, env).ready();
  const alone = await tina4(newApp({ 'src/routes/chat.ts': CHAT }).directory, SERVE, { env }).ready();
  const peers = [...(await joinAll(run, 2)), await join(alone)];
  await until(async () => Number(await alone.fetch('/count/r')) === peers.length, 'all to know of each other');
  peers[0].send('hello');
  for (const peer of peers) expect(await peer.next()).toBe('hello');
  expect(run.output()).not.toMatch(/relay/);
});
