'use strict';

const { describe, isRecord, messageBytes, onlyKeys } = require('./check.js');
const native = require('./native.js');

const WEBSOCKET = 'WEBSOCKET';
const WEBSOCKET_OPTIONS = ['binary', 'compress', 'concurrent', 'protocols'];
/** What a subprotocol's name is made of: a token of RFC 9110 section 5.6.2. */
const TOKEN = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
/** No other server has a message already. */
const NOBODY = [];

/**
 * One registered route. The addon knows it by its `id`, which is its place in the router's list.
 *
 * @typedef {object} Route
 * @property {number} id
 * @property {string} method `"GET"` …, `"ANY"` or `"WEBSOCKET"`
 * @property {string} path The pattern as registered
 * @property {Function} handler
 * @property {boolean} concurrent
 * @property {WebSocketOptions} [options] Of a WebSocket route: what the addon needs to know
 * @private
 */

/**
 * @typedef {object} WebSocketOptions
 * @property {boolean} binary
 * @property {boolean} [compress]
 * @property {string[]} protocols
 * @private
 */

/**
 * A set of HTTP and WebSocket routes.
 *
 * The static methods act on the default router of this JavaScript thread; `new Router()` has the same methods for a set of
 * its own, to be served with `startServer({ router })`. Registering while servers run takes effect for the next request or
 * upgrade; connections that are open keep the handler they opened with.
 *
 * Patterns: `{name}` one segment, `{id:int}` and `{x:float}` only where the text is one, `{rest:path}` one or more segments;
 * everything else, `:name` too, is literal text.
 */
class Router {
  /** @type {Route[]} */
  #routes = [];
  /** @type {Map<string, number>} method and shape of the pattern → id */
  #ids = new Map();
  /** @type {Set<{engine: object, commits: object, backplane: object}>} the running servers' parts */
  #hosts = new Set();

  /**
   * The default router, which the static methods act on.
   *
   * @type {Router}
   */
  static get default() {
    return defaultRouter;
  }

  /**
   * Registers a WebSocket route. The same path registered again replaces the earlier handler.
   *
   * @param {string} path Pattern, for example `"/ws/chat/{room}"`
   * @param {(connection: WebSocketConnection, event: "open"|"message"|"close", data: string|Buffer) => unknown} handler Sync or
   *   async; if it returns a promise, the next event of that connection waits until it has settled
   * @param {object} [options]
   * @param {boolean} [options.binary=false] Hand binary messages over as `Buffer`. Otherwise one that is valid UTF-8 arrives
   *   as a string, and one that is not closes the connection with 1003
   * @param {boolean} [options.compress] Compress messages for peers that can inflate them (permessage-deflate); the server's
   *   `wsCompression` if it is not said
   * @param {string[]} [options.protocols=[]] The subprotocols it speaks: the first of a peer's that is among them is agreed, and
   *   is `connection.protocol`. Without one the connection opens all the same
   * @param {boolean} [options.concurrent=false] Start the events of a connection in order without waiting for promises
   * @returns {void}
   * @throws {TypeError} if the path is no valid pattern, the handler is no function or an option is unknown or of another type
   */
  websocket(path, handler, options) {
    const caller = 'Router.websocket';
    checkRoute(caller, path, handler);
    if (options === undefined) options = {};
    if (!isRecord(options)) {
      throw new TypeError(`${caller} takes an object with ${WEBSOCKET_OPTIONS.join(', ')} as options, not ${describe(options)}.`);
    }
    onlyKeys(options, WEBSOCKET_OPTIONS, caller);
    for (const name of WEBSOCKET_OPTIONS) {
      if (name !== 'protocols' && options[name] !== undefined && typeof options[name] !== 'boolean') {
        throw new TypeError(`${caller}: the option ${name} is true or false, not ${describe(options[name])}.`);
      }
    }
    const { binary, compress, concurrent, protocols } = options;
    this.#register(WEBSOCKET, path, handler, concurrent === true, {
      binary: binary === true,
      compress,
      protocols: checkProtocols(caller, protocols),
    });
  }

  /**
   * Registers a GET route. It also answers HEAD where no HEAD route does.
   *
   * @param {string} path Pattern, for example `"/users/{id:int}"`
   * @param {(req: Tina4Request, res: Tina4Response) => unknown} handler Sync or async
   * @returns {void}
   * @throws {TypeError} if the path is no valid pattern or the handler is no function
   */
  get(path, handler, ...more) { this.#http('get', path, handler, more); }

  /** Registers a POST route; as {@link Router#get}. */
  post(path, handler, ...more) { this.#http('post', path, handler, more); }

  /** Registers a PUT route; as {@link Router#get}. */
  put(path, handler, ...more) { this.#http('put', path, handler, more); }

  /** Registers a PATCH route; as {@link Router#get}. */
  patch(path, handler, ...more) { this.#http('patch', path, handler, more); }

  /** Registers a DELETE route; as {@link Router#get}. */
  delete(path, handler, ...more) { this.#http('delete', path, handler, more); }

  /** Registers a HEAD route, for where the answer to GET is not to be computed; as {@link Router#get}. */
  head(path, handler, ...more) { this.#http('head', path, handler, more); }

  /** Registers an OPTIONS route; without one the server answers `Allow` by itself. As {@link Router#get}. */
  options(path, handler, ...more) { this.#http('options', path, handler, more); }

  /** Registers a route for every method that has none of its own on that pattern; as {@link Router#get}. */
  any(path, handler, ...more) { this.#http('any', path, handler, more); }

  /**
   * Sends a message to every connection on one concrete path, on every running server of this router, and through their
   * backplane to those of other processes. Before the first start it does nothing.
   *
   * @param {string} path A concrete path such as `"/ws/notifications/7"`, not a pattern
   * @param {string|Buffer|ArrayBufferView} message A string goes out as text, anything else as binary
   * @returns {void}
   * @throws {TypeError} if the path does not begin with `/` or has a bad escape, or the message is of another type
   */
  pushToWebSocket(path, message) {
    const caller = 'Router.pushToWebSocket';
    if (typeof path !== 'string') throw new TypeError(`${caller} takes a path as string, not ${describe(path)}.`);
    const data = typeof message === 'string' ? message : messageBytes(message, caller);
    const canonical = inThisRealm(() => native.canonicalPath(path));
    for (const hosts of this.#hostsByBus()) {
      const [first, ...others] = hosts;
      // One publishes for all that share a bus, and says who has the message already.
      const delivered = others.length === 0 ? NOBODY : others.map(({ backplane }) => backplane.src);
      first.engine.push(canonical, data, first.backplane.bus !== null, delivered);
      for (const { engine } of others) engine.push(canonical, data, false, NOBODY);
      for (const { commits } of hosts) commits.touch();
    }
  }

  /**
   * How many connections there are on one concrete path.
   *
   * @param {string} path A concrete path such as `"/ws/chat/general"`, not a pattern
   * @param {object} [options]
   * @param {boolean} [options.cluster=false] Count in every process that the backplane reaches
   * @returns {number|Promise<number>} Those of this router's running servers in this process. With `cluster` a promise, which
   *   never rejects: the sum over all processes that answer within a second, each connection once. Without a backplane it is
   *   the same number
   * @throws {TypeError} at once, if the path does not begin with `/` or has a bad escape, or the options are not accepted
   */
  connectionCount(path, options) {
    const { canonical, cluster } = countArguments('Router.connectionCount', path, options);
    const groups = this.#hostsByBus();
    return cluster ? sumOf(groups.map((hosts) => countCluster(hosts, canonical))) : countHere(groups.flat(), canonical);
  }

  /**
   * @returns {{method: string, path: string}[]} The registered routes in the order of their registration, `method` being
   *   `"WEBSOCKET"` for a WebSocket route; a copy
   */
  getRoutes() {
    return this.#routes.map(({ method, path }) => ({ method, path }));
  }

  /**
   * @param {number} id As an event names it
   * @returns {Route|undefined}
   * @private
   */
  route(id) {
    return this.#routes[id];
  }

  /**
   * Puts all routes into a server's engine, now and as they are registered.
   *
   * @param {{engine: object, commits: import('./commits.js').Commits}} host
   * @private
   */
  attach(host) {
    for (const route of this.#routes) host.engine.route(route.method, route.path, route.id, route.options);
    this.#hosts.add(host);
  }

  /**
   * @param {object} host As given to {@link Router#attach}
   * @private
   */
  detach(host) {
    this.#hosts.delete(host);
  }

  /** The running servers: those that share a bus together, in the order of their start, everyone else alone. */
  #hostsByBus() {
    const shared = new Map();
    const groups = [];
    for (const host of this.#hosts) {
      const { bus } = host.backplane;
      const group = bus === null ? undefined : shared.get(bus);
      if (group !== undefined) {
        group.push(host);
        continue;
      }
      const alone = [host];
      groups.push(alone);
      if (bus !== null) shared.set(bus, alone);
    }
    return groups;
  }

  #http(name, path, handler, more) {
    const caller = `Router.${name}`;
    checkRoute(caller, path, handler);
    // Ignoring them would run a handler without the guard that its author put around it.
    if (more.some((argument) => argument !== undefined)) {
      throw new TypeError(`${caller} takes a path and one handler; middleware and other arguments are not supported.`);
    }
    this.#register(name.toUpperCase(), path, handler, false);
  }

  #register(method, path, handler, concurrent, options) {
    const key = `${method} ${shape(path)}`;
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#routes.length;
      this.#ids.set(key, id);
    }
    const route = { id, method, path, handler, concurrent, options };
    this.#routes[id] = route;
    for (const { engine } of this.#hosts) engine.route(method, path, id, options);
  }

  /** {@link Router#websocket} of the default router. */
  static websocket(path, handler, options) { defaultRouter.websocket(path, handler, options); }

  /** {@link Router#get} of the default router. */
  static get(path, handler, ...more) { defaultRouter.get(path, handler, ...more); }

  /** {@link Router#post} of the default router. */
  static post(path, handler, ...more) { defaultRouter.post(path, handler, ...more); }

  /** {@link Router#put} of the default router. */
  static put(path, handler, ...more) { defaultRouter.put(path, handler, ...more); }

  /** {@link Router#patch} of the default router. */
  static patch(path, handler, ...more) { defaultRouter.patch(path, handler, ...more); }

  /** {@link Router#delete} of the default router. */
  static delete(path, handler, ...more) { defaultRouter.delete(path, handler, ...more); }

  /** {@link Router#head} of the default router. */
  static head(path, handler, ...more) { defaultRouter.head(path, handler, ...more); }

  /** {@link Router#options} of the default router. */
  static options(path, handler, ...more) { defaultRouter.options(path, handler, ...more); }

  /** {@link Router#any} of the default router. */
  static any(path, handler, ...more) { defaultRouter.any(path, handler, ...more); }

  /** {@link Router#pushToWebSocket} of the default router. */
  static pushToWebSocket(path, message) { defaultRouter.pushToWebSocket(path, message); }

  /** {@link Router#connectionCount} of the default router. */
  static connectionCount(path, options) { return defaultRouter.connectionCount(path, options); }

  /** {@link Router#getRoutes} of the default router. */
  static getRoutes() { return defaultRouter.getRoutes(); }
}

function checkRoute(caller, path, handler) {
  if (typeof path !== 'string') throw new TypeError(`${caller} takes a path as string, not ${describe(path)}.`);
  inThisRealm(() => native.checkPattern(path));
  if (typeof handler !== 'function') {
    throw new TypeError(`${caller}(${JSON.stringify(path)}) takes a function as handler, not ${describe(handler)}.`);
  }
}

/**
 * @param {string} caller Named in the error
 * @param {unknown} protocols
 * @returns {string[]} A copy
 * @throws {TypeError} if it is no list of different tokens
 * @private
 */
function checkProtocols(caller, protocols) {
  if (protocols === undefined) return [];
  const isList = Array.isArray(protocols) && protocols.every((one) => typeof one === 'string' && TOKEN.test(one));
  if (!isList || new Set(protocols).size !== protocols.length) {
    const found = Array.isArray(protocols) ? JSON.stringify(protocols) : describe(protocols);
    throw new TypeError(`${caller}: the option protocols is a list of different names such as ["chat.v1"], not ${found}.`);
  }
  return [...protocols];
}

/**
 * Checks what a `connectionCount` is given.
 *
 * @param {string} caller Named in the error
 * @param {unknown} path
 * @param {unknown} options
 * @returns {{canonical: string, cluster: boolean}}
 * @throws {TypeError}
 * @private
 */
function countArguments(caller, path, options) {
  if (typeof path !== 'string') throw new TypeError(`${caller} takes a path as string, not ${describe(path)}.`);
  if (options === undefined) options = {};
  if (!isRecord(options)) throw new TypeError(`${caller} takes an object such as { cluster: true } as options, not ${describe(options)}.`);
  onlyKeys(options, ['cluster'], caller);
  const { cluster = false } = options;
  if (typeof cluster !== 'boolean') throw new TypeError(`${caller}: cluster is true or false, not ${describe(cluster)}.`);
  return { canonical: inThisRealm(() => native.canonicalPath(path)), cluster };
}

function countHere(hosts, path) {
  return hosts.reduce((sum, { backplane }) => sum + backplane.countHere(path), 0);
}

/** Connections on a path in every process, asked of one of the servers on a bus. */
async function countCluster(hosts, path) {
  const asked = hosts.find(({ backplane }) => backplane.isConnected) ?? hosts[0];
  const sum = await asked.backplane.count(path);
  // Those of this process are there whether or not the bus reached them.
  return Math.max(sum, countHere(hosts, path));
}

async function sumOf(promises) {
  return (await Promise.all(promises)).reduce((sum, count) => sum + count, 0);
}

/** Runs a native check; its TypeError is thrown again as one of this realm, so that `instanceof` holds for the caller. */
function inThisRealm(check) {
  try {
    return check();
  } catch (error) {
    throw new TypeError(error.message);
  }
}

/** A pattern without the names of its parameters: two patterns of one shape match the same paths. */
function shape(path) {
  return path.split('/').map((segment) => {
    const parameter = /^\{[^:}]*(?::([^}]*))?\}$/.exec(segment);
    return parameter ? `{${parameter[1] ?? ''}}` : native.canonicalPath(`/${segment}`);
  }).join('/');
}

const defaultRouter = new Router();

module.exports = { Router, countArguments };
