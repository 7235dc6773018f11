'use strict';

const { Problem } = require('../../scripts/steps.js');
const { runLoad, startServer, stop } = require('./processes.js');
const { SERVERS } = require('./servers.js');

/** Milliseconds the load may take beside its warm-up and its measurement: connecting, and waiting for what is under way. */
const LOAD_SLACK = 120_000;

/**
 * One measurement of one server in a process of its own, where time counts.
 *
 * @typedef {object} Work
 * @property {number} rate Of the row's unit in a second
 * @property {number} cost CPU microseconds of the server for each of them, all threads
 * @property {number} mainShare Share of that on the server's main thread, which runs the JavaScript (0 to 1)
 * @property {number} client Share of one core that the load generator used
 * @property {number} others Share of one core that neither server nor load generator used
 * @property {{p50: number, p90: number, p99: number, p999: number, max: number}|null} latency Microseconds: from when a message was
 *   due in an open loop, else for one under way in each connection
 */

/**
 * The same where memory counts. All numbers are bytes for one connection; the kernel's are those of the server's end.
 *
 * @typedef {object} Memory
 * @property {number} open
 * @property {number} kernelOpen
 * @property {number} after When each has sent and received a message
 * @property {number} kernelAfter
 * @property {boolean} settled Whether the memory was steady when it was taken
 */

/**
 * Starts a server, puts a row's load on it and stops it.
 *
 * @param {string} server
 * @param {import('./rows.js').Row} row
 * @param {object} time
 * @param {number} time.warmUp Seconds
 * @param {number} time.seconds Seconds
 * @returns {Promise<Work|Memory>}
 * @throws {Problem} when the server or the load fails, or when messages were lost or came twice
 */
async function measure(server, row, time) {
  const { command, speaks } = SERVERS[server];
  const { child, port } = await startServer(command);
  try {
    const route = row.route === null ? [] : speaks(row.route);
    const options = Object.entries(row.options).flatMap(([option, value]) => [`--${option}`, value]);
    const { times = 1, warmUps = 1, least = 0 } = row;
    const warmUp = time.warmUp * warmUps;
    const seconds = Math.max(time.seconds * times, least);
    const words = [row.work, ...route, ...options, '--port', port, '--pid', child.pid, '--warm-up', warmUp, '--seconds', seconds];
    const found = await runLoad(words.map(String), (warmUp + seconds) * 1000 + LOAD_SLACK);
    return row.kind === 'memory' ? memory(found) : work(found, `${server}: ${words.join(' ')}`);
  } finally {
    await stop(child);
  }
}

function work(found, what) {
  if (found.lost > 0 || found.extra > 0) {
    throw new Problem(`${found.lost} deliveries were lost and ${found.extra} too many, ${what}`);
  }
  return {
    rate: found.rate,
    cost: (found.server.cpu / found.deliveries) * 1e6,
    mainShare: found.server.cpu > 0 ? found.server.mainThread / found.server.cpu : 0,
    client: found.clientCpu / found.seconds,
    others: Math.max(0, found.machineCpu - found.server.cpu - found.clientCpu) / found.seconds,
    latency: found.latency,
  };
}

function memory({ connections, rssBefore, rssOpen, rssAfter, kernelOpen, kernelAfter, settled }) {
  return {
    open: (rssOpen - rssBefore) / connections,
    kernelOpen: kernelOpen / connections,
    after: (rssAfter - rssBefore) / connections,
    kernelAfter: kernelAfter / connections,
    settled,
  };
}

module.exports = { measure };
