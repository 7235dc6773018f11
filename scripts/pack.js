'use strict';

// `node scripts/pack.js [folder]` writes the tarball that users install, with this platform's binary in it, and prints its path.

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { ROOT, ensureBinary, main } = require('./steps');

/**
 * @param {string} folder Where the tarball goes; it is made when it does not exist
 * @returns {string} The tarball's full path
 */
function pack(folder) {
  fs.mkdirSync(folder, { recursive: true });
  const [{ filename }] = npmPack(['--pack-destination', path.resolve(folder)]);
  return path.resolve(folder, filename);
}

/**
 * What a tarball would hold.
 *
 * @returns {string[]} Paths within the package, sorted
 */
function packedFiles() {
  const [{ files }] = npmPack(['--dry-run']);
  return files.map((file) => file.path).sort();
}

function npmPack(options) {
  // `prepare` would build; the binary is there already.
  const args = ['pack', '--json', '--ignore-scripts', ...options];
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd: ROOT, encoding: 'utf8', shell: process.platform === 'win32' });
  if (status !== 0) throw new Error(`npm ${args.join(' ')} exited with ${status}:\n${stderr}`);
  return JSON.parse(stdout);
}

module.exports = { pack, packedFiles };

if (require.main === module) {
  main(([folder = '.']) => {
    ensureBinary();
    console.log(pack(folder));
  });
}
