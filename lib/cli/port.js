'use strict';

const fs = require('node:fs');
const native = require('../native');
const { UsageError } = require('./environment');

/** No address is this one, so a child that is offered it says where it wants to listen. */
const NO_LISTENER = { fd: 'ignore', host: null, port: null };

/** The listening socket that a supervisor holds for its children: they come and go, the port stays. */
class Port {
  #held = null;

  /** @returns {{ fd: number | 'ignore', host: string | null, port: number | null }} With host and port as they were asked for */
  get listener() {
    return this.#held ?? NO_LISTENER;
  }

  /**
   * Binds an address, and lets go of the one before. The same address again changes nothing.
   *
   * @param {{ host: string, port: number }} address
   * @throws {UsageError} When it cannot be had; the one before is kept
   */
  hold({ host, port }) {
    if (this.#held?.host === host && this.#held.port === port) return;
    let bound;
    try {
      bound = native.bindListener(host, port);
    } catch (error) {
      throw new UsageError(listenProblem(error, host, port));
    }
    if (this.#held) fs.closeSync(this.#held.fd);
    this.#held = { fd: bound.fd, host, port };
  }
}

function listenProblem({ code, message }, host, port) {
  const sentences = {
    EADDRINUSE: `Port ${port} on ${host} is already in use: stop what uses it, or choose another with --port or TINA4_PORT.`,
    EACCES: `This user may not listen on port ${port} of ${host}: choose one from 1024 up with --port or TINA4_PORT.`,
    EADDRNOTAVAIL: `This machine has no address ${host}: choose another with --host or TINA4_HOST.`,
  };
  return sentences[code] ?? `Cannot listen on ${host}, port ${port}: ${message}`;
}

module.exports = { Port };
