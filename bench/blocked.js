'use strict';

// `npm run bench:blocked`: what still arrives while the JavaScript thread of a server is blocked; writes bench/blocked.md.

const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const { Problem, main, say } = require('../scripts/steps.js');
const { startRedis, subscribers } = require('./backplane/lib/redis.js');
const { machine, markdownTable, plainTable, thisVersion } = require('./lib/format.js');
const { BENCH, installedVersion, prepare } = require('./lib/prepare.js');
const { runLoad, startServer, stop } = require('./lib/processes.js');

const RESULTS = path.join(BENCH, 'blocked.md');
const SERVERS = ['tina4', 'ws'];
/** Milliseconds. */
const BLOCK = 2000;
const SUBSCRIBE_TIMEOUT = 10_000;
const LOAD_TIMEOUT = 90_000;
/** Milliseconds that the slowest hundredth may take. */
const TARGET = 10;

/**
 * What arrives. `ports` are those of the server that is blocked, and of another one on the same backplane.
 *
 * @type {{ name: string, backplane?: boolean, load: (ports: number[]) => (string|number)[], pick: (found: object) => object }[]}
 */
const ROWS = [
  {
    name: 'pongs: 5,000 pings a second over 200 connections',
    load: ([port]) => ['rate', '--path', '/echo', '--port', port, '--connections', 200, '--rate', 5000, '--with', 'pings', '--warm-up', 1, '--seconds', BLOCK / 1000, '--block', BLOCK],
    pick: ({ latency, block }) => ({ latency, blocked: block.took }),
  },
  {
    name: 'a broadcast to 1,000, made 2 ms before',
    load: ([port]) => ['last', '--path', '/room', '--port', port, '--connections', 1000, '--block', BLOCK, '--gap', 2],
    pick: ({ latency, block }) => ({ latency, blocked: Math.min(...block) }),
  },
  {
    name: 'a broadcast to 1,000, made right before',
    load: ([port]) => ['last', '--path', '/room', '--port', port, '--connections', 1000, '--block', BLOCK],
    pick: ({ latency, block }) => ({ latency, blocked: Math.min(...block) }),
  },
  {
    name: 'another process broadcasts 500 times a second to 50 connections',
    backplane: true,
    load: ([port, other]) => ['relay', '--path', '/room', '--port', other, '--to', port, '--connections', 50, '--rate', 500, '--warm-up', 1, '--seconds', BLOCK / 1000, '--block', BLOCK],
    pick: ({ far, block }) => ({ latency: far, blocked: block }),
  },
];

const HELP = `usage: npm run bench:blocked -- [--servers NAMES]
  --servers NAMES  ${SERVERS.join(',')} by default

bench/blocked.md is written by runs of all servers.`;

main(async (words) => {
  const { values } = parse(words);
  if (values.help) {
    console.log(HELP);
    return;
  }
  const servers = values.servers?.split(',') ?? SERVERS;
  const unknown = servers.find((name) => !SERVERS.includes(name));
  if (unknown !== undefined) throw new Problem(`There is no server ${JSON.stringify(unknown)}. There are: ${SERVERS.join(', ')}.`);
  prepare();
  const results = [];
  for (const row of ROWS) {
    for (const server of servers) {
      const found = { row, server, ...(await measure(server, row)) };
      results.push(found);
      say(`${row.name}, ${server}: p99 ${milliseconds(found.latency.p99)} ms`);
    }
  }
  console.log(`\n${plainTable(table(results))}`);
  if (servers.length !== SERVERS.length) return;
  fs.writeFileSync(RESULTS, markdown(results));
  say(`written to ${path.relative(process.cwd(), RESULTS)}`);
});

function parse(words) {
  try {
    return parseArgs({ args: words, options: { servers: { type: 'string' }, help: { type: 'boolean', default: false } } });
  } catch (error) {
    throw new Problem(`${error.message}\n${HELP}`);
  }
}

/** @returns {Promise<{ latency: { p50: number, p99: number, max: number }, blocked: number }>} Microseconds; milliseconds */
async function measure(server, { name, backplane, load, pick }) {
  const redis = backplane ? await startRedis() : null;
  const started = [];
  try {
    const file = path.join(BENCH, 'blocked', 'servers', `${server}.js`);
    for (let count = 0; count < (redis ? 2 : 1); count += 1) started.push(await startServer([process.execPath, file, ...(redis ? [redis.url] : [])]));
    if (redis) await bothSubscribed(server, redis);
    const found = await runLoad(load(started.map(({ port }) => port)).map(String), LOAD_TIMEOUT);
    if (found.lost > 0 || found.extra > 0) throw new Problem(`${server}, ${name}: ${found.lost} lost, ${found.extra} too many.`);
    const picked = pick(found);
    if (!(picked.blocked >= BLOCK)) throw new Problem(`${server} was blocked for ${picked.blocked} ms only.`);
    return picked;
  } finally {
    for (const { child } of started) await stop(child);
    await redis?.end();
  }
}

async function bothSubscribed(server, redis) {
  const deadline = Date.now() + SUBSCRIBE_TIMEOUT;
  while ((await subscribers(redis)) < 2) {
    if (Date.now() > deadline) throw new Problem(`${server}: the two servers have not subscribed within ${SUBSCRIBE_TIMEOUT / 1000} s.`);
    await sleep(20);
  }
}

function table(results) {
  const lines = results.map(({ row, server, latency }) => [
    row.name, server, ...['p50', 'p99', 'max'].map((name) => milliseconds(latency[name])), latency.p99 < TARGET * 1000 ? 'yes' : 'no',
  ]);
  return [['what arrives', 'server', 'p50 ms', 'p99 ms', 'max ms', `p99 under ${TARGET} ms`], ...lines];
}

function milliseconds(microseconds) {
  const number = microseconds / 1000;
  return number < 10 ? number.toFixed(2) : number.toFixed(0);
}

function markdown(results) {
  return `# While the JavaScript thread is blocked

Written by \`npm run bench:blocked\`. A handler keeps the thread busy for ${BLOCK / 1000} s, as a loop over too much data does, and the clock
runs for everything that is on its way meanwhile: from when a ping was due, or a broadcast was sent, until it is there.

- ${machine()}
- Node.js ${process.versions.node}, ${thisVersion(['bench/blocked', 'bench/blocked.js', 'bench/load'])}, ${['ws', 'ioredis'].map((name) => `${name} ${installedVersion(name)}`).join(', ')}
- ${new Date().toISOString().slice(0, 10)}

${markdownTable(table(results))}

The pings and the other process's broadcasts are those of the ${BLOCK / 1000} s; the broadcasts before it were made five times. "Right before" is
a message to the room and the request that blocks on another connection, one behind the other, so that the server may find both at once.
`;
}
