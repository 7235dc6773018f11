'use strict';

/** Ends this process when the one that started it is gone, however that ended: it holds the other end of standard input. */
function endWithParent() {
  process.stdin.resume();
  process.stdin.on('end', () => process.exit());
}

module.exports = { endWithParent };
