'use strict';

// The bench's work on fastify and its WebSocket plugin: `/echo` answers, `/room` passes every message on to everyone in it.

const websocket = require('@fastify/websocket');
const fastify = require('fastify');
const { block } = require('./block.js');
const { endWithParent } = require('./parent.js');

const server = fastify();
/** @type {Set<import('ws').WebSocket>} */
const room = new Set();

server.register(websocket, { options: { perMessageDeflate: false } });

server.register(async (routes) => {
  routes.get('/echo', { websocket: true }, (socket) => {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  routes.get('/room', { websocket: true }, (socket) => {
    room.add(socket);
    socket.on('close', () => room.delete(socket));
    socket.on('message', (data, binary) => {
      for (const member of room) {
        if (member.readyState === member.OPEN) member.send(data, { binary });
      }
    });
    socket.send('ready');
  });
});

// With a schema fastify compiles what writes the JSON, as its documentation advises.
const message = { type: 'object', properties: { message: { type: 'string' } } };
const text = { type: 'object', properties: { id: { type: 'string' } } };

server.get('/users/:id', { schema: { params: text } }, (request, reply) => reply.type('text/plain').send(request.params.id));
server.get('/json', { schema: { response: { 200: message } } }, (_, reply) => reply.send({ message: 'Hello, World!' }));
server.get('/block', (request, reply) => {
  block(Number(request.query.ms));
  reply.send('');
});

endWithParent();
server.listen({ host: '127.0.0.1', port: 0 }).then(() => console.log(`port ${server.server.address().port}`));
