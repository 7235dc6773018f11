'use strict';

const { spawn } = require('node:child_process');
const { EventEmitter } = require('node:events');
const { LONGEST_TIMER } = require('../timers.js');
const { OFFER } = require('./inherit');

/** How long a child may take to load the app and to be ready, in milliseconds. */
const LOAD_TIMEOUT = 30_000;

/** How long a child that was told to close may take beyond its own shutdown timeout, in milliseconds, before it is killed. */
const DRAIN_SLACK = 5_000;

/** The place of the listening socket among a child's files: after stdin, stdout, stderr and the IPC channel. */
const LISTENER_FD = 4;

/**
 * What to start.
 *
 * @typedef {object} Order
 * @property {{ fd: number | 'ignore', host: string | null, port: number | null }} listener The listening socket, and where it was
 *   asked to be
 * @property {string} [relay] Where the workers of an app are connected to each other
 * @property {Record<string, string>} variables Added to this process's environment
 * @property {number} shutdownTimeout How long the child gives its connections when it closes, in milliseconds
 */

/**
 * Keeps one process serving, and replaces it by a fresh one without letting go of the port.
 *
 * The listening socket is held by someone else and every child gets it. A fresh child loads everything before it accepts;
 * only when it says that it is ready is the old one told to close. One that fails is dropped, and the old one stays.
 *
 * Children say `{ type: "ready", host, port }`, `{ type: "failed" }` or `{ type: "address", host, port }` (they want to listen
 * elsewhere), and are told `{ type: "stop", code, reason }`.
 *
 * Events: `ready(where)` when a fresh child has taken over, `failed(why)` when one could not (`why` is a sentence, or null when the
 * child has said it itself), `crashed(how)` when the serving one ended by itself, `address(where)`.
 */
class Supervisor extends EventEmitter {
  #file;
  #directory;
  #current = null;
  #next = null;
  /** Those that were told to close, and the promise of their end. */
  #retired = new Map();
  #drainTimeout = 0;
  #stopping = false;

  /**
   * @param {string} file What a child runs
   * @param {string} directory Where it runs
   */
  constructor(file, directory) {
    super();
    this.#file = file;
    this.#directory = directory;
  }

  /** Whether a child is serving. */
  get serving() {
    return this.#current !== null;
  }

  /**
   * Starts a fresh child. It replaces the serving one when it is ready; one that was still loading is killed.
   *
   * @param {Order} order
   */
  launch({ listener, relay, variables, shutdownTimeout }) {
    if (this.#stopping) return;
    this.#next?.kill('SIGKILL');
    this.#drainTimeout = Math.min(shutdownTimeout + DRAIN_SLACK, LONGEST_TIMER);
    const { fd, host, port } = listener;
    const offer = { fd: LISTENER_FD, host, port, relay, reload: this.serving };
    const child = spawn(process.execPath, [this.#file], {
      cwd: this.#directory,
      env: { ...process.env, ...variables, [OFFER]: JSON.stringify(offer) },
      stdio: ['inherit', 'inherit', 'inherit', 'ipc', fd],
    });
    this.#next = child;
    const timer = setTimeout(() => {
      this.#drop(child, `The app was not ready within ${LOAD_TIMEOUT / 1000} s and was stopped.`);
    }, LOAD_TIMEOUT);
    child.on('message', (message) => this.#hear(child, message));
    child.once('error', (error) => this.#drop(child, `The app could not be started: ${error.message}`));
    child.once('exit', (status, signal) => {
      clearTimeout(timer);
      this.#ended(child, status, signal);
    });
    child.once('ready', () => clearTimeout(timer));
  }

  #hear(child, message) {
    if (child !== this.#next) return;
    if (message.type === 'ready') {
      child.emit('ready');
      const old = this.#current;
      this.#next = null;
      this.#current = child;
      if (old) this.#retire(old);
      this.emit('ready', { host: message.host, port: message.port });
    } else if (message.type === 'failed') {
      this.#drop(child, null);
    } else if (message.type === 'address') {
      this.#next = null;
      child.once('exit', () => {
        if (!this.#stopping) this.emit('address', { host: message.host, port: message.port });
      });
      child.kill('SIGKILL');
    }
  }

  #drop(child, why) {
    if (child !== this.#next) return;
    this.#next = null;
    child.kill('SIGKILL');
    this.emit('failed', why);
  }

  #retire(child) {
    tell(child, { type: 'stop', code: 1012, reason: 'restart' });
    this.#retired.set(child, this.#whenEnded(child));
  }

  /** Resolves with how a child that was told to close has ended; it is killed when it takes too long. */
  async #whenEnded(child) {
    const timer = setTimeout(() => child.kill('SIGKILL'), this.#drainTimeout);
    const ended = await new Promise((resolve) => {
      child.once('exit', (status, signal) => resolve({ status, signal }));
    });
    clearTimeout(timer);
    this.#retired.delete(child);
    return ended;
  }

  #ended(child, status, signal) {
    if (child === this.#next) {
      this.#drop(child, `The app ended while it was loading (${how(status, signal)}).`);
    } else if (child === this.#current) {
      this.#current = null;
      if (!this.#stopping) this.emit('crashed', how(status, signal));
    }
  }

  /**
   * Ends the serving child, passing the signal on, and at once one that is still loading. Children that were replaced have been told
   * to close already, and are waited for.
   *
   * @param {NodeJS.Signals} signal
   * @returns {Promise<{ status: number | null, signal: string | null }>} How the serving child ended; status 0 when none served
   */
  async stop(signal) {
    this.#stopping = true;
    this.#next?.kill('SIGKILL');
    this.#next = null;
    let ended = { status: 0, signal: null };
    if (this.#current) {
      const end = this.#whenEnded(this.#current);
      this.#current.kill(signal);
      ended = await end;
    }
    await Promise.all(this.#retired.values());
    return ended;
  }

  /** Kills every child. */
  kill() {
    this.#stopping = true;
    for (const child of [this.#next, this.#current, ...this.#retired.keys()]) child?.kill('SIGKILL');
  }
}

function tell(child, message) {
  // The child may end before it reads this.
  if (child.connected) child.send(message, () => {});
}

function how(status, signal) {
  return signal ? `signal ${signal}` : `exit code ${status}`;
}

module.exports = { Supervisor };
