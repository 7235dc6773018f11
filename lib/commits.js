'use strict';

/**
 * When commands reach the I/O threads.
 *
 * Every native call that sends only appends to a queue; a commit hands the queues over and wakes the threads. Inside a
 * batch of events the dispatcher commits once at its end. Anywhere else (a timer, after an await) the first command
 * schedules one commit in a microtask, so that a burst of sends still costs one wake.
 *
 * @private
 */
class Commits {
  #calls;
  #scheduled = false;
  #flush;

  /** @param {{commit(): void}} calls */
  constructor(calls) {
    this.#calls = calls;
    /** Set by the dispatcher while it runs handlers. */
    this.inBatch = false;
    this.#flush = () => {
      this.#scheduled = false;
      this.#calls.commit();
    };
  }

  /** Called after every command. */
  touch() {
    if (this.inBatch || this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(this.#flush);
  }
}

module.exports = { Commits };
