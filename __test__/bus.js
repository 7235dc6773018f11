'use strict';

// A bus of the tests' own: the server process on a free port with an empty folder, and plain clients, which know nothing of Tina4.

const { spawn } = require('node:child_process');
const { randomInt } = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { sleep } = require('./support.js');

const START_TIMEOUT = 15_000;
/** From, and up to but not including. */
const BUS_PORTS = [20_000, 32_000];

const buses = new Set();

/** A server that can be killed, paused and started again on the same port. */
class Bus {
  #child = null;

  /** @param {{ password?: string }} [options] What clients need to be let in */
  constructor({ password } = {}) {
    this.password = password;
    this.port = 0;
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-bus-'));
    buses.add(this);
  }

  /** Where it is, or will be. */
  get url() {
    return this.urlFor(this.password);
  }

  /** Takes a port, without starting anything there. */
  async reserve() {
    if (this.port === 0) this.port = await freePort();
    return this;
  }

  /** Starts it; resolves when it answers. */
  async start() {
    await this.reserve();
    const [command, ...args] = this.commandLine();
    let output = '';
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.on('error', (error) => { output += error.message; });
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { output += text; });
    for (const deadline = Date.now() + START_TIMEOUT; ;) {
      try {
        await (await this.connect()).close();
        return this;
      } catch (error) {
        if (Date.now() > deadline || child.exitCode !== null) throw new Error(`${command} does not answer: ${error.message}\n${output}`);
        await sleep(10);
      }
    }
  }

  /** Ends it as a crash does; resolves when it is gone. */
  async kill() {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** Stops it in its tracks: connections stay open, nothing is answered. */
  pause() {
    this.#child.kill('SIGSTOP');
  }

  resume() {
    this.#child.kill('SIGCONT');
  }

  /** A client of its own that has subscribed to a channel. */
  async reader(channel) {
    const client = await this.connect();
    await client.subscribe(channel);
    return client;
  }

  /** Ends it for good. */
  async end() {
    buses.delete(this);
    await this.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A client on a socket: what the two protocols have in common. */
class BusClient {
  /** Payloads received and not taken yet. */
  messages = [];
  #takers = [];
  #answers = [];
  #unread = Buffer.alloc(0);

  constructor(socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
      this.#unread = this.#unread.subarray(this.read(this.#unread));
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const { reject } of this.#answers.splice(0)) reject(new Error('the connection was closed'));
    });
  }

  /** @returns {Promise<net.Socket>} */
  static async open(port) {
    const socket = net.connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  }

  /** Sends bytes and resolves with the next answer. */
  ask(...parts) {
    return new Promise((resolve, reject) => {
      this.#answers.push({ resolve, reject });
      for (const part of parts) this.socket.write(part);
    });
  }

  answered(value) {
    const answer = this.#answers.shift();
    if (value instanceof Error) answer?.reject(value);
    else answer?.resolve(value);
  }

  arrived(payload) {
    const text = payload.toString();
    const taker = this.#takers.shift();
    if (taker) taker(text);
    else this.messages.push(text);
  }

  /** The next message, parsed. */
  async next() {
    return JSON.parse(this.messages.length > 0 ? this.messages.shift() : await new Promise((resolve) => this.#takers.push(resolve)));
  }

  async close() {
    if (this.socket.destroyed) return;
    const closed = once(this.socket, 'close');
    this.socket.destroy();
    await closed;
  }
}

/** A port below those that systems give to whoever asks for any, as other tests do while nothing listens on this one. */
async function freePort() {
  for (;;) {
    const port = randomInt(...BUS_PORTS);
    const server = net.createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(() => true, () => false);
    server.close();
    if (isFree) {
      await once(server, 'close');
      return port;
    }
  }
}

/** Ends every bus that is left; for `afterAll`. */
async function endBuses() {
  await Promise.all([...buses].map((bus) => bus.end()));
}

module.exports = { Bus, BusClient, endBuses };
