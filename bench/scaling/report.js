'use strict';

const { digits, machine, markdownTable, percent, plainTable, thisVersion } = require('../lib/format.js');
const { file } = require('./plots.js');

/** What the largest step may cost, compared with the first one that is comparable. */
const TARGET = 1.3;
/** From this share of a core on, the load generator may have set how much the server did at once. */
const CLIENT_LIMIT = 0.9;
const NOISE_LIMIT = 0.1;
/** The server that shows what the kernel does. */
const BARE = 'bare';

/**
 * @typedef {{ step: number, cost: number, rate: number, client: number, others: number }} Point
 * @typedef {{ axis: import('./axes.js').Axis, lines: { server: string, points: Point[] }[] }} Result
 */

/** @returns {string[][]} The head, then a line for each step: CPU microseconds for a delivery, by server, and how each has grown */
function table({ axis, lines }) {
  const bare = lines.find(({ server }) => server === BARE);
  const compared = (line) => bare !== undefined && line !== bare;
  const head = [axis.unit, ...lines.flatMap((line) => (compared(line) ? [line.server, `to ${BARE}`] : [line.server]))];
  const rows = axis.steps.map((step, index) => [
    step.toLocaleString('en-US'),
    ...lines.flatMap((line) => {
      const { cost, client } = line.points[index];
      const growth = step > axis.from ? ` (${times(cost / first(axis, line).cost)})` : '';
      const cell = digits(cost) + (client > CLIENT_LIMIT ? '*' : '') + growth;
      return compared(line) ? [cell, times(cost / bare.points[index].cost)] : [cell];
    }),
  ]);
  return [head, ...rows];
}

function times(ratio) {
  return `${ratio.toFixed(2)} ×`;
}

/** The first comparable step. */
function first(axis, { points }) {
  return points.find(({ step }) => step === axis.from);
}

/** What a delivery costs at the last step, divided by that at the first comparable one. */
function growth(axis, line) {
  return line.points.at(-1).cost / first(axis, line).cost;
}

/** The greatest rise from a comparable step to the next one, as the exponent of what all deliveries together cost: 1 is linear. */
function steepest(axis, { points }) {
  const start = axis.steps.indexOf(axis.from);
  return Math.max(...points.slice(start + 1).map((point, index) => {
    const before = points[start + index];
    return 1 + Math.log(point.cost / before.cost) / Math.log(point.step / before.step);
  }));
}

/** All axes in one table. */
function summary(results) {
  const servers = results[0].lines.map(({ server }) => server);
  const head = ['what grows', 'from', 'to', ...servers.flatMap((server) => (server === BARE ? [server] : [server, `beside ${BARE}`])), 'steepest step'];
  const rows = results.map(({ axis, lines }) => {
    const bare = lines.find(({ server }) => server === BARE);
    return [
      axis.name,
      axis.from.toLocaleString('en-US'),
      axis.steps.at(-1).toLocaleString('en-US'),
      ...lines.flatMap((line) => {
        const own = growth(axis, line);
        if (line === bare) return [times(own)];
        return [times(own), bare === undefined ? '' : times(own / growth(axis, bare))];
      }),
      lines.map((line) => steepest(axis, line).toFixed(2)).join(', '),
    ];
  });
  return [head, ...rows];
}

function plain(results) {
  return [...results.map((result) => `${result.axis.name}\n${plainTable(table(result))}`), plainTable(summary(results))].join('\n\n');
}

/**
 * The page that is kept.
 *
 * @param {Result[]} results
 * @param {{ rounds: number, seconds: number }} options
 * @param {{ all: number }} cores
 */
function markdown(results, { rounds, seconds }, cores) {
  const measurements = rounds === 1 ? `one round of ${seconds} s` : `medians of ${rounds} rounds of ${seconds} s`;
  return `# Scaling

Written by \`npm run bench:scaling\`. What a delivery costs the server when there is more of one thing: CPU microseconds, user and
system, of all its threads.

- ${machine()}
- Node.js ${process.versions.node}, ${thisVersion(['bench/servers', 'bench/load', 'bench/scaling', 'bench/scaling.js'])}
- ${new Date().toISOString().slice(0, 10)}, ${measurements}
- ${cores.all >= 6 ? 'The load has one core; a server has one for its JavaScript and one for each shard.' : simulated(cores)}

**bare** is the least a server can do, one thread and one \`write\` for each recipient
([its source](load/src/bin/bare.rs)). What it grows by is the kernel: at a few thousand connections their sockets no longer fit into the
processor's cache, and here those of both ends share it. What a server adds is its difference to bare.

## All of it

What a delivery costs at the last step, divided by that at the first comparable one; the target is ${TARGET} ×. Beside bare is how much
that is of what bare grew by in the same minutes. The steepest step, of each server in turn, is the exponent of what all deliveries
together cost: 1 is linear.

${markdownTable(summary(results))}

${results.map(section).join('\n')}
## To judge them by

${remarks(results).map((text) => `- ${text}`).join('\n')}
`;
}

function simulated({ all }) {
  return `The load has one core, the server ${all === 2 ? 'the other one' : `at most ${all - 1}`}, however many shards it has: more cores than there are `
    + 'are simulated, in that CPU time of all threads is what counts, and not the rate.';
}

function section(result) {
  return `## By ${result.axis.name}

${result.axis.what}

![CPU time for a delivery](plots/${file(result.axis)})

${markdownTable(table(result))}
`;
}

function remarks(results) {
  const points = results.flatMap(({ lines }) => lines.flatMap(({ points }) => points));
  const others = Math.max(...points.map(({ others }) => others));
  return [
    'In parentheses is the growth since the first comparable step; below it fewer messages are under way, so that each has a wake of its own.',
    'The servers of one step were measured one right after the other: the ratio to bare says more than a number, which changes by a quarter with what else the host of a virtual machine has to do.',
    '\\* the load generator was nearly a whole core busy, and may have set how much the server found to do at once.',
    others > NOISE_LIMIT
      ? `Other processes used up to ${percent(others)} of one core meanwhile.`
      : `Other processes used at most ${percent(others)} of one core meanwhile.`,
  ];
}

module.exports = { markdown, plain };
