'use strict';

const { execFileSync } = require('node:child_process');
const { createHmac, generateKeyPairSync } = require('node:crypto');
const path = require('node:path');
const jwt = require('jsonwebtoken');
const { getToken, validToken } = require('..');

const SECRET = 'a secret of this test';

let before;
beforeEach(() => {
  before = process.env.TINA4_SECRET;
  process.env.TINA4_SECRET = SECRET;
});
afterEach(() => {
  if (before === undefined) delete process.env.TINA4_SECRET;
  else process.env.TINA4_SECRET = before;
});

describe('getToken', () => {
  test('makes an HS256 token of the claims that ends after 60 minutes', () => {
    const token = getToken({ user: 7, name: 'José' });
    const { header, payload } = jwt.verify(token, SECRET, { complete: true });
    expect(header).toEqual({ alg: 'HS256', typ: 'JWT' });
    expect(payload).toEqual({ user: 7, name: 'José', iat: expect.any(Number), exp: payload.iat + 3600 });
  });

  test('takes a secret and a lifetime in minutes', () => {
    const token = getToken({ a: 1 }, 'another', 0.5);
    const payload = jwt.verify(token, 'another');
    expect(payload.exp - payload.iat).toBe(30);
    expect(validToken(token)).toBeNull();
  });

  test('a payload that came from a token can be used again', () => {
    const old = jwt.sign({ a: 1, iat: 1000, exp: 2000 }, SECRET);
    const renewed = validToken(getToken(jwt.decode(old)));
    expect(renewed.a).toBe(1);
    expect(renewed.exp).toBeGreaterThan(Date.now() / 1000 + 3500);
  });

  test('without a secret it throws, and says how to give one', () => {
    delete process.env.TINA4_SECRET;
    expect(() => getToken({})).toThrow('getToken needs a secret: set TINA4_SECRET (environment or .env), or pass one as second argument.');
    expect(() => getToken({}, '')).toThrow('getToken needs a secret');
    process.env.TINA4_SECRET = '';
    expect(() => getToken({})).toThrow('getToken needs a secret');
  });

  test('names what it takes', () => {
    expect(() => getToken('user')).toThrow('getToken takes an object as payload, not "user".');
    expect(() => getToken(null)).toThrow(TypeError);
    expect(() => getToken([1])).toThrow(TypeError);
    expect(() => getToken({}, 7)).toThrow('getToken takes a secret as string, not 7.');
    expect(() => getToken({}, SECRET, '60')).toThrow('getToken takes the lifetime as a number of minutes, not "60".');
    for (const minutes of [0, -1, Infinity]) expect(() => getToken({}, SECRET, minutes)).toThrow(RangeError);
    expect(() => getToken({}, SECRET, NaN)).toThrow(TypeError);
  });
});

describe('validToken', () => {
  test('gives the claims of a valid token', () => {
    expect(validToken(getToken({ user: 7 }))).toMatchObject({ user: 7 });
    expect(validToken(getToken({ user: 7 }, 'x'), 'x')).toMatchObject({ user: 7 });
  });

  test('refuses another secret, a changed token, and anything that is none', () => {
    const token = getToken({ user: 7 });
    expect(validToken(token, 'another')).toBeNull();
    const [head, claims, signature] = token.split('.');
    const forged = Buffer.from(JSON.stringify({ user: 1, exp: 9e9 })).toString('base64url');
    expect(validToken(`${head}.${forged}.${signature}`)).toBeNull();
    expect(validToken(`${head}.${claims}.`)).toBeNull();
    for (const value of ['', 'x', 'a.b.c', null, undefined, 7, {}, [token], Buffer.from(token)]) expect(validToken(value)).toBeNull();
  });

  test('takes HS256 only: neither none, nor another of the same key', () => {
    const claims = { user: 7, exp: Math.floor(Date.now() / 1000) + 60 };
    expect(validToken(jwt.sign(claims, SECRET, { algorithm: 'HS256' }))).toMatchObject({ user: 7 });
    expect(validToken(jwt.sign(claims, SECRET, { algorithm: 'HS512' }))).toBeNull();
    expect(validToken(jwt.sign(claims, '', { algorithm: 'none' }))).toBeNull();
  });

  test('refuses a token whose time is over, one whose time has not come, and one without an end', () => {
    const now = Math.floor(Date.now() / 1000);
    expect(validToken(jwt.sign({ exp: now - 1 }, SECRET))).toBeNull();
    expect(validToken(jwt.sign({ exp: now + 60, nbf: now + 30 }, SECRET))).toBeNull();
    expect(validToken(jwt.sign({ user: 7 }, SECRET))).toBeNull();
    expect(validToken(jwt.sign('text', SECRET))).toBeNull();
  });

  test('without a secret every token is null, which is logged once', () => {
    const script = `
      const { getToken, validToken } = require(${JSON.stringify(path.join(__dirname, '..'))});
      const token = getToken({}, 'x');
      console.log(validToken(token), validToken(token), validToken(token, ''), validToken('x'));`;
    const env = { ...process.env };
    delete env.TINA4_SECRET;
    const printed = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', env });
    expect(printed).toContain('null null null null\n');
    expect(printed.match(/validToken refuses every token: no secret is set/g)).toHaveLength(1);
  });

  test('a secret that is no string is a TypeError', () => {
    expect(() => validToken('x', 7)).toThrow('validToken takes a secret as string, not 7.');
  });
});

describe('tokens that a peer forges', () => {
  const now = () => Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  const forge = (header, payload, key) => {
    const text = `${part(header)}.${part(payload)}`;
    return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
  };

  test('cannot choose how they are checked', () => {
    const claims = { user: 1, exp: now() + 60 };
    expect(validToken(forge({ alg: 'HS256', typ: 'JWT' }, claims, SECRET), SECRET)).toMatchObject({ user: 1 });
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '', 'RS256', 'ES256', 'PS256', 'HS384', 'HS512', 'hs256', null, ['HS256'], 256]) {
      expect(validToken(forge({ alg, typ: 'JWT' }, claims, SECRET), SECRET)).toBeNull();
      expect(validToken(`${part({ alg, typ: 'JWT' })}.${part(claims)}.`, SECRET)).toBeNull();
    }
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = publicKey.export({ type: 'spki', format: 'pem' });
    expect(validToken(jwt.sign(claims, privateKey, { algorithm: 'RS256' }), pem)).toBeNull();
    // A public key is no secret: what is signed with its text must not pass either.
    expect(validToken(forge({ alg: 'HS256', typ: 'JWT' }, claims, pem), pem)).toBeNull();
  });

  test('of any length and content are null or claims, and nothing is thrown', () => {
    const good = forge({ alg: 'HS256' }, { exp: now() + 60 }, SECRET);
    for (const token of [
      'a'.repeat(1_000_000), '.'.repeat(100_000), `${good}a`, `${good}.`, `.${good}`, `${good}=`, ` ${good}`, `${good}\n`, `${good}\0`,
      forge({ alg: 'HS256' }, 'null', SECRET), forge({ alg: 'HS256' }, '[]', SECRET), forge({ alg: 'HS256' }, '{', SECRET),
      ...['"1"', '"9999999999"', 'null', 'true', '[]', '{}', '-1', '0'].map((exp) => forge({ alg: 'HS256' }, `{"exp":${exp}}`, SECRET)),
    ]) expect(validToken(token, SECRET)).toBeNull();
  });

  test('an end that is far away is an end, and claims have no way into prototypes', () => {
    const claims = validToken(forge({ alg: 'HS256' }, `{"exp":1e300,"__proto__":{"polluted":1}}`, SECRET), SECRET);
    expect(claims.exp).toBe(1e300);
    expect(claims.polluted).toBeUndefined();
    expect(Object.getPrototypeOf(claims)).toBe(Object.prototype);
  });
});
