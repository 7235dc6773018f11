'use strict';

const os = require('node:os');
const { firstLine } = require('../../scripts/steps.js');
const { version } = require('../../package.json');
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

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * @param {{ row: object, server: string, summary: ReturnType<typeof summarize> }[]} results In the order of the table
 * @returns {string[][]} One line of cells for each result
 */
function cells(results) {
  return results.map(({ row, server, summary }) => {
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
}

function costRange({ cost, leastCost, mostCost }) {
  return leastCost === mostCost ? digits(cost) : `${digits(cost)} (${digits(leastCost)}–${digits(mostCost)})`;
}

function thousands(rate) {
  return rate >= 1e6 ? Math.round(rate / 1e3).toLocaleString('en-US') : (rate / 1e3).toFixed(1);
}

function digits(microseconds) {
  return microseconds.toFixed(microseconds < 2 ? 3 : microseconds < 20 ? 2 : 1);
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** The table for a terminal. */
function plainTable(results) {
  const lines = [COLUMNS, ...cells(results)];
  const widths = COLUMNS.map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}

/**
 * The page that is kept.
 *
 * @param {Parameters<typeof cells>[0]} results
 * @param {{ rounds: number, seconds: number }} options
 */
function markdown(results, { rounds, seconds }) {
  const line = (texts) => `| ${texts.join(' | ')} |`;
  const processor = os.cpus()[0]?.model ?? 'unknown processor';
  return `# Results

Written by \`npm run bench\`; what the columns mean is in [README.md](README.md).

- ${os.cpus().length} cores (${processor}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}
- Node.js ${process.versions.node}, tina4-nodejs ${version} (commit ${commit()}), ws ${installedVersion('ws')}
- ${new Date().toISOString().slice(0, 10)}, medians of ${rounds} rounds of ${seconds} s, least and most CPU in parentheses

${line(COLUMNS)}
${line(COLUMNS.map(() => '---'))}
${cells(results).map(line).join('\n')}

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

function commit() {
  const hash = firstLine('git', ['rev-parse', '--short', 'HEAD']);
  if (hash === null) return 'unknown';
  // The page itself is rewritten by every run, and says nothing about what was measured.
  const changed = firstLine('git', ['status', '--porcelain', '--', 'src', 'crates', 'lib', 'index.js', 'bench/servers', 'bench/load']);
  return changed === '' ? hash : `${hash} with changes`;
}

module.exports = { markdown, plainTable, remarks, summarize };
