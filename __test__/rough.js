'use strict';

// Peers that a WebSocket library cannot be: raw sockets, and processes that can be stopped.

const fs = require('node:fs');
const net = require('node:net');
const { spawn } = require('node:child_process');

/** The headers of an upgrade request. */
const UPGRADE = 'Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
  + 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';

const stoppable = new Set();

/**
 * A raw socket on a WebSocket route. What has come with the answer is not kept.
 *
 * @param {number} port
 * @param {string} path
 * @param {object} [options] Of `net.connect`
 * @returns {Promise<net.Socket>}
 */
function upgraded(port, path, options = {}) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true, ...options }, () => socket.write(`GET ${path} HTTP/1.1\r\n${UPGRADE}`));
    socket.once('data', () => resolve(socket));
    socket.once('close', () => reject(new Error('closed instead of upgraded')));
    socket.on('error', reject);
  });
}

/** A socket as Node sees it, and both ends as the kernel does: the lines of its ports in /proc/net/tcp. */
function standingOf(socket) {
  const { readableFlowing, readableEnded, readableLength, destroyed, bytesRead, localPort } = socket;
  const reading = socket._handle?.reading;
  const port = `:${(localPort ?? 0).toString(16).toUpperCase().padStart(4, '0')} `;
  const lines = fs.existsSync('/proc/net/tcp') ? fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').filter((line) => line.includes(port)) : [];
  return JSON.stringify({ readableFlowing, readableEnded, readableLength, destroyed, reading, bytesRead, kernel: lines });
}

/** A masked frame, with a mask of zeros. */
function frame(opcode, payload, { length = payload.length } = {}) {
  const head = Buffer.alloc(14);
  head[0] = 0x80 | opcode;
  let at = 2;
  if (length < 126) {
    head[1] = 0x80 | length;
  } else if (length < 65_536) {
    head[1] = 0x80 | 126;
    at = head.writeUInt16BE(length, 2);
  } else {
    head[1] = 0x80 | 127;
    at = head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head.subarray(0, at + 4), Buffer.from(payload)]);
}

/**
 * A process with so many connections that only read. `child.kill('SIGSTOP')` makes them what peers are whose machine sleeps.
 *
 * @returns {Promise<import('node:child_process').ChildProcess>} When all of them are open
 */
async function peerProcess(url, count = 1) {
  const source = `
    const { WebSocket } = require(${JSON.stringify(require.resolve('ws'))});
    let open = 0;
    for (let n = 0; n < ${count}; n += 1) {
      const socket = new WebSocket(${JSON.stringify(url)});
      socket.on('open', () => { if ((open += 1) === ${count}) process.send('open'); });
      socket.on('error', () => {});
    }`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  stoppable.add(child);
  await new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', () => {
      stoppable.delete(child);
      reject(new Error('the peers ended'));
    });
  });
  return child;
}

/** Ends the processes of a test, stopped or not; for `afterEach`. */
function endPeers() {
  for (const child of stoppable) child.kill('SIGKILL');
}

module.exports = { UPGRADE, endPeers, frame, peerProcess, standingOf, upgraded };
