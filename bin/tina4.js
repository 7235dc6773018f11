#!/usr/bin/env node
'use strict';

const { copyFor } = require('../lib/cli/project');

// Routes register with the Router of the copy that the app imports, so it is that copy's CLI that has to serve them,
// wherever this file is installed.
const copy = copyFor(process.cwd());
const { run } = copy ? require(copy.cli) : require('../lib/cli/main');

run(process.argv);
