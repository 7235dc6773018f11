'use strict';

// examples/chat in a real browser: two people, hostile names, a server that goes away and comes back.

const path = require('node:path');
const { ROOT, endAll, serve } = require('../served');
const { describeInBrowser, keepPicture, launch, openTab, see } = require('./browser');

const CHAT = path.join(ROOT, 'examples', 'chat');

jest.setTimeout(60_000);

describeInBrowser('examples/chat in a browser', () => {
  let app, browser;

  beforeAll(async () => {
    [app, browser] = await Promise.all([serve(CHAT), launch()]);
  });

  afterAll(async () => {
    await browser?.close();
    await endAll();
  });

  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
  });

  const enter = (room, name, context) =>
    openTab(browser, `${app.origin}/room/${encodeURIComponent(room)}`, { name, context });

  const connected = (page) => see(page, '#status', /^Connected$/);

  const say = async (page, text) => {
    await page.fill('#text', text);
    await page.keyboard.press('Enter');
  };

  test('from the lobby into a room, and the lobby of another sees it', async () => {
    const other = await openTab(browser, app.origin);
    await see(other, '#no-rooms', 'Nobody is here yet.');
    const page = await openTab(browser, app.origin);
    await page.fill('#name', 'Ada');
    await page.fill('#room', 'tea kitchen');
    await keepPicture(page, 'lobby');
    await page.keyboard.press('Enter');
    await page.waitForURL(`${app.origin}/room/tea%20kitchen`);
    await connected(page);
    expect(await page.locator('#room').textContent()).toBe('tea kitchen');
    await see(page, '#people', 'Ada');
    await see(other, '#rooms', /tea kitchen\s*1/);
    await other.fill('#name', 'Bob');
    await other.locator('#rooms button').click();
    await connected(other);
    await see(page, '#online', '2');
    expect([...page.problems, ...other.problems]).toEqual([]);
  });

  test('the room asks a visitor without a name for one, and lets it change', async () => {
    const page = await openTab(browser, `${app.origin}/room/names`);
    await page.locator('#ask[open]').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#ask[open]').waitFor();
    await page.fill('#ask-name', 'Ada');
    await page.keyboard.press('Enter');
    await connected(page);
    const bob = await enter('names', 'Bob');
    await connected(bob);
    await page.click('#rename');
    await page.fill('#ask-name', 'Countess');
    await page.keyboard.press('Enter');
    await see(bob, '#messages', 'Ada is now called Countess');
    await see(page, '#people', 'Countess');
    await see(bob, '#people', 'Countess');
  });

  test('two tabs chat with names, typing, the online count and leaving', async () => {
    const ada = await enter('two', 'Ada');
    await connected(ada);
    const bob = await enter('two', 'Bob', { colorScheme: 'dark' });
    await see(ada, '#messages', 'Bob came in');
    await see(ada, '#online', '2');
    await see(bob, '#online', '2');
    await see(bob, '#people', 'Ada');

    await bob.locator('#text').pressSequentially('hi');
    await see(ada, '#typing', 'Bob is typing…');
    await bob.keyboard.press('Enter');
    await see(ada, '.message', /Bob.*hi/);
    await see(ada, '#typing', /^$/);
    await say(ada, 'hello Bob');
    await say(ada, 'The kettle is on.\nMilk or lemon?');
    await see(bob, '.message', /hello Bob/);
    await see(bob, '.message', /kettle/);
    await say(bob, 'Lemon, please. And please keep the good biscuits away from the window, they do not like the sun at all.');
    await see(ada, '.message', 'Lemon');
    await bob.waitForFunction(() => document.querySelector('.waiting') === null);
    expect(await bob.locator('.mine').count()).toBe(2);
    await ada.waitForTimeout(200);
    await keepPicture(ada, 'room-light');
    await keepPicture(bob, 'room-dark');

    await bob.close();
    await see(ada, '#messages', 'Bob left');
    await see(ada, '#online', '1');
    expect(await ada.locator('#people li').count()).toBe(1);
    expect(ada.problems).toEqual([]);
  });

  test('markup from another person stays text', async () => {
    const nasty = '<img src=x onerror="window.hit=1"><b>bold</b>';
    const ada = await enter('markup', 'Ada');
    const mallory = await enter('markup', '<u>Mallory</u>');
    await connected(ada);
    await connected(mallory);
    await say(mallory, nasty);
    await see(ada, '.text', nasty);
    await see(ada, '.who', '<u>Mallory</u>');
    expect(await ada.locator('main img, main u, aside u, .text b').count()).toBe(0);
    expect(await ada.evaluate(() => window.hit)).toBeUndefined();
  });

  test.each(['</script><b>', '\\', 'R&D', 'a"b', 'a/b', '100%', '%2F', 'why?', 'C#', '日本', '{{ 7*7 }}'])('two tabs chat in the room %j', async (room) => {
    const ada = await enter(room, 'Ada');
    const bob = await enter(room, 'Bob');
    await see(ada, '#online', '2');
    expect(await ada.locator('#room').textContent()).toBe(room);
    expect(await ada.title()).toBe(room);
    expect(await ada.locator('b:not(.who b)').count()).toBe(0);
    await say(bob, 'to Ada');
    await see(ada, '.text', 'to Ada');
    await say(ada, 'to Bob');
    await see(bob, '.text', 'to Bob');
    expect([...ada.problems, ...bob.problems]).toEqual([]);
  });

  test('frond appends a raw name so that the server reads that name', async () => {
    const page = await openTab(browser, app.origin);
    for (const room of ['</script><b>', '\\', 'R&D', 'a"b', 'a b', ' x ', '100%', 'C#', '%ff', 'josé', '😀', '|^`{}[]', "it's"]) {
      const lobby = await openTab(browser, app.origin);
      await page.evaluate((name) => new Promise((resolve) => {
        const ws = frond.ws('/ws/room/' + name);
        ws.on('open', () => ws.send({ type: 'hello', name: 'Ada' }));
        ws.on('message', resolve);
        window.last = ws;
      }), room);
      await lobby.waitForFunction((name) => [...document.querySelectorAll('#rooms button')].some((button) => button.dataset.room === name), room);
      await page.evaluate(() => last.close());
      await lobby.context().close();
    }
    expect(page.sockets).toContain(`ws://127.0.0.1:${app.port}/ws/room/%5C`);
  });

  test('on a telephone the page fits', async () => {
    const ada = await enter('a rather long name for a room on a small screen', 'Ada', { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2 });
    const bob = await enter('a rather long name for a room on a small screen', 'Bob');
    await see(ada, '#online', '2');
    await say(bob, 'A_word_without_any_space_that_is_longer_than_the_screen_is_wide_and_has_to_be_broken');
    await say(ada, 'It is broken.');
    await see(ada, '.text', 'A_word');
    expect(await ada.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    await ada.waitForTimeout(200);
    await keepPicture(ada, 'room-small');
  });

  test('a killed and restarted server: what was written meanwhile is marked, then delivered under the name', async () => {
    const ada = await enter('restart', 'Ada');
    await connected(ada);
    await app.kill();
    await see(ada, '#status', /Connection lost|Reconnecting/);
    await say(ada, 'first while away');
    await say(ada, 'second while away');
    expect(await ada.locator('.waiting').count()).toBe(2);
    await ada.waitForTimeout(200);
    await keepPicture(ada, 'room-waiting');
    app = await serve(CHAT, { port: app.port });
    const bob = await enter('restart', 'Bob');
    await connected(ada);
    await see(bob, '.message', /Ada.*second while away/);
    await ada.locator('.waiting').first().waitFor({ state: 'detached' });
    expect((await bob.locator('.text').allTextContents())).toEqual(['first while away', 'second while away']);
    expect(ada.problems).toEqual([]);
  });

  test('reconnect_failed comes after the attempts, and a new frond.ws connects again', async () => {
    const page = await openTab(browser, app.origin);
    await page.evaluate(() => new Promise((resolve) => {
      window.events = [];
      const ws = window.ws = frond.ws('/ws/room/gone', { reconnectInterval: 100, maxReconnectAttempts: 3 });
      ws.on('open', resolve);
      ws.on('close', (code) => events.push(`close ${code}`));
      ws.on('reconnect', (attempt) => events.push(`reconnect ${attempt}`));
      ws.on('reconnect_failed', () => events.push('reconnect_failed'));
    }));
    await page.waitForTimeout(200);
    await app.kill();
    await page.waitForFunction(() => ws.status === 'closed');
    expect(await page.evaluate(() => events)).toEqual(['close 1006', 'reconnect 1', 'reconnect 2', 'reconnect 3', 'reconnect_failed']);
    app = await serve(CHAT, { port: app.port });
    expect(await page.evaluate(() => new Promise((resolve) => {
      frond.ws('/ws/lobby').on('message', (data) => resolve(JSON.parse(data).type));
    }))).toBe('rooms');
  });

  test('a page that is left opens no connection behind the reader\'s back', async () => {
    const page = await enter('leaving', 'Ada');
    await connected(page);
    const other = await enter('leaving', 'Bob');
    await connected(other);
    await page.goto(app.origin);
    await see(other, '#messages', 'Ada left');
    await page.waitForTimeout(300);
    expect(page.sockets.filter((url) => url.endsWith('/ws/room/leaving'))).toHaveLength(1);
  });
});
