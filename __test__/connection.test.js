'use strict';

const { inspect } = require('node:util');
const { cleanUp, deferred, serve, sleep, until } = require('./support.js');

afterEach(cleanUp);

/** A route whose connections are collected; each is greeted in `open`. */
async function collecting(pattern, config, extra = () => {}) {
  const connections = [];
  const events = [];
  const served = await serve((router) => router.websocket(pattern, (connection, event, data) => {
    events.push([event, data]);
    if (event === 'open') {
      connections.push(connection);
      connection.send('hello');
    }
    return extra(connection, event, data);
  }), config);
  const join = async (target, options) => {
    const peer = await served.connect(target, options);
    expect(await peer.next()).toBe('hello');
    return Object.assign(peer, { connection: connections.at(-1) });
  };
  return { ...served, connections, events, join };
}

describe('what is known of the peer', () => {
  test('id, path, ip', async () => {
    const { join } = await collecting('/ws/{room}');
    const a = (await join('/ws/jos%c3%a9?x=1')).connection;
    const b = (await join('/ws/josé')).connection;
    expect(a.id).toMatch(/^[0-9a-f]{32}$/);
    expect(b.id).not.toBe(a.id);
    expect([a.path, b.path, a.ip]).toEqual(['/ws/jos%C3%A9', '/ws/jos%C3%A9', '127.0.0.1']);
  });

  test('console.log and JSON show it, and what the user has put on it', async () => {
    const { join } = await collecting('/ws');
    const { connection } = await join('/ws');
    connection.username = 'Zoë';
    const shown = inspect(connection);
    expect(shown).toMatch(/^WebSocketConnection \{/);
    for (const text of [connection.id, "path: '/ws'", "ip: '127.0.0.1'", "protocol: ''", "username: 'Zoë'"]) expect(shown).toContain(text);
    const { id } = connection;
    expect(JSON.parse(JSON.stringify(connection))).toEqual({ id, path: '/ws', ip: '127.0.0.1', protocol: '', username: 'Zoë' });
  });

  test('a line end in a param stays in it', async () => {
    const { join } = await collecting('/ws/{a}/{b}');
    const { connection } = await join('/ws/1%0A%0A2%25/x?q=1%0A2');
    expect({ ...connection.params }).toEqual({ a: '1\n\n2%', b: 'x', q: '1\n2' });
    expect(connection.protocol).toBe('');
  });

  test('params are decoded, typed, and joined by the query; the path wins', async () => {
    const { join } = await collecting('/ws/{room}/{id:int}/{rest:path}');
    const { connection } = await join('/ws/a%2Fb/7/c/d%20e?token=t%26&room=other&x=1&x=2');
    expect({ ...connection.params }).toEqual({ room: 'a/b', id: 7, rest: 'c/d e', token: 't&', x: '2' });
    expect({ ...connection.query }).toEqual({ token: 't&', room: 'other', x: '2' });
    expect(connection.params).toBe(connection.params);
  });

  test('params and query have no prototype', async () => {
    const { join } = await collecting('/ws');
    const { connection } = await join('/ws?__proto__=1&constructor=2');
    for (const object of [connection.params, connection.query, connection.headers, connection.cookies]) {
      expect(Object.getPrototypeOf(object)).toBeNull();
    }
    expect(Object.keys(connection.params)).toEqual(['__proto__', 'constructor']);
    expect({}.polluted).toBeUndefined();
  });

  test('headers and cookies of the upgrade request', async () => {
    const { join } = await collecting('/ws');
    const { connection } = await join('/ws', { headers: { 'X-One': 'a', cookie: 'session=s%20s; b=2' } });
    expect(connection.headers['x-one']).toBe('a');
    expect(connection.headers.upgrade).toBe('websocket');
    expect({ ...connection.cookies }).toEqual({ session: 's s', b: '2' });
  });

  test('it is one object in every event, and carries properties of the user', async () => {
    const seen = new Set();
    const done = deferred();
    const { join } = await collecting('/ws', {}, (connection, event) => {
      seen.add(connection);
      connection.count = (connection.count ?? 0) + 1;
      if (event === 'close') done.resolve(connection.count);
    });
    const peer = await join('/ws');
    peer.send('a');
    peer.close();
    expect(await done.promise).toBe(3);
    expect(seen.size).toBe(1);
  });
});

describe('#send and #sendJson', () => {
  test('a string goes out as text, bytes as binary', async () => {
    const { join } = await collecting('/ws');
    const { connection, next } = await join('/ws');
    const bytes = new Uint8Array([0, 1, 2, 3, 255]);
    expect(connection.send('text ä 😀')).toBeUndefined();
    connection.send('');
    connection.send(Buffer.from(bytes));
    connection.send(bytes.subarray(1, 3));
    connection.send(new DataView(bytes.buffer, 3, 2));
    connection.send(new Uint16Array([0x0201]));
    connection.send(Buffer.alloc(0));
    expect([await next(), await next()]).toEqual(['text ä 😀', '']);
    const rest = [await next(), await next(), await next(), await next(), await next()];
    expect(rest).toEqual([Buffer.from(bytes), Buffer.from([1, 2]), Buffer.from([3, 255]), Buffer.from([1, 2]), Buffer.alloc(0)]);
  });

  test('a string of any length and letters arrives as itself', async () => {
    const { join } = await collecting('/ws');
    const peer = await join('/ws');
    for (const length of [1024, 1025, 5_000, 16_383, 16_384, 65_536, 65_537]) {
      for (const letter of ['a', 'é', '€', '😀']) {
        // At either end, and so early that nothing of the text has been copied when it comes.
        for (const text of ['a'.repeat(length) + letter, letter + 'a'.repeat(length), 'aa' + letter.repeat(length / 2), 'é' + 'a'.repeat(length) + letter]) {
          peer.connection.send(text);
          const received = await peer.next();
          if (received !== text) throw new Error(`${length} letters with ${letter} were ${received.length}, not ${text.length}`);
        }
      }
    }
  });

  test('bytes are taken at the call: changing them later changes nothing', async () => {
    const { join } = await collecting('/ws');
    const { connection, next } = await join('/ws');
    const bytes = Buffer.from('before');
    connection.send(bytes);
    bytes.write('after!');
    expect(await next()).toEqual(Buffer.from('before'));
  });

  test('sendJson sends JSON', async () => {
    const { join } = await collecting('/ws');
    const { connection, next } = await join('/ws');
    for (const value of [{ a: 'ä' }, [1], null, 'x', 0]) connection.sendJson(value);
    expect([await next(), await next(), await next(), await next(), await next()]).toEqual(['{"a":"ä"}', '[1]', 'null', '"x"', '0']);
    expect(() => connection.sendJson(undefined)).toThrow('connection.sendJson: undefined has no JSON text.');
    expect(() => connection.sendJson(() => {})).toThrow(TypeError);
    expect(() => connection.sendJson(1n)).toThrow(TypeError);
  });

  test.each([
    [undefined, 'undefined'], [null, 'null'], [7, '7'], [true, 'true'], [{ a: 1 }, 'an object'], [[1], 'an array'],
    [new ArrayBuffer(2), 'an object'], [Promise.resolve('x'), 'a promise (await it first)'], [1n, '1n'], [Symbol('x'), 'a symbol'],
  ])('refuses %p, open or closed', async (message, named) => {
    const { join, connections } = await collecting('/ws');
    const peer = await join('/ws');
    const [connection] = connections;
    const check = () => {
      expect(() => connection.send(message)).toThrow(TypeError);
      expect(() => connection.send(message)).toThrow(`connection.send takes a string, a Buffer or an ArrayBuffer view as message, not ${named}.`);
      expect(() => connection.broadcast(message)).toThrow(`connection.broadcast takes a string, a Buffer or an ArrayBuffer view as message, not ${named}.`);
    };
    check();
    await peer.close();
    await until(() => connection.connectionCount() === 0);
    check();
  });

  test('a burst outside of a handler arrives in order', async () => {
    const { join } = await collecting('/ws');
    const { connection, next } = await join('/ws');
    for (let i = 0; i < 3000; i += 1) connection.send(String(i));
    for (let i = 0; i < 3000; i += 1) expect(await next()).toBe(String(i));
  });
});

describe('a message that is sent on', () => {
  const texts = ['', 'a', 'bé', '😀'.repeat(3), 'x'.repeat(16_383), 'y'.repeat(16_384), 'é'.repeat(20_000), 'z'.repeat(200_000), 'last'];

  /** What two peers get when one sends `texts` in a burst and `answer` deals with each. */
  async function answers(answer) {
    const { join } = await collecting('/ws', {}, (connection, event, data) => (event === 'message' ? answer(connection, data) : undefined));
    const [one, two] = [await join('/ws'), await join('/ws')];
    for (const text of texts) one.send(text);
    const gets = async (peer) => {
      const got = [];
      while (got.at(-1) !== 'last') got.push(await peer.next());
      return got;
    };
    return Promise.all([gets(one), gets(two)]);
  }

  test('arrives as it came, at one and at all', async () => {
    const got = await answers((connection, data) => {
      connection.broadcast(data, { excludeSelf: true });
      connection.send(data);
    });
    expect(got[0]).toEqual(texts);
    expect(got[1]).toEqual(texts);
  });

  test('is not taken for another of its length, nor another for it', async () => {
    const like = (text) => text.replaceAll('x', 'X').replaceAll('y', 'Y');
    const got = await answers((connection, data) => {
      connection.broadcast(like(data), { excludeSelf: true });
      connection.send(like(data));
      connection.send(`${data}+`.slice(0, -1));
    });
    expect(got[0].slice(0, -1)).toEqual(texts.flatMap((text) => [like(text), text]).slice(0, -2));
    expect(got[1]).toEqual(texts.map(like));
  });

  test('keeps its place among all that a handler does, however often it is sent', async () => {
    const amounts = [];
    const { join } = await collecting('/ws', {}, (connection, event, data) => {
      if (event !== 'message') return;
      for (let i = 0; i < 300; i += 1) connection.send(data);
      for (let i = 0; i < 10; i += 1) {
        connection.send(data);
        connection.send(`${i}`);
      }
      connection.broadcast(data);
      amounts.push(connection.bufferedAmount);
      connection.send(data);
      amounts.push(connection.bufferedAmount);
      connection.close(4000, 'done');
      connection.send(data);
    });
    const { next, send, closed } = await join('/ws');
    send('on');
    for (let i = 0; i < 300; i += 1) expect(await next()).toBe('on');
    for (let i = 0; i < 10; i += 1) expect([await next(), await next()]).toEqual(['on', `${i}`]);
    expect([await next(), await next()]).toEqual(['on', 'on']);
    expect((await closed).code).toBe(4000);
    // A header of two bytes, and two of text.
    expect(amounts[1] - amounts[0]).toBe(4);
  });

  test('goes out once, whatever comes of the next ones', async () => {
    const { join } = await collecting('/ws', {}, (connection, event, data) => {
      if (event === 'message' && data !== 'quiet') connection.send(data);
    });
    const { next, send } = await join('/ws');
    for (const text of ['a', 'quiet', 'quiet', 'b']) {
      send(text);
      await sleep(5);
    }
    expect([await next(), await next()]).toEqual(['a', 'b']);
  });

  test('may be sent on later, when others have come', async () => {
    const got = await answers(async (connection, data) => {
      await sleep(2);
      connection.broadcast(data);
    });
    expect(got).toEqual([texts, texts]);
  });

  test('arrives as it came, also when handlers take so long that the rest of them runs later', async () => {
    const block = (time) => {
      const end = performance.now() + time;
      while (performance.now() < end);
    };
    const { join } = await collecting('/ws', {}, (connection, event, data) => {
      if (event !== 'message') return;
      // The others arrive while the first is handled, and are drained together.
      block(data === '0' ? 50 : 1);
      connection.broadcast(data);
    });
    const { next, send } = await join('/ws');
    for (let i = 0; i < 40; i += 1) send(`${i}`);
    for (let i = 0; i < 40; i += 1) expect(await next()).toBe(`${i}`);
  });
});

describe('#broadcast and #connectionCount', () => {
  test('reach and count the same concrete path only, the sender included', async () => {
    const { join } = await collecting('/ws/{room}');
    const a1 = await join('/ws/a');
    const a2 = await join('/ws/a?x=1');
    const b = await join('/ws/b');
    expect([a1, a2, b].map(({ connection }) => connection.connectionCount())).toEqual([2, 2, 1]);
    a1.connection.broadcast('to a');
    expect([await a1.next(), await a2.next()]).toEqual(['to a', 'to a']);
    a1.connection.broadcast(Buffer.from('others'), { excludeSelf: true });
    expect(await a2.next()).toEqual(Buffer.from('others'));
    a1.connection.broadcast('all', { excludeSelf: false });
    expect([await a1.next(), await a2.next()]).toEqual(['all', 'all']);
    a1.connection.broadcast('default', {});
    expect(await a1.next()).toBe('default');
    b.connection.send('mark');
    expect(await b.next()).toBe('mark');
  });

  test('name the options they take', async () => {
    const { join } = await collecting('/ws');
    const { connection } = await join('/ws');
    expect(() => connection.broadcast('x', { excludeself: true })).toThrow('connection.broadcast has no option "excludeself"; accepted are excludeSelf.');
    expect(() => connection.broadcast('x', { excludeSelf: 1 })).toThrow('connection.broadcast: excludeSelf is true or false, not 1.');
    expect(() => connection.broadcast('x', true)).toThrow(TypeError);
    expect(() => connection.broadcast('x', null)).toThrow(TypeError);
  });

  test('a connection counts in open and no longer in close', async () => {
    const counts = [];
    const { join } = await collecting('/ws', {}, (connection, event) => {
      if (event !== 'message') counts.push([event, connection.connectionCount()]);
    });
    const one = await join('/ws');
    const two = await join('/ws');
    await two.close();
    await until(() => counts.length === 3);
    await one.close();
    await until(() => counts.length === 4);
    expect(counts).toEqual([['open', 1], ['open', 2], ['close', 1], ['close', 0]]);
  });

  test('a connection receives its own broadcast from open, and nothing from before', async () => {
    const { connect } = await serve((router) => router.websocket('/ws', (connection, event) => {
      if (event === 'open') connection.broadcast(`joined ${connection.connectionCount()}`);
    }));
    const one = await connect('/ws');
    expect(await one.next()).toBe('joined 1');
    const two = await connect('/ws');
    expect([await one.next(), await two.next()]).toEqual(['joined 2', 'joined 2']);
  });

  test('in close a send is a no-op and a broadcast reaches the others', async () => {
    const { join } = await collecting('/ws', {}, (connection, event) => {
      if (event !== 'close') return;
      connection.send('to myself');
      connection.broadcast(`left, ${connection.connectionCount()} here`);
    });
    const stays = await join('/ws');
    const leaves = await join('/ws');
    await leaves.close();
    expect(await stays.next()).toBe('left, 1 here');
    expect(leaves.pending()).toBe(0);
  });

  test('send, then broadcast, then close from one handler reach a peer in that order', async () => {
    const { connect } = await serve((router) => router.websocket('/ws', (connection, event) => {
      if (event !== 'message') return;
      connection.send('sent');
      connection.broadcast('broadcast');
      connection.close(4000, 'closed');
    }));
    const peer = await connect('/ws');
    peer.send('go');
    expect([await peer.next(), await peer.next(), await peer.closed]).toEqual(['sent', 'broadcast', { code: 4000, reason: 'closed' }]);
  });
});

describe('#close', () => {
  test('sends 1000 by default, else code and reason', async () => {
    const { join } = await collecting('/ws');
    const one = await join('/ws');
    one.connection.close();
    expect(await one.closed).toEqual({ code: 1000, reason: '' });
    const two = await join('/ws');
    two.connection.close(4001, 'é'.repeat(61));
    expect(await two.closed).toEqual({ code: 4001, reason: 'é'.repeat(61) });
  });

  test('later sends and closes are no-ops, and close is dispatched once', async () => {
    const { join, events } = await collecting('/ws');
    const { connection, closed, pending } = await join('/ws');
    connection.close(3000, 'first');
    connection.send('late');
    connection.sendJson({ late: true });
    connection.close(3001, 'second');
    expect(await closed).toEqual({ code: 3000, reason: 'first' });
    await until(() => connection.connectionCount() === 0);
    connection.close();
    expect(pending()).toBe(0);
    expect(events.filter(([event]) => event === 'close')).toEqual([['close', '']]);
  });

  test.each([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 1000.5, -1, NaN, Infinity])('refuses code %p with a RangeError', async (code) => {
    const { join } = await collecting('/ws');
    const { connection } = await join('/ws');
    expect(() => connection.close(code)).toThrow(RangeError);
    expect(() => connection.close(code)).toThrow(`connection.close: ${code} may not be sent as close code; accepted are 1000 to 1003, 1007 to 1014 and 3000 to 4999.`);
    connection.send('still open');
  });

  test('refuses other types and a long reason', async () => {
    const { join } = await collecting('/ws');
    const { connection, next } = await join('/ws');
    expect(() => connection.close('1000')).toThrow('connection.close takes a number as close code, not "1000".');
    expect(() => connection.close(null)).toThrow(TypeError);
    expect(() => connection.close(1000, 7)).toThrow('connection.close takes a string as close reason, not 7.');
    expect(() => connection.close(1000, 'é'.repeat(62))).toThrow('connection.close: the close reason has 124 bytes of UTF-8; at most 123 fit a close frame.');
    expect(() => connection.close(1000, 'é'.repeat(62))).toThrow(RangeError);
    connection.send('still open');
    expect(await next()).toBe('still open');
  });
});

describe('#drained and #bufferedAmount', () => {
  test('drained resolves when all is written, and before the pending handler that awaits it', async () => {
    const { connect } = await serve((router) => router.websocket('/ws', async (connection, event) => {
      if (event !== 'message') return;
      // Little enough to wait for the commit at the end of the batch: nothing of it can be written before it is looked at.
      connection.send('x'.repeat(100_000));
      const queued = connection.bufferedAmount;
      await connection.drained();
      connection.send(JSON.stringify([queued >= 100_000, connection.bufferedAmount]));
    }));
    const peer = await connect('/ws');
    peer.send('go');
    expect((await peer.next()).length).toBe(100_000);
    expect(await peer.json()).toEqual([true, 0]);
  });

  test('drained waits for a peer that does not read', async () => {
    const { join } = await collecting('/ws', { wsMaxBacklog: 64 * 1024 * 1024 });
    const peer = await join('/ws');
    peer.socket.pause();
    const { connection } = peer;
    for (let i = 0; i < 32; i += 1) connection.send(Buffer.alloc(512 * 1024));
    let drained = false;
    const all = [connection.drained(), connection.drained()];
    all[0].then(() => { drained = true; });
    await sleep(100);
    expect(drained).toBe(false);
    expect(connection.bufferedAmount).toBeGreaterThan(1024 * 1024);
    peer.socket.resume();
    await Promise.all(all);
    expect(connection.bufferedAmount).toBe(0);
  });

  test('drained resolves when the connection is gone', async () => {
    const { join } = await collecting('/ws', { wsMaxBacklog: 64 * 1024 * 1024 });
    const peer = await join('/ws');
    peer.socket.pause();
    for (let i = 0; i < 32; i += 1) peer.connection.send(Buffer.alloc(512 * 1024));
    const drained = peer.connection.drained();
    peer.socket.terminate();
    await drained;
    await peer.connection.drained();
    expect(peer.connection.bufferedAmount).toBe(0);
  });
});

describe('a connection kept after its close', () => {
  test('is a harmless no-op, whoever has its place since', async () => {
    const { join } = await collecting('/ws');
    const gone = await join('/ws');
    await gone.close();
    await until(() => gone.connection.connectionCount() === 0);
    const heir = await join('/ws');
    const { connection } = gone;
    connection.send('a');
    connection.sendJson({});
    connection.broadcast('b');
    connection.close(4000);
    await connection.drained();
    expect([connection.connectionCount(), connection.bufferedAmount]).toEqual([0, 0]);
    expect({ ...connection.headers }).toEqual({});
    expect({ ...connection.params }).toEqual({});
    heir.connection.send('mark');
    expect(await heir.next()).toBe('mark');
    expect(heir.socket.readyState).toBe(1);
  });

  test('headers that were read stay', async () => {
    const { join } = await collecting('/ws');
    const peer = await join('/ws', { headers: { 'x-a': '1' } });
    expect(peer.connection.headers['x-a']).toBe('1');
    await peer.close();
    await until(() => peer.connection.connectionCount() === 0);
    expect(peer.connection.headers['x-a']).toBe('1');
  });

  test('also after the server has closed', async () => {
    const { join, server } = await collecting('/ws');
    const { connection } = await join('/ws');
    await server.close();
    connection.send('x');
    connection.broadcast('x');
    connection.close();
    await connection.drained();
    expect([connection.connectionCount(), connection.bufferedAmount, Object.keys(connection.headers)]).toEqual([0, 0, []]);
  });
});

describe('messages', () => {
  test('a text route gets strings, also of binary messages; data is empty for open and close', async () => {
    const { join, events } = await collecting('/ws');
    const peer = await join('/ws');
    peer.send('ä');
    peer.send(Buffer.from('ö'));
    await until(() => events.length === 3);
    await peer.close();
    await until(() => events.length === 4);
    expect(events).toEqual([['open', ''], ['message', 'ä'], ['message', 'ö'], ['close', '']]);
  });

  test('a binary message that is no UTF-8 closes a text route with 1003', async () => {
    const { join, events } = await collecting('/ws');
    const peer = await join('/ws');
    peer.send(Buffer.from([0xff, 0xfe]));
    expect((await peer.closed).code).toBe(1003);
    await until(() => events.length === 2);
    expect(events[1][0]).toBe('close');
  });

  test('a binary route gets Buffers for binary messages', async () => {
    const seen = [];
    const { connect } = await serve((router) => router.websocket('/ws', (connection, event, data) => {
      if (event === 'message') seen.push(data);
    }, { binary: true }));
    const peer = await connect('/ws');
    peer.send(Buffer.from([0xff, 0]));
    peer.send('text');
    peer.send(Buffer.alloc(0));
    await until(() => seen.length === 3);
    expect(seen.map((data) => (Buffer.isBuffer(data) ? data.toString('hex') : data))).toEqual(['ff00', 'text', '']);
    expect(Buffer.isBuffer(seen[0]) && Buffer.isBuffer(seen[2])).toBe(true);
  });

  test('one over the limit closes with 1009, one at the limit arrives', async () => {
    const { join, events } = await collecting('/ws', { wsMaxMessageSize: 1000 });
    const peer = await join('/ws');
    peer.send('x'.repeat(1000));
    peer.send('x'.repeat(1001));
    expect((await peer.closed).code).toBe(1009);
    await until(() => events.length === 3);
    expect(events.map(([event, data]) => [event, data.length])).toEqual([['open', 0], ['message', 1000], ['close', 0]]);
  });
});
