'use strict';

// `tina4 serve` as a user runs it: any arguments, in an app made of the files that a test writes.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { Peer, ROOT, makeApp, until } = require('./served');

const CLI = path.join(ROOT, 'bin', 'tina4.js');
const EXIT_TIMEOUT = 15_000;

const apps = new Set();
const processes = new Set();

/**
 * A new app folder that finds this package.
 *
 * @param {Record<string, string>} files Contents by path
 * @returns {{ directory: string, write(name: string, text: string): void }}
 */
function newApp(files) {
  const app = makeApp({});
  apps.add(app);
  app.write = (name, text) => {
    const file = path.join(app.directory, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  };
  for (const [name, text] of Object.entries(files)) app.write(name, text);
  return app;
}

/**
 * Runs the CLI in an app's folder.
 *
 * @param {string} directory
 * @param {string[]} args Without `--host`, which is this machine's own
 * @param {{ env?: object, cli?: string }} [options]
 */
function tina4(directory, args, { env = {}, cli = CLI } = {}) {
  const { NODE_ENV, ...inherited } = process.env;
  const child = spawn(process.execPath, [cli, ...args], {
    cwd: directory,
    env: { ...inherited, TINA4_HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, so that a supervisor's child goes with it.
    detached: true,
  });
  const run = { child, stdout: '', stderr: '', gone: false };
  processes.add(run);
  child.stdout.setEncoding('utf8').on('data', (text) => (run.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (run.stderr += text));
  const closed = new Promise((resolve) => {
    child.once('close', (code, signal) => {
      run.gone = true;
      resolve({ code, signal });
    });
  });
  /** Everything it has printed. */
  run.output = () => run.stdout + run.stderr;
  /** Resolves with its exit; rejects when it goes on. */
  run.exit = async () => {
    await until(
      () => run.gone,
      () => `the CLI to end, got:\n${run.output()}`,
      EXIT_TIMEOUT,
    );
    return closed;
  };
  /** Waits until it has printed something that fits. */
  run.says = (pattern, times = 1) =>
    until(
      () => {
        const found = run.output().match(new RegExp(pattern.source, `${pattern.flags.replace('g', '')}g`))?.length ?? 0;
        if (found < times && run.gone) throw new Error(`the CLI ended instead of saying ${pattern}:\n${run.output()}`);
        return found >= times;
      },
      () => `${pattern}, got:\n${run.output()}`,
      EXIT_TIMEOUT,
    );
  /** Waits until it listens. */
  run.ready = async () => {
    await run.says(/Press Ctrl\+C to stop/);
    run.port = Number(/http:\/\/.*:(\d+)$/m.exec(run.stdout)[1]);
    return run;
  };
  run.fetch = async (target, host = '127.0.0.1', attempts = 3) => {
    try {
      return await (await fetch(`http://${host}:${run.port}${target}`)).text();
    } catch (error) {
      // A process that is being replaced closes idle connections, which this client may be about to use again. It must
      // never be refused.
      if (error.cause?.code !== 'UND_ERR_SOCKET' || attempts === 1 || run.gone) throw error;
      return run.fetch(target, host, attempts - 1);
    }
  };
  /** Connects a peer. A process that is being replaced cuts connections that have asked for nothing yet; then it tries again. */
  run.connect = async (target, attempts = 3) => {
    try {
      return await Peer.connect(run, target);
    } catch (error) {
      if (!/ECONNRESET|socket hang up/.test(error.message) || attempts === 1) throw error;
      return run.connect(target, attempts - 1);
    }
  };
  /** Its processes. */
  run.children = () =>
    fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  /** Waits until it has so many processes: those that were replaced serve until they are told, and end later still. */
  run.hasChildren = (count) =>
    until(
      () => run.children().length === count,
      () => `${count} processes, have ${run.children()}, got:\n${run.output()}`,
      EXIT_TIMEOUT,
    );
  /** Sends a signal until it is taken in earnest, which one soon after the first is not. */
  run.insist = async (signal) => {
    await until(
      async () => {
        run.child.kill(signal);
        await new Promise((resolve) => setTimeout(resolve, 200));
        return run.gone;
      },
      () => `the CLI to end, got:\n${run.output()}`,
      EXIT_TIMEOUT,
    );
    return run.exit();
  };
  return run;
}

/** A port that nobody listens on. */
async function freePort() {
  const holder = await holdPort();
  await holder.release();
  return holder.port;
}

/** Listens on a free port of this machine. */
async function holdPort() {
  const holder = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => holder.once('listening', resolve));
  const { port } = holder.address();
  return { port, release: () => new Promise((resolve) => holder.close(resolve)) };
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Ends and removes what a test left behind. */
async function cleanUp() {
  for (const run of processes) {
    try {
      process.kill(-run.child.pid, 'SIGKILL');
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
    await run.exit();
  }
  processes.clear();
  for (const app of apps) app.remove();
  apps.clear();
}

/** A route file that answers `GET path` with `text`. */
function answering(route, text) {
  return `import { Router } from "tina4-nodejs";\nRouter.get("${route}", (req, res) => res.text("${text}"));\n`;
}

module.exports = { answering, cleanUp, freePort, holdPort, isAlive, newApp, tina4 };
