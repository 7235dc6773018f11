'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { createRequire } = require('node:module');

const PACKAGE = 'tina4-nodejs';

/** The names of an app's own entry, in the order they are looked for. */
const ENTRIES = ['app.ts', 'app.js'];

/**
 * The `tina4-nodejs` that the files of an app get when they import it.
 *
 * @param {string} directory The app's folder
 * @returns {{ directory: string, cli: string } | null} Null when the app has none, or when another package of that name, without
 * this CLI, is installed there
 */
function copyFor(directory) {
  let manifest;
  try {
    manifest = createRequire(path.join(directory, 'package.json')).resolve(`${PACKAGE}/package.json`);
  } catch {
    return null;
  }
  const root = path.dirname(manifest);
  const cli = path.join(root, 'lib', 'cli', 'main.js');
  return fs.existsSync(cli) ? { directory: root, cli } : null;
}

/**
 * @param {string} directory The app's folder
 * @returns {string | null} The full path of `app.ts` or `app.js`
 */
function findEntry(directory) {
  const name = ENTRIES.find((entry) => fs.existsSync(path.join(directory, entry)));
  return name ? path.join(directory, name) : null;
}

/** @returns {string} Where the route files of the app in `directory` are */
function routesDirectory(directory) {
  return path.join(directory, 'src', 'routes');
}

/**
 * What keeps `tina4 serve` from serving `directory`.
 *
 * @param {string} directory
 * @returns {string | null} One sentence, or null when nothing does
 */
function problemWith(directory) {
  if (!findEntry(directory) && !isDirectory(routesDirectory(directory))) {
    return `Not a Tina4 project: ${directory} has neither src/routes nor app.ts or app.js.`;
  }
  if (!copyFor(directory)) {
    return `${PACKAGE} is not installed in ${directory}, so its routes cannot import it: run "npm install ${PACKAGE}" there.`;
  }
  return null;
}

function isDirectory(name) {
  return fs.statSync(name, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

module.exports = { ENTRIES, copyFor, findEntry, problemWith, routesDirectory };
