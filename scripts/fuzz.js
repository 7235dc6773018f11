'use strict';

// `npm run fuzz -- <target> [seconds]` gives random bytes to one target of fuzz/, and keeps what reaches new code for the next run.
// Without a target it says which there are. docs/security.md says what each one checks.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { Problem, ROOT, firstLine, main, run, say } = require('./steps');

const FUZZ = path.join(ROOT, 'fuzz');
const TARGETS = fs.readdirSync(path.join(FUZZ, 'fuzz_targets')).map((name) => path.basename(name, '.rs'));

/** How long it runs when nothing is said, in seconds. */
const DEFAULT_SECONDS = 600;

/** Longest input, in bytes: the limits of the targets are reached with less. */
const MAX_LENGTH = 4096;

function checkFuzzer() {
  if (firstLine('cargo', ['+nightly', '--version']) === null) {
    throw new Problem('Fuzzing needs a nightly Rust: run "rustup toolchain install nightly --profile minimal".');
  }
  if (firstLine('cargo', ['fuzz', '--version']) === null) {
    throw new Problem('Fuzzing needs cargo-fuzz: run "cargo install cargo-fuzz".');
  }
}

main(async ([target, seconds = String(DEFAULT_SECONDS)]) => {
  const usage = `npm run fuzz -- <${TARGETS.join(' | ')}> [seconds]`;
  if (!TARGETS.includes(target) || !/^[1-9]\d*$/.test(seconds)) throw new Problem(`Usage: ${usage}`);
  checkFuzzer();
  // Beside the corpus of the repository, which is small on purpose.
  const found = path.join(os.tmpdir(), 'tina4-fuzz', target);
  fs.mkdirSync(found, { recursive: true });
  const folders = [found, path.join(FUZZ, 'corpus', target), path.join(FUZZ, 'seeds', target)];
  const dictionary = path.join(FUZZ, 'dictionaries', `${target}.dict`);
  const options = [`-max_total_time=${seconds}`, `-max_len=${MAX_LENGTH}`, '-timeout=10', '-print_final_stats=1'];
  if (fs.existsSync(dictionary)) options.push(`-dict=${dictionary}`);
  run('cargo', ['+nightly', 'fuzz', 'run', '--fuzz-dir', FUZZ, target, ...folders, '--', ...options]);
  say(`Nothing was found in ${seconds} s. What reached new code is in ${found}.`);
});
