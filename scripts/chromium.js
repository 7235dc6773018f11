'use strict';

// The browser that the end-to-end tests drive.

const { Problem, firstLine, run } = require('./steps');

/** Names it goes by in PATH. `CHROMIUM` names another one. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** @returns {string | null} The command that runs Chromium */
function findChromium() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : NAMES;
  return names.find((name) => firstLine(name, ['--version']) !== null) ?? null;
}

/** Makes sure there is a Chromium. As root on Debian and its relatives it is installed, elsewhere one sentence says what to do. */
function ensureChromium() {
  if (findChromium()) return;
  const mayInstall = process.platform === 'linux' && process.getuid() === 0 && firstLine('apt-get', ['--version']) !== null;
  if (mayInstall && !process.env.CHROMIUM) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    run('apt-get', ['update', '-q'], { env });
    run('apt-get', ['install', '-q', '-y', '--no-install-recommends', 'chromium'], { env });
  }
  if (!findChromium()) {
    throw new Problem(
      'The browser tests need Chromium: install it (Debian: apt-get install chromium), or set CHROMIUM to the program to use.',
    );
  }
}

module.exports = { ensureChromium, findChromium };
