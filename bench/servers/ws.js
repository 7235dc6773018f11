'use strict';

// The bench's work on `ws`, as its own examples do it: `/echo` answers, `/room` passes every message on to everyone in it.

const http = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');
const { answer } = require('./http.js');
const { endWithParent } = require('./parent.js');

const server = http.createServer(answer);
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
/** @type {Set<WebSocket>} */
const room = new Set();

sockets.on('connection', (socket, request) => {
  socket.on('error', (error) => console.error(error.message));
  if (request.url === '/echo') {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
    return;
  }
  room.add(socket);
  socket.on('close', () => room.delete(socket));
  socket.on('message', (data, binary) => {
    for (const member of room) {
      if (member.readyState === WebSocket.OPEN) member.send(data, { binary });
    }
  });
  socket.send('ready');
});

endWithParent();
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
