'use strict';

const { fromQuery } = require('./fields.js');

/** Fields a form body may have; more is answered with 400. It bounds the object a small body can blow up into. */
const MAX_FORM_FIELDS = 1000;

/** A body that cannot be read as what its content type says. Its message is the client's answer. */
class BodyError extends Error {
  constructor(message) {
    super(message);
    this.status = 400;
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * The value of a request body by its content type.
 *
 * | content type | value |
 * |---|---|
 * | no body | `{}` |
 * | `application/json`, `…+json` | the JSON value; an own key `__proto__` stays a key |
 * | `application/x-www-form-urlencoded` | an object without prototype, the last value of a repeated name |
 * | `text/*`, `application/xml`, `…+xml` | a string, decoded by the charset given, UTF-8 without one |
 * | anything else | the Buffer |
 *
 * @param {Buffer|null} bytes
 * @param {string} [contentType] The header field
 * @returns {any}
 * @throws {BodyError} for malformed JSON, JSON that is not UTF-8, or a form with more than 1,000 fields
 * @private
 */
function parseBody(bytes, contentType = '') {
  if (bytes === null || bytes.length === 0) return {};
  const type = contentType.split(/[;,]/, 1)[0].trim().toLowerCase();
  if (type === 'application/json' || type.endsWith('+json')) return parseJson(bytes);
  if (type === 'application/x-www-form-urlencoded') return parseForm(bytes);
  if (type.startsWith('text/') || type === 'application/xml' || type.endsWith('+xml')) return parseText(bytes, contentType);
  return bytes;
}

function parseJson(bytes) {
  let text;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new BodyError('The request body is not valid JSON: it is not UTF-8.');
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BodyError(`The request body is not valid JSON: ${error.message}.`);
  }
}

function parseForm(bytes) {
  let fields = 1;
  for (let at = bytes.indexOf(38); at !== -1; at = bytes.indexOf(38, at + 1)) {
    fields += 1;
    if (fields > MAX_FORM_FIELDS) {
      throw new BodyError(`The form in the request body has more than ${MAX_FORM_FIELDS} fields.`);
    }
  }
  return fromQuery(bytes.toString('utf8'));
}

function parseText(bytes, contentType) {
  const charset = /;\s*charset="?([^\s;"]+)/i.exec(contentType)?.[1] ?? 'utf-8';
  let decoder;
  try {
    decoder = new TextDecoder(charset);
  } catch {
    // A charset nobody here can read: the bytes are the honest answer.
    return bytes;
  }
  return decoder.decode(bytes);
}

module.exports = { BodyError, MAX_FORM_FIELDS, parseBody };
