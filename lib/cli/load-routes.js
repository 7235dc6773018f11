'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { describeLoadError } = require('./load-error');
const { enableTypeScript } = require('./typescript');

/** How long one file may take to load, in milliseconds, before the others go on without it. */
const LOAD_TIMEOUT = 30_000;

const ROUTE_FILE = /\.[cm]?[jt]s$/;
const NOT_A_ROUTE = /\.d\.[cm]?ts$|\.test\.[cm]?[jt]s$/;

/** A module is evaluated once in a process, so a folder can be loaded only once: the result by its path. */
const results = new Map();
let required = false;

/**
 * Imports every route file under a folder, in sorted order.
 *
 * A file that fails is reported with its line, and the others are loaded all the same. A folder is loaded once in a process:
 * later calls get the first one's result, and nothing is reported again.
 *
 * @param {string} directory The app's `src/routes`; a missing one holds no routes
 * @param {{ error(text: string): void }} log Told about each file that fails
 * @returns {Promise<{ loaded: string[], failed: { file: string, error: unknown }[] }>} Full paths
 * @throws {Error} When a file failed and {@link requireAllRoutes} was called
 */
function loadRoutes(directory, log) {
  const root = path.resolve(directory);
  if (!results.has(root)) results.set(root, load(root, log));
  return results.get(root);
}

/** From now on a route file that fails makes {@link loadRoutes} reject, after all files were tried. */
function requireAllRoutes() {
  required = true;
}

async function load(root, log) {
  const files = findRouteFiles(root);
  const result = { loaded: [], failed: [] };
  for (const file of files) {
    try {
      await importFile(file);
      result.loaded.push(file);
    } catch (error) {
      result.failed.push({ file, error });
      log.error(describeLoadError(error, file, appDirectory(root)));
    }
  }
  if (required && result.failed.length > 0) {
    throw new Error(`${result.failed.length} of ${files.length} route files could not be loaded`);
  }
  return result;
}

function appDirectory(root) {
  return path.dirname(path.dirname(root));
}

/**
 * Imports one file of the app, TypeScript or JavaScript, whatever kind of module it is.
 *
 * @param {string} file A full path
 * @throws What the file threw, or an Error when it did not finish loading in time
 */
async function importFile(file) {
  await enableTypeScript();
  let timer;
  const late = new Promise((_, reject) => {
    const message = `it did not finish loading within ${LOAD_TIMEOUT / 1000} s; is there an await that never ends at its top level?`;
    timer = setTimeout(() => reject(new Error(message)), LOAD_TIMEOUT);
  });
  try {
    await Promise.race([import(pathToFileURL(file).href), late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The route files under a folder: `.ts .mts .cts .js .mjs .cjs`, without type declarations, `*.test.*`, anything that begins
 * with a dot, and `node_modules`.
 *
 * @param {string} root
 * @returns {string[]} Full paths, sorted
 */
function findRouteFiles(root) {
  const found = [];
  const seen = new Set();
  const visit = (directory) => {
    // Links may lead back to a folder above them.
    const real = fs.realpathSync(directory);
    if (seen.has(real)) return;
    seen.add(real);
    for (const name of fs.readdirSync(directory)) {
      if (name.startsWith('.') || name === 'node_modules') continue;
      const file = path.join(directory, name);
      const kind = fs.statSync(file, { throwIfNoEntry: false });
      if (kind?.isDirectory()) visit(file);
      else if (kind?.isFile() && ROUTE_FILE.test(name) && !NOT_A_ROUTE.test(name)) found.push(file);
    }
  };
  if (fs.existsSync(root)) visit(root);
  return found.sort();
}

module.exports = { LOAD_TIMEOUT, findRouteFiles, importFile, loadRoutes, requireAllRoutes };
