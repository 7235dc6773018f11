'use strict';

// `npm run bench`: measures this checkout beside other servers and writes bench/results.md. `node bench/run.js --help` says more.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Problem, main, say } = require('../scripts/steps.js');
const { measure } = require('./lib/measure.js');
const { BENCH, prepare } = require('./lib/prepare.js');
const { draw } = require('./lib/plots.js');
const { markdown, plain, remarks } = require('./lib/report.js');
const { ROWS, shortened } = require('./lib/rows.js');
const { SERVERS } = require('./lib/servers.js');
const { summarize } = require('./lib/summary.js');

const NAMES = Object.keys(SERVERS);

const HELP = `usage: npm run bench -- [options]
  --rounds N       measurements of every server in every row, 1 to 100 (3); memory is measured once
  --seconds S      of one measurement, 0.1 to 600 (3)
  --only TEXT      rows whose name has this text, for example "echo" or "room of 32"
  --servers NAMES  ${NAMES.join(',')} by default
  --smoke          every row once, shortly: shows that it works, not how fast

bench/results.md and bench/plots are written by runs of all rows and servers; --smoke writes its own elsewhere.`;

/** Seconds of load before each measurement, in which V8 compiles the handlers. */
const WARM_UP = 1;
const SMOKE = { rounds: 1, seconds: 0.1, warmUp: 0.05 };

main(async (words) => {
  const options = readOptions(words);
  if (options === null) {
    console.log(HELP);
    return;
  }
  prepare({ engine: options.servers.includes('tina4'), floor: options.servers.includes('floor') });
  const results = await measureAll(options);
  console.log(`\n${plain(results)}\n\n${remarks(results).join('\n')}`);
  if (!options.complete) return;
  const folder = options.smoke ? fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-bench-')) : BENCH;
  await draw(results, path.join(folder, 'plots'));
  const page = path.join(folder, 'results.md');
  fs.writeFileSync(page, markdown(results, options));
  say(`written to ${path.relative(process.cwd(), page)}, with plots beside it`);
});

/** @returns What to do; null when only the help is asked for */
function readOptions(words) {
  const { values } = parse(words);
  if (values.help) return null;
  const rows = ROWS.filter(({ name }) => name.includes(values.only ?? ''));
  if (rows.length === 0) {
    throw new Problem(`No row has ${JSON.stringify(values.only)} in its name. There are: ${ROWS.map(({ name }) => name).join('; ')}.`);
  }
  const servers = values.servers?.split(',') ?? NAMES;
  const unknown = servers.find((name) => !NAMES.includes(name));
  if (unknown !== undefined) throw new Problem(`There is no server ${JSON.stringify(unknown)}. There are: ${NAMES.join(', ')}.`);
  const rounds = number('rounds', values.rounds, 1, 100);
  if (!Number.isInteger(rounds)) throw new Problem(`--rounds is a whole number, not ${values.rounds}.`);
  const chosen = { rounds, seconds: number('seconds', values.seconds, 0.1, 600), warmUp: WARM_UP };
  const complete = rows.length === ROWS.length && servers.length === NAMES.length;
  return { rows: values.smoke ? rows.map(shortened) : rows, servers, complete, smoke: values.smoke, ...(values.smoke ? SMOKE : chosen) };
}

function parse(words) {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  try {
    return parseArgs({
      args: words,
      options: {
        rounds: { ...text, default: '3' },
        seconds: { ...text, default: '3' },
        only: text,
        servers: text,
        smoke: flag,
        help: flag,
      },
    });
  } catch (error) {
    throw new Problem(`${error.message}\n${HELP}`);
  }
}

function number(name, word, least, most) {
  const value = Number(word);
  if (value >= least && value <= most) return value;
  throw new Problem(`--${name} is ${least} to ${most}, not ${JSON.stringify(word)}.`);
}

/** Measures every row on every server, in every round in another order, so that no server always comes first. */
async function measureAll({ rows, servers, rounds, seconds, warmUp }) {
  const found = new Map(rows.flatMap((row) => servers.filter((server) => isMeasured(row, server)).map((server) => {
    const result = { row, server, rounds: [], failed: null };
    return [`${row.name} ${server}`, result];
  })));
  for (let round = 0; round < rounds; round += 1) {
    for (const row of rows.filter((one) => round < (one.rounds ?? rounds))) {
      for (const server of round % 2 === 0 ? servers : [...servers].reverse()) {
        const result = found.get(`${row.name} ${server}`);
        if (result === undefined || result.failed !== null) continue;
        say(`round ${round + 1}/${rounds}, ${row.name}, ${server}: ${await measureOnce(result, { warmUp, seconds })}`);
      }
    }
  }
  return [...found.values()].map(({ row, server, rounds, failed }) => (
    { row, server, summary: failed === null ? summarize(row, rounds) : null, failed }
  ));
}

function isMeasured(row, server) {
  const { suits = () => true } = SERVERS[server];
  return suits(row) && row.without?.[server] === undefined;
}

/** Adds a measurement to a result, or why there is none; returns what to say about it. */
async function measureOnce(result, time) {
  const { row, server } = result;
  try {
    const measurement = await measure(server, row, time);
    result.rounds.push(measurement);
    return brief(row, measurement);
  } catch (error) {
    // Not every server stands so many connections, and that is a result. Elsewhere it is a fault of the bench.
    if (row.kind !== 'memory' || !(error instanceof Problem)) throw error;
    result.failed = error.message.split('\n', 1)[0];
    return result.failed;
  }
}

function brief({ kind }, { rate, cost, latency, open, after }) {
  if (kind === 'memory') return `${open.toFixed(0)} B, ${after.toFixed(0)} B after a message`;
  if (kind === 'latency') return `p50 ${latency.p50.toFixed(0)} µs, p99 ${latency.p99.toFixed(0)} µs`;
  return `${Math.round(rate / 1e3)} k/s, ${cost.toFixed(2)} µs`;
}
