'use strict';

// One room over the backplane of this checkout. The argument is the URL of the Redis server.

const { Router, startServer } = require('../../../index.js');
const { endWithParent } = require('../../servers/parent.js');

const [, , wsBackplaneUrl] = process.argv;
const router = new Router();

router.websocket('/room', (connection, event, data) => {
  if (event === 'message') connection.broadcast(data);
  else if (event === 'open') connection.send('ready');
});

endWithParent();
startServer({ router, host: '127.0.0.1', port: 0, wsBackplane: 'redis', wsBackplaneUrl }).then(({ port }) => console.log(`port ${port}`));
