'use strict';

// Checks index.d.ts the way a user meets it: each case is a small project with the package installed, compiled under `strict`.
//
// - accepted/*.ts must compile; rejected/*.ts must be refused exactly where a line ends in an error's number;
// - the chapter's route files must compile, where the checkout lies beside them;
// - what index.d.ts declares must be what index.js and index.mjs export.
//
// `types` is empty, as it is by default from TypeScript 6 on, so that Node's types come through index.d.ts or not at all.
// A word as argument picks the cases whose name has it. Prints a line for each case and the counts; the exit code is 1 if one failed.

const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

const ROOT = path.resolve(__dirname, '..', '..');
const CHAPTER = path.resolve(ROOT, '..', 'shared', 'chapter', 'routes');
const TSC = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
const NODE_TYPES = path.dirname(require.resolve('@types/node/package.json'));
const COMPILER_TIMEOUT_MS = 120_000;

// `kind` is the "type" of the user's package.json. It decides whether a .ts file is a module or CommonJS.
const SETTINGS = [
  { kind: 'module', resolution: 'nodenext' },
  { kind: 'module', resolution: 'bundler' },
  { kind: 'commonjs', resolution: 'node16' },
];

const ROUTER_METHODS = [
  'websocket', 'pushToWebSocket', 'connectionCount', 'get', 'post', 'put', 'patch', 'delete', 'head', 'options', 'any', 'getRoutes',
];

/** Lays out a project under `scratch` with the package installed, and gives its folder. */
function makeProject(scratch, { kind, resolution, files, nodeTypes = true }) {
  const project = fs.mkdtempSync(path.join(scratch, 'app-'));
  const installed = path.join(project, 'node_modules', 'tina4-nodejs');
  fs.mkdirSync(installed, { recursive: true });
  for (const name of ['package.json', 'index.d.ts']) fs.copyFileSync(path.join(ROOT, name), path.join(installed, name));
  if (nodeTypes) {
    fs.mkdirSync(path.join(project, 'node_modules', '@types'));
    fs.symlinkSync(NODE_TYPES, path.join(project, 'node_modules', '@types', 'node'), 'junction');
  }
  fs.writeFileSync(path.join(project, 'package.json'), JSON.stringify({ private: true, type: kind }));
  const { compilerOptions } = JSON.parse(fs.readFileSync(path.join(__dirname, 'tsconfig.json'), 'utf8'));
  compilerOptions.moduleResolution = resolution;
  compilerOptions.module = resolution === 'bundler' ? 'esnext' : resolution;
  fs.writeFileSync(path.join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }));
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(project, 'src', name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
  return project;
}

/** The sources of one folder, by name below `prefix`. */
function sources(folder, prefix, keep = () => true) {
  const names = fs.readdirSync(folder).filter((name) => name.endsWith('.ts') && keep(name));
  if (names.length === 0) throw new Error(`${prefix} holds no .ts file to check`);
  return Object.fromEntries(names.map((name) => [`${prefix}/${name}`, fs.readFileSync(path.join(folder, name), 'utf8')]));
}

/** Compiles a project and gives its errors as { where: "file:line", code, text }. */
function compile(project) {
  return new Promise((resolve, reject) => {
    const options = { cwd: project, timeout: COMPILER_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 };
    execFile(process.execPath, [TSC, '--pretty', 'false'], options, (error, stdout, stderr) => {
      const errors = [];
      for (const line of stdout.split(/\r?\n/)) {
        const found = /^(?:(.+?)\((\d+),\d+\): )?error (TS\d+): (.*)$/.exec(line);
        if (!found) continue;
        const [, file = 'project', row = '0', code, text] = found;
        errors.push({ where: `${file.replace(/^src\//, '')}:${row}`, code, text });
      }
      // A compiler that could not run at all must not pass for one that found nothing.
      if (error && errors.length === 0) return reject(new Error(`tsc did not run: ${error.message}\n${stdout}${stderr}`));
      resolve(errors);
    });
  });
}

const listed = (errors) => errors.map(({ where, code, text }) => `${where} ${code}: ${text}`);

/** What is wrong with a project that must compile. */
async function mustCompile(scratch, project) {
  return listed(await compile(makeProject(scratch, project)));
}

/** What is wrong with sources of which exactly the marked lines must be refused, each with the error it names. */
async function mustBeRefused(scratch, project) {
  const wanted = new Map();
  for (const [name, text] of Object.entries(project.files)) {
    text.split('\n').forEach((line, index) => {
      const mark = /\/\/ (TS\d+)$/.exec(line);
      if (mark) wanted.set(`${name}:${index + 1}`, mark[1]);
    });
  }
  if (wanted.size === 0) return ['no line is marked with the error it must be refused with'];
  const errors = await compile(makeProject(scratch, project));
  const wrong = errors.filter(({ where, code }) => wanted.get(where) !== code);
  const met = new Set(errors.map(({ where }) => where));
  const missed = [...wanted].filter(([where]) => !met.has(where));
  return [...listed(wrong), ...missed.map(([where, code]) => `${where} was accepted, it must be refused with ${code}`)];
}

/** What is wrong with the names: those declared against those that exist. */
async function mustExport(scratch, settings) {
  const api = require(path.join(ROOT, 'index.js'));
  const names = Object.keys(api);
  const failures = [];
  const imported = Object.keys(await import(pathToFileURL(path.join(ROOT, 'index.mjs')).href));
  if (String(imported.sort()) !== String([...names].sort())) {
    failures.push(`index.mjs exports ${imported.join(', ')}; index.js exports ${names.join(', ')}`);
  }
  for (const method of ROUTER_METHODS) {
    if (typeof api.Router?.[method] !== 'function') failures.push(`Router.${method} is declared and does not exist`);
    if (typeof api.Router?.prototype?.[method] !== 'function') failures.push(`a router has no ${method}, which is declared`);
  }
  const union = (values) => values.map((value) => JSON.stringify(value)).join(' | ');
  const probe = `
    import api = require("tina4-nodejs");
    import { same } from "./same.cjs";
    same<keyof typeof api, ${union(names)}>();
    same<Exclude<keyof api.Router, symbol>, ${union(ROUTER_METHODS)}>();
  `;
  const same = fs.readFileSync(path.join(__dirname, 'accepted', 'same.ts'), 'utf8');
  failures.push(...await mustCompile(scratch, { ...settings, files: { 'probe.cts': probe, 'same.cts': same } }));
  return failures;
}

/** All cases: each a name, and a function that gives the list of what is wrong, or `skip` with the reason. */
function cases(scratch) {
  const accepted = sources(path.join(__dirname, 'accepted'), 'accepted');
  const withoutNode = sources(path.join(__dirname, 'accepted'), 'accepted', (name) => name !== 'node.ts');
  const rejected = sources(path.join(__dirname, 'rejected'), 'rejected');
  const list = SETTINGS.map((settings) => ({
    name: `accepted code compiles (${settings.kind}, ${settings.resolution})`,
    run: () => mustCompile(scratch, { ...settings, files: accepted }),
  }));
  const [first] = SETTINGS;
  list.push({
    name: 'accepted code compiles without @types/node',
    run: () => mustCompile(scratch, { ...first, files: withoutNode, nodeTypes: false }),
  });
  list.push({
    name: 'rejected code is refused, each line with its error',
    run: () => mustBeRefused(scratch, { ...first, files: rejected }),
  });
  for (const settings of SETTINGS) {
    list.push({
      name: `the chapter's routes compile (${settings.kind}, ${settings.resolution})`,
      skip: fs.existsSync(CHAPTER) ? undefined : 'the chapter does not lie beside the checkout',
      run: () => mustCompile(scratch, { ...settings, files: sources(CHAPTER, 'chapter') }),
    });
  }
  list.push({ name: 'what is declared is what is exported', run: () => mustExport(scratch, first) });
  return list;
}

async function main() {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-types-'));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  try {
    const waiting = cases(scratch).filter(({ name }) => name.includes(process.argv[2] ?? ''));
    if (waiting.length === 0) throw new Error(`no case has ${JSON.stringify(process.argv[2])} in its name`);
    // The compiler keeps one core busy, so a case a core.
    const workers = Array.from({ length: Math.min(os.availableParallelism(), 4) }, async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        if (next.skip) {
          counts.skipped += 1;
          console.log(`skip  ${next.name}: ${next.skip}`);
          continue;
        }
        const failures = await next.run().catch((error) => [error.stack]);
        counts[failures.length === 0 ? 'passed' : 'failed'] += 1;
        console.log([`${failures.length === 0 ? 'ok   ' : 'FAIL '} ${next.name}`, ...failures].join('\n      '));
      }
    });
    await Promise.all(workers);
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
  console.log(`types: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  if (counts.failed > 0) process.exitCode = 1;
}

main();
