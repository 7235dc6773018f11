'use strict';

// A server that runs for long keeps the memory it has: the same work again and again, after a warm-up, adds nothing.

const { endForked, forkServer } = require('./forked');
const { sleep } = require('./support.js');

const KIB = 1024;
const MIB = 1024 * KIB;

jest.setTimeout(60_000);

afterEach(endForked);

const upTo = (count) => Array.from({ length: count }, (_, n) => n);

/** Does `work` so many times, up to 10 at once. */
async function many(count, work) {
  let begun = 0;
  await Promise.all(upTo(10).map(async () => {
    while (begun < count) {
      begun += 1;
      await work(begun);
    }
  }));
}

/**
 * @param {object} app
 * @param {(share: number) => Promise<void>} work Done once for warm-up with a quarter of it, then whole
 * @param {{ heap: number, resident: number }} allowed Growth in bytes
 */
async function expectFlat(app, work, allowed) {
  await work(0.25);
  await sleep(100);
  const heap = await app.heap();
  const resident = app.resident();
  await work(1);
  await sleep(100);
  expect(await app.heap() - heap).toBeLessThan(allowed.heap);
  expect(app.resident() - resident).toBeLessThan(allowed.resident);
}

test('connections that come, use every member, and go', async () => {
  const app = await forkServer((Router) => {
    Router.websocket('/ws/{room}', async (connection, event, data) => {
      if (event === 'open') {
        connection.user = { headers: connection.headers, cookies: connection.cookies, params: connection.params };
        connection.broadcast(`${connection.connectionCount()}`);
      }
      if (event === 'message') {
        connection.sendJson({ data });
        await connection.drained();
        connection.send(Buffer.from(`${connection.bufferedAmount}`));
      }
      if (event === 'close') connection.broadcast('left');
    });
  });
  await expectFlat(app, (share) => many(3_000 * share, async (n) => {
    const peer = await app.connect(`/ws/${n % 7}?token=abc`, { headers: { cookie: 'a=1; b=2' } });
    peer.send('hello');
    while (!String(await peer.next()).includes('hello'));
    if (n % 3 === 0) peer.socket.terminate();
    await peer.close();
    // A room of its own leaves nothing either.
    if (n % 3 === 1) await (await app.connect(`/ws/only-${n}`)).close();
  }), { heap: MIB, resident: 8 * MIB });
});

test('messages, small and large, in and out', async () => {
  const app = await forkServer((Router) => {
    Router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') connection.broadcast(data);
    });
  });
  const peers = await Promise.all(upTo(5).map(() => app.connect('/ws')));
  await expectFlat(app, async (share) => {
    for (const [count, size] of [[4_000, 20], [400, 5 * KIB], [40, 200 * KIB]]) {
      const text = 'x'.repeat(size);
      for (let n = 0; n < count * share; n += 10) {
        for (let each = 0; each < 10; each += 1) peers[n % 5].send(text);
        for (const peer of peers) for (let each = 0; each < 10; each += 1) await peer.next();
      }
    }
  }, { heap: MIB, resident: 16 * MIB });
});

test('requests with bodies, answers, errors, and clients that give up', async () => {
  const app = await forkServer((Router) => {
    Router.post('/echo/{n}', async (req, res) => {
      await null;
      res.cookie('a', req.params.n).json({ size: JSON.stringify(req.body).length });
    });
    Router.get('/wait', (req, res) => setTimeout(() => res.text('late'), 20));
  }, { config: { logLevel: 'ERROR' } });
  await expectFlat(app, (share) => many(2_000 * share, async (n) => {
    const body = n % 4 === 3 ? '{"broken' : JSON.stringify({ text: 'x'.repeat(n % 50 === 0 ? 100 * KIB : 100) });
    const answer = await app.fetch(`/echo/${n}`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
    expect(answer.status).toBe(n % 4 === 3 ? 400 : 200);
    await answer.arrayBuffer();
    if (n % 5 === 0) await app.fetch('/wait', { signal: AbortSignal.timeout(5) }).catch(() => {});
    if (n % 5 === 1) await (await app.fetch(`/nowhere/${n}`)).arrayBuffer();
  }), { heap: MIB, resident: 8 * MIB });
});
