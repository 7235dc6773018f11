'use strict';

const cookie = require('cookie');
const { describe, isRecord, messageBytes, onlyKeys } = require('./check.js');

// Whole lines: one that is put together for each answer would also have to be copied together before the addon can read it.
const HTML = 'content-type:text/html; charset=utf-8\n';
const TEXT = 'content-type:text/plain; charset=utf-8\n';
const JSON_TYPE = 'content-type:application/json\n';
const BYTES = 'content-type:application/octet-stream\n';

const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;
/** Fields that describe the connection or the framing: the server writes them, and a second opinion would corrupt the stream. */
const SERVER_HEADERS = new Set(['connection', 'content-length', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade']);
const COOKIE_OPTIONS = ['domain', 'expires', 'httpOnly', 'maxAge', 'partitioned', 'path', 'priority', 'sameSite', 'secure'];
const FILE_OPTIONS = ['download', 'contentType'];

/** Makes the object that its subclass constructs a function, so that it can be called and have methods. */
class Callable extends Function {
  constructor(call) {
    return Object.setPrototypeOf(call, new.target.prototype);
  }
}

/**
 * The answer to one request: callable (`res(data, status, contentType)`), every method returns it.
 *
 * The first call that gives a body, a redirect or a file is the answer; later ones are ignored and logged once. When the
 * handler is done without an answer: an async handler (its promise has settled) gets an empty answer sent for it, with the
 * status set or 204; after a sync handler the answer may still come later, from a callback. No answer within
 * `TINA4_HANDLER_TIMEOUT` is 503, and a late one does nothing.
 *
 * The content type is, in this order: the argument, the `content-type` header set before, the one that fits the method.
 */
class Tina4Response extends Callable {
  #exchange;
  #status = 0;
  #headers = null;

  /**
   * @param {import('./exchange.js').Exchange} exchange
   * @private
   */
  constructor(exchange) {
    super((data, status, contentType) => this.send(data, status, contentType));
    this.#exchange = exchange;
  }

  /**
   * Sets the status code of the answer. Default 200.
   *
   * @param {number} code 200 to 599
   * @returns {this}
   * @throws {TypeError|RangeError}
   */
  status(code) {
    this.#status = checkStatus('res.status', code);
    return this;
  }

  /**
   * Sets a header field, replacing an earlier value; `set-cookie` is added.
   *
   * @param {string} name
   * @param {string|number|string[]} value ASCII without control characters; an array sends the field several times
   * @returns {this}
   * @throws {TypeError} if the name or a value cannot stand in a header, or the field is the server's own (content-length …)
   */
  header(name, value) {
    if (typeof name !== 'string' || !HEADER_NAME.test(name)) {
      throw new TypeError(`res.header: ${describe(name)} is no header name; letters, digits and !#$%&'*+-.^_\`|~ are accepted.`);
    }
    const key = name.toLowerCase();
    if (SERVER_HEADERS.has(key)) throw new TypeError(`res.header: the server sets ${key} itself.`);
    const values = (Array.isArray(value) ? value : [value]).map((one) => checkHeaderValue(key, one));
    this.#headers ??= new Map();
    const earlier = key === 'set-cookie' ? this.#headers.get(key) : undefined;
    this.#headers.set(key, earlier === undefined ? values : [...earlier, ...values]);
    return this;
  }

  /**
   * Answers with whatever fits the value: objects, arrays, numbers and booleans as JSON, a string that starts with `<` and
   * ends with `>` as HTML, other strings as text, bytes as `application/octet-stream`, null and undefined as an empty body.
   *
   * @param {unknown} [data]
   * @param {number} [status] Default: the one set, else 200
   * @param {string} [contentType]
   * @returns {this}
   * @throws {TypeError|RangeError} for a bad status or content type, or a value without JSON text
   */
  send(data, status, contentType) {
    if (data === undefined || data === null) return this.#answer('res.send', null, null, status, contentType);
    if (typeof data === 'string') {
      const markup = data.trim();
      const type = markup.startsWith('<') && markup.endsWith('>') ? HTML : TEXT;
      return this.#answer('res.send', data, type, status, contentType);
    }
    if (ArrayBuffer.isView(data)) {
      return this.#answer('res.send', messageBytes(data, 'res.send'), BYTES, status, contentType);
    }
    return this.#answer('res.send', jsonText('res.send', data), JSON_TYPE, status, contentType);
  }

  /**
   * Answers with JSON.
   *
   * @param {unknown} data `undefined` is sent as `null`
   * @param {number} [status] Default: the one set, else 200
   * @returns {this}
   * @throws {TypeError} for a value without JSON text (a cycle, a BigInt, a function)
   */
  json(data, status) {
    return this.#answer('res.json', data === undefined ? 'null' : jsonText('res.json', data), JSON_TYPE, status);
  }

  /**
   * Answers with HTML: `html(markup, status?)` sends the markup as it is; `html(file, data, status?)` renders
   * `src/templates/<file>`, values escaped for the place they are printed in.
   *
   * @param {string} markupOrFile
   * @param {object|number} [dataOrStatus] An object makes the first argument a template's file name
   * @param {number} [status] Default: the one set, else 200
   * @returns {this}
   * @throws {Error} naming the template's file and line, if it cannot be read or rendered
   */
  html(markupOrFile, dataOrStatus, status) {
    checkString('res.html', 'markup or a template file', markupOrFile);
    if (isRecord(dataOrStatus)) return this.#template('res.html', markupOrFile, dataOrStatus, status);
    if (dataOrStatus !== undefined && typeof dataOrStatus !== 'number') {
      throw new TypeError(
        `res.html takes a status code or an object with the template's values as second argument, not ${describe(dataOrStatus)}.`,
      );
    }
    return this.#answer('res.html', markupOrFile, HTML, dataOrStatus ?? status);
  }

  /**
   * Answers with the template `src/templates/<file>`; the same as `html(file, data, status)`.
   *
   * @param {string} file
   * @param {object} [data={}]
   * @param {number} [status] Default: the one set, else 200
   * @returns {this}
   * @throws {Error} naming the template's file and line, if it cannot be read or rendered
   */
  render(file, data = {}, status) {
    checkString('res.render', 'a template file', file);
    if (!isRecord(data)) {
      throw new TypeError(`res.render takes an object with the template's values as second argument, not ${describe(data)}.`);
    }
    return this.#template('res.render', file, data, status);
  }

  /**
   * Answers with plain text.
   *
   * @param {unknown} content Other values than strings are converted with `String`
   * @param {number} [status] Default: the one set, else 200
   * @returns {this}
   */
  text(content, status) {
    return this.#answer('res.text', content === undefined || content === null ? '' : String(content), TEXT, status);
  }

  /**
   * Answers with a redirect. What cannot stand in a URL is percent-encoded, line ends and backslashes too; escapes that are
   * there stay.
   *
   * @param {string} url A path of this server or an absolute URL
   * @param {number} [status=302] 300 to 399
   * @returns {this}
   * @throws {TypeError|RangeError}
   */
  redirect(url, status = 302) {
    checkString('res.redirect', 'a URL', url);
    if (!Number.isInteger(status) || status < 300 || status > 399) {
      throw new RangeError(`res.redirect takes a status from 300 to 399, not ${describe(status)}.`);
    }
    this.header('location', encodeUrl(url));
    return this.#answer('res.redirect', null, null, status);
  }

  /**
   * Sets a cookie. Call it before the answer.
   *
   * @param {string} name
   * @param {string|number|boolean} value Percent-encoded on the way; `req.cookies` decodes it
   * @param {object} [options] `maxAge` (seconds), `expires` (Date), `path` (default `"/"`), `domain`, `secure`, `httpOnly`,
   *   `sameSite`, `priority`, `partitioned`
   * @returns {this}
   * @throws {TypeError} if the name, value or an attribute cannot stand in a cookie
   */
  cookie(name, value, options = {}) {
    return this.#cookie('res.cookie', name, value, options);
  }

  /**
   * Makes the browser forget a cookie.
   *
   * @param {string} name
   * @param {object} [options] `path` and `domain` it was set with; default path `"/"`
   * @returns {this}
   */
  clearCookie(name, options = {}) {
    if (!isRecord(options)) throw new TypeError(`res.clearCookie takes an object as options, not ${describe(options)}.`);
    return this.#cookie('res.clearCookie', name, '', { ...options, expires: new Date(0), maxAge: 0 });
  }

  /**
   * Answers with a file of the application's folder; 404 when there is none, also for a path that leads outside.
   *
   * @param {string} path Relative to the application's folder
   * @param {string|{download?: boolean|string, contentType?: string}} [options] A string offers the file for saving under
   *   that name, as `download` does; `download: true` under its own name. Default content type: by the extension
   * @returns {this}
   * @throws {TypeError}
   */
  file(path, options = {}) {
    checkString('res.file', 'a path', path);
    if (path.includes('\0')) throw new TypeError('res.file takes a path without NUL characters.');
    if (typeof options === 'string') options = { download: options };
    if (!isRecord(options)) {
      throw new TypeError(`res.file takes a file name or an object as second argument, not ${describe(options)}.`);
    }
    onlyKeys(options, FILE_OPTIONS, 'res.file');
    const { download, contentType } = options;
    if (download !== undefined && typeof download !== 'boolean' && typeof download !== 'string') {
      throw new TypeError(`res.file: download is true, false or a file name, not ${describe(download)}.`);
    }
    if (contentType !== undefined) this.header('content-type', contentType);
    if (download !== undefined && download !== false) {
      this.header('content-disposition', attachment(download === true || download === '' ? path.split(/[\\/]/).pop() : download));
    }
    this.#exchange.sendFile(this.#status || 200, this.#headerLines(null), path);
    return this;
  }

  /**
   * The status to send when the handler is done without an answer.
   *
   * @param {Tina4Response} response
   * @returns {void}
   * @private
   */
  static finish(response) {
    response.#exchange.send(response.#status || 204, response.#headerLines(null), null);
  }

  #template(caller, file, data, status) {
    const markup = this.#exchange.host.engine.render(file, jsonText(caller, data));
    return this.#answer(caller, markup, HTML, status);
  }

  #cookie(caller, name, value, options) {
    if (typeof name !== 'string') throw new TypeError(`${caller} takes a cookie name as string, not ${describe(name)}.`);
    if (!['string', 'number', 'boolean'].includes(typeof value)) {
      throw new TypeError(`${caller} takes a string as value of the cookie, not ${describe(value)}.`);
    }
    if (!isRecord(options)) throw new TypeError(`${caller} takes an object as options, not ${describe(options)}.`);
    onlyKeys(options, COOKIE_OPTIONS, caller);
    return this.header('set-cookie', cookie.serialize(name, String(value), { ...options, path: options.path ?? '/' }));
  }

  /**
   * @param {string} caller Named in errors
   * @param {string|Uint8Array|null} body
   * @param {string|null} type The line of the type that fits the body; null for none
   * @param {number} [status] Wins over the one set
   * @param {string} [contentType] Wins over the header set and over `type`
   */
  #answer(caller, body, type, status, contentType) {
    const code = status === undefined || status === null ? this.#status || 200 : checkStatus(caller, status);
    if (contentType !== undefined && contentType !== null) {
      this.header('content-type', contentType);
      type = null;
    } else if (this.#headers !== null && this.#headers.has('content-type')) {
      type = null;
    }
    this.#exchange.send(code, this.#headerLines(type), body);
    return this;
  }

  /** @param {string|null} type The line of the content type, if no header says it */
  #headerLines(type) {
    let lines = type ?? '';
    if (this.#headers !== null) {
      // Neither a name nor a value has a line end.
      for (const [name, values] of this.#headers) {
        for (const value of values) lines += `${name}:${value}\n`;
      }
    }
    return lines;
  }
}

function checkStatus(caller, code) {
  if (typeof code !== 'number') throw new TypeError(`${caller} takes a status code from 200 to 599, not ${describe(code)}.`);
  if (!Number.isInteger(code) || code < 200 || code > 599) {
    throw new RangeError(`${caller} takes a status code from 200 to 599, not ${code}.`);
  }
  return code;
}

function checkString(caller, what, value) {
  if (typeof value !== 'string') throw new TypeError(`${caller} takes ${what} as string, not ${describe(value)}.`);
}

function checkHeaderValue(name, value) {
  if (typeof value !== 'string' && typeof value !== 'number') {
    throw new TypeError(`res.header: the value of ${name} is a string, a number or an array of them, not ${describe(value)}.`);
  }
  const text = String(value);
  if (!HEADER_VALUE.test(text)) {
    throw new TypeError(
      `res.header: the value of ${name} has characters that no header can carry (line ends, control characters, non-ASCII); encode it, for example with encodeURIComponent.`,
    );
  }
  return text;
}

/** JSON of a value that must have one. */
function jsonText(caller, value) {
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new TypeError(`${caller}: the value has no JSON text: ${error.message}`, { cause: error });
  }
  if (text === undefined) throw new TypeError(`${caller}: ${describe(value)} has no JSON text.`);
  return text;
}

/** Percent-encodes what cannot stand in a URL. A backslash is encoded too: browsers read it as a slash. */
function encodeUrl(url) {
  return url.toWellFormed().replace(/[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]/gu, encodeURIComponent);
}

/** `Content-Disposition` with an ASCII name for old clients and the real one (RFC 6266, RFC 8187). */
function attachment(name) {
  const plain = name.replace(/[^\x20-\x7e]|["\\%]/g, '_');
  const encoded = encodeURIComponent(name.toWellFormed()).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return plain === name ? `attachment; filename="${plain}"` : `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}

module.exports = { Tina4Response };
