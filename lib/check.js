'use strict';

/**
 * Checks of arguments that come from users' code.
 *
 * They use `typeof` and `util.types`, never `instanceof`: under jest and `node:vm` a value's class belongs to another realm.
 */

const { types } = require('node:util');

/** Longest close reason in bytes: a control frame carries 125, two of them are the code (RFC 6455 section 5.5). */
const MAX_REASON = 123;

/**
 * How an error message names a value: its type and, where that helps, its text.
 *
 * @param {unknown} value
 * @returns {string}
 */
function describe(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  switch (typeof value) {
    case 'undefined': return 'undefined';
    case 'string': return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
    case 'number':
    case 'boolean': return String(value);
    case 'bigint': return `${value}n`;
    case 'object': return types.isPromise(value) ? 'a promise (await it first)' : 'an object';
    default: return `a ${typeof value}`;
  }
}

/**
 * The bytes of a binary message as the addon takes them.
 *
 * @param {unknown} message Anything but a string
 * @param {string} caller Named in the error, for example `connection.send`
 * @returns {Uint8Array} The same memory as `message`, not a copy
 * @throws {TypeError} if `message` is no Buffer and no ArrayBuffer view
 */
function messageBytes(message, caller) {
  if (types.isUint8Array(message)) return message;
  if (ArrayBuffer.isView(message)) return new Uint8Array(message.buffer, message.byteOffset, message.byteLength);
  const hint = message !== null && typeof message === 'object' ? ' Objects go through JSON.stringify (or sendJson).' : '';
  throw new TypeError(
    `${caller} takes a string, a Buffer or an ArrayBuffer view as message, not ${describe(message)}.${hint}`,
  );
}

/**
 * Refuses keys that are not in the list, so that a misspelt option does not silently do nothing.
 *
 * @param {object} options
 * @param {Iterable<string>} accepted
 * @param {string} owner Named in the error, for example `Router.websocket`
 * @throws {TypeError}
 */
function onlyKeys(options, accepted, owner) {
  const known = new Set(accepted);
  for (const key of Object.keys(options)) {
    if (!known.has(key)) {
      throw new TypeError(`${owner} has no option ${JSON.stringify(key)}; accepted are ${[...known].join(', ')}.`);
    }
  }
}

/**
 * @param {unknown} value
 * @returns {boolean} Whether it is an object that can carry named options: no array, no bytes, not null
 */
function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/**
 * Checks what goes into a close frame.
 *
 * @param {unknown} code 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 section 7.4 and its registry)
 * @param {unknown} reason At most 123 bytes of UTF-8
 * @param {string} caller Named in the error
 * @throws {TypeError|RangeError}
 */
function checkClose(code, reason, caller) {
  if (typeof code !== 'number') {
    throw new TypeError(`${caller} takes a number as close code, not ${describe(code)}.`);
  }
  const sendable = Number.isInteger(code)
    && ((code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999));
  if (!sendable) {
    throw new RangeError(
      `${caller}: ${code} may not be sent as close code; accepted are 1000 to 1003, 1007 to 1014 and 3000 to 4999.`,
    );
  }
  if (typeof reason !== 'string') {
    throw new TypeError(`${caller} takes a string as close reason, not ${describe(reason)}.`);
  }
  const bytes = Buffer.byteLength(reason);
  if (bytes > MAX_REASON) {
    throw new RangeError(`${caller}: the close reason has ${bytes} bytes of UTF-8; at most ${MAX_REASON} fit a close frame.`);
  }
}

module.exports = { checkClose, describe, isRecord, messageBytes, onlyKeys };
