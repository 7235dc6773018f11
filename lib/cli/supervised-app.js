'use strict';

const { EventEmitter } = require('node:events');
const path = require('node:path');
const { address, fromOptions, settings, shutdownTimeout } = require('./environment');
const { SIGNAL_STATUS, onSignals } = require('./lifetime');
const { Pool } = require('./pool');
const { Port } = require('./port');
const { WorkerRelay } = require('./relay');
const { banner, describeStartError, startsItself } = require('./serve');
const { Supervisor } = require('./supervisor');
const { createLog } = require('../log');
const { isDevelopment } = require('../settings');

const CHILD = path.join(__dirname, 'child.js');

/**
 * An app served by one or more child processes, and by fresh ones whenever that is asked for, on a port that is held all the while.
 *
 * It prints the banner when the app is served, ends this process at a signal, and leaves it to its owner when to start afresh and what a
 * failure means.
 *
 * Events: `started` when the app is served, `replaced(elsewhere)` when fresh processes have taken over (`elsewhere`: at another address,
 * which has been printed), `failed(why)` when they could not (`why` is a sentence, or null when it has been said already),
 * `crashed(how)` when the only process ended by itself.
 */
class SupervisedApp extends EventEmitter {
  #directory;
  #options;
  #workers;
  #supervisor;
  #port = new Port();
  #relay = null;
  /** Where the app's code wants to listen, when that is not where the settings say. */
  #chosen = null;
  #moved = false;
  #shown = null;

  /**
   * @param {string} directory The app's folder
   * @param {object} options The options of `tina4 serve`
   * @param {number} workers How many processes serve it
   */
  constructor(directory, options, workers) {
    super();
    this.#directory = directory;
    this.#options = options;
    this.#workers = workers;
    const { TINA4_LOG_LEVEL: level, TINA4_LOG_FORMAT: format } = settings(directory, options);
    /** For what happens while the app is served. */
    this.log = createLog({ level: level?.trim().toUpperCase(), format });
    this.#supervisor = workers === 1 ? new Supervisor(CHILD, directory) : new Pool(workers, CHILD, directory, this.log);
  }

  /** Whether a process serves the app. */
  get serving() {
    return this.#supervisor.serving;
  }

  /** @throws {Error} When the port cannot be had */
  start() {
    const variables = this.#settings();
    try {
      this.#port.hold(address(variables));
    } catch (error) {
      // An app that starts its own server may have chosen another port. Its child asks for that one.
      if (!startsItself(this.#directory)) throw error;
    }
    this.#supervisor
      .on('ready', (where) => this.#ready(where))
      .on('failed', (why) => this.emit('failed', why))
      .on('crashed', (how) => this.emit('crashed', how))
      .on('address', (where) => this.#move(where));
    onSignals(
      (signal) => this.#stop(signal),
      (signal, status) => {
        this.#supervisor.kill();
        process.exit(status);
      },
    );
    this.#supervisor.launch(this.#order(variables));
  }

  /** Starts fresh processes, from the code and the settings as they are now. */
  replace() {
    this.#moved = false;
    this.#launch();
  }

  /**
   * Ends the app and this process.
   *
   * @param {number} status The exit code
   */
  async quit(status) {
    await this.#supervisor.stop('SIGTERM');
    process.exit(status);
  }

  #settings() {
    return settings(this.#directory, this.#options);
  }

  #launch() {
    try {
      const variables = this.#settings();
      this.#port.hold(this.#chosen ?? address(variables));
      this.#supervisor.launch(this.#order(variables));
    } catch (error) {
      const why = describeStartError(error);
      if (this.#shown !== null) return this.emit('failed', why);
      console.error(why);
      process.exit(1);
    }
  }

  /** What the processes are started with. Made anew for every launch, because `.env` may have changed. */
  #order(settings) {
    const variables = fromOptions(this.#options);
    variables.NODE_ENV = settings.NODE_ENV || (isDevelopment(settings) ? 'development' : 'production');
    const order = { listener: this.#port.listener, variables, shutdownTimeout: shutdownTimeout(settings) };
    if (this.#workers > 1) {
      // The other workers are what keeps the other cores busy.
      if (!settings.TINA4_IO_THREADS?.trim()) variables.TINA4_IO_THREADS = '1';
      if (!settings.TINA4_WS_BACKPLANE?.trim()) order.relay = this.#connection();
    }
    return order;
  }

  /** Where the workers connect to each other. */
  #connection() {
    if (this.#relay === null) {
      this.#relay = new WorkerRelay();
      process.once('exit', () => this.#relay.close());
    }
    return this.#relay.path;
  }

  #move(where) {
    if (this.#moved) {
      const so = this.#workers === 1 ? 'it cannot be reloaded: use --no-reload' : 'its workers cannot share one';
      this.emit('failed', `The app asks for another port or host each time it starts, so ${so}.`);
      return;
    }
    this.#moved = true;
    this.#chosen = where;
    this.#launch();
  }

  #ready(where) {
    const text = banner(where, this.#workers);
    const before = this.#shown;
    this.#shown = text;
    if (text !== before) console.log(text);
    if (before === null) this.emit('started');
    else this.emit('replaced', text !== before);
  }

  async #stop(signal) {
    const ended = await this.#supervisor.stop(signal);
    process.exit(ended.status ?? SIGNAL_STATUS[ended.signal] ?? 1);
  }
}

module.exports = { SupervisedApp };
