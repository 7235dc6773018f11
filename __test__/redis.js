'use strict';

const { Bus, BusClient } = require('./bus.js');

/** A `redis-server` that keeps nothing on disk. */
class Redis extends Bus {
  commandLine() {
    const password = this.password === undefined ? [] : ['--requirepass', this.password];
    return ['redis-server', '--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.folder, ...password];
  }

  urlFor(password) {
    return `redis://${password === undefined ? '' : `:${password}@`}127.0.0.1:${this.port}`;
  }

  async connect() {
    const client = new RedisClient(await BusClient.open(this.port));
    if (this.password !== undefined) await client.command('AUTH', this.password);
    await client.command('PING');
    return client;
  }
}

/** The few commands that a publisher and a subscriber need, in RESP2. */
class RedisClient extends BusClient {
  /** @param {...(string|Buffer)} words */
  command(...words) {
    const parts = words.map((word) => Buffer.from(word)).flatMap((word) => [`$${word.length}\r\n`, word, '\r\n']);
    return this.ask(`*${words.length}\r\n`, ...parts);
  }

  publish(channel, payload) {
    return this.command('PUBLISH', channel, payload);
  }

  subscribe(channel) {
    return this.command('SUBSCRIBE', channel);
  }

  /** Handles all complete answers and returns how many bytes they had. */
  read(bytes) {
    let at = 0;
    for (;;) {
      const found = parse(bytes, at);
      if (found === null) return at;
      at = found.end;
      const { value } = found;
      if (Array.isArray(value) && String(value[0]) === 'message') this.arrived(value[2]);
      else this.answered(value);
    }
  }
}

/** One RESP2 value from a position on; null while it is incomplete. */
function parse(bytes, start) {
  const lineEnd = bytes.indexOf('\r\n', start);
  if (lineEnd < 0) return null;
  const text = bytes.toString('latin1', start + 1, lineEnd);
  const end = lineEnd + 2;
  switch (String.fromCharCode(bytes[start])) {
    case '+': return { value: text, end };
    case '-': return { value: new Error(text), end };
    case ':': return { value: Number(text), end };
    case '$': {
      const length = Number(text);
      if (length < 0) return { value: null, end };
      return bytes.length < end + length + 2 ? null : { value: bytes.subarray(end, end + length), end: end + length + 2 };
    }
    case '*': {
      const value = [];
      let at = end;
      for (let left = Number(text); left > 0; left -= 1) {
        const found = parse(bytes, at);
        if (found === null) return null;
        value.push(found.value);
        at = found.end;
      }
      return { value, end: at };
    }
    default: throw new Error(`no RESP2: ${bytes.toString('latin1', start, start + 40)}`);
  }
}

module.exports = { Redis };
