'use strict';

// The tarball as a user gets it: installed into an empty folder of a machine without Rust, without running install scripts.

const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { problems } = require('../scripts/check-package');
const { pack } = require('../scripts/pack');
const { ROOT } = require('./served');
const { answering, cleanUp, newApp, tina4 } = require('./cli-app');

const INSTALL_TIMEOUT = 180_000;

let scratch;
let app;
/** Node and npm are all that is in PATH. */
let env;

beforeAll(async () => {
  scratch = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-package-')));
  const tools = path.join(scratch, 'bin');
  fs.mkdirSync(tools);
  fs.symlinkSync(process.execPath, path.join(tools, 'node'));
  fs.symlinkSync(fs.realpathSync(path.join(path.dirname(process.execPath), 'npm')), path.join(tools, 'npm'));
  env = { ...process.env, PATH: tools };
  const tarball = pack(scratch);
  app = path.join(scratch, 'app');
  fs.mkdirSync(app);
  fs.writeFileSync(path.join(app, 'package.json'), '{}');
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball]);
}, INSTALL_TIMEOUT);

afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }));

afterEach(cleanUp);

/** Runs a program in the app; rejects with its output when it fails. */
function run(command, args) {
  return new Promise((resolve, reject) => {
    execFile(path.join(scratch, 'bin', command), args, { cwd: app, env, timeout: INSTALL_TIMEOUT }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stdout}${stderr}`, { cause: { stdout, stderr } }));
      else resolve(stdout);
    });
  });
}

const installed = (...names) => path.join(app, 'node_modules', 'tina4-nodejs', ...names);

it('has no cargo to build with', async () => {
  await expect(run('node', ['-e', 'require("node:child_process").execFileSync("cargo")'])).rejects.toThrow(/ENOENT/);
});

it('asks npm for nothing to build, and for no package of another platform', () => {
  const { scripts, optionalDependencies } = JSON.parse(fs.readFileSync(installed('package.json'), 'utf8'));
  expect(Object.keys(scripts).filter((name) => /install$/.test(name))).toEqual([]);
  expect(optionalDependencies).toBeUndefined();
  expect(fs.readdirSync(installed()).filter((name) => name.endsWith('.node'))).toHaveLength(1);
});

it('gives import and require the same Router', async () => {
  const file = path.join(app, 'both.mjs');
  fs.writeFileSync(
    file,
    `import { createRequire } from 'node:module';
     import * as imported from 'tina4-nodejs';
     const required = createRequire(import.meta.url)('tina4-nodejs');
     console.log(imported.Router === required.Router, imported.startServer === required.startServer, Object.keys(required).sort().join());
     console.log(Object.keys(imported).filter((name) => name !== 'default').sort().join());`,
  );
  const names = 'Router,getToken,startServer,validToken';
  expect(await run('node', [file])).toBe(`true true ${names}\n${names}\n`);
});

it.each(['tina4', 'tina4nodejs'])('serves an app with %s', async (name) => {
  fs.mkdirSync(path.join(app, 'src', 'routes'), { recursive: true });
  fs.writeFileSync(path.join(app, 'src', 'routes', 'a.ts'), answering('/a', 'a'));
  const cli = path.join(app, 'node_modules', '.bin', name);
  const served = await tina4(app, ['serve', '--port', '0'], { cli, env }).ready();
  expect(await served.fetch('/a')).toBe('a');
  expect(await served.fetch('/js/frond.js')).toContain('WebSocket');
});

describe('without a binary that loads', () => {
  let binary;
  beforeEach(() => {
    binary = installed(fs.readdirSync(installed()).find((name) => name.endsWith('.node')));
    fs.renameSync(binary, path.join(scratch, 'kept.node'));
  });
  afterEach(() => fs.renameSync(path.join(scratch, 'kept.node'), binary));

  it('names the file that was looked for and says what to do', async () => {
    const code = 'try { require("tina4-nodejs") } catch (error) { console.log(error.code); console.log(error.message) }';
    const [errorCode, message] = (await run('node', ['-e', code])).split('\n');
    expect(errorCode).toBe('ERR_TINA4_NATIVE');
    expect(message).toContain(path.basename(binary));
    expect(message).toContain(installed());
    expect(message).toContain('install again');
  });

  it('says the same of a file that is no binary', async () => {
    fs.writeFileSync(binary, 'not a binary');
    const code = 'try { require("tina4-nodejs") } catch (error) { console.log(error.code); console.log(error.message) }';
    const [errorCode, message] = (await run('node', ['-e', code])).split('\n');
    expect(errorCode).toBe('ERR_TINA4_NATIVE');
    expect(message).toContain(`${path.basename(binary)} in ${installed()} could not be loaded`);
  });

  it.each([[['serve']], [['serve', '--production']]])('ends tina4 %p with that sentence, without a stack', async (args) => {
    const served = tina4(newAppOf(installed()).directory, [...args, '--port', '0']);
    expect((await served.exit()).code).toBe(1);
    expect(served.stderr).toMatch(/^There is no native binary for this platform: .*\n$/);
  });

  it('still shows what the CLI can do', async () => {
    expect(await run('node', [path.join(app, 'node_modules', '.bin', 'tina4'), '--help'])).toContain('serve');
  });
});

/** An app that finds the installed package rather than the checkout. */
function newAppOf(directory) {
  const other = newApp({ 'src/routes/a.ts': '' });
  const link = path.join(other.directory, 'node_modules', 'tina4-nodejs');
  fs.rmSync(link);
  fs.symlinkSync(directory, link, 'dir');
  return other;
}

describe('the list of packed files', () => {
  const good = () => [
    ...[
      'LICENSE',
      'README.md',
      'bin/tina4.js',
      'index.d.ts',
      'index.js',
      'index.mjs',
      'lib/cli/child.js',
      'lib/cli/main.js',
      'lib/native.js',
    ],
    ...['lib/server.js', 'native.d.ts', 'native.js', 'package.json', 'public/js/frond.js', 'templates/base.html'],
    'tina4-nodejs.linux-x64-gnu.node',
  ];

  it('is accepted when everything is there', () => {
    expect(problems([...good(), 'lib/cli/serve.js', 'docs/http.md'])).toEqual([]);
  });

  it('is refused without a part, with a stranger, and with two binaries', () => {
    expect(problems(good().filter((name) => name !== 'index.mjs'))).toEqual(['index.mjs is missing from the package.']);
    expect(problems([...good(), '__test__/a.test.js'])).toEqual(['__test__/a.test.js does not belong into the package.']);
    expect(problems([...good(), 'tina4-nodejs.darwin-arm64.node'])).toHaveLength(1);
    expect(problems(good().slice(0, -1))).toEqual(['The package must carry one binary, not 0 (none).']);
  });
});

it('has the version of the platform packages and of the engine', () => {
  const { version } = require('../package.json');
  for (const name of fs.readdirSync(path.join(ROOT, 'npm'))) {
    expect(JSON.parse(fs.readFileSync(path.join(ROOT, 'npm', name, 'package.json'), 'utf8')).version).toBe(version);
  }
  expect(/^version = "(.*)"$/m.exec(fs.readFileSync(path.join(ROOT, 'Cargo.toml'), 'utf8'))[1]).toBe(version);
});
