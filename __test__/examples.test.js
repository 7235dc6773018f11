'use strict';

// Every folder of examples/ runs here as its README says, through the CLI and real sockets.

const fs = require('node:fs');
const path = require('node:path');
const { Peer, ROOT, endAll, serve } = require('./served');

const EXAMPLES = path.join(ROOT, 'examples');

jest.setTimeout(60_000);

let app;

const start = (name) => async () => {
  app = await serve(path.join(EXAMPLES, name), { env: { TINA4_SECRET: undefined } });
};

async function stop() {
  const { code } = await app.stop();
  expect(code).toBe(0);
}

const post = (target, body) => fetch(app.origin + target, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

afterAll(endAll);

test('every example is run in this file', () => {
  const folders = fs.readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(folders.map((entry) => entry.name).sort()).toEqual(['chat', 'clock', 'echo', 'notifications', 'secure']);
});

describe('echo', () => {
  beforeAll(start('echo'));
  afterAll(stop);

  test('/ws/echo answers text with itself', async () => {
    const peer = await Peer.connect(app, '/ws/echo');
    for (const text of ['hello', '', 'zwölf 😀']) peer.send(text);
    expect([await peer.next(), await peer.next(), await peer.next()]).toEqual(['hello', '', 'zwölf 😀']);
    await peer.close();
  });

  test('/ws/bytes answers bytes backwards and text with its length', async () => {
    const peer = await Peer.connect(app, '/ws/bytes');
    peer.send(Buffer.from([1, 2, 255]));
    peer.send('four');
    expect(await peer.next()).toEqual(Buffer.from([255, 2, 1]));
    expect(await peer.next()).toBe('4 characters');
    await peer.close();
  });
});

describe('clock', () => {
  beforeAll(start('clock'));
  afterAll(stop);

  test('a city gets its own time at once and every second', async () => {
    const peers = await Promise.all(['utc', 'tokyo'].map((city) => Peer.connect(app, `/ws/clock/${city}`)));
    const hours = [];
    for (const peer of peers) {
      const times = [await peer.next(), await peer.next(), await peer.next()];
      for (const time of times) expect(time).toMatch(/^\d\d:\d\d:\d\d$/);
      expect(new Set(times).size).toBeGreaterThan(1);
      hours.push(Number(times[0].slice(0, 2)));
    }
    // An hour may end between the two.
    expect([9, 10]).toContain((hours[1] - hours[0] + 24) % 24);
    await Promise.all(peers.map((peer) => peer.close()));
  });

  test('a city it does not know is closed with the list of those it does', async () => {
    for (const city of ['atlantis', 'constructor']) {
      const peer = await Peer.connect(app, `/ws/clock/${city}`);
      expect(await peer.closed).toEqual({ code: 4404, reason: 'The cities are utc, tokyo, lima.' });
    }
  });
});

describe('notifications', () => {
  beforeAll(start('notifications'));
  afterAll(stop);

  test('reach every tab of the user and nobody else', async () => {
    const mine = await Peer.connect(app, '/ws/inbox/ada');
    expect(await mine.nextJson()).toEqual({ type: 'ready', user: 'ada', tabs: 1 });
    const second = await Peer.connect(app, '/ws/inbox/ada');
    expect(await second.nextJson()).toMatchObject({ tabs: 2 });
    const other = await Peer.connect(app, '/ws/inbox/grace');
    await other.nextJson('ready');

    const answer = await post('/users/ada/notifications', { title: 'Tea is ready' });
    expect(answer.status).toBe(202);
    const sent = await answer.json();
    expect(sent).toMatchObject({ type: 'notification', title: 'Tea is ready' });
    expect(await mine.nextJson()).toEqual(sent);
    expect(await second.nextJson()).toEqual(sent);

    // What comes to the other one next is its own: nothing was before it.
    await post('/users/grace/notifications', { title: 'For Grace' });
    expect(await other.nextJson()).toMatchObject({ title: 'For Grace' });
    await Promise.all([mine.close(), second.close(), other.close()]);
  });

  test.each(['josé', 'a/b', 'R&D', '100%', '</script>', 'two words'])('find the user %j', async (user) => {
    const target = encodeURIComponent(user);
    const peer = await Peer.connect(app, `/ws/inbox/${target}`);
    expect(await peer.nextJson()).toMatchObject({ user });
    await post(`/users/${target}/notifications`, { title: user });
    expect(await peer.nextJson('notification')).toMatchObject({ title: user });
    await peer.close();
  });

  test('without a title are refused with 422', async () => {
    for (const body of [{}, { title: '' }, { title: 7 }, []]) {
      const answer = await post('/users/ada/notifications', body);
      expect(answer.status).toBe(422);
      expect((await answer.json()).error).toMatch(/title/);
    }
  });

  test('the page is served, and the script it needs', async () => {
    const page = await fetch(`${app.origin}/?user=ada`);
    expect(page.headers.get('content-type')).toMatch(/^text\/html/);
    expect(await page.text()).toContain('<script src="/js/frond.js">');
    const script = await fetch(`${app.origin}/js/frond.js`);
    expect(script.status).toBe(200);
    expect(await script.text()).toBe(fs.readFileSync(path.join(ROOT, 'public', 'js', 'frond.js'), 'utf8'));
  });
});

describe('secure', () => {
  beforeAll(start('secure'));
  afterAll(stop);

  test('a token from the login opens the account', async () => {
    const { token } = await (await post('/login', { user: 'ada', password: 'lovelace' })).json();
    const peer = await Peer.connect(app, `/ws/account?token=${token}`);
    expect(await peer.nextJson()).toEqual({ type: 'welcome', user: 'ada' });
    peer.send('a note');
    expect(await peer.nextJson()).toEqual({ type: 'noted', user: 'ada', text: 'a note' });
    await peer.close();
  });

  test.each([
    ['no token', ''],
    ['an empty token', '?token='],
    ['text that is no token', '?token=x.y.z'],
    ['a token of another secret', '?token=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyIjoiYWRhIn0.c2lnbmF0dXJl'],
    ['a token that is not signed', '?token=eyJhbGciOiJub25lIn0.eyJ1c2VyIjoiYWRhIn0.'],
  ])('%s is closed with 4401 and learns nothing', async (_, query) => {
    const peer = await Peer.connect(app, `/ws/account${query}`);
    expect(await peer.closed).toEqual({ code: 4401, reason: 'This needs a valid token.' });
    expect(peer.messages).toEqual([]);
  });

  test.each([[{}], [{ user: 'ada', password: 'hopper' }], [{ user: 'constructor' }], [{ user: ['ada'], password: 'lovelace' }]])(
    'the login %j is refused with 401',
    async (body) => {
      expect((await post('/login', body)).status).toBe(401);
    },
  );
});

describe('chat', () => {
  beforeAll(start('chat'));
  afterAll(stop);

  const join = async (room, name) => {
    const peer = await Peer.connect(app, `/ws/room/${encodeURIComponent(room)}`);
    peer.send({ type: 'hello', name });
    peer.welcome = await peer.nextJson('welcome');
    return peer;
  };

  test('people come, talk, type, change their name and leave', async () => {
    const ada = await join('tea', 'Ada');
    expect(ada.welcome).toMatchObject({ name: 'Ada', online: 1, people: [{ id: ada.welcome.id, name: 'Ada' }] });
    const bob = await join('tea', 'Bob');
    expect(bob.welcome).toMatchObject({ online: 2, people: [{ name: 'Ada' }, { name: 'Bob' }] });
    expect(await ada.nextJson()).toEqual({ type: 'joined', id: bob.welcome.id, name: 'Bob', online: 2 });

    ada.send({ type: 'typing' });
    expect(await bob.nextJson()).toEqual({ type: 'typing', id: ada.welcome.id, name: 'Ada' });
    ada.send({ type: 'say', text: ' hello ', ref: 7 });
    const heard = await bob.nextJson();
    expect(heard).toEqual({ type: 'said', id: ada.welcome.id, name: 'Ada', text: 'hello', at: expect.any(String) });
    // The first that comes back to Ada is her own message: she heard nothing of her typing.
    expect(await ada.nextJson()).toEqual({ ...heard, ref: 7 });

    bob.send({ type: 'hello', name: '  Robert\u202e\n Tables ' });
    expect(await ada.nextJson()).toEqual({ type: 'renamed', id: bob.welcome.id, name: 'Robert Tables', earlier: 'Bob' });
    await bob.close();
    expect(await ada.nextJson()).toEqual({ type: 'left', id: bob.welcome.id, name: 'Robert Tables', online: 1 });
    await ada.close();
  });

  test('a room hears nothing of another', async () => {
    const here = await join('here', 'Ada');
    const there = await join('there', 'Bob');
    there.send({ type: 'say', text: 'over there' });
    await there.nextJson('said');
    here.send({ type: 'say', text: 'over here' });
    expect(await here.nextJson()).toMatchObject({ type: 'said', text: 'over here' });
    await Promise.all([here.close(), there.close()]);
  });

  test.each(['</script><b>', '\\', 'R&D', 'a"b', '{{ 7 * 7 }}', '../etc', '%2e', '日本'])('the room %j has a page and a socket', async (room) => {
    const page = await fetch(`${app.origin}/room/${encodeURIComponent(room)}`);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'self'");
    const html = await page.text();
    const entities = { amp: '&', lt: '<', gt: '>', quot: '"', '#x27': "'", '#39': "'", '#34': '"' };
    const shown = /data-room="([^"]*)"/.exec(html)[1].replace(/&(#?\w+);/g, (match, name) => entities[name] ?? match);
    expect(shown).toBe(room);
    expect(html).not.toContain('<b>"');
    const [ada, bob] = [await join(room, 'Ada'), await join(room, 'Bob')];
    bob.send({ type: 'say', text: room });
    expect(await ada.nextJson('said')).toMatchObject({ name: 'Bob', text: room });
    await Promise.all([ada.close(), bob.close()]);
  });

  test('the lobby sees rooms come and go', async () => {
    const lobby = await Peer.connect(app, '/ws/lobby');
    await lobby.nextJson('rooms');
    const ada = await join('seen from the lobby', 'Ada');
    const has = (people) => (text) => JSON.parse(text).rooms.some((room) => room.name === 'seen from the lobby' && room.people === people);
    await lobby.next(has(1));
    expect(await (await fetch(app.origin)).text()).toContain('data-room="seen from the lobby"');
    await ada.close();
    await lobby.next((text) => !has(1)(text));
    await lobby.close();
  });

  test('what is no valid message gets a sentence and the connection stays', async () => {
    const peer = await Peer.connect(app, '/ws/room/tea');
    for (const [message, sentence] of [
      ['no json', /not JSON/],
      ['null', /type of a message/],
      ['{"type":"constructor"}', /type of a message/],
      [{ type: 'say', text: 'too early' }, /hello with a name first/],
      [{ type: 'hello' }, /1 to 32 characters/],
      [{ type: 'hello', name: ' \u202e ' }, /1 to 32 characters/],
      [{ type: 'hello', name: 'x'.repeat(33) }, /1 to 32 characters/],
    ]) {
      peer.send(message);
      expect(await peer.nextJson()).toMatchObject({ type: 'problem', text: expect.stringMatching(sentence) });
    }
    peer.send({ type: 'hello', name: '😀'.repeat(32) });
    await peer.nextJson('welcome');
    peer.send({ type: 'say', text: 'x'.repeat(2001) });
    expect(await peer.nextJson()).toMatchObject({ type: 'problem', text: expect.stringMatching(/1 to 2000 characters/) });
    await peer.close();
  });

  test('a message over the limit closes with 1009, a room name over it with 1008', async () => {
    const peer = await Peer.connect(app, '/ws/room/tea');
    peer.send('x'.repeat(16 * 1024 + 1));
    expect(await peer.closed).toEqual({ code: 1009, reason: 'A message has at most 16384 characters.' });
    const target = `/room/${'x'.repeat(65)}`;
    expect((await (await Peer.connect(app, `/ws${target}`)).closed).code).toBe(1008);
    expect((await fetch(app.origin + target)).status).toBe(404);
  });

  test('somebody who is too fast is told so, with the message it was', async () => {
    const ada = await join('fast', 'Ada');
    for (let ref = 1; ref <= 30; ref++) ada.send({ type: 'say', text: String(ref), ref });
    expect(await ada.nextJson('problem')).toEqual({ type: 'problem', text: 'You are too fast. Wait a moment.', ref: 20 });
    await ada.close();
  });

  test('what comes from a person is never handed to the page as markup', () => {
    const folder = path.join(EXAMPLES, 'chat', 'src', 'public', 'js');
    for (const name of fs.readdirSync(folder)) {
      const code = fs.readFileSync(path.join(folder, name), 'utf8');
      expect(code).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|srcdoc/);
    }
  });
});
