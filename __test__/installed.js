'use strict';

// The package as a user gets it: packed, installed into a new folder where there is no Rust, and started with npx.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { execFile, spawn } = require('node:child_process');
const { promisify } = require('node:util');
const { pack } = require('../scripts/pack');
const { until } = require('./served');

const execute = promisify(execFile);

const START_TIMEOUT = 30_000;
/** What a machine that only runs Node has. */
const PROGRAMS = ['node', 'npm', 'npx', 'sh'];

const running = new Set();

/**
 * Packs the checkout and installs the tarball into a new folder, without install scripts and without a compiler in PATH.
 *
 * @returns {Promise<{ directory: string, environment(env?: object): object, node(args: string[], env?: object): Promise<string>, remove(): void }>}
 * `environment` is that of a machine without Rust; `node` runs Node in the folder and gives what it printed
 */
async function install() {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-installed-'));
  const [bin, directory] = ['bin', 'app'].map((name) => {
    fs.mkdirSync(path.join(root, name));
    return path.join(root, name);
  });
  for (const name of PROGRAMS) fs.symlinkSync(name === 'node' ? process.execPath : programInPath(name), path.join(bin, name));
  const environment = (more) => ({ ...process.env, NODE_ENV: '', NODE_OPTIONS: '', TINA4_SECRET: '', ...more, PATH: bin });

  const tarball = pack(path.join(root, 'packed'));
  await execute(
    path.join(bin, 'npm'),
    ['install', tarball, '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'],
    { cwd: directory, env: environment() },
  );
  return {
    directory,
    environment,
    node: async (args, env) => (await execute(path.join(bin, 'node'), args, { cwd: directory, env: environment(env) })).stdout,
    remove: () => fs.rmSync(root, { recursive: true, force: true }),
  };
}

function programInPath(name) {
  const file = process.env.PATH.split(path.delimiter).map((folder) => path.join(folder, name)).find((each) => fs.existsSync(each));
  if (!file) throw new Error(`This test needs ${name} in PATH.`);
  return fs.realpathSync(file);
}

/**
 * Runs `npx tina4 serve` on a free port in an installed app, and resolves once it listens.
 *
 * @param {Awaited<ReturnType<typeof install>>} app
 * @param {{ development?: boolean, env?: object }} [options]
 */
async function npxServe(app, { development = false, env = {} } = {}) {
  const args = ['tina4', 'serve', '--host', '127.0.0.1', '--port', '0', ...(development ? [] : ['--production'])];
  const variables = app.environment(env);
  const child = spawn(path.join(variables.PATH, 'npx'), args, {
    cwd: app.directory,
    env: variables,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, as a terminal gives it, so that an interrupt reaches npx, its shell and the server.
    detached: true,
  });
  const server = { output: '', port: 0, origin: '' };
  // The pipes close when the last process of the group has ended; npx itself ends before the server.
  const ended = new Promise((resolve) => child.once('close', () => {
    running.delete(server);
    resolve();
  }));
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => { server.output += text; });
  }
  const signal = (name) => {
    try {
      process.kill(-child.pid, name);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
    return ended;
  };
  /** What Ctrl+C does; resolves when nothing of it runs any more. */
  server.interrupt = () => signal('SIGINT');
  server.kill = () => signal('SIGKILL');
  running.add(server);
  await until(() => {
    if (child.exitCode !== null) throw new Error(`npx tina4 serve ended with ${child.exitCode}:\n${server.output}`);
    return /Press Ctrl\+C to stop/.test(server.output);
  }, () => `the banner, got:\n${server.output}`, START_TIMEOUT);
  server.port = Number(/HTTP server running at http:\/\/[^\s]*:(\d+)/.exec(server.output)[1]);
  server.origin = `http://127.0.0.1:${server.port}`;
  return server;
}

/** Ends what a failed test left running. */
async function killAll() {
  await Promise.all([...running].map((server) => server.kill()));
}

module.exports = { install, killAll, npxServe };
