'use strict';

// What the bench needs before it can measure: the peers' packages, the load generator, this checkout's binary.

const fs = require('node:fs');
const path = require('node:path');
const { Problem, checkNode, checkRust, ensureBinary, ensurePackages, run } = require('../../scripts/steps.js');

const BENCH = path.join(__dirname, '..');
const LOAD = path.join(BENCH, 'load');
/** Named to cargo, so that a target folder set in the environment does not hide it. */
const TARGET = path.join(LOAD, 'target');
const LOAD_BINARY = path.join(TARGET, 'release', 'load');

/**
 * Installs and builds what is missing, with the commands' output on the terminal.
 *
 * @param {{ engine?: boolean }} [what] `engine: false` where this checkout itself is not measured
 * @throws {Problem} where the machine cannot run the bench, with what it lacks
 */
function prepare({ engine = true } = {}) {
  if (process.platform !== 'linux') {
    throw new Problem(`The bench reads CPU time from /proc, which Linux has and ${process.platform} has not.`);
  }
  checkNode();
  checkRust();
  ensurePackages();
  if (engine) ensureBinary();
  if (!peersAreCurrent()) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: BENCH });
  // Cargo itself knows best whether there is anything to do, and says nothing then.
  const manifest = ['--manifest-path', path.join(LOAD, 'Cargo.toml')];
  run('cargo', ['build', '--release', '--quiet', '--locked', ...manifest, '--target-dir', TARGET]);
}

function peersAreCurrent() {
  const { dependencies } = readJson(path.join(BENCH, 'package.json'));
  return Object.entries(dependencies).every(([name, version]) => installedVersion(name) === version);
}

/** @returns {string|null} The version of a package that the bench has installed */
function installedVersion(name) {
  return readJson(path.join(BENCH, 'node_modules', name, 'package.json'))?.version ?? null;
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

module.exports = { BENCH, LOAD_BINARY, installedVersion, prepare };
