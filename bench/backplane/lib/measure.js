'use strict';

const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { Problem } = require('../../../scripts/steps.js');
const { runLoad, startServer, stop } = require('../../lib/processes.js');
const { startRedis, subscribers, traffic } = require('./redis.js');
const { SERVERS } = require('./rows.js');

/** Milliseconds two servers have to subscribe. */
const SUBSCRIBE_TIMEOUT = 10_000;
/** Milliseconds the load may take beside its warm-up and its measurement: connecting, and waiting for what is under way. */
const LOAD_SLACK = 60_000;

/**
 * What one run of the load found. Costs are CPU microseconds of all threads for each envelope.
 *
 * @typedef {object} Found
 * @property {number} rate Envelopes in a second that all of B's clients have received
 * @property {number} costA
 * @property {number} costB
 * @property {number} costRedis
 * @property {number} bytesIn What Redis received for each envelope
 * @property {number} bytesOut
 * @property {number} client Share of one core that the load generator used
 * @property {number} others The same for what is neither the bench nor Redis
 * @property {{ p50: number, p99: number }|null} near Microseconds from when a message was due until A's own client had it; null
 *   without a pace
 * @property {{ p50: number, p99: number }|null} far The same for B's clients
 */

/**
 * Starts Redis and two servers, puts a row's load on them and ends them.
 *
 * @param {string} server Name of a file in `servers/`
 * @param {typeof import('./rows.js').ROWS[0]} row
 * @param {{ warmUp: number, seconds: number }} time In seconds
 * @returns {Promise<{ full: Found, paced: Found }>}
 * @throws {Problem} when a server or the load fails, or when messages were lost or came twice
 */
async function measure(server, row, time) {
  const redis = await startRedis();
  const started = [];
  try {
    const file = path.join(__dirname, '..', 'servers', `${server}.js`);
    for (let count = 0; count < 2; count += 1) started.push(await startServer([process.execPath, file, redis.url]));
    await bothSubscribed(server, redis);
    const nodes = { redis, a: started[0], b: started[1], load: SERVERS[server].load };
    const shape = ['--connections', row.clients, '--bytes', row.bytes];
    // The paced load is the second one, so that V8 has compiled the handlers.
    const full = await putLoad(nodes, [...shape, '--in-flight', row.inFlight], time);
    const paced = await putLoad(nodes, [...shape, '--rate', row.rate], time);
    return { full, paced };
  } finally {
    for (const { child } of started) await stop(child);
    await redis.end();
  }
}

async function bothSubscribed(server, redis) {
  const deadline = Date.now() + SUBSCRIBE_TIMEOUT;
  while ((await subscribers(redis)) < 2) {
    if (Date.now() > deadline) throw new Problem(`${server}: the two servers have not subscribed within ${SUBSCRIBE_TIMEOUT / 1000} s.`);
    await sleep(20);
  }
}

async function putLoad({ redis, a, b, load }, shape, { warmUp, seconds }) {
  const processes = [a.child.pid, b.child.pid, redis.pid].flatMap((pid) => ['--pid', pid]);
  const words = ['relay', '--port', a.port, '--to', b.port, ...load, ...shape, ...processes, '--warm-up', warmUp, '--seconds', seconds]
    .map(String);
  const before = await traffic(redis);
  const found = await runLoad(words, (warmUp + seconds) * 1000 + LOAD_SLACK);
  const after = await traffic(redis);
  if (found.lost > 0 || found.extra > 0) {
    throw new Problem(`${found.lost} deliveries were lost and ${found.extra} made twice: load ${words.join(' ')}`);
  }
  const envelopes = found.deliveries / found.connections;
  const [costA, costB, costRedis] = found.servers.map((cpu) => (cpu / envelopes) * 1e6);
  const used = found.servers.reduce((sum, cpu) => sum + cpu, found.clientCpu);
  return {
    rate: envelopes / found.seconds,
    costA,
    costB,
    costRedis,
    bytesIn: (after.received - before.received) / found.sent,
    bytesOut: (after.sent - before.sent) / found.sent,
    client: found.clientCpu / found.seconds,
    others: Math.max(0, found.machineCpu - used) / found.seconds,
    near: found.near,
    far: found.far,
  };
}

module.exports = { measure };
