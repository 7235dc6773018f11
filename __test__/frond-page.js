'use strict';

// frond.js as a page runs it, in a global scope of its own, over real sockets: the browser's WebSocket is the one of `ws`,
// the server is a `ws` server. The e2e tests run it in Chromium.

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

/** What a test sees of the network: the server, its port, its peers in the order they came; and the sockets of pages. */
const net = { server: null, port: 0, seen: [], opened: [] };

async function listen(options = {}) {
  net.server = new WebSocket.Server({ port: options.port || 0, host: '127.0.0.1', ...options });
  await new Promise((resolve) => net.server.once('listening', resolve));
  net.port = net.server.address().port;
  net.server.on('connection', (peer, request) => {
    net.seen.push(peer);
    peer.request = request;
    peer.got = [];
    peer.on('message', (data, binary) => peer.got.push(binary ? data : String(data)));
  });
}

/** Ends the listener and every socket, as a killed server does. */
async function kill() {
  for (const peer of net.server.clients) peer.terminate();
  await new Promise((resolve) => net.server.close(resolve));
}

function connect(target = '/ws/x', options) {
  const page = openPage(`http://127.0.0.1:${net.port}/pages/here?q=1`);
  const ws = page.frond.ws(target, options);
  net.opened.push(ws);
  return { page, ws };
}

/** Gives every test of a file a new server, and ends what it opened. */
function useNetwork() {
  beforeEach(async () => {
    net.seen = [];
    net.opened = [];
    await listen();
  });

  afterEach(async () => {
    for (const ws of net.opened) ws.close();
    await kill();
  });
}

module.exports = { FAST, SOURCE, connect, kill, listen, net, next, openPage, pause, until, useNetwork };
