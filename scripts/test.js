'use strict';

// `npm test`: makes a fresh clone ready and checks everything; `npm test -- engine` (or another name below) checks one part, and
// words after `unit`, `chapter`, `e2e` or `long` go to jest. Stops at the first step that fails. The last line is the sum of all.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { ensureChromium } = require('./chromium');
const { ensureServices } = require('./services');
const { Problem, ROOT, checkNode, checkRust, ensureBinary, ensurePackages, main, say } = require('./steps');

/** How long one step may take, in milliseconds, before it is killed and counts as failed. */
const STEP_TIMEOUT = 30 * 60_000;

/** The steps of each part, in the order they run. `long` is no part of `npm test` without a name: `npm run test:long`. */
const PARTS = {
  engine: () => [
    check('rustfmt', 'cargo', ['fmt', '--all', '--check']),
    check('clippy', 'cargo', ['clippy', '--quiet', '--workspace', '--all-targets', '--', '-D', 'warnings']),
    { name: 'engine tests', command: 'cargo', args: ['test', '--quiet', '-p', 'engine', '--no-fail-fast'], count: countCargo },
    check('rustdoc', 'cargo', ['doc', '--quiet', '--workspace', '--no-deps'], { RUSTDOCFLAGS: '-D warnings' }),
  ],
  package: () => [
    check('generated files', 'git', ['diff', '--exit-code', '--', 'native.js', 'native.d.ts']),
    check('packed files', process.execPath, ['scripts/check-package.js']),
  ],
  types: () => [{ name: 'types', command: process.execPath, args: ['__test__/types/run.js'], count: countTypes }],
  unit: (words) => [jest('unit', words)],
  chapter: (words) => [jest('chapter', words)],
  conformance: () => [
    { name: 'conformance', command: process.execPath, args: ['scripts/conformance.js', '--short'], count: countConformance },
  ],
  e2e: (words) => [jest('e2e', words)],
  long: (words) => [manyLives(), jest('long', words)],
};

/** The servers that the tests of a part start. */
const SERVICES = {
  engine: ['redis-server', 'nats-server'],
  unit: ['redis-server', 'nats-server'],
  e2e: ['redis-server', 'nginx'],
  long: ['redis-server', 'nats-server'],
};

const EVERYTHING = Object.keys(PARTS).filter((name) => name !== 'long');

/** A step without tests of its own: it counts as one. */
function check(name, command, args, env = {}) {
  return { name, command, args, env, count: (output, succeeded) => ({ passed: Number(succeeded), failed: Number(!succeeded) }) };
}

/** The model test of a connection's life, with so many scenarios that it takes a minute. */
function manyLives() {
  const args = ['test', '--quiet', '-p', 'engine', '--test', 'lifecycle'];
  return { name: 'lives of connections', command: 'cargo', args, env: { PROPTEST_CASES: '5000' }, count: countCargo };
}

function jest(project, words) {
  const results = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-jest-')), 'results.json');
  const options = ['--selectProjects', project, '--json', '--outputFile', results];
  return {
    name: `jest ${project}`,
    command: process.execPath,
    args: [require.resolve('jest/bin/jest'), ...options, ...words],
    count: () => countJest(results),
  };
}

function countCargo(output) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const [, passed, failed, ignored] of output.matchAll(/^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored/gm)) {
    total.passed += Number(passed);
    total.failed += Number(failed);
    total.skipped += Number(ignored);
  }
  return total;
}

function countTypes(output) {
  const [, passed, failed, skipped] = /^types: (\d+) passed, (\d+) failed, (\d+) skipped$/m.exec(output) ?? [];
  return { passed: Number(passed ?? 0), failed: Number(failed ?? 0), skipped: Number(skipped ?? 0) };
}

function countConformance(output) {
  const [, passed, failed] = /^conformance: (\d+) passed, (\d+) failed$/m.exec(output) ?? [];
  return { passed: Number(passed ?? 0), failed: Number(failed ?? 0) };
}

function countJest(file) {
  if (!fs.existsSync(file)) return { passed: 0, failed: 0 };
  const results = JSON.parse(fs.readFileSync(file, 'utf8'));
  fs.rmSync(path.dirname(file), { recursive: true });
  return {
    passed: results.numPassedTests,
    // A test file that cannot even be loaded has no tests to count.
    failed: results.numFailedTests + results.numRuntimeErrorTestSuites,
    skipped: results.numPendingTests,
  };
}

/**
 * Runs a step with its output on the terminal.
 *
 * @returns {Promise<{ name: string, seconds: number, succeeded: boolean, passed: number, failed: number, skipped?: number }>}
 */
async function runStep({ name, command, args, env, count }) {
  say(`${name}: ${[path.basename(command), ...args].join(' ')}`);
  const begun = process.hrtime.bigint();
  const { status, output } = await runAndKeep(command, args, env);
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  const succeeded = status === 0;
  const counts = count(output, succeeded);
  // A step may fail without a failed test: it did not compile, or it was killed.
  if (!succeeded && counts.failed === 0) counts.failed = 1;
  return { name, seconds, succeeded, ...counts };
}

function runAndKeep(command, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const kept = [];
    for (const [from, to] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ]) {
      from.on('data', (chunk) => {
        kept.push(chunk);
        to.write(chunk);
      });
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), STEP_TIMEOUT);
    child.once('error', reject);
    child.once('close', (status) => {
      clearTimeout(timer);
      resolve({ status, output: Buffer.concat(kept).toString() });
    });
  });
}

function printTable(results) {
  const width = Math.max(...results.map(({ name }) => name.length));
  console.log('');
  for (const { name, seconds, succeeded, passed, failed, skipped = 0 } of results) {
    const outcome = `${succeeded ? 'ok    ' : 'FAILED'} ${String(passed).padStart(5)} passed ${String(failed).padStart(4)} failed`;
    console.log(`${name.padEnd(width)}  ${seconds.toFixed(1).padStart(7)} s  ${outcome}${skipped ? ` ${skipped} skipped` : ''}`);
  }
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
}

main(async ([part, ...words]) => {
  if (part !== undefined && !Object.hasOwn(PARTS, part)) {
    throw new Problem(`There is no part "${part}". Parts: ${Object.keys(PARTS).join(', ')}; without a name all but long.`);
  }
  checkNode();
  const parts = part ? [part] : EVERYTHING;
  if (parts.includes('engine')) checkRust();
  // Before the steps, so that what is missing is said at once.
  if (parts.includes('e2e')) process.env.CHROMIUM_PATH = ensureChromium();
  ensureServices([...new Set(parts.flatMap((name) => SERVICES[name] ?? []))]);
  ensurePackages();
  // The engine's own tests need no Node addon.
  if (part !== 'engine') ensureBinary();

  const results = [];
  for (const step of parts.flatMap((name) => PARTS[name](words))) {
    const result = await runStep(step);
    results.push(result);
    if (!result.succeeded) break;
  }
  printTable(results);
  if (results.some(({ succeeded }) => !succeeded)) process.exitCode = 1;
});
