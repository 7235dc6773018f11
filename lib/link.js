'use strict';

/** Everything works. */
const OPEN = 0;
/** `close()` was called: nothing more is sent to this peer. */
const CLOSING = 1;
/** Its close event is dispatched: it left its path, broadcasts still reach the others. */
const CLOSED = 2;
/** Its close handler has settled: the addon has forgotten it. */
const GONE = 3;

/**
 * The server's side of one connection: what its user-visible object and the dispatcher share. There is one for each that is open,
 * so a field here is 8 bytes a connection.
 *
 * @private
 */
class Link {
  /**
   * @param {object} host The server's parts: `engine`, `calls`, `commits`, `arrived`, `log`
   * @param {number} handle
   * @param {number} place
   * @param {object} route
   */
  constructor(host, handle, place, route) {
    this.host = host;
    this.handle = handle;
    this.place = place;
    this.topic = 0;
    this.state = OPEN;
    this.route = route;
    /** @type {import('./connection.js').WebSocketConnection} */
    this.connection = null;
    /** @type {import('./pending.js').Pending|null} */
    this.pending = null;
    /** Resolvers of `drained()`, one for each question put to the addon, in that order. */
    this.drains = null;
  }

  /** The connection as log lines name it. */
  get name() {
    return `${this.route.path} (connection ${this.connection.id})`;
  }

  /** Whether the next event has to wait for a promise of the last one's handler. */
  get isPending() {
    return this.pending !== null && this.pending.event !== null;
  }

  /** `close()` was called. */
  closing() {
    this.state = CLOSING;
  }

  /** @returns {Promise<void>} */
  drained() {
    if (this.state >= CLOSED) return Promise.resolve();
    // The engine may know already that the socket is gone; then it answers nothing later.
    if (!this.host.engine.drained(this.handle)) return Promise.resolve();
    this.host.commits.touch();
    return new Promise((resolve) => {
      (this.drains ??= []).push(resolve);
    });
  }

  /** The addon has answered the oldest question of `drained()`. */
  answerDrain() {
    this.drains?.shift()?.();
  }

  /** The close event is dispatched; nothing can be written any more. */
  closed() {
    this.state = CLOSED;
    this.#resolveDrains();
  }

  /** The close handler has settled, or the server ended before it did. */
  gone() {
    this.state = GONE;
    this.pending?.abandon();
    this.#resolveDrains();
  }

  #resolveDrains() {
    const drains = this.drains;
    this.drains = null;
    if (drains !== null) for (const resolve of drains) resolve();
  }
}

module.exports = { CLOSED, CLOSING, GONE, Link, OPEN };
