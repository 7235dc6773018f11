'use strict';

const { EventEmitter } = require('node:events');
const os = require('node:os');
const { Supervisor } = require('./supervisor');
const { Worker } = require('./worker');

/**
 * Keeps several processes serving on one port, with the methods and the events of a {@link Supervisor}, except that nothing is said
 * when one crashes: it is started again.
 *
 * A launch replaces all of them. The first one goes ahead alone, so that what is wrong with the app is said once. When none served, the
 * others start together after it, as many at a time as there are cores; else one by one, so that the app is served all the while. The
 * first that fails ends the launch, and those not reached yet stay as they are.
 */
class Pool extends EventEmitter {
  #workers;
  #launch = null;
  #complete = false;
  #stopping = false;

  /**
   * @param {number} count
   * @param {string} file What each process runs
   * @param {string} directory Where it runs
   * @param {import('../log').Log} log
   */
  constructor(count, file, directory, log) {
    super();
    this.#workers = Array.from({ length: count }, (_, index) => new Worker(index + 1, new Supervisor(file, directory), log));
  }

  /** Whether one of the workers serves. */
  get serving() {
    return this.#workers.some((worker) => worker.serving);
  }

  /**
   * Puts a fresh process in the place of each worker. A launch that is still going on is given up.
   *
   * @param {import('./supervisor').Order} order
   */
  async launch(order) {
    if (this.#stopping) return;
    const together = this.serving ? 1 : os.availableParallelism();
    const launch = { waiting: [...this.#workers], where: null };
    this.#launch = launch;
    const variables = { ...order.variables };
    variables.TINA4_WORKERS = String(this.#workers.length);
    for (const worker of this.#workers) worker.order = { ...order, variables };

    await this.#startNext(launch);
    await Promise.all(Array.from({ length: together }, () => this.#startAll(launch)));
    if (this.#launch !== launch) return;
    this.#launch = null;
    this.#complete = true;
    this.emit('ready', launch.where);
  }

  async #startAll(launch) {
    while (this.#launch === launch && launch.waiting.length > 0) await this.#startNext(launch);
  }

  async #startNext(launch) {
    const worker = launch.waiting.shift();
    const outcome = await worker.start();
    if (this.#launch !== launch) return;
    if (outcome.type === 'ready') {
      launch.where ??= outcome.where;
      return;
    }
    this.#launch = null;
    if (outcome.type === 'address') this.emit('address', outcome.where);
    else this.emit('failed', outcome.why);
    if (this.#complete && this.#launch === null) this.#reviveTheDead();
  }

  /** A process may have died while a launch that failed was starting another one for it. */
  #reviveTheDead() {
    for (const worker of this.#workers) if (worker.vacant) worker.revive();
  }

  /**
   * Ends all workers, passing the signal on.
   *
   * @param {NodeJS.Signals} signal
   * @returns {Promise<{ status: number | null, signal: string | null }>} How the first ended that did not end well; status 0 if all did
   */
  async stop(signal) {
    this.#stopping = true;
    const ends = await Promise.all(this.#workers.map((worker) => worker.stop(signal)));
    return ends.find(({ status }) => status !== 0) ?? { status: 0, signal: null };
  }

  /** Kills every process. */
  kill() {
    this.#stopping = true;
    for (const worker of this.#workers) worker.kill();
  }
}

module.exports = { Pool };
