'use strict';

const { Router } = require('./lib/router.js');
const { startServer } = require('./lib/server.js');
const { getToken, validToken } = require('./lib/token.js');

module.exports = { Router, startServer, getToken, validToken };
