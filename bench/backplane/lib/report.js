'use strict';

const { firstLine } = require('../../../scripts/steps.js');
const { digits, machine, markdownTable, median, percent, plainTable, thisVersion, thousands } = require('../../lib/format.js');
const { installedVersion } = require('../../lib/prepare.js');
const { PEERS, SERVERS } = require('./rows.js');

/** From this share of a core on, the load generator and not the servers may have set the rate. */
const CLIENT_LIMIT = 0.9;
/** From this share of one core on, what else ran on the machine makes rates and latencies worth little. */
const NOISE_LIMIT = 0.1;

const NUMBERS = ['rate', 'costA', 'costB', 'costRedis', 'bytesIn', 'bytesOut', 'client', 'nearP50', 'nearP99', 'farP50', 'farP99'];

/**
 * The medians of one server's rounds in one row.
 *
 * @param {import('./measure.js').Found[]} rounds
 */
function summarize(rounds) {
  const flat = rounds.map(({ near, far, ...found }) => ({
    ...found, nearP50: near?.p50, nearP99: near?.p99, farP50: far?.p50, farP99: far?.p99,
  }));
  return {
    ...Object.fromEntries(NUMBERS.map((name) => [name, median(flat.map((found) => found[name]))])),
    others: Math.max(...rounds.map(({ others }) => others)),
  };
}

/**
 * @typedef {object} Result
 * @property {typeof import('./rows.js').ROWS[0]} row
 * @property {string} server
 * @property {ReturnType<typeof summarize>} full
 * @property {ReturnType<typeof summarize>} paced
 */

/** How much another server's number is of ours, or ours of it, in the same row. */
function ratios(results, { row, server }, phase, pick) {
  if (server !== 'tina4') return PEERS.map(() => '');
  return PEERS.map((peer) => {
    const other = results.find((each) => each.row === row && each.server === peer);
    const own = results.find((each) => each.row === row && each.server === server);
    return other === undefined ? '' : `${(pick(own[phase]) / pick(other[phase])).toFixed(2)} ×`;
  });
}

const toPeers = PEERS.map((peer) => `to ${SERVERS[peer].title}`);
const both = ({ costA, costB }) => costA + costB;

function rateTable(results) {
  const head = ['work', 'server', 'envelopes/s', ...toPeers, 'CPU µs A + B', ...toPeers, 'Redis CPU µs', 'Redis bytes in', 'out', 'client'];
  const lines = results.map((result) => {
    const { row, server, full } = result;
    return [
      row.name,
      SERVERS[server].title,
      `${thousands(full.rate)} k`,
      ...ratios(results, result, 'full', ({ rate }) => rate),
      `${digits(full.costA)} + ${digits(full.costB)}`,
      ...ratios(results, result, 'full', both),
      digits(full.costRedis),
      full.bytesIn.toFixed(0),
      full.bytesOut.toFixed(0),
      percent(full.client) + (full.client > CLIENT_LIMIT ? ' (the limit)' : ''),
    ];
  });
  return [head, ...lines];
}

function latencyTable(results) {
  const head = ['work', 'server', 'A’s own client p50', 'p99', 'B’s clients p50', 'p99', ...toPeers, 'CPU µs A + B', ...toPeers, 'Redis CPU µs'];
  const lines = results.map((result) => {
    const { row, server, paced } = result;
    return [
      `${row.name}, ${row.rate.toLocaleString('en-US')}/s`,
      SERVERS[server].title,
      paced.nearP50.toFixed(0),
      paced.nearP99.toFixed(0),
      paced.farP50.toFixed(0),
      paced.farP99.toFixed(0),
      ...ratios(results, result, 'paced', ({ farP50 }) => farP50),
      `${digits(paced.costA)} + ${digits(paced.costB)}`,
      ...ratios(results, result, 'paced', both),
      digits(paced.costRedis),
    ];
  });
  return [head, ...lines];
}

/** @param {import('./fan-out.js').Cost[]} costs */
function fanOutTable(costs) {
  const head = ['text', 'envelopes in one write', 'nodes', 'Redis CPU µs', 'bytes in', 'bytes out'];
  const lines = costs.map(({ bytes, batch, nodes, cpu, received, sent }) => [
    `${bytes} B`, String(batch), String(nodes), digits(cpu), received.toFixed(0), sent.toFixed(0),
  ]);
  return [head, ...lines];
}

/** All tables for a terminal. */
function plain(results, costs) {
  const tables = [rateTable(results), latencyTable(results), ...(costs.length > 0 ? [fanOutTable(costs)] : [])];
  return [...tables.map(plainTable), ...remarks(results)].join('\n\n');
}

/**
 * The page that is kept.
 *
 * @param {Result[]} results
 * @param {import('./fan-out.js').Cost[]} costs
 * @param {{ rounds: number, seconds: number }} options
 */
function markdown(results, costs, { rounds, seconds }) {
  const versions = ['ws', 'ioredis', 'socket.io', '@socket.io/redis-adapter'].map((name) => `${name} ${installedVersion(name)}`);
  const redis = /v=(\S+)/.exec(firstLine('redis-server', ['--version']))[1];
  return `# Results of the backplane

Written by \`node bench/backplane/run.js\`; what was done and what the columns mean is in [README.md](README.md).

- ${machine()}
- Node.js ${process.versions.node}, ${thisVersion(['bench/backplane', 'bench/load'])}, ${versions.join(', ')}
- Redis ${redis}
- ${new Date().toISOString().slice(0, 10)}, medians of ${rounds} rounds of ${seconds} s

## As many as they can

${markdownTable(rateTable(results))}

## At a fixed pace

Latencies in microseconds, from when a message was due. The ratios are of the p50 of B's clients, and of the CPU time.

${markdownTable(latencyTable(results))}

## Redis alone

${markdownTable(fanOutTable(costs))}

## To judge them by

${remarks(results).map((text) => `- ${text}`).join('\n')}
`;
}

/** What has to be known to judge the numbers, as sentences. */
function remarks(results) {
  const limited = results.filter(({ full }) => full.client > CLIENT_LIMIT);
  const others = Math.max(...results.flatMap(({ full, paced }) => [full.others, paced.others]));
  return [
    'Load generator, A, B and Redis share the machine: the rate is what all four can do together, and CPU time says what each needs.',
    limited.length > 0
      ? `The load generator was the limit of ${limited.map(({ row, server }) => `${row.name} (${SERVERS[server].title})`).join(', ')}: there only CPU times compare.`
      : `The load generator was the limit nowhere: it used at most ${percent(Math.max(...results.map(({ full }) => full.client)))} of a core.`,
    others > NOISE_LIMIT
      ? `Other processes used up to ${percent(others)} of one core meanwhile: compare ratios and CPU times.`
      : `Other processes used at most ${percent(others)} of one core meanwhile.`,
  ];
}

module.exports = { markdown, plain, summarize };
