'use strict';

/** Keeps the thread busy. */
function block(milliseconds) {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

module.exports = { block };
