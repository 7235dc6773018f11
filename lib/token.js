'use strict';

const jwt = require('jsonwebtoken');
const { describe, isRecord } = require('./check.js');
const { createLog } = require('./log.js');

/** The only algorithm: a token must not be able to choose how it is checked. */
const ALGORITHM = 'HS256';

/** Secrets of the running servers that were given one in code; the newest is the default. */
const secrets = [];
let toldWithoutSecret = false;

/**
 * Makes a signed JSON Web Token (HS256). The claims are signed, not hidden.
 *
 * @param {object} payload The claims. `iat` and `exp` are set here; a token's own payload can be passed again to renew it
 * @param {string} [secret] Default: `secret` of the server started last, then `TINA4_SECRET`
 * @param {number} [expiresInMinutes=60] Lifetime in minutes, above 0
 * @returns {string}
 * @throws {TypeError|RangeError} for a payload that is no object or a lifetime that is no positive number
 * @throws {Error} if there is no secret
 */
function getToken(payload, secret, expiresInMinutes = 60) {
  if (!isRecord(payload)) throw new TypeError(`getToken takes an object as payload, not ${describe(payload)}.`);
  const key = secretOf('getToken', secret);
  if (typeof expiresInMinutes !== 'number' || Number.isNaN(expiresInMinutes)) {
    throw new TypeError(`getToken takes the lifetime as a number of minutes, not ${describe(expiresInMinutes)}.`);
  }
  if (expiresInMinutes <= 0 || !Number.isFinite(expiresInMinutes)) {
    throw new RangeError(`getToken takes a lifetime above 0 minutes, not ${expiresInMinutes}.`);
  }
  if (key === undefined) {
    throw new Error('getToken needs a secret: set TINA4_SECRET (environment or .env), or pass one as second argument.');
  }
  const claims = { ...payload };
  delete claims.iat;
  delete claims.exp;
  return jwt.sign(claims, key, { algorithm: ALGORITHM, expiresIn: Math.max(1, Math.round(expiresInMinutes * 60)) });
}

/**
 * Checks a token: signed with the secret (HS256), and with an end (`exp`) that has not come.
 *
 * @param {string} token Anything that is no valid token, other types too, gives `null`
 * @param {string} [secret] Default: `secret` of the server started last, then `TINA4_SECRET`. Without any, every token is
 *   `null`, which is logged once
 * @returns {object|null} The claims, or `null`
 * @throws {TypeError} if the secret is given and no string
 */
function validToken(token, secret) {
  const key = secretOf('validToken', secret);
  if (key === undefined) {
    if (!toldWithoutSecret) {
      toldWithoutSecret = true;
      createLog().warning('validToken refuses every token: no secret is set (TINA4_SECRET in the environment or .env).');
    }
    return null;
  }
  if (typeof token !== 'string' || token === '') return null;
  try {
    const payload = jwt.verify(token, key, { algorithms: [ALGORITHM] });
    // The library takes a token without an end for one that never ends.
    return isRecord(payload) && typeof payload.exp === 'number' ? payload : null;
  } catch {
    return null;
  }
}

/** @returns {string|undefined} */
function secretOf(caller, secret) {
  if (secret === undefined || secret === null) return secrets.at(-1) ?? (process.env.TINA4_SECRET || undefined);
  if (typeof secret !== 'string') throw new TypeError(`${caller} takes a secret as string, not ${describe(secret)}.`);
  return secret || undefined;
}

/**
 * Makes a server's own secret the default until it is closed.
 *
 * @param {string} secret
 * @returns {() => void} Takes it back
 * @private
 */
function useSecret(secret) {
  secrets.push(secret);
  return () => {
    const at = secrets.lastIndexOf(secret);
    if (at !== -1) secrets.splice(at, 1);
  };
}

module.exports = { getToken, useSecret, validToken };
