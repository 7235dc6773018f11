'use strict';

/** How long the second early death in a row delays the next start, in milliseconds; each one after it doubles that. */
const FIRST_PAUSE = 100;

/** The longest pause, in milliseconds. */
const LONGEST_PAUSE = 10_000;

/** A process that served this long, in milliseconds, did not die early. */
const STEADY_AFTER = 30_000;

/** How long to wait before a process that died is started again: not at all, unless it keeps dying soon after its start. */
class Pause {
  #early = 0;

  /**
   * @param {number} served How long the process that died had been serving, in milliseconds; 0 when it never did
   * @returns {number} Milliseconds
   */
  after(served) {
    this.#early = served < STEADY_AFTER ? this.#early + 1 : 0;
    if (this.#early < 2) return 0;
    return Math.min(FIRST_PAUSE * 2 ** (this.#early - 2), LONGEST_PAUSE);
  }
}

module.exports = { Pause };
