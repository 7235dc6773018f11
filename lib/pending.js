'use strict';

/**
 * Where a connection stands with the promises of its handlers. Made with the first of them: a connection whose handlers return
 * none has no memory for it.
 *
 * @private
 */
class Pending {
  /**
   * One pair of callbacks a connection: only one handler of it is pending at a time.
   *
   * @param {() => void} onSettled
   * @param {(error: unknown) => void} onFailed
   */
  constructor(onSettled, onFailed) {
    this.onSettled = onSettled;
    this.onFailed = onFailed;
    /** Which event's promise is pending, null when none is. */
    this.event = null;
    /** Which event's promise was still pending when the close event ran without waiting for it. */
    this.abandoned = null;
    /** When it began, by `performance.now()`. */
    this.since = 0;
    this.reported = false;
    /** Events that wait for it; null until the first had to. */
    this.waiting = null;
    /** Runs the close event although a handler is still pending. */
    this.graceTimer = null;
  }

  /** @param {{ kind: number, data: unknown, bytes: number }} event Runs once the pending one has settled */
  defer(event) {
    (this.waiting ??= []).push(event);
  }

  /** Nothing waits for the pending one any more. */
  abandon() {
    this.abandoned ??= this.event;
    this.event = null;
    this.waiting = null;
    if (this.graceTimer !== null) clearTimeout(this.graceTimer);
    this.graceTimer = null;
  }
}

module.exports = { Pending };
