'use strict';

/**
 * What is measured.
 *
 * @typedef {object} Row
 * @property {string} name
 * @property {'throughput'|'latency'|'memory'} kind Which numbers matter, and so which table it stands in
 * @property {'message'|'delivery'|'cycle'|'request'|'connection'} unit What one count of its rate and cost is
 * @property {string} work The load generator's word for it
 * @property {'/echo'|'/room'|null} route On which a WebSocket is opened
 * @property {Record<string, string|number>} options For the load generator
 * @property {number} [times] How many times as long as others it is measured
 * @property {number} [warmUps] How many times as long as others it is warmed up
 * @property {number} [least] Seconds it lasts at least
 * @property {number} [rounds] In how many rounds it is measured at most
 * @property {Record<string, string>} [without] Servers that it is not measured on, and why
 */

/** @type {Row[]} */
const ROWS = [
  echo('echo 64 B, 64 connections × 1', { connections: 64, 'in-flight': 1, bytes: 64 }),
  echo('echo 64 B, 64 connections × 16', { connections: 64, 'in-flight': 16, bytes: 64 }),
  echo('echo 16 KiB, 16 connections × 1', { connections: 16, 'in-flight': 1, bytes: 16 * 1024 }),
  room('room of 32, all send', { connections: 32, senders: 'all', 'in-flight': 1, bytes: 64 }),
  room('room of 1,000, one sends', { connections: 1000, senders: 'one', 'in-flight': 1, bytes: 64 }),
  { name: 'connect, upgrade, close', kind: 'throughput', unit: 'cycle', work: 'churn', route: '/echo', options: { connections: 64 } },
  http('HTTP GET /users/42', '/users/42', '42'),
  http('HTTP GET /json', '/json', '{"message":"Hello, World!"}'),
  // It brings few messages: one pause is much of a hundredth of them, V8 compiles the handlers late, and 8 s after the start it may look
  // for garbage.
  { ...rate('latency at 5,000 messages/s', { connections: 200, rate: 5000, bytes: 64 }), times: 3, warmUps: 10 },
  {
    ...rate('pings while JavaScript is blocked for 2 s', { connections: 200, rate: 5000, bytes: 64, with: 'pings', block: 2000 }),
    least: 2,
    without: { floor: 'it has no JavaScript to block' },
  },
  idle('10,000 idle connections', 10_000),
  idle('19,000 idle connections', 19_000),
];

/** Of the load of a memory row in a run that only shows that it works. */
const SMOKE_CONNECTIONS = 100;
/** Seconds until its memory is taken, steady or not. */
const SMOKE_SETTLING = 0.2;

/** The servers that the others are compared with. */
const REFERENCES = ['uws', 'bun'];

function echo(name, options) {
  return { name, kind: 'throughput', unit: 'message', work: 'echo', route: '/echo', options };
}

function room(name, options) {
  return { name, kind: 'throughput', unit: 'delivery', work: 'broadcast', route: '/room', options };
}

function http(name, path, expect) {
  const options = { path, expect, connections: 64, 'in-flight': 1 };
  return { name, kind: 'throughput', unit: 'request', work: 'http', route: null, options };
}

function rate(name, options) {
  return { name, kind: 'latency', unit: 'message', work: 'rate', route: '/echo', options };
}

/** Once is enough: what else the machine does changes no memory, and waiting for it to settle takes long. */
function idle(name, connections) {
  return { name, kind: 'memory', unit: 'connection', work: 'idle', route: '/echo', rounds: 1, options: { connections, bytes: 64 * 1024 } };
}

/** A row as a smoke run does it: connections at rest take time to open, and one shows as much as thousands. */
function shortened(row) {
  if (row.kind !== 'memory') return row;
  return { ...row, options: { ...row.options, connections: SMOKE_CONNECTIONS, settling: SMOKE_SETTLING } };
}

module.exports = { REFERENCES, ROWS, shortened };
