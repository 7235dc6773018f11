'use strict';

// `npm start`: makes a fresh clone ready and serves examples/chat. Options are those of `tina4 serve`: `npm start -- --port 8000`.

const path = require('node:path');
const { ROOT, checkNode, ensureBinary, ensurePackages, main } = require('./steps');

const EXAMPLE = path.join(ROOT, 'examples', 'chat');

main((options) => {
  checkNode();
  ensurePackages();
  ensureBinary();

  process.chdir(EXAMPLE);
  console.log(
    '> serving examples/chat; when it runs, open its address (http://localhost:7148 unless you chose another port) in two tabs',
  );
  // In this process, so that Ctrl+C and the exit code need no passing on.
  process.argv = [process.argv[0], path.join(ROOT, 'bin', 'tina4.js'), 'serve', ...options];
  require('../bin/tina4.js');
});
