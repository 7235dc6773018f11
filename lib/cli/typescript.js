'use strict';

let enabling;

/**
 * Lets this thread load TypeScript, and ES modules from `.js` files of packages without `"type": "module"`.
 *
 * It stays on, because a handler may import something later. Both of tsx's hooks are needed: `require` does not pass
 * through the hooks of `import`.
 *
 * @returns {Promise<void>}
 */
function enableTypeScript() {
  enabling ??= enable();
  return enabling;
}

async function enable() {
  require('tsx/cjs/api').register();
  // tsx's CommonJS build of this API looks for its loader in the wrong folder.
  const { register } = await import('tsx/esm/api');
  register();
}

module.exports = { enableTypeScript };
