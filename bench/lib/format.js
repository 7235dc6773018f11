'use strict';

// How the benches write numbers, tables, and what they were measured on.

const os = require('node:os');
const { firstLine } = require('../../scripts/steps.js');
const { version } = require('../../package.json');

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function thousands(rate) {
  return rate >= 1e6 ? Math.round(rate / 1e3).toLocaleString('en-US') : (rate / 1e3).toFixed(1);
}

function digits(microseconds) {
  return microseconds.toFixed(microseconds < 2 ? 3 : microseconds < 20 ? 2 : 1);
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** The table for a terminal. The first line is the head. */
function plainTable(lines) {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}

/** The table for a page. The first line is the head. */
function markdownTable([head, ...lines]) {
  const line = (texts) => `| ${texts.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...lines.map(line)].join('\n');
}

function machine() {
  const processor = os.cpus()[0]?.model ?? 'unknown processor';
  return `${os.cpus().length} cores (${processor}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}`;
}

/** @param {string[]} measured What was measured: files and folders of the checkout */
function thisVersion(measured) {
  return `tina4-nodejs ${version} (commit ${commit(measured)})`;
}

function commit(measured) {
  const hash = firstLine('git', ['rev-parse', '--short', 'HEAD']);
  if (hash === null) return 'unknown';
  const changed = firstLine('git', ['status', '--porcelain', '--', 'src', 'crates', 'lib', 'index.js', ...measured]);
  return changed === '' ? hash : `${hash} with changes`;
}

module.exports = { digits, machine, markdownTable, median, percent, plainTable, thisVersion, thousands };
