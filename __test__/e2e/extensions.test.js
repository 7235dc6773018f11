'use strict';

// What a real browser agrees on when it opens a WebSocket: compression and a subprotocol.

const { Router, startServer } = require('../..');
const { temporaryFolder, cleanUp } = require('../support');
const { describeInBrowser, launch, openTab } = require('./browser');

jest.setTimeout(60_000);

describeInBrowser('a page that opens a WebSocket', () => {
  let browser, server;
  const told = [];

  beforeAll(async () => {
    browser = await launch();
    const router = new Router();
    const echo = (connection, event, data) => {
      if (event === 'open') told.push([connection.protocol, connection.headers['sec-websocket-extensions']]);
      if (event === 'message') connection.send(data);
    };
    router.websocket('/ws/compressed', echo, { compress: true });
    router.websocket('/ws/spoken', echo, { protocols: ['chat.v2', 'chat.v1'] });
    const logger = { debug() {}, info() {}, warn() {}, error() {} };
    server = await startServer({ host: '127.0.0.1', port: 0, router, directory: temporaryFolder(), logger });
  });

  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await cleanUp();
  });

  /** Opens a socket in the page, sends a text and returns what the page saw. */
  const visit = async (path, protocols = [], text = 'hello') => {
    const page = await openTab(browser, `${server.url}/health`);
    return page.evaluate(([path, protocols, text]) => new Promise((resolve) => {
      const socket = new WebSocket(`ws://${location.host}${path}`, protocols);
      socket.onopen = () => socket.send(text);
      socket.onmessage = ({ data }) => {
        resolve({ protocol: socket.protocol, extensions: socket.extensions, same: data === text });
        socket.close();
      };
      socket.onclose = ({ code }) => resolve({ code });
    }), [path, protocols, text]);
  };

  test('compresses both ways and reads what it sent', async () => {
    const text = JSON.stringify(Array.from({ length: 5_000 }, (_, id) => ({ id, name: 'a name that repeats' })));
    expect(await visit('/ws/compressed', [], text)).toEqual({
      protocol: '',
      extensions: 'permessage-deflate; server_no_context_takeover; client_no_context_takeover',
      same: true,
    });
    expect(told.pop()[1]).toMatch(/^permessage-deflate; client_max_window_bits/);
  });

  test('speaks the subprotocol that both speak, and refuses a connection without one', async () => {
    expect(await visit('/ws/spoken', ['chat.v1', 'other'])).toEqual({ protocol: 'chat.v1', extensions: '', same: true });
    expect(told.pop()[0]).toBe('chat.v1');
    expect(await visit('/ws/spoken', ['other'])).toEqual({ code: 1006 });
  });

  test('may bring a token behind the word bearer', async () => {
    expect((await visit('/ws/spoken', ['bearer', 'eyJh.eyJz.c2ln'])).protocol).toBe('bearer');
  });
});
