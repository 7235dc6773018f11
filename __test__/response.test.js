'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { cleanUp, deferred, raw, serve, sleep, temporaryFolder, until } = require('./support.js');

afterEach(cleanUp);

/** One answer of a handler. */
async function answerOf(handler, { config, target = '/r', options } = {}) {
  const served = await serve((router) => router.any('/r', handler), config);
  const response = await served.fetch(target, options);
  const body = Buffer.from(await response.arrayBuffer());
  return { ...served, response, status: response.status, headers: response.headers, body: body.toString(), bytes: body };
}

const typeOf = ({ headers }) => headers.get('content-type');

/** What a call throws, seen from inside a handler. */
const thrownBy = async (call) => {
  const { body } = await answerOf((req, res) => {
    try {
      call(res);
      res.text('nothing thrown');
    } catch (error) {
      res.text(`${error instanceof TypeError ? 'TypeError' : error instanceof RangeError ? 'RangeError' : error.name}: ${error.message}`);
    }
  });
  return body;
};

describe('calling the response, and #send', () => {
  test.each([
    ['an object', { a: 1 }, 'application/json', '{"a":1}'],
    ['an array', [1, 'ä'], 'application/json', '[1,"ä"]'],
    ['a number', 7, 'application/json', '7'],
    ['false', false, 'application/json', 'false'],
    ['markup', '<p>hi</p>\n', 'text/html; charset=utf-8', '<p>hi</p>\n'],
    ['text', 'a < b', 'text/plain; charset=utf-8', 'a < b'],
    ['an empty string', '', 'text/plain; charset=utf-8', ''],
    ['null', null, null, ''],
    ['nothing', undefined, null, ''],
  ])('answers with %s as what it is', async (name, data, type, body) => {
    for (const answer of [await answerOf((req, res) => res(data)), await answerOf((req, res) => res.send(data))]) {
      expect([answer.status, typeOf(answer), answer.body]).toEqual([200, type, body]);
    }
  });

  test('sends Buffers and views as bytes', async () => {
    const buffer = await answerOf((req, res) => res(Buffer.from([0, 255, 10])));
    expect([typeOf(buffer), buffer.bytes]).toEqual(['application/octet-stream', Buffer.from([0, 255, 10])]);
    const view = await answerOf((req, res) => res(new DataView(new Uint8Array([1, 2, 3, 4]).buffer, 1, 2)));
    expect(view.bytes).toEqual(Buffer.from([2, 3]));
  });

  test('takes status and content type', async () => {
    const answer = await answerOf((req, res) => res('a,b', 201, 'text/csv'));
    expect([answer.status, typeOf(answer), answer.body]).toEqual([201, 'text/csv', 'a,b']);
  });

  test('is a function with the methods, and every one returns it', async () => {
    const { body } = await answerOf((req, res) => {
      const same = [res.status(200), res.header('x-a', 'b'), res.cookie('a', '1'), res.clearCookie('b')].every((one) => one === res);
      const returned = res.json({ function: typeof res === 'function', same });
      if (returned !== res) throw new Error('json() returned something else');
      return returned;
    });
    expect(JSON.parse(body)).toEqual({ function: true, same: true });
  });
});

describe('#json, #text, #html', () => {
  test('json has no charset, and undefined is null', async () => {
    const answer = await answerOf((req, res) => res.json({ a: 'ä' }, 202));
    expect([answer.status, typeOf(answer), answer.body]).toEqual([202, 'application/json', '{"a":"ä"}']);
    expect((await answerOf((req, res) => res.json(undefined))).body).toBe('null');
  });

  test('json refuses what has no JSON text', async () => {
    const cycle = {};
    cycle.self = cycle;
    expect(await thrownBy((res) => res.json(cycle))).toMatch(/^TypeError: res\.json: the value has no JSON text: /);
    expect(await thrownBy((res) => res.json(1n))).toMatch(/^TypeError: res\.json/);
    expect(await thrownBy((res) => res.json(() => {}))).toMatch(/^TypeError: res\.json/);
  });

  test('text and html send what they are given', async () => {
    const text = await answerOf((req, res) => res.text('<b>', 418));
    expect([text.status, typeOf(text), text.body]).toEqual([418, 'text/plain; charset=utf-8', '<b>']);
    const one = await answerOf((req, res) => res.html('plain words'));
    expect([one.status, typeOf(one), one.body]).toEqual([200, 'text/html; charset=utf-8', 'plain words']);
    const two = await answerOf((req, res) => res.html('<h1>x</h1>', 404));
    expect([two.status, two.body]).toEqual([404, '<h1>x</h1>']);
  });

  test('keeps the order of the keys of an object', async () => {
    const directory = temporaryFolder({ 'src/templates/keys.html': '{% for key in row %}{{ key }} {% endfor %}{{ row|tojson }}' });
    const html = await answerOf((req, res) => res.html('keys.html', { row: { b: 1, a: 2, 10: 3 } }), { config: { directory } });
    expect(html.body).toBe('10 b a {"10": 3, "b": 1, "a": 2}');
  });

  test('html with an object, and render, render the template', async () => {
    const directory = temporaryFolder({ 'src/templates/page.html': '<p>{{ name }}</p>' });
    const config = { directory };
    const html = await answerOf((req, res) => res.html('page.html', { name: '<you>' }), { config });
    expect([html.status, typeOf(html), html.body]).toEqual([200, 'text/html; charset=utf-8', '<p>&lt;you&gt;</p>']);
    const rendered = await answerOf(async (req, res) => res.render('page.html', { name: 'R&D' }, 201), { config });
    expect([rendered.status, rendered.body]).toEqual([201, '<p>R&amp;D</p>']);
    expect((await answerOf((req, res) => res.render('page.html'), { config })).body).toBe('<p></p>');
  });

  test('a template that is missing or broken is 500, and the log names file and line', async () => {
    const directory = temporaryFolder({ 'src/templates/broken.html': 'one\n{% if %}\n' });
    const broken = await answerOf((req, res) => res.html('broken.html', {}), { config: { directory } });
    expect(broken.status).toBe(500);
    expect(broken.log.text()).toMatch(/broken\.html[^]*2/);
    const missing = await answerOf((req, res) => res.html('nowhere.html', {}), { config: { directory } });
    expect(missing.status).toBe(500);
    expect(missing.log.text()).toContain('nowhere.html');
  });

  test('an unreadable template is 500 and named', async () => {
    const directory = temporaryFolder();
    fs.mkdirSync(path.join(directory, 'src/templates/folder.html'), { recursive: true });
    const answer = await answerOf((req, res) => res.html('folder.html', {}), { config: { directory } });
    expect(answer.status).toBe(500);
    expect(answer.log.text()).toContain('folder.html');
  });

  test('html and render name what they take', async () => {
    expect(await thrownBy((res) => res.html({ a: 1 }))).toBe('TypeError: res.html takes markup or a template file as string, not an object.');
    expect(await thrownBy((res) => res.html('x', 'y'))).toMatch(/^TypeError: res\.html takes a status code or an object/);
    expect(await thrownBy((res) => res.html('x', []))).toMatch(/not an array\.$/);
    expect(await thrownBy((res) => res.render('x', 5))).toMatch(/^TypeError: res\.render takes an object/);
  });
});

describe('#status', () => {
  test('is used by the answer, unless that brings its own', async () => {
    expect((await answerOf((req, res) => res.status(201).json({}))).status).toBe(201);
    expect((await answerOf((req, res) => res.status(201).json({}, 202))).status).toBe(202);
  });

  test.each([199, 600, 0, -1, 200.5, NaN, Infinity])('refuses %p with a RangeError', async (code) => {
    expect(await thrownBy((res) => res.status(code))).toBe(`RangeError: res.status takes a status code from 200 to 599, not ${code}.`);
    expect(await thrownBy((res) => res.json({}, code))).toMatch(/^RangeError: res\.json/);
  });

  test('refuses another type with a TypeError', async () => {
    expect(await thrownBy((res) => res.status('200'))).toBe('TypeError: res.status takes a status code from 200 to 599, not "200".');
    expect(await thrownBy((res) => res.status())).toMatch(/^TypeError/);
  });

  test.each([204, 304])('%i goes without a body, and the connection stays usable', async (code) => {
    const { port } = await serve((router) => {
      router.get('/r', (req, res) => res.json({ not: 'sent' }, code));
      router.get('/after', (req, res) => res.text('after'));
    });
    const answers = await raw(port, 'GET /r HTTP/1.1\r\nHost: x\r\n\r\nGET /after HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(answers).toMatch(new RegExp(`^HTTP/1\\.1 ${code} `));
    expect(answers).not.toContain('sent');
    expect(answers.endsWith('\r\n\r\nafter')).toBe(true);
  });
});

describe('#header', () => {
  test('replaces, adds cookies, and sends arrays as several fields', async () => {
    const { headers } = await answerOf((req, res) => res
      .header('X-A', 'one').header('x-a', 'two').header('X-N', 7)
      .header('set-cookie', 'a=1').header('set-cookie', 'b=2').header('vary', ['accept', 'origin'])
      .text(''));
    expect([headers.get('x-a'), headers.get('x-n'), headers.get('vary')]).toEqual(['two', '7', 'accept, origin']);
    expect(headers.getSetCookie()).toEqual(['a=1', 'b=2']);
  });

  test('a content type set before is kept', async () => {
    expect(typeOf(await answerOf((req, res) => res.header('Content-Type', 'application/problem+json').json({})))).toBe('application/problem+json');
  });

  test.each(['a\r\nX-Evil: 1', 'a\nb', 'a\0b', 'a\x7f', 'josé'])('refuses the value %j', async (value) => {
    expect(await thrownBy((res) => res.header('x-a', value))).toMatch(/^TypeError: res\.header: the value of x-a has characters/);
  });

  test.each(['', 'a b', 'a:b', 'a\r\nb', 'ä', 7, undefined])('refuses the name %j', async (name) => {
    expect(await thrownBy((res) => res.header(name, 'x'))).toMatch(/^TypeError: res\.header: .* is no header name/);
  });

  test.each([undefined, null, {}, true])('refuses %p as value', async (value) => {
    expect(await thrownBy((res) => res.header('x-a', value))).toMatch(/^TypeError: res\.header: the value of x-a is a string/);
  });

  test.each(['Content-Length', 'transfer-encoding', 'Connection', 'upgrade'])('refuses %s, which is the server\'s own', async (name) => {
    expect(await thrownBy((res) => res.header(name, '1'))).toBe(`TypeError: res.header: the server sets ${name.toLowerCase()} itself.`);
  });
});

describe('#redirect', () => {
  test('is 302 unless another is given', async () => {
    const one = await answerOf((req, res) => res.redirect('/elsewhere?a=1#b'));
    expect([one.status, one.headers.get('location'), one.body]).toEqual([302, '/elsewhere?a=1#b', '']);
    const two = await answerOf((req, res) => res.redirect('https://example.com/', 308));
    expect([two.status, two.headers.get('location')]).toEqual([308, 'https://example.com/']);
  });

  test('encodes what cannot stand in a URL, and keeps escapes', async () => {
    const { headers } = await answerOf((req, res) => res.redirect('/josé a\r\nX-Evil: 1\\b?q=%20"<>&'));
    expect(headers.get('location')).toBe('/jos%C3%A9%20a%0D%0AX-Evil:%201%5Cb?q=%20%22%3C%3E&');
    expect(headers.get('x-evil')).toBeNull();
  });

  test('refuses other statuses and types', async () => {
    expect(await thrownBy((res) => res.redirect('/a', 200))).toBe('RangeError: res.redirect takes a status from 300 to 399, not 200.');
    expect(await thrownBy((res) => res.redirect(undefined))).toMatch(/^TypeError: res\.redirect takes a URL/);
  });
});

describe('#cookie and #clearCookie', () => {
  test('set and forget cookies', async () => {
    const { headers } = await answerOf((req, res) => res
      .cookie('session', 'a b;c', { httpOnly: true, secure: true, sameSite: 'strict', maxAge: 60, path: '/app' })
      .cookie('n', 7, { path: undefined }).clearCookie('old').text(''));
    expect(headers.getSetCookie()).toEqual([
      'session=a%20b%3Bc; Max-Age=60; Path=/app; HttpOnly; Secure; SameSite=Strict',
      'n=7; Path=/',
      'old=; Max-Age=0; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT',
    ]);
  });

  test('what was set comes back in req.cookies', async () => {
    const { fetch } = await serve((router) => router.get('/r', (req, res) => res.cookie('c', 'ä "=;').json(req.cookies)));
    const [set] = (await fetch('/r')).headers.getSetCookie();
    expect(await (await fetch('/r', { headers: { cookie: set.split(';')[0] } })).json()).toEqual({ c: 'ä "=;' });
  });

  test('refuse what cannot stand in a cookie', async () => {
    expect(await thrownBy((res) => res.cookie('a b', '1'))).toMatch(/^TypeError/);
    expect(await thrownBy((res) => res.cookie('a', '1', { path: '/\r\n' }))).toMatch(/^TypeError/);
    expect(await thrownBy((res) => res.cookie('a', {}))).toBe('TypeError: res.cookie takes a string as value of the cookie, not an object.');
    expect(await thrownBy((res) => res.cookie('a', '1', { httponly: true }))).toMatch(/has no option "httponly"; accepted are /);
  });
});

describe('#file', () => {
  const directory = () => temporaryFolder({ 'files/a.txt': 'content', 'files/b.pdf': '%PDF', 'other/é.txt': 'x' });

  test('sends a file of the app with its type', async () => {
    const answer = await answerOf((req, res) => res.file('files/a.txt'), { config: { directory: directory() } });
    expect([answer.status, answer.body]).toEqual([200, 'content']);
    expect(typeOf(answer)).toMatch(/^text\/plain/);
    expect(answer.headers.get('content-disposition')).toBeNull();
  });

  test.each([204, 205, 304])('sends none with %i', async (code) => {
    const { port } = await serve((router) => {
      router.get('/r', (req, res) => res.status(code).file('files/a.txt'));
      router.get('/after', (req, res) => res.text('after'));
    }, { directory: directory() });
    const answers = await raw(port, 'GET /r HTTP/1.1\r\nHost: x\r\n\r\nGET /after HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(answers).toMatch(new RegExp(`^HTTP/1\\.1 ${code} `));
    expect(answers.split('\r\n\r\n')[0]).not.toMatch(/content-length: [^0]/);
    expect(answers).not.toContain('content\r\n');
    expect(answers.endsWith('\r\n\r\nafter')).toBe(true);
  });

  test('offers it for saving', async () => {
    const config = { directory: directory() };
    const named = await answerOf((req, res) => res.file('files/b.pdf', 'report "1".pdf'), { config });
    expect([typeOf(named), named.headers.get('content-disposition')]).toEqual([
      'application/pdf', 'attachment; filename="report _1_.pdf"; filename*=UTF-8\'\'report%20%221%22.pdf',
    ]);
    const own = await answerOf((req, res) => res.file('files/a.txt', { download: true, contentType: 'text/x-special' }), { config });
    expect([typeOf(own), own.headers.get('content-disposition')]).toEqual(['text/x-special', 'attachment; filename="a.txt"']);
  });

  test('is 404 for what is not there, and for every way out of the folder', async () => {
    const root = temporaryFolder({ 'secret.txt': 'secret', 'app/in.txt': 'in' });
    fs.symlinkSync(path.join(root, 'secret.txt'), path.join(root, 'app/link.txt'));
    const config = { directory: path.join(root, 'app') };
    for (const name of ['none.txt', '../secret.txt', 'x/../../secret.txt', path.join(root, 'secret.txt'), 'link.txt', '/etc/passwd', '.']) {
      const answer = await answerOf((req, res) => res.file(name), { config });
      expect([name, answer.status]).toEqual([name, 404]);
      expect(answer.body).not.toContain('secret!');
    }
  });

  test('names what it takes', async () => {
    expect(await thrownBy((res) => res.file('a\0b'))).toBe('TypeError: res.file takes a path without NUL characters.');
    expect(await thrownBy((res) => res.file(7))).toMatch(/^TypeError: res\.file takes a path as string/);
    expect(await thrownBy((res) => res.file('a', { inline: true }))).toMatch(/has no option "inline"; accepted are download, contentType\.$/);
  });
});

describe('answering', () => {
  test('the first answer wins, the second is logged with the route', async () => {
    const { body, log } = await answerOf((req, res) => { res.text('first'); res.text('second'); res.json({ third: 1 }); });
    expect(body).toBe('first');
    expect(log.lines.filter((line) => line.includes('more than once'))).toEqual([
      'warn: The handler of GET /r answered more than once; only the first answer was sent.',
    ]);
  });

  test('a sync handler may answer from a callback', async () => {
    expect((await answerOf((req, res) => { setTimeout(() => res.text('later'), 20); })).body).toBe('later');
  });

  test('an async handler without an answer gets an empty one, with the status it set', async () => {
    const empty = await answerOf(async () => {});
    expect([empty.status, empty.body]).toEqual([204, '']);
    expect(empty.log.text()).toContain('The handler of GET /r finished without an answer; an empty one was sent.');
    expect((await answerOf(async (req, res) => { res.status(202).header('x-a', 'b'); })).status).toBe(202);
    const returned = await answerOf(async () => ({ a: 1 }));
    expect(returned.log.text()).toContain('The handler of GET /r returned an object without an answer; what a handler returns is not sent.');
  });

  test('a handler that throws or rejects is 500 with the stack in development, and the server goes on', async () => {
    for (const handler of [() => { throw new Error('boom\nforged'); }, async () => { await null; throw new Error('boom\nforged'); }]) {
      const { status, body, log, fetch } = await answerOf(handler);
      expect(status).toBe(500);
      expect(body).toMatch(/^Error: boom\nforged\n {4}at /);
      expect(log.text()).toMatch(/^error: The handler of GET \/r failed\.\n {4}Error: boom\\nforged\n {8}at /m);
      expect((await fetch('/r')).status).toBe(500);
    }
  });

  test('in production the answer hides what was thrown, unless TINA4_DEBUG says otherwise', async () => {
    const before = process.env.NODE_ENV;
    process.env.NODE_ENV = 'production';
    try {
      const hidden = await answerOf(() => { throw new Error('password=1'); });
      expect([hidden.status, hidden.body]).toEqual([500, '{"error":"Internal Server Error","statusCode":500,"message":"the handler failed"}']);
      expect(hidden.log.text()).toContain('password=1');
      const shown = await answerOf(() => { throw new Error('visible'); }, { config: { debug: true } });
      expect(shown.body).toContain('visible');
    } finally {
      process.env.NODE_ENV = before;
    }
  });

  test.each([['null', null], ['a string', 'text'], ['undefined', undefined]])('throwing %s is handled like an error', async (name, value) => {
    const { status, log } = await answerOf(() => { throw value; }); // eslint-disable-line no-throw-literal
    expect(status).toBe(500);
    expect(log.text()).toContain('The handler of GET /r failed.');
  });

  test('an error after the answer is logged only', async () => {
    const { status, body, log } = await answerOf((req, res) => { res.text('fine'); throw new Error('late'); });
    expect([status, body]).toEqual([200, 'fine']);
    expect(log.text()).toContain('late');
  });

  test('no answer within the handler timeout is 503, and the late one is a no-op', async () => {
    const late = deferred();
    const { status, fetch } = await answerOf(async (req, res) => {
      if (req.query.quick) { res.text('quick'); return; }
      await late.promise;
      res.text('too late');
    }, { config: { handlerTimeout: 0.2 } });
    expect(status).toBe(503);
    late.resolve();
    await sleep(20);
    expect(await (await fetch('/r?quick=1')).text()).toBe('quick');
  });

  test('a handler that takes longer than the head of a request may take is not cut', async () => {
    const { body } = await answerOf((req, res) => { setTimeout(() => res.text('took its time'), 600); }, { config: { headerTimeout: 0.2 } });
    expect(body).toBe('took its time');
  });

  test('a client that goes away does no harm', async () => {
    const answer = deferred();
    const { fetch } = await serve((router) => router.get('/r', async (req, res) => { await answer.promise; res.text('x'); }));
    const abort = new AbortController();
    const gone = fetch('/r', { signal: abort.signal }).catch((error) => error.name);
    await sleep(50);
    abort.abort();
    expect(await gone).toBe('AbortError');
    answer.resolve();
    expect(await (await fetch('/r')).text()).toBe('x');
  });

  test('two requests of one connection are answered in order', async () => {
    const first = deferred();
    const { port } = await serve((router) => {
      router.get('/slow', async (req, res) => { await first.promise; res.text('slow'); });
      router.get('/fast', (req, res) => res.text('fast'));
    });
    const answers = raw(port, 'GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /fast HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    setTimeout(() => first.resolve(), 50);
    expect(await answers).toMatch(/slow[^]*fast$/);
  });
});
