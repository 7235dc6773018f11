'use strict';

/** Messages that are sent on before the addon is told, and numbers of one: a handle or topic, which event, and who is left out. */
const MAX_FORWARDS = 256;
const WORDS = 3;
/** In the last place: it goes to one connection. */
const TO_ONE = -1;

/**
 * The message whose handler runs. A handler that sends it on as it came spares a copy out of JavaScript, as the addon has it until
 * the next commit; and as the addon reads what is written here before it does anything else, it spares a call.
 *
 * @private
 */
class Arrived {
  /** @type {string|null} A text; null while no handler of one runs. Bytes may be changed by a handler, a text may not. */
  text = null;
  /** Which event of the last drain it is. */
  index = 0;
  #calls;
  /** How many there are, and each of them. */
  #forwards = new Float64Array(1 + MAX_FORWARDS * WORDS);

  /** @param {{ readForwards(forwards: Float64Array): void, forward(): void }} calls */
  constructor(calls) {
    this.#calls = calls;
    calls.readForwards(this.#forwards);
  }

  /** Sends it on to one connection. */
  send(handle) {
    this.#add(handle, TO_ONE);
  }

  /** Sends it on to everyone on a topic but `exclude`, 0 for nobody. */
  broadcast(topic, exclude) {
    this.#add(topic, exclude);
  }

  #add(target, exclude) {
    const forwards = this.#forwards;
    if (forwards[0] === MAX_FORWARDS) this.#calls.forward();
    const at = 1 + forwards[0] * WORDS;
    forwards[at] = target;
    forwards[at + 1] = this.index;
    forwards[at + 2] = exclude;
    forwards[0] += 1;
  }
}

module.exports = { Arrived };
