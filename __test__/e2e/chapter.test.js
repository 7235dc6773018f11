'use strict';

// The user's chapter in a real browser: its pages, unchanged, in two tabs.

const fs = require('node:fs');
const path = require('node:path');
const { ROOT, endAll, makeApp, serve } = require('../served');
const { describeInBrowser, keepPicture, launch, openTab, see } = require('./browser');

const CHAPTER = path.join(ROOT, '..', 'shared', 'chapter');

const describeChapter = fs.existsSync(CHAPTER)
  ? describeInBrowser
  : (name, body) => describe.skip(`${name} (no ../shared/chapter beside the checkout)`, body);

jest.setTimeout(60_000);

describeChapter('the chapter in a browser', () => {
  let folder, app, browser;

  beforeAll(async () => {
    folder = makeApp({
      'src/routes': path.join(CHAPTER, 'routes'),
      'src/templates': path.join(CHAPTER, 'templates'),
      'src/public': path.join(CHAPTER, 'browser'),
    });
    [app, browser] = await Promise.all([serve(folder.directory, { env: { TINA4_SECRET: 'a secret of the test' } }), launch()]);
  });

  afterAll(async () => {
    await browser?.close();
    await endAll();
    folder?.remove();
  });

  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
  });

  const url = (target) => app.origin + target;

  const write = async (page, field, text) => {
    await page.fill(field, text);
    await page.keyboard.press('Enter');
  };

  test('/chat/general: two tabs chat with names, typing, the online count and leaving', async () => {
    const alice = await openTab(browser, url('/chat/general'), { answer: 'Alice' });
    await see(alice, '#status', /^Connected$/);
    await see(alice, '#online', 'Online: 1');
    const bob = await openTab(browser, url('/chat/general'), { answer: 'Bob' });
    await see(bob, '#online', 'Online: 2');
    await see(alice, '#messages', 'Anonymous is now known as Bob');

    await bob.locator('#message-input').pressSequentially('hi');
    await see(alice, '#typing', 'Bob is typing...');
    await bob.keyboard.press('Enter');
    await see(alice, '#messages', 'Bob: hi');
    await see(bob, '#messages', 'Bob: hi');
    await write(alice, '#message-input', 'hello Bob');
    await see(bob, '#messages', 'Alice: hello Bob');
    await keepPicture(alice, 'chapter-chat');

    await bob.close();
    await see(alice, '#messages', 'Bob left the chat');
    await see(alice, '#online', 'Online: 1');
    expect(alice.problems).toEqual([]);
  });

  test('/room/test: two tabs chat with names, the online count and leaving', async () => {
    const alice = await openTab(browser, url('/room/test'), { answer: 'Alice' });
    await see(alice, '#messages', 'Welcome to room: test');
    const bob = await openTab(browser, url('/room/test'), { answer: 'Bob' });
    await see(alice, '#messages', 'A new user joined');
    await see(alice, '#online', 'Online: 2');
    await see(bob, '#online', 'Online: 2');
    await see(alice, '#messages', 'Anonymous changed their name to Bob');
    await write(bob, '#input', 'hi Alice');
    await see(alice, '#messages', 'hi Alice');
    await write(alice, '#input', 'hi Bob');
    await see(bob, '#messages', 'hi Bob');
    await keepPicture(bob, 'chapter-room');
    await bob.close();
    await see(alice, '#messages', 'Bob left the room');
    await see(alice, '#online', 'Online: 1');
    expect(alice.problems).toEqual([]);
  });

  test.each(['</script><b>', '\\', 'R&D', 'a"b', '${x}`', "it's", '日本', 'two words'])('two tabs chat in the room %j', async (room) => {
    const target = `/chat/${encodeURIComponent(room)}`;
    const alice = await openTab(browser, url(target), { answer: 'Alice' });
    const bob = await openTab(browser, url(target), { answer: 'Bob' });
    await see(bob, '#online', 'Online: 2');
    expect(await bob.locator('h1').textContent()).toBe(`Chat Room: ${room}`);
    expect(await bob.title()).toBe(`Chat - ${room}`);
    await write(bob, '#message-input', 'one');
    await see(alice, '#messages', 'Bob: one');
    await write(alice, '#message-input', 'two');
    await see(bob, '#messages', 'Alice: two');
    expect([...alice.problems, ...bob.problems]).toEqual([]);
  });

  test.each(['</script><b>', '\\', 'R&D', 'a"b'])('two tabs chat on the room page of %j', async (room) => {
    const target = `/room/${encodeURIComponent(room)}`;
    const alice = await openTab(browser, url(target), { answer: 'Alice' });
    const bob = await openTab(browser, url(target), { answer: 'Bob' });
    await see(alice, '#online', 'Online: 2');
    expect(await bob.locator('h1').textContent()).toBe(`Room: ${room}`);
    await write(bob, '#input', 'one');
    await see(alice, '#messages > div', /Bob.*one$/);
    await write(alice, '#input', 'two');
    await see(bob, '#messages > div', /Alice.*two$/);
    expect([...alice.problems, ...bob.problems]).toEqual([]);
  });

  test('a killed and restarted server: the page reconnects, and what was written meanwhile has its name', async () => {
    const alice = await openTab(browser, url('/chat/restart'), { answer: 'Alice' });
    await see(alice, '#status', /^Connected$/);
    await app.kill();
    await see(alice, '#status', 'Disconnected. Reconnecting...');
    await write(alice, '#message-input', 'first while away');
    await write(alice, '#message-input', 'second while away');
    app = await serve(folder.directory, { port: app.port });
    await see(alice, '#status', /^Connected$/);
    await see(alice, '#messages', 'Alice: second while away');
    const lines = await alice.locator('#messages > div').allTextContents();
    expect(lines.filter((line) => line.endsWith('while away'))).toEqual(['Alice: first while away', 'Alice: second while away']);
    expect(alice.problems).toEqual([]);
  });

  test('a refused token is told so at each attempt and given up', async () => {
    const page = await openTab(browser, url('/chat/general'), { answer: 'Alice' });
    const seen = await page.evaluate(() => new Promise((resolve) => {
      const events = [];
      // An attempt counts anew after a connection longer than the interval, which a busy machine reaches.
      const ws = frond.ws('/ws/secure?token=forged', { reconnectInterval: 1000, maxReconnectAttempts: 2 });
      ws.on('message', (data) => events.push(data));
      ws.on('close', (code) => events.push(code));
      ws.on('reconnect', (attempt) => events.push(`reconnect ${attempt}`));
      ws.on('reconnect_failed', () => resolve([...events, ws.status]));
    }));
    const refused = ['{"error":"Unauthorized"}', 1000];
    expect(seen).toEqual([...refused, 'reconnect 1', ...refused, 'reconnect 2', ...refused, 'closed']);
  });

  test('the samples of the browser section run in a page', async () => {
    const page = await openTab(browser, url('/10a-basic.html'));
    const lines = [];
    page.on('console', (message) => lines.push(message.text()));
    await page.evaluate(() => {
      window.shown = [];
      window.addMessageToUI = (...message) => window.shown.push(message);
      window.addSystemMessage = () => {};
    });
    await page.waitForFunction(() => ws.status === 'open');
    await page.evaluate(() => sendMessage('from the page'));
    await page.waitForFunction(() => window.shown.length === 1);
    expect(await page.evaluate(() => window.shown[0].slice(0, 2))).toEqual(['Anonymous', 'from the page']);

    const second = await openTab(browser, url('/chat/general'), { answer: 'Alice' });
    await second.addScriptTag({ content: '{' + fs.readFileSync(path.join(CHAPTER, 'browser', '10b-reconnect.js'), 'utf8') + 'window.inbox = ws; }' });
    await second.waitForFunction(() => inbox.status === 'open');
    expect(second.problems).toEqual([]);
  });
});
