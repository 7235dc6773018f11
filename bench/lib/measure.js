'use strict';

const path = require('node:path');
const { Problem } = require('../../scripts/steps.js');
const { BENCH } = require('./prepare.js');
const { runLoad, startServer, stop } = require('./processes.js');

/** Milliseconds the load may take beside its warm-up and its measurement: connecting, and waiting for what is under way. */
const LOAD_SLACK = 60_000;

/**
 * One measurement of one server in a process of its own.
 *
 * @typedef {object} Measurement
 * @property {number} rate Messages (echo) or deliveries (broadcast) in a second
 * @property {number} cost CPU microseconds of the server for each of them, all threads
 * @property {number} mainShare Share of that on the server's main thread, which runs the JavaScript (0 to 1)
 * @property {number} client Share of one core that the load generator used
 * @property {number} others Share of the machine that neither server nor load generator used
 * @property {{p50: number, p90: number, p99: number, p999: number, max: number}|null} latency Microseconds, for one message
 *   under way in each connection
 */

/**
 * Starts a server, puts a row's load on it and stops it.
 *
 * @param {string} server Name of a file in `servers/`
 * @param {string[]} load Words for the load generator
 * @param {object} time
 * @param {number} time.warmUp Seconds
 * @param {number} time.seconds Seconds
 * @returns {Promise<Measurement>}
 * @throws {Problem} when the server or the load fails, or when messages were lost or came twice
 */
async function measure(server, load, { warmUp, seconds }) {
  const { child, port } = await startServer(path.join(BENCH, 'servers', `${server}.js`));
  try {
    const words = [...load, '--port', port, '--pid', child.pid, '--warm-up', warmUp, '--seconds', seconds].map(String);
    const found = await runLoad(words, (warmUp + seconds) * 1000 + LOAD_SLACK);
    if (found.lost > 0 || found.extra > 0) {
      throw new Problem(`${server} lost ${found.lost} deliveries and made ${found.extra} too many: ${words.join(' ')}`);
    }
    return {
      rate: found.rate,
      cost: (found.server.cpu / found.deliveries) * 1e6,
      mainShare: found.server.cpu > 0 ? found.server.mainThread / found.server.cpu : 0,
      client: found.clientCpu / found.seconds,
      others: Math.max(0, found.machineCpu - found.server.cpu - found.clientCpu) / found.seconds,
      latency: found.latency,
    };
  } finally {
    await stop(child);
  }
}

module.exports = { measure };
