'use strict';

/**
 * Loads the addon: one native binary for this platform, found by the generated `native.js`.
 *
 * Nothing else in `lib/` requires that file, so that a missing binary has one error, with one way to fix it.
 */

const fs = require('node:fs');
const path = require('node:path');

const PACKAGE_DIRECTORY = path.join(__dirname, '..');
const BINARY_NAME = 'tina4-nodejs';

/**
 * The platform's part of the binary's file name, as the build tool writes it: `linux-x64-gnu`, `darwin-arm64`.
 *
 * @returns {string}
 * @private
 */
function platformName() {
  const { platform, arch } = process;
  if (platform === 'linux') {
    // glibc reports its version, musl has none to report.
    const header = process.report?.getReport?.().header;
    return `linux-${arch}-${header?.glibcVersionRuntime ? 'gnu' : 'musl'}`;
  }
  if (platform === 'win32') return `win32-${arch}-msvc`;
  return `${platform}-${arch}`;
}

/**
 * The error for a binary that is missing or that this system refuses to load.
 *
 * @param {unknown} cause What the generated loader threw; kept as `cause`
 * @param {string} directory The package's folder
 * @param {string} platform As {@link platformName} gives it
 * @returns {Error} `code` is `ERR_TINA4_NATIVE`
 * @private
 */
function loadError(cause, directory, platform) {
  const file = `${BINARY_NAME}.${platform}.node`;
  const exists = fs.existsSync(path.join(directory, file));
  const what = exists
    ? `The native binary ${file} in ${directory} could not be loaded: ${innermost(cause)}.`
    : `There is no native binary for this platform: looked for ${file} in ${directory}.`;

  let how;
  if (fs.existsSync(path.join(directory, 'Cargo.toml'))) {
    how = 'This is a source checkout: install Rust (https://rustup.rs) and run `npm run build`.';
  } else {
    const carried = fs.readdirSync(directory).filter((name) => name.endsWith('.node'));
    how = carried.length === 0
      ? 'The installed package carries no binary at all: remove node_modules and install again.'
      : exists
        ? 'Remove node_modules and install again on this machine; if it persists, its C library is older than the binary needs.'
        : `The installed package carries ${carried.join(', ')}: install it on one of these platforms, or build it from a checkout.`;
  }
  const error = new Error(`${what} ${how}`, { cause });
  error.code = 'ERR_TINA4_NATIVE';
  return error;
}

/** The message at the end of a chain of causes: the loader wraps what the system said. */
function innermost(error) {
  let last = error;
  while (last && last.cause) last = Array.isArray(last.cause) ? last.cause[0] : last.cause;
  return String(last?.message ?? last).split('\n', 1)[0];
}

function load() {
  try {
    return require('../native.js');
  } catch (cause) {
    throw loadError(cause, PACKAGE_DIRECTORY, platformName());
  }
}

module.exports = load();
