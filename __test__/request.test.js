'use strict';

const http = require('node:http');
const { cleanUp, raw, serve } = require('./support.js');

afterEach(cleanUp);

/** A server whose route answers with what `look` reads from the request. */
const looking = (pattern, look, config) => serve((router) => router.any(pattern, (req, res) => res.json(look(req))), config);

const post = (body, type) => ({ method: 'POST', body, headers: type === undefined ? {} : { 'content-type': type } });

describe('method, url, path and ip', () => {
  test('are those of the request', async () => {
    const { fetch } = await looking('/users/{id}', ({ method, url, path, ip }) => ({ method, url, path, ip }));
    expect(await (await fetch('/users/jos%c3%a9?full=1', { method: 'PUT' })).json()).toEqual({
      method: 'PUT', url: '/users/jos%c3%a9?full=1', path: '/users/jos%C3%A9', ip: '127.0.0.1',
    });
  });

  test('X-Forwarded-For counts from trusted proxies only', async () => {
    const headers = { 'x-forwarded-for': '203.0.113.9' };
    const closed = await looking('/ip', (req) => req.ip);
    expect(await (await closed.fetch('/ip', { headers })).json()).toBe('127.0.0.1');
    const open = await looking('/ip', (req) => req.ip, { trustedProxies: ['127.0.0.1'] });
    expect(await (await open.fetch('/ip', { headers })).json()).toBe('203.0.113.9');
  });
});

describe('#params', () => {
  test('are decoded, and numbers where the pattern says so', async () => {
    const { fetch } = await looking('/{name}/{id:int}/{x:float}/{rest:path}', (req) => req.params);
    expect(await (await fetch('/a%2Fb/-7/2.5/c/d%20e')).json()).toEqual({ name: 'a/b', id: -7, x: 2.5, rest: 'c/d e' });
  });

  test('hold whatever a segment can hold, line ends, marks and header lines too', async () => {
    const { fetch } = await looking('/{a}/{b}/{c}', (req) => [req.params, req.headers['x-real'], Object.keys(req.headers).includes('x-made')]);
    const values = { a: '1%\n\n2\r\nx-made:up', b: '=:%0A', c: '100 % ö' };
    const path = Object.values(values).map(encodeURIComponent).join('/');
    expect(await (await fetch(`/${path}`, { headers: { 'x-real': 'yes' } })).json()).toEqual([values, 'yes', false]);
  });

  test('do not take the query', async () => {
    const { fetch } = await looking('/a/{id}', (req) => [req.params, req.query]);
    expect(await (await fetch('/a/1?id=2&t=3')).json()).toEqual([{ id: '1' }, { id: '2', t: '3' }]);
  });

  test('a bad escape in the path is 400, and the handler does not run', async () => {
    let called = 0;
    const { fetch } = await looking('/a/{id}', () => { called += 1; });
    for (const path of ['/a/%zz', '/a/%', '/a/%ff']) expect((await fetch(path)).status).toBe(400);
    expect(called).toBe(0);
  });
});

describe('#query', () => {
  test('is decoded, the last value of a name wins', async () => {
    const { fetch } = await looking('/q', (req) => req.query);
    expect(await (await fetch('/q?a=1&a=2&b=x+y%26&c&=d&e=%zz')).json()).toEqual({ a: '2', b: 'x y&', c: '', '': 'd', e: '%zz' });
    expect(await (await fetch('/q')).json()).toEqual({});
  });

  test('has no prototype, so that no name is special', async () => {
    const { fetch } = await looking('/q', (req) => [Object.getPrototypeOf(req.query), Object.keys(req.query), {}.polluted === undefined]);
    expect(await (await fetch('/q?__proto__=1&constructor=2&hasOwnProperty=3&__proto__[polluted]=4')).json())
      .toEqual([null, ['__proto__', 'constructor', 'hasOwnProperty', '__proto__[polluted]'], true]);
  });
});

describe('#headers and #header', () => {
  test('have names in lower case and any case finds them', async () => {
    const { fetch } = await looking('/h', (req) => [req.headers['x-one'], req.header('X-ONE'), req.header('x-none') === undefined, Object.getPrototypeOf(req.headers)]);
    expect(await (await fetch('/h', { headers: { 'X-One': 'a' } })).json()).toEqual(['a', 'a', true, null]);
  });

  test('repeated fields are joined, cookies with a semicolon', async () => {
    const { port } = await looking('/h', (req) => [req.headers['x-a'], req.headers.cookie, req.cookies]);
    const answer = await raw(port, 'GET /h HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\nCookie: a=1\r\nCookie: b=2\r\nConnection: close\r\n\r\n');
    expect(answer).toContain(JSON.stringify(['1, 2', 'a=1; b=2', { a: '1', b: '2' }]));
  });

  test('a head that is too large or has too many fields is refused with 431, and the server goes on', async () => {
    const { port, fetch } = await looking('/h', () => 'ok', { maxHeaders: 20 });
    expect(await raw(port, `GET /h HTTP/1.1\r\nHost: x\r\nX-Big: ${'a'.repeat(64 * 1024)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
    const many = Array.from({ length: 50 }, (_, i) => `X-${i}: 1\r\n`).join('');
    expect(await raw(port, `GET /h HTTP/1.1\r\nHost: x\r\n${many}\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
    expect(await (await fetch('/h')).json()).toBe('ok');
  });

  test('header() names what it takes', async () => {
    const { fetch } = await looking('/h', (req) => { try { req.header(7); return 'no error'; } catch (error) { return `${error instanceof TypeError} ${error.message}`; } });
    expect(await (await fetch('/h')).json()).toBe('true req.header takes a header name as string, not 7.');
  });
});

describe('#cookies', () => {
  test('are decoded and have no prototype', async () => {
    const { fetch } = await looking('/c', (req) => [req.cookies, Object.getPrototypeOf(req.cookies)]);
    const headers = { cookie: 'a=1; b="x"; c=%E2%82%AC; d=%zz; __proto__=p; a=2' };
    const [cookies, prototype] = await (await fetch('/c', { headers })).json();
    expect({ ...cookies }).toMatchObject({ a: '1', c: '€', d: '%zz' });
    expect(Object.keys(cookies)).toContain('__proto__');
    expect(prototype).toBeNull();
    expect((await (await fetch('/c')).json())[0]).toEqual({});
  });
});

describe('#bearerToken', () => {
  test.each([
    ['Bearer abc.d-e_f', 'abc.d-e_f'], ['bearer   x==', 'x=='], ['Basic abc', null], ['Bearer', null], ['Bearer a b', null], [undefined, null],
  ])('of %p is %p', async (authorization, token) => {
    const { fetch } = await looking('/t', (req) => req.bearerToken());
    expect(await (await fetch('/t', { headers: authorization === undefined ? {} : { authorization } })).json()).toBe(token);
  });

  test('two Authorization fields are none', async () => {
    const { port } = await looking('/t', (req) => [req.bearerToken()]);
    expect(await raw(port, 'GET /t HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\nConnection: close\r\n\r\n')).toContain('[null]');
  });
});

describe('#body', () => {
  const echo = () => serve((router) => router.any('/b', (req, res) => {
    const { body } = req;
    if (Buffer.isBuffer(body)) res.json({ bytes: body.toString('hex') });
    else res.json({ type: typeof body, body, prototype: Object.getPrototypeOf(Object(body)) === null });
  }));

  test.each([
    ['application/json', '{"a":[1,"ä"]}', { a: [1, 'ä'] }],
    ['application/json; charset=utf-8', '7', 7],
    ['application/vnd.api+json', 'null', null],
    ['APPLICATION/JSON', '"x"', 'x'],
    ['application/json', `${String.fromCharCode(0xfeff)}[1]`, [1]],
    ['application/json', '', {}],
  ])('of %s %p is the value', async (type, text, value) => {
    const { fetch } = await echo();
    expect((await (await fetch('/b', post(text, type))).json()).body).toEqual(value);
  });

  test.each(['{"a":1', 'nope', '{"a":1}}', '\u0000'])('malformed JSON %p is 400 with a sentence, and the handler does not run', async (text) => {
    let called = false;
    const { fetch } = await serve((router) => router.post('/b', (req, res) => { called = true; res.text('no'); }));
    const answer = await fetch('/b', post(text, 'application/json'));
    expect(answer.status).toBe(400);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect((await answer.json()).message).toMatch(/^The request body is not valid JSON: /);
    expect(called).toBe(false);
  });

  test('JSON that is not UTF-8 is 400', async () => {
    const { fetch } = await echo();
    const answer = await fetch('/b', post(Buffer.from([0x22, 0xff, 0x22]), 'application/json'));
    expect([answer.status, (await answer.json()).message]).toEqual([400, 'The request body is not valid JSON: it is not UTF-8.']);
  });

  test('__proto__ in JSON is a key and changes no prototype', async () => {
    const { fetch } = await serve((router) => router.post('/b', (req, res) => res.json([Object.keys(req.body), {}.admin === undefined, req.body.admin === undefined])));
    expect(await (await fetch('/b', post('{"__proto__":{"admin":true}}', 'application/json'))).json()).toEqual([['__proto__'], true, true]);
  });

  test('a form is an object without prototype, the last value of a name wins', async () => {
    const { fetch } = await echo();
    const answer = await (await fetch('/b', post('a=1&a=2&b=x+%C3%A4&c', 'application/x-www-form-urlencoded'))).json();
    expect(answer).toEqual({ type: 'object', body: { a: '2', b: 'x ä', c: '' }, prototype: true });
  });

  test('a form of more than 1,000 fields is 400', async () => {
    const { fetch } = await echo();
    const form = (fields) => post(Array.from({ length: fields }, (_, i) => `f${i}=1`).join('&'), 'application/x-www-form-urlencoded');
    expect((await fetch('/b', form(1000))).status).toBe(200);
    const answer = await fetch('/b', form(1001));
    expect([answer.status, (await answer.json()).message]).toEqual([400, 'The form in the request body has more than 1000 fields.']);
  });

  test('no body is an empty object, for every method', async () => {
    const { fetch } = await echo();
    for (const method of ['GET', 'POST', 'DELETE']) expect((await (await fetch('/b', { method })).json()).body).toEqual({});
    expect((await (await fetch('/b', post(''))).json()).body).toEqual({});
  });

  test('text is a string in its charset, other types are a Buffer', async () => {
    const { fetch } = await echo();
    expect((await (await fetch('/b', post('grüß', 'text/plain'))).json()).body).toBe('grüß');
    expect((await (await fetch('/b', post(Buffer.from('gr\xfc\xdf', 'latin1'), 'text/csv; charset="iso-8859-1"'))).json()).body).toBe('grüß');
    expect((await (await fetch('/b', post('<a/>', 'application/xml'))).json()).body).toBe('<a/>');
    expect(await (await fetch('/b', post(Buffer.from([0, 255]), 'image/png'))).json()).toEqual({ bytes: '00ff' });
    expect(await (await fetch('/b', post('x', 'text/plain; charset=klingon'))).json()).toEqual({ bytes: '78' });
  });

  test('a chunked body arrives whole', async () => {
    const { port } = await serve((router) => router.post('/b', (req, res) => res.text(String(req.body.length))));
    const size = await new Promise((resolve, reject) => {
      const request = http.request({ port, host: '127.0.0.1', path: '/b', method: 'POST', headers: { 'content-type': 'text/plain' } }, (answer) => {
        answer.setEncoding('utf8').once('data', resolve);
      });
      request.on('error', reject);
      for (let i = 0; i < 20; i += 1) request.write('x'.repeat(10_000));
      request.end();
    });
    expect(size).toBe('200000');
  });

  test('a body over TINA4_MAX_UPLOAD_SIZE is 413, announced or not, and the handler does not run', async () => {
    let called = 0;
    const { fetch, port } = await serve((router) => router.post('/b', (req, res) => { called += 1; res.text('ok'); }), { maxUploadSize: 1000 });
    expect((await fetch('/b', post('x'.repeat(1000), 'text/plain'))).status).toBe(200);
    expect((await fetch('/b', post('x'.repeat(1001), 'text/plain'))).status).toBe(413);
    const chunk = `3e8\r\n${'x'.repeat(1000)}\r\n`;
    expect(await raw(port, `POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${chunk}${chunk}0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 413 /);
    expect(called).toBe(1);
  });
});
