'use strict';

// The same on `ws`, `node:http` and ioredis.

const { randomBytes } = require('node:crypto');
const http = require('node:http');
const { Redis } = require('ioredis');
const { WebSocket, WebSocketServer } = require('ws');
const { endWithParent } = require('../../servers/parent.js');
const { block } = require('../../servers/block.js');

const CHANNEL = 'relay';

const [, , url] = process.argv;
const src = randomBytes(8).toString('hex');
const publisher = url && new Redis(url, { enableAutoPipelining: true });
const subscriber = url && new Redis(url);

const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  if (pathname === '/block') block(Number(searchParams.get('ms')));
  else response.statusCode = 404;
  response.end('done');
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
/** @type {Set<WebSocket>} */
const room = new Set();

function deliver(text) {
  for (const member of room) {
    if (member.readyState === WebSocket.OPEN) member.send(text);
  }
}

sockets.on('connection', (socket, request) => {
  socket.on('error', (error) => console.error(error.message));
  if (request.url === '/echo') {
    socket.on('message', (data) => socket.send(String(data)));
    return;
  }
  room.add(socket);
  socket.on('close', () => room.delete(socket));
  socket.on('message', (data) => {
    const text = String(data);
    deliver(text);
    publisher?.publish(CHANNEL, JSON.stringify({ src, text }));
  });
  socket.send('ready');
});

subscriber?.on('message', (channel, message) => {
  const envelope = JSON.parse(message);
  if (envelope.src !== src) deliver(envelope.text);
});

endWithParent();
const ready = subscriber?.subscribe(CHANNEL) ?? Promise.resolve();
ready.then(() => server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`)));
