'use strict';

// What the bench of blocked threads needs of this checkout. The argument is the URL of the Redis server, where there is one.

const { Router, startServer } = require('../../../index.js');
const { endWithParent } = require('../../servers/parent.js');
const { block } = require('../../servers/block.js');

const [, , wsBackplaneUrl] = process.argv;
const router = new Router();

router.websocket('/echo', (connection, event, data) => {
  if (event === 'message') connection.send(data);
});

router.websocket('/room', (connection, event, data) => {
  if (event === 'message') connection.broadcast(data);
  else if (event === 'open') connection.send('ready');
});

router.get('/block', (req, res) => {
  block(Number(req.query.ms));
  return res.text('done');
});

endWithParent();
const backplane = wsBackplaneUrl && { wsBackplane: 'redis', wsBackplaneUrl };
startServer({ router, host: '127.0.0.1', port: 0, ...backplane }).then(({ port }) => console.log(`port ${port}`));
