'use strict';

// Many reloads under requests: what must hold after a few, and after hundreds.

const fs = require('node:fs');
const http = require('node:http');
const { until } = require('./served');
const { newApp, tina4 } = require('./cli-app');

const ROUTES = 'import { Router } from "tina4-nodejs";\nRouter.websocket("/w", () => {});\n';

/** A route file of which every version answers with its number and its process. */
function version(number) {
  return `${ROUTES}Router.get("/version", (req, res) => res.json({ version: ${number}, pid: process.pid }));\n`;
}

/** One request on a connection of its own. */
function ask(port) {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, path: '/version', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      response.once('end', () => resolve(JSON.parse(text))).once('error', reject);
    });
    request.once('error', reject);
  });
}

/**
 * Asks over and over, each time on a new connection.
 *
 * @param {number} port
 * @returns {{ stop(): Promise<string[]> }} `stop` gives the codes of the requests that were refused or broken off
 */
function keepAsking(port) {
  const failures = [];
  let asking = true;
  const client = (async () => {
    while (asking) {
      await ask(port).catch((error) => {
        // A replaced process closes the connections that have asked for nothing; a request may be on its way on one of them.
        if (error.code !== 'ECONNRESET') failures.push(error.code ?? error.message);
      });
    }
  })();
  const stop = async () => {
    asking = false;
    await client;
    return failures;
  };
  return { stop };
}

const filesOf = (pid) => fs.readdirSync(`/proc/${pid}/fd`).length;

/**
 * Edits an app so many times, while clients keep asking.
 *
 * @param {number} times
 * @returns {Promise<{ failures: string[], codes: number[], children: boolean[] }>} `failures`: codes of requests that were refused or
 *   broken off; `codes`: with what each version's socket was closed; `children`: of the processes at the end, whether it answers
 * @throws When the supervisor keeps files open
 */
async function reloadManyTimes(times) {
  const app = newApp({ 'src/routes/a.ts': version(0) });
  const run = await tina4(app.directory, ['serve', '--port', '0']).ready();
  const client = keepAsking(run.port);
  const codes = [];
  let files;
  for (let number = 1; number <= times; number += 1) {
    const peer = await run.connect('/w');
    app.write('src/routes/a.ts', version(number));
    await until(
      async () => (await ask(run.port).catch(() => ({}))).version === number,
      () => `version ${number}, got:\n${run.output()}`,
    );
    codes.push((await peer.closed).code);
    if (number > 1) continue;
    // The first reload opens what all of them use.
    await run.hasChildren(1);
    files = filesOf(run.child.pid);
  }
  const failures = await client.stop();
  const { pid } = await ask(run.port);
  await run.hasChildren(1);
  await until(() => filesOf(run.child.pid) <= files, () => `${files} files at most, have ${filesOf(run.child.pid)}`);
  return { failures, codes, children: run.children().map((child) => child === pid) };
}

module.exports = { ask, keepAsking, reloadManyTimes, version };
