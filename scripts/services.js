'use strict';

// The servers that the tests start for themselves: Redis and NATS for the backplane, nginx for several instances behind one port.

const fs = require('node:fs');
const path = require('node:path');
const { Problem, firstLine, run } = require('./steps');

/** By the name of its program: the Debian package, and how a person calls it. */
const SERVICES = {
  'redis-server': { debian: 'redis-server', title: 'Redis' },
  'nats-server': { debian: 'nats-server', title: 'NATS' },
  nginx: { debian: 'nginx', title: 'nginx' },
};

/** Where Debian asks whether the service of a package may start. */
const POLICY = '/usr/sbin/policy-rc.d';

/** Where programs of services are on Debian; only root has it in PATH. */
const SBIN = '/usr/sbin';

/**
 * Makes sure that programs are there. As root on Debian and its relatives they are installed, without starting a service; elsewhere one
 * sentence says what to do.
 *
 * @param {string[]} programs Names of SERVICES
 */
function ensureServices(programs) {
  if (!folders().includes(SBIN)) process.env.PATH += path.delimiter + SBIN;
  const missing = () => programs.filter((program) => !isInPath(program));
  if (missing().length > 0 && mayInstall()) install(missing().map((program) => SERVICES[program].debian));
  if (missing().length === 0) return;
  const titles = missing().map((program) => SERVICES[program].title);
  const packages = missing().map((program) => SERVICES[program].debian);
  throw new Problem(
    `The tests need ${titles.join(', ')}: install ${missing().join(', ')} so that PATH has it (Debian: apt-get install ${packages.join(' ')}).`,
  );
}

/**
 * Makes a Python environment in a folder. Debian has what that takes in a package of its own.
 *
 * @param {string} folder
 */
function ensureVenv(folder) {
  if (firstLine('python3', ['--version']) === null || firstLine('python3', ['-c', 'import ensurepip']) === null) {
    if (!mayInstall()) {
      throw new Problem('The conformance test needs Python 3.10 or newer with venv (Debian: apt-get install python3-venv).');
    }
    install(['python3-venv']);
  }
  run('python3', ['-m', 'venv', folder]);
}

/** Whether this is root on Debian or one of its relatives. */
function mayInstall() {
  return process.platform === 'linux' && process.getuid() === 0 && firstLine('apt-get', ['--version']) !== null;
}

function folders() {
  return process.env.PATH.split(path.delimiter);
}

function isInPath(program) {
  const names = process.platform === 'win32' ? [`${program}.exe`] : [program];
  return folders().some((folder) => names.some((name) => fs.existsSync(path.join(folder, name))));
}

function install(packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const hasPolicy = fs.existsSync(POLICY);
  // Services would take their usual ports, and stay. 101 is "not allowed".
  if (!hasPolicy) fs.writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    run('apt-get', ['update', '-q'], { env });
    run('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], { env });
  } finally {
    if (!hasPolicy) fs.rmSync(POLICY);
  }
  // Nor with the next boot, where a systemd runs.
  if (fs.existsSync('/run/systemd/system')) run('systemctl', ['disable', '--quiet', '--now', ...packages], { env });
}

module.exports = { ensureServices, ensureVenv };
