'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { UsageError } = require('./environment');
const { describeLoadError } = require('./load-error');
const { LOAD_TIMEOUT, importFile, loadRoutes } = require('./load-routes');
const { findEntry, routesDirectory } = require('./project');

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
 * @param {{ error(text: string): void }} log
 * @returns {Promise<object[]>} The running servers, at least one
 * @throws {LoadError} When the app's entry fails
 * @throws {Error} When a server cannot start
 */
async function startApp(directory, log) {
  // The engine's binary is loaded only now, so that `--help` works without it.
  const { runningServers, startServer } = require('../server');
  const entry = findEntry(directory);
  if (entry) await runEntry(entry, directory, runningServers);
  if (runningServers.size === 0) {
    await loadRoutes(routesDirectory(directory), log);
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
  if (!mentionsStart(entry)) return;
  // A CommonJS entry cannot await at its top level: it may still be connecting to something before it starts its server.
  const deadline = Date.now() + LOAD_TIMEOUT;
  while (runningServers.size === 0 && Date.now() < deadline) await sleep(START_POLL);
  if (runningServers.size === 0) {
    const name = path.basename(entry);
    throw new LoadError(`${name} mentions startServer, but has started no server within ${LOAD_TIMEOUT / 1000} s.`);
  }
}

function mentionsStart(entry) {
  const code = fs.readFileSync(entry, 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*/g, '');
  return /\bstartServer\s*\(/.test(code);
}

const LISTEN_PROBLEMS = {
  EADDRINUSE: 'the port is already in use; stop what uses it, or choose another one with --port or TINA4_PORT',
  EACCES: 'this user may not use the port; choose one from 1024 up with --port or TINA4_PORT',
  EADDRNOTAVAIL: 'this machine has no such address; choose another one with --host or TINA4_HOST',
};

/**
 * Says in one sentence why a server could not start.
 *
 * @param {Error & { code?: string }} error
 * @param {{ host: string, port: number }} [where] Where it was to listen, when the error itself does not say
 * @returns {string}
 */
function describeStartError(error, where) {
  if (error instanceof UsageError || error instanceof LoadError || error.code === 'ERR_TINA4_NATIVE') return error.message;
  const problem = LISTEN_PROBLEMS[error.code];
  if (!problem) return `The server could not start: ${error.message}`;
  const host = error.host ?? where?.host;
  const port = error.port ?? where?.port;
  return host === undefined ? `Cannot listen: ${problem}.` : `Cannot listen on ${authority(host, port)}: ${problem}.`;
}

function authority(host, port) {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * What the user sees when the server is ready.
 *
 * @param {{ host: string, port: number }} where
 * @returns {string} Without a newline at the end
 */
function banner({ host, port }) {
  const { version } = require('../../package.json');
  const at = authority(host, port);
  return [
    `  Tina4 Node.js v${version}`,
    `  HTTP server running at http://${at}`,
    `  WebSocket server running at ws://${at}`,
    '  Press Ctrl+C to stop',
  ].join('\n');
}

module.exports = { LoadError, banner, describeStartError, startApp };
