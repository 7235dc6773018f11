'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const dotenv = require('dotenv');

/** A sentence for the user: what was wrong and what is accepted. The CLI prints it without a stack and exits with 1. */
class UsageError extends Error {}

const DEFAULT_HOST = '0.0.0.0';
const DEFAULT_PORT = 7148;
const MAX_PORT = 65535;
const MAX_WORKERS = 64;
const DEFAULT_SHUTDOWN_TIMEOUT = 30;

/**
 * The file that holds an app's settings: `.env`, or what `TINA4_ENV_FILE` names.
 *
 * @param {string} directory The app's folder
 * @returns {string} A full path; the file may be missing
 */
function environmentFile(directory) {
  return path.resolve(directory, process.env.TINA4_ENV_FILE || '.env');
}

/**
 * Reads an app's settings without touching `process.env`.
 *
 * @param {string} directory The app's folder
 * @returns {Record<string, string>} Empty when there is no `.env`
 * @throws {UsageError} When the file cannot be read, or `TINA4_ENV_FILE` names one that does not exist
 */
function readEnvironment(directory) {
  const file = environmentFile(directory);
  try {
    return dotenv.parse(fs.readFileSync(file));
  } catch (error) {
    if (error.code === 'ENOENT' && !process.env.TINA4_ENV_FILE) return {};
    const named = process.env.TINA4_ENV_FILE ? `TINA4_ENV_FILE names ${file}, which` : file;
    throw new UsageError(`${named} cannot be read (${error.code}).`);
  }
}

/**
 * What the command line says, as the variables that mean the same. They win over the environment and `.env`.
 *
 * @param {{ port?: number, host?: string, workers?: number, production?: boolean }} options
 * @returns {Record<string, string>}
 */
function fromOptions({ port, host, workers, production }) {
  const variables = {};
  if (port !== undefined) variables.TINA4_PORT = String(port);
  if (host !== undefined) variables.TINA4_HOST = host;
  if (workers !== undefined) variables.TINA4_WORKERS = String(workers);
  if (production) variables.NODE_ENV = 'production';
  return variables;
}

/**
 * The settings an app runs with: the command line, then the real environment, then `.env`.
 *
 * @param {string} directory The app's folder
 * @param {object} options The options of `tina4 serve`
 * @returns {Record<string, string | undefined>}
 */
function settings(directory, options) {
  return { ...readEnvironment(directory), ...process.env, ...fromOptions(options) };
}

/**
 * Where a server with these settings listens.
 *
 * @param {Record<string, string | undefined>} variables
 * @returns {{ host: string, port: number }}
 * @throws {UsageError} When the port is no port
 */
function address(variables) {
  const host = variables.TINA4_HOST || variables.HOST || DEFAULT_HOST;
  const name = variables.TINA4_PORT ? 'TINA4_PORT' : 'PORT';
  const text = variables[name];
  if (!text) return { host, port: DEFAULT_PORT };
  const port = parsePort(text);
  if (port === null) {
    throw new UsageError(`${name} is "${text}", but it must be a whole number from 0 to ${MAX_PORT}.`);
  }
  return { host, port };
}

/** @returns {number | null} Null when `text` is not a port */
function parsePort(text) {
  const trimmed = text.trim();
  if (!/^\d{1,5}$/.test(trimmed)) return null;
  const port = Number(trimmed);
  return port <= MAX_PORT ? port : null;
}

/**
 * How many processes serve an app with these settings.
 *
 * @param {Record<string, string | undefined>} variables
 * @returns {number} 1 unless they say otherwise
 * @throws {UsageError} When it is no number of workers
 */
function workerCount(variables) {
  const text = variables.TINA4_WORKERS;
  if (!text?.trim()) return 1;
  const count = parseWorkers(text);
  if (count === null) {
    throw new UsageError(`TINA4_WORKERS is "${text}", but it must be a whole number from 1 to ${MAX_WORKERS}, or auto.`);
  }
  return count;
}

/** @returns {number | null} One for each core for `auto`; null when `text` is not a number of workers */
function parseWorkers(text) {
  const trimmed = text.trim();
  if (trimmed.toLowerCase() === 'auto') return Math.min(os.availableParallelism(), MAX_WORKERS);
  if (!/^\d{1,2}$/.test(trimmed)) return null;
  const count = Number(trimmed);
  return count >= 1 && count <= MAX_WORKERS ? count : null;
}

/**
 * How long a server with these settings gives its connections when it closes.
 *
 * @param {Record<string, string | undefined>} variables
 * @returns {number} Milliseconds; the default for a value that the engine is going to refuse
 */
function shutdownTimeout(variables) {
  const seconds = Number.parseFloat(variables.TINA4_SHUTDOWN_TIMEOUT);
  return (seconds >= 0 ? seconds : DEFAULT_SHUTDOWN_TIMEOUT) * 1_000;
}

module.exports = {
  MAX_PORT,
  MAX_WORKERS,
  UsageError,
  address,
  environmentFile,
  fromOptions,
  parsePort,
  parseWorkers,
  readEnvironment,
  settings,
  shutdownTimeout,
  workerCount,
};
