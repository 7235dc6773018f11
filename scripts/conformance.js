'use strict';

// `npm run conformance`: the cases of the Autobahn test suite against a server of this package. `npm run conformance -- 6.4 12` runs
// those sections or cases alone, `-- --short` the part that `npm test` runs. The last line is the sum.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { Problem, ROOT, checkNode, ensureBinary, ensurePackages, firstLine, main, run, say } = require('./steps');
const { ensureVenv } = require('./services');

/** Drives the cases of the suite from Python 3. */
const TESTER = 'kosoku==0.1.0';
const FOLDER = path.join(ROOT, 'target', 'conformance');
const PYTHON = path.join(FOLDER, 'venv', process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');

/** Each runs by itself, so that progress is seen. */
const SECTIONS = ['1', '2', '3', '4', '5', '6', '7', '9', '10', '12', '13'];
/** A part of every section that takes some seconds. */
const SHORT = [
  ...SECTIONS.filter((section) => Number(section) < 9).map((section) => `${section}.*`),
  '9.1.*', '9.2.*', '9.3.4', '9.3.9', '9.5.6', '9.6.6', '9.7.1', '9.8.1', '10.*',
  ...[1, 2, 3, 4, 5].flatMap((data) => [1, 5, 8, 11].map((size) => `12.${data}.${size}`)),
  ...[1, 2, 3, 4, 5, 6, 7].flatMap((offer) => [1, 5, 11].map((size) => `13.${offer}.${size}`)),
];
/** Messages of 4 MiB and more, which the server's own limit must refuse. */
const TOO_BIG = ['9.1.4', '9.1.5', '9.1.6', '9.2.4', '9.2.5', '9.2.6', '9.3.*', '9.4.*'];
/** Messages of 1 MiB, which it must not. */
const JUST_FITS = ['9.1.3', '9.2.3', '9.5.6', '9.6.6'];

const MIB = 1024 * 1024;
const OK = new Set(['OK', 'INFORMATIONAL']);
const COLUMNS = ['OK', 'INFORMATIONAL', 'NON-STRICT', 'UNIMPLEMENTED', 'FAILED', 'ERROR'];

main(async (words) => {
  checkNode();
  ensurePackages();
  ensureBinary();
  ensureTester();
  const short = words.includes('--short');
  const chosen = words.filter((word) => word !== '--short').map((word) => (/^\d+(\.\d+){2}$|\*$/.test(word) ? word : `${word}.*`));
  const cases = chosen.length > 0 ? chosen : short ? SHORT : SECTIONS.map((section) => `${section}.*`);

  // Section 9.3 sends 4 MiB in fragments of 64 bytes.
  const generous = { wsMaxMessageSize: 32 * MIB, wsMaxBacklog: 64 * MIB, wsMaxFragments: 100_000 };
  const rows = await runAll('limits raised', cases, generous, judge);
  if (chosen.length === 0) {
    const fragments = { wsMaxFragments: generous.wsMaxFragments };
    rows.push(...await runAll('1 MiB allowed, more sent', short ? ['9.1.4', '9.3.1'] : TOO_BIG, fragments, judgeTooBig));
    rows.push(...await runAll('1 MiB allowed, 1 MiB sent', JUST_FITS, fragments, judge));
  }
  printTable(rows);
  const failures = rows.flatMap((row) => row.failures);
  for (const failure of failures) console.log(`NOT OK ${failure}`);
  const total = rows.reduce((sum, row) => sum + row.total, 0);
  console.log(`\nconformance: ${total - failures.length} passed, ${failures.length} failed`);
  if (failures.length > 0 || total === 0) process.exitCode = 1;
});

/** Makes the folder with the tester, once. */
function ensureTester() {
  const marker = path.join(FOLDER, `${TESTER}.ready`);
  if (fs.existsSync(marker)) return;
  fs.mkdirSync(FOLDER, { recursive: true });
  ensureVenv(path.join(FOLDER, 'venv'));
  run(PYTHON, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', TESTER]);
  repairTester();
  fs.writeFileSync(marker, '');
}

/**
 * This version hands a message that came uncompressed to the cases of sections 12 and 13 as text with one character a byte, where they
 * expect bytes, and counts its own exception as an error of the server. A server need not compress what gets no smaller.
 */
function repairTester() {
  const folder = firstLine(PYTHON, ['-c', 'import kosoku; print(kosoku.__path__[0])']);
  const file = path.join(folder, 'cases', 'case12_x_x.py');
  const source = fs.readFileSync(file, 'utf8');
  const found = 'def onMessage(self, msg, binary):\n';
  if (!source.includes(found)) throw new Problem(`${file} is not the one that ${TESTER} had; see repairTester in scripts/conformance.js.`);
  fs.writeFileSync(file, source.replace(found, `${found}   if isinstance(msg, str): msg = msg.encode('latin-1')\n`));
}

/** Runs cases against a server with this configuration; returns a row for each section. */
async function runAll(title, cases, config, judgeOne) {
  const { Router, startServer } = require('..');
  const router = new Router();
  router.websocket('/', (connection, event, data) => {
    if (event === 'message') connection.send(data);
  }, { binary: true, compress: true });
  const logger = { debug() {}, info() {}, warn() {}, error: console.error };
  const server = await startServer({
    host: '127.0.0.1', port: 0, router, directory: FOLDER, logger, wsCompressionThreshold: 1, ...config,
  });
  const rows = [];
  try {
    for (const [section, patterns] of groups(cases)) {
      say(`Autobahn section ${section}, ${title}`);
      const begun = Date.now();
      const results = await runCases(server.port, patterns);
      rows.push(summary(`${section} (${title})`, results, judgeOne, (Date.now() - begun) / 1000));
    }
  } finally {
    await server.close();
  }
  return rows;
}

/** Patterns by the section they are of. */
function groups(cases) {
  const bySection = new Map();
  for (const pattern of cases) {
    const section = pattern.split('.', 1)[0];
    bySection.set(section, [...(bySection.get(section) ?? []), pattern]);
  }
  return bySection;
}

/** @returns {Promise<Record<string, object>>} What the tester says of each case */
function runCases(port, patterns) {
  const output = fs.mkdtempSync(path.join(FOLDER, 'report-'));
  const included = patterns.flatMap((pattern) => ['-i', pattern]);
  const args = ['-c', 'from kosoku._cli import main; main()', '-p', '2', '-o', output, ...included, `127.0.0.1:${port}`];
  return new Promise((resolve, reject) => {
    // It says on stderr what the report says too.
    const child = spawn(PYTHON, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.on('data', (chunk) => { complaint += chunk; });
    child.once('error', reject);
    child.once('close', () => {
      try {
        const [results] = Object.values(JSON.parse(fs.readFileSync(path.join(output, 'index.json'), 'utf8')));
        resolve(results);
      } catch {
        reject(new Problem(`The tester made no report:\n${complaint}`));
      } finally {
        fs.rmSync(output, { recursive: true });
      }
    });
  });
}

function judge(name, { behavior, behaviorClose, remoteCloseCode }) {
  if (OK.has(behavior) && OK.has(behaviorClose)) return null;
  return `${name}: ${behavior}, its close ${behaviorClose} with ${remoteCloseCode}`;
}

function judgeTooBig(name, { remoteCloseCode }) {
  return remoteCloseCode === 1009 ? null : `${name}: closed with ${remoteCloseCode}, not with 1009`;
}

function summary(title, results, judgeOne, seconds) {
  const names = Object.keys(results);
  const counts = Object.fromEntries(COLUMNS.map((column) => [column, 0]));
  const failures = [];
  for (const name of names) {
    const failure = judgeOne(name, results[name]);
    const column = judgeOne === judge ? results[name].behavior : failure ? 'FAILED' : 'OK';
    counts[column] += 1;
    if (failure) failures.push(failure);
  }
  return { title, total: names.length, counts, failures, seconds };
}

function printTable(rows) {
  const width = Math.max(...rows.map(({ title }) => title.length));
  const titles = ['cases', ...COLUMNS];
  console.log(`\n${'section'.padEnd(width)}  ${titles.join('  ')}  seconds`);
  for (const { title, total, counts, seconds } of rows) {
    const cells = [total, ...COLUMNS.map((column) => counts[column])].map((cell, index) => String(cell).padStart(titles[index].length));
    console.log(`${title.padEnd(width)}  ${cells.join('  ')}  ${seconds.toFixed(1).padStart(7)}`);
  }
}
