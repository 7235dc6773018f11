'use strict';

const { execFile } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { Worker } = require('node:worker_threads');
const { Router, startServer, validToken, getToken } = require('..');
const { runningServers } = require('../lib/server.js');
const { VARIABLES } = require('../lib/settings.js');
const { cleanUp, connect, deferred, keptLog, serve, sleep, temporaryFolder, until } = require('./support.js');

afterEach(cleanUp);

const PACKAGE = path.join(__dirname, '..');

/** Runs a script in a process of its own and gives what it printed. */
function run(script, { cwd = temporaryFolder(), env = {} } = {}) {
  return new Promise((resolve) => {
    execFile(process.execPath, ['-e', script], { cwd, env: { ...process.env, ...env }, timeout: 15_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code ?? error.signal, stdout, stderr });
    });
  });
}

describe('startServer', () => {
  test('gives port, host, url, router and close', async () => {
    const { server, router } = await serve(() => {});
    expect(server.port).toBeGreaterThan(0);
    expect([server.host, server.url, server.router]).toEqual(['127.0.0.1', `http://127.0.0.1:${server.port}`, router]);
    expect(runningServers.has(server)).toBe(true);
    await server.close();
    expect(runningServers.has(server)).toBe(false);
  });

  test('serves the default router when given none', async () => {
    Router.get('/server-test/default', (req, res) => res.text('default'));
    const server = await startServer({ port: 0, host: '127.0.0.1', directory: temporaryFolder(), logger: keptLog() });
    expect(server.router).toBe(Router);
    expect(await (await fetch(`${server.url}/server-test/default`)).text()).toBe('default');
    await server.close();
  });

  test('refuses unknown keys by name, and values of the wrong type', async () => {
    await expect(startServer({ prot: 1 })).rejects.toThrow(/^startServer has no option "prot"; accepted are port, host, /);
    await expect(startServer('7148')).rejects.toThrow('startServer takes an object with settings, not "7148".');
    await expect(startServer(null)).rejects.toThrow(TypeError);
    await expect(startServer({ port: {} })).rejects.toThrow('startServer: port is text, a number, true or false, or a list of texts, not an object.');
    await expect(startServer({ router: {} })).rejects.toThrow('startServer: router is Router or a new Router(), not an object.');
    await expect(startServer({ directory: 7 })).rejects.toThrow('startServer: directory is the path of a folder, not 7.');
    await expect(startServer({ logger: {} })).rejects.toThrow('The logger has no method debug; it needs debug, info, warn and error.');
    expect(runningServers.size).toBe(0);
  });

  const wrong = {
    port: 'abc', ioThreads: 0, wsMaxMessageSize: -1, wsMaxBacklog: 'x', maxBuffered: '1k', wsCloseGrace: 'soon', handlerTimeout: -5,
    trustedProxies: ['nobody'], wsMaxConnections: 1.5, wsPingInterval: '30s', shutdownTimeout: NaN, maxUploadSize: true, maxHeaders: 'many',
    debug: 'maybe', logLevel: 'LOUD', logFormat: 'xml',
  };
  test.each(Object.entries(wrong))('a %s of %p is one sentence with the variable, the value and what is accepted', async (key, value) => {
    const error = await startServer({ [key]: value, directory: temporaryFolder() }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(error.message).toMatch(new RegExp(`^${VARIABLES[key]} is ".*", accepted is .+\\.$`));
    expect(error.message).toContain(JSON.stringify(String(value)));
    expect(runningServers.size).toBe(0);
  });

  test('an environment variable that is no number stops the start, config wins over it', async () => {
    process.env.TINA4_WS_PING_INTERVAL = 'often';
    try {
      await expect(startServer({ port: 0, directory: temporaryFolder() })).rejects.toThrow(/^TINA4_WS_PING_INTERVAL is "often", accepted is /);
      const { server } = await serve(() => {}, { wsPingInterval: 5 });
      await server.close();
    } finally {
      delete process.env.TINA4_WS_PING_INTERVAL;
    }
  });

  test('a port in use is one clear sentence and keeps the code', async () => {
    const { port } = await serve(() => {});
    const error = await startServer({ port, host: '127.0.0.1', directory: temporaryFolder() }).catch((thrown) => thrown);
    expect(error.message).toBe(`Port ${port} on 127.0.0.1 is already in use: stop what uses it, or choose another with TINA4_PORT.`);
    expect([error.code, error.host, error.port]).toEqual(['EADDRINUSE', '127.0.0.1', port]);
    expect(runningServers.size).toBe(1);
  });

  test('an address that is not ours is one clear sentence', async () => {
    const error = await startServer({ port: 0, host: '192.0.2.1', directory: temporaryFolder() }).catch((thrown) => thrown);
    expect(error.message).toBe('This machine has no address 192.0.2.1: choose another with TINA4_HOST.');
    expect(error.code).toBe('EADDRNOTAVAIL');
  });

  test('reads .env of the app, and what is set already wins', async () => {
    const directory = temporaryFolder({ '.env': 'TINA4_MAX_UPLOAD_SIZE=5\nSERVER_TEST_A=file\nSERVER_TEST_B=file\n' });
    process.env.SERVER_TEST_B = 'real';
    try {
      const { fetch } = await serve((router) => router.post('/b', (req, res) => res.text('ok')), { directory });
      expect((await fetch('/b', { method: 'POST', body: 'x'.repeat(6) })).status).toBe(413);
      expect([process.env.SERVER_TEST_A, process.env.SERVER_TEST_B]).toEqual(['file', 'real']);
    } finally {
      for (const name of ['TINA4_MAX_UPLOAD_SIZE', 'SERVER_TEST_A', 'SERVER_TEST_B']) delete process.env[name];
    }
  });

  test('loads src/routes, says which file failed, and serves the rest', async () => {
    const directory = temporaryFolder({
      'src/routes/a.mjs': `import { Router } from ${JSON.stringify(path.join(PACKAGE, 'index.mjs'))};\nRouter.get('/a', (req, res) => res.text('a'));`,
      'src/routes/deep/b.cjs': `require(${JSON.stringify(PACKAGE)}).Router.get('/b', (req, res) => res.text('b'));`,
      'src/routes/broken.js': '\nthrow new Error("broken here");',
    });
    const { stdout, stderr, code } = await run(`
      const { startServer } = require(${JSON.stringify(PACKAGE)});
      (async () => {
        const server = await startServer({ port: 0, host: '127.0.0.1' });
        for (const path of ['/a', '/b']) console.log(await (await fetch(server.url + path)).text());
        await server.close();
      })();`, { cwd: directory });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/broken\.js/);
    expect(stdout).toMatch(/broken here/);
    expect(stdout).toMatch(/a\nb\n$/);
  });

  test('another router gets no route files, unless they are named; a missing folder that is named is an error', async () => {
    const directory = temporaryFolder({ 'src/routes/a.js': 'throw new Error("must not be loaded")' });
    const { log } = await serve(() => {}, { directory });
    expect(log.text()).not.toContain('must not');
    await expect(startServer({ directory, routesDir: 'nowhere', logger: keptLog() })).rejects.toThrow(/routesDir names .*nowhere, but there is no such folder\./);
    await expect(startServer({ directory, routesDir: 7 })).rejects.toThrow(TypeError);
  });

  test('in production it says once that every origin may connect', async () => {
    const before = process.env.NODE_ENV;
    process.env.NODE_ENV = 'production';
    try {
      const open = await serve((router) => router.websocket('/ws', () => {}));
      expect(open.log.text()).toContain('TINA4_WS_ALLOWED_ORIGINS');
      const limited = await serve((router) => router.websocket('/ws', () => {}), { wsAllowedOrigins: ['https://a.example'] });
      expect(limited.log.text()).not.toContain('TINA4_WS_ALLOWED_ORIGINS');
      await expect(limited.connect('/ws')).rejects.toMatchObject({ status: 403 });
      await limited.connect('/ws', { origin: 'https://a.example' });
    } finally {
      process.env.NODE_ENV = before;
    }
  });

  test('its secret is the default of the tokens until it is closed', async () => {
    const { server } = await serve(() => {}, { secret: 'of the server' });
    const token = getToken({ a: 1 });
    expect(validToken(token, 'of the server')).toMatchObject({ a: 1 });
    await server.close();
    expect(validToken(token)).toBeNull();
  });

  test('an upgrade to an unknown path is 404, a plain request to a WebSocket path too', async () => {
    const { connect: join, fetch } = await serve((router) => router.websocket('/ws', () => {}));
    await expect(join('/nowhere')).rejects.toMatchObject({ status: 404 });
    await expect(join('/ws/%zz')).rejects.toMatchObject({ status: 400 });
    expect((await fetch('/ws')).status).toBe(404);
  });

  test('more connections than allowed are refused with 503', async () => {
    const { connect: join } = await serve((router) => router.websocket('/ws', () => {}), { wsMaxConnections: 1 });
    await join('/ws');
    await expect(join('/ws')).rejects.toMatchObject({ status: 503 });
  });

  test('/health answers, and so does what the package brings', async () => {
    const { fetch } = await serve(() => {});
    expect((await fetch('/health')).status).toBe(200);
    expect((await fetch('/js/frond.js')).headers.get('content-type')).toMatch(/javascript/);
  });
});

describe('#close', () => {
  test('closes sockets with 1001, runs the close handlers, refuses new connections', async () => {
    const closed = [];
    const { server, connect: join, port } = await serve((router) => router.websocket('/ws', (connection, event) => {
      if (event === 'close') {
        closed.push(connection.connectionCount());
        connection.broadcast('to nobody');
      }
    }));
    const peers = await Promise.all([join('/ws'), join('/ws'), join('/ws')]);
    await server.close();
    expect(await Promise.all(peers.map((peer) => peer.closed))).toEqual(Array(3).fill({ code: 1001, reason: 'server is shutting down' }));
    expect(closed).toHaveLength(3);
    expect(peers.map((peer) => peer.pending())).toEqual([0, 0, 0]);
    await expect(new Promise((resolve, reject) => net.connect(port, '127.0.0.1', resolve).on('error', reject))).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('again gives the same promise', async () => {
    const { server } = await serve(() => {});
    const first = server.close();
    expect(server.close({ code: 1012 })).toBe(first);
    await first;
    expect(server.close()).toBe(first);
  });

  test('takes a code and a reason, and checks them at once', async () => {
    const { server, connect: join } = await serve((router) => {
      router.websocket('/ws', (connection, event) => event === 'open' && connection.send('hello'));
    });
    const peer = await join('/ws');
    // One that is still being opened is turned away with the server's own words.
    await peer.next();
    expect(() => server.close({ code: 1005 })).toThrow(RangeError);
    expect(() => server.close({ status: 1 })).toThrow('server.close has no option "status"; accepted are code, reason.');
    expect(() => server.close('now')).toThrow(TypeError);
    await server.close({ code: 1012, reason: 'restart' });
    expect(await peer.closed).toEqual({ code: 1012, reason: 'restart' });
  });

  test('answers the requests under way first', async () => {
    const gate = deferred();
    const { server, fetch } = await serve((router) => router.get('/slow', async (req, res) => { await gate.promise; res.text('answered'); }));
    const answer = fetch('/slow');
    await sleep(50);
    const closing = server.close();
    await sleep(50);
    gate.resolve();
    expect(await (await answer).text()).toBe('answered');
    await closing;
  });

  test('does not wait for idle keep-alive connections', async () => {
    const { server, port } = await serve((router) => router.get('/a', (req, res) => res.text('a')));
    const agent = new http.Agent({ keepAlive: true });
    await new Promise((resolve, reject) => http.get({ port, host: '127.0.0.1', path: '/a', agent }, (answer) => answer.resume().on('end', resolve)).on('error', reject));
    const start = performance.now();
    await server.close();
    expect(performance.now() - start).toBeLessThan(300);
    agent.destroy();
  });

  test('waits for async close handlers', async () => {
    let finished = false;
    const { server, connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      if (event !== 'close') return;
      await sleep(100);
      finished = true;
    }));
    await join('/ws');
    await sleep(20);
    await server.close();
    expect(finished).toBe(true);
  });

  test('takes at most TINA4_SHUTDOWN_TIMEOUT, whatever hangs', async () => {
    const never = new Promise(() => {});
    const { server, connect: join, fetch, log } = await serve((router) => {
      router.websocket('/ws', (connection, event) => (event === 'close' ? never : undefined));
      router.get('/never', () => never);
    }, { shutdownTimeout: 0.5 });
    await join('/ws');
    const answer = fetch('/never').catch(() => 'cut');
    await sleep(50);
    const start = performance.now();
    await server.close();
    const took = performance.now() - start;
    expect(took).toBeGreaterThan(400);
    expect(took).toBeLessThan(1500);
    expect(log.text()).toMatch(/The shutdown timeout of 0\.5 s has passed; 1 connection had not finished closing\./);
    await answer;
  });

  test('waits for what is in flight, however long it might', async () => {
    const { server, fetch } = await serve((router) => router.get('/slow', async (req, res) => {
      await sleep(200);
      res.text('done');
    }), { shutdownTimeout: 30 * 24 * 3600 });
    const answer = fetch('/slow');
    await sleep(50);
    await server.close();
    expect(await (await answer).text()).toBe('done');
  });

  test('during the start makes that fail', async () => {
    const starting = startServer({ port: 0, host: '127.0.0.1', directory: temporaryFolder({ 'src/routes/.keep': '' }), logger: keptLog() });
    const outcome = starting.then(() => 'started', (error) => error.message);
    const [server] = runningServers;
    await server.close();
    expect(['started', 'The server was closed before it had started.']).toContain(await outcome);
    expect(runningServers.size).toBe(0);
  });

  test('frees the port, and a new server can take it', async () => {
    const one = await serve((router) => router.get('/a', (req, res) => res.text('one')));
    await one.server.close();
    const two = await serve((router) => router.get('/a', (req, res) => res.text('two')), { port: one.port });
    expect(await (await two.fetch('/a')).text()).toBe('two');
  });
});

describe('more than one', () => {
  test('two servers in one process have connections and counts of their own', async () => {
    const make = (name) => serve((router) => router.websocket('/ws', (connection, event) => {
      if (event === 'open') connection.broadcast(`${name} ${connection.connectionCount()}`);
    }));
    const [one, two] = await Promise.all([make('one'), make('two')]);
    const a = await one.connect('/ws');
    const b = await two.connect('/ws');
    expect([await a.next(), await b.next()]).toEqual(['one 1', 'two 1']);
  });

  test('a server in a worker thread works, and goes with the thread', async () => {
    const worker = new Worker(`
      const { parentPort } = require('node:worker_threads');
      const { Router, startServer } = require(${JSON.stringify(PACKAGE)});
      Router.websocket('/ws', (connection, event, data) => { if (event === 'message') connection.send('worker ' + data); });
      startServer({ port: 0, host: '127.0.0.1', routesDir: false, logLevel: 'ERROR' }).then((server) => parentPort.postMessage(server.port));`,
    { eval: true, env: { ...process.env } });
    const port = await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject); });
    const peer = await connect(`ws://127.0.0.1:${port}/ws`);
    peer.send('hi');
    expect(await peer.next()).toBe('worker hi');
    await worker.terminate();
    await peer.closed;
    await expect(connect(`ws://127.0.0.1:${port}/ws`)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});

describe('the process', () => {
  test('lives while a server runs and ends by itself after close', async () => {
    const { stdout, code } = await run(`
      const { startServer, Router } = require(${JSON.stringify(PACKAGE)});
      startServer({ port: 0, host: '127.0.0.1', routesDir: false }).then((server) => {
        setTimeout(() => server.close().then(() => console.log('closed')), 200).unref();
      });`);
    expect([stdout, code]).toEqual(['closed\n', 0]);
  });

  test('ends after a start that failed', async () => {
    const { stdout, code } = await run(`
      const { startServer } = require(${JSON.stringify(PACKAGE)});
      startServer({ port: 0, host: '192.0.2.1' }).catch((error) => console.log(error.code));`);
    expect([stdout, code]).toEqual(['EADDRNOTAVAIL\n', 0]);
  });
});

describe('a missing binary', () => {
  test('is an error that says what was looked for and how to fix it', async () => {
    const folder = temporaryFolder();
    for (const name of ['index.js', 'package.json', 'native.js', 'lib']) fs.cpSync(path.join(PACKAGE, name), path.join(folder, name), { recursive: true });
    fs.symlinkSync(path.join(PACKAGE, 'node_modules'), path.join(folder, 'node_modules'));
    const script = `try { require(${JSON.stringify(folder)}); } catch (error) { console.log(error.code, error.message, error.cause !== undefined); }`;
    const none = await run(script);
    expect(none.stdout).toMatch(/^ERR_TINA4_NATIVE There is no native binary for this platform: looked for tina4-nodejs\.[a-z0-9-]+\.node in .*carries no binary at all.* true\n$/);
    const file = /tina4-nodejs\.[a-z0-9-]+\.node/.exec(none.stdout)[0];
    fs.writeFileSync(path.join(folder, file), 'not a library');
    expect((await run(script)).stdout).toMatch(new RegExp(`The native binary ${file.replaceAll('.', '\\.')} in .* could not be loaded: .+ install again on this machine`));
    fs.renameSync(path.join(folder, file), path.join(folder, 'tina4-nodejs.other-platform.node'));
    expect((await run(script)).stdout).toMatch(/The installed package carries tina4-nodejs\.other-platform\.node: install it on one of these platforms/);
    fs.writeFileSync(path.join(folder, 'Cargo.toml'), '');
    expect((await run(script)).stdout).toMatch(/This is a source checkout: install Rust \(.*\) and run `npm run build`\./);
  });
});
