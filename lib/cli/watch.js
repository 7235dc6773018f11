'use strict';

const path = require('node:path');
const chokidar = require('chokidar');
const { environmentFile } = require('./environment');
const { ENTRIES } = require('./project');

/** Changes that follow each other within this time, in milliseconds, are one. */
const DEBOUNCE = 100;

/** Folders whose files are read when they are asked for. */
const READ_LIVE = [path.join('src', 'public'), path.join('src', 'templates')];

/**
 * Watches what an app has to be started afresh for: its code and its settings.
 *
 * @param {string} directory The app's folder
 * @param {(file: string) => void} onChange Gets the file that was changed last, relative to the folder
 */
function watchApp(directory, onChange) {
  const watched = new Set([...ENTRIES.map((name) => path.join(directory, name)), environmentFile(directory)]);
  const source = path.join(directory, 'src');
  // Watching the app's folder, and ignoring most of it, also sees files that do not exist yet.
  const ignored = (file) => {
    if (file === directory || file === source || watched.has(file)) return false;
    const relative = path.relative(directory, file);
    return !isInside(relative, 'src') || READ_LIVE.some((folder) => isInside(relative, folder)) || isScratch(file);
  };
  const folders = [directory];
  const elsewhere = environmentFile(directory);
  if (path.dirname(elsewhere) !== directory) folders.push(elsewhere);
  let timer;
  chokidar
    .watch(folders, { ignored, ignoreInitial: true })
    // A new folder too: what is written into it before it is watched is not seen.
    .on('all', (_, file) => {
      clearTimeout(timer);
      timer = setTimeout(() => onChange(path.relative(directory, file)), DEBOUNCE);
    })
    .on('error', (error) => {
      console.error(`Changes cannot be watched (${error.message}): restart tina4 serve to see them.`);
    });
}

function isInside(relative, folder) {
  return relative === folder || relative.startsWith(folder + path.sep);
}

/** What editors put beside the file that is being edited. */
function isScratch(file) {
  const name = path.basename(file);
  return name.startsWith('.') || name.endsWith('~') || name.endsWith('.swp') || name === 'node_modules';
}

module.exports = { watchApp };
