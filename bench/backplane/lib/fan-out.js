'use strict';

// What one envelope costs Redis alone, by how many nodes listen: bare sockets that publish and that throw away what they get.

const fs = require('node:fs');
const net = require('node:net');
const { once } = require('node:events');
const { startRedis, traffic } = require('./redis.js');

/** Envelopes that come in one write: a node that publishes little, and one that publishes much. */
const BATCHES = [1, 64];
/** Nodes that listen. */
const NODES = [1, 2, 4, 8, 16];
const PATH = '/ws/chat/general';
const TICKS_PER_SECOND = 100;

/**
 * @typedef {object} Cost
 * @property {number} nodes
 * @property {number} batch
 * @property {number} bytes Of the text
 * @property {number} cpu Microseconds of Redis for each envelope
 * @property {number} received Bytes for each envelope
 * @property {number} sent
 */

/**
 * @param {number} bytes Of the text in each envelope
 * @param {number} seconds Of each measurement
 * @returns {Promise<Cost[]>}
 */
async function fanOut(bytes, seconds) {
  const costs = [];
  for (const batch of BATCHES) {
    for (const nodes of NODES) costs.push(await measure({ bytes, nodes, batch, seconds }));
  }
  return costs;
}

async function measure({ bytes, nodes, batch, seconds }) {
  const redis = await startRedis();
  const sockets = [];
  const open = async () => {
    const socket = net.connect(redis.port, '127.0.0.1').setNoDelay();
    sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  };
  try {
    for (let node = 0; node < nodes; node += 1) {
      const socket = await open();
      socket.write(command('SUBSCRIBE', 'tina4:ws'));
      await once(socket, 'data');
      socket.resume();
    }
    const publisher = await open();
    const publishes = Buffer.from(command('PUBLISH', 'tina4:ws', envelope(bytes)).repeat(batch));
    const before = { ...(await traffic(redis)), cpu: cpuSeconds(redis.pid) };
    const count = batch * (await publishFor(publisher, publishes, batch, seconds));
    const after = { ...(await traffic(redis)), cpu: cpuSeconds(redis.pid) };
    const each = (name) => (after[name] - before[name]) / count;
    return { nodes, batch, bytes, cpu: each('cpu') * 1e6, received: each('received'), sent: each('sent') };
  } finally {
    sockets.forEach((socket) => socket.destroy());
    await redis.end();
  }
}

/** Writes the next batch when all of the last one is answered. Returns how many were written. */
async function publishFor(socket, publishes, batch, seconds) {
  const end = Date.now() + seconds * 1000;
  let batches = 0;
  let answers = 0;
  await new Promise((resolve, reject) => {
    const next = () => {
      if (Date.now() >= end) return resolve();
      batches += 1;
      answers = batch;
      socket.write(publishes);
    };
    socket.once('error', reject);
    socket.on('data', (chunk) => {
      // Each answer is one line: the number of nodes that got it.
      for (const byte of chunk) if (byte === 0x0a) answers -= 1;
      if (answers === 0) next();
    });
    next();
  });
  return batches;
}

/** An envelope of this package, after some months of running. */
function envelope(bytes) {
  return JSON.stringify({
    src: '0123456789abcdef', kind: 'path', exclude: null, room: null, path: PATH, text: 'a'.repeat(bytes), epoch: 1_700_000_000_000, seq: 1_000_000,
  });
}

/** A command as clients write it. */
function command(...words) {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;
}

function cpuSeconds(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

module.exports = { fanOut };
