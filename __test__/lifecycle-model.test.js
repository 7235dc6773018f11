'use strict';

/**
 * The life of connections against a model: random peers open, talk and leave while handlers answer at once, later, with an error or
 * never. The handlers write down what they do in the order they do it; from that follows what each peer must have received.
 *
 * A failure names its seed; `LIFE_SEED=<seed>` plays that scenario alone, `LIFE_SCENARIOS` another number of them.
 */

const { WebSocket } = require('ws');
const { cleanUp, serve, sleep, until } = require('./support.js');

afterEach(cleanUp);

const SCENARIOS = Number(process.env.LIFE_SCENARIOS ?? 12);
const FIRST_SEED = Number(process.env.LIFE_SEED ?? 1);
const PEERS = 6;
const STEPS = 60;
const ROOMS = ['a', 'b'];
const ASKS = ['echo', 'everyone', 'others', 'push', 'count', 'drained', 'close'];
const MANNERS = ['now', 'now', 'now', 'later', 'later', 'throws', 'rejects', 'never'];

/** Numbers from 0 to below `count`, the same for the same seed. */
function dice(seed) {
  let state = seed * 2654435761 % 2 ** 32;
  return (count) => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return Math.floor(state / 2 ** 32 * count);
  };
}

/** A route that does what messages ask, in the manner they ask for, and keeps a record. */
async function play(seed) {
  const roll = dice(seed);
  const pick = (list) => list[roll(list.length)];
  const acts = [];
  const running = new Map();
  let unsettled = 0;
  const note = (type, connection, more) => acts.push({ type, connection, ...more });

  const act = async (connection, { ask, manner, n }) => {
    if (manner === 'later') await sleep(n % 5);
    if (manner === 'throws') throw new Error(`thrown ${n}`);
    if (manner === 'rejects') await Promise.reject(new Error(`rejected ${n}`));
    if (manner === 'never') await new Promise(() => {});
    const text = `${ask} ${n}`;
    const room = connection.path.at(-1);
    if (ask === 'echo') {
      note('sent', connection, { text });
      connection.send(text);
    } else if (ask === 'everyone' || ask === 'others') {
      const except = ask === 'others' ? connection : undefined;
      note('broadcast', connection, { text, room, except });
      connection.broadcast(text, { excludeSelf: ask === 'others' });
    } else if (ask === 'push') {
      const other = ROOMS.find((one) => one !== room);
      note('broadcast', connection, { text, room: other });
      served.router.pushToWebSocket(`/ws/${other}`, text);
    } else if (ask === 'count') {
      note('counted', connection, { room, count: connection.connectionCount() });
    } else if (ask === 'drained') {
      await connection.drained();
    } else {
      note('sent', connection, { text });
      connection.send(text);
      note('closed', connection);
      connection.close(4000, 'asked for');
      connection.send('nobody gets this');
    }
  };
  const handler = (connection, event, data) => {
    const message = event === 'message' ? JSON.parse(data) : undefined;
    const before = running.get(connection) ?? new Set();
    // A close waits for a pending handler only as long as the grace.
    if (event !== 'close') expect([...before]).toEqual([]);
    note(event, connection, { n: message?.n, count: connection.connectionCount() });
    if (event === 'open') {
      note('sent', connection, { text: 'welcome' });
      connection.send('welcome');
    }
    if (event !== 'message') return undefined;
    running.set(connection, before.add(message.n));
    const settles = message.manner !== 'never';
    unsettled += Number(settles);
    const done = () => {
      before.delete(message.n);
      unsettled -= Number(settles);
    };
    // What is thrown synchronously takes another way than what rejects.
    if (message.manner === 'throws') {
      done();
      throw new Error(`thrown ${message.n}`);
    }
    return act(connection, message).finally(done);
  };
  const served = await serve((router) => router.websocket('/ws/{room}', handler), {
    wsCloseGrace: 0.05, wsClosingTimeout: 0.5, wsCompression: seed % 2 === 0,
  });

  const clients = [];
  const seats = Array(PEERS);
  let number = 0;
  for (let step = 0; step < STEPS; step += 1) {
    const seat = roll(PEERS);
    const client = seats[seat];
    const what = roll(20);
    if (client === undefined || client.left !== undefined || what === 0) {
      if (client !== undefined && client.left === undefined) continue;
      seats[seat] = await join(served, `/ws/${pick(ROOMS)}?client=${clients.length}`, clients.length);
      clients.push(seats[seat]);
    } else if (what === 1) {
      client.left = 'closed';
      client.socket.close(1000);
    } else if (what === 2) {
      client.left = 'gone';
      client.socket.terminate();
    } else if (what === 3) {
      await sleep(roll(4));
    } else {
      const message = { ask: pick(ASKS), manner: pick(MANNERS), n: number += 1 };
      client.said.push(message);
      client.socket.send(JSON.stringify(message));
    }
  }
  await everythingHasArrived(acts, clients, () => unsettled === 0);
  await served.server.close();
  for (const client of clients) await client.ended;
  check(acts, clients, served.log.lines);
}

async function join(served, target, name) {
  const socket = new WebSocket(served.url.replace('http', 'ws') + target);
  const client = { name, socket, said: [], got: [], left: undefined };
  socket.on('message', (data) => client.got.push(data.toString()));
  socket.on('error', () => {});
  client.ended = new Promise((resolve) => {
    socket.on('close', (code) => resolve(Object.assign(client, { code })));
  });
  await new Promise((resolve) => socket.once('open', resolve));
  return client;
}

/** Replays the record: by client, what it was told and what it must have got. */
function model(acts) {
  const all = new Map();
  for (const { type, connection, ...act } of acts) {
    const one = all.get(connection);
    const members = (room) => [...all.values()].filter((other) => other.room === room && !other.ended);
    if (type === 'open') {
      const name = Number(connection.query.client);
      all.set(connection, { name, room: connection.path.at(-1), expected: [], told: [], closing: false, ended: false });
      expect(act.count).toBe(members(connection.path.at(-1)).length);
    } else if (type === 'message') {
      expect(one.ended).toBe(false);
      one.told.push(act.n);
    } else if (type === 'close') {
      expect(one.ended).toBe(false);
      one.ended = true;
      expect(act.count).toBe(members(one.room).length);
    } else if (type === 'sent') {
      if (!one.closing && !one.ended) one.expected.push(act.text);
    } else if (type === 'broadcast') {
      for (const other of members(act.room)) {
        if (!other.closing && all.get(act.except) !== other) other.expected.push(act.text);
      }
    } else if (type === 'counted') {
      // A handler that answers late may count after its own close.
      expect(act.count).toBe(members(act.room).length);
    } else if (type === 'closed') {
      one.closing = true;
    }
  }
  return new Map([...all.values()].map((one) => [one.name, one]));
}

/** What a client said up to the message whose handler never settles. */
function answered(client) {
  const stuck = client.said.findIndex(({ manner }) => manner === 'never');
  return stuck === -1 ? client.said : client.said.slice(0, stuck + 1);
}

async function everythingHasArrived(acts, clients, allSettled) {
  let waiting = '';
  await until(() => {
    waiting = 'handlers that settle';
    const known = model(acts);
    return allSettled() && clients.every((client) => {
      const one = known.get(client.name);
      waiting = `client ${client.name}`;
      if (one === undefined) return client.left === 'gone';
      if (client.left === 'gone') return one.ended;
      if (client.left === 'closed' || one.closing) return client.code !== undefined && one.ended;
      return one.told.length === answered(client).length && client.got.length === one.expected.length;
    });
  }, 'everything', 15_000).catch((error) => { throw new Error(`${error.message}, for ${waiting}`); });
}

function check(acts, clients, log) {
  const known = model(acts);
  for (const client of clients) {
    const one = known.get(client.name);
    if (one === undefined) continue;
    const said = client.said.map(({ n }) => n);
    expect(one.ended).toBe(true);
    expect(one.told).toEqual(said.slice(0, one.told.length));
    expect(client.got).toEqual(one.expected.slice(0, client.got.length));
    if (client.left === undefined) {
      expect(client.got).toEqual(one.expected);
      expect(client.code).toBe(one.closing ? 4000 : 1001);
    }
    for (const { n, manner } of client.said.filter(({ n }) => one.told.includes(n))) {
      const words = { throws: `thrown ${n}`, rejects: `rejected ${n}` }[manner];
      if (words === undefined) continue;
      const lines = log.filter((line) => line.includes(`${words}\n`) || line.endsWith(words));
      expect(lines).toHaveLength(1);
      expect(lines[0]).toContain('/ws/{room}');
    }
  }
}

test.each(Array.from({ length: SCENARIOS }, (_, index) => FIRST_SEED + index))('scenario %i keeps every promise', play);
