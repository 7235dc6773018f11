'use strict';

const { digits, machine, markdownTable, median, percent, plainTable, thisVersion, thousands } = require('./format.js');
const { installedVersion } = require('./prepare.js');
const { REFERENCE } = require('./rows.js');

/** From this share of a core on, the load generator and not the server may have set the rate. */
const CLIENT_LIMIT = 0.9;
/** From this share of one core on, what else ran on the machine makes the rates worth little. */
const NOISE_LIMIT = 0.1;

const COLUMNS = ['work', 'server', 'rate', `to ${REFERENCE}`, 'CPU µs', `to ${REFERENCE}`, 'on main thread', 'client', 'p50 µs', 'p99 µs'];

/**
 * The medians of one server's rounds in one row.
 *
 * @param {import('./measure.js').Measurement[]} rounds
 */
function summarize(rounds) {
  const of = (pick) => median(rounds.map(pick));
  const timed = rounds.every(({ latency }) => latency !== null);
  return {
    rate: of(({ rate }) => rate),
    cost: of(({ cost }) => cost),
    leastCost: Math.min(...rounds.map(({ cost }) => cost)),
    mostCost: Math.max(...rounds.map(({ cost }) => cost)),
    mainShare: of(({ mainShare }) => mainShare),
    client: of(({ client }) => client),
    others: Math.max(...rounds.map(({ others }) => others)),
    p50: timed ? of(({ latency }) => latency.p50) : null,
    p99: timed ? of(({ latency }) => latency.p99) : null,
  };
}

/**
 * @param {{ row: object, server: string, summary: ReturnType<typeof summarize> }[]} results In the order of the table
 * @returns {string[][]} The head, then one line of cells for each result
 */
function table(results) {
  const lines = results.map(({ row, server, summary }) => {
    const reference = results.find((other) => other.row === row && other.server === REFERENCE)?.summary;
    const ratio = (name) => (reference && server !== REFERENCE ? `${(summary[name] / reference[name]).toFixed(2)} ×` : '');
    return [
      row.name,
      server,
      `${thousands(summary.rate)} k/s`,
      ratio('rate'),
      costRange(summary),
      ratio('cost'),
      percent(summary.mainShare),
      percent(summary.client) + (summary.client > CLIENT_LIMIT ? ' (the limit)' : ''),
      summary.p50 === null ? '' : summary.p50.toFixed(0),
      summary.p99 === null ? '' : summary.p99.toFixed(0),
    ];
  });
  return [COLUMNS, ...lines];
}

function costRange({ cost, leastCost, mostCost }) {
  return leastCost === mostCost ? digits(cost) : `${digits(cost)} (${digits(leastCost)}–${digits(mostCost)})`;
}

/** The results for a terminal. */
function plain(results) {
  return plainTable(table(results));
}

/**
 * The page that is kept.
 *
 * @param {Parameters<typeof table>[0]} results
 * @param {{ rounds: number, seconds: number }} options
 */
function markdown(results, { rounds, seconds }) {
  return `# Results

Written by \`npm run bench\`; what the columns mean is in [README.md](README.md).

- ${machine()}
- Node.js ${process.versions.node}, ${thisVersion(['bench/servers', 'bench/load'])}, ws ${installedVersion('ws')}
- ${new Date().toISOString().slice(0, 10)}, medians of ${rounds} rounds of ${seconds} s, least and most CPU in parentheses

${markdownTable(table(results))}

${remarks(results).join('\n\n')}
`;
}

/** What has to be known to judge the numbers, as sentences. */
function remarks(results) {
  const limited = results.filter(({ summary }) => summary.client > CLIENT_LIMIT);
  const others = Math.max(...results.map(({ summary }) => summary.others));
  const found = [];
  if (limited.length > 0) {
    found.push(
      `The client was the limit of ${limited.map(({ row, server }) => `${row.name} (${server})`).join(', ')}: there the server `
      + 'could do more than the rate says, and only its CPU time compares.',
    );
  }
  found.push(
    others > NOISE_LIMIT
      ? `Other processes used up to ${percent(others)} of one core meanwhile: compare ratios and CPU times, not rates.`
      : `Other processes used at most ${percent(others)} of one core meanwhile.`,
  );
  return found;
}

module.exports = { markdown, plain, remarks, summarize };
