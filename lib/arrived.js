'use strict';

/**
 * The message whose handler runs. A handler that sends it on as it came spares a copy out of JavaScript: the addon has it still,
 * until the next commit, and says so when it has not.
 *
 * @private
 */
class Arrived {
  /** @type {string|null} A text; null while no handler of one runs. Bytes may be changed by a handler, a text may not. */
  text = null;
  /** Which event of the last drain it is. */
  index = 0;
}

module.exports = { Arrived };
