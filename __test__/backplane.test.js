'use strict';

// One chat over several servers: each on a bus of the tests' own, in this process or in another one.

const { once } = require('node:events');
const net = require('node:net');
const { endBuses } = require('./bus.js');
const { endForked, forkServer } = require('./forked.js');
const { Nats } = require('./nats.js');
const { Redis } = require('./redis.js');
const { cleanUp, deferred, serve, sleep, until } = require('./support.js');

/** What a busy machine may take. */
const WAIT = 10_000;
const MIB = 1024 * 1024;

/** Quick enough for a test to see a server lost and found again. */
const QUICK = { wsBackplaneHeartbeat: 0.2, wsBackplaneRetryDelay: 0.2 };

const MESSAGES = 'tina4:ws';
const CONTROL = 'tina4:ws:ctl';

/** Sends on whatever a peer sends: to all, or with `others:` before it to all but that peer. */
function chat(router) {
  router.websocket('/ws/{room:path}', (connection, event, data) => {
    if (event === 'open') connection.send('hello');
    if (event !== 'message') return;
    if (data === 'who') connection.send(connection.id);
    else connection.broadcast(data, { excludeSelf: data.toString().startsWith('others:') });
  }, { binary: true });
}

/** The same, for a process of its own. */
function forkedChat(Router) {
  Router.websocket('/ws/{room:path}', (connection, event, data) => {
    if (event === 'open') connection.send('hello');
    if (event === 'message') connection.broadcast(data);
  });
  Router.get('/count/{room:path}', async (req, res) => {
    res.json(await Router.connectionCount(`/ws/${req.params.room}`, { cluster: true }));
  });
  Router.get('/block', (req, res) => {
    console.log('blocked');
    for (const end = performance.now() + 1_000; performance.now() < end;);
    res.text('free again');
  });
}

/** A peer that has joined its path. */
async function join(node, path = '/ws/chat') {
  const peer = await node.connect(path);
  expect(await peer.next()).toBe('hello');
  return peer;
}

/** That the bus took so many: its answer may come after the message was heard. */
const published = ({ server }, count) => until(() => server.backplane.counters.published === count, `${count} published`, WAIT);

/** The next messages of a peer. */
async function take(peer, count) {
  const messages = [];
  while (messages.length < count) messages.push(await peer.next());
  return messages;
}

/** Waits until servers are on their bus and know of each other. */
async function meet(nodes, others = nodes.length - 1) {
  for (const { server: { backplane }, log } of nodes) {
    await until(() => backplane.state === 'connected' && backplane.nodes === others, `the others (${backplane.state}, ${backplane.nodes})\n${log.text()}`, WAIT);
  }
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => String(from + index));

afterEach(async () => {
  await cleanUp();
  await endForked();
});
afterAll(endBuses);

describe.each([['redis', Redis], ['nats', Nats]])('with %s', (kind, Bus) => {
  let bus;

  beforeAll(async () => {
    bus = await new Bus().start();
  });
  afterAll(() => bus.end());

  const on = (somewhere, config = {}) => ({ wsBackplane: kind, wsBackplaneUrl: somewhere.url, ...QUICK, ...config });

  /** So many servers with a router each, that know of each other. */
  async function start(count, { at = bus, register = chat, config = {} } = {}) {
    const nodes = [];
    while (nodes.length < count) nodes.push(await serve(register, on(at, config)));
    await meet(nodes);
    return nodes;
  }

  describe('a broadcast', () => {
    test('reaches the peers of every server once, and in order', async () => {
      const [a, b] = await start(2);
      const [here, beside, there] = [await join(a), await join(a), await join(b)];
      for (const number of numbers(0, 200)) here.send(number);
      expect(await take(there, 200)).toEqual(numbers(0, 200));
      // The bus brings both servers the same order: what came twice would come before the answer.
      there.send('and back');
      const all = [...numbers(0, 200), 'and back'];
      expect(await take(here, 201)).toEqual(all);
      expect(await take(beside, 201)).toEqual(all);
      expect(await there.next()).toBe('and back');
      await published(a, 200);
      expect(a.server.backplane.counters).toMatchObject({ received: 1, duplicates: 0, ignored: 0, lost: 0, dropped: 0, connects: 1 });
    });

    test('with excludeSelf leaves out its sender alone', async () => {
      const [a, b] = await start(2);
      const [sender, beside, there] = [await join(a), await join(a), await join(b)];
      sender.send('others: hi');
      expect(await beside.next()).toBe('others: hi');
      expect(await there.next()).toBe('others: hi');
      there.send('others: and back');
      expect(await sender.next()).toBe('others: and back');
      expect(await beside.next()).toBe('others: and back');
      expect([sender, beside, there].map((peer) => peer.pending())).toEqual([0, 0, 0]);
    });

    test('carries text and bytes as they are', async () => {
      const [a, b] = await start(2);
      const [one, two] = [await join(a), await join(b)];
      const messages = ['', 'a"b\\c\n\u0000 \u2028 é 🦀', JSON.stringify({ kind: 'all', path: '/' }), Buffer.from([]), Buffer.from([0, 255, 254, 10, 128]),
        Buffer.alloc(100_000, 'ab'), 'x'.repeat(300_000)];
      for (const [from, to] of [[one, two], [two, one]]) {
        for (const message of messages) from.send(message);
        expect(await take(to, messages.length)).toEqual(messages);
        expect(await take(from, messages.length)).toEqual(messages);
      }
    });

    test('stays on its path, however that is spelled', async () => {
      const [a, b] = await start(2);
      const one = await join(a, '/ws/u/jos%c3%a9');
      const two = await join(b, '/ws/u/jos%C3%A9?token=1');
      const other = await join(b, '/ws/u/jose');
      one.send('to josé');
      expect(await two.next()).toBe('to josé');
      a.router.pushToWebSocket('/ws/u/josé', 'pushed');
      expect(await take(two, 1)).toEqual(['pushed']);
      a.router.pushToWebSocket('/ws/u/jose', 'to the other');
      expect(await other.next()).toBe('to the other');
      expect(await take(one, 2)).toEqual(['to josé', 'pushed']);
    });

    test('in a close handler reaches the others before the server is gone', async () => {
      const gate = deferred();
      const [a, b] = await start(2, {
        register: (router) => router.websocket('/ws/chat', async (connection, event) => {
          if (event === 'open') connection.send('hello');
          if (event !== 'close') return;
          connection.broadcast('leaving');
          await gate.promise;
          connection.broadcast('left');
        }),
      });
      const leaving = await join(a);
      const staying = await join(b);
      const closing = a.server.close();
      await leaving.closed;
      expect(await staying.next()).toBe('leaving');
      gate.resolve();
      expect(await staying.next()).toBe('left');
      const farewell = performance.now();
      await closing;
      // It says goodbye: nobody has to miss it for three heartbeats.
      await until(() => b.server.backplane.nodes === 0, 'the goodbye', WAIT);
      expect(performance.now() - farewell).toBeLessThan(400);
      expect(a.server.backplane.state).toBe('off');
    });
  });

  describe('several servers on one router', () => {
    test('a push reaches each peer once and is published once', async () => {
      const [a, c] = await start(2);
      const b = await serve(() => {}, on(bus, { router: a.router }));
      const local = await serve(() => {}, { router: a.router });
      await meet([a, b, c]);
      const reader = await bus.reader(MESSAGES);
      const peers = await Promise.all([a, b, c, local].map((node) => join(node)));
      a.router.pushToWebSocket('/ws/chat', 'one');
      a.router.pushToWebSocket('/ws/chat', 'two');
      for (const peer of peers) expect(await take(peer, 2)).toEqual(['one', 'two']);
      c.router.pushToWebSocket('/ws/chat', 'and back');
      for (const peer of peers.slice(0, 3)) expect(await peer.next()).toBe('and back');
      expect((await take({ next: () => reader.next() }, 3)).map(({ text }) => text)).toEqual(['one', 'two', 'and back']);
      expect(peers[3].pending()).toBe(0);

      // Then the next one publishes.
      await a.server.close();
      a.router.pushToWebSocket('/ws/chat', 'three');
      expect([await peers[1].next(), await peers[2].next(), await peers[3].next()]).toEqual(['three', 'three', 'three']);
      await reader.close();
    });

    test('a count has each connection once', async () => {
      const [a, c] = await start(2);
      const b = await serve(() => {}, on(bus, { router: a.router }));
      const local = await serve(() => {}, { router: a.router });
      await meet([a, b, c]);
      await Promise.all([a, b, b, c, c, c, local].map((node) => join(node)));
      expect(a.router.connectionCount('/ws/chat')).toBe(4);
      expect(await a.router.connectionCount('/ws/chat', { cluster: true })).toBe(7);
      expect(c.router.connectionCount('/ws/chat')).toBe(3);
      expect(await c.router.connectionCount('/ws/chat', { cluster: true })).toBe(6);
      expect([a, b, c, local].map(({ server }) => server.connectionCount('/ws/chat'))).toEqual([1, 2, 3, 1]);
      expect(await local.server.connectionCount('/ws/chat', { cluster: true })).toBe(1);
    });
  });

  describe('between processes', () => {
    test('peers chat, and are counted until their server is no longer heard', async () => {
      const [a] = await start(1);
      const b = await forkServer(forkedChat, { config: on(bus) });
      const c = await forkServer(forkedChat, { config: on(bus) });
      await meet([a], 2);
      const one = await join(a);
      const [two, three] = [await join(b), await join(c)];
      await join(c);
      await join(c, '/ws/elsewhere');
      one.send('from a');
      expect([await one.next(), await two.next(), await three.next()]).toEqual(Array(3).fill('from a'));
      three.send('from c');
      expect([await one.next(), await two.next(), await three.next()]).toEqual(Array(3).fill('from c'));

      expect(await a.server.connectionCount('/ws/chat', { cluster: true })).toBe(4);
      expect(a.server.connectionCount('/ws/chat')).toBe(1);
      // Each asks by itself, and hears of itself without the bus.
      expect(await (await b.fetch('/count/chat')).json()).toBe(4);
      expect(await (await b.fetch('/count/elsewhere')).json()).toBe(1);
      expect(await a.server.connectionCount('/ws/nobody', { cluster: true })).toBe(0);

      c.child.kill('SIGKILL');
      await c.ended;
      await until(() => a.server.backplane.nodes === 1, 'the end of one', WAIT);
      expect(await a.server.connectionCount('/ws/chat', { cluster: true })).toBe(2);
    });

    test('a process whose JavaScript is blocked goes on delivering', async () => {
      const [a] = await start(1);
      const b = await forkServer(forkedChat, { config: on(bus) });
      await meet([a], 1);
      const here = await join(a);
      const there = await join(b);
      let free = false;
      const answer = b.fetch('/block').then(() => { free = true; });
      await until(() => b.output.includes('blocked'), 'the blocking', WAIT);
      for (const number of numbers(0, 50)) here.send(number);
      expect(await take(there, 50)).toEqual(numbers(0, 50));
      expect(free).toBe(false);
      // Nor does it look dead to the others meanwhile.
      await answer;
      expect(a.server.backplane.nodes).toBe(1);
    });
  });

  describe('others on the channel', () => {
    test('see one envelope for each message, with the fields of the family', async () => {
      const [a, b] = await start(2);
      const reader = await bus.reader(MESSAGES);
      const sender = await join(a);
      sender.send('who');
      const id = await sender.next();
      sender.send('hällo');
      sender.send('others: but not me');
      sender.send(Buffer.from([1, 2, 255]));
      b.router.pushToWebSocket('/ws/u/josé', 'to nobody here');
      const envelopes = [await reader.next(), await reader.next(), await reader.next(), await reader.next()];
      const ofB = envelopes.splice(envelopes.findIndex(({ path }) => path !== '/ws/chat'), 1)[0];
      const { src, epoch } = envelopes[0];
      expect(src).toMatch(/^[0-9a-f]{16}$/);
      const common = { src, kind: 'path', exclude: null, room: null, path: '/ws/chat', epoch };
      const { seq } = envelopes[0];
      expect(envelopes).toEqual([
        { ...common, text: 'hällo', seq },
        { ...common, exclude: id, text: 'others: but not me', seq: seq + 1 },
        { ...common, b64: 'AQL/', seq: seq + 2 },
      ]);
      expect(ofB).toMatchObject({ kind: 'path', path: '/ws/u/jos%C3%A9', text: 'to nobody here' });
      expect(ofB.src).not.toBe(src);
      // Nothing comes back from those who received it, and no signs of life either.
      expect(reader.messages).toEqual([]);
      await reader.close();
    });

    test('are heard: by path, all of them, without an excluded one', async () => {
      const [a, b] = await start(2);
      const writer = await bus.connect();
      const [one, two, other] = [await join(a), await join(b), await join(a, '/ws/other')];
      one.send('who');
      const id = await one.next();
      const foreign = (fields) => writer.publish(MESSAGES, JSON.stringify({ src: 'a-python-node', kind: 'path', exclude: null, room: null, path: '/ws/chat', ...fields }));
      await foreign({ text: 'text' });
      await foreign({ b64: Buffer.from([0, 200]).toString('base64') });
      await foreign({ text: 'not to one', exclude: id });
      await foreign({ kind: 'all', path: null, text: 'to all' });
      await foreign({ kind: 'all', path: null, text: 'to all but one', exclude: id });
      await foreign({ path: '/ws/other', text: 'other' });
      await foreign({ text: 'last' });
      expect(await take(one, 4)).toEqual(['text', Buffer.from([0, 200]), 'to all', 'last']);
      expect(await take(two, 6)).toEqual(['text', Buffer.from([0, 200]), 'not to one', 'to all', 'to all but one', 'last']);
      expect(await take(other, 3)).toEqual(['to all', 'to all but one', 'other']);
      expect(a.server.backplane.counters).toMatchObject({ received: 7, ignored: 0, lost: 0 });
      // Whoever does not say that it is there is no node.
      expect(a.server.backplane.nodes).toBe(1);
      await writer.close();
    });

    test('can send anything without doing harm', async () => {
      const [a] = await start(1, { config: { wsBackplaneMaxEnvelope: MIB } });
      const reader = await bus.reader(MESSAGES);
      const writer = await bus.connect();
      const peer = await join(a);
      peer.send('mine');
      expect(await peer.next()).toBe('mine');
      const mine = await reader.next();
      const good = { src: 'another', kind: 'path', exclude: null, room: null, path: '/ws/chat' };
      const garbage = [
        'garbage', '', '{', '[]', 'null', '7', '"text"', '\u0000', Buffer.from([0xff, 0xfe, 0x7b]), '[['.repeat(100_000),
        ...[
          { ...good, kind: 'shout', text: 'x' },
          { ...good, kind: 7, text: 'x' },
          { ...good },
          { ...good, text: 7 },
          { ...good, b64: '!' },
          { ...good, path: null, text: 'x' },
          { ...good, src: undefined, text: 'x' },
          { ...good, text: 'x'.repeat(10 * MIB) },
        ].map((fields) => JSON.stringify(fields)),
      ];
      for (const payload of garbage) await writer.publish(MESSAGES, payload);
      await until(() => a.server.backplane.counters.ignored === garbage.length, `${garbage.length} ignored`, WAIT);
      for (const payload of garbage.slice(0, -1)) await writer.publish(CONTROL, payload);
      // Ours is what this server has sent itself, whoever says so.
      await writer.publish(MESSAGES, JSON.stringify({ ...mine, text: 'forged', seq: mine.seq + 1 }));
      await writer.publish(MESSAGES, JSON.stringify({ ...good, src: mine.src, text: 'forged too' }));
      await writer.publish(MESSAGES, JSON.stringify({ ...good, path: '/ws/nobody', text: 'to nobody' }));
      await writer.publish(MESSAGES, JSON.stringify({ ...good, path: 'no path', text: 'to nowhere' }));
      await writer.publish(MESSAGES, JSON.stringify({ ...good, kind: 'room', room: 'lobby', path: null, text: 'to no room' }));
      await writer.publish(MESSAGES, JSON.stringify({ ...good, text: 'good' }));
      expect(await peer.next()).toBe('good');
      peer.send('still there');
      expect(await peer.next()).toBe('still there');
      expect(peer.pending()).toBe(0);
      expect(a.server.backplane.state).toBe('connected');
      // A channel full of rubbish must not fill the log.
      expect(a.log.lines.length).toBeLessThan(10);
      await Promise.all([reader.close(), writer.close()]);
    });
  });

  describe('when the bus', () => {
    let own;

    afterEach(() => own.end());

    /** What a server's backplane went through, from now on. */
    function statesOf({ server }) {
      const states = [];
      server.backplane.on('state', (state) => states.push(state));
      return states;
    }

    const warnings = ({ log }) => log.lines.filter((line) => /^(warn|error)/.test(line));

    test('is killed and started again, local delivery goes on and the others get what they missed, in order', async () => {
      own = await new Bus().start();
      const [a, b] = await start(2, { at: own });
      const states = statesOf(a);
      const [here, beside, there] = [await join(a), await join(a), await join(b)];
      here.send('before');
      for (const peer of [here, beside, there]) expect(await peer.next()).toBe('before');

      await own.kill();
      await until(() => a.server.backplane.state === 'connecting' && b.server.backplane.state === 'connecting', 'the loss', WAIT);
      for (const number of numbers(0, 300)) here.send(number);
      expect(await take(beside, 300)).toEqual(numbers(0, 300));
      expect(await a.server.connectionCount('/ws/chat', { cluster: true })).toBe(2);
      expect(there.pending()).toBe(0);

      await own.start();
      expect(await take(there, 300)).toEqual(numbers(0, 300));
      await meet([a, b]);
      there.send('and back');
      expect((await take(here, 301)).at(-1)).toBe('and back');
      expect(await beside.next()).toBe('and back');
      expect(await there.next()).toBe('and back');
      expect(states).toEqual(['connecting', 'connected']);
      await published(a, 301);
      expect(a.server.backplane.counters).toMatchObject({ dropped: 0, connects: 2 });
      expect(b.server.backplane.counters).toMatchObject({ lost: 0, dropped: 0 });
      // One line when it was lost, and one more where an attempt says something else, however many attempts there were.
      expect(warnings(a).length).toBeGreaterThanOrEqual(1);
      expect(warnings(a).length).toBeLessThanOrEqual(2);
    });

    test('does not answer, that is noticed, and nothing is lost or comes twice', async () => {
      own = await new Bus().start();
      const [a, b] = await start(2, { at: own });
      const [here, there] = [await join(a), await join(b)];
      own.pause();
      for (const number of numbers(0, 20)) here.send(number);
      await until(() => a.server.backplane.state === 'connecting' && b.server.backplane.state === 'connecting', 'the loss', WAIT);
      for (const number of numbers(20, 40)) here.send(number);
      expect(await take(here, 40)).toEqual(numbers(0, 40));
      own.resume();
      expect(await take(there, 40)).toEqual(numbers(0, 40));
      await meet([a, b]);
      there.send('and back');
      expect(await there.next()).toBe('and back');
      expect(await here.next()).toBe('and back');
      expect(b.server.backplane.counters.lost).toBe(0);
    });

    test('does not answer, a count takes as long as any and not until that is noticed a second time', async () => {
      own = await new Bus().start();
      const [a] = await start(2, { at: own, config: { wsBackplaneHeartbeat: 1 } });
      own.pause();
      const counts = [];
      while (a.server.backplane.state === 'connected') {
        counts.push(a.server.connectionCount('/ws/chat', { cluster: true }));
        await sleep(50);
      }
      const lost = performance.now();
      await Promise.all(counts);
      expect(performance.now() - lost).toBeLessThan(2_500);
      own.resume();
    });

    test('is not there at the start, that is one line, and it is found when it comes', async () => {
      own = await new Bus().reserve();
      const [a, b] = [await serve(chat, on(own)), await serve(chat, on(own))];
      const states = statesOf(a);
      expect(a.server.backplane).toMatchObject({ state: 'connecting', kind, nodes: 0 });
      const [here, beside, there] = [await join(a), await join(a), await join(b)];
      here.send('early');
      expect([await here.next(), await beside.next()]).toEqual(['early', 'early']);
      // Long enough for several attempts.
      await sleep(800);
      expect(warnings(a)).toHaveLength(1);
      expect(warnings(a)[0]).toContain(`127.0.0.1:${own.port}`);

      await own.start();
      await meet([a, b]);
      here.send('late');
      expect(await take(there, 2)).toEqual(['early', 'late']);
      expect(there.pending()).toBe(0);
      await published(a, 2);
      expect(a.server.backplane.counters).toMatchObject({ dropped: 0 });
      expect(states).toEqual(['connected']);
      expect(warnings(a)).toHaveLength(1);
    });

    test('refuses the password, that is one line with the reason and without the password', async () => {
      own = await new Bus({ password: 'the-right-one' }).start();
      const a = await serve(chat, on(own, { wsBackplaneUrl: own.urlFor('the-wrong-one') }));
      const peer = await join(a);
      await until(() => warnings(a).length > 0, 'the line', WAIT);
      await sleep(800);
      expect(warnings(a)).toHaveLength(1);
      expect(warnings(a)[0]).toMatch(/password|authori[sz]ation|authentication/i);
      expect(a.log.text()).not.toMatch(/the-(wrong|right)-one/);
      expect(a.server.backplane.state).toBe('connecting');
      peer.send('alone');
      expect(await peer.next()).toBe('alone');

      const begun = performance.now();
      await a.server.close();
      // What waits gets a second, and no more.
      expect(performance.now() - begun).toBeLessThan(3_000);

      const [b] = await start(1, { at: own });
      expect(b.log.text()).not.toContain('the-right-one');
    });
  });
});

test('a link on which others are heard and the own server is not is made again', async () => {
  const [one, other] = [await new Redis().start(), await new Redis().start()];
  // A server subscribes on its first connection and publishes on its second: here they lead to two servers that know nothing of each other.
  let connections = 0;
  let isAsunder = true;
  const way = net.createServer((socket) => {
    connections += 1;
    const onward = net.connect(isAsunder && connections % 2 === 0 ? other.port : one.port, '127.0.0.1');
    for (const [from, to] of [[socket, onward], [onward, socket]]) from.on('error', () => {}).on('close', () => to.destroy()).pipe(to);
  }).listen(0, '127.0.0.1');
  await once(way, 'listening');
  const on = (port) => ({ wsBackplane: 'redis', wsBackplaneUrl: `redis://127.0.0.1:${port}`, ...QUICK });
  const [a, b, c] = [await serve(chat, on(way.address().port)), await serve(chat, on(one.port)), await serve(chat, on(other.port))];
  await until(() => /No link to .*no answer within/.test(a.log.text()), 'the line', WAIT);
  isAsunder = false;
  await meet([a, b]);
  const [here, there] = [await join(a), await join(b)];
  here.send('whole again');
  expect(await there.next()).toBe('whole again');
  expect(c.server.backplane.state).toBe('connected');
  way.close();
});
