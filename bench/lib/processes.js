'use strict';

// What the benches start: servers that print their port, and the load generator.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const { Problem } = require('../../scripts/steps.js');
const { BENCH, LOAD_BINARY } = require('./prepare.js');

/** Milliseconds a server has to listen. */
const START_TIMEOUT = 20_000;

/**
 * Starts a server as in production; other settings come from the environment, so that they can be tried out.
 *
 * @param {string[]} command A program that prints `port N` and ends with its standard input, and its arguments
 * @returns {Promise<{ child: import('node:child_process').ChildProcess, port: number }>}
 * @throws {Problem} when it does not listen, with what it said
 */
async function startServer([program, ...words]) {
  const name = [program, ...words].map((word) => path.basename(word)).join(' ');
  const child = spawn(program, words, {
    cwd: BENCH,
    env: { ...process.env, NODE_ENV: 'production' },
    // What it logs is shown if it fails.
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let output = '';
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  const port = await new Promise((resolve, reject) => {
    const fail = (what) => reject(new Problem(`The server ${name} ${what}. It said:\n${output}`));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      fail(`did not listen within ${START_TIMEOUT / 1000} s`);
    }, START_TIMEOUT);
    child.stdout.on('data', (chunk) => {
      output += chunk;
      const found = /^port (\d+)$/m.exec(output);
      if (found === null) return;
      clearTimeout(timer);
      resolve(Number(found[1]));
    });
    child.once('error', (error) => fail(`could not be started (${error.message})`));
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      fail(`ended with ${signal ?? `exit code ${status}`} before it listened`);
    });
  });
  return { child, port };
}

/** Ends a process of the bench, if it still runs. */
async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/**
 * @param {string[]} words
 * @param {number} timeout Milliseconds
 * @returns {Promise<object>} The line that the load generator printed
 * @throws {Problem} when it could not measure, with its reason
 */
async function runLoad(words, timeout) {
  const child = spawn(LOAD_BINARY, words, { stdio: ['ignore', 'pipe', 'pipe'], timeout, killSignal: 'SIGKILL' });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const [status, signal] = await once(child, 'close');
  if (status !== 0) {
    throw new Problem(`load ${words.join(' ')} ended with ${signal ?? `exit code ${status}`}: ${errors.trim()}`);
  }
  return JSON.parse(output);
}

module.exports = { runLoad, startServer, stop };
