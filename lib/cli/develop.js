'use strict';

const fs = require('node:fs');
const path = require('node:path');
const chokidar = require('chokidar');
const native = require('../native');
const { UsageError, address, environmentFile, fromOptions, settings } = require('./environment');
const { SIGNAL_STATUS, onSignals } = require('./lifetime');
const { ENTRIES } = require('./project');
const { banner, describeStartError, startsItself } = require('./serve');
const { Supervisor } = require('./supervisor');

/** Changes that follow each other within this time, in milliseconds, cause one restart. */
const DEBOUNCE = 100;

/** No address is this one, so a child that is offered it says where it wants to listen. */
const NO_LISTENER = { fd: 'ignore', host: null, port: null };

/** Folders whose files are read when they are asked for. */
const READ_LIVE = [path.join('src', 'public'), path.join('src', 'templates')];

/**
 * Serves an app in a child process, and in a fresh one whenever its code or its settings change, until a signal.
 *
 * @param {string} directory The app's folder
 * @param {object} options The options of `tina4 serve`
 * @throws {Error} When the port cannot be had
 */
async function superviseApp(directory, options) {
  const app = new DevelopedApp(directory, options);
  app.start();
}

class DevelopedApp {
  #directory;
  #options;
  #supervisor;
  #listener = null;
  /** Where the app's code wants to listen, when that is not where the settings say. */
  #chosen = null;
  #movedSinceChange = false;
  #shown = null;
  #changed = null;

  constructor(directory, options) {
    this.#directory = directory;
    this.#options = options;
    this.#supervisor = new Supervisor(path.join(__dirname, 'child.js'), directory);
  }

  start() {
    try {
      this.#listen(this.#wanted());
    } catch (error) {
      // An app that starts its own server may have chosen another port. Its child asks for that one.
      if (!startsItself(this.#directory)) throw error;
    }
    this.#supervisor
      .on('ready', (where) => this.#ready(where))
      .on('failed', (why) => this.#failed(why))
      .on('crashed', (how) => console.error(`The app ended by itself (${how}). Waiting for a change.`))
      .on('address', (where) => this.#move(where));
    onSignals(
      (signal) => this.#stop(signal),
      (signal, status) => {
        this.#supervisor.kill();
        process.exit(status);
      },
    );
    this.#watch();
    if (this.#listener) this.#launch();
    else this.#supervisor.launch(NO_LISTENER, this.#variables());
  }

  #variables() {
    return { NODE_ENV: process.env.NODE_ENV || 'development', ...fromOptions(this.#options) };
  }

  /** Where to listen. Read anew for every launch, because `.env` may have changed. */
  #wanted() {
    return this.#chosen ?? address(settings(this.#directory, this.#options));
  }

  #listen({ host, port }) {
    if (this.#listener?.host === host && this.#listener.port === port) return;
    let bound;
    try {
      bound = native.bindListener(host, port);
    } catch (error) {
      throw new UsageError(listenProblem(error, host, port));
    }
    if (this.#listener) fs.closeSync(this.#listener.fd);
    this.#listener = { fd: bound.fd, host, port };
  }

  #launch() {
    try {
      this.#listen(this.#wanted());
    } catch (error) {
      const why = describeStartError(error);
      if (this.#shown !== null) return this.#failed(why);
      console.error(why);
      process.exit(1);
    }
    this.#supervisor.launch(this.#listener, this.#variables());
  }

  #move(where) {
    if (this.#movedSinceChange) {
      this.#failed('The app asks for another port or host each time it starts, so it cannot be reloaded: use --no-reload.');
      return;
    }
    this.#movedSinceChange = true;
    this.#chosen = where;
    this.#launch();
  }

  #ready(where) {
    const text = banner(where);
    // A reload is one line, unless the address is another one.
    if (text !== this.#shown) console.log(text);
    else console.log(`  Reloaded after a change in ${this.#changed}`);
    this.#shown = text;
  }

  #failed(why) {
    if (why) console.error(why);
    const then = this.#supervisor.serving ? 'The version before the change keeps serving.' : 'Waiting for a change.';
    console.error(then);
  }

  #watch() {
    const watched = new Set([...ENTRIES.map((name) => path.join(this.#directory, name)), environmentFile(this.#directory)]);
    const source = path.join(this.#directory, 'src');
    // Watching the app's folder, and ignoring most of it, also sees files that do not exist yet.
    const ignored = (file) => {
      if (file === this.#directory || file === source || watched.has(file)) return false;
      const relative = path.relative(this.#directory, file);
      return !isInside(relative, 'src') || READ_LIVE.some((folder) => isInside(relative, folder)) || isScratch(file);
    };
    const folders = [this.#directory];
    const elsewhere = environmentFile(this.#directory);
    if (path.dirname(elsewhere) !== this.#directory) folders.push(elsewhere);
    let timer;
    chokidar
      .watch(folders, { ignored, ignoreInitial: true })
      .on('all', (event, file) => {
        if (event === 'addDir') return;
        this.#changed = path.relative(this.#directory, file);
        clearTimeout(timer);
        this.#movedSinceChange = false;
        timer = setTimeout(() => this.#launch(), DEBOUNCE);
      })
      .on('error', (error) => {
        console.error(`Changes cannot be watched (${error.message}): restart tina4 serve to see them.`);
      });
  }

  async #stop(signal) {
    const ended = await this.#supervisor.stop(signal);
    process.exit(ended.status ?? SIGNAL_STATUS[ended.signal] ?? 1);
  }
}

function isInside(relative, folder) {
  return relative === folder || relative.startsWith(folder + path.sep);
}

function listenProblem({ code, message }, host, port) {
  const sentences = {
    EADDRINUSE: `Port ${port} on ${host} is already in use: stop what uses it, or choose another with --port or TINA4_PORT.`,
    EACCES: `This user may not listen on port ${port} of ${host}: choose one from 1024 up with --port or TINA4_PORT.`,
    EADDRNOTAVAIL: `This machine has no address ${host}: choose another with --host or TINA4_HOST.`,
  };
  return sentences[code] ?? `Cannot listen on ${host}, port ${port}: ${message}`;
}

/** What editors put beside the file that is being edited. */
function isScratch(file) {
  const name = path.basename(file);
  return name.startsWith('.') || name.endsWith('~') || name.endsWith('.swp') || name === 'node_modules';
}

module.exports = { superviseApp };
