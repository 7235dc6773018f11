'use strict';

const { Command, InvalidArgumentError } = require('commander');
const { version } = require('../../package.json');
const { MAX_PORT, MAX_WORKERS, UsageError, parsePort, parseWorkers, settings, workerCount } = require('./environment');
const { manageLifetime, onSignals } = require('./lifetime');
const { problemWith } = require('./project');
const { banner, describeStartError, startApp } = require('./serve');
const { isDevelopment } = require('../settings');

/**
 * The command line: `tina4 serve`, `tina4 --version`, `tina4 --help`.
 *
 * @param {string[]} argv As `process.argv`
 */
function run(argv) {
  const program = new Command('tina4')
    .description('Serves HTTP routes, WebSocket routes, templates and static files on one port')
    .version(version)
    .showHelpAfterError('(tina4 --help lists what there is)');
  program
    .command('serve')
    .description('serve the app in this folder')
    .option('-p, --port <number>', 'port to listen on (default: TINA4_PORT, PORT or 7148)', portOption)
    .option('-H, --host <address>', 'address to listen on (default: TINA4_HOST, HOST or 0.0.0.0)')
    .option('-w, --workers <number>', 'processes that serve it, auto: one for each core (default: TINA4_WORKERS or 1)', workersOption)
    .option('--production', 'run without reloading, and hide errors from clients (also: NODE_ENV=production or TINA4_PRODUCTION=true)')
    .option('--no-reload', 'do not restart when a file changes')
    .action((options) => serve(process.cwd(), options));
  program.parse(argv);
}

function portOption(text) {
  const port = parsePort(text);
  if (port === null) throw new InvalidArgumentError(`It must be a whole number from 0 to ${MAX_PORT}.`);
  return port;
}

function workersOption(text) {
  const count = parseWorkers(text);
  if (count === null) throw new InvalidArgumentError(`It must be a whole number from 1 to ${MAX_WORKERS}, or auto.`);
  return count;
}

async function serve(directory, options) {
  try {
    const problem = problemWith(directory);
    if (problem) throw new UsageError(problem);
    const variables = settings(directory, options);
    const workers = workerCount(variables);
    if (workers > 1 && process.platform === 'win32') {
      throw new UsageError('Several workers cannot share a port on Windows: leave out --workers and TINA4_WORKERS, or say 1.');
    }
    // Watching and workers need packages and the engine's binary; serving without them does not.
    if (isDevelopment(variables) && options.reload) require('./develop').developApp(directory, options, workers);
    else if (workers > 1) require('./workers').serveWithWorkers(directory, options, workers);
    else await serveHere(directory, variables);
  } catch (error) {
    fail(describeStartError(error));
  }
}

/** Serves the app in this process, until a signal. */
async function serveHere(directory, variables) {
  Object.assign(process.env, variables);
  // For users' packages, which know no other switch.
  process.env.NODE_ENV ||= isDevelopment(variables) ? 'development' : 'production';
  const life = manageLifetime();
  onSignals(
    () => life.stop(1001, 'server is shutting down', 0),
    (signal, status) => process.exit(status),
  );
  const [server] = await startApp(directory);
  if (!life.isStopping()) console.log(banner(server));
}

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}

module.exports = { run };
