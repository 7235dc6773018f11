'use strict';

// What a page sees of a server that refuses it, or that reloads while its author edits a route.

const fs = require('node:fs');
const path = require('node:path');
const { ROOT, endAll, makeApp, serve } = require('../served');
const { describeInBrowser, launch, openTab } = require('./browser');

const EXAMPLES = path.join(ROOT, 'examples');

jest.setTimeout(60_000);

describeInBrowser('a page and its server', () => {
  let browser, folder;

  beforeAll(async () => {
    browser = await launch();
  });

  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await endAll();
    folder?.remove();
    folder = undefined;
  });

  afterAll(() => browser?.close());

  /** A page of the app with frond.js in it. */
  const openPage = async (app) => {
    const page = await openTab(browser, `${app.origin}/health`);
    await page.addScriptTag({ url: '/js/frond.js' });
    return page;
  };

  test('a refused token gives up after the attempts', async () => {
    const app = await serve(path.join(EXAMPLES, 'secure'));
    const page = await openPage(app);
    const events = await page.evaluate(() => new Promise((resolve) => {
      const seen = [];
      // An attempt counts anew after a connection longer than the interval, which a busy machine reaches.
      const ws = frond.ws('/ws/account?token=forged', { reconnectInterval: 1000, maxReconnectAttempts: 3 });
      ws.on('close', (code, reason) => seen.push(`${code} ${reason}`));
      ws.on('reconnect', (attempt) => seen.push(attempt));
      ws.on('reconnect_failed', () => resolve([...seen, ws.status]));
    }));
    const refused = '4401 This needs a valid token.';
    expect(events).toEqual([refused, 1, refused, 2, refused, 3, refused, 'closed']);
    expect(page.sockets).toHaveLength(4);
  });

  test('a good token is let in, and binary data arrives as an ArrayBuffer', async () => {
    const app = await serve(path.join(EXAMPLES, 'secure'));
    const page = await openPage(app);
    expect(await page.evaluate(async () => {
      const answer = await fetch('/login', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ user: 'ada', password: 'lovelace' }),
      });
      const { token } = await answer.json();
      return new Promise((resolve) => frond.ws('/ws/account?token=' + token).on('message', resolve));
    })).toBe('{"type":"welcome","user":"ada"}');

    const echo = await serve(path.join(EXAMPLES, 'echo'));
    const second = await openPage(echo);
    expect(await second.evaluate(() => new Promise((resolve) => {
      const ws = frond.ws('/ws/bytes');
      ws.on('message', (data) => resolve([data instanceof ArrayBuffer, ...new Uint8Array(data)]));
      ws.send(new Blob([new Uint8Array([1, 2, 3])]));
    }))).toEqual([true, 3, 2, 1]);
  });

  test('an upgrade that is refused gives up without a close', async () => {
    const app = await serve(path.join(EXAMPLES, 'echo'));
    const page = await openPage(app);
    expect(await page.evaluate(() => new Promise((resolve) => {
      const seen = [];
      const ws = frond.ws('/ws/nowhere', { reconnectInterval: 20, maxReconnectAttempts: 2 });
      for (const event of ['open', 'close', 'error']) ws.on(event, () => seen.push(event));
      ws.on('reconnect_failed', () => resolve(seen));
    }))).toEqual(['error', 'error', 'error']);
  });

  test('an edited route reloads in development: the page hears 1012, reconnects and gets the new answer', async () => {
    folder = makeApp({ 'src/routes': path.join(EXAMPLES, 'echo', 'src', 'routes') });
    const app = await serve(folder.directory, { development: true });
    const page = await openPage(app);
    const ask = () => page.evaluate(() => new Promise((resolve) => {
      const off = ws.on('message', (data) => { off(); resolve(data); });
      ws.send('hello');
    }));
    await page.evaluate(() => {
      window.events = [];
      window.ws = frond.ws('/ws/echo', { reconnectInterval: 200, maxReconnectAttempts: 50 });
      for (const event of ['open', 'close', 'reconnect']) ws.on(event, (value) => events.push(value === undefined ? event : `${event} ${value}`));
    });
    expect(await ask()).toBe('hello');

    const file = path.join(folder.directory, 'src', 'routes', 'echo.ts');
    const route = fs.readFileSync(file, 'utf8');
    fs.writeFileSync(file, route.replace('connection.send(data)', 'connection.send(`edited: ${data}`)'));
    await page.waitForFunction(() => events.filter((event) => event === 'open').length === 2);
    expect(await ask()).toBe('edited: hello');
    expect(await page.evaluate(() => events)).toEqual(['open', 'close 1012', 'reconnect 1', 'open']);

    // A version that does not load is reported, and the one before goes on.
    fs.writeFileSync(file, 'this is no route');
    await page.waitForTimeout(1500);
    expect(app.output).toMatch(/echo\.ts/);
    expect(await ask()).toBe('edited: hello');
  });
});
