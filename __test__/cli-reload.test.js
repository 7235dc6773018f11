'use strict';

// Development: a change replaces the serving process while the port stays.

const fs = require('node:fs');
const path = require('node:path');
const { until } = require('./served');
const { reloadManyTimes } = require('./reloads');
const { answering, cleanUp, freePort, holdPort, isAlive, newApp, tina4 } = require('./cli-app');

afterEach(cleanUp);

const SERVE = ['serve', '--port', '0'];
const SOCKET = 'import { Router } from "tina4-nodejs";\nRouter.websocket("/w", () => {});\n';
/** Which process answers. */
const PID = 'import { Router } from "tina4-nodejs";\nRouter.get("/pid", (req, res) => res.text(String(process.pid)));\n';

/** Waits until a request gets that answer, which none may miss: the port must never refuse. */
function answers(run, target, text) {
  return until(
    async () => (await run.fetch(target)) === text,
    () => `${target} to answer ${text}, got:\n${run.output()}`,
  );
}

describe('a change', () => {
  it('serves the new code on the same port, and tells sockets 1012', async () => {
    const app = newApp({ 'src/routes/a.ts': answering('/a', 'one'), 'src/routes/w.ts': SOCKET });
    const run = await tina4(app.directory, SERVE).ready();
    const peer = await run.connect('/w');
    expect(await run.fetch('/a')).toBe('one');
    app.write('src/routes/a.ts', answering('/a', 'two'));
    await answers(run, '/a', 'two');
    expect(await peer.closed).toEqual({ code: 1012, reason: 'restart' });
    await run.says(/Reloaded after a change in src.routes.a\.ts/);
    expect(run.output().match(/Tina4 Node\.js/g)).toHaveLength(1);
  });

  it.each([
    ['a new route file', 'src/routes/new/b.js', 'module.exports = 1;\n'],
    ['something that routes import', 'src/lib/text.ts', 'export const text = 2;\n'],
    ['app.ts, which was not there', 'app.ts', 'export {};\n'],
    ['.env, which was not there', '.env', 'A=1\n'],
  ])('is %s', async (_, file, text) => {
    const app = newApp({ 'src/routes/pid.ts': PID });
    const run = await tina4(app.directory, SERVE).ready();
    const before = await run.fetch('/pid');
    app.write(file, text);
    await until(
      async () => (await run.fetch('/pid')) !== before,
      () => `another process, got:\n${run.output()}`,
    );
  });

  it('is a new folder, into which files may have come before it was watched', async () => {
    const app = newApp({ 'src/routes/pid.ts': PID });
    const run = await tina4(app.directory, SERVE).ready();
    const before = await run.fetch('/pid');
    fs.mkdirSync(path.join(app.directory, 'src/lib'));
    await until(async () => (await run.fetch('/pid')) !== before, 'another process');
  });

  it('is a file that is removed', async () => {
    const app = newApp({ 'src/routes/a.ts': answering('/a', 'a'), 'src/routes/pid.ts': PID });
    const run = await tina4(app.directory, SERVE).ready();
    const before = await run.fetch('/pid');
    fs.rmSync(path.join(app.directory, 'src/routes/a.ts'));
    await until(async () => (await run.fetch('/pid')) !== before, 'another process');
    await until(async () => (await run.fetch('/a')) !== 'a', 'the route to be gone');
  });

  it('is nothing in src/templates, src/public or outside of src', async () => {
    const page = 'import { Router } from "tina4-nodejs";\nRouter.get("/page", (req, res) => res.html("page.html", {}));\n';
    const app = newApp({
      'src/routes/pid.ts': PID,
      'src/routes/page.ts': page,
      'src/templates/page.html': 'one',
      'src/public/a.txt': 'one',
    });
    const run = await tina4(app.directory, SERVE).ready();
    const before = await run.fetch('/pid');
    expect(await run.fetch('/page')).toBe('one');
    app.write('src/templates/page.html', 'two');
    app.write('src/public/a.txt', 'two');
    app.write('data/log.txt', 'x');
    await answers(run, '/page', 'two');
    await answers(run, '/a.txt', 'two');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(await run.fetch('/pid')).toBe(before);
  });

  it('is seen anew in .env, a port there included', async () => {
    const route =
      'import { Router } from "tina4-nodejs";\nRouter.get("/env", (req, res) => res.text(String(process.env.WORD)));\n';
    const app = newApp({ 'src/routes/a.ts': route, '.env': 'TINA4_PORT=0\nWORD=one\n' });
    const run = await tina4(app.directory, ['serve']).ready();
    expect(await run.fetch('/env')).toBe('one');
    app.write('.env', 'TINA4_PORT=0\nWORD=two\n');
    await answers(run, '/env', 'two');
    const port = await freePort();
    app.write('.env', `TINA4_PORT=${port}\nWORD=three\n`);
    await run.says(new RegExp(`HTTP server running at http://127\\.0\\.0\\.1:${port}\\n`));
    await until(
      () =>
        run.fetch('/env').then(
          () => false,
          () => true,
        ),
      'the port before to be closed',
    );
    run.port = port;
    expect(await run.fetch('/env')).toBe('three');
  });
});

it('survives many changes: no connection is refused, no file or process is left over', async () => {
  const { failures, codes, children } = await reloadManyTimes(5);
  expect(failures).toEqual([]);
  expect(codes).toEqual(Array(5).fill(1012));
  expect(children).toEqual([true]);
});

describe('an edit that breaks', () => {
  it.each([
    ['a route file', 'src/routes/a.ts', 'const x = {;\n', /a\.ts could not be loaded[^]*a\.ts:1/],
    ['app.ts', 'app.ts', 'throw new Error("no database");\n', /app\.ts could not be loaded: no database/],
    ['the settings', '.env', 'TINA4_WS_PING_INTERVAL=soon\n', /TINA4_WS_PING_INTERVAL[^]*soon/],
    ['the process', 'app.ts', 'process.exit(3);\n', /ended while it was loading \(exit code 3\)/],
  ])('%s is reported, and the version before keeps serving until it is mended', async (_, file, text, report) => {
    const app = newApp({ 'src/routes/a.ts': answering('/a', 'one'), 'src/routes/w.ts': SOCKET });
    const run = await tina4(app.directory, SERVE).ready();
    const peer = await run.connect('/w');
    app.write(file, text);
    await run.says(report);
    await run.says(/The version before the change keeps serving/);
    expect(await run.fetch('/a')).toBe('one');
    expect(peer.socket.readyState).toBe(1);
    if (file !== 'src/routes/a.ts') fs.rmSync(path.join(app.directory, file));
    app.write('src/routes/a.ts', answering('/a', 'three'));
    await answers(run, '/a', 'three');
    expect((await peer.closed).code).toBe(1012);
  });
});

describe('the first start', () => {
  it('reports a route file that fails, and serves the rest', async () => {
    const app = newApp({ 'src/routes/a.ts': answering('/a', 'a'), 'src/routes/bad.ts': 'const x = {;\n' });
    const run = await tina4(app.directory, SERVE).ready();
    expect(run.output()).toContain('bad.ts could not be loaded');
    expect(await run.fetch('/a')).toBe('a');
  });

  it('waits for a change when app.ts fails', async () => {
    const app = newApp({ 'app.ts': 'throw new Error("no database");\n', 'src/routes/a.ts': answering('/a', 'a') });
    const run = tina4(app.directory, SERVE);
    await run.says(/no database[^]*Waiting for a change/);
    app.write('app.ts', 'export {};\n');
    await run.ready();
    expect(await run.fetch('/a')).toBe('a');
  });
});

describe('the serving process', () => {
  it('is reported when it crashes, and started again at the next change, not before', async () => {
    const route = `${PID}Router.get("/die", () => process.kill(process.pid, "SIGKILL"));\n`;
    const app = newApp({ 'src/routes/a.ts': route });
    const run = await tina4(app.directory, SERVE).ready();
    await run.fetch('/die', '127.0.0.1', 1).catch(() => {});
    await run.says(/ended by itself \(signal SIGKILL\)\. Waiting for a change\./);
    app.write('src/routes/b.ts', answering('/b', 'b'));
    await answers(run, '/b', 'b');
    expect(run.output().match(/ended by itself/g)).toHaveLength(1);
  });

  it('does not outlive its supervisor', async () => {
    const run = await tina4(newApp({ 'src/routes/pid.ts': PID }).directory, SERVE).ready();
    const pid = Number(await run.fetch('/pid'));
    expect(pid).not.toBe(run.child.pid);
    run.child.kill('SIGKILL');
    await until(() => !isAlive(pid), 'the child to end');
  });

  it('is told of a signal once, so that its close handlers can take their time', async () => {
    const route = `import { Router } from "tina4-nodejs";
      Router.websocket("/w", async (c, event) => {
        if (event !== "close") return;
        await new Promise((resolve) => setTimeout(resolve, 300));
        console.log("said goodbye");
      });\n`;
    const run = await tina4(newApp({ 'src/routes/w.ts': route }).directory, SERVE).ready();
    const peer = await run.connect('/w');
    // As a terminal does: to the whole group.
    process.kill(-run.child.pid, 'SIGINT');
    expect((await peer.closed).code).toBe(1001);
    expect(await run.exit()).toEqual({ code: 0, signal: null });
    expect(run.stdout).toContain('said goodbye');
  });

  it('is killed by a second signal in earnest', async () => {
    const route = `${PID}Router.get("/slow", () => new Promise(() => console.log("asked")));\n`;
    const run = await tina4(newApp({ 'src/routes/a.ts': route }).directory, SERVE).ready();
    const pid = Number(await run.fetch('/pid'));
    const slow = run.fetch('/slow').catch(() => 'cut off');
    await run.says(/asked/);
    run.child.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(run.gone).toBe(false);
    expect((await run.insist('SIGTERM')).code).toBe(143);
    expect(await slow).toBe('cut off');
    await until(() => !isAlive(pid), 'the child to end');
  });
});

it('keeps the port of an app that chooses its own, across reloads', async () => {
  const start = (word) => `
    const { Router, startServer } = require("tina4-nodejs");
    Router.get("/word", (req, res) => res.text("${word}"));
    startServer({ port: 0, host: "127.0.0.2" });
  `;
  const app = newApp({ 'app.js': start('one'), 'src/routes/w.ts': SOCKET });
  const run = await tina4(app.directory, SERVE).ready();
  expect(run.stdout).toContain(`http://127.0.0.2:${run.port}`);
  const word = () => run.fetch('/word', '127.0.0.2');
  expect(await word()).toBe('one');
  app.write('app.js', start('two'));
  await until(
    async () => (await word()) === 'two',
    () => `the new code, got:\n${run.output()}`,
  );
  await run.hasChildren(1);
  app.write('app.js', `${start('three')}\nthrow new Error("late");`);
  await run.says(/app\.js could not be loaded: late/);
  await run.says(/The version before the change keeps serving/);
  expect(await word()).toBe('two');
});

it('minds only the port that the app chooses, not the one that the settings say', async () => {
  const holder = await holdPort();
  try {
    const env = { TINA4_PORT: String(holder.port) };
    const start = (config) => `const { startServer } = require("tina4-nodejs");\nstartServer(${config});\n`;
    const chooses = await tina4(newApp({ 'app.js': start('{ port: 0 }'), 'src/routes/pid.ts': PID }).directory, ['serve'], {
      env,
    }).ready();
    expect(await chooses.fetch('/pid')).toMatch(/^\d+$/);
    const takes = tina4(newApp({ 'app.js': start('') }).directory, ['serve'], { env });
    expect((await takes.exit()).code).toBe(1);
    expect(takes.stderr).toMatch(new RegExp(`Port ${env.TINA4_PORT} on 127\\.0\\.0\\.1 is already in use`));
  } finally {
    await holder.release();
  }
});

it('does not reload with --no-reload', async () => {
  const app = newApp({ 'src/routes/a.ts': answering('/a', 'one') });
  const run = await tina4(app.directory, [...SERVE, '--no-reload']).ready();
  app.write('src/routes/a.ts', answering('/a', 'two'));
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(await run.fetch('/a')).toBe('one');
});
