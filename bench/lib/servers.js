'use strict';

const path = require('node:path');
const { firstLine } = require('../../scripts/steps.js');
const { BARE_BINARY, BENCH, FLOOR_BINARY, installedVersion, lockedVersion } = require('./prepare.js');

const BUN = path.join(BENCH, 'node_modules', '@oven', 'bun-linux-x64', 'bin', 'bun');

/**
 * A server of the bench.
 *
 * @typedef {object} Server
 * @property {string} title
 * @property {string[]} command What starts it
 * @property {(route: '/echo'|'/room') => string[]} speaks Words for the load generator: the path of a route, and the protocol on it
 * @property {() => string} version
 * @property {(row: import('./rows.js').Row) => boolean} [suits] Which rows it is measured in; default all
 */

const plain = (route) => ['--path', route];
const socketIo = (route) => ['--path', `/socket.io/?EIO=4&transport=websocket&work=${route.slice(1)}`, '--speaks', 'socket.io'];

/**
 * By their names, in the order in which the first round measures them.
 *
 * @type {Record<string, Server>}
 */
const SERVERS = {
  'socket.io': { ...onNode('socket.io', 'Socket.IO', ['socket.io']), speaks: socketIo },
  fastify: onNode('fastify', 'fastify', ['fastify', '@fastify/websocket']),
  ws: onNode('ws', 'ws', ['ws']),
  uws: { ...onNode('uws', 'uWebSockets.js'), version: () => `uWebSockets.js ${installedVersion('@trufflesuite/uws-js-unofficial').split('-')[0]}` },
  bun: {
    title: 'Bun',
    command: [BUN, path.join(BENCH, 'servers', 'bun.js')],
    speaks: plain,
    version: () => `Bun ${firstLine(BUN, ['--version'])}`,
  },
  floor: {
    title: 'Rust floor',
    command: [FLOOR_BINARY],
    speaks: plain,
    version: () => ['hyper', 'tokio', 'tokio-tungstenite'].map((crate) => `${crate} ${lockedVersion(crate)}`).join(', '),
  },
  bare: {
    title: 'bare sockets',
    command: [BARE_BINARY],
    speaks: plain,
    version: () => '',
    // Where each member is written each message by itself, no server can be much faster.
    suits: ({ options }) => options.senders === 'one',
  },
  tina4: onNode('tina4', 'tina4'),
};

function onNode(name, title, packages = []) {
  return {
    title,
    command: [process.execPath, path.join(BENCH, 'servers', `${name}.js`)],
    speaks: plain,
    version: () => packages.map((each) => `${each} ${installedVersion(each)}`).join(', '),
  };
}

module.exports = { SERVERS };
