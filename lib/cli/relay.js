'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const native = require('../native');
const { UsageError } = require('./environment');

/** The backplane between the workers of one `tina4 serve`: a Unix socket in a folder that only this user can enter. */
class WorkerRelay {
  #folder;
  #native;

  /** @throws {UsageError} When there can be none */
  constructor() {
    try {
      this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tina4-workers-'));
      this.#native = new native.Relay(this.path);
    } catch (error) {
      this.close();
      throw new UsageError(`The workers cannot be connected to each other: ${error.message}`);
    }
  }

  /** @type {string} Where the workers connect */
  get path() {
    return path.join(this.#folder, 'relay');
  }

  /** Cuts the workers off and removes the folder. */
  close() {
    this.#native?.close();
    if (this.#folder) fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

module.exports = { WorkerRelay };
