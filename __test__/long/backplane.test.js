'use strict';

// One chat over three processes for a minute, while everything between them fails: the bus is killed twice, then one node's
// subscription is cut, then one node's connection for publishing.

const { forkServer, endForked } = require('../forked.js');
const { endBuses } = require('../bus.js');
const { Redis } = require('../redis.js');
const { Nats } = require('../nats.js');
const { cleanUp, connect, sleep, until } = require('../support.js');

const SECONDS = 60;
const INSTANCES = 3;
const CLIENTS = 300;
/** Clients that send numbers, the others only listen. */
const SENDERS = 15;
/** Milliseconds between two numbers of one sender. */
const PAUSE = 250;

// The helpers set that of a unit test.
jest.setTimeout(300_000);

afterEach(async () => {
  await cleanUp();
  await endForked();
});
afterAll(endBuses);

function numbersRoom(Router) {
  Router.websocket('/ws/{room}', (connection, event, data) => {
    if (event === 'message') connection.broadcast(data);
  });
}

/** A client that checks what it receives as it comes: from each sender the next number, and nothing else. */
async function listen(app, wrong) {
  const peer = await connect(`ws://127.0.0.1:${app.port}/ws/long`);
  const last = new Map();
  peer.socket.removeAllListeners('message');
  peer.socket.on('message', (data) => {
    const [sender, number] = data.toString().split(':').map(Number);
    const expected = (last.get(sender) ?? 0) + 1;
    if (number !== expected) wrong.push(`of sender ${sender} came ${number} instead of ${expected}`);
    last.set(sender, number);
  });
  peer.closed.then(({ code }) => wrong.push(`a client was closed with ${code}`));
  return { ...peer, last };
}

/** Ends one connection of a kind: a node's subscription or its connection for publishing. */
async function cutOne(redis, type) {
  const client = await redis.connect();
  const list = String(await client.command('CLIENT', 'LIST', 'TYPE', type));
  const own = String(await client.command('CLIENT', 'ID'));
  const ids = [...list.matchAll(/^id=(\d+) /gm)].map(([, id]) => id).filter((id) => id !== own);
  await client.command('CLIENT', 'KILL', 'ID', ids[0]);
  await client.close();
}

it.each([['redis', Redis], ['nats', Nats]])('over %s everyone ends with every number, in order and once', async (kind, Bus) => {
  const bus = await new Bus().start();
  const config = { wsBackplane: kind, wsBackplaneUrl: bus.url, wsBackplaneHeartbeat: 0.5, wsBackplaneRetryDelay: 1 };
  const apps = [];
  while (apps.length < INSTANCES) apps.push(await forkServer(numbersRoom, { config }));
  const wrong = [];
  const clients = [];
  while (clients.length < CLIENTS) clients.push(await listen(apps[clients.length % INSTANCES], wrong));

  const end = Date.now() + SECONDS * 1_000;
  const sending = clients.slice(0, SENDERS).map(async (client, sender) => {
    let number = 0;
    while (Date.now() < end) {
      client.send(`${sender}:${(number += 1)}`);
      await sleep(PAUSE);
    }
    return number;
  });

  const outage = async (milliseconds) => {
    await bus.kill();
    await sleep(milliseconds);
    await bus.start();
  };
  await sleep(SECONDS * 100);
  await outage(3_000);
  await sleep(SECONDS * 150);
  await outage(1_000);
  await sleep(SECONDS * 150);
  if (kind === 'redis') {
    await cutOne(bus, 'pubsub');
    await sleep(SECONDS * 100);
    await cutOne(bus, 'normal');
  }

  const sent = await Promise.all(sending);
  const all = sent.reduce((sum, one) => sum + one, 0);
  const received = (client) => [...client.last.values()].reduce((sum, one) => sum + one, 0);
  await until(
    () => clients.every((client) => received(client) === all) || wrong.length > 0,
    `all ${all} numbers at every client`,
    30_000,
  );
  expect(wrong).toEqual([]);
  for (const client of clients) sent.forEach((count, sender) => expect(client.last.get(sender)).toBe(count));
});
