'use strict';

const fs = require('node:fs');
const path = require('node:path');

const { Arrived } = require('./arrived.js');
const { Backplane, busName } = require('./backplane.js');
const { checkClose, describe, isRecord, onlyKeys } = require('./check.js');
const { inheritedListener, inheritedRelay } = require('./cli/inherit.js');
const { address, readEnvironment } = require('./cli/environment.js');
const { Commits } = require('./commits.js');
const { Dispatch } = require('./dispatch.js');
const { createLog } = require('./log.js');
const native = require('./native.js');
const { Router, countArguments } = require('./router.js');
const { checkConfig, isDevelopment, readSettings } = require('./settings.js');
const { LONGEST_TIMER } = require('./timers.js');
const { useSecret } = require('./token.js');
const { Watch } = require('./watch.js');

const PACKAGE_DIRECTORY = path.join(__dirname, '..');
const { version: VERSION } = require('../package.json');

const ROUTES_DIRECTORY = 'src/routes';
/** Milliseconds that the engine's own end may take beyond the shutdown timeout. */
const STOP_SLACK = 500;
/** Milliseconds for the last messages to other processes, also when the shutdown timeout has passed. */
const FINISH_SLACK = 200;

/**
 * The servers of this thread from the call of `startServer` to the end of `close()`; `server.started` says when one listens.
 *
 * @type {Set<Server>}
 */
const runningServers = new Set();

/**
 * A running server: HTTP and WebSocket routes on one port.
 */
class Server {
  #config;
  #engine = null;
  #calls = null;
  #backplane = null;
  #dispatch = null;
  /** What everything that acts for this server shares: engine, calls, commits, arrived, log, backplane. */
  #parts = null;
  #log = null;
  #releaseSecret = () => {};
  #settings = null;
  #directory;
  #host = '';
  #port = 0;
  #closing = null;
  #stopped;
  #hasStopped;

  /**
   * @param {object} config As given to {@link startServer}, checked
   * @private
   */
  constructor(config) {
    this.#config = config;
    this.#directory = path.resolve(config.directory ?? process.cwd());
    /** The router it serves, as it was given. */
    this.router = config.router ?? Router;
    this.#stopped = new Promise((resolve) => {
      this.#hasStopped = resolve;
    });
    /**
     * Resolves with this server once it accepts connections.
     *
     * @type {Promise<Server>}
     */
    this.started = this.#start();
  }

  /** @type {string} The address it listens on */
  get host() {
    return this.#host;
  }

  /** @type {number} The port it listens on: the real one where 0 was asked for */
  get port() {
    return this.#port;
  }

  /** @type {string} Where a program on this machine reaches it, for example `"http://localhost:7148"` */
  get url() {
    const host = this.#host === '0.0.0.0' || this.#host === '::' ? 'localhost' : this.#host;
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.#port}`;
  }

  /** @type {Backplane} What carries messages between this server and those of other processes; its `state` says whether it does */
  get backplane() {
    return this.#backplane;
  }

  /**
   * How many connections there are on one concrete path.
   *
   * @param {string} path A concrete path such as `"/ws/chat/general"`, not a pattern
   * @param {object} [options]
   * @param {boolean} [options.cluster=false] Count in every process that the backplane reaches
   * @returns {number|Promise<number>} Those of this server. With `cluster` a promise, which never rejects: the sum over all
   *   servers that answer within a second. Without a backplane it is the same number; after the close it is 0
   * @throws {TypeError} at once, if the path does not begin with `/` or has a bad escape, or the options are not accepted
   */
  connectionCount(path, options) {
    const { canonical, cluster } = countArguments('server.connectionCount', path, options);
    return cluster ? this.#backplane.count(canonical) : this.#backplane.countHere(canonical);
  }

  /**
   * Stops accepting, answers the requests under way, closes every socket and runs the close handlers.
   *
   * @param {object} [options]
   * @param {number} [options.code=1001] Close code for the WebSocket peers; 1012 asks them to come back soon
   * @param {string} [options.reason="server is shutting down"] At most 123 bytes of UTF-8
   * @returns {Promise<void>} Resolves when everything is done, or when `TINA4_SHUTDOWN_TIMEOUT` has passed. A second call gives
   *   the same promise, whatever its options
   * @throws {TypeError|RangeError} at once, for options that are not accepted
   */
  close(options = {}) {
    if (!isRecord(options)) throw new TypeError(`server.close takes an object with code and reason, not ${describe(options)}.`);
    onlyKeys(options, ['code', 'reason'], 'server.close');
    const { code = 1001, reason = 'server is shutting down' } = options;
    checkClose(code, reason, 'server.close');
    return (this.#closing ??= this.#close(code, reason));
  }

  async #start() {
    try {
      await this.#listen();
      return this;
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  async #listen() {
    const config = this.#config;
    loadEnvironment(this.#directory);
    this.#settings = readSettings(config, process.env);
    const development = isDevelopment(process.env);
    const relay = relayFor(this.#settings);
    const engine = this.#createEngine(development, relay);
    this.#engine = engine;
    const { config: effective } = engine;
    this.#log = createLog({ level: effective.logLevel, format: effective.logFormat, logger: config.logger });
    this.#backplane = new Backplane(engine, this.#log, busName(this.#settings, relay));
    if (typeof config.secret === 'string' && config.secret !== '') this.#releaseSecret = useSecret(config.secret);

    this.#calls = engine.calls;
    const calls = this.#calls;
    const host = { engine, calls, commits: new Commits(calls), arrived: new Arrived(), log: this.#log, backplane: this.#backplane };
    const router = routerOf(config.router);
    this.#dispatch = new Dispatch(host, {
      router,
      closeGrace: effective.wsCloseGrace,
      watch: new Watch(this.#log, effective.handlerTimeout),
      showErrors: development || effective.debug,
      development,
      onStopped: this.#hasStopped,
    });
    this.#parts = host;
    router.attach(host);
    await this.#loadRoutes(router);
    if (this.#closing !== null) throw new Error('The server was closed before it had started.');

    if (!development && effective.wsAllowedOrigins.length === 0 && router.getRoutes().some(({ method }) => method === 'WEBSOCKET')) {
      this.#log.info('Pages of every origin may open WebSockets; TINA4_WS_ALLOWED_ORIGINS limits them.');
    }
    this.#bind(effective.host, effective.port);
    this.#backplane.started();
  }

  #createEngine(development, relay) {
    const { templatesDir, staticDir } = this.#config;
    const folders = { directory: this.#directory, packageDirectory: PACKAGE_DIRECTORY, development, version: VERSION };
    if (templatesDir !== undefined) folders.templates = path.resolve(this.#directory, templatesDir);
    if (staticDir !== undefined) folders.public = path.resolve(this.#directory, staticDir);
    if (relay !== undefined) folders.relay = relay;
    try {
      return new native.Engine(this.#settings, folders, () => this.#dispatch?.ring());
    } catch (error) {
      throw new Error(`${error.message}.`, { cause: error });
    }
  }

  async #loadRoutes(router) {
    const { routesDir } = this.#config;
    // Route files register on the default router: for another they would load without any effect.
    if (routesDir === false || (routesDir === undefined && router !== Router.default)) return;
    const directory = path.resolve(this.#directory, routesDir ?? ROUTES_DIRECTORY);
    if (!fs.existsSync(directory)) {
      if (routesDir === undefined) return;
      throw new Error(`startServer: routesDir names ${directory}, but there is no such folder.`);
    }
    const { loadRoutes } = require('./cli/load-routes.js');
    await loadRoutes(directory, {
      error: (text) => {
        const [first, ...rest] = text.split('\n');
        this.#log.error(first, rest.length === 0 ? undefined : rest.join('\n'));
      },
    });
  }

  #bind(host, port) {
    const fd = inheritedListener(host, port);
    try {
      const address = fd === undefined ? this.#engine.listen() : this.#engine.listen(fd);
      this.#host = address.host;
      this.#port = address.port;
    } catch (error) {
      throw listenError(error, host, port);
    }
  }

  async #close(code, reason) {
    try {
      await this.started;
    } catch {
      return;
    }
    const timeout = this.#engine.config.shutdownTimeout;
    const deadline = performance.now() + timeout;
    this.#engine.shutdown(code, reason);
    this.#calls.commit();
    await within(timeout + STOP_SLACK, this.#stopped);
    // The engine is done with the sockets; close handlers may still be pending.
    await within(deadline - performance.now(), new Promise((resolve) => this.#dispatch.whenIdle(resolve)));
    // What the close handlers sent is published before the engine ends; one that is still pending has had its time.
    this.#calls.commit();
    await within(Math.max(FINISH_SLACK, deadline - performance.now()), this.#backplane.finish());
    const left = this.#dispatch.size;
    if (left > 0) {
      const connections = left === 1 ? '1 connection' : `${left} connections`;
      this.#log.warning(`The shutdown timeout of ${timeout / 1000} s has passed; ${connections} had not finished closing.`);
    }
    this.#end();
  }

  #end() {
    routerOf(this.#config.router).detach(this.#parts);
    this.#releaseSecret();
    this.#dispatch?.stop();
    this.#backplane?.end();
    this.#engine?.terminate();
    runningServers.delete(this);
  }
}

/**
 * Starts a server for the routes of a router, on one port.
 *
 * It reads `.env` of the app's folder (variables that are set already win), imports the route files below `routesDir`, and
 * listens. A route file that fails is logged with its line, and the rest is served. Several servers can run in one process,
 * each with its own settings.
 *
 * Every setting that is an environment variable has a key of its name without `TINA4_` in camelCase (`wsPingInterval` for
 * `TINA4_WS_PING_INTERVAL`), in the same unit, and wins over the variable. Besides:
 *
 * @param {object} [config]
 * @param {Router|typeof Router} [config.router] The routes to serve. Default: the default router
 * @param {string} [config.directory] The app's folder, to which the others are relative. Default: the working directory
 * @param {string} [config.templatesDir="src/templates"]
 * @param {string} [config.staticDir] Static files. Default: `src/public`, then `public`
 * @param {string|false} [config.routesDir="src/routes"] Route files to import, with subfolders; they register on the default
 *   router, so that for another router none are imported unless named. `false`: none. A folder is imported once in a process
 * @param {object} [config.logger] Gets the log's lines instead of standard output: `debug`, `info`, `warn`, `error`
 * @returns {Promise<Server>} Resolves once it accepts connections
 * @throws {TypeError} (rejects) for an unknown key or a value of the wrong type
 * @throws {Error} (rejects) naming a variable, its value and what is accepted; or the address that is not free, with the
 *   system's `code` (`"EADDRINUSE"`)
 */
async function startServer(config = {}) {
  checkConfig(config);
  routerOf(config.router);
  const server = new Server(config);
  runningServers.add(server);
  return server.started;
}

function routerOf(router) {
  if (router === undefined || router === Router) return Router.default;
  if (typeof router?.attach !== 'function' || typeof router.getRoutes !== 'function') {
    throw new TypeError(`startServer: router is Router or a new Router(), not ${describe(router)}.`);
  }
  return router;
}

/** Puts the variables of `.env` into `process.env`, where users' code looks for them too; what is set already stays. */
function loadEnvironment(directory) {
  for (const [name, value] of Object.entries(readEnvironment(directory))) {
    process.env[name] ??= value;
  }
}

/**
 * The socket of the relay between the workers of `tina4 serve --workers`, for the server that takes the listener which they share.
 *
 * @returns {string|undefined}
 */
function relayFor(settings) {
  let where;
  try {
    where = address(Object.fromEntries(Object.entries(settings).filter(([, value]) => value.trim() !== '')));
  } catch {
    // The engine says what is wrong with the port.
    return undefined;
  }
  return inheritedRelay(where.host, where.port);
}

/** One sentence for an address that cannot be listened on. */
function listenError(cause, host, port) {
  const sentences = {
    EADDRINUSE: `Port ${port} on ${host} is already in use: stop what uses it, or choose another with TINA4_PORT.`,
    EACCES: `This user may not listen on port ${port} of ${host}: choose one from 1024 up with TINA4_PORT.`,
    EADDRNOTAVAIL: `This machine has no address ${host}: choose another with TINA4_HOST.`,
  };
  const error = new Error(sentences[cause.code] ?? `Cannot listen on ${host}, port ${port}: ${cause.message}`, { cause });
  return Object.assign(error, { code: cause.code, host, port });
}

/** Waits for a promise, but not longer than so many milliseconds. */
async function within(milliseconds, promise) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, Math.min(Math.max(0, milliseconds), LONGEST_TIMER));
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}

module.exports = { Server, runningServers, startServer };
