'use strict';

const { describe } = require('./check.js');
const { fromCookies, fromHeaders, fromParams, fromQuery } = require('./fields.js');

/**
 * One HTTP request. Everything but the body is built on first use from the lines of the event.
 */
class Tina4Request {
  #params;
  #query;
  #headers;
  #cookies;
  #lines;
  #rest;

  /**
   * @param {string} lines Of the event: method, target, path and address, the path parameters, an empty line, the header lines
   * @private
   */
  constructor(lines) {
    const method = lines.indexOf('\n');
    const target = lines.indexOf('\n', method + 1);
    const path = lines.indexOf('\n', target + 1);
    const ip = lines.indexOf('\n', path + 1);
    /** @type {string} Upper case, as the client sent it: `"HEAD"` also where a GET route answers */
    this.method = lines.slice(0, method);
    /** @type {string} Path and query as sent, for example `"/users/7?full=1"` */
    this.url = lines.slice(method + 1, target);
    /** @type {string} The concrete path without the query, in canonical form */
    this.path = lines.slice(target + 1, path);
    /** @type {string} The client's address; `X-Forwarded-For` counts only from trusted proxies */
    this.ip = lines.slice(path + 1, ip);
    /**
     * The body by its content type: JSON value, form object, `{}` for none, else string or Buffer.
     *
     * @type {any}
     */
    this.body = undefined;
    this.#lines = lines;
    this.#rest = ip + 1;
  }

  /** @type {Record<string, string|number>} Path parameters, decoded; numbers for `int` and `float`. No prototype */
  get params() {
    return (this.#params ??= fromParams(this.#lines, this.#rest));
  }

  /** @type {Record<string, string>} The query, the last value of a repeated name. No prototype */
  get query() {
    if (this.#query === undefined) {
      const mark = this.url.indexOf('?');
      this.#query = fromQuery(mark === -1 ? '' : this.url.slice(mark + 1));
    }
    return this.#query;
  }

  /** @type {Record<string, string>} Header fields, names in lower case, repeated ones joined. No prototype */
  get headers() {
    return (this.#headers ??= fromHeaders(this.#lines, this.#lines.indexOf('\n\n', this.#rest - 1) + 2));
  }

  /** @type {Record<string, string>} The cookies the client sent. No prototype */
  get cookies() {
    return (this.#cookies ??= fromCookies(this.headers.cookie));
  }

  /**
   * @param {string} name In any case
   * @returns {string|undefined} The header field of that name
   * @throws {TypeError} if the name is no string
   */
  header(name) {
    if (typeof name !== 'string') throw new TypeError(`req.header takes a header name as string, not ${describe(name)}.`);
    return this.headers[name.toLowerCase()];
  }

  /** @returns {string|null} The token of `Authorization: Bearer <token>`, `null` when there is none */
  bearerToken() {
    const match = /^Bearer +([A-Za-z0-9\-._~+/]+=*) *$/i.exec(this.headers.authorization ?? '');
    return match === null ? null : match[1];
  }
}

module.exports = { Tina4Request };
