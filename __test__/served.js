'use strict';

// An app folder served by `tina4 serve` in a process of its own, and a peer to talk to it.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { spawn } = require('node:child_process');
const WebSocket = require('ws');

const ROOT = path.join(__dirname, '..');
const START_TIMEOUT = 30_000;
const WAIT_TIMEOUT = 10_000;

const running = new Set();

/**
 * Serves `directory` and resolves once it listens.
 *
 * @param {string} directory The app's folder
 * @param {{ port?: number, development?: boolean, env?: object }} [options] `port` 0 takes a free one
 */
async function serve(directory, { port = 0, development = false, env = {} } = {}) {
  const args = [path.join(ROOT, 'bin', 'tina4.js'), 'serve', '--host', '127.0.0.1', '--port', String(port)];
  if (!development) args.push('--production');
  const child = spawn(process.execPath, args, {
    cwd: directory,
    env: { ...process.env, NODE_ENV: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, so that `kill` takes the supervisor's child too.
    detached: true,
  });
  const app = { child, output: '', port: 0, origin: '', ended: null };
  running.add(app);
  app.ended = new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      running.delete(app);
      resolve({ code, signal });
    });
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => { app.output += text; });
  }
  await until(() => {
    if (child.exitCode !== null) throw new Error(`tina4 serve ended with ${child.exitCode}:\n${app.output}`);
    return /Press Ctrl\+C/.test(app.output);
  }, () => `the banner, got:\n${app.output}`, START_TIMEOUT);
  app.port = Number(/HTTP server running at http:\/\/[^\s]*:(\d+)/.exec(app.output)[1]);
  app.origin = `http://127.0.0.1:${app.port}`;
  /** Asks it to stop; resolves with its exit. */
  app.stop = () => {
    child.kill('SIGTERM');
    return app.ended;
  };
  /** Ends it as a crash does; resolves when it is gone. */
  app.kill = () => {
    killGroup(child);
    return app.ended;
  };
  return app;
}

/** Ends what a failed test left running. */
async function endAll() {
  await Promise.all([...running].map((app) => {
    killGroup(app.child);
    return app.ended;
  }));
}

function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

// A group of its own is not ended with its parent.
process.once('exit', () => running.forEach((app) => killGroup(app.child)));

/** A WebSocket whose messages can be waited for, text as strings. */
class Peer {
  constructor(url) {
    this.messages = [];
    this.socket = new WebSocket(url);
    this.socket.on('message', (data, binary) => this.messages.push(binary ? data : String(data)));
    this.closed = new Promise((resolve) => {
      this.socket.once('close', (code, reason) => resolve({ code, reason: String(reason) }));
    });
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', () => resolve(this)).once('error', reject);
    });
  }

  static connect(app, target) {
    return new Peer(`ws://127.0.0.1:${app.port}${target}`).opened;
  }

  send(data) {
    this.socket.send(typeof data === 'string' || ArrayBuffer.isView(data) ? data : JSON.stringify(data));
  }

  /** Takes the first message that has come or comes: any, or the first for which `wanted` holds. Earlier ones are dropped. */
  async next(wanted = () => true) {
    let found = -1;
    await until(() => (found = this.messages.findIndex(wanted)) >= 0, () => `a message, have ${JSON.stringify(this.messages)}`);
    return this.messages.splice(0, found + 1)[found];
  }

  /** Takes the next message of that `type`, parsed. */
  async nextJson(type) {
    return JSON.parse(await this.next((text) => type === undefined || JSON.parse(text).type === type));
  }

  close() {
    this.socket.close();
    return this.closed;
  }
}

async function until(condition, what, timeout = WAIT_TIMEOUT) {
  const deadline = Date.now() + timeout;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`timed out waiting for ${typeof what === 'function' ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/**
 * A new app folder outside the checkout that finds this package, as an installed one would.
 *
 * @param {Record<string, string>} folders What to copy: from a folder, by the name it gets in the app
 * @returns {{ directory: string, remove(): void }}
 */
function makeApp(folders) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-app-'));
  fs.mkdirSync(path.join(directory, 'node_modules'));
  fs.symlinkSync(ROOT, path.join(directory, 'node_modules', 'tina4-nodejs'), 'dir');
  for (const [name, from] of Object.entries(folders)) {
    fs.cpSync(from, path.join(directory, name), { recursive: true });
  }
  return { directory, remove: () => fs.rmSync(directory, { recursive: true, force: true }) };
}

module.exports = { ROOT, Peer, endAll, makeApp, serve, until };
