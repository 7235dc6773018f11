'use strict';

const cookie = require('cookie');

/**
 * Objects of named texts, built from the lines the addon hands over.
 *
 * None has a prototype: names come from the peer, and `__proto__` or `constructor` must be keys like any other.
 */

/**
 * For names that are the same in most requests, which V8 caches: a store of a new one costs 0.06 µs. `Object.create(null)` makes a hash
 * table, at 0.4 µs; it suits names of which peers think up new ones.
 *
 * @returns {Record<string, any>}
 */
function withoutPrototype() {
  return Object.setPrototypeOf({}, null);
}

/**
 * @param {string} text Lines, those of the parameters up to an empty one
 * @param {number} start Where the first of these begins
 * @param {object} [into] Filled and returned; default a new object
 * @returns {Record<string, any>} A later value replaces an earlier one of its name
 */
function fromParams(text, start, into = withoutPrototype()) {
  for (let at = start; ;) {
    const end = text.indexOf('\n', at);
    if (end <= at) return into;
    let mark = at;
    while (!isMark(text.charCodeAt(mark))) mark += 1;
    const value = text.slice(mark + 1, end);
    into[text.slice(at, mark)] = decoded(text.charCodeAt(mark), value);
    at = end + 1;
  }
}

/** Between the name of a parameter and a text, an escaped text, a number. No name has one of them. */
const IS_TEXT = '='.charCodeAt(0);
const IS_ESCAPED = '%'.charCodeAt(0);
const IS_NUMBER = ':'.charCodeAt(0);

function isMark(code) {
  return code === IS_TEXT || code === IS_NUMBER || code === IS_ESCAPED;
}

function decoded(mark, value) {
  if (mark === IS_NUMBER) return Number(value);
  return mark === IS_ESCAPED ? decodeURIComponent(value) : value;
}

/**
 * @param {string} raw A query string or form body: `a=1&b=2`, percent-encoded, `+` for space
 * @returns {Record<string, string>} The last value of a repeated name; a bad escape stays as it is written
 */
function fromQuery(raw) {
  const object = Object.create(null);
  if (raw === '') return object;
  for (const [name, value] of new URLSearchParams(raw)) object[name] = value;
  return object;
}

/**
 * @param {string} text Lines of `name:value`, names in lower case
 * @param {number} [start=0] Where the first line begins
 * @returns {Record<string, string>} Repeated fields joined with `", "`, cookies with `"; "` (RFC 9110 5.3, RFC 6265 5.4)
 */
function fromHeaders(text, start = 0) {
  const object = withoutPrototype();
  for (const line of text.slice(start).split('\n')) {
    const colon = line.indexOf(':');
    // Only what is behind the last line end has none.
    if (colon === -1) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1);
    const earlier = object[name];
    object[name] = earlier === undefined ? value : `${earlier}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return object;
}

/**
 * @param {string|undefined} field The `cookie` header
 * @returns {Record<string, string>} Decoded; the first value of a repeated name, as browsers send the closest match first
 */
function fromCookies(field) {
  const object = Object.create(null);
  return field === undefined ? object : Object.assign(object, cookie.parse(field));
}

module.exports = { fromCookies, fromHeaders, fromParams, fromQuery };
