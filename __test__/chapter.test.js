'use strict';

// The user's chapter, unchanged, in an app with the packed package installed, served by `npx tina4 serve`: what each of its
// files does, as its section says. Its pages run in a browser in e2e/chapter.test.js.

const fs = require('node:fs');
const path = require('node:path');
const WebSocket = require('ws');
const { ROOT, Peer, until } = require('./served');
const { install, killAll, npxServe } = require('./installed');
const { PROBE, measure } = require('./probe');

const CHAPTER = path.join(ROOT, '..', 'shared', 'chapter');
const SECRET = 'the secret of the chapter, at least 32 bytes';

const hasChapter = fs.existsSync(CHAPTER);
const describeChapter = hasChapter
  ? describe
  : (name, body) => describe.skip(`${name} (no ../shared/chapter beside the checkout)`, body);

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

jest.setTimeout(60_000);

let app, server;

const connect = (target) => Peer.connect(server, target);

const post = (target, body) => fetch(server.origin + target, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

/** Closes the peers; each must have been sent nothing that the test has not taken. */
async function leave(...peers) {
  const left = [];
  for (const peer of peers) {
    await peer.close();
    left.push(peer.messages);
  }
  expect(left).toEqual(peers.map(() => []));
}

beforeAll(async () => {
  app = await install();
  if (!hasChapter) return;
  for (const name of ['routes', 'templates']) {
    fs.cpSync(path.join(CHAPTER, name), path.join(app.directory, 'src', name), { recursive: true });
  }
  fs.writeFileSync(path.join(app.directory, 'src', 'routes', 'zz-probe.ts'), PROBE);
});

afterAll(async () => {
  await killAll();
  app?.remove();
});

describe('the installed package', () => {
  test('works with import and with require, which share one Router', async () => {
    const code = `
      import { createRequire } from "node:module";
      import { Router, startServer, getToken, validToken } from "tina4-nodejs";
      const required = createRequire(import.meta.url)("tina4-nodejs");
      Router.get("/from-import", (req, res) => res.json(validToken(getToken({ user: 7 })).user));
      const server = await required.startServer({ port: 0, host: "127.0.0.1" });
      const answer = await fetch("http://127.0.0.1:" + server.port + "/from-import");
      console.log(required.Router === Router, await answer.json(), typeof startServer);
      await server.close();
    `;
    const output = await app.node(['--input-type=module', '-e', code], { TINA4_SECRET: SECRET });
    expect(output.trim().split('\n').at(-1)).toBe('true 7 function');
  });

  test('brings its binary and no compiler: neither Rust sources nor an install script', () => {
    const folder = path.join(app.directory, 'node_modules', 'tina4-nodejs');
    const names = fs.readdirSync(folder);
    expect(names.filter((name) => name.endsWith('.node'))).toHaveLength(1);
    expect(names).not.toContain('Cargo.toml');
    const { scripts } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
    expect(Object.keys(scripts)).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(pre|post)?install$/)]));
  });
});

describeChapter('the chapter', () => {
  beforeAll(async () => {
    // A small young generation from the start: else its growing to its size, 32 MiB, would look like a leak.
    const NODE_OPTIONS = '--max-semi-space-size=2';
    server = await npxServe(app, { env: { TINA4_SECRET: SECRET, NODE_OPTIONS } });
  });

  afterAll(() => server?.interrupt());

  test('every file of the chapter has been loaded', () => {
    expect(fs.readdirSync(path.join(CHAPTER, 'routes'))).toHaveLength(16);
    expect(server.output).not.toMatch(/error/i);
  });

  test('03: /ws/echo answers a message with "Echo: " before it', async () => {
    const peer = await connect('/ws/echo');
    for (const text of ['Hello', '', 'zwölf 😀']) {
      peer.send(text);
      expect(await peer.next()).toBe(`Echo: ${text}`);
    }
    await leave(peer);
  });

  test('04a, 04b, 04c: of three handlers of one path the last registered runs: it logs and sends nothing', async () => {
    const peer = await connect('/ws/notifications');
    // The handlers before it would have sent a welcome, answered the ping, and failed to parse the second message.
    peer.send('{"type":"ping"}');
    peer.send('no JSON');
    await leave(peer);
    await until(() => /Client disconnected/.test(server.output), 'the log line of the close');
    const [, id] = /^Client connected: (\S+)$/m.exec(server.output);
    const lines = server.output.split('\n').filter((line) => line.includes(id));
    expect(lines).toEqual([
      `Client connected: ${id}`,
      `Message from ${id}: {"type":"ping"}`,
      `Message from ${id}: no JSON`,
      `Client disconnected: ${id}`,
    ]);
  });

  test('04d: the complete handler greets with the id, answers with it, and logs the end', async () => {
    const peer = await connect('/ws/chat');
    const welcome = await peer.nextJson();
    expect(welcome).toEqual({ type: 'system', message: 'Welcome to the chat!', your_id: expect.stringMatching(/./) });
    peer.send({ text: 'Hi' });
    expect(await peer.nextJson()).toEqual({ type: 'message', from: welcome.your_id, text: 'Hi', timestamp: expect.stringMatching(TIME) });
    peer.send('{"no":"text"}');
    expect(await peer.nextJson()).toMatchObject({ text: '{"no":"text"}' });
    await leave(peer);
    await until(() => server.output.includes(`[Chat] Disconnected: ${welcome.your_id}`), 'the log line of the close');

    const other = await connect('/ws/chat');
    expect((await other.nextJson()).your_id).not.toBe(welcome.your_id);
    await leave(other);
  });

  test('05: only the one who asks gets the time and the status', async () => {
    const [asker, other] = await Promise.all([connect('/ws/private'), connect('/ws/private')]);
    asker.send({ action: 'get-time' });
    expect(await asker.nextJson()).toEqual({ type: 'time', server_time: expect.stringMatching(TIME) });
    asker.send({ action: 'get-status' });
    const status = await asker.nextJson();
    expect(status).toEqual({ type: 'status', uptime: expect.any(Number), connections: 42, memory_mb: expect.any(Number) });
    expect(status.memory_mb).toBeGreaterThan(1);
    asker.send({ action: 'something else' });
    await leave(asker, other);
  });

  test('06a: a broadcast reaches everyone, its sender too, with the number online; who has left is not counted', async () => {
    const first = await connect('/ws/announcements');
    expect(await first.nextJson()).toEqual({ type: 'system', message: 'A new user joined', online_count: 1 });
    const second = await connect('/ws/announcements');
    for (const peer of [first, second]) expect(await peer.nextJson()).toMatchObject({ message: 'A new user joined', online_count: 2 });

    second.send({ text: 'Maintenance at 10 PM' });
    const received = [await first.nextJson(), await second.nextJson()];
    expect(received[0]).toEqual({
      type: 'announcement', from: expect.any(String), text: 'Maintenance at 10 PM', timestamp: expect.stringMatching(TIME),
    });
    expect(received[1]).toEqual(received[0]);

    await leave(second);
    expect(await first.nextJson()).toEqual({ type: 'system', message: 'A user left', online_count: 1 });
    await leave(first);
  });

  test('06b: excludeSelf leaves the sender out, who gets a confirmation', async () => {
    const [sender, other] = await Promise.all([connect('/ws/exclude'), connect('/ws/exclude')]);
    sender.send({ username: 'Alice', text: 'one' });
    sender.send({ text: 'two' });
    expect(await sender.nextJson()).toEqual({ type: 'sent', text: 'one' });
    expect(await sender.nextJson()).toEqual({ type: 'sent', text: 'two' });
    expect(await other.nextJson()).toMatchObject({ type: 'message', from: 'Alice', text: 'one' });
    expect(await other.nextJson()).toMatchObject({ type: 'message', from: 'Anonymous', text: 'two' });
    await leave(sender, other);
  });

  test('06c: sendJson sends objects as JSON', async () => {
    const peer = await connect('/ws/status');
    expect(await peer.nextJson()).toEqual({ type: 'welcome', connection_id: expect.stringMatching(/./) });
    peer.send('any "text"');
    expect(await peer.nextJson()).toEqual({ type: 'ack', received: 'any "text"' });
    await leave(peer);
  });

  describe('06d: /ws/secure', () => {
    const mint = (secret, minutes = 60) => app.node(
      ['-p', `require("tina4-nodejs").getToken({ user: 7 }, undefined, ${minutes})`],
      { TINA4_SECRET: secret },
    ).then((output) => output.trim());

    test('a token of the secret is welcome and stays connected', async () => {
      const peer = await connect(`/ws/secure?token=${await mint(SECRET)}`);
      expect(await peer.nextJson()).toEqual({ type: 'welcome' });
      expect(peer.socket.readyState).toBe(WebSocket.OPEN);
      await leave(peer);
    });

    const refused = async (query) => {
      const peer = await connect(`/ws/secure${query}`);
      expect(await peer.closed).toEqual({ code: 1000, reason: '' });
      expect(peer.messages).toEqual(['{"error":"Unauthorized"}']);
    };

    test.each(['', '?token=', '?token=garbage', '?token=a.b.c', '?other=1'])('%j is told so and closed', (query) => refused(query));

    test('a token of another secret, and one that was changed, are told so and closed', async () => {
      await refused(`?token=${await mint('another secret')}`);
      const [head, , signature] = (await mint(SECRET)).split('.');
      const claims = Buffer.from(JSON.stringify({ user: 1, exp: 9_999_999_999 })).toString('base64url');
      await refused(`?token=${head}.${claims}.${signature}`);
    });
  });

  test('07: a room hears itself alone, with the number online in it', async () => {
    const one = await connect('/ws/chat/room-1');
    expect(await one.nextJson()).toEqual({ type: 'system', message: 'Someone joined room room-1', room: 'room-1', online: 1 });
    const two = await connect('/ws/chat/room-2');
    expect(await two.nextJson()).toMatchObject({ message: 'Someone joined room room-2', online: 1 });
    const also = await connect('/ws/chat/room-1');
    for (const peer of [one, also]) expect(await peer.nextJson()).toMatchObject({ room: 'room-1', online: 2 });

    also.send({ username: 'Alice', text: 'Hi' });
    for (const peer of [one, also]) {
      expect(await peer.nextJson()).toEqual({
        type: 'message', room: 'room-1', from: 'Alice', text: 'Hi', timestamp: expect.stringMatching(TIME),
      });
    }
    await leave(also);
    expect(await one.nextJson()).toEqual({ type: 'system', message: 'Someone left room room-1', room: 'room-1', online: 1 });
    // Nothing of room-1 came to room-2.
    await leave(two, one);
  });

  test('07: the name of a room may be anything that a segment can spell', async () => {
    for (const room of ['</script><b>', '\\', 'R&D', 'a"b', 'a/b', '100%', 'zwölf', '日本', 'two words', '?']) {
      const peer = await connect(`/ws/chat/${encodeURIComponent(room)}`);
      expect(await peer.nextJson()).toMatchObject({ room, online: 1 });
      await leave(peer);
    }
  });

  test('08: the live chat: welcome, names, messages, typing, leaving', async () => {
    const alice = await connect('/ws/livechat/general');
    const welcome = await alice.nextJson();
    expect(welcome).toEqual({ type: 'welcome', message: 'Connected to room: general', your_id: expect.any(String), online: 1 });
    const bob = await connect('/ws/livechat/general');
    const { your_id: bobId } = await bob.nextJson();
    const elsewhere = await connect('/ws/livechat/other');
    expect(await elsewhere.nextJson()).toMatchObject({ online: 1 });

    alice.send({ type: 'set-username', username: 'Alice' });
    for (const peer of [alice, bob]) expect(await peer.nextJson()).toEqual({ type: 'system', message: 'Anonymous is now known as Alice' });
    bob.send({ text: 'without a type or a name' });
    for (const peer of [alice, bob]) {
      expect(await peer.nextJson()).toEqual({
        type: 'message', from: 'Anonymous', from_id: bobId, text: 'without a type or a name', timestamp: expect.stringMatching(TIME),
      });
    }
    // The sender of "typing" gets nothing: what comes to it next is the message after it.
    alice.send({ type: 'typing' });
    alice.send({ type: 'message', text: 'Hi Bob' });
    expect(await bob.nextJson()).toEqual({ type: 'typing', username: 'Alice' });
    expect(await bob.nextJson()).toMatchObject({ type: 'message', from: 'Alice', from_id: welcome.your_id, text: 'Hi Bob' });
    expect(await alice.nextJson()).toMatchObject({ type: 'message', from: 'Alice', text: 'Hi Bob' });

    await leave(alice);
    expect(await bob.nextJson()).toEqual({ type: 'system', message: 'Alice left the chat', online: 1 });
    await leave(elsewhere, bob);
  });

  test('09: shipping an order tells the clients of that user and nobody else', async () => {
    const [tab, otherTab, stranger] = await Promise.all([7, 7, 8].map((user) => connect(`/ws/notifications/${user}`)));
    for (const peer of [tab, otherTab, stranger]) {
      expect(await peer.nextJson()).toEqual({ type: 'connected', message: 'Listening for notifications' });
    }
    tab.send({ type: 'mark-read', id: 12 });

    const answer = await post('/api/orders/42/ship', { user_id: 7 });
    expect(answer.status).toBe(201);
    expect(await answer.json()).toEqual({ message: 'Order shipped, user notified' });
    for (const peer of [tab, otherTab]) {
      expect(await peer.nextJson()).toEqual({
        type: 'notification',
        title: 'Order Shipped',
        message: 'Your order #42 has been shipped!',
        action_url: '/orders/42',
        timestamp: expect.stringMatching(TIME),
      });
    }
    // Without a user it goes to user 0, whom nobody listens for; then to the other one.
    expect((await post('/api/orders/43/ship', {})).status).toBe(201);
    expect((await fetch(`${server.origin}/api/orders/43/ship`, { method: 'POST' })).status).toBe(201);
    await post('/api/orders/44/ship', { user_id: 8 });
    expect(await stranger.nextJson()).toMatchObject({ message: 'Your order #44 has been shipped!' });
    await leave(tab, otherTab, stranger);
    expect(server.output).toContain('[Notifications] User 7 read notification 12');
  });

  test('09b: a push to /ws/project/42 reaches its clients alone', async () => {
    const [project, other] = await Promise.all([connect('/ws/project/42'), connect('/ws/project/421')]);
    const answer = await post('/api/push-project-42', {});
    expect([answer.status, await answer.json()]).toEqual([200, { pushed: true }]);
    expect(await project.nextJson()).toEqual({ type: 'task_completed', task: 'Design review' });
    await leave(project, other);
  });

  /** What a page's own script makes of its room. */
  const roomIn = (page) => new Function(`return ${/const room = (".*");/.exec(page)[1]}`)();

  test.each(['general', '</script><b>', '\\', 'R&D', 'a"b'])('11: the page of the room %j', async (room) => {
    const answer = await fetch(`${server.origin}/chat/${encodeURIComponent(room)}`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toMatch(/^text\/html/);
    const page = await answer.text();
    expect(page).toMatch(/^<!doctype html>/i);
    expect(page).toContain('<script src="/js/frond.js"></script>');
    expect(page).toContain('id="chat-form"');
    expect(roomIn(page)).toBe(room);
    // Two scripts, and no room ends one of them.
    expect(page.match(/<\/script/gi)).toHaveLength(2);
    expect(page).not.toContain('<b>');
  });

  test('13: the chat room greets, names, chats and says who left', async () => {
    const alice = await connect('/ws/room/test');
    expect(await alice.nextJson()).toEqual({
      type: 'system',
      message: 'Welcome to room: test. Set your name with: {"type": "set-name", "name": "YourName"}',
      online: 1,
    });
    const bob = await connect('/ws/room/test');
    expect(await bob.nextJson()).toMatchObject({ message: expect.stringContaining('Welcome to room: test'), online: 2 });
    expect(await alice.nextJson()).toEqual({ type: 'system', message: 'A new user joined', online: 2 });

    bob.send({ type: 'set-name', name: 'Bob' });
    for (const peer of [alice, bob]) expect(await peer.nextJson()).toEqual({ type: 'system', message: 'Anonymous changed their name to Bob' });
    bob.send({ text: 'Hi' });
    for (const peer of [alice, bob]) {
      expect(await peer.nextJson()).toEqual({ type: 'chat', from: 'Bob', text: 'Hi', timestamp: expect.stringMatching(/^\d\d:\d\d:\d\d$/) });
    }
    await leave(bob);
    expect(await alice.nextJson()).toEqual({ type: 'system', message: 'Bob left the room', online: 1 });
    await leave(alice);
  });

  test('13: the page of a room is served by the same file', async () => {
    const page = await (await fetch(`${server.origin}/room/test`)).text();
    expect(page).toContain('<h1>Room: test</h1>');
    expect(page).toContain('<title>Room: test</title>');
    expect(roomIn(page)).toBe('test');
  });

  test('/js/frond.js is the browser helper', async () => {
    const answer = await fetch(`${server.origin}/js/frond.js`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toMatch(/javascript/);
    expect(await answer.text()).toBe(fs.readFileSync(path.join(ROOT, 'public', 'js', 'frond.js'), 'utf8'));
  });

  describe('10c, 10d: the samples without frond', () => {
    /** Runs a sample as a page would, with that page's address and console. */
    function run(file, scope) {
      const names = Object.keys(scope);
      const code = fs.readFileSync(path.join(CHAPTER, 'browser', file), 'utf8');
      return new Function(...names, code)(...names.map((name) => scope[name]));
    }

    test('10c: a native WebSocket chats in /ws/chat/general', async () => {
      const lines = [];
      const sockets = [];
      // The sample names the default port.
      class Here extends WebSocket {
        constructor(url) {
          super(url.replace('localhost:7148', `127.0.0.1:${server.port}`));
          sockets.push(this);
        }
      }
      const note = (...values) => lines.push(values);
      run('10c-native.js', { WebSocket: Here, console: { log: note, error: note } });
      await until(() => lines.length === 3, () => `three lines, have ${JSON.stringify(lines)}`);
      sockets[0].close();
      await until(() => lines.length === 4, 'the line of the close');
      expect(lines).toEqual([
        ['Connected'],
        ['Received:', expect.objectContaining({ type: 'system', room: 'general', online: 1 })],
        ['Received:', expect.objectContaining({ type: 'message', from: 'Alice', text: '' })],
        ['Disconnected'],
      ]);
    });

    test('10d: a page that reconnects by itself is back after three seconds', async () => {
      const lines = [];
      const sockets = [];
      class Here extends WebSocket {
        constructor(url) {
          super(url);
          sockets.push(this);
        }
      }
      let awaitsReturn = true;
      // The sample never stops; the test stops it after the first return.
      const once = (callback, milliseconds) => awaitsReturn && setTimeout(callback, milliseconds);
      run('10d-manual-reconnect.js', {
        WebSocket: Here,
        location: { host: `127.0.0.1:${server.port}` },
        console: { log: (...values) => lines.push(values) },
        setTimeout: once,
      });
      await until(() => lines.length === 1, 'the join');
      sockets[0].terminate();
      await until(() => lines.length === 3, 'the second join');
      awaitsReturn = false;
      const joined = ['Received:', expect.objectContaining({ type: 'system', online: 1 })];
      expect(lines).toEqual([joined, ['Disconnected. Reconnecting in 3s...'], joined]);
      sockets[1].close();
      await until(() => lines.length === 4, 'the last line');
    });
  });

  test('a message over 1 MiB closes its connection with 1009, and no other', async () => {
    const [small, large] = await Promise.all([connect('/ws/echo'), connect('/ws/echo')]);
    small.send('x'.repeat(1_048_576));
    expect(await small.next()).toHaveLength('Echo: '.length + 1_048_576);
    large.send('x'.repeat(1_048_577));
    expect((await large.closed).code).toBe(1009);
    expect(large.messages).toEqual([]);
    small.send('still here');
    expect(await small.next()).toBe('Echo: still here');
    await leave(small);
  });

  test(':room is no parameter, and a path without a route is 404', async () => {
    const peer = await connect('/ws/colon/:room');
    expect(await peer.nextJson()).toEqual({ path: expect.stringMatching(/^\/ws\/colon\//), params: {} });
    await leave(peer);
    for (const target of ['/ws/colon/general', '/ws/nowhere', '/ws/chat/a/b', '/ws/echo/']) {
      await expect(connect(target)).rejects.toThrow('404');
    }
  });

  test('2,000 connects and disconnects in the live chat leave counts and memory where they were', async () => {
    /** Comes into the room, says its name and a word, and goes, as a page does. */
    const visit = async () => {
      const peer = await connect('/ws/livechat/many');
      peer.send({ type: 'set-username', username: 'Visitor' });
      peer.send({ text: 'Hello' });
      await peer.next((text) => text.includes('Hello'));
      await peer.close();
    };
    const visits = async (total) => {
      let begun = 0;
      await Promise.all(Array.from({ length: 20 }, async () => {
        while (begun < total) {
          begun += 1;
          await visit();
        }
      }));
    };
    /** Connections in the room, ours included. */
    const online = async () => {
      const peer = await connect('/ws/livechat/many');
      const { online: count } = await peer.nextJson('welcome');
      await peer.close();
      return count;
    };
    // The first visitors fill caches and pools that stay.
    await visits(500);
    expect(await online()).toBe(1);
    const before = await measure(server.origin);
    await visits(2_000);
    expect(await online()).toBe(1);
    const after = await measure(server.origin);

    const MIB = 1024 * 1024;
    expect(after.heap - before.heap).toBeLessThan(1 * MIB);
    expect(after.resident - before.resident).toBeLessThan(8 * MIB);
  });
});

describeChapter('the chapter in development', () => {
  beforeAll(async () => {
    server = await npxServe(app, { development: true, env: { TINA4_SECRET: SECRET } });
  });

  afterAll(() => server?.interrupt());

  test('the same files serve pages, sockets and pushes', async () => {
    expect((await fetch(`${server.origin}/chat/general`)).status).toBe(200);
    const peer = await connect('/ws/notifications/7');
    await peer.nextJson('connected');
    await post('/api/orders/42/ship', { user_id: 7 });
    expect(await peer.nextJson()).toMatchObject({ message: 'Your order #42 has been shipped!' });
    await leave(peer);
  });

  test('Ctrl+C closes the sockets with 1001 and leaves no process behind', async () => {
    const { pid } = await measure(server.origin);
    const peer = await connect('/ws/echo');
    await server.interrupt();
    expect((await peer.closed).code).toBe(1001);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });
});
