'use strict';

/** The longest time that a timer of Node.js takes, in milliseconds; one that is given more fires at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

module.exports = { LONGEST_TIMER };
