'use strict';

const { execFileSync } = require('node:child_process');
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
