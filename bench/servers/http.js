'use strict';

// The bench's HTTP work on node:http, for the servers that leave it to that.

const { block } = require('./block.js');

const USER = '/users/';
const BLOCK = '/block?ms=';

/** @type {import('node:http').RequestListener} */
function answer({ url }, response) {
  if (url.startsWith(USER)) {
    response.setHeader('Content-Type', 'text/plain');
    response.end(url.slice(USER.length));
  } else if (url === '/json') {
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ message: 'Hello, World!' }));
  } else if (url.startsWith(BLOCK)) {
    block(Number(url.slice(BLOCK.length)));
    response.end();
  } else {
    response.statusCode = 404;
    response.end();
  }
}

module.exports = { answer };
