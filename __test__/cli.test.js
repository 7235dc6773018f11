'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { ROOT } = require('./served');
const { answering, cleanUp, holdPort, newApp, tina4 } = require('./cli-app');

afterEach(cleanUp);

const PRODUCTION = ['serve', '--production', '--port', '0'];
const { version } = require('../package.json');

/** A route file that registers through `require`. */
function requiring(route, text) {
  return `const { Router } = require("tina4-nodejs");\nRouter.get("${route}", (req, res) => res.text("${text}"));\n`;
}

describe('tina4', () => {
  it('prints its version', async () => {
    const run = tina4(newApp({}).directory, ['--version']);
    expect(await run.exit()).toEqual({ code: 0, signal: null });
    expect(run.stdout).toBe(`${version}\n`);
  });

  it('says where help is when it does not know a command', async () => {
    const run = tina4(newApp({}).directory, ['sevre']);
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toContain("unknown command 'sevre'");
    expect(run.stderr).toContain('tina4 --help');
  });
});

describe('tina4 serve', () => {
  it('refuses a folder that holds no app', async () => {
    const app = newApp({ 'readme.txt': '' });
    const run = tina4(app.directory, PRODUCTION);
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toBe(
      `Not a Tina4 project: ${fs.realpathSync(app.directory)} has neither src/routes nor app.ts or app.js.\n`,
    );
  });

  it('refuses an app whose routes could not import the package', async () => {
    const app = newApp({ 'src/routes/a.ts': answering('/a', 'a') });
    fs.rmSync(path.join(app.directory, 'node_modules', 'tina4-nodejs'));
    const run = tina4(app.directory, PRODUCTION);
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toContain('run "npm install tina4-nodejs" there');
  });

  it.each([
    ['production', PRODUCTION],
    ['development', ['serve', '--port', '0']],
  ])('prints the banner of four lines in %s', async (_, args) => {
    const run = await tina4(newApp({ 'src/routes/a.ts': '' }).directory, args).ready();
    expect(run.stdout.slice(run.stdout.indexOf('  Tina4'))).toBe(
      `  Tina4 Node.js v${version}\n` +
        `  HTTP server running at http://127.0.0.1:${run.port}\n` +
        `  WebSocket server running at ws://127.0.0.1:${run.port}\n` +
        '  Press Ctrl+C to stop\n',
    );
  });

  it.each(['commonjs', 'module', undefined])(
    'loads every kind of file when "type" is %s, and all register on one Router',
    async (type) => {
      const kinds = ['ts', 'mts', 'cts', 'js', 'mjs'];
      const files = Object.fromEntries(kinds.map((kind) => [`src/routes/${kind}.${kind}`, answering(`/${kind}`, kind)]));
      files['src/routes/deep/er/cjs.cjs'] = requiring('/cjs', 'cjs');
      files['src/routes/required.cts'] = requiring('/required', 'required');
      // Neither of these is a route file.
      files['src/routes/types.d.ts'] = 'throw new Error("loaded");';
      files['src/routes/a.test.ts'] = 'throw new Error("loaded");';
      files['src/routes/.hidden.ts'] = 'throw new Error("loaded");';
      if (type) files['package.json'] = JSON.stringify({ type });
      const run = await tina4(newApp(files).directory, PRODUCTION).ready();
      for (const name of [...kinds, 'cjs', 'required']) expect(await run.fetch(`/${name}`)).toBe(name);
      expect(run.output()).not.toContain('could not be loaded');
    },
  );

  it('loads files in the order of their names', async () => {
    const say = (text) => `console.log("loading ${text}");`;
    const files = { 'src/routes/b.js': say('b'), 'src/routes/a/z.js': say('a/z'), 'src/routes/c.ts': say('c') };
    const run = await tina4(newApp(files).directory, PRODUCTION).ready();
    expect(run.stdout.match(/^loading .*/gm)).toEqual(['loading a/z', 'loading b', 'loading c']);
  });

  it.each([
    ['a syntax error in TypeScript', 'bad.ts', 'const n: number = 1;\nconst x = {;\n', 2],
    ['a syntax error in a CommonJS file', 'bad.cjs', '\n\nlet b = ;\n', 3],
    ['a syntax error in an ES module', 'bad.mjs', '\nlet b = ;\n', 2],
    ['an exception', 'bad.ts', 'type A = { b: number };\n\nconst none: any = null;\nnone.call();\n', 4],
    ['an import of nothing', 'bad.ts', '\nimport "./missing";\n', 2],
    ['an export that is not there', 'bad.mts', '\n\nimport { none } from "tina4-nodejs";\nnone();\n', 3],
  ])('names the file and the line of %s, and serves the rest', async (_, name, text, line) => {
    const app = newApp({ [`src/routes/${name}`]: text, 'src/routes/good.ts': answering('/good', 'good') });
    const run = await tina4(app.directory, PRODUCTION).ready();
    const file = path.join('src', 'routes', name);
    expect(run.output()).toContain(`${file} could not be loaded: `);
    expect(run.output()).toContain(`at ${file}:${line}`);
    expect(run.output()).toMatch(new RegExp(`> ${line} \\| ${escape(text.split('\n')[line - 1])}`));
    expect(await run.fetch('/good')).toBe('good');
  });

  it('runs the copy of the package that the app has, from a CLI installed elsewhere', async () => {
    const app = newApp({ 'src/routes/a.ts': answering('/a', 'a') });
    const elsewhere = newApp({});
    // A copy without its binary could not serve by itself.
    for (const name of ['bin', 'lib', 'package.json', 'index.js']) {
      fs.cpSync(path.join(ROOT, name), path.join(elsewhere.directory, 'copy', name), { recursive: true });
    }
    const cli = path.join(elsewhere.directory, 'copy', 'bin', 'tina4.js');
    for (const args of [PRODUCTION, ['serve', '--port', '0']]) {
      const run = await tina4(app.directory, args, { cli }).ready();
      expect(await run.fetch('/a')).toBe('a');
    }
  });

  it.each([
    ['in production', PRODUCTION.slice(0, -1)],
    ['in development', ['serve', '--port']],
  ])('says in one sentence that the port is in use, %s', async (_, args) => {
    const holder = await holdPort();
    try {
      const { port } = holder;
      const run = tina4(newApp({ 'src/routes/a.ts': '' }).directory, [...args, String(port)]);
      expect((await run.exit()).code).toBe(1);
      expect(run.stderr).toMatch(new RegExp(`^Port ${port} on 127\\.0\\.0\\.1 is already in use: .*\\.\n$`));
      expect(run.stdout).not.toContain('running at');
    } finally {
      await holder.release();
    }
  });

  it.each(['x', '-1', '65536', '1.5', ''])('refuses --port %p', async (port) => {
    const run = tina4(newApp({ 'src/routes/a.ts': '' }).directory, ['serve', `--port=${port}`]);
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toContain('a whole number from 0 to 65535');
  });

  it.each([[PRODUCTION.slice(0, 2)], [['serve']]])('refuses a TINA4_PORT that is no port (%p)', async (args) => {
    const run = tina4(newApp({ 'src/routes/a.ts': '' }).directory, args, { env: { TINA4_PORT: 'ninety' } });
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toMatch(/^.*TINA4_PORT.*ninety.*\n$/);
  });

  it.each([
    ['production', PRODUCTION, 'SIGINT'],
    ['production', PRODUCTION, 'SIGTERM'],
    ['development', ['serve', '--port', '0'], 'SIGINT'],
    ['development', ['serve', '--port', '0'], 'SIGTERM'],
  ])('drains in %s (%p) at %s: the close handler runs, peers get 1001, exit 0', async (_, args, signal) => {
    const route =
      'import { Router } from "tina4-nodejs";\nRouter.websocket("/w", (c, event) => { console.log("event", event); });\n';
    const run = await tina4(newApp({ 'src/routes/w.ts': route }).directory, args).ready();
    const peer = await run.connect('/w');
    await run.says(/event open/);
    run.child.kill(signal);
    expect((await peer.closed).code).toBe(1001);
    expect(await run.exit()).toEqual({ code: 0, signal: null });
    expect(run.stdout).toContain('event close');
  });

  it('takes the Ctrl+C that npx passes on for the same, and ends at once at a later one', async () => {
    const route = 'import { Router } from "tina4-nodejs";\nRouter.get("/slow", () => new Promise(() => console.log("asked")));\n';
    const run = await tina4(newApp({ 'src/routes/slow.ts': route }).directory, PRODUCTION).ready();
    const request = run.fetch('/slow').catch(() => 'cut off');
    await run.says(/asked/);
    run.child.kill('SIGINT');
    run.child.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(run.gone).toBe(false);
    expect(await run.insist('SIGINT')).toEqual({ code: 130, signal: null });
    expect(await request).toBe('cut off');
  });

  it('serves an app that starts its own server, once, and with its own settings', async () => {
    const start = `
      import { Router, startServer } from "tina4-nodejs";
      async function main() {
        await new Promise((resolve) => setTimeout(resolve, 100));
        Router.get("/own", (req, res) => res.text("own"));
        const server = await startServer({ port: 0 });
        console.log("started on", server.port);
      }
      main();
    `;
    const app = newApp({ 'app.ts': start, 'src/routes/a.ts': answering('/a', 'a') });
    const run = await tina4(app.directory, ['serve', '--production', '--port', '1']).ready();
    expect(await run.fetch('/own')).toBe('own');
    expect(await run.fetch('/a')).toBe('a');
    expect(run.stdout.match(/started on \d+/g)).toEqual([`started on ${run.port}`]);
  });

  it('starts the server for an app.js that does not', async () => {
    const app = newApp({ 'app.js': requiring('/from-app', 'app'), 'src/routes/a.ts': answering('/a', 'a') });
    const run = await tina4(app.directory, PRODUCTION).ready();
    expect(await run.fetch('/from-app')).toBe('app');
    expect(await run.fetch('/a')).toBe('a');
  });

  it('does not start without an app.ts that works', async () => {
    const app = newApp({ 'app.ts': '\nthrow new Error("no database");\n' });
    const run = tina4(app.directory, PRODUCTION);
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toContain('app.ts could not be loaded: no database');
    expect(run.stderr).toContain('at app.ts:2:');
    expect(run.stdout).not.toContain('running at');
  });

  it('reads .env, which the environment and the command line overrule', async () => {
    const route = `
      import { Router } from "tina4-nodejs";
      Router.get("/env", (req, res) => res.json([process.env.FROM_FILE, process.env.FROM_BOTH, process.env.TINA4_PORT, process.env.NODE_ENV]));
    `;
    const app = newApp({
      'src/routes/a.ts': route,
      '.env': 'FROM_FILE="a b"\nFROM_BOTH=file\nTINA4_PORT=1\nNODE_ENV=production\n',
    });
    const run = await tina4(app.directory, ['serve', '--port', '0'], { env: { FROM_BOTH: 'environment' } }).ready();
    expect(JSON.parse(await run.fetch('/env'))).toEqual(['a b', 'environment', '0', 'production']);
  });

  it('reads the file that TINA4_ENV_FILE names, and says when there is none', async () => {
    const app = newApp({ 'src/routes/a.ts': '', 'other.env': 'TINA4_PORT=0\n' });
    await tina4(app.directory, ['serve', '--production'], { env: { TINA4_ENV_FILE: 'other.env' } }).ready();
    const run = tina4(app.directory, ['serve', '--production'], { env: { TINA4_ENV_FILE: 'none.env' } });
    expect((await run.exit()).code).toBe(1);
    expect(run.stderr).toMatch(/^TINA4_ENV_FILE names .*none\.env, which cannot be read \(ENOENT\)\.\n$/);
  });

  it('reports a rejection that nothing handled, and goes on', async () => {
    const route = answering('/a', 'a') + 'setTimeout(() => Promise.reject(new Error("stray")), 100);\n';
    const run = await tina4(newApp({ 'src/routes/a.ts': route }).directory, PRODUCTION).ready();
    await run.says(/stray[^]*a\.ts:3/);
    expect(await run.fetch('/a')).toBe('a');
  });

  it('reports an exception that nothing caught, closes and ends with 1', async () => {
    const route =
      'import { Router } from "tina4-nodejs";\nRouter.websocket("/w", (c, event) => {\n  setTimeout(() => { throw new Error("loose"); }, 50);\n});\n';
    const run = await tina4(newApp({ 'src/routes/a.ts': route }).directory, PRODUCTION).ready();
    const peer = await run.connect('/w');
    expect((await peer.closed).code).toBe(1011);
    expect((await run.exit()).code).toBe(1);
    expect(run.output()).toMatch(/loose[^]*a\.ts:3/);
  });
});

function escape(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
