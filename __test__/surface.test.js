'use strict';

// What a hostile peer can reach through handlers, templates, static files, headers and the log: nothing that it should not.

const { execFile, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { promisify } = require('node:util');
const { createLog } = require('../lib/log.js');
const { cleanUp, keptLog, raw, serve, temporaryFolder } = require('./support.js');

expect.extend({
  toBeOneOfStatuses(received, statuses) {
    return { pass: statuses.includes(received), message: () => `${received} is none of ${statuses}` };
  },
});

const SECRET = 'do-not-tell-anyone';
const objectPrototype = Object.getOwnPropertyNames(Object.prototype);

let before;
beforeEach(() => {
  before = process.env.NODE_ENV;
  process.env.NODE_ENV = 'production';
});
afterEach(async () => {
  process.env.NODE_ENV = before;
  await cleanUp();
  expect({}.polluted).toBeUndefined();
  expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(objectPrototype);
});

/** The answer to a request whose target goes out as it is written here; `fetch` would tidy it up. */
async function ask(port, target, { method = 'GET', headers = [], body = '' } = {}) {
  const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
  const fields = ['Host: x', 'Connection: close', ...length, ...headers].join('\r\n');
  const answer = await raw(port, `${method} ${target} HTTP/1.1\r\n${fields}\r\n\r\n${body}`);
  return { answer, status: Number(answer.split(' ')[1]), body: answer.split('\r\n\r\n').slice(1).join('\r\n\r\n') };
}

/** What is JSON of `data` goes to `POST target`. */
const postJson = (port, target, text) => ask(port, target, { method: 'POST', headers: ['Content-Type: application/json'], body: text });

/** An app with something to hide around and in it, and ways out of its roots. */
function app(files = {}) {
  const root = temporaryFolder({
    'secret.txt': SECRET,
    'outside/secret.txt': SECRET,
    'outside/index.html': SECRET,
    'app/.env': SECRET,
    'app/package.json': `{"name":"${SECRET}"}`,
    'app/app.js': `// ${SECRET}`,
    'app/src/routes/x.ts': `// ${SECRET}`,
    'app/src/templates/page.html': '<p>{{ name }}</p>',
    'app/src/templates/choice.html': '{% include name %}',
    'app/src/templates/.hidden.html': SECRET,
    'app/public/index.html': 'home',
    'app/public/a.txt': 'public',
    'app/public/folder/b.txt': 'public',
    'app/public/.env': SECRET,
    'app/public/.well/known.txt': SECRET,
    'app/uploads/mine.txt': 'mine',
    ...files,
  });
  const inApp = (name) => path.join(root, 'app', name);
  for (const folder of ['public', 'uploads', 'src/templates']) {
    fs.symlinkSync('/dev/zero', inApp(`${folder}/zero`));
    fs.symlinkSync(path.join(root, 'secret.txt'), inApp(`${folder}/link.txt`));
    fs.symlinkSync(path.join(root, 'outside'), inApp(`${folder}/linked`));
    execFileSync('mkfifo', [inApp(`${folder}/pipe`)]);
  }
  return { root, directory: path.join(root, 'app') };
}

/** Names that must not lead out of a folder; those of the templates and of `uploads` lie two and one below the app's. */
const escapes = ({ root, directory }) => [
  '../.env', '../../.env', '../../../secret.txt', '..', '.', '', '/', '..\\..\\.env', '..\\.env', '.env', './../.env', 'x/../../.env',
  '....//....//.env', '/etc/passwd', '//etc/passwd', 'file:///etc/passwd', '/dev/zero', '/proc/self/environ', 'C:\\secret.txt', '~/.bashrc',
  path.join(root, 'secret.txt'), path.join(directory, '.env'), path.join(directory, 'uploads/../.env'), 'linked/secret.txt', 'linked/../.env',
  'linked', 'link.txt', 'zero', 'pipe', '%2e%2e/.env', '..%2f.env', '.env\u0000.html', '../.env\u0000', 'a'.repeat(5000), 'a/'.repeat(3000),
  '.hidden.html', '../routes/x.ts', '\u2024\u2024/.env', '\uff0e\uff0e/.env',
];

describe('static files', () => {
  const TARGETS = [
    '/.env', '/%2eenv', '/%2Eenv', '/%252eenv', '/src/../.env', '/../.env', '/..%2f.env', '/..%2F..%2Fsecret.txt', '/%2e%2e/.env',
    '/%2e%2e%2f.env', '/%252e%252e/.env', '/%c0%ae%c0%ae/.env', '/%ef%bc%8e%ef%bc%8e/.env', '/..\\.env', '/..%5c.env', '/..;/.env',
    '/folder/../../.env', '/folder/%2e%2e/%2e%2e/.env', '//.env', '/./.env', '/.well/known.txt', '/routes/x.ts', '/src/routes/x.ts',
    '/app.js', '/package.json', '/templates/page.html', '/src/templates/page.html', '/%2fetc/passwd', '//etc/passwd', '/%2f%2fetc%2fpasswd',
    '/link.txt', '/linked', '/linked/', '/linked/secret.txt', '/linked/index.html', '/zero', '/pipe', '/a.txt%00', '/a.txt%00.html',
    '/a.txt/', '/a.txt/.', '/a.txt::$DATA', '/A.TXT', '/Public/a.txt', '/folder/.', '/folder/..', `/${'a'.repeat(5000)}`, `/${'a/'.repeat(3000)}`,
    '/a.txt%20', '/a.txt.', '/.%00./.env', '/%u002e%u002e/.env', '/js/../.env', '/js/../../package.json', '/js/%2e%2e/package.json',
  ];

  test('no target leads to what is outside of the public folders, hidden, or no regular file; none hangs', async () => {
    const { directory } = app();
    const { port } = await serve(() => {}, { directory });
    expect((await ask(port, '/a.txt')).body).toBe('public');
    for (const method of ['GET', 'HEAD']) {
      for (const target of TARGETS) {
        const { status, answer } = await ask(port, target, { method });
        expect([target, status]).toEqual([target, expect.toBeOneOfStatuses([400, 404])]);
        expect(answer).not.toContain(SECRET);
        expect(answer).not.toContain(directory);
        expect(answer).not.toMatch(/root:/);
      }
    }
  }, 60_000);

  test('a request for an absolute URL or another authority is the same path here', async () => {
    const { directory } = app();
    const { port } = await serve(() => {}, { directory });
    expect((await ask(port, 'http://evil.example/a.txt')).body).toBe('public');
    const { status, answer } = await ask(port, 'http://evil.example/folder');
    expect(status).toBe(404);
    expect((await ask(port, 'http://evil.example/../.env')).status).toBe(404);
    expect(answer).not.toContain('evil');
  });

  test('are sent with nosniff, so that a browser runs no text as a script or page', async () => {
    const { port } = await serve(() => {}, { directory: app().directory });
    for (const target of ['/', '/a.txt', '/js/frond.js']) expect((await ask(port, target)).answer).toMatch(/^x-content-type-options: nosniff\r$/im);
  });
});

describe('res.file', () => {
  test('a name from a peer stays in the folder that the handler puts before it', async () => {
    const place = app();
    const { port, log } = await serve((router) => router.post('/f', (req, res) => res.file(`uploads/${req.body.name}`)), { directory: place.directory });
    expect((await postJson(port, '/f', '{"name":"mine.txt"}')).body).toBe('mine');
    for (const name of escapes(place)) {
      const { status, answer } = await postJson(port, '/f', JSON.stringify({ name }));
      expect([name, status]).toEqual([name, name.includes('\0') ? 500 : 404]);
      expect(answer).not.toContain(SECRET);
      expect(answer).not.toContain(place.directory);
    }
    expect(log.text()).not.toContain(SECRET);
  });

  test('a name from a peer alone stays in the app, without hidden files', async () => {
    const place = app();
    const { port } = await serve((router) => router.post('/f', (req, res) => res.file(req.body.name)), { directory: place.directory });
    for (const name of escapes(place)) {
      const { status, answer } = await postJson(port, '/f', JSON.stringify({ name }));
      expect([name, status]).toEqual([name, name.includes('\0') ? 500 : 404]);
      expect(answer).not.toContain(SECRET);
    }
  });

  test('a name for saving cannot end its header or its quotes', async () => {
    const { port } = await serve((router) => router.post('/f', (req, res) => res.file('uploads/mine.txt', req.body.name)), { directory: app().directory });
    for (const name of ['a\r\nX-Evil: 1', 'a"; filename="evil.exe', 'a\0b', 'ä\u2028\u202e', '\ud800', 'a\\', '../../etc/passwd', '%0d%0aX-Evil: 1']) {
      const { status, answer } = await postJson(port, '/f', JSON.stringify({ name }));
      expect([name, status]).toEqual([name, 200]);
      expect(answer).not.toMatch(/^x-evil/im);
      expect(answer.match(/^content-disposition: (.*)\r$/im)[1]).toMatch(/^attachment; filename="[^"\\\r\n]*"(; filename\*=UTF-8''[\w.%!#$&+^`|~-]*)?$/);
    }
  });
});

describe('templates', () => {
  test('no name leads out of the folder, whether a handler or a template asks; the answer says nothing', async () => {
    const place = app();
    const { port } = await serve((router) => {
      router.post('/handler', (req, res) => res.html(req.body.name, {}));
      router.post('/render', async (req, res) => res.render(req.body.name, {}));
      router.post('/include', (req, res) => res.html('choice.html', req.body));
    }, { directory: place.directory });
    expect((await postJson(port, '/include', '{"name":"page.html"}')).body).toBe('<p>page.html</p>');
    for (const target of ['/handler', '/render', '/include']) {
      for (const name of escapes(place)) {
        const { answer, status, body } = await postJson(port, target, JSON.stringify({ name }));
        expect([target, name, status]).toEqual([target, name, 500]);
        expect(body).toBe('{"error":"Internal Server Error","statusCode":500,"message":"the handler failed"}');
        expect(answer).not.toContain(SECRET);
      }
    }
  });

  test('text alone is markup, never the name of a file; it takes an object beside it', async () => {
    const { port } = await serve((router) => router.post('/r', (req, res) => res.html(req.body.text, req.body.status)), { directory: app().directory });
    for (const text of ['page.html', '../.env', '/etc/passwd', '{{ 7 * 7 }}', '{% include "page.html" %}', '']) {
      expect((await postJson(port, '/r', JSON.stringify({ text }))).body).toBe(text);
      expect((await postJson(port, '/r', JSON.stringify({ text, status: 404 }))).status).toBe(404);
    }
    for (const status of ['"200"', '[]', 'true', '1e9']) {
      expect((await postJson(port, '/r', `{"text":"page.html","status":${status}}`)).status).toBe(500);
    }
  });

  test('data of a peer is data: no markup, no template language, no prototype', async () => {
    const { port } = await serve((router) => router.post('/r', (req, res) => res.html('data.html', req.body)), {
      directory: app({
        'app/src/templates/data.html':
          '[{{ name }}|{{ constructor }}|{{ toString }}|{{ __proto__.polluted }}|{{ o.constructor.constructor }}|{{ o.hasOwnProperty }}|{{ o.__class__ }}]',
      }).directory,
    });
    const { body } = await postJson(port, '/r', '{"name":"{{ 7*7 }}<script>","__proto__":{"polluted":"own"},"o":{"__proto__":{"hasOwnProperty":1}}}');
    expect(body).toBe('[{{ 7*7 }}&lt;script&gt;|||own|||]');
  });

  test('a template that fails says nothing of itself in production, and is shown as plain text under TINA4_DEBUG', async () => {
    const { directory } = app({ 'app/src/templates/broken.html': `{# ${SECRET} #}\n{{ x | nosuchfilter }}` });
    const register = (router) => router.get('/b', (req, res) => res.html('broken.html', { x: 1 }));
    const hidden = await serve(register, { directory });
    expect((await ask(hidden.port, '/b')).body).toBe('{"error":"Internal Server Error","statusCode":500,"message":"the handler failed"}');
    expect(hidden.log.text()).toContain('broken.html');
    const shown = await serve(register, { directory, debug: true });
    const { answer } = await ask(shown.port, '/b');
    expect(answer).toMatch(/content-type: text\/plain/i);
    expect(answer).toMatch(/^x-content-type-options: nosniff\r$/im);
    expect(answer).toContain('broken.html');
    expect(answer).not.toContain(SECRET);
  });
});

describe('names of a peer', () => {
  const EVIL = [
    '__proto__', 'constructor', 'prototype', 'toString', 'valueOf', 'hasOwnProperty', '__defineGetter__', 'toJSON', 'then',
    'constructor[prototype][polluted]', '__proto__[polluted]', '__proto__.polluted',
  ];

  test('are keys like any other in every part of a request and of a connection, and come back as such', async () => {
    const parts = (one) => [one.params, one.query, one.headers, one.cookies];
    const seen = (one) => JSON.stringify(parts(one).map((part) => [Object.getPrototypeOf(part), part.polluted === undefined, Object.entries(part)]));
    const { port, connect } = await serve((router) => {
      router.any('/p/{__proto__}/{constructor}', (req, res) => res.text(seen(req)));
      router.websocket('/w/{__proto__}/{constructor}', (connection, event) => {
        if (event !== 'open') return;
        connection.send(seen(connection));
        connection.sendJson(connection.query);
      });
    });
    const query = EVIL.map((name) => `${encodeURIComponent(name)}=polluted`).join('&');
    const cookies = EVIL.filter((name) => !name.includes('[')).map((name) => `${name}=polluted`).join('; ');
    const headers = ['__proto__: polluted', 'constructor: polluted', 'tostring: polluted', `Cookie: ${cookies}`];
    const { body } = await ask(port, `/p/polluted/x?${query}`, { headers });
    const peer = await connect(`/w/polluted/x?${query}`, { headers: Object.fromEntries(headers.slice(1).map((line) => line.split(': '))) });
    for (const text of [body, await peer.next()]) {
      const all = JSON.parse(text);
      for (const [prototype, clean] of all) expect([prototype, clean]).toEqual([null, true]);
      expect(all[0][2]).toContainEqual(['__proto__', 'polluted']);
      expect(all[1][2].map(([name]) => name)).toEqual(EVIL);
      expect(all[2][2]).toContainEqual(['constructor', 'polluted']);
      expect(all[3][2].map(([name]) => name)).toContain('__proto__');
    }
    expect(Object.keys(await peer.json())).toEqual(EVIL);
  });

  test.each(['json', 'form'])('are keys like any other in a %s body, which can be answered with, thrown and returned', async (kind) => {
    const handlers = {
      json: (req, res) => res.json(req.body),
      send: (req, res) => res(req.body),
      template: (req, res) => res.html('page.html', req.body),
      throws: (req) => { throw req.body; },
      rejects: async (req) => { throw req.body; },
      returns: async (req) => req.body,
    };
    const type = kind === 'json' ? 'application/json' : 'application/x-www-form-urlencoded';
    const names = [...EVIL, 'stack', 'message', 'cause', 'name'];
    const json = `{${names.map((name) => `${JSON.stringify(name)}:{"polluted":1,"toString":1}`).join()}}`;
    const body = kind === 'json' ? json : names.map((name) => `${encodeURIComponent(name)}=polluted`).join('&');
    // What is shown, and logged, of such a thing must not throw in its turn.
    for (const debug of [false, true]) {
      const { port, log } = await serve((router) => {
        for (const [name, handler] of Object.entries(handlers)) router.post(`/${name}`, handler);
      }, { directory: app().directory, debug });
      const answers = {};
      for (const name of Object.keys(handlers)) {
        answers[name] = await ask(port, `/${name}`, { method: 'POST', headers: [`Content-Type: ${type}`], body });
      }
      expect(Object.values(answers).map(({ status }) => status)).toEqual([200, 200, 200, 500, 500, 204]);
      expect(Object.keys(JSON.parse(answers.json.body))).toEqual(names);
      expect(answers.send.body).toBe(answers.json.body);
      expect(log.lines.filter((line) => /handler of POST \/(throws|rejects) failed/.test(line))).toHaveLength(2);
    }
  });

  test.each([
    ['without a prototype', () => Object.create(null)],
    ['whose text throws', () => ({ toString() { throw new Error('again'); } })],
    ['whose stack is no text', () => Object.assign(new Error('x'), { stack: { toString: 1 } })],
    ['whose message is no text', () => Object.assign(new Error('x'), { message: { toString: 1 } })],
    ['whose cause is no text', () => new Error('x', { cause: Object.create(null) })],
    ['whose stack cannot be read', () => Object.defineProperty({}, 'stack', { get() { throw new Error('again'); } })],
  ])('an object %s is 500 and logged when it is thrown, and the server goes on', async (_, make) => {
    const { port, log } = await serve((router) => {
      router.get('/now', () => { throw make(); });
      router.get('/later', async () => { await null; throw make(); });
    }, { debug: true });
    for (const target of ['/now', '/later']) {
      expect((await ask(port, target)).status).toBe(500);
      expect(log.text()).toContain(`The handler of GET ${target} failed.`);
    }
  });

  test('JSON as deep as a body can be is answered and does not end the server', async () => {
    const { port } = await serve((router) => {
      router.post('/json', (req, res) => res.json(req.body));
      router.post('/page', (req, res) => res.html('page.html', { name: req.body }));
    }, { directory: app().directory });
    const deep = '['.repeat(200_000) + ']'.repeat(200_000);
    for (const target of ['/json', '/page']) {
      const { status, body } = await postJson(port, target, deep);
      expect([target, status]).toEqual([target, expect.toBeOneOfStatuses([200, 400, 500])]);
      expect(body).not.toMatch(/ {4}at |\.js:/);
    }
    expect((await postJson(port, '/json', '[1]')).body).toBe('[1]');
  });
});

describe('headers', () => {
  const TEXTS = ['a\r\nX-Evil: 1', 'a\nX-Evil: 1', 'a\rX-Evil: 1', 'a\0b', 'a\u001b[31m', 'a\u2028b', 'josé', '\ud800', 'a\u0085X-Evil: 1', '\u560a\u560dX-Evil:1'];

  test('no text of a peer begins another field or answer, wherever a handler puts it', async () => {
    const uses = {
      value: (text, res) => res.header('x-a', text),
      several: (text, res) => res.header('x-a', ['b', text]),
      name: (text, res) => res.header(text, 'x'),
      type: (text, res) => res.send('x', 200, text),
      redirect: (text, res) => res.redirect(text),
      cookieName: (text, res) => res.cookie(text, 'x'),
      cookieValue: (text, res) => res.cookie('c', text),
      cookiePath: (text, res) => res.cookie('c', 'x', { path: text }),
      cookieDomain: (text, res) => res.cookie('c', 'x', { domain: text }),
      clearName: (text, res) => res.clearCookie(text),
      clearPath: (text, res) => res.clearCookie('c', { path: text }),
      fileType: (text, res) => res.file('uploads/mine.txt', { contentType: text }),
      method: (text, res) => res.status(text),
    };
    const { port } = await serve((router) => router.post('/{use}', (req, res) => {
      uses[req.params.use](req.body.text, res);
      res.text('fine');
    }), { directory: app().directory });
    for (const use of Object.keys(uses)) {
      for (const text of [...TEXTS, 'a; Domain=evil.example', 'a b:c']) {
        const { answer, status } = await postJson(port, `/${use}`, JSON.stringify({ text }));
        const head = answer.split('\r\n\r\n')[0];
        expect([use, text, status]).toEqual([use, text, expect.toBeOneOfStatuses([200, 302, 500])]);
        expect(head).not.toMatch(/[\r\n]x-evil/i);
        expect(head.replace(/\r\n/g, '')).toMatch(/^[\x20-\x7e]*$/);
        expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
        // Of cookies a peer chooses the value, which is encoded; its attributes are the handler's.
        if (use.startsWith('cookie') || use.startsWith('clear')) expect(head).not.toMatch(/; Domain=evil/i);
      }
    }
  });

  test('a redirect leads where it is told: paths of another host included, which the handler must refuse', async () => {
    const { port } = await serve((router) => router.post('/r', (req, res) => res.redirect(req.body.to)));
    const to = async (text) => (await postJson(port, '/r', JSON.stringify({ to: text }))).answer.match(/^location: (.*)\r$/im)[1];
    expect(await to('//evil.example/')).toBe('//evil.example/');
    expect(await to('javascript:alert(1)')).toBe('javascript:alert(1)');
    // Browsers would read the first two as the one above.
    expect(await to('/\\evil.example')).toBe('/%5Cevil.example');
    expect(await to('/\t/evil.example')).toBe('/%09/evil.example');
  });

  test('a close reason stays one frame, and a subprotocol that was not offered is never agreed on', async () => {
    const { port, connect } = await serve((router) => router.websocket('/w', (connection, event, data) => {
      if (event === 'message') connection.close(4000, data);
    }, { protocols: ['chat'] }));
    const peer = await connect('/w');
    peer.send('a\r\n\u0000\u001b[2J\u2028');
    expect(await peer.closed).toEqual({ code: 4000, reason: 'a\r\n\u0000\u001b[2J\u2028' });
    const upgrade = ['Host: x', 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='];
    for (const offered of ['evil', 'chat\x0bx', 'chat x', '"chat"', 'chat\x7f', 'CHAT']) {
      const head = await new Promise((resolve, reject) => {
        const socket = net.connect(port, '127.0.0.1', () => socket.write(`GET /w HTTP/1.1\r\n${upgrade.join('\r\n')}\r\nSec-WebSocket-Protocol: ${offered}\r\n\r\n`));
        socket.once('data', (data) => { resolve(String(data)); socket.destroy(); }).once('error', reject);
      });
      expect(head).toMatch(/^HTTP\/1\.1 (101|400) /);
      expect(head).not.toMatch(/^sec-websocket-protocol/im);
    }
  });

  test('Host and forwarded fields come back in no answer, and no answer names its software but /health', async () => {
    const { directory } = app();
    fs.mkdirSync(path.join(directory, 'public/site'));
    fs.writeFileSync(path.join(directory, 'public/site/index.html'), 'site');
    const { port } = await serve((router) => {
      router.get('/throws', () => { throw new Error('x'); });
      router.get('/away', (req, res) => res.redirect('/a'));
    }, { directory });
    const evil = ['Host', 'X-Forwarded-Host', 'X-Forwarded-For', 'X-Forwarded-Proto', 'Forwarded', 'X-Original-URL'].map((name) => `${name}: evil.example`);
    for (const target of ['/', '/site', '/none', '/throws', '/away', '/%zz', '/health']) {
      const answer = await raw(port, `GET ${target} HTTP/1.1\r\n${evil.join('\r\n')}\r\nConnection: close\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 \d{3} /);
      expect(answer).not.toContain('evil');
      expect(answer).not.toMatch(/^(server|x-powered-by|via):/im);
      if (target !== '/health') expect(answer).not.toMatch(/hyper|tina4/i);
    }
  });
});

describe('errors in production', () => {
  test('no stack, path or source is in an answer, whatever throws', async () => {
    const { directory } = app();
    const handlers = {
      sync: () => { throw new Error(SECRET); },
      async: async () => { await null; throw new Error(SECRET); },
      type: () => null.x,
      template: (req, res) => res.html('nowhere.html', { [SECRET]: 1 }),
      status: (req, res) => res.status('200'),
      header: (req, res) => res.header('x', SECRET + '\n'),
      cycle: (req, res) => { const one = {}; one.one = one; res.json(one); },
      big: (req, res) => res.json(1n),
      file: (req, res) => res.file('a\0'),
      loop: (req, res) => res.file('uploads/loop'),
      thrown: () => { throw SECRET; }, // eslint-disable-line no-throw-literal
      rejected: () => Promise.reject(new Error(SECRET)),
    };
    fs.symlinkSync('loop', path.join(directory, 'uploads/loop'));
    fs.symlinkSync('loop', path.join(directory, 'public/loop'));
    const { port, log } = await serve((router) => {
      for (const [name, handler] of Object.entries(handlers)) router.any(`/${name}`, handler);
    }, { directory });
    const requests = [
      ...Object.keys(handlers).map((name) => [`/${name}`]),
      ['/sync', { method: 'POST', headers: ['Content-Type: application/json'], body: '{"a":<script>' }],
      ['/loop'], ['/none/%3Cscript%3Ealert(1)%3C/script%3E'], ['/%zz'], ['/loop', { method: 'PUT' }],
    ];
    for (const accept of ['*/*', 'text/html']) {
      for (const [target, options = {}] of requests) {
        const { answer, status, body } = await ask(port, target, { ...options, headers: [...(options.headers ?? []), `Accept: ${accept}`] });
        expect([target, status]).toEqual([target, expect.toBeOneOfStatuses([400, 404, 500])]);
        expect(answer).not.toContain(SECRET);
        expect(answer).not.toContain(directory);
        expect(body).not.toMatch(/ {4}at |\.[jt]s\b|\.rs\b|node_modules|templates/);
        expect(answer).toMatch(/^x-content-type-options: nosniff\r$/im);
        if (/content-type: text\/html/i.test(answer)) expect(answer).not.toContain('<script');
      }
    }
    expect(log.text()).toContain(SECRET);
  });
});

describe('the log', () => {
  const EVIL = 'a\r\nINFO: forged\n{"level":"info"}\u001b[2J\u001b]0;title\u0007\0\u0085\u009b31m\u2028\u2029\u202e\u2066\b';
  // eslint-disable-next-line no-control-regex
  const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/;

  /** What a server in a process of its own prints while a peer sends it `EVIL` everywhere. */
  async function printed(logFormat) {
    const script = `
      const http = require('node:http');
      const { Router, startServer } = require(${JSON.stringify(path.join(__dirname, '..'))});
      const EVIL = ${JSON.stringify(EVIL)};
      const router = new Router();
      router.any('/sync/{rest:path}', (req) => { throw new Error(req.params.rest); });
      router.any('/async', async (req) => { throw new TypeError(req.query.x, { cause: new Error(req.query.x) }); });
      router.any('/string', async (req) => { throw req.query.x; });
      router.any('/object', (req) => { throw { stack: req.query.x, message: req.query.x }; });
      router.any('/template', (req, res) => res.html(req.query.x, {}));
      router.any('/header', (req, res) => res.header(req.query.x, 'x'));
      startServer({ host: '127.0.0.1', port: 0, router, logFormat: ${JSON.stringify(logFormat)}, logLevel: 'ALL', directory: process.cwd() }).then(async (server) => {
        const ask = (path) => new Promise((resolve) => http.get({ port: server.port, path, agent: false }, (answer) => answer.resume().on('end', resolve)));
        const evil = encodeURIComponent(EVIL);
        for (const target of ['/sync/' + evil, '/async?x=' + evil, '/string?x=' + evil, '/object?x=' + evil, '/template?x=' + evil, '/header?x=' + evil]) await ask(target);
        await server.close();
        process.exit(0);
      });`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { cwd: temporaryFolder(), env: { ...process.env, NODE_ENV: 'production' } });
    return stdout;
  }

  test('has one entry an event in text, everything else indented below it, and nothing that steers a terminal', async () => {
    const text = await printed('text');
    expect(text).not.toMatch(CONTROL);
    const entries = text.trimEnd().split('\n').filter((line) => !line.startsWith('    '));
    expect(entries.every((line) => /^\[[\d :.-]+\] [A-Z]+: /.test(line))).toBe(true);
    expect(entries.filter((line) => line.includes('failed.'))).toHaveLength(6);
    expect(text).toContain('a\\r\\nINFO: forged\\n');
    expect(text).not.toMatch(/^INFO: forged/m);
  });

  test('is one object a line in JSON', async () => {
    const text = await printed('json');
    const entries = text.trimEnd().split('\n').map((line) => JSON.parse(line));
    expect(entries.filter(({ msg }) => msg.includes('failed.'))).toHaveLength(6);
    for (const { msg, detail = '' } of entries) {
      expect(msg).not.toMatch(/\n/);
      expect(msg + detail).not.toMatch(CONTROL);
    }
  });

  test('bounds what an error may quote, and keeps its stack', async () => {
    const { port, log } = await serve((router) => {
      router.post('/error', (req) => { throw new Error(`cannot read ${req.body}`); });
      router.post('/string', (req) => { throw req.body; }); // eslint-disable-line no-throw-literal
      router.post('/stack', (req) => { throw Object.assign(new Error('x'), { stack: req.body }); });
    });
    for (const target of ['/error', '/string', '/stack']) {
      await ask(port, target, { method: 'POST', headers: ['Content-Type: text/plain'], body: 'x\n'.repeat(500_000) });
    }
    expect(log.lines).toHaveLength(3);
    for (const line of log.lines) expect(line.length).toBeLessThan(64 * 1024);
    expect(log.lines[0]).toMatch(/characters more\)\n {8}at .*surface\.test\.js/);
  });

  test('bounds its lines and shows what turns the direction of text', () => {
    const logger = keptLog();
    createLog({ logger }).info(`\u202eabc\u2066\u200f${'y'.repeat(100_000)}`);
    expect(logger.lines[0]).toMatch(/^info: \\u202eabc\\u2066\\u200fy+… \(\d+ characters more\)$/);
    expect(logger.lines[0].length).toBeLessThan(5000);
  });

  test('what a peer sends that is no HTTP leaves no trace of its own in it', async () => {
    const { port, log } = await serve(() => {});
    for (const text of ['\x1b[31mGET / HTTP/1.1\r\n\r\n', 'GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n', 'GET / HTTP/1.1\r\nHost: x\r\n\x1b[2J: x\r\n\r\n', '\0'.repeat(100)]) {
      await new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1', () => socket.end(text, 'latin1'));
        socket.resume().on('error', () => {}).on('close', resolve);
      });
    }
    for (const line of log.lines) expect(line).not.toMatch(/[\n\u001b\0]/);
  });
});
