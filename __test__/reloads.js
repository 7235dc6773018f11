'use strict';

// Many reloads under requests: what must hold after a few, and after hundreds.

const fs = require('node:fs');
const http = require('node:http');
const { Peer, until } = require('./served');
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

const filesOf = (pid) => fs.readdirSync(`/proc/${pid}/fd`).length;
const childrenOf = (pid) =>
  fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);

/**
 * Edits an app so many times, while clients keep asking, each on a new connection.
 *
 * @param {number} times
 * @returns {Promise<{ failures: string[], codes: number[], files: number[], children: number[] }>} `failures`: codes of requests that
 *   were refused or broken off; `codes`: with what each version's socket was closed; `files`: those that the supervisor has open before and
 *   after; `children`: its processes at the end
 */
async function reloadManyTimes(times) {
  const app = newApp({ 'src/routes/a.ts': version(0) });
  const run = await tina4(app.directory, ['serve', '--port', '0']).ready();
  const failures = [];
  const codes = [];
  let asking = true;
  const client = (async () => {
    while (asking) {
      await ask(run.port).catch((error) => {
        // A replaced process closes the connections that have asked for nothing; a request may be on its way on one of them.
        if (error.code !== 'ECONNRESET') failures.push(error.code ?? error.message);
      });
    }
  })();
  const files = [];
  for (let number = 1; number <= times; number += 1) {
    const peer = await Peer.connect(run, '/w');
    app.write('src/routes/a.ts', version(number));
    await until(
      async () => (await ask(run.port).catch(() => ({}))).version === number,
      () => `version ${number}, got:\n${run.output()}`,
    );
    codes.push((await peer.closed).code);
    // The first reload opens what all of them use.
    if (number === 1) files.push(filesOf(run.child.pid));
  }
  asking = false;
  await client;
  const { pid } = await ask(run.port);
  await until(() => childrenOf(run.child.pid).length === 1, 'the replaced processes to end');
  files.push(filesOf(run.child.pid));
  return { failures, codes, files, children: childrenOf(run.child.pid).map((child) => child === pid) };
}

module.exports = { reloadManyTimes };
