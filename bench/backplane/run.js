'use strict';

// `node bench/backplane/run.js`: measures how this checkout, and others like it, carry messages from one process to another through
// Redis, and writes bench/backplane/results.md. `--help` says more.

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Problem, main, say } = require('../../scripts/steps.js');
const { prepare } = require('../lib/prepare.js');
const { fanOut } = require('./lib/fan-out.js');
const { measure } = require('./lib/measure.js');
const { markdown, plain, summarize } = require('./lib/report.js');
const { ROWS, SERVERS } = require('./lib/rows.js');

const RESULTS = path.join(__dirname, 'results.md');
const NAMES = Object.keys(SERVERS);

const HELP = `usage: node bench/backplane/run.js [options]
  --rounds N       measurements of every server in every row, 1 to 100 (3)
  --seconds S      of one measurement, 0.1 to 600 (3)
  --only TEXT      rows whose name has this text, for example "64 B" or "50 clients"
  --servers NAMES  ${NAMES.join(',')} by default
  --quick          every row once, shortly: shows that it works, not how fast

bench/backplane/results.md is written by runs of all rows and servers.`;

/** Seconds of load before each measurement, in which V8 compiles the handlers. */
const WARM_UP = 1;
const QUICK = { rounds: 1, seconds: 0.3, warmUp: 0.2 };
/** Bytes of the texts for which Redis is measured alone. */
const FAN_OUT_BYTES = [64, 4096];

main(async (words) => {
  const options = readOptions(words);
  if (options === null) {
    console.log(HELP);
    return;
  }
  prepare({ engine: options.servers.includes('tina4') });
  const results = await measureAll(options);
  const costs = options.alone ? await measureRedis(options) : [];
  console.log(`\n${plain(results, costs)}`);
  if (!options.complete) return;
  fs.writeFileSync(RESULTS, markdown(results, costs, options));
  say(`written to ${path.relative(process.cwd(), RESULTS)}`);
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
  const alone = rows.length === ROWS.length && servers.length === NAMES.length;
  const chosen = { rounds, seconds: number('seconds', values.seconds, 0.1, 600), warmUp: WARM_UP };
  return { rows, servers, alone, complete: alone && !values.quick, ...(values.quick ? QUICK : chosen) };
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
        quick: flag,
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
  const found = new Map();
  for (let round = 0; round < rounds; round += 1) {
    for (const row of rows) {
      for (const server of round % 2 === 0 ? servers : [...servers].reverse()) {
        const measurement = await measure(server, row, { warmUp, seconds });
        const key = `${row.name} ${server}`;
        found.set(key, [...(found.get(key) ?? []), measurement]);
        const { full, paced } = measurement;
        say(
          `round ${round + 1}/${rounds}, ${row.name}, ${SERVERS[server].title}: ${Math.round(full.rate)} envelopes/s, `
          + `${(full.costA + full.costB).toFixed(1)} µs; paced p50 ${paced.far.p50.toFixed(0)} µs`,
        );
      }
    }
  }
  return rows.flatMap((row) => servers.map((server) => {
    const rounds = found.get(`${row.name} ${server}`);
    return { row, server, full: summarize(rounds.map(({ full }) => full)), paced: summarize(rounds.map(({ paced }) => paced)) };
  }));
}

async function measureRedis({ seconds }) {
  const costs = [];
  for (const bytes of FAN_OUT_BYTES) {
    say(`Redis alone, ${bytes} B`);
    costs.push(...(await fanOut(bytes, seconds)));
  }
  return costs;
}
