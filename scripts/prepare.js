'use strict';

// Runs after `npm install` in a checkout. A package from the registry or from a tarball carries its binary and never gets here.

const fs = require('node:fs');
const path = require('node:path');
const { Problem, ROOT, ensureBinary, main } = require('./steps');

main(() => {
  if (!fs.existsSync(path.join(ROOT, 'Cargo.toml'))) return;
  try {
    ensureBinary();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    // The packages are installed, and everything but the engine can be worked on: that is no reason to fail the install.
    console.error(`${error.message} Then run "npm run build".`);
  }
});
