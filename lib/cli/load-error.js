'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { fileURLToPath } = require('node:url');

/** Source lines shown before the one at fault. */
const LINES_BEFORE = 2;

/** How long Node may take to find the place of a syntax error, in milliseconds. */
const CHECK_TIMEOUT = 5_000;

/**
 * Says why a file of the app could not be loaded: the file, the line at fault with its surroundings, the message.
 *
 * @param {unknown} error What loading it threw
 * @param {string} file The file that was being loaded; the fault may be in another one that it imports
 * @param {string} directory The app's folder; paths are shown relative to it
 * @returns {string} Several lines, without a newline at the end
 */
function describeLoadError(error, file, directory) {
  const message = messageOf(error);
  const place = findPlace(error, file, directory);
  const lines = [`${shown(file, directory)} could not be loaded: ${message}`];
  if (place) {
    const column = place.column ? `:${place.column}` : '';
    lines.push(`    at ${shown(place.file, directory)}:${place.line}${column}`);
    lines.push(...codeFrame(place));
  }
  return lines.join('\n');
}

function shown(file, directory) {
  const relative = path.relative(directory, file);
  return relative.startsWith('..') ? file : relative;
}

const TRANSFORM_ERROR = /^(.+?):(\d+):(\d+): ERROR: (.*)$/gm;

function messageOf(error) {
  if (typeof error?.message !== 'string') return `it threw ${String(error)}`;
  const faults = [...error.message.matchAll(TRANSFORM_ERROR)];
  if (faults.length > 0) {
    const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : '';
    return faults[0][4] + more;
  }
  // Node appends the chain of requiring files to the message; the file that could not be loaded is named already.
  const first = error.message.split('\n')[0];
  return error.name && error.name !== 'Error' ? `${error.name}: ${first}` : first;
}

function findPlace(error, file, directory) {
  return placeOfTransform(error) ?? placeOfImport(error, file) ?? placeInStack(error, directory) ?? placeOfSyntax(error, file);
}

/** Where esbuild found a syntax error. It counts columns from 0. */
function placeOfTransform(error) {
  const [fault] = String(error?.message).matchAll(TRANSFORM_ERROR);
  return fault ? { file: fault[1], line: Number(fault[2]), column: Number(fault[3]) + 1 } : null;
}

const UNRESOLVED = new Set([
  'MODULE_NOT_FOUND',
  'ERR_MODULE_NOT_FOUND',
  'ERR_UNSUPPORTED_DIR_IMPORT',
  'ERR_PACKAGE_PATH_NOT_EXPORTED',
]);

/** The line of an import that cannot be satisfied: Node names the module or the export, but not the line that asks for it. */
function placeOfImport(error, file) {
  const message = String(error?.message);
  const missing = /does not provide an export named '([^']+)'/.exec(message)?.[1];
  const importer =
    / imported from (.+)$/m.exec(message)?.[1] ?? error?.requireStack?.[0] ?? (missing && importingFile(error)) ?? file;
  let sought;
  if (missing) {
    sought = new RegExp(`\\b${escape(missing)}\\b`);
  } else if (UNRESOLVED.has(error?.code)) {
    const wanted = /'([^']+)'/.exec(message)?.[1];
    if (!wanted) return null;
    sought = new RegExp(`["'\`][^"'\`]*${escape(path.basename(wanted))}["'\`]`);
  } else {
    return null;
  }
  const index = readLines(importer).findIndex((line) => sought.test(line));
  return index === -1 ? null : { file: importer, line: index + 1 };
}

function importingFile(error) {
  return leadingPlace(error?.stack)?.file;
}

function escape(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** The innermost frame that is the app's own code. */
function placeInStack(error, directory) {
  for (const line of String(error?.stack).split('\n')) {
    const frame = /^\s+at .*?\(?((?:file:\/\/)?(?:\/|[A-Za-z]:[\\/])[^()]*?):(\d+):(\d+)\)?$/.exec(line);
    if (!frame) continue;
    const file = toPath(frame[1]);
    const relative = path.relative(directory, file);
    if (relative.startsWith('..') || relative.split(path.sep).includes('node_modules')) continue;
    return { file, line: Number(frame[2]), column: Number(frame[3]) };
  }
  return null;
}

/** A syntax error that V8 found. Node puts its place before the stack, but for an ES module only when it prints the error itself. */
function placeOfSyntax(error, file) {
  if (error?.name !== 'SyntaxError') return null;
  return leadingPlace(error.stack) ?? leadingPlace(check(file));
}

function check(file) {
  return spawnSync(process.execPath, ['--check', file], { encoding: 'utf8', timeout: CHECK_TIMEOUT }).stderr;
}

function leadingPlace(text) {
  const place = /^((?:file:\/\/)?(?:\/|[A-Za-z]:[\\/]).*?):(\d+)\n/.exec(String(text));
  return place ? { file: toPath(place[1]), line: Number(place[2]) } : null;
}

function toPath(text) {
  return text.startsWith('file://') ? fileURLToPath(text.split('?')[0]) : text;
}

function codeFrame({ file, line, column }) {
  const source = readLines(file);
  if (line > source.length) return [];
  const first = Math.max(1, line - LINES_BEFORE);
  const width = String(line).length;
  const frame = source
    .slice(first - 1, line)
    .map((text, index) => `    ${first + index === line ? '>' : ' '} ${String(first + index).padStart(width)} | ${text}`);
  if (column) {
    const indent = source[line - 1].slice(0, column - 1).replace(/[^\t]/g, ' ');
    frame.push(`      ${' '.repeat(width)} | ${indent}^`);
  }
  return frame;
}

function readLines(file) {
  try {
    return fs.readFileSync(file, 'utf8').split(/\r?\n/);
  } catch {
    return [];
  }
}

module.exports = { describeLoadError };
