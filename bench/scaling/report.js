'use strict';

const { digits, machine, markdownTable, percent, plainTable, thisVersion } = require('../lib/format.js');
const { file } = require('./plots.js');

/** What the largest step may cost, compared with the first one that is comparable. */
const TARGET = 1.3;
/** From this share of a core on, the load generator may have set how much the server did at once. */
const CLIENT_LIMIT = 0.9;
const NOISE_LIMIT = 0.1;

/**
 * @typedef {{ step: number, cost: number, rate: number, client: number, others: number }} Point
 * @typedef {{ axis: import('./axes.js').Axis, lines: { server: string, points: Point[] }[] }} Result
 */

/** @returns {string[][]} The head, then a line for each step: CPU microseconds for a delivery, by server, and how each has grown */
function table({ axis, lines }) {
  const head = [axis.unit, ...lines.flatMap(({ server }) => [server, 'growth'])];
  const rows = axis.steps.map((step, index) => [
    step.toLocaleString('en-US'),
    ...lines.flatMap(({ points }) => [
      digits(points[index].cost) + (points[index].client > CLIENT_LIMIT ? '*' : ''),
      step <= axis.from ? '' : `${growth(axis, points, index).toFixed(2)} ×`,
    ]),
  ]);
  return [head, ...rows];
}

function growth(axis, points, index) {
  return points[index].cost / points.find(({ step }) => step === axis.from).cost;
}

/** From the first comparable step to the last, and the greatest rise from any step to a later one. */
function rise(axis, points) {
  const first = axis.steps.indexOf(axis.from);
  const costs = points.slice(first).map(({ cost }) => cost);
  const rises = costs.map((cost, index) => cost / Math.min(...costs.slice(0, index + 1)));
  return { overall: costs.at(-1) / costs[0], greatest: Math.max(...rises) };
}

/** What the number of steps to the power of this is, all deliveries together cost, in the steepest step: 1 is linear. */
function steepest(axis, points) {
  const first = axis.steps.indexOf(axis.from);
  return Math.max(...points.slice(first + 1).map((point, index) => {
    const before = points[first + index];
    return 1 + Math.log(point.cost / before.cost) / Math.log(point.step / before.step);
  }));
}

/** All axes in one table. */
function summary(results) {
  const head = ['what grows', 'from', 'to', ...results[0].lines.map(({ server }) => server)];
  const rows = results.map(({ axis, lines }) => [
    axis.name,
    axis.from.toLocaleString('en-US'),
    axis.steps.at(-1).toLocaleString('en-US'),
    ...lines.map(({ points }) => {
      const { overall, greatest } = rise(axis, points);
      return `${overall.toFixed(2)} × (${greatest.toFixed(2)} ×, ${steepest(axis, points).toFixed(2)})`;
    }),
  ]);
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

CPU time for a delivery at the last step, divided by that at the first comparable one; the target is ${TARGET} ×. In parentheses the
greatest rise from any step to a later one, and the exponent of what all deliveries together cost in the steepest step: 1 is linear.

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
    `Growth is to ${results.map(({ axis }) => axis.from.toLocaleString('en-US')).filter((text, index, all) => all.indexOf(text) === index).join(', ')} as the tables begin to say it; below that several messages share a read, a write or a wake, or none does.`,
    '\\* the load generator was nearly a whole core busy, and may have set how much the server found to do at once.',
    others > NOISE_LIMIT
      ? `Other processes used up to ${percent(others)} of one core meanwhile.`
      : `Other processes used at most ${percent(others)} of one core meanwhile.`,
  ];
}

module.exports = { markdown, plain };
