'use strict';

// What the bench needs before it can measure: the peers, the load generator, this checkout's binary.

const fs = require('node:fs');
const path = require('node:path');
const { Problem, checkNode, checkRust, ensureBinary, ensurePackages, run } = require('../../scripts/steps.js');

const BENCH = path.join(__dirname, '..');
const LOAD = path.join(BENCH, 'load');
const FLOOR = path.join(BENCH, 'servers', 'floor');
const LOAD_BINARY = path.join(target(LOAD), 'release', 'load');
const BARE_BINARY = path.join(target(LOAD), 'release', 'bare');
const FLOOR_BINARY = path.join(target(FLOOR), 'release', 'floor');

/**
 * Installs and builds what is missing, with the commands' output on the terminal.
 *
 * @param {{ engine?: boolean, floor?: boolean }} [what] `engine: false` where this checkout itself is not measured, `floor: true` where
 *   the server without JavaScript is
 * @throws {Problem} where the machine cannot run the bench, with what it lacks
 */
function prepare({ engine = true, floor = false } = {}) {
  if (process.platform !== 'linux') {
    throw new Problem(`The bench reads CPU time from /proc, which Linux has and ${process.platform} has not.`);
  }
  checkNode();
  checkRust();
  ensurePackages();
  if (engine) ensureBinary();
  if (!peersAreCurrent()) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: BENCH });
  build(LOAD);
  if (floor) build(FLOOR);
}

function build(folder) {
  // Cargo itself knows best whether there is anything to do, and says nothing then.
  const manifest = ['--manifest-path', path.join(folder, 'Cargo.toml')];
  run('cargo', ['build', '--release', '--quiet', '--locked', ...manifest, '--target-dir', target(folder)]);
}

/** Named to cargo, so that a target folder set in the environment does not hide it. */
function target(folder) {
  return path.join(folder, 'target');
}

function peersAreCurrent() {
  const { dependencies } = readJson(path.join(BENCH, 'package.json'));
  return Object.entries(dependencies).every(([name, version]) => installedVersion(name) === version);
}

/** @returns {string|null} The version of a package that the bench has installed */
function installedVersion(name) {
  return readJson(path.join(BENCH, 'node_modules', name, 'package.json'))?.version ?? null;
}

/** @returns {string} The version of a crate that the floor is built of */
function lockedVersion(name) {
  const lock = fs.readFileSync(path.join(FLOOR, 'Cargo.lock'), 'utf8');
  return new RegExp(`^name = "${name}"\\nversion = "(.+)"$`, 'm').exec(lock)?.[1] ?? 'unknown';
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

module.exports = { BARE_BINARY, BENCH, FLOOR_BINARY, LOAD_BINARY, installedVersion, lockedVersion, prepare };
