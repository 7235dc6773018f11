'use strict';

const { WebSocket } = require('ws');
const { cleanUp, serve, until } = require('./support.js');

afterEach(cleanUp);

const TEXT = JSON.stringify(Array.from({ length: 500 }, (_, id) => ({ id, name: `user ${id % 7}`, online: id % 2 === 0 })));

/** An echo that also broadcasts, for clients that count the bytes they get. */
async function echoing(options, config) {
  const served = await serve((router) => router.websocket('/ws', (connection, event, data) => {
    if (event !== 'message') return;
    if (data === 'everyone') connection.broadcast(TEXT);
    else connection.send(data);
  }, options), config);
  const join = async (clientOptions) => {
    const peer = await served.connect('/ws', clientOptions);
    const { _socket: socket } = peer.socket;
    const bytesOf = async (message) => {
      const before = socket.bytesRead;
      peer.send(message);
      const got = await peer.next();
      return { got, bytes: socket.bytesRead - before };
    };
    return { ...peer, bytesOf };
  };
  return { ...served, join };
}

test('a route that compresses sends fewer bytes and the same text, to those who can inflate it', async () => {
  const { join } = await echoing({ compress: true });
  const able = await join();
  expect(able.socket.extensions).toBe('permessage-deflate');
  const compressed = await able.bytesOf(TEXT);
  expect(compressed.got).toBe(TEXT);
  expect(compressed.bytes).toBeLessThan(TEXT.length / 4);

  const unable = await join({ perMessageDeflate: false });
  expect(unable.socket.extensions).toBe('');
  const plain = await unable.bytesOf(TEXT);
  expect(plain.got).toBe(TEXT);
  expect(plain.bytes).toBeGreaterThan(TEXT.length);

  able.send('everyone');
  expect(await able.next()).toBe(TEXT);
  expect(await unable.next()).toBe(TEXT);
});

test('wsCompression is for the routes that do not say', async () => {
  const { join, router, connect } = await echoing(undefined, { wsCompression: true });
  router.websocket('/ws/never', () => {}, { compress: false });
  expect((await join()).socket.extensions).toBe('permessage-deflate');
  expect((await connect('/ws/never')).socket.extensions).toBe('');
});

test('without either nothing is compressed', async () => {
  const { join } = await echoing();
  expect((await join()).socket.extensions).toBe('');
});

test('wsCompressionThreshold is the smallest message that is compressed', async () => {
  const { join } = await echoing({ compress: true }, { wsCompressionThreshold: 10_000 });
  const peer = await join();
  const small = TEXT.slice(0, 9_999);
  expect((await peer.bytesOf(small)).bytes).toBeGreaterThan(small.length);
  const large = TEXT.slice(0, 10_000);
  expect((await peer.bytesOf(large)).bytes).toBeLessThan(large.length / 4);
});

test('the handler is told the subprotocol that was agreed', async () => {
  const told = [];
  const { url } = await serve((router) => router.websocket('/ws', (connection, event) => {
    if (event === 'open') told.push(connection.protocol);
  }, { protocols: ['chat.v2', 'chat.v1'] }));
  const agreed = (protocols) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, protocols);
    socket.on('open', () => {
      socket.close();
      socket.on('close', () => resolve(socket.protocol));
    });
    socket.on('error', reject);
  });
  expect(await agreed(['chat.v1', 'chat.v2'])).toBe('chat.v1');
  expect(await agreed(['bearer', 'a.b.c'])).toBe('bearer');
  expect(await agreed([])).toBe('');
  // This client, like a browser, ends a connection that agreed on none of its own.
  await expect(agreed(['soap'])).rejects.toThrow('Server sent no subprotocol');
  await until(() => told.length === 4, 'all connections');
  expect(told).toEqual(['chat.v1', 'bearer', '', '']);
});
