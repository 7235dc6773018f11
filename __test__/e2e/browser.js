'use strict';

// Headless Chromium for the e2e tests: where it is, tabs that answer prompts, screenshots.

const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');
const { ROOT } = require('../served');

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const SCREENSHOTS = path.join(ROOT, 'screenshots');

/** The browser's program: `CHROMIUM_PATH`, or where distributions put it. `undefined` when there is none. */
const executablePath = [process.env.CHROMIUM_PATH, ...CANDIDATES].find((file) => file && fs.existsSync(file));

/** `describe`, or a skip that says why when there is no browser. */
const describeInBrowser = executablePath
  ? describe
  : (name, body) => describe.skip(`${name} (no Chromium: install it or set CHROMIUM_PATH)`, body);

async function launch() {
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
}

/**
 * Opens a tab of its own profile, so that nothing is shared with another tab but the server.
 *
 * @param {import('playwright-core').Browser} browser
 * @param {string} url
 * @param {{ answer?: string, name?: string, context?: object }} [options] `answer` is given to every prompt; `name` is the one
 * that examples/chat remembers
 * @returns a page, with `problems`: what its scripts threw, and `sockets`: the addresses of its WebSockets
 */
async function openTab(browser, url, { answer, name, context: settings } = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, ...settings });
  if (name !== undefined) await context.addInitScript((value) => localStorage.setItem('name', value), name);
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.problems = [];
  page.sockets = [];
  page.on('pageerror', (error) => page.problems.push(error.message));
  page.on('websocket', (socket) => page.sockets.push(socket.url()));
  page.on('dialog', (dialog) => dialog.accept(answer));
  await page.goto(url);
  return page;
}

/** Keeps a picture of the page in /screenshots, which git ignores. */
async function keepPicture(page, name) {
  fs.mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
}

/** Waits until the page's text in `selector` contains `text`. */
async function see(page, selector, text) {
  await page.locator(selector).filter({ hasText: text }).first().waitFor();
}

module.exports = { describeInBrowser, keepPicture, launch, openTab, see };
