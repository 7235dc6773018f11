'use strict';

const { SupervisedApp } = require('./supervised-app');
const { watchApp } = require('./watch');

/**
 * Serves an app in child processes, and in fresh ones whenever its code or its settings change, until a signal.
 *
 * @param {string} directory The app's folder
 * @param {object} options The options of `tina4 serve`
 * @param {number} workers How many processes serve it
 * @throws {Error} When the port cannot be had
 */
function developApp(directory, options, workers) {
  const app = new SupervisedApp(directory, options, workers);
  let changed;
  app
    .on('replaced', (elsewhere) => {
      if (!elsewhere) console.log(`  Reloaded after a change in ${changed}`);
    })
    .on('failed', (why) => {
      if (why) console.error(why);
      console.error(app.serving ? 'The version before the change keeps serving.' : 'Waiting for a change.');
    })
    .on('crashed', (how) => console.error(`The app ended by itself (${how}). Waiting for a change.`));
  app.start();
  watchApp(directory, (file) => {
    changed = file;
    app.replace();
  });
}

module.exports = { developApp };
