'use strict';

const { describe, isRecord, onlyKeys } = require('./check.js');

/** Keys of `startServer`'s config that are another name of an environment variable. */
const VARIABLES = {
  port: 'TINA4_PORT',
  host: 'TINA4_HOST',
  ioThreads: 'TINA4_IO_THREADS',
  wsMaxMessageSize: 'TINA4_WS_MAX_MESSAGE_SIZE',
  wsMaxFragments: 'TINA4_WS_MAX_FRAGMENTS',
  wsMaxControlFrames: 'TINA4_WS_MAX_CONTROL_FRAMES',
  wsMaxPendingMessages: 'TINA4_WS_MAX_PENDING_MESSAGES',
  wsMaxPendingSize: 'TINA4_WS_MAX_PENDING_SIZE',
  wsCompression: 'TINA4_WS_COMPRESSION',
  wsCompressionThreshold: 'TINA4_WS_COMPRESSION_THRESHOLD',
  wsMaxBacklog: 'TINA4_WS_MAX_BACKLOG',
  maxBuffered: 'TINA4_MAX_BUFFERED',
  wsCloseGrace: 'TINA4_WS_CLOSE_GRACE',
  wsClosingTimeout: 'TINA4_WS_CLOSING_TIMEOUT',
  handlerTimeout: 'TINA4_HANDLER_TIMEOUT',
  secret: 'TINA4_SECRET',
  trustedProxies: 'TINA4_TRUSTED_PROXIES',
  wsMaxConnections: 'TINA4_WS_MAX_CONNECTIONS',
  wsMaxConnectionsPerIp: 'TINA4_WS_MAX_CONNECTIONS_PER_IP',
  wsPingInterval: 'TINA4_WS_PING_INTERVAL',
  wsPingTimeout: 'TINA4_WS_PING_TIMEOUT',
  wsIdleTimeout: 'TINA4_WS_IDLE_TIMEOUT',
  wsAllowedOrigins: 'TINA4_WS_ALLOWED_ORIGINS',
  wsBackplane: 'TINA4_WS_BACKPLANE',
  wsBackplaneUrl: 'TINA4_WS_BACKPLANE_URL',
  wsBackplaneHeartbeat: 'TINA4_WS_BACKPLANE_HEARTBEAT',
  wsBackplaneRetryDelay: 'TINA4_WS_BACKPLANE_RETRY_DELAY',
  wsBackplaneReplaySize: 'TINA4_WS_BACKPLANE_REPLAY_SIZE',
  wsBackplaneReplayAge: 'TINA4_WS_BACKPLANE_REPLAY_AGE',
  wsBackplaneMaxEnvelope: 'TINA4_WS_BACKPLANE_MAX_ENVELOPE',
  maxUploadSize: 'TINA4_MAX_UPLOAD_SIZE',
  shutdownTimeout: 'TINA4_SHUTDOWN_TIMEOUT',
  headerTimeout: 'TINA4_HEADER_TIMEOUT',
  bodyTimeout: 'TINA4_BODY_TIMEOUT',
  sendTimeout: 'TINA4_SEND_TIMEOUT',
  keepAliveTimeout: 'TINA4_KEEP_ALIVE_TIMEOUT',
  maxHeaderSize: 'TINA4_MAX_HEADER_SIZE',
  maxHeaders: 'TINA4_MAX_HEADERS',
  publicDir: 'TINA4_PUBLIC_DIR',
  debug: 'TINA4_DEBUG',
  logLevel: 'TINA4_LOG_LEVEL',
  logFormat: 'TINA4_LOG_FORMAT',
};

/** Keys that only code can give. */
const OTHER_KEYS = ['router', 'directory', 'templatesDir', 'staticDir', 'routesDir', 'logger'];

const ACCEPTED = [...Object.keys(VARIABLES), ...OTHER_KEYS];

/**
 * Checks the keys and the types of a config; what a value may be is the engine's to say.
 *
 * @param {unknown} config
 * @throws {TypeError}
 * @private
 */
function checkConfig(config) {
  if (!isRecord(config)) throw new TypeError(`startServer takes an object with settings, not ${describe(config)}.`);
  onlyKeys(config, ACCEPTED, 'startServer');
  for (const key of ['directory', 'templatesDir', 'staticDir']) {
    if (config[key] !== undefined && (typeof config[key] !== 'string' || config[key] === '')) {
      throw new TypeError(`startServer: ${key} is the path of a folder, not ${describe(config[key])}.`);
    }
  }
  const { routesDir } = config;
  if (routesDir !== undefined && routesDir !== false && (typeof routesDir !== 'string' || routesDir === '')) {
    throw new TypeError(`startServer: routesDir is the path of a folder, or false for none, not ${describe(routesDir)}.`);
  }
}

/**
 * The settings of one server by variable: what the config says wins over the environment.
 *
 * @param {object} config
 * @param {Record<string, string|undefined>} environment
 * @returns {Record<string, string>}
 * @throws {TypeError} if a value is neither text, a number, true or false, nor a list of texts
 * @private
 */
function readSettings(config, environment) {
  const settings = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && (name.startsWith('TINA4_') || name === 'HOST' || name === 'PORT')) settings[name] = value;
  }
  for (const [key, variable] of Object.entries(VARIABLES)) {
    const value = config[key];
    if (value !== undefined && value !== null) settings[variable] = asText(key, value);
  }
  return settings;
}

function asText(key, value) {
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value.join(',');
  if (!['string', 'number', 'boolean'].includes(typeof value)) {
    throw new TypeError(`startServer: ${key} is text, a number, true or false, or a list of texts, not ${describe(value)}.`);
  }
  return String(value);
}

/**
 * @param {Record<string, string|undefined>} environment
 * @returns {boolean} Whether this is development: neither `NODE_ENV=production` nor a true `TINA4_PRODUCTION`
 * @private
 */
function isDevelopment(environment) {
  const flag = (environment.TINA4_PRODUCTION ?? '').trim().toLowerCase();
  return environment.NODE_ENV !== 'production' && !['true', '1', 'yes', 'on'].includes(flag);
}

module.exports = { VARIABLES, checkConfig, isDevelopment, readSettings };
