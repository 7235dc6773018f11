'use strict';

// `npm run bench`: measures this checkout beside other servers and writes bench/results.md. `node bench/run.js --help` says more.

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Problem, main, say } = require('../scripts/steps.js');
const { measure } = require('./lib/measure.js');
const { BENCH, prepare } = require('./lib/prepare.js');
const { markdown, plain, remarks, summarize } = require('./lib/report.js');
const { ROWS, SERVERS } = require('./lib/rows.js');

const RESULTS = path.join(BENCH, 'results.md');

const HELP = `usage: npm run bench -- [options]
  --rounds N       measurements of every server in every row, 1 to 100 (3)
  --seconds S      of one measurement, 0.1 to 600 (4)
  --only TEXT      rows whose name has this text, for example "echo" or "room of 32"
  --servers NAMES  ${SERVERS.join(',')} by default
  --smoke          every row once, shortly: shows that it works, not how fast

bench/results.md is written by runs of all rows and servers.`;

/** Seconds of load before each measurement, in which V8 compiles the handlers. */
const WARM_UP = 1;
const SMOKE = { rounds: 1, seconds: 0.1, warmUp: 0.05 };

main(async (words) => {
  const options = readOptions(words);
  if (options === null) {
    console.log(HELP);
    return;
  }
  prepare();
  const results = await measureAll(options);
  console.log(`\n${plain(results)}\n\n${remarks(results).join('\n')}`);
  if (!options.complete) return;
  fs.writeFileSync(RESULTS, markdown(results, options));
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
  const servers = values.servers?.split(',') ?? SERVERS;
  const unknown = servers.find((name) => !SERVERS.includes(name));
  if (unknown !== undefined) throw new Problem(`There is no server ${JSON.stringify(unknown)}. There are: ${SERVERS.join(', ')}.`);
  const rounds = number('rounds', values.rounds, 1, 100);
  if (!Number.isInteger(rounds)) throw new Problem(`--rounds is a whole number, not ${values.rounds}.`);
  const chosen = { rounds, seconds: number('seconds', values.seconds, 0.1, 600), warmUp: WARM_UP };
  const complete = !values.smoke && rows.length === ROWS.length && servers.length === SERVERS.length;
  return { rows, servers, complete, ...(values.smoke ? SMOKE : chosen) };
}

function parse(words) {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  try {
    return parseArgs({
      args: words,
      options: {
        rounds: { ...text, default: '3' },
        seconds: { ...text, default: '4' },
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
  const found = new Map();
  for (let round = 0; round < rounds; round += 1) {
    for (const row of rows) {
      for (const server of round % 2 === 0 ? servers : [...servers].reverse()) {
        const measurement = await measure(server, row.load, { warmUp, seconds });
        const key = `${row.name} ${server}`;
        found.set(key, [...(found.get(key) ?? []), measurement]);
        const { rate, cost } = measurement;
        say(`round ${round + 1}/${rounds}, ${row.name}, ${server}: ${Math.round(rate / 1e3)} k/s, ${cost.toFixed(2)} µs`);
      }
    }
  }
  return rows.flatMap((row) =>
    servers.map((server) => ({ row, server, summary: summarize(found.get(`${row.name} ${server}`)) })),
  );
}
