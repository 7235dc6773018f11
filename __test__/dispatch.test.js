'use strict';

const { cleanUp, connect, deferred, serve, sleep, until } = require('./support.js');

afterEach(cleanUp);

describe('the order of events', () => {
  test('open first, messages in the order sent, close exactly once and last, for every connection', async () => {
    const logs = new Map();
    const { connect: join } = await serve((router) => router.websocket('/ws/{n}', (connection, event, data) => {
      const { n } = connection.params;
      if (!logs.has(n)) logs.set(n, []);
      logs.get(n).push(event === 'message' ? data : event);
    }));
    await Promise.all(Array.from({ length: 20 }, async (_, n) => {
      const peer = await join(`/ws/${n}`);
      for (let i = 0; i < 200; i += 1) peer.send(String(i));
      await peer.close();
    }));
    await until(() => [...logs.values()].filter((log) => log.at(-1) === 'close').length === 20, 'every close');
    const expected = ['open', ...Array.from({ length: 200 }, (_, i) => String(i)), 'close'];
    for (const log of logs.values()) expect(log).toEqual(expected);
  });

  test('close comes once, also when both sides close and when the socket is cut', async () => {
    const closes = new Map();
    const { connect: join } = await serve((router) => router.websocket('/ws/{n}', (connection, event) => {
      if (event === 'open' && connection.params.n === 'both') connection.close();
      if (event === 'close') closes.set(connection.params.n, (closes.get(connection.params.n) ?? 0) + 1);
    }));
    const both = await join('/ws/both');
    both.close();
    const cut = await join('/ws/cut');
    cut.socket.terminate();
    await until(() => closes.size === 2);
    await sleep(50);
    expect([...closes.values()]).toEqual([1, 1]);
  });
});

describe('one event at a time for each connection', () => {
  test('the next event of a connection waits for the promise, other connections go on', async () => {
    const gates = [];
    const log = [];
    const { connect: join } = await serve((router) => router.websocket('/ws/{n}', async (connection, event, data) => {
      const { n } = connection.params;
      log.push(`${n} ${event} ${data}`);
      if (n === 'slow' && event !== 'close') {
        const gate = deferred();
        gates.push(gate);
        await gate.promise;
        log.push(`${n} ${event} ${data} done`);
      }
    }));
    const slow = await join('/ws/slow');
    slow.send('1');
    slow.send('2');
    const quick = await join('/ws/quick');
    quick.send('a');
    await until(() => log.includes('quick message a'));
    expect(log.filter((line) => line.startsWith('slow'))).toEqual(['slow open ']);
    for (let i = 0; i < 3; i += 1) {
      await until(() => gates.length === i + 1);
      gates[i].resolve();
    }
    await until(() => log.includes('slow message 2 done'));
    expect(log.filter((line) => line.startsWith('slow'))).toEqual([
      'slow open ', 'slow open  done', 'slow message 1', 'slow message 1 done', 'slow message 2', 'slow message 2 done',
    ]);
  });

  test('async handlers never overlap under load', async () => {
    let running = 0;
    let most = 0;
    const seen = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event, data) => {
      if (event !== 'message') return;
      running += 1;
      most = Math.max(most, running);
      await sleep(Number(data) % 7 === 0 ? 2 : 0);
      seen.push(Number(data));
      running -= 1;
    }));
    const peer = await join('/ws');
    for (let i = 0; i < 300; i += 1) peer.send(String(i));
    await until(() => seen.length === 300, 'all messages', 15_000);
    expect(most).toBe(1);
    expect(seen).toEqual(Array.from({ length: 300 }, (_, i) => i));
  });

  test('inbound backpressure: the peer is not read while a handler is pending, and all arrives afterwards', async () => {
    const gate = deferred();
    let got = 0;
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      if (event !== 'message') return;
      got += 1;
      if (got === 1) await gate.promise;
    }));
    const peer = await join('/ws');
    const text = 'x'.repeat(64 * 1024);
    for (let i = 0; i < 400; i += 1) peer.send(text);
    await sleep(300);
    const stuck = peer.socket.bufferedAmount;
    await sleep(200);
    // 25 MiB were sent; what the kernel does not hold has to stay with the sender.
    expect(peer.socket.bufferedAmount).toBe(stuck);
    expect(stuck).toBeGreaterThan(4 * 1024 * 1024);
    gate.resolve();
    await until(() => got === 400, 'all messages', 15_000);
  });

  test('concurrent routes start the events in order without waiting', async () => {
    const gate = deferred();
    const log = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event, data) => {
      log.push(`${event} ${data}`);
      if (data === 'ask') {
        connection.send('question');
        await gate.promise;
      }
      if (data === 'reply') gate.resolve();
    }, { concurrent: true }));
    const peer = await join('/ws');
    peer.send('ask');
    expect(await peer.next()).toBe('question');
    peer.send('reply');
    await gate.promise;
    await peer.close();
    await until(() => log.length === 4);
    expect(log).toEqual(['open ', 'message ask', 'message reply', 'close ']);
  });

  test('a foreign thenable is waited for, and counts once however often it calls back', async () => {
    const gate = deferred();
    const log = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      log.push(`${event} ${data}`);
      if (data === '2') return gate.promise;
      // eslint-disable-next-line unicorn/no-thenable
      return { then(done) { setTimeout(done, 10); setTimeout(done, 40); } };
    }));
    const peer = await join('/ws');
    for (const text of ['1', '2', '3']) peer.send(text);
    await until(() => log.includes('message 2'));
    await sleep(100);
    expect(log).toEqual(['open ', 'message 1', 'message 2']);
    gate.resolve();
    await until(() => log.length === 4);
  });
});

describe("the answer to a peer's close frame", () => {
  const busy = (milliseconds) => {
    for (const end = performance.now() + milliseconds; performance.now() < end;);
  };
  const LAST = 24;

  test.each([
    ['after a busy time', (connection) => {
      busy(20);
      connection.send('late');
    }, 1],
    ['in more than one commit', (connection) => {
      for (let n = 0; n < 12; n += 1) connection.send('x'.repeat(30_000));
    }, 12],
  ])('comes behind what the handler of the last message sends %s, though that message had to wait', async (_, last, count) => {
    const { connect: join } = await serve((router) => {
      // The events after the first ones are held: by a batch that takes too long, or by a promise.
      router.websocket('/busy', (connection, event, data) => {
        if (event !== 'message') return;
        busy(0.5);
        if (data === String(LAST)) last(connection);
        else connection.send(data);
      });
      router.websocket('/pending', (connection, event, data) => {
        if (event !== 'message') return undefined;
        if (data === String(LAST)) last(connection);
        else connection.send(data);
        return data === '0' ? sleep(10) : undefined;
      });
    }, { ioThreads: 1 });
    for (const path of ['/busy', '/pending', '/busy', '/pending']) {
      const peer = await join(path);
      for (let n = 0; n <= LAST; n += 1) peer.send(String(n));
      const { code } = await peer.close(1000);
      expect([path, peer.pending(), code]).toEqual([path, LAST + count, 1000]);
    }
  });
});

describe('close beside a pending handler', () => {
  test('waits until it has settled, and for the messages that wait', async () => {
    const gate = deferred();
    const log = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event, data) => {
      log.push(`${event} ${data}`);
      if (data === '1') await gate.promise;
    }));
    const peer = await join('/ws');
    peer.send('1');
    peer.send('2');
    await peer.close();
    await sleep(100);
    expect(log).toEqual(['open ', 'message 1']);
    gate.resolve();
    await until(() => log.length === 4);
    expect(log).toEqual(['open ', 'message 1', 'message 2', 'close ']);
  });

  test('waits at most TINA4_WS_CLOSE_GRACE, then runs; what waited is dropped and counted in the log', async () => {
    const gate = deferred();
    const events = [];
    let counted;
    const { connect: join, log } = await serve((router) => router.websocket('/ws', async (connection, event, data) => {
      events.push(`${event} ${data}`);
      if (event === 'close') counted = connection.connectionCount();
      if (data === '1') {
        await gate.promise;
        connection.send('late');
        throw new Error('late rejection');
      }
    }), { wsCloseGrace: 0.3 });
    const peer = await join('/ws');
    peer.send('1');
    peer.send('2');
    await sleep(50);
    const cut = performance.now();
    peer.socket.terminate();
    await until(() => events.includes('close '));
    expect(performance.now() - cut).toBeGreaterThan(250);
    expect(performance.now() - cut).toBeLessThan(2000);
    expect(events).toEqual(['open ', 'message 1', 'close ']);
    expect(counted).toBe(0);
    expect(log.text()).toMatch(/The message handler of \/ws \(connection [0-9a-f]{32}\) was still pending 0\.3 s after the socket's end; its close handler runs without waiting for it, and 1 waiting message is dropped\./);
    gate.resolve();
    await until(() => log.text().includes('late rejection'));
    await sleep(20);
    expect(events).toEqual(['open ', 'message 1', 'close ']);
    expect(log.text()).toMatch(/error: The message handler of [^]*late rejection/);
  });

  test('a grace longer than any timer of Node.js is no grace of a millisecond', async () => {
    const events = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      if (event === 'message') await sleep(100);
      events.push(event);
    }), { wsCloseGrace: 30 * 24 * 3600 });
    const peer = await join('/ws');
    peer.send('1');
    await peer.close();
    await until(() => events.length === 3);
    expect(events).toEqual(['open', 'message', 'close']);
  });

  test('a connection is released when its close handler has settled', async () => {
    const gate = deferred();
    let kept;
    const { connect: join } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      if (event !== 'close') return;
      kept = connection;
      await gate.promise;
      connection.broadcast('finished');
    }));
    const stays = await join('/ws');
    const leaves = await join('/ws', { headers: { 'x-a': '1' } });
    await leaves.close();
    await until(() => kept !== undefined);
    expect(kept.headers['x-a']).toBe('1');
    expect(kept.connectionCount()).toBe(1);
    gate.resolve();
    expect(await stays.next()).toBe('finished');
    await until(() => kept.connectionCount() === 0);
  });
});

describe('a handler that fails', () => {
  const failures = {
    throws: (text) => { throw new Error(text); },
    rejects: async (text) => { await null; throw new Error(text); },
  };

  test.each(['throws', 'rejects'])('that %s is reported with route, event and connection id, and everything lives on', async (how) => {
    const ids = [];
    const { connect: join, log } = await serve((router) => router.websocket('/ws/{n}', (connection, event, data) => {
      if (event === 'open') ids.push(connection.id);
      if (data === 'fine') return connection.send('still here');
      return failures[how](`${how} in ${event}`);
    }));
    const peer = await join('/ws/1');
    peer.send('bad');
    peer.send('fine');
    expect(await peer.next()).toBe('still here');
    await peer.close();
    await until(() => log.text().includes('in close'));
    for (const event of ['open', 'message', 'close']) {
      expect(log.text()).toMatch(new RegExp(`^error: The ${event} handler of /ws/\\{n\\} \\(connection ${ids[0]}\\) failed\\.\\n {4}Error: ${how} in ${event}\\n`, 'm'));
    }
    const other = await join('/ws/2');
    other.send('fine');
    expect(await other.next()).toBe('still here');
  });

  test('what a peer sent cannot forge a line of the log', async () => {
    const { connect: join, log } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') throw new Error(`no such command: ${data}`);
    }));
    const peer = await join('/ws');
    peer.send('x\n2026-01-01 INFO: all is well\r\u001b[2J\u2028');
    await until(() => log.text().includes('no such command'));
    const [line] = log.lines.filter((one) => one.includes('no such command'));
    expect(line).toContain('no such command: x\\n2026-01-01 INFO: all is well\\r\\x1b[2J\\u2028');
    // eslint-disable-next-line no-control-regex
    expect(line).not.toMatch(/[\r\u001b\u2028]|^2026/m);
  });

  test('one whose result has a throwing `then`, or that throws nothing at all, is reported too', async () => {
    const { connect: join, log } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      if (event !== 'message') return undefined;
      // eslint-disable-next-line no-throw-literal
      if (data === 'nothing') throw undefined;
      // eslint-disable-next-line unicorn/no-thenable
      return { get then() { throw new Error('bad getter'); } };
    }));
    const peer = await join('/ws');
    peer.send('getter');
    peer.send('nothing');
    await until(() => log.lines.filter((line) => line.includes('failed')).length === 2);
    expect(log.text()).toContain('bad getter');
  });
});

describe('fairness', () => {
  test('timers run while messages pour in', async () => {
    let handled = 0;
    let ticks = 0;
    const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event) => {
      if (event !== 'message') return;
      handled += 1;
      const until = performance.now() + 0.3;
      while (performance.now() < until);
    }));
    const peers = await Promise.all(Array.from({ length: 20 }, () => join('/ws')));
    const timer = setInterval(() => { ticks += 1; }, 1);
    const start = performance.now();
    for (const peer of peers) for (let i = 0; i < 60; i += 1) peer.send('x');
    await until(() => handled === 1200, 'all messages', 15_000);
    const took = performance.now() - start;
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(took / 30);
  });

  test('an interrupted batch loses and reorders nothing', async () => {
    const seen = new Map();
    const { connect: join } = await serve((router) => router.websocket('/ws/{n}', (connection, event, data) => {
      if (event !== 'message') return undefined;
      const { n } = connection.params;
      if (!seen.has(n)) seen.set(n, []);
      seen.get(n).push(Number(data));
      const pause = performance.now() + 0.2;
      while (performance.now() < pause);
      return Number(data) % 17 === 0 ? Promise.resolve() : undefined;
    }));
    const peers = await Promise.all(Array.from({ length: 10 }, (_, n) => join(`/ws/${n}`)));
    for (let i = 0; i < 300; i += 1) for (const peer of peers) peer.send(String(i));
    const expected = Array.from({ length: 300 }, (_, i) => i);
    await until(() => [...seen.values()].reduce((sum, list) => sum + list.length, 0) === 3000, 'all messages', 15_000);
    for (const list of seen.values()) expect(list).toEqual(expected);
    // Everything was acknowledged, or the sockets would not be read any more.
    for (const peer of peers) peer.send('300');
    await until(() => [...seen.values()].every((list) => list.length === 301));
  });

  test('what waits beyond one drain is handled without a bell, after the promises that are settled', async () => {
    const log = [];
    const { connect: join } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      if (event !== 'message') return;
      log.push('message');
      Promise.resolve().then(() => log.push('settled'));
      if (data !== 'wait') return;
      // All the others arrive meanwhile, four times what one drain takes.
      const end = performance.now() + 100;
      while (performance.now() < end);
    }));
    const peer = await join('/ws');
    peer.send('wait');
    for (let i = 0; i < 16; i += 1) peer.send('x'.repeat(16 * 1024));
    await until(() => log.filter((word) => word === 'message').length === 17);
    const heard = log.slice(0, log.lastIndexOf('message')).filter((word) => word === 'settled');
    // One drain takes four of them.
    expect(heard.length).toBeGreaterThan(8);
  });

  test('HTTP requests are answered in between', async () => {
    const { connect: join, fetch } = await serve((router) => {
      router.websocket('/ws', () => { const end = performance.now() + 0.2; while (performance.now() < end); });
      router.get('/now', (req, res) => res.text('now'));
    });
    const peer = await join('/ws');
    for (let i = 0; i < 1000; i += 1) peer.send('x');
    expect(await (await fetch('/now')).text()).toBe('now');
  });
});

describe('a handler pending for 10 s', () => {
  test('is reported once, with route, id and how many events wait', async () => {
    const gate = deferred();
    let id;
    const { connect: join, fetch, log } = await serve((router) => {
      router.websocket('/ws/{n}', async (connection, event) => {
        id = connection.id;
        if (event === 'message') await gate.promise;
      });
      router.get('/slow', async (req, res) => { await gate.promise; res.text('done'); });
    });
    const peer = await join('/ws/1');
    for (let i = 0; i < 3; i += 1) peer.send(String(i));
    const slow = fetch('/slow');
    await sleep(12_500);
    gate.resolve();
    expect(await (await slow).text()).toBe('done');
    expect(log.lines.filter((line) => line.includes('10 s'))).toEqual([
      `warn: The message handler of /ws/{n} (connection ${id}) has been pending for 10 s; 2 events wait for it.`,
      'warn: The handler of GET /slow has not answered for 10 s; after 60 s the client gets 503.',
    ]);
  });
});
