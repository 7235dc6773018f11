'use strict';

// The same relay on `ws` and ioredis, with the same envelope: deliver here, publish, deliver what others published. The argument is
// the URL of the Redis server.

const { randomBytes } = require('node:crypto');
const http = require('node:http');
const { Redis } = require('ioredis');
const { WebSocket, WebSocketServer } = require('ws');
const { endWithParent } = require('../../servers/parent.js');

const CHANNEL = 'relay';

const [, , url] = process.argv;
const src = randomBytes(8).toString('hex');
// Publishes of one turn of the loop go out together; without it this peer does less.
const publisher = new Redis(url, { enableAutoPipelining: true });
const subscriber = new Redis(url);

const server = http.createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
/** @type {Map<string, Set<WebSocket>>} */
const rooms = new Map();

function deliver(path, text) {
  for (const member of rooms.get(path) ?? []) {
    if (member.readyState === WebSocket.OPEN) member.send(text);
  }
}

sockets.on('connection', (socket, request) => {
  const path = request.url;
  if (!rooms.has(path)) rooms.set(path, new Set());
  rooms.get(path).add(socket);
  socket.on('error', (error) => console.error(error.message));
  socket.on('close', () => rooms.get(path).delete(socket));
  socket.on('message', (data) => {
    const text = String(data);
    deliver(path, text);
    publisher.publish(CHANNEL, JSON.stringify({ src, kind: 'path', exclude: null, room: null, path, text }));
  });
  socket.send('ready');
});

subscriber.on('message', (channel, message) => {
  const envelope = JSON.parse(message);
  if (envelope.src !== src) deliver(envelope.path, envelope.text);
});

endWithParent();
subscriber.subscribe(CHANNEL).then(() => server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`)));
