'use strict';

const { SupervisedApp } = require('./supervised-app');

/**
 * Serves an app in several worker processes until a signal, without watching it. SIGHUP replaces them one by one; while they are being
 * replaced, another one is kept in mind.
 *
 * @param {string} directory The app's folder
 * @param {object} options The options of `tina4 serve`
 * @param {number} count How many, more than one
 * @throws {Error} When the port cannot be had
 */
function serveWithWorkers(directory, options, count) {
  const app = new SupervisedApp(directory, options, count);
  let started = false;
  let busy = true;
  let again = false;

  const replace = () => {
    busy = true;
    app.log.info(`Replacing ${count} workers one by one.`);
    app.replace();
  };
  const settle = () => {
    busy = false;
    if (!again) return;
    again = false;
    replace();
  };
  app
    .on('started', () => {
      started = true;
      settle();
    })
    .on('replaced', () => {
      app.log.info(`All ${count} workers have been replaced.`);
      settle();
    })
    .on('failed', (why) => {
      if (!started) {
        if (why) console.error(why);
        app.quit(1);
        return;
      }
      app.log.error(`${why ?? 'A fresh worker could not start.'} The workers that were not replaced keep serving.`);
      settle();
    });
  process.on('SIGHUP', () => {
    if (busy) again = true;
    else replace();
  });
  app.start();
}

module.exports = { serveWithWorkers };
