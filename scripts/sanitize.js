'use strict';

// `npm run sanitize` runs the engine's tests under AddressSanitizer and LeakSanitizer; words after it go to `cargo test`. Linux only.

const os = require('node:os');
const path = require('node:path');
const { Problem, firstLine, main, run } = require('./steps');
const { ensureServices } = require('./services');

main(async (words) => {
  if (firstLine('cargo', ['+nightly', '--version']) === null) {
    throw new Problem('Sanitizers need a nightly Rust: run "rustup toolchain install nightly --profile minimal".');
  }
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
  if (process.platform !== 'linux' || !machine) throw new Problem('The leak check is for Linux on x86-64 or ARM64.');
  ensureServices(['redis-server', 'nats-server']);
  const env = {
    ...process.env,
    RUSTFLAGS: '-Zsanitizer=address',
    ASAN_OPTIONS: 'detect_leaks=1:detect_stack_use_after_return=1',
    // Beside the usual builds, which it would otherwise throw away.
    CARGO_TARGET_DIR: path.join(os.tmpdir(), 'tina4-sanitize'),
  };
  // With a target the build scripts and macros are built as ever.
  const options = ['--target', `${machine}-unknown-linux-gnu`, '--lib', '--tests', '--no-fail-fast', ...words];
  run('cargo', ['+nightly', 'test', '--quiet', '-p', 'engine', ...options], { env });
});
