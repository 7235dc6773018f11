'use strict';

const pino = require('pino');
const { describe } = require('./check.js');

/** How grave a line is; a log lets through what is at least as grave as its level. */
const GRAVITY = { ALL: 0, DEBUG: 10, INFO: 20, WARNING: 30, ERROR: 40 };

/**
 * Characters that end a line, steer a terminal or turn the direction of what follows. A peer's text must not forge log lines with
 * them.
 */
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
// eslint-disable-next-line no-control-regex
const CONTROL_WITHIN_LINES = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Characters of a message, and of the detail below it: an error may quote all that a peer has sent. */
const MAX_MESSAGE = 4_096;
const MAX_DETAIL = 16_384;

/**
 * The server's log: one line an event, a stack indented below it.
 *
 * @private
 */
class Log {
  #gravity;
  #sink;

  /**
   * @param {"ALL"|"DEBUG"|"INFO"|"WARNING"|"ERROR"} level The least grave that is written
   * @param {(level: "debug"|"info"|"warn"|"error", message: string, detail: string|undefined) => void} sink
   */
  constructor(level, sink) {
    this.#gravity = GRAVITY[level] ?? GRAVITY.INFO;
    this.#sink = sink;
  }

  /** @param {string} message @param {unknown} [detail] An Error, or text of several lines */
  debug(message, detail) { this.#write(GRAVITY.DEBUG, 'debug', message, detail); }

  /** @param {string} message @param {unknown} [detail] An Error, or text of several lines */
  info(message, detail) { this.#write(GRAVITY.INFO, 'info', message, detail); }

  /** @param {string} message @param {unknown} [detail] An Error, or text of several lines */
  warning(message, detail) { this.#write(GRAVITY.WARNING, 'warn', message, detail); }

  /** @param {string} message @param {unknown} [detail] An Error, or text of several lines */
  error(message, detail) { this.#write(GRAVITY.ERROR, 'error', message, detail); }

  #write(gravity, level, message, detail) {
    if (gravity < this.#gravity) return;
    try {
      this.#sink(level, escapeLine(shortened(String(message), MAX_MESSAGE)), detail === undefined ? undefined : detailText(detail));
    } catch {
      // A log that cannot be written must not take the server with it.
    }
  }
}

/**
 * @param {object} settings
 * @param {string} [settings.level="INFO"] `ALL`, `DEBUG`, `INFO`, `WARNING` or `ERROR`
 * @param {string} [settings.format="text"] `text` for people, `json` for one object a line; both on standard output
 * @param {object} [settings.logger] Gets the lines instead: `debug`, `info`, `warn` (or `warning`) and `error`, each with one
 *   string. `console` and a pino logger both fit
 * @returns {Log}
 * @throws {TypeError} if the logger lacks one of these methods
 * @private
 */
function createLog({ level = 'INFO', format = 'text', logger } = {}) {
  return new Log(level, logger === undefined ? pinoSink(format) : loggerSink(logger));
}

function loggerSink(logger) {
  const isObject = (typeof logger === 'object' && logger !== null) || typeof logger === 'function';
  if (!isObject) throw new TypeError(`The logger is an object with debug, info, warn and error, not ${describe(logger)}.`);
  const methods = {};
  for (const level of ['debug', 'info', 'warn', 'error']) {
    const name = level === 'warn' && typeof logger.warn !== 'function' ? 'warning' : level;
    if (typeof logger[name] !== 'function') throw new TypeError(`The logger has no method ${level}; it needs debug, info, warn and error.`);
    methods[level] = name;
  }
  return (level, message, detail) => logger[methods[level]](detail === undefined ? message : `${message}\n${detail}`);
}

/** Written synchronously, so that the last lines before an exit are not lost. */
function pinoSink(format) {
  const options = {
    level: 'trace',
    base: undefined,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label === 'warn' ? 'warning' : label }) },
  };
  if (format === 'json') {
    const logger = pino(options, pino.destination({ dest: 1, sync: true }));
    return (level, message, detail) => {
      if (detail === undefined) logger[level](message);
      else logger[level]({ detail }, message);
    };
  }
  const pretty = require('pino-pretty');
  const logger = pino(
    { level: 'trace', base: undefined },
    pretty({ destination: 1, sync: true, colorize: process.stdout.isTTY === true, translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l' }),
  );
  return (level, message, detail) => logger[level](detail === undefined ? message : `${message}\n${detail}`);
}

function escapeCharacter(character) {
  const code = character.charCodeAt(0);
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  return code > 0xff ? `\\u${code.toString(16)}` : `\\x${code.toString(16).padStart(2, '0')}`;
}

function escapeLine(text) {
  return text.replace(CONTROL, escapeCharacter);
}

function shortened(text, limit) {
  return text.length > limit ? `${text.slice(0, limit)}… (${text.length - limit} characters more)` : text;
}

/** The stack of an error, or text, as indented lines; line ends inside an error's message are escaped. */
function detailText(detail) {
  const text = typeof detail === 'string' ? detail : thrownText(detail);
  return shortened(text, MAX_DETAIL).replace(CONTROL_WITHIN_LINES, escapeCharacter).replace(/^/gm, '    ');
}

/**
 * @param {unknown} thrown What a handler threw, which may be data of a peer: an object of any make
 * @returns {string} Its stack and its cause's, where it has one, else what it is. Never throws
 */
function thrownText(thrown) {
  try {
    if (typeof thrown !== 'object' || typeof thrown?.stack !== 'string') return `thrown: ${describe(thrown)}`;
    const text = stackText(thrown);
    const { cause } = thrown;
    if (cause === undefined) return text;
    return `${text}\ncaused by ${typeof cause?.stack === 'string' ? stackText(cause) : describe(cause)}`;
  } catch {
    return 'thrown: an object that cannot be read';
  }
}

/** A stack as V8 writes it, its message one line of bounded length, so that the frames behind it stay in the log. */
function stackText({ stack, message }) {
  if (typeof message !== 'string' || !(message.length > MAX_MESSAGE || /[\n\r]/.test(message))) return stack;
  return stack.replace(message, () => escapeLine(shortened(message, MAX_MESSAGE)));
}

module.exports = { Log, createLog };
