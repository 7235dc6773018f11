'use strict';

// `node scripts/check-package.js` compares what `npm pack` would put into the tarball with what belongs there.

const { Problem, main } = require('./steps');
const { packedFiles } = require('./pack');

/** Without one of these the package does not work. */
const REQUIRED = [
  'LICENSE',
  'README.md',
  'bin/tina4.js',
  'index.d.ts',
  'index.js',
  'index.mjs',
  'lib/cli/child.js',
  'lib/cli/main.js',
  'lib/native.js',
  'lib/server.js',
  'native.d.ts',
  'native.js',
  'package.json',
  'public/js/frond.js',
  'templates/base.html',
];

/** Beside them nothing but these. */
const ALLOWED = [/^lib\/.+\.js$/, /^public\/.+\.(js|css|svg|ico|png)$/, /^templates\/.+\.html$/, /^docs\/[^/]+\.md$/];

const BINARY = /^tina4-nodejs\.[a-z0-9-]+\.node$/;

/**
 * @param {string[]} files Paths within the package
 * @returns {string[]} One sentence for each thing that is wrong
 */
function problems(files) {
  const found = REQUIRED.filter((name) => !files.includes(name)).map((name) => `${name} is missing from the package.`);
  const binaries = files.filter((name) => BINARY.test(name));
  if (binaries.length !== 1)
    found.push(`The package must carry one binary, not ${binaries.length} (${binaries.join(', ') || 'none'}).`);
  for (const name of files) {
    const expected = REQUIRED.includes(name) || BINARY.test(name) || ALLOWED.some((pattern) => pattern.test(name));
    if (!expected) found.push(`${name} does not belong into the package.`);
  }
  return found;
}

module.exports = { problems };

if (require.main === module) {
  main(() => {
    const files = packedFiles();
    const found = problems(files);
    if (found.length > 0) throw new Problem(found.join('\n'));
    console.log(`The package holds ${files.length} files, all of them expected.`);
  });
}
