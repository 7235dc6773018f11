'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { UsageError } = require('./environment');
const { describeLoadError } = require('./load-error');
const { LOAD_TIMEOUT, importFile } = require('./load-routes');
const { findEntry } = require('./project');

/** How often to look whether the app has started its server, in milliseconds. */
const START_POLL = 5;

/** The app's own entry failed. The message is for the user: it names the file and the line. */
class LoadError extends Error {}

/**
 * Loads an app and has it listen.
 *
 * `app.ts` or `app.js` runs first. It may start the server itself; when it does not, one is started from the environment.
 *
 * @param {string} directory The app's folder
 * @returns {Promise<object[]>} The running servers, at least one
 * @throws {LoadError} When the app's entry fails
 * @throws {Error} When a server cannot start
 */
async function startApp(directory) {
  // The engine's binary is loaded only now, so that `--help` works without it.
  const { runningServers, startServer } = require('../server');
  const entry = findEntry(directory);
  if (entry) await runEntry(entry, directory, runningServers);
  if (runningServers.size === 0) {
    await startServer();
  }
  const servers = [...runningServers];
  await Promise.all(servers.map((server) => server.started));
  return servers;
}

async function runEntry(entry, directory, runningServers) {
  try {
    await importFile(entry);
  } catch (error) {
    throw new LoadError(describeLoadError(error, entry, directory), { cause: error });
  }
  if (!startsItself(directory)) return;
  // A CommonJS entry cannot await at its top level: it may still be connecting to something before it starts its server.
  const deadline = Date.now() + LOAD_TIMEOUT;
  while (runningServers.size === 0 && Date.now() < deadline) await sleep(START_POLL);
  if (runningServers.size === 0) {
    const name = path.basename(entry);
    throw new LoadError(`${name} mentions startServer, but has started no server within ${LOAD_TIMEOUT / 1000} s.`);
  }
}

/**
 * Whether the app's own entry starts the server, as far as its text tells.
 *
 * @param {string} directory The app's folder
 * @returns {boolean}
 */
function startsItself(directory) {
  const entry = findEntry(directory);
  if (!entry) return false;
  const code = fs.readFileSync(entry, 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*/g, '');
  return /\bstartServer\s*\(/.test(code);
}

/**
 * Says why a server could not start.
 *
 * @param {Error & { code?: string }} error
 * @returns {string} One sentence, or what says where the app's own code failed
 */
function describeStartError(error) {
  // Only these are written for the user as they are; anything else came out of the app or of the system.
  const isSentence =
    error instanceof UsageError || error instanceof LoadError || error.code === 'ERR_TINA4_NATIVE' || error.cause?.code;
  return isSentence ? error.message : `The server could not start: ${error.message ?? error}`;
}

function authority(host, port) {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * What the user sees when the server is ready.
 *
 * @param {{ host: string, port: number }} where
 * @param {number} [workers] How many processes serve
 * @returns {string} Without a newline at the end
 */
function banner({ host, port }, workers = 1) {
  const { version } = require('../../package.json');
  const at = authority(host, port);
  const lines = [
    `  Tina4 Node.js v${version}`,
    `  HTTP server running at http://${at}`,
    `  WebSocket server running at ws://${at}`,
    '  Press Ctrl+C to stop',
  ];
  if (workers > 1) lines.splice(-1, 0, `  Served by ${workers} workers`);
  return lines.join('\n');
}

module.exports = { LoadError, banner, describeStartError, startApp, startsItself };
