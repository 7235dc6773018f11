'use strict';

const { EventEmitter } = require('node:events');

const OFF = 'off';
const CONNECTED = 'connected';

/** What the addon calls a kind of bus and users know under another name. */
const PUBLIC_KINDS = { relay: 'workers' };

const DEFAULT_URLS = { redis: 'redis://localhost:6379', nats: 'nats://localhost:4222' };

/** Envelopes since the start, but for `connects`: how often the link came up. */
const COUNTERS = [
  'published', 'received', 'duplicates', 'ignored', 'recovered', 'lost', 'dropped', 'resent', 'forgotten', 'connects',
];

/**
 * One server's part in what carries messages between processes: what users see of it as `server.backplane`, and what the server
 * itself asks of it.
 *
 * Emits `state` with the new state whenever it changes. A listener that throws or rejects is logged; the others still run.
 */
class Backplane extends EventEmitter {
  #engine;
  #log;
  #name;
  #kind = null;
  #src = '';
  #state = OFF;
  #finished = false;
  #ended = false;
  #onOff = null;
  #last = null;
  /** @type {Map<number, (count: number) => void>} */
  #questions = new Map();

  /**
   * @param {object} engine
   * @param {import('./log.js').Log} log
   * @param {string|null} name As {@link busName} gives it
   * @private
   */
  constructor(engine, log, name) {
    super();
    this.#engine = engine;
    this.#log = log;
    this.#name = name;
  }

  /**
   * @type {"connected"|"connecting"|"off"} `"connecting"` also means: the bus is lost, and this server tries again until it is
   *   back. `"off"` without a backplane, and after the close
   */
  get state() {
    return this.#state;
  }

  /** @type {"redis"|"nats"|"workers"|null} Null without a backplane; `"workers"` is between those of `tina4 serve --workers` */
  get kind() {
    return this.#kind;
  }

  /** @type {number} Other servers of this package heard lately; those in other languages do not say that they are there */
  get nodes() {
    return this.#state === OFF ? 0 : this.#look().nodes;
  }

  /** @type {Readonly<Record<string, number>>} What has happened since the start; a copy, which stays as it is */
  get counters() {
    const seen = this.#look();
    return Object.freeze(Object.fromEntries(COUNTERS.map((name) => [name, seen[name] ?? 0])));
  }

  /**
   * Which bus this server is on, for finding the others on the same one; null when nothing can be published (any more).
   *
   * @type {string|null}
   * @private
   */
  get bus() {
    return this.#kind === null || this.#finished ? null : this.#name;
  }

  /**
   * The name of this server on its bus.
   *
   * @type {string}
   * @private
   */
  get src() {
    return this.#src;
  }

  /**
   * Whether what is asked now reaches others.
   *
   * @type {boolean}
   * @private
   */
  get isConnected() {
    return this.#state === CONNECTED;
  }

  /**
   * The engine listens: what kind of backplane it has is known.
   *
   * @private
   */
  started() {
    const seen = this.#engine.backplane();
    if (seen === null) return;
    this.#kind = PUBLIC_KINDS[seen.kind] ?? seen.kind;
    this.#src = seen.src;
    if (this.#state === OFF) this.#state = seen.state;
  }

  /**
   * The engine's event.
   *
   * @param {"connected"|"connecting"|"off"} state
   * @private
   */
  changed(state) {
    if (state === this.#state) return;
    // The addon may have forgotten what it counted by the time somebody asks.
    this.#look();
    this.#state = state;
    for (const listener of this.rawListeners('state')) {
      try {
        const result = Reflect.apply(listener, this, [state]);
        if (typeof result?.then === 'function') Promise.resolve(result).catch((error) => this.#report(error));
      } catch (error) {
        this.#report(error);
      }
    }
    if (state === OFF) this.#onOff?.();
  }

  /**
   * Connections on a concrete path, on every server that can be reached.
   *
   * @param {string} path In canonical form
   * @returns {Promise<number>} Never rejects; 0 when this server ends before the answer
   * @private
   */
  count(path) {
    if (this.#ended) return Promise.resolve(0);
    return new Promise((resolve) => {
      this.#questions.set(this.#engine.countCluster(path), resolve);
    });
  }

  /**
   * Connections on a concrete path, on this server.
   *
   * @param {string} path In canonical form
   * @returns {number}
   * @private
   */
  countHere(path) {
    return this.#ended ? 0 : this.#engine.countPath(path);
  }

  /**
   * The engine's answer to {@link Backplane#count}.
   *
   * @param {number} id
   * @param {number} sum
   * @private
   */
  counted(id, sum) {
    const resolve = this.#questions.get(id);
    this.#questions.delete(id);
    resolve?.(sum);
  }

  /**
   * Publishes what waits and says goodbye to the others.
   *
   * @returns {Promise<void>} Resolves when that is done; never rejects
   * @private
   */
  finish() {
    if (this.#kind === null || this.#finished) return Promise.resolve();
    this.#finished = true;
    this.#look();
    return new Promise((resolve) => {
      this.#onOff = resolve;
      if (this.#state === OFF || !this.#engine.finish()) resolve();
    });
  }

  /**
   * The engine is about to end: nothing of it can be asked any more.
   *
   * @private
   */
  end() {
    this.changed(OFF);
    this.#finished = true;
    this.#ended = true;
    for (const resolve of this.#questions.values()) resolve(0);
    this.#questions.clear();
  }

  /** What the addon says now, or said last. */
  #look() {
    if (!this.#ended && this.#kind !== null) this.#last = this.#engine.backplane() ?? this.#last;
    return this.#last ?? { nodes: 0 };
  }

  #report(error) {
    this.#log.error('A listener of server.backplane failed.', error);
  }
}

/**
 * A name for the bus that a server's settings lead to: servers with the same name hear each other.
 *
 * @param {Record<string, string>} settings By variable
 * @param {string|undefined} relay Path of the relay's socket, for a worker
 * @returns {string|null} Null without a backplane
 * @private
 */
function busName(settings, relay) {
  const kind = (settings.TINA4_WS_BACKPLANE ?? '').trim().toLowerCase();
  if (kind === '') return relay === undefined ? null : `workers ${relay}`;
  const url = (settings.TINA4_WS_BACKPLANE_URL ?? '').trim();
  return `${kind} ${url === '' ? DEFAULT_URLS[kind] : url}`;
}

module.exports = { Backplane, busName };
