'use strict';

// The browser that the end-to-end tests drive.

const fs = require('node:fs');
const path = require('node:path');
const { Problem, firstLine, run } = require('./steps');

/** Names it goes by in PATH. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** @returns {string | undefined} The full path of a Chromium: what `CHROMIUM_PATH` says, or the first in PATH */
function findChromium() {
  if (process.env.CHROMIUM_PATH) return [process.env.CHROMIUM_PATH].find((file) => fs.existsSync(file));
  const folders = process.env.PATH.split(path.delimiter);
  return NAMES.flatMap((name) => folders.map((folder) => path.join(folder, name))).find((file) => fs.existsSync(file));
}

/**
 * Makes sure there is a Chromium. As root on Debian and its relatives it is installed, elsewhere one sentence says what to do.
 *
 * @returns {string} Its full path
 */
function ensureChromium() {
  const mayInstall = process.platform === 'linux' && process.getuid() === 0 && firstLine('apt-get', ['--version']) !== null;
  if (!findChromium() && mayInstall && !process.env.CHROMIUM_PATH) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    run('apt-get', ['update', '-q'], { env });
    run('apt-get', ['install', '-q', '-y', '--no-install-recommends', 'chromium'], { env });
  }
  const found = findChromium();
  if (!found) {
    throw new Problem(
      'The browser tests need Chromium: install it (Debian: apt-get install chromium), or set CHROMIUM_PATH to the program to use.',
    );
  }
  return found;
}

module.exports = { ensureChromium };
