'use strict';

const { ROWS } = require('./rows.js');
const { numbersOf } = require('./summary.js');

const [ECHO_1, ECHO_16, ECHO_BYTES, ROOM_ALL, ROOM_ONE, CHURN, HTTP_USER, HTTP_JSON, LATENCY, BLOCKED, IDLE_10, IDLE_19] = ROWS;

/** Bytes of one idle connection, the kernel's not included. */
const MOST_MEMORY = 2000;
/** Microseconds. */
const MOST_BLOCKED = 10_000;
/** Of the CPU time in a room. */
const MOST_MAIN_SHARE = 0.05;

/**
 * @typedef {object} Target
 * @property {string} text
 * @property {import('./rows.js').Row} row
 * @property {string} field
 * @property {string[]} peers Those whose best number is compared with; none where the number itself is the target
 * @property {'least'|'most'} bound What `value` is of the ratio to them, or of the number
 * @property {number} value
 * @property {string} [unit]
 */

const UWS = ['uws'];
const BOTH = ['uws', 'bun'];

/** @type {Target[]} */
const TARGETS = [
  most('CPU time of an echo × 1 is at most that of uWebSockets.js', ECHO_1, 'cost', UWS, 1),
  least('Echo × 16 is at least 1.5 times as fast as uWebSockets.js', ECHO_16, 'rate', UWS, 1.5),
  least('Echo × 16 is at least as fast as Bun', ECHO_16, 'rate', ['bun'], 1),
  least('Echo of 16 KiB is at least 1.2 times as fast as the better of both', ECHO_BYTES, 'rate', BOTH, 1.2),
  least('A room of 32 is at least as fast as the better of both', ROOM_ALL, 'rate', BOTH, 1),
  least('A room of 1,000 is at least 1.2 times as fast as the better of both', ROOM_ONE, 'rate', BOTH, 1.2),
  most('A room of 1,000 needs less than 5 % of its CPU time on the JavaScript thread', ROOM_ONE, 'mainShare', [], MOST_MAIN_SHARE),
  most('The 99th percentile of latency at 5,000 messages/s is at most that of the better of both', LATENCY, 'p99', BOTH, 1),
  most('While JavaScript is blocked, 99 % of pings are answered within 10 ms', BLOCKED, 'p99', [], MOST_BLOCKED, 'µs'),
  ...[IDLE_10, IDLE_19].flatMap((row) => [
    most(`Each of ${row.name} needs at most 2,000 bytes`, row, 'open', [], MOST_MEMORY, 'bytes'),
    most(`Each of ${row.name} needs at most 2,000 bytes after a message of 64 KiB`, row, 'after', [], MOST_MEMORY, 'bytes'),
  ]),
  least('Connections come and go at least as fast as in uWebSockets.js', CHURN, 'rate', UWS, 1),
  ...[HTTP_USER, HTTP_JSON].flatMap((row) => [
    least(`${row.name} is at least as fast as in uWebSockets.js`, row, 'rate', UWS, 1),
    least(`${row.name} is at least 1.6 times as fast as in fastify`, row, 'rate', ['fastify'], 1.6),
  ]),
];

function least(text, row, field, peers, value) {
  return { text, row, field, peers, bound: 'least', value };
}

function most(text, row, field, peers, value, unit) {
  return { text, row, field, peers, bound: 'most', value, unit };
}

/**
 * Each target as a sentence, with what was measured.
 *
 * @param {import('./summary.js').Result[]} results
 * @returns {string[]}
 */
function judge(results) {
  return TARGETS.map((target) => {
    const found = measured(results, target);
    if (found === null) return `${target.text}: not measured.`;
    const met = target.bound === 'least' ? found >= target.value : found <= target.value;
    return `${target.text}: ${written(target, found)}, **${met ? 'met' : 'not met'}**.`;
  });
}

function measured(results, { row, field, peers, bound }) {
  const own = numbersOf(results, row, 'tina4')?.[field] ?? null;
  const others = peers.map((peer) => numbersOf(results, row, peer)?.[field] ?? null);
  if (own === null || others.includes(null)) return null;
  if (others.length === 0) return own;
  return own / (bound === 'least' ? Math.max(...others) : Math.min(...others));
}

function written({ peers, field, unit }, found) {
  if (peers.length > 0) return `${found.toFixed(2)} ×`;
  return field === 'mainShare' ? `${(found * 100).toFixed(1)} %` : `${Math.round(found).toLocaleString('en-US')} ${unit}`;
}

module.exports = { judge };
