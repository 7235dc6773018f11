'use strict';

// What the documentation says is compared with what the code is: names, defaults, links. Its examples are compiled, and those that
// are marked `<!-- file: … -->` are served as an app and do what the text around them says.

const { execFile, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { checkConfig, VARIABLES } = require('../lib/settings.js');
const { Peer, ROOT, endAll, makeApp, serve } = require('./served');

jest.setTimeout(60_000);

const NOT_OURS = new Set(['node_modules', 'target', '.git']);

/** All Markdown files, by their path in the checkout. */
function markdownFiles(folder = ROOT) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : markdownFiles(file);
    return entry.name.endsWith('.md') ? [path.relative(ROOT, file)] : [];
  });
}

const read = (file) => fs.readFileSync(path.join(ROOT, file), 'utf8');
const docs = Object.fromEntries(markdownFiles().map((file) => [file, read(file)]));
const configuration = docs['docs/configuration.md'];

/** The fenced blocks of a text: language, code, and the file they are marked to be. */
function blocks(text) {
  const found = text.matchAll(/^(?:<!-- file: (\S+) -->\n)?```(\w*)\n(.*?)^```$/gms);
  return [...found].map(([, file, language, code]) => ({ file, language, code }));
}

const prose = (text) => text.replace(/^```.*?^```$/gms, '');

/** The cells of all table rows of a text; `\|` is a bar within a cell. */
function rows(text) {
  return text.split('\n').filter((line) => line.startsWith('|')).map((line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim()));
}

/** The rows whose first cell names something as code. */
const rowsOf = (name) => rows(configuration).filter(([first]) => first.includes(`\`${name}\``));

/** The engine's own table: name, default. */
const engineTable = [...read('crates/engine/src/config/variables.rs').matchAll(/\(\s*"(\w+)",\s*"([^"]*)",\s*"[^"]*",?\s*\)/g)]
  .map(([, name, standard]) => ({ name, standard }));

/** Variables that the JavaScript layer reads by itself. The listener is between the supervisor and its child. */
const layerVariables = [...new Set(
  ['lib', 'lib/cli'].flatMap((folder) => fs.readdirSync(path.join(ROOT, folder)).filter((name) => name.endsWith('.js'))
    .flatMap((name) => [...read(path.join(folder, name)).matchAll(/\b(?:env|environment|variables)\.(TINA4_\w+)/g)].map(([, variable]) => variable))),
)].filter((name) => name !== 'TINA4_INHERITED_LISTENER');

/** The keys that startServer says it accepts. */
function acceptedKeys() {
  try {
    checkConfig({ nobodysKey: 1 });
  } catch (error) {
    return /accepted are (.*)\.$/.exec(error.message)[1].split(', ');
  }
  throw new Error('an unknown key was accepted');
}

describe('configuration.md', () => {
  test('the tables that it is compared with were found', () => {
    expect(engineTable.length).toBeGreaterThan(25);
    expect(layerVariables).toContain('TINA4_ENV_FILE');
    expect(acceptedKeys()).toContain('routesDir');
  });

  test.each(engineTable)('$name is in one row, with its default', ({ name, standard }) => {
    const found = rowsOf(name);
    expect(found).toHaveLength(1);
    if (standard !== '') expect(found[0][2]).toBe(`\`${standard}\``);
  });

  test.each(Object.entries(VARIABLES))('the key %s stands beside %s', (key, variable) => {
    expect(rowsOf(variable)[0][1]).toBe(`\`${key}\``);
  });

  test('every other key of startServer, and every variable of the JavaScript layer, has a row', () => {
    const others = acceptedKeys().filter((key) => !Object.hasOwn(VARIABLES, key));
    for (const name of [...others, ...layerVariables]) expect({ name, rows: rowsOf(name).length }).toEqual({ name, rows: 1 });
  });

  test('every key is declared in index.d.ts', () => {
    const declared = [...read('index.d.ts').matchAll(/^ {2}(\w+)\?:/gm)].map(([, key]) => key);
    expect(declared).toEqual(expect.arrayContaining(acceptedKeys()));
  });

  test('every option of tina4 serve is explained', () => {
    const { stdout } = spawnSync(process.execPath, [path.join(ROOT, 'bin', 'tina4.js'), 'serve', '--help'], { encoding: 'utf8' });
    const options = [...stdout.matchAll(/--([a-z-]+)/g)].map(([option]) => option).filter((option) => option !== '--help');
    expect(options).toContain('--port');
    for (const option of options) expect(configuration).toContain(option);
  });
});

describe.each(Object.keys(docs))('%s', (file) => {
  const text = docs[file];

  test('names no variable that does not exist', () => {
    const known = [...engineTable.map(({ name }) => name), ...layerVariables];
    const named = [...text.matchAll(/\bTINA4_[A-Z0-9_]*[A-Z0-9]/g)].map(([name]) => name);
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
  });

  test('names no npm script and no part of the tests that does not exist', () => {
    const { scripts } = require('../package.json');
    const named = [...text.matchAll(/npm run (?:--silent )?([\w:]+)/g)].map(([, name]) => name);
    expect(named.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
    const parts = [...text.matchAll(/npm test -- (\w+)/g)].map(([, part]) => part);
    expect(parts.filter((part) => !new RegExp(`^ {2}${part}: `, 'm').test(read('scripts/test.js')))).toEqual([]);
  });

  test('has no link that leads nowhere', () => {
    const links = [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link);
    const broken = links.filter((link) => !/^(https?|mailto):/.test(link) && !leadsSomewhere(file, link));
    expect(broken).toEqual([]);
  });
});

function leadsSomewhere(from, link) {
  const [target, anchor] = link.split('#');
  const file = path.normalize(target === '' ? from : path.join(path.dirname(from), target));
  // The bench writes it.
  if (!fs.existsSync(path.join(ROOT, file))) return file === path.join('bench', 'results.md');
  return anchor === undefined || headings(docs[file]).includes(anchor);
}

/** The anchors of a text, as GitHub makes them. */
function headings(text) {
  return [...prose(text).matchAll(/^#+ (.*)$/gm)].map(([, title]) => title.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-'));
}

test('every close code that the engine sends is in the table of websocket.md', () => {
  const codes = [...read('crates/engine/src/close.rs').matchAll(/^pub const \w+: u16 = (\d+);/gm)].map(([, code]) => code);
  // 1005 and 1006 say how a connection ended and never travel.
  const sent = codes.filter((code) => code !== '1005' && code !== '1006');
  expect(sent.length).toBeGreaterThan(8);
  const table = rows(docs['docs/websocket.md']).map(([first]) => first);
  expect(table).toEqual(expect.arrayContaining(sent));
});

test('every TypeScript example compiles under strict', async () => {
  const { directory, remove } = makeApp({});
  try {
    let count = 0;
    for (const [name, text] of Object.entries(docs)) {
      for (const { language, code } of blocks(text)) {
        if (language !== 'ts') continue;
        count += 1;
        fs.writeFileSync(path.join(directory, `${name.replace(/\W/g, '-')}-${count}.mts`), code);
      }
    }
    expect(count).toBeGreaterThan(10);
    fs.writeFileSync(path.join(directory, 'tsconfig.json'), JSON.stringify({
      compilerOptions: { strict: true, noEmit: true, target: 'es2022', module: 'nodenext', types: [], skipLibCheck: true },
    }));
    expect(await compile(directory)).toBe('');
  } finally {
    remove();
  }
});

/** What the compiler says of a project; nothing if all is well. */
function compile(directory) {
  const tsc = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [tsc, '--pretty', 'false'], { cwd: directory }, (error, stdout, stderr) => {
      if (error && stdout === '') reject(new Error(`tsc did not run: ${error.message}\n${stderr}`));
      else resolve(stdout);
    });
  });
}

describe('the app of', () => {
  let app;
  let remove = () => {};

  afterAll(endAll);
  afterEach(() => remove());

  /** Serves the files of a document. */
  async function serveFilesOf(name) {
    const made = makeApp({});
    remove = made.remove;
    for (const { file, code } of blocks(docs[name])) {
      if (file === undefined) continue;
      fs.mkdirSync(path.dirname(path.join(made.directory, file)), { recursive: true });
      fs.writeFileSync(path.join(made.directory, file), code);
    }
    app = await serve(made.directory, { env: { TINA4_SECRET: 'a secret of this test' } });
    expect(app.output).not.toMatch(/could not be loaded/);
  }

  const request = (target, method = 'GET', body = undefined) => fetch(app.origin + target, {
    method,
    redirect: 'manual',
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

  test('README.md is a chat', async () => {
    await serveFilesOf('README.md');
    expect(await (await request('/chat/a%22b')).text()).toContain('encodeURIComponent("a\\u0022b")');
    expect((await request('/js/frond.js')).status).toBe(200);
    const one = await Peer.connect(app, '/ws/chat/general');
    expect(await one.next()).toBe('Somebody joined: 1 here.');
    const two = await Peer.connect(app, '/ws/chat/general');
    expect(await two.next()).toBe('Somebody joined: 2 here.');
    two.send('hello');
    expect(await two.next()).toBe('hello');
    await two.close();
    expect(await one.next((text) => text.includes('left'))).toBe('Somebody left: 1 here.');
    expect((await app.stop()).code).toBe(0);
  });

  test('docs/websocket.md does what the text says', async () => {
    await serveFilesOf('docs/websocket.md');
    const answers = async (target, ...messages) => {
      const peer = await Peer.connect(app, target);
      messages.forEach((message) => peer.send(message));
      return peer;
    };
    expect(await (await answers('/ws/echo', 'hi')).next()).toBe('hi');
    const orders = await answers('/ws/orders', 'a', 'bb');
    expect([await orders.nextJson(), await orders.nextJson()]).toEqual([{ stored: 1 }, { stored: 2 }]);
    expect(await (await answers('/ws/hall/blue/seat/6?token=x')).nextJson()).toEqual({ hall: 'blue', next: 7, known: true });

    const inbox = await answers('/ws/inbox/a%40b');
    expect(await inbox.next()).toBe('1 of your pages listen.');
    expect((await request('/users/a%40b/notices', 'POST', { text: 'news' })).status).toBe(202);
    expect(await inbox.next()).toBe('news');

    const bytes = await answers('/ws/bytes', Buffer.from([1, 255]), 'four');
    expect([await bytes.next(), await bytes.next()]).toEqual([Buffer.from([255, 1]), '4 characters']);

    const download = await answers('/ws/download');
    expect(await download.closed).toEqual({ code: 1000, reason: 'that was all' });
    expect(download.messages).toHaveLength(100);

    expect(await (await answers('/ws/account?token=forged')).closed).toEqual({ code: 4401, reason: 'This needs a valid token.' });
    expect((await request('/login', 'POST', { password: 'guessed' })).status).toBe(401);
    const { token } = await (await request('/login', 'POST', { user: 'ada', password: 'open sesame' })).json();
    expect(await (await answers(`/ws/account?token=${token}`, 'hello')).next()).toBe('ada: hello');
    expect((await app.stop()).code).toBe(0);
  });

  test('docs/http.md does what the text says', async () => {
    await serveFilesOf('docs/http.md');
    expect(await (await request('/users/7')).json()).toEqual({ id: 7, name: 'Ada' });
    expect((await request('/users/8')).status).toBe(404);
    expect((await request('/users/8', 'PUT', { name: 'Grace' })).status).toBe(204);
    expect(await (await request('/users/8')).json()).toEqual({ id: 8, name: 'Grace' });
    const answer = await request('/theme/dark', 'POST');
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/theme']);
    expect(answer.headers.get('set-cookie')).toBe('theme=dark; Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax');
    const health = await (await request('/health')).text();
    expect(docs['docs/http.md']).toContain(health.replace(/"uptime":\d+/, '"uptime":1'));
    expect((await app.stop()).code).toBe(0);
  });
});
