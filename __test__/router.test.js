'use strict';

const { Router } = require('..');
const { cleanUp, serve } = require('./support.js');

afterEach(cleanUp);

const nothing = () => {};

/** Who has this greeting has joined its path: a push reaches it from then on. */
const greet = (connection, event) => event === 'open' && connection.send('hello');

async function join(connect, path) {
  const peer = await connect(path);
  expect(await peer.next()).toBe('hello');
  return peer;
}

describe('registering', () => {
  test.each([
    [undefined, 'undefined'], [null, 'null'], [7, '7'], [{}, 'an object'],
  ])('refuses %p as path', (path, named) => {
    for (const method of ['websocket', 'get', 'any']) {
      expect(() => new Router()[method](path, nothing)).toThrow(TypeError);
      expect(() => new Router()[method](path, nothing)).toThrow(`Router.${method} takes a path as string, not ${named}.`);
    }
  });

  test.each(['ws/chat', '', '/a/{', '/a/{b', '/a/{b:nope}', '/a/{}', '/a/{x}/{x}', '/{rest:path}/more', '/%zz'])(
    'refuses the pattern %p with a TypeError of this realm',
    (path) => {
      expect(() => new Router().websocket(path, nothing)).toThrow(TypeError);
      expect(() => new Router().get(path, nothing)).toThrow(TypeError);
    },
  );

  test.each([[undefined], [null], ['handler'], [{}], [Promise.resolve()]])('refuses %p as handler', (handler) => {
    expect(() => new Router().websocket('/ws', handler)).toThrow(/Router\.websocket\("\/ws"\) takes a function as handler, not /);
    expect(() => new Router().post('/p', handler)).toThrow(TypeError);
  });

  test('refuses unknown options by name, and values that are not true or false', () => {
    const router = new Router();
    expect(() => router.websocket('/ws', nothing, { secured: true })).toThrow(
      'Router.websocket has no option "secured"; accepted are binary, compress, concurrent, protocols.',
    );
    expect(() => router.websocket('/ws', nothing, { binary: 1 })).toThrow('the option binary is true or false, not 1.');
    expect(() => router.websocket('/ws', nothing, 'binary')).toThrow(TypeError);
    for (const protocols of ['chat', [1], [''], ['chat v1'], ['a', 'a'], {}]) {
      expect(() => router.websocket('/ws', nothing, { protocols })).toThrow('the option protocols is a list of different names');
    }
    expect(() => router.websocket('/ws', nothing, null)).toThrow(TypeError);
    expect(router.getRoutes()).toEqual([]);
  });

  test('refuses middleware instead of leaving it out silently', () => {
    expect(() => new Router().get('/a', nothing, [nothing])).toThrow('takes a path and one handler');
    expect(() => Router.post('/a', nothing, nothing)).toThrow(TypeError);
  });

  test('lists the routes in order, as a copy', () => {
    const router = new Router();
    router.get('/b', nothing);
    router.websocket('/ws/{room}', nothing);
    router.any('/c', nothing);
    const routes = router.getRoutes();
    expect(routes).toEqual([
      { method: 'GET', path: '/b' }, { method: 'WEBSOCKET', path: '/ws/{room}' }, { method: 'ANY', path: '/c' },
    ]);
    routes[0].path = '/changed';
    routes.pop();
    expect(router.getRoutes()).toHaveLength(3);
    expect(router.getRoutes()[0].path).toBe('/b');
  });

  test('counts patterns of one shape as one route', () => {
    const router = new Router();
    router.websocket('/ws/{room}/josé', nothing);
    router.websocket('/ws/{name}/jos%C3%A9', nothing);
    router.websocket('/ws/{id:int}/josé', nothing);
    expect(router.getRoutes().map(({ path }) => path)).toEqual(['/ws/{name}/jos%C3%A9', '/ws/{id:int}/josé']);
  });
});

describe('the default router', () => {
  test('is what the static methods act on', () => {
    const before = Router.getRoutes().length;
    const { get } = Router;
    get('/router-test/static', nothing);
    Router.default.put('/router-test/instance', nothing);
    expect(Router.getRoutes().slice(before)).toEqual([
      { method: 'GET', path: '/router-test/static' }, { method: 'PUT', path: '/router-test/instance' },
    ]);
    expect(new Router().getRoutes()).toEqual([]);
  });

  test('is shared by import and require', async () => {
    const { execFileSync } = require('node:child_process');
    const path = require('node:path');
    const script = `
      import { createRequire } from 'node:module';
      import * as imported from ${JSON.stringify(path.join(__dirname, '..', 'index.mjs'))};
      const required = createRequire(import.meta.url)(${JSON.stringify(path.join(__dirname, '..'))});
      imported.Router.get('/x', () => {});
      console.log(JSON.stringify([Object.keys(imported).sort(), required.Router === imported.Router, required.Router.getRoutes()]));`;
    const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(JSON.parse(printed)).toEqual([
      ['Router', 'getToken', 'startServer', 'validToken'], true, [{ method: 'GET', path: '/x' }],
    ]);
  });
});

describe('while a server runs', () => {
  test('a route registered takes effect for the next request, and replaces the earlier one', async () => {
    const { router, fetch, connect } = await serve((r) => r.get('/a', (req, res) => res.text('first')));
    expect((await fetch('/b')).status).toBe(404);
    router.get('/b', (req, res) => res.text('late'));
    router.get('/a', (req, res) => res.text('second'));
    router.websocket('/ws/{x}', (connection, event) => event === 'open' && connection.send('socket'));
    expect(await (await fetch('/b')).text()).toBe('late');
    expect(await (await fetch('/a')).text()).toBe('second');
    expect(await (await connect('/ws/1')).next()).toBe('socket');
    expect(router.getRoutes().map(({ path }) => path)).toEqual(['/a', '/b', '/ws/{x}']);
  });

  test('an open connection keeps the handler it opened with', async () => {
    const say = (text) => (connection, event) => event !== 'close' && connection.send(`${text} ${event}`);
    const { router, connect } = await serve((r) => r.websocket('/ws', say('old')));
    const early = await connect('/ws');
    expect(await early.next()).toBe('old open');
    router.websocket('/ws', say('new'));
    const late = await connect('/ws');
    early.send('?');
    expect(await early.next()).toBe('old message');
    expect(await late.next()).toBe('new open');
  });

  test('every verb has its method', async () => {
    const verbs = ['get', 'post', 'put', 'patch', 'delete', 'options'];
    const { fetch } = await serve((router) => {
      for (const verb of verbs) router[verb]('/v', (req, res) => res.text(`${verb} ${req.method}`));
      router.head('/h', (req, res) => res.header('x-head', 'own').text(''));
      router.any('/any', (req, res) => res.text(req.method));
    });
    for (const verb of verbs) {
      const method = verb.toUpperCase();
      expect(await (await fetch('/v', { method })).text()).toBe(`${verb} ${method}`);
      expect(await (await fetch('/any', { method })).text()).toBe(method);
    }
    expect((await fetch('/h', { method: 'HEAD' })).headers.get('x-head')).toBe('own');
  });

  test('HEAD falls back to GET, OPTIONS answers Allow, a wrong method is 405', async () => {
    const { fetch } = await serve((router) => {
      router.get('/a', (req, res) => res.header('x-method', req.method).text('body'));
      router.post('/a', (req, res) => res.text('posted'));
    });
    const head = await fetch('/a', { method: 'HEAD' });
    expect([head.status, head.headers.get('x-method'), head.headers.get('content-length'), await head.text()]).toEqual([200, 'HEAD', '4', '']);
    const options = await fetch('/a', { method: 'OPTIONS' });
    expect(options.headers.get('allow')).toMatch(/GET/);
    const wrong = await fetch('/a', { method: 'DELETE' });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get('allow')).toMatch(/POST/);
  });

  test('two servers of one router share its routes, two routers share nothing', async () => {
    const one = await serve((router) => router.get('/mine', (req, res) => res.text('one')));
    const two = await serve((router) => router.get('/yours', (req, res) => res.text('two')));
    const again = await serve(() => {}, { router: one.router });
    expect(await (await again.fetch('/mine')).text()).toBe('one');
    expect((await two.fetch('/mine')).status).toBe(404);
  });
});

describe('#pushToWebSocket', () => {
  test('reaches the concrete path only, from a request handler and from a timer', async () => {
    const { router, fetch, connect } = await serve((r) => {
      r.websocket('/ws/user/{id}', greet);
      r.post('/push/{id}', (req, res) => {
        r.pushToWebSocket(`/ws/user/${req.params.id}`, JSON.stringify({ for: req.params.id }));
        res.json({ pushed: true });
      });
    });
    const seven = await join(connect, '/ws/user/7');
    const eight = await join(connect, '/ws/user/8');
    expect(await (await fetch('/push/7', { method: 'POST' })).json()).toEqual({ pushed: true });
    expect(await seven.json()).toEqual({ for: '7' });
    setTimeout(() => router.pushToWebSocket('/ws/user/8', Buffer.from([1, 2])), 5);
    expect(await eight.next()).toEqual(Buffer.from([1, 2]));
    expect(seven.pending() + eight.pending()).toBe(0);
  });

  test('takes every spelling of a path for the same one', async () => {
    const { router, connect } = await serve((r) => r.websocket('/ws/u/{name}', greet));
    const peer = await join(connect, '/ws/u/jos%c3%a9');
    router.pushToWebSocket('/ws/u/josé', 'a');
    router.pushToWebSocket('/ws/u/jos%C3%A9', 'b');
    router.pushToWebSocket('/%77s/u/josé', 'c');
    expect([await peer.next(), await peer.next(), await peer.next()]).toEqual(['a', 'b', 'c']);
  });

  test('reaches every running server of the router, and none after its close', async () => {
    const one = await serve((r) => r.websocket('/ws', greet));
    const two = await serve(() => {}, { router: one.router });
    const peers = [await join(one.connect, '/ws'), await join(two.connect, '/ws')];
    one.router.pushToWebSocket('/ws', 'both');
    expect(await Promise.all(peers.map((peer) => peer.next()))).toEqual(['both', 'both']);
    await two.server.close();
    one.router.pushToWebSocket('/ws', 'one');
    expect(await peers[0].next()).toBe('one');
  });

  test('is a no-op before a start, but checks its arguments', () => {
    const router = new Router();
    expect(router.pushToWebSocket('/nobody/here', 'x')).toBeUndefined();
    expect(() => router.pushToWebSocket('no-slash', 'x')).toThrow(TypeError);
    expect(() => router.pushToWebSocket('/bad%zz', 'x')).toThrow(TypeError);
    expect(() => router.pushToWebSocket(7, 'x')).toThrow('Router.pushToWebSocket takes a path as string, not 7.');
    expect(() => router.pushToWebSocket('/a', { type: 'x' })).toThrow(
      'Router.pushToWebSocket takes a string, a Buffer or an ArrayBuffer view as message, not an object.',
    );
    expect(() => router.pushToWebSocket('/a')).toThrow(TypeError);
  });
});
