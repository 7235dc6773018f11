'use strict';

const { STATUS_CODES } = require('node:http');
const { describe } = require('./check.js');

/** An error may quote the client; a browser must read that as nothing but what the content type says. */
const NOSNIFF = 'x-content-type-options:nosniff\n';

const STATUS_WITHOUT_BODY = new Set([204, 205, 304]);

/**
 * The way of one answer to the engine: the first one is sent, later ones are refused and logged once.
 *
 * It is what a response object, the dispatcher and the watch share about one request; the addon forgets a handle by itself
 * once it has answered or timed out.
 *
 * @private
 */
class Exchange {
  /**
   * @param {object} host The server's parts: `engine`, `calls`, `commits`, `log`
   * @param {number} handle
   * @param {string} method
   * @param {string} route The pattern
   */
  constructor(host, handle, method, route) {
    this.host = host;
    this.handle = handle;
    this.method = method;
    this.route = route;
    this.answered = false;
    this.toldTwice = false;
    /** Set by the dispatcher while the handler is pending, to be told of the answer. */
    this.onAnswer = null;
    this.since = 0;
    this.reported = false;
  }

  /** The route as log lines name it: `GET /users/{id}`. */
  get name() {
    return `${this.method} ${this.route}`;
  }

  /**
   * @param {number} status
   * @param {string} headers Lines of `name:value`
   * @param {string|Uint8Array|null} body
   */
  send(status, headers, body) {
    if (!this.#first()) return;
    if (STATUS_WITHOUT_BODY.has(status)) body = null;
    this.host.calls.respond(this.handle, status, headers, body ?? '');
    this.host.commits.touch();
  }

  /**
   * @param {number} status
   * @param {string} headers Lines of `name:value`
   * @param {string} path
   */
  sendFile(status, headers, path) {
    if (STATUS_WITHOUT_BODY.has(status)) {
      this.send(status, headers, null);
      return;
    }
    if (!this.#first()) return;
    this.host.engine.respondFile(this.handle, status, headers, path);
    this.host.commits.touch();
  }

  /** An answer of the server itself, in the shape of all its errors, the engine's too. */
  sendError(status, message) {
    const body = { error: STATUS_CODES[status], statusCode: status, message };
    this.send(status, `content-type:application/json\n${NOSNIFF}`, JSON.stringify(body));
  }

  /** An answer 500 that shows what was thrown. */
  sendThrown(error) {
    this.send(500, `content-type:text/plain; charset=utf-8\n${NOSNIFF}`, shownText(error));
  }

  #first() {
    if (this.answered) {
      if (!this.toldTwice) {
        this.toldTwice = true;
        this.host.log.warning(`The handler of ${this.name} answered more than once; only the first answer was sent.`);
      }
      return false;
    }
    this.answered = true;
    if (this.onAnswer !== null) this.onAnswer(this);
    return true;
  }
}

/** What was thrown may be data of a peer: an object of any make, which need not have a text. */
function shownText(error) {
  try {
    return String(error?.stack ?? error);
  } catch {
    return `thrown: ${describe(error)}`;
  }
}

module.exports = { Exchange };
