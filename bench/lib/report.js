'use strict';

const { digits, machine, markdownTable, percent, plainTable, thisVersion, thousands } = require('./format.js');
const { file } = require('./plots.js');
const { REFERENCES } = require('./rows.js');
const { SERVERS } = require('./servers.js');
const { numbersOf } = require('./summary.js');
const { judge } = require('./targets.js');

/** From this share of a core on, the load generator and not the server may have set the rate. */
const CLIENT_LIMIT = 0.9;
/** From this share of one core on, what else ran on the machine makes the rates worth little. */
const NOISE_LIMIT = 0.1;

const TITLES = REFERENCES.map((server) => SERVERS[server].title);
const toReferences = (what) => TITLES.map((title) => `${what} to ${title}`);
const microseconds = (time) => (time === null ? '' : Math.round(time).toLocaleString('en-US'));
const bytes = (number) => Math.round(number).toLocaleString('en-US');

/** A table for each kind of row: its heading, its head, and the cells of one server. */
const TABLES = {
  throughput: {
    heading: 'As much as they can',
    head: ['server', 'rate', ...toReferences('rate'), 'CPU µs', ...toReferences('CPU'), 'on main thread', 'client', 'p50 µs', 'p99 µs'],
    cells: (summary, ratios) => [
      `${thousands(summary.rate)} k/s`,
      ...ratios('rate'),
      costRange(summary),
      ...ratios('cost'),
      ...shares(summary),
      microseconds(summary.p50),
      microseconds(summary.p99),
    ],
  },
  latency: {
    heading: 'At a fixed pace',
    head: ['server', 'p50 µs', 'p99 µs', ...toReferences('p99'), 'p99.9 µs', 'most µs', 'CPU µs', 'on main thread', 'client'],
    cells: (summary, ratios) => [
      microseconds(summary.p50),
      microseconds(summary.p99),
      ...ratios('p99'),
      microseconds(summary.p999),
      microseconds(summary.max),
      costRange(summary),
      ...shares(summary),
    ],
  },
  memory: {
    heading: 'At rest',
    head: ['server', 'bytes each', ...toReferences('bytes'), 'kernel', 'bytes after 64 KiB', ...toReferences('bytes'), 'kernel'],
    cells: (summary, ratios) => [
      bytes(summary.open) + (summary.settled ? '' : ' (not steady)'),
      ...ratios('open'),
      bytes(summary.kernelOpen),
      bytes(summary.after),
      ...ratios('after'),
      bytes(summary.kernelAfter),
    ],
  },
};

function shares({ mainShare, client }) {
  return [percent(mainShare), percent(client) + (client >= CLIENT_LIMIT ? ' (the limit)' : '')];
}

function costRange({ cost, leastCost, mostCost }) {
  return leastCost === mostCost ? digits(cost) : `${digits(cost)} (${digits(leastCost)}–${digits(mostCost)})`;
}

/** The head and the servers of one row; one without numbers has its reason below the table. */
function tableOf(results, row) {
  const { head, cells } = TABLES[row.kind];
  const lines = results
    .filter((result) => result.row === row && result.summary !== null)
    .map(({ server, summary }) => {
      const ratios = (name) => REFERENCES.map((reference) => {
        const other = numbersOf(results, row, reference);
        return other === null || reference === server ? '' : `${(summary[name] / other[name]).toFixed(2)} ×`;
      });
      return [SERVERS[server].title, ...cells(summary, ratios)];
    });
  return [head, ...lines];
}

const rowsOf = (results) => [...new Set(results.map(({ row }) => row))];

/** The results for a terminal. */
function plain(results) {
  return rowsOf(results).map((row) => [row.name, plainTable(tableOf(results, row)), ...missing(results, row)].join('\n')).join('\n\n');
}

/**
 * The page that is kept.
 *
 * @param {import('./summary.js').Result[]} results
 * @param {{ rounds: number, seconds: number }} options
 */
function markdown(results, { rounds, seconds }) {
  const versions = Object.values(SERVERS).map(({ version }) => version()).filter((text) => text !== '');
  const sections = Object.entries(TABLES).map(([kind, { heading }]) => {
    const rows = rowsOf(results).filter((row) => row.kind === kind);
    return [`## ${heading}`, ...rows.map((row) => section(results, row))].join('\n\n');
  });
  return `# Results

Written by \`npm run bench\`; what the rows and columns mean is in [README.md](README.md).

- ${machine()}
- Node.js ${process.versions.node}, ${thisVersion(['bench/servers', 'bench/load'])}
- ${versions.join(', ')}
- ${new Date().toISOString().slice(0, 10)}, ${rounds === 1 ? 'one round' : `medians of ${rounds} rounds`} of ${seconds} s, least and most CPU in parentheses

## Targets

${judge(results).map((text) => `- ${text}`).join('\n')}

${sections.join('\n\n')}

## To judge them by

${remarks(results).map((text) => `- ${text}`).join('\n')}
`;
}

function section(results, row) {
  const picture = `![${row.name}](plots/${file(row)})`;
  return [`### ${row.name}`, picture, markdownTable(tableOf(results, row)), ...missing(results, row)].join('\n\n');
}

/** Why servers are not in a row's table. */
function missing(results, row) {
  const failed = results.filter((result) => result.row === row && result.failed !== null);
  return [
    ...failed.map(({ server, failed }) => `${SERVERS[server].title} could not: ${failed}`),
    ...Object.entries(row.without ?? {}).map(([server, why]) => `${SERVERS[server].title} is not measured: ${why}.`),
  ];
}

/** What has to be known to judge the numbers, as sentences. */
function remarks(results) {
  const timed = results.filter(({ row, summary }) => row.kind !== 'memory' && summary !== null);
  if (timed.length === 0) return [];
  const limited = timed.filter(({ summary }) => summary.client >= CLIENT_LIMIT);
  const others = Math.max(...timed.map(({ summary }) => summary.others));
  const found = [];
  if (limited.length > 0) {
    found.push(
      `The client was the limit of ${limited.map(({ row, server }) => `${row.name} (${SERVERS[server].title})`).join(', ')}: there the `
      + 'server could do more than the rate says, and only its CPU time compares.',
    );
  }
  found.push(
    others > NOISE_LIMIT
      ? `Other processes used up to ${percent(others)} of one core meanwhile: compare ratios and CPU times, not rates.`
      : `Other processes used at most ${percent(others)} of one core meanwhile.`,
  );
  return found;
}

module.exports = { markdown, plain, remarks };
