'use strict';

/**
 * What is measured: messages of so many bytes from one client of server A to so many clients of server B. `inFlight` are under way
 * at once where the rate is asked for; `rate` is the pace, in messages a second, at which the latency is.
 *
 * @type {{ name: string, bytes: number, clients: number, inFlight: number, rate: number }[]}
 */
const ROWS = [
  { name: '64 B to 1 client', bytes: 64, clients: 1, inFlight: 512, rate: 2000 },
  { name: '64 B to 50 clients', bytes: 64, clients: 50, inFlight: 128, rate: 500 },
  { name: '4 KiB to 1 client', bytes: 4096, clients: 1, inFlight: 64, rate: 1000 },
  { name: '4 KiB to 50 clients', bytes: 4096, clients: 50, inFlight: 32, rate: 200 },
];

/**
 * By the names of their files in `servers/`, in the order in which the first round measures them.
 *
 * @type {Record<string, { title: string, load: string[] }>}
 */
const SERVERS = {
  'socket.io': { title: 'Socket.IO', load: ['--path', '/socket.io/?EIO=4&transport=websocket', '--speaks', 'socket.io'] },
  ws: { title: 'ws + ioredis', load: ['--path', '/room'] },
  tina4: { title: 'tina4', load: ['--path', '/room'] },
};

/** The servers that this one is compared with. */
const PEERS = ['socket.io', 'ws'];

module.exports = { PEERS, ROWS, SERVERS };
