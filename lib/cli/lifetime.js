'use strict';

const { createLog } = require('../log');

/** How a shell names the end by a signal: 128 and the signal's number. */
const SIGNAL_STATUS = { SIGINT: 130, SIGTERM: 143 };

/** npm and npx pass on a Ctrl+C that the terminal has told this process already: a signal this soon after, in milliseconds, is the same. */
const SAME_SIGNAL = 500;

/**
 * Calls `first` at the first SIGINT or SIGTERM, and `second` at one that comes after it in earnest.
 *
 * @param {(signal: NodeJS.Signals) => void} first
 * @param {(signal: NodeJS.Signals, status: number) => void} second Gets the exit code too
 */
function onSignals(first, second) {
  let since = null;
  for (const [signal, status] of Object.entries(SIGNAL_STATUS)) {
    process.on(signal, () => {
      if (since === null) {
        since = performance.now();
        first(signal);
      } else if (performance.now() - since > SAME_SIGNAL) {
        second(signal, status);
      }
    });
  }
}

/**
 * Closes every server of this thread that listens, each within its own shutdown timeout.
 *
 * @param {number} code The close code that WebSocket peers get
 * @param {string} reason
 */
async function closeServers(code, reason) {
  const { runningServers } = require('../server');
  // One that does not listen yet has nobody to say goodbye to, and may be waiting for a route file that never finishes loading.
  const listening = [...runningServers].filter((server) => server.port !== 0);
  await Promise.allSettled(listening.map((server) => server.close({ code, reason })));
}

/**
 * Ties the life of the process to that of its servers. The environment is complete by now: it says how to log.
 *
 * A stray rejection is reported and the servers go on. After an exception that nothing caught the app may be in any state, so
 * it is reported, the servers close with 1011 and the process ends with 1.
 *
 * @returns {{ stop(code: number, reason: string, status: number): Promise<void>, isStopping(): boolean }} `stop` closes the
 * servers and ends the process; only the first call counts
 */
function manageLifetime() {
  const log = createLog({ format: process.env.TINA4_LOG_FORMAT });
  let stopping = false;
  const stop = async (code, reason, status) => {
    if (stopping) return;
    stopping = true;
    await closeServers(code, reason);
    process.exit(status);
  };
  process.on('unhandledRejection', (reason) => {
    log.error('A promise was rejected and nothing handled it', reason);
  });
  process.on('uncaughtException', (error) => {
    log.error('An exception was thrown and nothing caught it; the server closes', error);
    stop(1011, 'server error', 1);
  });
  return { stop, isStopping: () => stopping };
}

module.exports = { SIGNAL_STATUS, manageLifetime, onSignals };
