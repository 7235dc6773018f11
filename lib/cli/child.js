'use strict';

// What a supervisor runs: loads the app in its working directory and serves it on the socket that it was given.

const { readEnvironment } = require('./environment');
const { readOffer } = require('./inherit');
const { manageLifetime, SIGNAL_STATUS } = require('./lifetime');
const { requireAllRoutes } = require('./load-routes');
const { describeStartError, startApp } = require('./serve');

const directory = process.cwd();

async function main() {
  try {
    const offer = readOffer();
    Object.assign(process.env, { ...readEnvironment(directory), ...process.env });
    obey(manageLifetime());
    // While an older version serves, a fresh one has to be whole to take its place.
    if (offer.reload) requireAllRoutes();
    const [{ host, port }] = await startApp(directory);
    process.send({ type: 'ready', host, port });
  } catch (error) {
    console.error(describeStartError(error));
    process.send({ type: 'failed' }, () => process.exit(1));
  }
}

function obey(life) {
  // The terminal signals the whole group, and the supervisor passes the same signal on: neither may count as the second one.
  for (const signal of Object.keys(SIGNAL_STATUS)) process.on(signal, () => life.stop(1001, 'server is shutting down', 0));
  // What a hang-up means is the supervisor's to say, and the end of its own terminal goes to the whole group.
  process.on('SIGHUP', () => {});
  // Without the supervisor nobody could stop this process, and it would keep the port.
  process.on('disconnect', () => life.stop(1001, 'server is shutting down', 1));
  process.on('message', (message) => {
    if (message.type === 'stop') life.stop(message.code, message.reason, 0);
  });
}

main();
