'use strict';

// Ten minutes, or SOAK_SECONDS, of everything that peers do, good and bad, all at once.

const { endForked } = require('../forked');
const { endPeers } = require('../rough');
const { expectNothingLeft, soak } = require('../soak');

const MIB = 1024 * 1024;
const SECONDS = Number(process.env.SOAK_SECONDS ?? 600);
/** Until memory has the size that this load needs. */
const WARM_UP = Math.min(60, SECONDS / 4);

jest.setTimeout((SECONDS + WARM_UP + 180) * 1_000);

afterEach(async () => {
  endPeers();
  await endForked();
});

it(`after ${SECONDS} s of chats, disconnects, slow readers, frozen peers and garbage everything is as it was`, async () => {
  // Jest would keep the lines of `console.log` until the end.
  const print = (line) => process.stdout.write(`${line}\n`);
  const result = await soak({ seconds: SECONDS, warmUp: WARM_UP, threads: true, print });
  print(JSON.stringify(result.totals));
  expect(result.totals.messages).toBeGreaterThan(0);
  expectNothingLeft(result, { heap: 4 * MIB, resident: 32 * MIB });
});
