'use strict';

// The short twin of long/soak.test.js.

const { endForked } = require('./forked');
const { endPeers } = require('./rough');
const { expectNothingLeft, soak } = require('./soak');

const MIB = 1024 * 1024;

jest.setTimeout(120_000);

afterEach(async () => {
  endPeers();
  await endForked();
});

test('after seconds of chats, disconnects, slow readers and garbage everything is as it was', async () => {
  const result = await soak({ seconds: 4, warmUp: 3 });
  expect(result.totals.messages).toBeGreaterThan(0);
  expectNothingLeft(result, { heap: 4 * MIB, resident: 48 * MIB });
});
