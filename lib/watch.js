'use strict';

/** After this long a handler that is still pending is reported, once. */
const REPORT_AFTER = 10_000;
/** How often the pending handlers are looked through. */
const SWEEP_EVERY = 1_000;

/**
 * Watches handlers that take long: one timer for all of them, and none while nothing is pending.
 *
 * @private
 */
class Watch {
  #log;
  #handlerTimeout;
  /** @type {Set<import('./link.js').Link>} */
  #links = new Set();
  /** @type {Set<import('./exchange.js').Exchange>} */
  #exchanges = new Set();
  #timer = null;
  #forget = (exchange) => this.#exchanges.delete(exchange);

  /**
   * @param {{warning(message: string): void}} log
   * @param {number} handlerTimeout Milliseconds after which the engine answers 503 by itself
   */
  constructor(log, handlerTimeout) {
    this.#log = log;
    this.#handlerTimeout = handlerTimeout;
  }

  /** @param {import('./link.js').Link} link With a handler that is pending from now on */
  addLink(link) {
    link.pending.since = performance.now();
    link.pending.reported = false;
    this.#links.add(link);
    this.#start();
  }

  /** @param {import('./link.js').Link} link */
  removeLink(link) {
    this.#links.delete(link);
  }

  /** @param {import('./exchange.js').Exchange} exchange Not answered yet; forgotten with its answer or timeout */
  addExchange(exchange) {
    exchange.since = performance.now();
    exchange.onAnswer = this.#forget;
    this.#exchanges.add(exchange);
    this.#start();
  }

  /** Ends the watch. */
  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#links.clear();
    this.#exchanges.clear();
  }

  #start() {
    if (this.#timer !== null) return;
    this.#timer = setInterval(() => this.#sweep(performance.now()), SWEEP_EVERY);
    this.#timer.unref();
  }

  #sweep(now) {
    for (const link of this.#links) {
      const { pending } = link;
      if (pending.reported || now - pending.since < REPORT_AFTER) continue;
      pending.reported = true;
      const waiting = pending.waiting === null ? 0 : pending.waiting.length;
      this.#log.warning(
        `The ${pending.event} handler of ${link.name} has been pending for 10 s; ${waiting} ${waiting === 1 ? 'event waits' : 'events wait'} for it.`,
      );
    }
    for (const exchange of this.#exchanges) {
      const age = now - exchange.since;
      if (age >= this.#handlerTimeout) {
        this.#exchanges.delete(exchange);
      } else if (!exchange.reported && age >= REPORT_AFTER) {
        exchange.reported = true;
        this.#log.warning(
          `The handler of ${exchange.name} has not answered for 10 s; after ${this.#handlerTimeout / 1000} s the client gets 503.`,
        );
      }
    }
    if (this.#links.size === 0 && this.#exchanges.size === 0) {
      clearInterval(this.#timer);
      this.#timer = null;
    }
  }
}

module.exports = { Watch };
