'use strict';

// The bench's work on uWebSockets.js: `/echo` answers, `/room` passes every message on to everyone in it, by its own publish.

// Its index falls back to a slow imitation in JavaScript where the binary does not load; here that is an error.
const uws = require(`@trufflesuite/uws-js-unofficial/binaries/uws_${process.platform}_${process.arch}_${process.versions.modules}.node`);
const { block } = require('./block.js');
const { endWithParent } = require('./parent.js');

const ROOM = 'room';
/** Seconds; 0 is never: idle connections are measured too. */
const IDLE_TIMEOUT = 0;
/** Bytes: above the greatest message. */
const MAX_PAYLOAD = 1024 * 1024;
/** Bytes that wait for a slow reader before messages to it are dropped, which its default of 64 KiB does at once in a full room. */
const MAX_BACKPRESSURE = 64 * 1024 * 1024;

const settings = {
  compression: uws.DISABLED,
  maxPayloadLength: MAX_PAYLOAD,
  maxBackpressure: MAX_BACKPRESSURE,
  idleTimeout: IDLE_TIMEOUT,
  sendPingsAutomatically: false,
};

const app = uws.App();

app.ws('/echo', { ...settings, message: (socket, data, binary) => socket.send(data, binary) });

app.ws('/room', {
  ...settings,
  open: (socket) => {
    socket.subscribe(ROOM);
    socket.send('ready');
  },
  // That of the application reaches the sender too.
  message: (_, data, binary) => app.publish(ROOM, data, binary),
});

app.get('/users/:id', (response, request) => {
  response.writeHeader('Content-Type', 'text/plain').end(request.getParameter(0));
});
app.get('/json', (response) => {
  response.writeHeader('Content-Type', 'application/json').end(JSON.stringify({ message: 'Hello, World!' }));
});
app.get('/block', (response, request) => {
  block(Number(request.getQuery('ms')));
  response.end();
});

endWithParent();
app.listen('127.0.0.1', 0, (socket) => {
  if (!socket) throw new Error('cannot listen');
  console.log(`port ${uws.us_socket_local_port(socket)}`);
});
