'use strict';

const { inspect } = require('node:util');
const { checkClose, describe, isRecord, messageBytes, onlyKeys } = require('./check.js');
const { fromCookies, fromHeaders, fromParams, fromQuery } = require('./fields.js');
const { CLOSED, GONE, OPEN } = require('./link.js');

/** What a handler has asked of the upgrade request beside the parameters; few handlers do. */
class Asked {
  query = undefined;
  headers = undefined;
  cookies = undefined;
}

/**
 * One upgraded socket, as the handler of its route sees it. The same object comes with every event of a connection; users
 * may put properties of their own on it. Kept after its connection is gone, every method is a harmless no-op.
 */
class WebSocketConnection {
  #link;
  #lines;
  #params;
  /** @type {Asked|null} */
  #asked;

  /**
   * @param {import('./link.js').Link} link
   * @param {string} lines Of the open event: id, path, address, query and protocol, the path parameters, an empty line
   * @private
   */
  constructor(link, lines) {
    this.#link = link;
    this.#lines = lines;
    this.#params = undefined;
    this.#asked = null;
  }

  /** @type {string} Unique text of this connection: random enough that two servers never share one */
  get id() {
    return this.#line(0);
  }

  /** @type {string} The concrete path without the query, in canonical form: broadcasts and counts stay within one path */
  get path() {
    return this.#line(1);
  }

  /** @type {string} The peer's address; `X-Forwarded-For` counts only from trusted proxies */
  get ip() {
    return this.#line(2);
  }

  /** @type {string} The subprotocol that was agreed, one of the route's `protocols`; `""` for none */
  get protocol() {
    return this.#line(4);
  }

  /**
   * Path parameters, decoded (numbers for `int` and `float`), together with the query's; a path parameter wins. No prototype.
   *
   * @type {Record<string, string|number>}
   */
  get params() {
    return (this.#params ??= fromParams(this.#lines, lineStart(this.#lines, 5), fromQuery(this.#line(3))));
  }

  /** @type {Record<string, string>} The query of the upgrade request, the last value of a repeated name. No prototype */
  get query() {
    return (this.#remember().query ??= fromQuery(this.#line(3)));
  }

  /**
   * The header fields of the upgrade request, names in lower case. No prototype. They are fetched on first use; after the
   * close handler has settled there is nothing left to fetch, and the object is empty.
   *
   * @type {Record<string, string>}
   */
  get headers() {
    const asked = this.#remember();
    if (asked.headers === undefined) {
      const link = this.#link;
      asked.headers = fromHeaders(link.state === GONE ? '' : link.host.engine.head(link.handle));
    }
    return asked.headers;
  }

  /** @type {Record<string, string>} The cookies of the upgrade request. No prototype */
  get cookies() {
    return (this.#remember().cookies ??= fromCookies(this.headers.cookie));
  }

  /** @type {number} Bytes queued for this connection and not yet written */
  get bufferedAmount() {
    const link = this.#link;
    return link.state < CLOSED ? link.host.engine.buffered(link.handle) : 0;
  }

  /**
   * Queues a message for this connection; never waits.
   *
   * @param {string|Buffer|ArrayBufferView} message A string goes out as a text frame, anything else as a binary frame
   * @returns {void}
   * @throws {TypeError} if the message is of another type, also after the close
   */
  send(message) {
    const data = typeof message === 'string' ? message : messageBytes(message, 'connection.send');
    const link = this.#link;
    if (link.state !== OPEN) return;
    const { arrived, calls, commits } = link.host;
    if (data !== arrived.text || calls.forward(link.handle, arrived.index) === false) calls.send(link.handle, data);
    commits.touch();
  }

  /**
   * Queues `JSON.stringify(value)` for this connection.
   *
   * @param {unknown} value
   * @returns {void}
   * @throws {TypeError} if the value has no JSON text (`undefined`, a function, a cycle, a BigInt)
   */
  sendJson(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`connection.sendJson: ${describe(value)} has no JSON text.`);
    this.send(text);
  }

  /**
   * Queues a message for every connection on the same concrete path, this one included. It also works in the close handler,
   * where this connection no longer counts.
   *
   * @param {string|Buffer|ArrayBufferView} message
   * @param {object} [options]
   * @param {boolean} [options.excludeSelf=false] Leave this connection out
   * @returns {void}
   * @throws {TypeError} if the message or the options are of another type, also after the close
   */
  broadcast(message, options) {
    const data = typeof message === 'string' ? message : messageBytes(message, 'connection.broadcast');
    const link = this.#link;
    let exclude = 0;
    if (options !== undefined && excludesSelf(options)) exclude = link.handle;
    if (link.state === GONE) return;
    const { arrived, calls, commits } = link.host;
    if (data !== arrived.text || calls.forwardAll(link.topic, arrived.index, exclude) === false) {
      calls.broadcast(link.topic, data, exclude);
    }
    commits.touch();
  }

  /**
   * Starts the closing handshake. What was sent before goes out first; what is sent later does not. Closing again is a no-op.
   *
   * @param {number} [code=1000] 1000 to 1003, 1007 to 1014 or 3000 to 4999
   * @param {string} [reason=""] At most 123 bytes of UTF-8
   * @returns {void}
   * @throws {TypeError|RangeError} if the code may not be sent, or the reason is no string or too long
   */
  close(code = 1000, reason = '') {
    checkClose(code, reason, 'connection.close');
    const link = this.#link;
    if (link.state !== OPEN) return;
    link.closing();
    link.host.engine.close(link.handle, code, reason);
    link.host.commits.touch();
  }

  /**
   * @returns {Promise<void>} Resolves once everything queued for this connection up to now is written, or the connection is
   *   gone; never rejects
   */
  drained() {
    return this.#link.drained();
  }

  /**
   * @returns {number} Connections on the same concrete path in this process: this one counts in `open` and no longer in
   *   `close`; 0 once its close handler has settled
   */
  connectionCount() {
    const link = this.#link;
    return link.state === GONE ? 0 : link.host.engine.count(link.topic);
  }

  /** @returns {object} What a log wants to see, and what the user has put on it */
  toJSON() {
    const { id, path, ip, protocol } = this;
    return { id, path, ip, protocol, ...this };
  }

  /** What `console.log` shows. */
  [inspect.custom](depth, options, show) {
    return `${this.constructor.name} ${show(this.toJSON(), options)}`;
  }

  #remember() {
    return (this.#asked ??= new Asked());
  }

  #line(index) {
    const start = lineStart(this.#lines, index);
    return this.#lines.slice(start, this.#lines.indexOf('\n', start));
  }
}

/** Where the line at `index` begins. */
function lineStart(lines, index) {
  let start = 0;
  for (let i = 0; i < index; i += 1) start = lines.indexOf('\n', start) + 1;
  return start;
}

function excludesSelf(options) {
  if (!isRecord(options)) {
    throw new TypeError(`connection.broadcast takes an object such as { excludeSelf: true } as options, not ${describe(options)}.`);
  }
  const value = options.excludeSelf;
  if (typeof value === 'boolean') return value;
  if (value !== undefined) throw new TypeError(`connection.broadcast: excludeSelf is true or false, not ${describe(value)}.`);
  onlyKeys(options, ['excludeSelf'], 'connection.broadcast');
  return false;
}

module.exports = { WebSocketConnection };
