'use strict';

/**
 * What the tests of `lib/` share: a real server on a free port in an empty folder, a log that is kept, and a WebSocket
 * client that can be asked for its next message.
 */

const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { WebSocket } = require('ws');
const { Router, startServer } = require('..');

jest.setTimeout(20_000);

const servers = [];
const folders = [];

/** An empty folder, removed after the test. */
function temporaryFolder(files = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-test-'));
  folders.push(folder);
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, content);
  }
  return folder;
}

/** A logger that keeps its lines: `log.lines` holds `"error: …"`. */
function keptLog() {
  const lines = [];
  const logger = { lines, text: () => lines.join('\n') };
  for (const level of ['debug', 'info', 'warn', 'error']) logger[level] = (line) => lines.push(`${level}: ${line}`);
  return logger;
}

/**
 * Starts a server on a free port with a router of its own.
 *
 * @param {(router: Router) => void} register
 * @param {object} [config]
 */
async function serve(register, config = {}) {
  const router = new Router();
  register(router);
  const log = keptLog();
  const server = await startServer({
    host: '127.0.0.1', port: 0, router, directory: config.directory ?? temporaryFolder(), logger: log, logLevel: 'ALL', ...config,
  });
  servers.push(server);
  return {
    server,
    router,
    log,
    url: server.url,
    port: server.port,
    // A connection of its own: the pool of `fetch` is shared with the other tests of the process.
    fetch: (target, options = {}) => fetch(server.url + target, {
      redirect: 'manual', ...options, headers: { connection: 'close', ...options.headers },
    }),
    connect: (target, options) => connect(server.url.replace('http', 'ws') + target, options),
  };
}

/** Closes what a test started; for `afterEach`. */
async function cleanUp() {
  await Promise.all(servers.splice(0).map((server) => server.close()));
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true, force: true });
}

/**
 * A WebSocket client whose messages are taken one by one.
 *
 * @returns {Promise<{socket: WebSocket, next(): Promise<string|Buffer>, json(): Promise<any>, closed: Promise<{code, reason}>,
 *   pending(): number, send(data): void}>}
 */
async function connect(url, options = {}) {
  const socket = new WebSocket(url, options);
  const messages = [];
  const takers = [];
  socket.on('message', (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    const taker = takers.shift();
    if (taker) taker(message);
    else messages.push(message);
  });
  const closed = new Promise((resolve) => {
    socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
  });
  await new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
    socket.once('unexpected-response', (request, response) => {
      reject(Object.assign(new Error(`refused with ${response.statusCode}`), { status: response.statusCode }));
    });
  });
  socket.on('error', () => {});
  const next = () => (messages.length > 0 ? Promise.resolve(messages.shift()) : new Promise((resolve) => takers.push(resolve)));
  return {
    socket,
    closed,
    next,
    json: async () => JSON.parse(await next()),
    pending: () => messages.length,
    send: (data) => socket.send(data),
    close: (code, reason) => {
      socket.close(code, reason);
      return closed;
    },
  };
}

/** Sends raw bytes and reads until the server closes the connection. */
function raw(port, text) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(text));
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => { answer += chunk; });
    socket.on('end', () => resolve(answer));
    socket.on('close', () => resolve(answer));
    socket.on('error', reject);
  });
}

/** A promise with its ends. */
function deferred() {
  const ends = {};
  ends.promise = new Promise((resolve, reject) => Object.assign(ends, { resolve, reject }));
  return ends;
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until a condition holds. */
async function until(condition, what = 'the condition', timeout = 5000) {
  const deadline = Date.now() + timeout;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what} did not come within ${timeout} ms`);
    await sleep(5);
  }
}

module.exports = { cleanUp, connect, deferred, keptLog, raw, serve, sleep, temporaryFolder, until };
