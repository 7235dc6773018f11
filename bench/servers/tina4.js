'use strict';

// The bench's work on this checkout: `/echo` answers, `/room` passes every message on to everyone in it, and so do as many more rooms as
// are asked for.

const { Router, startServer } = require('../../index.js');
const { block } = require('./block.js');
const { endWithParent } = require('./parent.js');

const router = new Router();

router.websocket('/echo', (connection, event, data) => {
  if (event === 'message') connection.send(data);
});

for (const path of ['/room', '/room/{name}']) {
  router.websocket(path, (connection, event, data) => {
    if (event === 'message') connection.broadcast(data);
    else if (event === 'open') connection.send('ready');
  });
}

router.get('/users/{id}', (req, res) => res.text(req.params.id));
router.get('/json', (_, res) => res.json({ message: 'Hello, World!' }));
router.get('/block', (req, res) => {
  block(Number(req.query.ms));
  res.text('');
});

endWithParent();
startServer({ router, host: '127.0.0.1', port: 0 }).then(({ port }) => console.log(`port ${port}`));
