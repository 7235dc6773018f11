'use strict';

// The bench's work on Socket.IO over WebSocket alone: the query says whether a connection echoes or is in the room. It has no HTTP of
// its own; that is node:http.

const http = require('node:http');
const { Server } = require('socket.io');
const { answer } = require('./http.js');
const { endWithParent } = require('./parent.js');

const ROOM = 'room';
/** Milliseconds: no heartbeat comes into a measurement. */
const PING_INTERVAL = 3_600_000;

const server = http.createServer(answer);
const io = new Server(server, { transports: ['websocket'], perMessageDeflate: false, serveClient: false, pingInterval: PING_INTERVAL });

io.on('connection', (socket) => {
  if (socket.handshake.query.work === 'echo') {
    socket.on('m', (text) => socket.emit('m', text));
  } else {
    socket.join(ROOM);
    socket.on('m', (text) => io.to(ROOM).emit('m', text));
  }
  socket.emit('ready');
});

endWithParent();
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
