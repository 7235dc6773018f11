'use strict';

// nginx of the tests' own: on a free port, with all its files in a temporary folder.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { until } = require('../served');

const CANDIDATES = ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/bin/nginx'];

const executablePath = CANDIDATES.find((file) => fs.existsSync(file));

/** Where it may write, which a distribution's own build puts into folders of the system. */
const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

/** A reverse proxy; `log` has a line for each request that ended: status, path and the address it was passed to. */
class Nginx {
  #child;
  #output = '';

  /** @param {(port: number) => string} site What stands in the `http` block, for the port it is to listen on */
  static async start(site) {
    const nginx = new Nginx();
    nginx.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-nginx-'));
    nginx.port = await freePort();
    nginx.origin = `http://127.0.0.1:${nginx.port}`;
    fs.writeFileSync(path.join(nginx.folder, 'site.conf'), site(nginx.port));
    fs.writeFileSync(path.join(nginx.folder, 'nginx.conf'), `
      daemon off;
      pid nginx.pid;
      error_log stderr warn;
      worker_processes 1;
      events {}
      http {
        ${TEMPORARY.map((name) => `${name}_temp_path ${nginx.folder}/${name};`).join('\n')}
        log_format upstreams '$status $uri $upstream_addr';
        access_log ${nginx.folder}/access.log upstreams;
        include site.conf;
      }
    `);
    await nginx.#run();
    return nginx;
  }

  async #run() {
    this.#child = spawn(executablePath, ['-p', this.folder, '-c', path.join(this.folder, 'nginx.conf'), '-e', 'stderr'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.#output += text; });
    }
    await until(() => {
      if (this.#child.exitCode !== null) throw new Error(`nginx ended with ${this.#child.exitCode}:\n${this.#output}`);
      return answers(this.port);
    }, () => `nginx, which said:\n${this.#output}`);
  }

  get log() {
    return fs.readFileSync(path.join(this.folder, 'access.log'), 'utf8').split('\n').filter((line) => line !== '');
  }

  async end() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      // Its worker ends with it.
      this.#child.kill('SIGTERM');
      await once(this.#child, 'exit');
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false)).once('connect', () => socket.destroy());
  });
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

module.exports = { Nginx, executablePath };
