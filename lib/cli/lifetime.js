'use strict';

/** How a shell names the end by a signal: 128 and the signal's number. */
const SIGNAL_STATUS = { SIGINT: 130, SIGTERM: 143 };

/**
 * Closes every running server of this thread, each within its own shutdown timeout.
 *
 * @param {number} code The close code that WebSocket peers get
 * @param {string} reason
 */
async function closeServers(code, reason) {
  const { runningServers } = require('../server');
  await Promise.allSettled([...runningServers].map((server) => server.close({ code, reason })));
}

/**
 * Ties the life of the process to that of its servers.
 *
 * A stray rejection is reported and the servers go on. After an exception that nothing caught the app may be in any state, so
 * it is reported, the servers close with 1011 and the process ends with 1.
 *
 * @param {(text: string) => void} report
 * @returns {{ stop(code: number, reason: string, status: number): Promise<void>, isStopping(): boolean }} `stop` closes the
 * servers and ends the process; only the first call counts
 */
function manageLifetime(report) {
  let stopping = false;
  const stop = async (code, reason, status) => {
    if (stopping) return;
    stopping = true;
    await closeServers(code, reason);
    process.exit(status);
  };
  process.on('unhandledRejection', (reason) => {
    report(`A promise was rejected and nothing handled it: ${detail(reason)}`);
  });
  process.on('uncaughtException', (error) => {
    report(`An exception was thrown and nothing caught it: ${detail(error)}`);
    stop(1011, 'server error', 1);
  });
  return { stop, isStopping: () => stopping };
}

function detail(value) {
  return value?.stack ?? String(value);
}

module.exports = { SIGNAL_STATUS, manageLifetime };
