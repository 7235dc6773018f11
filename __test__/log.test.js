'use strict';

const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { createLog } = require('../lib/log.js');
const { keptLog } = require('./support.js');

/** What a script that has `log` prints on standard output, up to the last line before it exits. */
function printed(settings, script) {
  const file = JSON.stringify(path.join(__dirname, '..', 'lib', 'log.js'));
  return execFileSync(process.execPath, ['-e', `const log = require(${file}).createLog(${JSON.stringify(settings)}); ${script}; process.exit(0);`], { encoding: 'utf8' });
}

const ALL = 'for (const level of ["debug", "info", "warning", "error"]) log[level](level + " line")';

describe('levels', () => {
  test.each([
    ['ALL', ['debug', 'info', 'warn', 'error']],
    ['DEBUG', ['debug', 'info', 'warn', 'error']],
    ['INFO', ['info', 'warn', 'error']],
    ['WARNING', ['warn', 'error']],
    ['ERROR', ['error']],
    [undefined, ['info', 'warn', 'error']],
  ])('%s lets through %p', (level, expected) => {
    const logger = keptLog();
    const log = createLog({ level, logger });
    for (const name of ['debug', 'info', 'warning', 'error']) log[name]('line');
    expect(logger.lines).toEqual(expected.map((name) => `${name}: line`));
  });
});

describe('a logger given', () => {
  test('may name warnings either way, and gets the detail below the message', () => {
    const lines = [];
    const log = createLog({ logger: { debug() {}, info() {}, warning: (line) => lines.push(line), error: (line) => lines.push(line) } });
    log.warning('careful');
    log.error('failed', 'first\nsecond');
    expect(lines).toEqual(['careful', 'failed\n    first\n    second']);
  });

  test('is called as a method, so that a class works', () => {
    class Own { lines = []; debug() {} info(line) { this.lines.push(line); } warn() {} error() {} }
    const logger = new Own();
    createLog({ logger }).info('x');
    expect(logger.lines).toEqual(['x']);
  });

  test('that throws does no harm', () => {
    const fail = () => { throw new Error('disk full'); };
    expect(() => createLog({ logger: { debug: fail, info: fail, warn: fail, error: fail } }).error('x')).not.toThrow();
  });

  test.each([[null], ['console'], [7], [{}], [{ debug() {}, info() {}, error() {} }]])('%p is refused', (logger) => {
    expect(() => createLog({ logger })).toThrow(TypeError);
  });
});

describe('control characters', () => {
  test('in a message are escaped, so that one event is one line', () => {
    const logger = keptLog();
    createLog({ logger }).info('a\nb\r\tc\u0000\u001b[31m\u009b\u2028\u007f');
    expect(logger.lines).toEqual(['info: a\\nb\\r\\tc\\x00\\x1b[31m\\x9b\\u2028\\x7f']);
  });

  test('in an error are escaped, its stack stays lines of its own, indented', () => {
    const logger = keptLog();
    const error = new Error('bad\nINFO: forged\u001b[2J', { cause: new Error('below') });
    createLog({ logger }).error('failed', error);
    const [first, second, ...rest] = logger.lines[0].split('\n');
    expect([first, second]).toEqual(['error: failed', '    Error: bad\\nINFO: forged\\x1b[2J']);
    expect(rest.length).toBeGreaterThan(2);
    expect(rest.every((line) => line.startsWith('    '))).toBe(true);
    expect(rest.join('\n')).toContain('caused by Error: below');
  });

  test.each([[null, 'thrown: null'], [{ a: 1 }, 'thrown: an object'], [7, 'thrown: 7']])('a thrown %p is named', (value, text) => {
    const logger = keptLog();
    createLog({ logger }).error('failed', value);
    expect(logger.lines).toEqual([`error: failed\n    ${text}`]);
  });
});

describe('standard output', () => {
  test('text is one line an event, with time and level, written before the process exits', () => {
    const lines = printed({ level: 'ALL' }, ALL).trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    for (const [i, level] of ['DEBUG', 'INFO', 'WARN', 'ERROR'].entries()) {
      expect(lines[i]).toMatch(new RegExp(`^\\[\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d{3}\\] ${level}: \\w+ line$`));
    }
  });

  test('json is one object a line', () => {
    const lines = printed({ level: 'ALL', format: 'json' }, `${ALL}; log.error("failed\\nforged", new Error("x"))`).trimEnd().split('\n').map((line) => JSON.parse(line));
    expect(lines.map(({ level }) => level)).toEqual(['debug', 'info', 'warning', 'error', 'error']);
    expect(lines[0]).toEqual({ level: 'debug', time: expect.stringMatching(/^\d{4}-.*Z$/), msg: 'debug line' });
    expect(lines[4]).toMatchObject({ msg: 'failed\\nforged', detail: expect.stringMatching(/^ {4}Error: x\n/) });
  });
});
