'use strict';

// What a server says of its backplane, and what it takes: settings, `server.backplane`, and how many connections a path has.

const { once } = require('node:events');
const { Router, startServer } = require('..');
const { Backplane } = require('../lib/backplane.js');
const { endBuses } = require('./bus.js');
const { Redis } = require('./redis.js');
const { cleanUp, keptLog, serve, temporaryFolder, until } = require('./support.js');

/** Sends on whatever a peer sends, to all. */
function chat(router) {
  router.websocket('/ws/{room:path}', (connection, event, data) => {
    if (event === 'open') connection.send('hello');
    if (event === 'message') connection.broadcast(data);
  });
}

/** A peer that has joined its path. */
async function join(node, path = '/ws/chat') {
  const peer = await node.connect(path);
  expect(await peer.next()).toBe('hello');
  return peer;
}

afterEach(cleanUp);
afterAll(endBuses);

describe('settings', () => {
  const refused = (config) => startServer({ port: 0, directory: temporaryFolder(), logger: keptLog(), ...config }).then(() => 'started', (error) => error.message);

  test('an unknown name stops the start with one sentence', async () => {
    expect(await refused({ wsBackplane: 'kafka' })).toMatch(/^TINA4_WS_BACKPLANE is "kafka", accepted is .*redis.*nats.*\.$/);
  });

  test.each([
    ['redis', 'nats://localhost'], ['redis', 'localhost:6379'], ['redis', 'redis://:a-password@host:70000'], ['nats', 'redis://localhost'], ['nats', 'nats://a:a-password@:::'],
  ])('for %s the URL %s stops the start with one sentence', async (wsBackplane, wsBackplaneUrl) => {
    const message = await refused({ wsBackplane, wsBackplaneUrl });
    expect(message).toMatch(/^TINA4_WS_BACKPLANE_URL is .*, accepted is .+\.$/);
    expect(message).not.toContain('a-password');
  });

  test.each([
    ['wsBackplaneHeartbeat', 'soon'], ['wsBackplaneRetryDelay', -1], ['wsBackplaneReplaySize', '16M'], ['wsBackplaneReplayAge', 'x'], ['wsBackplaneMaxEnvelope', 1.5],
  ])('%s does not take %p', async (key, value) => {
    expect(await refused({ [key]: value })).toMatch(new RegExp(`^TINA4_WS_.* is "${value}", accepted is .+\\.$`));
  });

  test('names count in any case, and an empty one is none', async () => {
    const bus = await new Redis().reserve();
    const { server } = await serve(chat, { wsBackplane: ' Redis ', wsBackplaneUrl: bus.url });
    expect(server.backplane.kind).toBe('redis');
    const none = await serve(chat, { wsBackplane: '', wsBackplaneUrl: bus.url });
    expect(none.server.backplane).toMatchObject({ kind: null, state: 'off' });
  });
});

describe('server.backplane', () => {
  test('is there without a backplane, and off', async () => {
    const { server, connect } = await serve(chat);
    const { backplane } = server;
    expect(backplane).toMatchObject({ state: 'off', kind: null, nodes: 0 });
    expect(Object.values(backplane.counters)).toEqual(Array(10).fill(0));
    const peer = await join({ connect });
    peer.send('hi');
    expect(await peer.next()).toBe('hi');
    await server.close();
    expect(backplane.state).toBe('off');
  });

  test('after the close is off, with the counters of its end, and says so once', async () => {
    const bus = await new Redis().start();
    const { server, connect } = await serve(chat, { wsBackplane: 'redis', wsBackplaneUrl: bus.url });
    const { backplane } = server;
    if (backplane.state !== 'connected') expect(await once(backplane, 'state')).toEqual(['connected']);
    const states = [];
    backplane.on('state', (state) => states.push([state, backplane.state]));
    const peer = await join({ connect });
    peer.send('hi');
    await peer.next();
    await server.close();
    expect(states).toEqual([['off', 'off']]);
    expect(backplane).toMatchObject({ state: 'off', kind: 'redis', nodes: 0, counters: { published: 1, connects: 1 } });
  });

  /** One that is not driven by an engine. */
  function driven(lines = []) {
    const native = { kind: 'relay', state: 'connecting', src: 'me', nodes: 3, published: 7 };
    const asked = [];
    const engine = {
      backplane: () => ({ ...native }), finish: () => true, countPath: () => 2, countCluster: (path) => asked.push(path),
    };
    const backplane = new Backplane(engine, { error: (text, error) => lines.push(`${text} ${error.message}`) }, 'a bus');
    return { backplane, engine, native, asked };
  }

  test('calls every listener, also after one that fails', async () => {
    const lines = [];
    const { backplane } = driven(lines);
    backplane.started();
    const heard = [];
    backplane.on('state', () => { throw new Error('thrown'); });
    backplane.on('state', async () => { throw new Error('rejected'); });
    backplane.once('state', (state) => heard.push(`once ${state}`));
    backplane.on('state', (state) => heard.push(state));
    backplane.changed('connected');
    backplane.changed('connected');
    backplane.changed('connecting');
    await until(() => lines.length === 4, 'the lines');
    expect(heard).toEqual(['once connected', 'connected', 'connecting']);
    expect(lines.sort()).toEqual([
      ...Array(2).fill('A listener of server.backplane failed. rejected'), ...Array(2).fill('A listener of server.backplane failed. thrown'),
    ]);
  });

  test('gives counters that stay as they are, and another name to what is built in', () => {
    const { backplane, native } = driven();
    expect(backplane).toMatchObject({ state: 'off', kind: null, bus: null, nodes: 0 });
    backplane.started();
    expect(backplane).toMatchObject({ state: 'connecting', kind: 'workers', bus: 'a bus', src: 'me', nodes: 3 });
    const { counters } = backplane;
    native.published = 8;
    expect([counters.published, backplane.counters.published]).toEqual([7, 8]);
    expect(Object.isFrozen(counters)).toBe(true);
  });

  test('answers what was asked when the server ends meanwhile', async () => {
    const { backplane, asked } = driven();
    backplane.started();
    const counts = [backplane.count('/a'), backplane.count('/b')];
    backplane.counted(2, 5);
    backplane.counted(99, 1);
    const finished = backplane.finish();
    expect(backplane.bus).toBeNull();
    backplane.changed('off');
    await finished;
    backplane.end();
    expect(await Promise.all([...counts, backplane.count('/c')])).toEqual([0, 5, 0]);
    expect([asked, backplane.countHere('/a')]).toEqual([['/a', '/b'], 0]);
  });
});

describe('#connectionCount', () => {
  test.each(['server', 'router'])('of a %s counts one concrete path in this process', async (owner) => {
    const node = await serve(chat);
    const counting = node[owner];
    const count = (path) => counting.connectionCount(path);
    expect(count('/ws/chat')).toBe(0);
    const peer = await join(node, '/ws/u/jos%c3%a9');
    await join(node, '/ws/u/josé');
    await join(node, '/ws/u/jose');
    expect([count('/ws/u/josé'), count('/%77s/u/jos%C3%A9'), count('/ws/u/jose'), count('/ws/u')]).toEqual([2, 2, 1, 0]);
    expect(counting.connectionCount('/ws/u/josé', { cluster: false })).toBe(2);
    expect(await counting.connectionCount('/ws/u/josé', { cluster: true })).toBe(2);
    await peer.close();
    await until(() => count('/ws/u/josé') === 1, 'the close');
    await node.server.close();
    expect(count('/ws/u/jose')).toBe(0);
    expect(await counting.connectionCount('/ws/u/jose', { cluster: true })).toBe(0);
  });

  test.each(['server', 'router'])('of a %s checks its arguments at once', async (owner) => {
    const { [owner]: counting } = await serve(chat);
    const caller = owner === 'server' ? 'server.connectionCount' : 'Router.connectionCount';
    expect(() => counting.connectionCount()).toThrow(`${caller} takes a path as string, not undefined.`);
    expect(() => counting.connectionCount('ws', { cluster: true })).toThrow(TypeError);
    expect(() => counting.connectionCount('/%zz')).toThrow(TypeError);
    expect(() => counting.connectionCount('/ws', true)).toThrow(`${caller} takes an object such as { cluster: true } as options, not true.`);
    expect(() => counting.connectionCount('/ws', { cluster: 1 })).toThrow(`${caller}: cluster is true or false, not 1.`);
    expect(() => counting.connectionCount('/ws', { clustre: true })).toThrow(`${caller} has no option "clustre"; accepted are cluster.`);
  });

  test('of the default router is a static method too', async () => {
    expect(Router.connectionCount('/backplane-test/nobody')).toBe(0);
    expect(await Router.connectionCount('/backplane-test/nobody', { cluster: true })).toBe(0);
  });
});
