'use strict';

// What the other scripts need done first: a Node and a Rust that are new enough, the npm packages, the engine's binary.

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.join(__dirname, '..');

/** What the binary is made of. */
const SOURCES = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'package.json', 'src', 'crates'];

/** A sentence for the person who runs the script: what is wrong, or missing and how to get it. It is printed without a stack. */
class Problem extends Error {}

function say(text) {
  console.log(`> ${text}`);
}

/**
 * Runs a command in the checkout, with its output on the terminal.
 *
 * @throws {Error} When it does not exit with 0
 */
function run(command, args, options = {}) {
  say([command, ...args].join(' '));
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
  if (error) throw error;
  if (status !== 0) throw new Problem(`${command} ${args.join(' ')} exited with ${status}.`);
}

/** The first line that a command prints; null when it cannot be run. */
function firstLine(command, args) {
  const { status, stdout } = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8' });
  return status === 0 ? stdout.split('\n', 1)[0] : null;
}

function isOlder(version, wanted) {
  const [have, want] = [version, wanted].map((text) => text.split('.').map(Number));
  const index = want.findIndex((number, place) => (have[place] ?? 0) !== number);
  return index !== -1 && (have[index] ?? 0) < want[index];
}

function checkNode() {
  const wanted = require('../package.json').engines.node.replace(/^>=/, '');
  if (isOlder(process.versions.node, wanted)) {
    throw new Problem(`This needs Node.js ${wanted} or newer, but ${process.execPath} is ${process.versions.node}.`);
  }
}

function checkRust() {
  const wanted = /^rust-version = "([\d.]+)"/m.exec(fs.readFileSync(path.join(ROOT, 'Cargo.toml'), 'utf8'))[1];
  const how = 'install it from https://rustup.rs and open a new terminal';
  const version = firstLine('cargo', ['--version'])?.match(/\d+\.\d+\.\d+/)?.[0];
  if (!version) throw new Problem(`Building the engine needs Rust ${wanted} or newer, and there is no cargo in PATH: ${how}.`);
  if (isOlder(version, wanted)) {
    throw new Problem(
      `Building the engine needs Rust ${wanted} or newer, but this cargo is ${version}: run "rustup update", or ${how}.`,
    );
  }
  if (process.platform === 'linux' && firstLine('cc', ['--version']) === null) {
    throw new Problem(
      'Building the engine needs a C linker, and there is no cc in PATH: install gcc (Debian: apt-get install gcc libc6-dev).',
    );
  }
}

/** Installs the npm packages, unless exactly those of package-lock.json are installed. */
function ensurePackages() {
  if (packagesAreCurrent()) return;
  // The binary is built by a step of its own, which says what it does.
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { shell: process.platform === 'win32' });
}

function packagesAreCurrent() {
  const wanted = readPackages('package-lock.json');
  const installed = readPackages(path.join('node_modules', '.package-lock.json'));
  if (!installed) return false;
  return Object.entries(wanted).every(([name, entry]) => {
    if (name === '') return true;
    const found = installed[name];
    return found ? found.version === entry.version : entry.optional || entry.devOptional;
  });
}

function readPackages(file) {
  try {
    return JSON.parse(fs.readFileSync(path.join(ROOT, file), 'utf8')).packages;
  } catch {
    return null;
  }
}

/** Builds the engine's binary, unless there is one that is newer than its sources. */
function ensureBinary() {
  if (binaryIsCurrent()) return;
  checkRust();
  say('building the engine (the first time takes a few minutes)');
  run('npm', ['run', '--silent', 'build'], { shell: process.platform === 'win32' });
}

function binaryIsCurrent() {
  const binaries = fs.readdirSync(ROOT).filter((name) => name.endsWith('.node'));
  if (binaries.length === 0) return false;
  const built = Math.min(...binaries.map((name) => fs.statSync(path.join(ROOT, name)).mtimeMs));
  return built >= Math.max(...SOURCES.map((name) => newest(path.join(ROOT, name))));
}

function newest(file) {
  const stat = fs.statSync(file);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...fs.readdirSync(file).map((name) => newest(path.join(file, name))));
}

/** Runs a script's main function; what it throws is one line on stderr and exit code 1. */
async function main(script) {
  try {
    await script(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Problem ? error.message : (error.stack ?? String(error)));
    process.exitCode = 1;
  }
}

module.exports = {
  Problem,
  ROOT,
  binaryIsCurrent,
  checkNode,
  checkRust,
  ensureBinary,
  ensurePackages,
  firstLine,
  main,
  run,
  say,
};
