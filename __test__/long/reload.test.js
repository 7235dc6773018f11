'use strict';

// The long twin of "many changes" in ../cli-reload.test.js.

const { cleanUp } = require('../cli-app');
const { reloadManyTimes } = require('../reloads');

const TIMES = 200;

afterEach(cleanUp);

it(`reloads ${TIMES} times without refusing a connection or keeping a file or a process`, async () => {
  const { failures, codes, children } = await reloadManyTimes(TIMES);
  expect(failures).toEqual([]);
  expect(codes).toEqual(Array(TIMES).fill(1012));
  expect(children).toEqual([true]);
});
