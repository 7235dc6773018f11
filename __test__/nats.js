'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { Bus, BusClient } = require('./bus.js');

/** Large enough that what is too large for us is not too large for the server. */
const MAX_PAYLOAD = 32 * 1024 * 1024;
const USER = 'tina';

/** A `nats-server`. */
class Nats extends Bus {
  commandLine() {
    const file = path.join(this.folder, 'nats.conf');
    fs.writeFileSync(file, `max_payload: ${MAX_PAYLOAD}\n`);
    const password = this.password === undefined ? [] : ['--user', USER, '--pass', this.password];
    return ['nats-server', '--addr', '127.0.0.1', '--port', String(this.port), '--config', file, ...password];
  }

  urlFor(password) {
    return `nats://${password === undefined ? '' : `${USER}:${password}@`}127.0.0.1:${this.port}`;
  }

  async connect() {
    const client = new NatsClient(await BusClient.open(this.port));
    await client.begin({ verbose: false, pedantic: false, ...(this.password === undefined ? {} : { user: USER, pass: this.password }) });
    return client;
  }
}

/** The text protocol, as far as a publisher and a subscriber need it. A PING after each command says when it is done. */
class NatsClient extends BusClient {
  begin(options) {
    return this.ask(`CONNECT ${JSON.stringify(options)}\r\nPING\r\n`);
  }

  publish(channel, payload) {
    const bytes = Buffer.from(payload);
    return this.ask(`PUB ${channel} ${bytes.length}\r\n`, bytes, '\r\nPING\r\n');
  }

  subscribe(channel) {
    return this.ask(`SUB ${channel} 1\r\nPING\r\n`);
  }

  /** Handles all complete lines and messages, and returns how many bytes they had. */
  read(bytes) {
    for (let at = 0; ;) {
      const lineEnd = bytes.indexOf('\r\n', at);
      if (lineEnd < 0) return at;
      const [word, ...rest] = bytes.toString('latin1', at, lineEnd).split(' ');
      let end = lineEnd + 2;
      if (word === 'MSG') {
        const length = Number(rest.at(-1));
        if (bytes.length < end + length + 2) return at;
        this.arrived(bytes.subarray(end, end + length));
        end += length + 2;
      } else if (word === 'PING') {
        this.socket.write('PONG\r\n');
      } else if (word === 'PONG') {
        this.answered('PONG');
      } else if (word === '-ERR') {
        this.answered(new Error(rest.join(' ')));
      }
      at = end;
    }
  }
}

module.exports = { Nats };
