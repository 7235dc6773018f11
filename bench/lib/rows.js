'use strict';

/**
 * What is measured. `load` are the words for the load generator, `unit` is what one count of the row's rate and cost is.
 *
 * @type {{ name: string, unit: 'message'|'delivery', load: string[] }[]}
 */
const ROWS = [
  row('echo 64 B, 64 connections × 1', 'echo', { connections: 64, 'in-flight': 1, bytes: 64 }),
  row('echo 64 B, 64 connections × 16', 'echo', { connections: 64, 'in-flight': 16, bytes: 64 }),
  row('echo 16 KiB, 16 connections × 1', 'echo', { connections: 16, 'in-flight': 1, bytes: 16 * 1024 }),
  row('room of 32, all send', 'broadcast', { connections: 32, senders: 'all', 'in-flight': 1, bytes: 64 }),
  row('room of 1,000, one sends', 'broadcast', { connections: 1000, senders: 'one', 'in-flight': 1, bytes: 64 }),
];

/** In the order in which the first round measures them. */
const SERVERS = ['ws', 'tina4'];

/** The server that the others are compared with. */
const REFERENCE = 'ws';

function row(name, work, options) {
  const words = Object.entries(options).flatMap(([option, value]) => [`--${option}`, String(value)]);
  const path = work === 'echo' ? '/echo' : '/room';
  return { name, unit: work === 'echo' ? 'message' : 'delivery', load: [work, '--path', path, ...words] };
}

module.exports = { REFERENCE, ROWS, SERVERS };
