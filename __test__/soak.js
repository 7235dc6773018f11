'use strict';

// A server under everything at once: chats, disconnects of every kind, slow readers, frozen peers, garbage and HTTP requests, at the
// rate the machine bears. Who takes part checks what it gets; at the end nothing may be left of them.

const http = require('node:http');
const net = require('node:net');
const { randomBytes, randomInt } = require('node:crypto');
const { WebSocket } = require('ws');
const { forkServer } = require('./forked');
const { UPGRADE, endPeers, frame, peerProcess, standingOf, upgraded } = require('./rough');
const { sleep } = require('./support.js');

const KIB = 1024;
const MIB = 1024 * KIB;
/** Milliseconds in which an answer must come. */
const PATIENCE = 30_000;
const ROOMS = 8;

/** Of the server, small so that each of them is reached often. */
const CONFIG = {
  wsMaxBacklog: 512 * KIB,
  wsMaxMessageSize: MIB,
  maxUploadSize: MIB,
  wsPingInterval: 1,
  wsPingTimeout: 2,
  wsClosingTimeout: 1,
  headerTimeout: 2,
  keepAliveTimeout: 5,
};
/** How many of each kind take part at a time. */
const CAST = { chatter: 40, visitor: 6, flooder: 1, member: 3, slow: 3, halfOpen: 6, garbage: 6, violator: 4, request: 8, hangUp: 2, tooMuch: 1, frozen: 1 };

/** Every line of the log that may come. */
const EXPECTED_LINES = [
  /closed with 1013, reading too slowly: \d+ frames? dropped/,
  /^\s*$/,
];

function program(Router) {
  const routes = { chat: {}, async: {}, concurrent: { concurrent: true }, compressed: { compress: true } };
  for (const [name, options] of Object.entries(routes)) {
    Router.websocket(`/ws/${name}/{room}`, (connection, event, data) => {
      if (event === 'open') connection.user = { joined: connection.connectionCount(), cookies: connection.cookies };
      if (event !== 'message') return undefined;
      if (data === 'bye') return connection.close(4000, 'bye');
      if (name !== 'async') return connection.broadcast(data);
      return new Promise((resolve) => setImmediate(resolve)).then(() => {
        connection.broadcast(data);
        return connection.drained();
      });
    }, options);
  }
  Router.websocket('/ws/bytes/{room}', (connection, event, data) => {
    if (event === 'message') connection.send(data);
  }, { binary: true });
  Router.get('/hello/{n:int}', (req, res) => res.json({ n: req.params.n }));
  Router.post('/echo', async (req, res) => {
    await null;
    return res.json({ size: req.body.text.length, first: req.body.text[0] });
  });
  Router.get('/later/{n:int}', (req, res) => {
    setTimeout(() => res.text(`later ${req.params.n}`), 10);
  });
}

/** One run: its peers, what they have done and what was wrong with what they got. */
class Soak {
  constructor(app) {
    this.app = app;
    this.wrong = [];
    this.running = true;
    this.messages = 0;
    this.requests = 0;
    this.connections = 0;
    this.names = 0;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  }

  /** Has the whole cast act until `stop`; resolves when everyone has gone. */
  async act() {
    this.running = true;
    await Promise.all(Object.entries(CAST).flatMap(([kind, count]) => Array.from({ length: count }, () => this.#repeat(kind))));
    this.agent.destroy();
  }

  stop() {
    this.running = false;
  }

  async #repeat(kind) {
    while (this.running && this.wrong.length < 20) {
      try {
        await this[kind]();
      } catch (error) {
        this.wrong.push(`${kind}: ${error.stack}`);
      }
    }
  }

  #expect(what, is, wanted) {
    if (is !== wanted) this.wrong.push(`${what}: ${String(is).slice(0, 80)} instead of ${String(wanted).slice(0, 80)}`);
  }

  #url(path) {
    return `ws://127.0.0.1:${this.app.port}${path}`;
  }

  /** An open WebSocket with `closed`, its close code to come. */
  async #open(path, options = {}) {
    const socket = new WebSocket(this.#url(path), { perMessageDeflate: path.includes('compressed'), ...options });
    socket.closed = new Promise((resolve) => socket.once('close', resolve));
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    socket.on('error', () => {});
    this.connections += 1;
    return socket;
  }

  /** Joins a room, says numbers, hears them and everyone else's in order, and leaves in one of many ways. */
  async chatter() {
    const kind = ['chat', 'chat', 'async', 'concurrent', 'compressed'][randomInt(5)];
    const name = (this.names += 1);
    const last = new Map();
    let heard = () => {};
    const socket = await this.#open(`/ws/${kind}/${randomInt(ROOMS)}?token=${name}`, { headers: { cookie: `name=${name}; b=2` } });
    socket.on('message', (data) => {
      this.messages += 1;
      const [who, number, length, text] = data.toString().split(':');
      const expected = last.has(who) ? last.get(who) + 1 : Number(number);
      this.#expect(`${name} in ${kind} heard of ${who}`, Number(number), expected);
      this.#expect(`length of ${who}:${number}`, text.length, Number(length));
      last.set(who, Number(number));
      heard();
    });
    let said = 0;
    for (let bursts = randomInt(1, 6); bursts > 0; bursts -= 1) {
      for (let count = randomInt(1, 10); count > 0; count -= 1) {
        const length = [20, 20, 20, 200, 5_000][randomInt(5)] * (randomInt(100) === 0 ? 10 : 1);
        socket.send(`${name}:${(said += 1)}:${length}:${'x'.repeat(length)}`);
      }
      const wanted = said;
      await within(new Promise((resolve) => {
        heard = () => { if (last.get(String(name)) === wanted) resolve(); };
        heard();
      }), `${name}'s own ${wanted} in ${kind}`);
      await sleep(randomInt(20));
    }
    this.#expect('state before leaving', socket.readyState, WebSocket.OPEN);
    const way = randomInt(10);
    if (way < 5) {
      socket.close(1000);
      this.#expect('code of a clean close', await within(socket.closed, 'the close'), 1000);
    } else if (way < 7) {
      socket.send('bye');
      this.#expect("code of the server's close", await within(socket.closed, 'the close'), 4000);
    } else if (way === 7) {
      socket.terminate();
    } else if (way === 8) {
      socket._socket.resetAndDestroy();
    } else {
      // With much on its way in both directions.
      for (let n = 0; n < 20; n += 1) socket.send(`${name}:${(said += 1)}:5000:${'x'.repeat(5_000)}`);
      socket.terminate();
    }
    await socket.closed;
  }

  /** Sends bytes and gets them back. Some stay idle for a while and answer pings. */
  async visitor() {
    const socket = await this.#open(`/ws/bytes/${randomInt(1_000_000)}`);
    const bytes = randomBytes(randomInt(1, 100 * KIB));
    const answer = new Promise((resolve) => socket.once('message', resolve));
    socket.send(bytes);
    this.#expect('bytes', bytes.equals(await within(answer, 'the bytes')), true);
    this.messages += 1;
    if (randomInt(10) === 0) await this.#pause(4_000);
    this.#expect('state of an idle peer', socket.readyState, WebSocket.OPEN);
    socket.close();
    await within(socket.closed, 'the close');
  }

  /** Keeps a room full; slower than its members read. */
  async flooder() {
    const socket = await this.#open('/ws/chat/flood');
    const text = 'x'.repeat(32 * KIB);
    let taken = () => {};
    socket.on('message', () => taken());
    for (let n = 1; n <= 2_000 && this.running; n += 1) {
      const own = new Promise((resolve) => { taken = resolve; });
      socket.send(`flooder:${n}:${text.length}:${text}`);
      await within(own, 'its own');
      this.messages += 1;
      await sleep(5);
    }
    socket.close();
    await within(socket.closed, 'the close');
  }

  /** Reads all that is said in the full room. */
  async member() {
    const socket = await this.#open('/ws/chat/flood');
    let last = 0;
    socket.on('message', (data) => {
      this.messages += 1;
      const text = data.toString('latin1', 0, 20);
      const number = Number(text.split(':')[1]);
      if (last !== 0 && number !== 1) this.#expect('a member heard', number, last + 1);
      last = number;
    });
    await this.#pause(10_000);
    this.#expect('state of a member that reads', socket.readyState, WebSocket.OPEN);
    socket.close(1000);
    this.#expect('code of a member', await within(socket.closed, 'the close'), 1000);
  }

  /** Joins the full room and does not read; later it learns of its close, or goes without. */
  async slow() {
    const socket = await this.#open('/ws/chat/flood');
    socket.pause();
    await this.#pause(4_000);
    if (randomInt(2) === 0) socket.terminate();
    else socket.resume();
    // Until it has been closed with 1013 or cut it hears the room; at the end nobody speaks there any more.
    await Promise.race([socket.closed, this.#pause(2_000)]);
    socket.terminate();
    await socket.closed;
  }

  /** Answers no ping, until it is cut. */
  async halfOpen() {
    const socket = await upgraded(this.app.port, `/ws/chat/${randomInt(ROOMS)}`);
    this.connections += 1;
    const gone = cut(socket);
    if (randomInt(2) === 0) {
      // Past its end: Node does not notice the end of a socket that it does not read.
      socket.pause();
      await this.#pause(5_000);
    }
    socket.resume();
    await within(gone, 'the cut of a half-open peer', socket);
  }

  /** Peers of a process that is stopped. */
  async frozen() {
    const child = await peerProcess(this.#url('/ws/chat/0'), 20);
    this.connections += 20;
    child.kill('SIGSTOP');
    await this.#pause(5_000);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  /** Sends what is no HTTP, or half of it, or none. */
  async garbage() {
    const socket = net.connect(this.app.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    this.connections += 1;
    const text = [
      () => randomBytes(randomInt(1, 4 * KIB)),
      () => `GET /${'a'.repeat(randomInt(20 * KIB))} HTTP/1.1\r\n`,
      () => `GET /ws/chat/0 HTTP/1.1\r\n${UPGRADE.slice(0, randomInt(UPGRADE.length))}`,
      () => `POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: ${randomInt(2 * MIB)}\r\n\r\n{"text":"half`,
      () => `GET /ws/chat/%zz HTTP/1.1\r\n${UPGRADE}`,
      () => '',
    ][randomInt(6)]();
    const gone = cut(socket);
    if (text.length > 0) socket.write(text);
    if (randomInt(2) === 0) {
      await this.#pause(randomInt(500));
      socket.destroy();
    }
    await within(gone, 'the end of garbage');
  }

  /** Breaks the protocol once it is open, and is told so. */
  async violator() {
    const [sent, code] = [
      () => [frame(1, 'x', { length: 2 * MIB }), 1009],
      () => [frame(1, [0x61, 0xff, 0xfe]), 1007],
      () => [Buffer.from([0x81, 2, 0x68, 0x69]), 1002],
      () => [frame(3, 'x'), 1002],
      () => [frame(9, 'x'.repeat(126)), 1002],
      () => [frame(2, [0xff]), 1003],
      // Mostly an error, sometimes the beginning of a long message.
      () => [randomBytes(randomInt(1, 2 * KIB)), undefined],
    ][randomInt(7)]();
    const socket = await upgraded(this.app.port, `/ws/chat/violators-${randomInt(ROOMS)}`);
    this.connections += 1;
    const chunks = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    const gone = cut(socket);
    socket.write(sent);
    await within(gone, 'the end of a violator');
    if (code === undefined) return;
    const received = Buffer.concat(chunks);
    const at = received.indexOf(0x88);
    this.#expect(`close code for ${sent.subarray(0, 8).toString('hex')}`, at < 0 ? 'none' : received.readUInt16BE(at + 2), code);
  }

  /** Asks over HTTP and checks the answer. */
  async request() {
    const n = randomInt(1_000_000);
    const text = `${n}${'x'.repeat(randomInt(20 * KIB))}`;
    const [method, path, body, status, wanted] = [
      () => ['GET', `/hello/${n}`, '', 200, JSON.stringify({ n })],
      () => ['POST', '/echo', JSON.stringify({ text }), 200, JSON.stringify({ size: text.length, first: text[0] })],
      () => ['POST', '/echo', '{"text', 400, null],
      () => ['GET', `/later/${n}`, '', 200, `later ${n}`],
      () => ['GET', `/nowhere/${n}`, '', 404, null],
      () => ['GET', '/js/frond.js', '', 200, null],
    ][randomInt(6)]();
    const answer = await within(this.#ask(method, path, body), `${method} ${path}`);
    this.#expect(`status of ${method} ${path}`, answer.status, status);
    if (wanted !== null) this.#expect(`answer of ${method} ${path}`, answer.body, wanted);
    this.requests += 1;
  }

  /** Sends more than is taken: it is told so, or cut while it still writes. */
  async tooMuch() {
    const answer = this.#ask('POST', '/echo', 'x'.repeat(randomInt(MIB + 1, 3 * MIB)));
    const status = await within(answer.then((got) => got.status, (error) => error.code), 'the refusal');
    if (!['EPIPE', 'ECONNRESET'].includes(status)) this.#expect('status of too much', status, 413);
    await this.#pause(200);
  }

  /** Asks and does not wait for the answer. */
  async hangUp() {
    const request = http.get(`${this.app.url}/later/1`, { agent: false });
    request.on('error', () => {});
    await this.#pause(randomInt(15));
    request.destroy();
    this.requests += 1;
  }

  #ask(method, path, body) {
    // What is refused before it was read ends with its connection, so it has one of its own.
    const agent = body.length > MIB ? false : this.agent;
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const request = http.request(this.app.url + path, { method, headers, agent });
      request.once('error', reject);
      request.once('response', (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }));
      });
      request.end(body);
    });
  }

  /** Waits, but not beyond the end. */
  async #pause(milliseconds) {
    for (const end = Date.now() + milliseconds; this.running && Date.now() < end;) await sleep(Math.min(100, Math.max(1, end - Date.now())));
  }
}

function cut(socket) {
  return new Promise((resolve) => {
    socket.on('end', () => socket.destroy());
    socket.once('close', resolve);
  });
}

/** A promise that must not take long; if it does, the error says how `socket` stands. */
async function within(promise, what, socket = null) {
  let timer;
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => {
      const standing = socket === null ? '' : `: ${standingOf(socket)}`;
      reject(new Error(`${what} did not come within ${PATIENCE / 1_000} s${standing}`));
    }, PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Runs everything for so many seconds, after a warm-up, and expects the server to have what it had before.
 *
 * @param {object} options
 * @param {number} options.seconds
 * @param {number} options.warmUp Seconds
 * @param {number} [options.every=10] Seconds between two lines of progress
 * @param {boolean} [options.threads=false] Wait for the end of threads that read files: they have it ten seconds after the last
 * @param {(line: string) => void} [options.print]
 * @returns {Promise<{ wrong: string[], unexpected: string[], before: object, after: object, ended: object }>} What was answered
 * wrongly; lines of the log that nothing explains; the process after the warm-up and at the end, with `resident`; its exit
 */
async function soak({ seconds, warmUp, every = 10, threads = false, print = () => {} }) {
  const app = await forkServer(program, { config: CONFIG });
  const play = new Soak(app);
  const begun = Date.now();
  const clock = () => `${((Date.now() - begun) / 1_000).toFixed(0).padStart(4)} s`;
  const megabytes = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;

  const run = async (time) => {
    const acting = play.act();
    const end = Date.now() + time * 1_000;
    let [messages, requests, connections, at] = [play.messages, play.requests, play.connections, Date.now()];
    while (Date.now() < end && play.wrong.length === 0) {
      await sleep(Math.min(every * 1_000, Math.max(1, end - Date.now())));
      const { engine, files, handles, heap } = await app.measure();
      const passed = (Date.now() - at) / 1_000;
      const rate = (now, before) => ((now - before) / passed).toFixed(0);
      print(
        `${clock()}  ${engine.connections} connections (${rate(play.connections, connections)} new/s), ${rate(play.messages, messages)} messages/s, `
        + `${rate(play.requests, requests)} requests/s, RSS ${megabytes(app.resident())}, heap ${megabytes(heap)}, ${files} files, `
        + `${handles.length} handles, ${engine.sockets} sockets, ${engine.topics} topics, ${engine.slowConsumers} slow, wrong: ${play.wrong.length}`,
      );
      [messages, requests, connections, at] = [play.messages, play.requests, play.connections, Date.now()];
    }
    play.stop();
    await acting;
    endPeers();
    // What a loaded machine still has to do, and the sweep of the timers.
    await app.untilEmpty();
    await sleep(500);
    const measured = await app.measure();
    const resident = app.resident();
    print(`${clock()}  at rest: RSS ${megabytes(resident)}, heap ${megabytes(measured.heap)}, ${measured.files} files, ${measured.threads} threads, `
      + `handles ${measured.handles.join(' ')}, engine ${JSON.stringify(measured.engine)}`);
    return { ...measured, resident };
  };

  const fresh = await app.measure();
  const before = { ...await run(warmUp), files: fresh.files };
  const after = await run(seconds);
  if (threads) await app.until('the end of threads', (now) => now.threads <= fresh.threads);
  const health = await (await app.fetch('/health', { headers: { connection: 'close' } })).json();
  if (health.status !== 'ok') play.wrong.push(`/health: ${JSON.stringify(health)}`);
  const unexpected = app.output.split('\n').filter((line) => !EXPECTED_LINES.some((expected) => expected.test(line)));
  const ended = await app.close();
  return {
    wrong: play.wrong,
    unexpected: unexpected.slice(0, 20),
    before,
    after,
    ended,
    totals: { messages: play.messages, requests: play.requests, connections: play.connections },
  };
}

/**
 * What is expected of a soak. The tolerance for memory is what an allocator keeps, in bytes.
 *
 * @param {Awaited<ReturnType<typeof soak>>} result
 * @param {{ heap: number, resident: number }} tolerance
 */
function expectNothingLeft({ wrong, unexpected, before, after, ended }, tolerance) {
  expect(wrong).toEqual([]);
  expect(unexpected).toEqual([]);
  expect(after.files).toBe(before.files);
  expect(after.handles).toEqual(before.handles);
  expect(after.heap - before.heap).toBeLessThan(tolerance.heap);
  expect(after.resident - before.resident).toBeLessThan(tolerance.resident);
  expect(ended).toEqual({ code: 0, signal: null });
}

module.exports = { expectNothingLeft, soak };
