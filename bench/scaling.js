'use strict';

// `npm run bench:scaling`: what a delivery costs when there are more connections, larger rooms, more rooms; writes bench/scaling.md.

const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Problem, firstLine, main, say } = require('../scripts/steps.js');
const { median } = require('./lib/format.js');
const { BARE_BINARY, BENCH, prepare } = require('./lib/prepare.js');
const { runLoad, stop } = require('./lib/processes.js');
const { AXES } = require('./scaling/axes.js');
const { draw } = require('./scaling/plots.js');
const { markdown, plain } = require('./scaling/report.js');

const RESULTS = path.join(BENCH, 'scaling.md');

/** @type {{ name: string, command: string[], shards?: number }[]} */
const SERVERS = [
  ...[1, 2, 4].map((shards) => ({
    name: `tina4, ${shards} ${shards === 1 ? 'shard' : 'shards'}`,
    command: [process.execPath, path.join(BENCH, 'servers', 'tina4.js')],
    shards,
  })),
  { name: 'bare', command: [BARE_BINARY] },
];

const HELP = `usage: npm run bench:scaling -- [options]
  --rounds N       of everything, 1 to 100 (1)
  --seconds S      of one measurement, 0.1 to 600 (1)
  --only TEXT      axes whose name has this text: ${AXES.map(({ name }) => name).join('; ')}
  --servers TEXT   servers whose name has this text: ${SERVERS.map(({ name }) => name).join('; ')}

bench/scaling.md and its plots are written by runs of all axes and servers.`;

/** Seconds of load before each measurement. */
const WARM_UP = 0.5;
/** Milliseconds. */
const START_TIMEOUT = 20_000;
const LOAD_SLACK = 120_000;

main(async (words) => {
  const options = readOptions(words);
  if (options === null) {
    console.log(HELP);
    return;
  }
  prepare();
  const cores = shareCores();
  const results = await measureAll(options, cores);
  console.log(`\n${plain(results)}`);
  if (!options.complete) return;
  await draw(results, path.join(BENCH, 'plots'));
  fs.writeFileSync(RESULTS, markdown(results, options, cores));
  say(`written to ${path.relative(process.cwd(), RESULTS)}`);
});

/** @returns What to do; null when only the help is asked for */
function readOptions(words) {
  const { values } = parse(words);
  if (values.help) return null;
  const axes = AXES.filter(({ name }) => name.includes(values.only ?? ''));
  const servers = SERVERS.filter(({ name }) => name.includes(values.servers ?? ''));
  if (axes.length === 0 || servers.length === 0) throw new Problem(`Nothing has these names.\n${HELP}`);
  const rounds = number('rounds', values.rounds, 1, 100);
  if (!Number.isInteger(rounds)) throw new Problem(`--rounds is a whole number, not ${values.rounds}.`);
  const complete = axes.length === AXES.length && servers.length === SERVERS.length;
  return { axes, servers, complete, rounds, seconds: number('seconds', values.seconds, 0.1, 600) };
}

function parse(words) {
  const text = { type: 'string' };
  try {
    return parseArgs({
      args: words,
      options: {
        rounds: { ...text, default: '1' },
        seconds: { ...text, default: '1' },
        only: text,
        servers: text,
        help: { type: 'boolean', default: false },
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

/**
 * Puts this process, and with it the load generator, on the first core.
 *
 * @returns {{ all: number }} How many cores there are
 */
function shareCores() {
  const all = os.cpus().length;
  if (all < 2) throw new Problem('This needs two cores: one for the load and one for the server.');
  if (firstLine('taskset', ['--version']) === null) throw new Problem('This needs taskset (Debian: apt-get install util-linux).');
  execFileSync('taskset', ['--cpu-list', '--pid', '0', String(process.pid)], { stdio: 'ignore' });
  return { all };
}

/** The cores of a server: one for its JavaScript and one for each shard, where there are so many. */
function coresOf({ shards = 0 }, { all }) {
  return `1-${Math.min(all - 1, shards + 1)}`;
}

async function measureAll({ axes, servers, rounds, seconds }, cores) {
  const found = new Map();
  for (let round = 0; round < rounds; round += 1) {
    for (const axis of axes) {
      for (const step of axis.steps) {
        for (const server of round % 2 === 0 ? servers : [...servers].reverse()) {
          const measurement = await measure(server, axis.load(step), seconds, cores);
          const key = `${axis.name} ${step} ${server.name}`;
          found.set(key, [...(found.get(key) ?? []), measurement]);
          const { rate, cost } = measurement;
          say(`${axis.name}, ${step}, ${server.name}: ${Math.round(rate / 1e3)} k/s, ${cost.toFixed(2)} µs`);
        }
      }
    }
  }
  return axes.map((axis) => ({
    axis,
    lines: servers.map((server) => ({
      server: server.name,
      points: axis.steps.map((step) => summarize(step, found.get(`${axis.name} ${step} ${server.name}`))),
    })),
  }));
}

function summarize(step, measurements) {
  const of = (name) => median(measurements.map((measurement) => measurement[name]));
  return { step, cost: of('cost'), rate: of('rate'), client: of('client'), others: Math.max(...measurements.map(({ others }) => others)) };
}

/** One measurement of one server in a process of its own. */
async function measure(server, load, seconds, cores) {
  const { child, port } = await start(server, cores);
  try {
    const words = [...load, '--port', port, '--pid', child.pid, '--warm-up', WARM_UP, '--seconds', seconds].map(String);
    const found = await runLoad(words, (WARM_UP + seconds) * 1000 + LOAD_SLACK);
    if (found.lost > 0 || found.extra > 0) {
      throw new Problem(`${server.name} lost ${found.lost} deliveries and made ${found.extra} too many: ${words.join(' ')}`);
    }
    return {
      rate: found.rate,
      cost: (found.server.cpu / found.deliveries) * 1e6,
      client: found.clientCpu / found.seconds,
      others: Math.max(0, found.machineCpu - found.server.cpu - found.clientCpu) / found.seconds,
    };
  } finally {
    await stop(child);
  }
}

/** Starts a server on its own cores. */
async function start(server, cores) {
  const child = spawn('taskset', ['--cpu-list', coresOf(server, cores), ...server.command], {
    cwd: BENCH,
    env: { ...process.env, NODE_ENV: 'production', ...(server.shards && { TINA4_IO_THREADS: String(server.shards) }) },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  const port = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Problem(`${server.name} did not listen within ${START_TIMEOUT / 1000} s.`));
    }, START_TIMEOUT);
    child.stdout.on('data', (chunk) => {
      output += chunk;
      const port = /^port (\d+)$/m.exec(output)?.[1];
      if (port === undefined) return;
      clearTimeout(timer);
      resolve(port);
    });
    child.once('close', () => {
      clearTimeout(timer);
      reject(new Problem(`${server.name} ended before it listened.`));
    });
  });
  return { child, port };
}
