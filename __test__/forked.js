'use strict';

// A server in a process of its own, so that its memory can be measured and its thread blocked without the peers that do it.

const fs = require('node:fs');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { ROOT } = require('./served');
const { connect, sleep } = require('./support.js');

/** Milliseconds for what must come, on a machine that has other things to do. */
const WAIT = 20_000;
/** What an engine counts of its peers. */
const OF_PEERS = ['buffered', 'topics', 'sockets', 'connections', 'members', 'registered', 'requests'];

const running = new Set();

/**
 * Runs `program` in another process and resolves once its server listens.
 *
 * @param {(Router: object, given: object) => void} program Registers routes; its source is what runs there, so that it sees
 * nothing of this file but `given`, and `collect()`, which runs the garbage collector
 * @param {{ config?: object, given?: object, files?: number }} [options] Of `startServer`; JSON values for the program; how many
 * files and sockets the process may have open
 */
async function forkServer(program, { config = {}, given = {}, files } = {}) {
  const source = `
    const fs = require('node:fs');
    const { setFlagsFromString } = require('node:v8');
    setFlagsFromString('--expose-gc');
    const collect = require('node:vm').runInNewContext('gc');
    const { Router, startServer } = require(${JSON.stringify(ROOT)});
    // No public call gives the engine's own counts.
    const { Engine } = require(${JSON.stringify(path.join(ROOT, 'lib', 'native.js'))});
    const { listen } = Engine.prototype;
    let engine = null;
    Engine.prototype.listen = function (...given) {
      engine = this;
      return listen.apply(this, given);
    };
    (${program})(Router, ${JSON.stringify(given)});
    process.on('message', async (text) => {
      if (text === 'measure') {
        collect();
        process.send({
          heap: process.memoryUsage().heapUsed,
          // One less: the folder that is read here.
          files: fs.readdirSync('/proc/self/fd').length - 1,
          threads: fs.readdirSync('/proc/self/task').length,
          handles: process.getActiveResourcesInfo().sort(),
          engine: engine?.statistics(),
        });
      } else if (text === 'close') {
        await server.close();
        process.disconnect();
      }
    });
    let server;
    const config = { host: '127.0.0.1', port: 0, routesDir: false, ...${JSON.stringify(config)} };
    startServer(config).then((started) => {
      server = started;
      process.send({ port: started.port });
    });`;
  // A small young generation from the start: else its growing to its size, 32 MiB, would look like a leak.
  const node = [process.execPath, '--max-semi-space-size=2', '-e', source];
  const [command, ...args] = files === undefined ? node : ['sh', '-c', `ulimit -n ${files}; exec "$0" "$@"`, ...node];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const app = { child, output: '', port: 0 };
  running.add(app);
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { app.output += text; });
  /** How the process ended. */
  app.ended = new Promise((resolve) => child.once('close', (code, signal) => {
    running.delete(app);
    resolve({ code, signal });
  }));
  const answer = () => new Promise((resolve, reject) => {
    const failed = () => reject(new Error(`The process ended:\n${app.output}`));
    child.once('close', failed);
    child.once('message', (message) => {
      child.off('close', failed);
      resolve(message);
    });
  });
  app.port = (await answer()).port;
  app.url = `http://127.0.0.1:${app.port}`;
  app.connect = (target, options) => connect(`ws://127.0.0.1:${app.port}${target}`, options);
  app.fetch = (target, options) => fetch(app.url + target, options);
  /** Bytes of the whole process in memory, now. Works while its thread is blocked. */
  app.resident = () => residentOf(child.pid);
  /** What the process has after a collection: `heap` in bytes, `files`, `threads`, `handles` of Node, the counts of the `engine`. */
  app.measure = () => {
    const measured = answer();
    child.send('measure');
    return measured;
  };
  /** Waits until what is measured is as it should be. */
  app.until = async (what, condition) => {
    const deadline = Date.now() + WAIT;
    for (;;) {
      const measured = await app.measure();
      if (condition(measured)) return measured;
      if (Date.now() > deadline) throw new Error(`${what} did not come, the process has ${JSON.stringify(measured)}`);
      await sleep(20);
    }
  };
  /** Waits until the engine has nothing left of any peer. */
  app.untilEmpty = () => app.until('an empty engine', ({ engine }) => OF_PEERS.every((name) => engine[name] === 0));
  /** Bytes of JavaScript objects after a collection. */
  app.heap = async () => (await app.measure()).heap;
  /** Calls `close()` there; the process has nothing left to do then. */
  app.close = () => {
    child.send('close');
    return app.ended;
  };
  return app;
}

function residentOf(pid) {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
}

/** Ends what a test left running; for `afterEach`. */
async function endForked() {
  await Promise.all([...running].map((app) => {
    app.child.kill('SIGKILL');
    return app.ended;
  }));
}

module.exports = { endForked, forkServer };
