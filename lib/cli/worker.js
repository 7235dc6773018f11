'use strict';

const { Pause } = require('./pause');

/**
 * How a start went: `ready` when the fresh process serves, `failed` when it does not (`why` is a sentence, or null when the process has
 * said it itself), `address` when it wants to listen elsewhere.
 *
 * @typedef {{ type: 'ready' | 'address', where: { host: string, port: number } } | { type: 'failed', why: string | null }} Outcome
 */

/**
 * One place among the workers of an app. The process in it is replaced when it dies: at once, or after a pause when it keeps dying
 * soon after its start.
 */
class Worker {
  #number;
  #supervisor;
  #log;
  #order = null;
  #settle = null;
  #servingSince = 0;
  #pause = new Pause();
  #timer = null;

  /**
   * @param {number} number From 1; the app's code finds it in `TINA4_WORKER`
   * @param {import('./supervisor').Supervisor} supervisor
   * @param {import('../log').Log} log Told about each death
   */
  constructor(number, supervisor, log) {
    this.#number = number;
    this.#supervisor = supervisor;
    this.#log = log;
    supervisor
      .on('ready', (where) => {
        this.#servingSince = performance.now();
        this.#settle({ type: 'ready', where });
      })
      .on('failed', (why) => this.#settle({ type: 'failed', why }))
      .on('address', (where) => this.#settle({ type: 'address', where }))
      .on('crashed', (how) => this.#died(how));
  }

  /** Whether its process serves. */
  get serving() {
    return this.#supervisor.serving;
  }

  /** Whether its process is gone and no other one is coming. */
  get vacant() {
    return !this.serving && this.#settle === null && this.#timer === null;
  }

  /**
   * What every later start uses, those after a death too.
   *
   * @param {import('./supervisor').Order} order
   */
  set order(order) {
    const variables = { ...order.variables };
    variables.TINA4_WORKER = String(this.#number);
    this.#order = { ...order, variables };
  }

  /**
   * Starts a fresh process. It takes the place of the one that serves, if there is one.
   *
   * @returns {Promise<Outcome>} Never settles when another start comes before it has an outcome
   */
  start() {
    clearTimeout(this.#timer);
    this.#timer = null;
    return new Promise((resolve) => {
      this.#settle = (outcome) => {
        this.#settle = null;
        resolve(outcome);
      };
      this.#supervisor.launch(this.#order);
    });
  }

  #died(how) {
    const what = `Worker ${this.#number} ended by itself (${how})`;
    // One that was to replace it is loading already.
    if (this.#settle) this.#log.warning(`${what}.`);
    else this.#revive(what, performance.now() - this.#servingSince);
  }

  /** Starts a process where none could be started, until one serves. */
  revive() {
    this.#revive(`Worker ${this.#number} could not be started`, 0);
  }

  #revive(what, served) {
    const pause = this.#pause.after(served);
    this.#log.warning(pause === 0 ? `${what}; another one starts.` : `${what}; another one starts in ${pause / 1000} s.`);
    this.#timer = setTimeout(async () => {
      const outcome = await this.start();
      if (outcome.type === 'ready') return;
      if (outcome.why) this.#log.error(outcome.why);
      const why = outcome.type === 'address' ? 'wants to listen elsewhere than the others' : 'could not be started';
      this.#revive(`Worker ${this.#number} ${why}`, 0);
    }, pause);
  }

  /**
   * @param {NodeJS.Signals} signal
   * @returns {Promise<{ status: number | null, signal: string | null }>} How its process ended
   */
  stop(signal) {
    clearTimeout(this.#timer);
    return this.#supervisor.stop(signal);
  }

  kill() {
    clearTimeout(this.#timer);
    this.#supervisor.kill();
  }
}

module.exports = { Worker };
