'use strict';

const { median } = require('./format.js');

/**
 * The medians of one server in one row, or why there are none.
 *
 * @typedef {{ row: import('./rows.js').Row, server: string, summary: object|null, failed: string|null }} Result
 */

/** @param {(import('./measure.js').Work|import('./measure.js').Memory)[]} rounds */
function summarize({ kind }, rounds) {
  return kind === 'memory' ? memory(rounds) : work(rounds);
}

function work(rounds) {
  const of = (pick) => median(rounds.map(pick));
  const timed = rounds.every(({ latency }) => latency !== null);
  const time = (name) => (timed ? of(({ latency }) => latency[name]) : null);
  return {
    rate: of(({ rate }) => rate),
    cost: of(({ cost }) => cost),
    leastCost: Math.min(...rounds.map(({ cost }) => cost)),
    mostCost: Math.max(...rounds.map(({ cost }) => cost)),
    mainShare: of(({ mainShare }) => mainShare),
    client: of(({ client }) => client),
    others: Math.max(...rounds.map(({ others }) => others)),
    p50: time('p50'),
    p99: time('p99'),
    p999: time('p999'),
    max: time('max'),
  };
}

function memory(rounds) {
  const names = ['open', 'kernelOpen', 'after', 'kernelAfter'];
  const medians = names.map((name) => [name, median(rounds.map((round) => round[name]))]);
  return { ...Object.fromEntries(medians), settled: rounds.every(({ settled }) => settled) };
}

/**
 * @param {Result[]} results
 * @returns {object|null} The numbers of a server in a row
 */
function numbersOf(results, row, server) {
  return results.find((result) => result.row.name === row.name && result.server === server)?.summary ?? null;
}

module.exports = { numbersOf, summarize };
