'use strict';

// The user's chapter, unchanged, as two instances behind nginx, with the configuration that docs/scaling.md shows and Redis in
// between: two browsers on different instances are in one chat.

const fs = require('node:fs');
const path = require('node:path');
const { endBuses } = require('../bus');
const { Redis } = require('../redis');
const { ROOT, endAll, makeApp, serve, until } = require('../served');
const { describeInBrowser, keepPicture, launch, openTab, see } = require('./browser');
const { Nginx, executablePath } = require('./nginx');

const CHAPTER = path.join(ROOT, '..', 'shared', 'chapter');

/** What section 15.1 of the chapter shows. */
const CHAPTER_HEADERS = ['proxy_set_header Upgrade $http_upgrade;', 'proxy_set_header Connection "upgrade";'];
/** Seconds of silence after which the test's nginx gives a connection up. */
const READ_TIMEOUT = 3;

jest.setTimeout(90_000);

const skipped = (reason) => (name, body) => describe.skip(`${name} (${reason})`, body);

function describeBehindNginx(name, body) {
  if (!fs.existsSync(CHAPTER)) return skipped('no ../shared/chapter beside the checkout')(name, body);
  if (executablePath === undefined) return skipped('no nginx: install it')(name, body);
  return describeInBrowser(name, body);
}

/** The documented configuration, for other ports and a shorter time. */
function site(port, instances) {
  const text = fs.readFileSync(path.join(ROOT, 'docs', 'scaling.md'), 'utf8');
  const shown = /^```nginx\n(.*?)^```$/ms.exec(text)[1];
  for (const line of CHAPTER_HEADERS) expect(shown).toContain(line);
  return [
    [/listen 80;/, `listen 127.0.0.1:${port};`],
    [/server 127\.0\.0\.1:7148/, `server 127.0.0.1:${instances[0].port}`],
    [/server 127\.0\.0\.1:7149/, `server 127.0.0.1:${instances[1].port}`],
    [/proxy_read_timeout \d+s;/, `proxy_read_timeout ${READ_TIMEOUT}s;`],
  ].reduce((config, [from, to]) => {
    expect(config).toMatch(from);
    return config.replace(from, to);
  }, shown);
}

describeBehindNginx('two instances behind nginx', () => {
  let browser, folder, instances, nginx, redis;

  beforeAll(async () => {
    folder = makeApp({ 'src/routes': path.join(CHAPTER, 'routes'), 'src/templates': path.join(CHAPTER, 'templates') });
    [redis, browser] = await Promise.all([new Redis().start(), launch()]);
    const env = {
      TINA4_WS_BACKPLANE: 'redis', TINA4_WS_BACKPLANE_URL: redis.url, TINA4_SECRET: 'a secret of the test', TINA4_WS_PING_INTERVAL: '1',
    };
    instances = await Promise.all([serve(folder.directory, { env }), serve(folder.directory, { env })]);
    const client = await redis.connect();
    await until(async () => (await client.command('PUBSUB', 'NUMSUB', 'tina4:ws'))[1] === 2, 'two subscribers');
    await client.close();
    nginx = await Nginx.start((port) => site(port, instances));
  });

  afterAll(async () => {
    await browser?.close();
    await nginx?.end();
    await endAll();
    await endBuses();
    folder?.remove();
  });

  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
  });

  const write = async (page, field, text) => {
    await page.fill(field, text);
    await page.keyboard.press('Enter');
  };

  /** The instances that the WebSockets on a path were passed to; nginx says so when they end. */
  const passedTo = (target) => nginx.log.filter((line) => line.startsWith(`101 ${target} `)).map((line) => line.split(' ')[2]);

  /** Alice on one instance and Bob on the other: each page counts the connections of its own instance. */
  async function alone(target, selectors) {
    const pages = [];
    for (const answer of ['Alice', 'Bob']) {
      const page = await openTab(browser, nginx.origin + target, { answer });
      await see(page, selectors.online, 'Online: 1');
      pages.push(page);
    }
    return pages;
  }

  test('on /chat/general two browsers on different instances chat, and hear themselves once', async () => {
    const [alice, bob] = await alone('/chat/general', { online: '#online' });
    await see(alice, '#messages', 'Anonymous is now known as Bob');

    await write(bob, '#message-input', 'hi');
    await see(alice, '#messages', 'Bob: hi');
    await write(alice, '#message-input', 'hello Bob');
    await see(bob, '#messages', 'Alice: hello Bob');
    await bob.locator('#message-input').pressSequentially('so');
    await see(alice, '#typing', 'Bob is typing...');
    await bob.keyboard.press('Enter');
    await see(alice, '#messages', 'Bob: so');
    await write(alice, '#message-input', 'that is all');
    await see(bob, '#messages', 'Alice: that is all');
    const said = ['Bob: hi', 'Alice: hello Bob', 'Bob: so', 'Alice: that is all'];
    for (const page of [alice, bob]) {
      await see(page, '#messages', 'Alice: that is all');
      const lines = await page.locator('#messages > div').allTextContents();
      expect(lines.filter((line) => /^(Alice|Bob): /.test(line))).toEqual(said);
      expect(page.problems).toEqual([]);
    }
    await keepPicture(bob, 'chapter-behind-nginx');

    await bob.close();
    await see(alice, '#messages', 'Bob left the chat');
    await alice.close();
    await until(() => passedTo('/ws/livechat/general').length === 2, () => `nginx to log both, has\n${nginx.log.join('\n')}`);
    expect(new Set(passedTo('/ws/livechat/general'))).toEqual(new Set(instances.map(({ port }) => `127.0.0.1:${port}`)));
  });

  test('on /room/test too, and a silent connection outlives the time after which nginx gives one up', async () => {
    const [alice, bob] = await alone('/room/test', { online: '#online' });
    await see(alice, '#messages', 'A new user joined');
    await see(alice, '#messages', 'Anonymous changed their name to Bob');
    await alice.waitForTimeout((READ_TIMEOUT + 1.5) * 1000);
    await write(bob, '#input', 'still here');
    await see(alice, '#messages', /Bob.*still here$/);
    await write(alice, '#input', 'me too');
    await see(bob, '#messages', /Alice.*me too$/);
    expect([alice.sockets.length, bob.sockets.length]).toEqual([1, 1]);
    expect([...alice.problems, ...bob.problems]).toEqual([]);
  });

  test('a push over HTTP reaches the page whichever instance answers the request', async () => {
    const [alice, bob] = await alone('/chat/push', { online: '#online' });
    for (const page of [alice, bob]) {
      await page.evaluate(() => {
        window.notes = [];
        window.inbox = frond.ws('/ws/notifications/7');
        inbox.on('message', (data) => notes.push(JSON.parse(data).message));
      });
      await page.waitForFunction(() => notes.includes('Listening for notifications'));
    }
    // One after another, each goes to the next instance.
    for (const order of [1, 2]) {
      const answer = await fetch(`${nginx.origin}/api/orders/${order}/ship`, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ user_id: 7 }),
      });
      expect(answer.status).toBe(201);
    }
    const shipped = ['Listening for notifications', 'Your order #1 has been shipped!', 'Your order #2 has been shipped!'];
    for (const page of [alice, bob]) {
      await page.waitForFunction(() => notes.length >= 3);
      expect((await page.evaluate(() => notes)).sort()).toEqual(shipped);
    }
  });

  test('an instance that dies: its page reconnects to the other one, and the chat goes on', async () => {
    const [alice, bob] = await alone('/chat/failover', { online: '#online' });
    await instances[0].kill();
    // Both are on the one that is left.
    await until(async () => (await alice.locator('#online').textContent()) === 'Online: 2'
      || (await bob.locator('#online').textContent()) === 'Online: 2', 'the page to come back');
    await write(alice, '#message-input', 'are you there?');
    await see(bob, '#messages', 'Alice: are you there?');
    await write(bob, '#message-input', 'I am');
    await see(alice, '#messages', 'Bob: I am');
  });
});
