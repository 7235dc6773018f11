'use strict';

// One room on Socket.IO with its Redis adapter. The argument is the URL of the Redis server.

const http = require('node:http');
const { createAdapter } = require('@socket.io/redis-adapter');
const { Redis } = require('ioredis');
const { Server } = require('socket.io');
const { endWithParent } = require('../../servers/parent.js');

const ROOM = 'room';

const [, , url] = process.argv;
// Of the two clients that the adapter's documentation names, set as it does more.
const publisher = new Redis(url, { enableAutoPipelining: true });
const subscriber = new Redis(url);

const server = http.createServer();
const io = new Server(server, { transports: ['websocket'], adapter: createAdapter(publisher, subscriber) });

io.on('connection', (socket) => {
  socket.join(ROOM);
  socket.on('m', (text) => io.to(ROOM).emit('m', text));
  socket.emit('ready');
});

endWithParent();
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
