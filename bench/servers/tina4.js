'use strict';

// The bench's work on this checkout: `/echo` answers, `/room` passes every message on to everyone in it.

const { Router, startServer } = require('../../index.js');
const { endWithParent } = require('./parent.js');

const router = new Router();

router.websocket('/echo', (connection, event, data) => {
  if (event === 'message') connection.send(data);
});

router.websocket('/room', (connection, event, data) => {
  if (event === 'message') connection.broadcast(data);
  else if (event === 'open') connection.send('ready');
});

endWithParent();
startServer({ router, host: '127.0.0.1', port: 0 }).then(({ port }) => console.log(`port ${port}`));
