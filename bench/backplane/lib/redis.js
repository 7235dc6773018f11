'use strict';

// A Redis server of the bench's own: started on a free port, ended by its process id.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { Problem } = require('../../../scripts/steps.js');
const { stop } = require('../../lib/processes.js');

/** Milliseconds it has to answer. */
const START_TIMEOUT = 10_000;

/**
 * @typedef {object} RedisServer
 * @property {string} url
 * @property {number} port
 * @property {number} pid
 * @property {import('ioredis').Redis} client For looking at it
 * @property {() => Promise<void>} end
 */

/**
 * @returns {Promise<RedisServer>}
 * @throws {Problem} where there is no redis-server
 */
async function startRedis() {
  const { Redis } = require('ioredis');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-bench-'));
  const port = await freePort();
  const words = ['--port', port, '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no'].map(String);
  const child = spawn('redis-server', words, { stdio: 'ignore' });
  const failed = new Promise((_, reject) => {
    child.once('error', () => reject(new Problem('The bench needs redis-server in PATH (Debian: apt-get install redis-server).')));
    child.once('exit', (status) => reject(new Problem(`redis-server ended with ${status} on port ${port}.`)));
  });
  const client = new Redis(port, '127.0.0.1', { retryStrategy: () => 50, maxRetriesPerRequest: null, connectTimeout: START_TIMEOUT });
  // It is not there at once.
  client.on('error', () => {});
  failed.catch(() => client.disconnect());
  const end = async () => {
    client.disconnect();
    await stop(child);
    fs.rmSync(folder, { recursive: true, force: true });
  };
  try {
    await Promise.race([client.ping(), failed]);
  } catch (error) {
    await end();
    throw error;
  }
  return { url: `redis://127.0.0.1:${port}`, port, pid: child.pid, client, end };
}

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** @returns {Promise<{ received: number, sent: number }>} Bytes since it started */
async function traffic({ client }) {
  const stats = await client.info('stats');
  const value = (name) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(stats)[1]);
  return { received: value('total_net_input_bytes'), sent: value('total_net_output_bytes') };
}

/** @returns {Promise<number>} Connections that have subscribed to something */
async function subscribers({ client }) {
  const list = await client.client('LIST', 'TYPE', 'pubsub');
  return list.split('\n').filter((line) => line !== '').length;
}

module.exports = { startRedis, subscribers, traffic };
