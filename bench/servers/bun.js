'use strict';

// The bench's work on Bun, by its own server and publish: `/echo` answers, `/room` passes every message on to everyone in it.

const { block } = require('./block.js');
const { endWithParent } = require('./parent.js');

const ROOM = 'room';
/** Bytes that wait for a slow reader. */
const BACKPRESSURE_LIMIT = 64 * 1024 * 1024;

const upgrade = (room) => (request, server) => {
  if (!server.upgrade(request, { data: { room } })) return new Response(null, { status: 400 });
};

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  routes: {
    '/echo': upgrade(false),
    '/room': upgrade(true),
    '/users/:id': (request) => new Response(request.params.id, { headers: { 'Content-Type': 'text/plain' } }),
    '/json': () => Response.json({ message: 'Hello, World!' }),
    '/block': (request) => {
      block(Number(new URL(request.url).searchParams.get('ms')));
      return new Response();
    },
  },
  websocket: {
    perMessageDeflate: false,
    backpressureLimit: BACKPRESSURE_LIMIT,
    // Idle connections are measured too.
    idleTimeout: 0,
    sendPings: false,
    open: (socket) => {
      if (!socket.data.room) return;
      socket.subscribe(ROOM);
      socket.send('ready');
    },
    // The server's publish reaches the sender too.
    message: (socket, data) => {
      if (socket.data.room) server.publish(ROOM, data);
      else socket.send(data);
    },
  },
});

endWithParent();
console.log(`port ${server.port}`);
