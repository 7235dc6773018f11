'use strict';

const cookie = require('cookie');

/**
 * Objects of named texts, built from the flat lists and lines the addon hands over.
 *
 * None has a prototype: names come from the peer, and `__proto__` or `constructor` must be keys like any other.
 */

/**
 * @param {unknown[]} flat `[name, value, …]`
 * @param {object} [into] Filled and returned; default a new object
 * @returns {Record<string, any>} A later value replaces an earlier one of its name
 */
function fromPairs(flat, into = Object.create(null)) {
  for (let i = 0; i < flat.length; i += 2) into[flat[i]] = flat[i + 1];
  return into;
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
  const object = Object.create(null);
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

module.exports = { fromCookies, fromHeaders, fromPairs, fromQuery };
