'use strict';

// A shard with frequent messages is driven by the thread that runs the handlers, so that no message wakes another thread; when that
// thread blocks, the shard's own goes on.

const { endForked, forkServer } = require('./forked');
const { sleep } = require('./support.js');

/** Milliseconds the handlers' thread is blocked for, and those a ping may take meanwhile on a machine with other things to do. */
const BLOCK = 1_500;
const SOON = 500;

jest.setTimeout(60_000);

afterEach(endForked);

const app = () => forkServer((Router) => {
  Router.websocket('/echo', (connection, event, data) => {
    if (event === 'message') connection.send(data);
  });
  Router.websocket('/block', (connection, event, data) => {
    if (event !== 'message') return;
    const until = performance.now() + Number(data);
    while (performance.now() < until);
    connection.send('done');
  });
  Router.websocket('/spin', async (connection, event, data) => {
    if (event !== 'message') return;
    const began = performance.now();
    for (let sent = 0; performance.now() - began < Number(data); await null) {
      // As often as a client reads it, so that nothing waits.
      if (performance.now() - began > sent * 0.5) {
        connection.send('still at it');
        sent += 1;
      }
    }
    connection.send('done');
  });
}, { config: { ioThreads: 1 } });

/** Talks to the echo until the shard has had `count` more turns on the handlers' thread. */
async function untilDriven(server, peer, count = 20) {
  const { engine: { driven } } = await server.measure();
  await server.until(`${count} turns`, ({ engine }) => {
    for (let n = 0; n < 200; n += 1) peer.send(`${n}`);
    return engine.driven >= driven + count;
  });
}

const linux = process.platform === 'linux' ? test : test.skip;

linux('frequent messages are handled without another thread, and a quiet shard is left to its own', async () => {
  const server = await app();
  const peer = await server.connect('/echo');
  await untilDriven(server, peer);
  await sleep(50);
  const { engine: { driven } } = await server.measure();
  await sleep(100);
  // What is measured comes over a pipe, not through the shard.
  expect((await server.measure()).engine.driven).toBe(driven);
  await untilDriven(server, peer);
});

linux('a handler that blocks the thread which drives the shard holds up no pings', async () => {
  const server = await app();
  const [peer, pinger, blocker] = [await server.connect('/echo'), await server.connect('/echo'), await server.connect('/block')];
  for (let round = 0; round < 2; round += 1) {
    await untilDriven(server, peer);
    for (let n = 0; n < 100; n += 1) peer.send(`${n}`);
    blocker.send(String(BLOCK));
    const begun = performance.now();
    let done = false;
    const unblocked = blocker.next().then((text) => { done = text === 'done'; });
    await sleep(BLOCK / 5);
    const asked = performance.now();
    pinger.socket.ping('still there?');
    await new Promise((resolve) => pinger.socket.once('pong', resolve));
    expect(performance.now() - asked).toBeLessThan(SOON);
    expect(done).toBe(false);
    await unblocked;
    expect(performance.now() - begun).toBeGreaterThan(BLOCK - SOON);
  }
});

linux('a handler that never waits for the loop, but sends again and again, holds up no pings', async () => {
  const server = await app();
  const [peer, pinger, spinner] = [await server.connect('/echo'), await server.connect('/echo'), await server.connect('/spin')];
  // One by one, so that the shard is driven when the last is answered.
  for (let n = 0; n < 100; n += 1) {
    peer.send(`${n}`);
    await peer.next();
  }
  spinner.send(String(BLOCK));
  await sleep(BLOCK / 5);
  const asked = performance.now();
  pinger.socket.ping('still there?');
  await new Promise((resolve) => pinger.socket.once('pong', resolve));
  expect(performance.now() - asked).toBeLessThan(SOON);
});

test('what handlers have sent goes out although the next one, of the same batch, blocks', async () => {
  const server = await app();
  const [peer, first, blocker] = [await server.connect('/echo'), await server.connect('/block'), await server.connect('/block')];
  for (let round = 0; round < 2; round += 1) {
    // Both arrive while a handler runs, and are drained together.
    first.send('200');
    await sleep(50);
    peer.send('before');
    await sleep(50);
    blocker.send(String(BLOCK));
    expect(await first.next()).toBe('done');
    const begun = performance.now();
    expect(await peer.next()).toBe('before');
    expect(performance.now() - begun).toBeLessThan(SOON);
    expect(await blocker.next()).toBe('done');
    expect(performance.now() - begun).toBeGreaterThan(BLOCK - SOON);
  }
});

test.each([1, 3])('what a handler has broadcast before it blocks is written, on %i shards', async (ioThreads) => {
  const server = await forkServer((Router) => {
    Router.websocket('/room', (connection, event, data) => {
      if (event !== 'message') return;
      connection.broadcast('before');
      const until = performance.now() + Number(data);
      while (performance.now() < until);
      connection.broadcast('after');
    });
  }, { config: { ioThreads } });
  const members = [];
  while (members.length < 4) members.push(await server.connect('/room'));
  // Long enough for the shards to sleep.
  await sleep(50);
  const begun = performance.now();
  members[0].send(String(BLOCK));
  for (const member of members) expect(await member.next()).toBe('before');
  expect(performance.now() - begun).toBeLessThan(SOON);
  for (const member of members) expect(await member.next()).toBe('after');
  expect(performance.now() - begun).toBeGreaterThan(BLOCK - SOON);
});
