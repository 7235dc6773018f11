'use strict';

/** `timeout` is for one test, in milliseconds. */
const project = (displayName, testMatch, timeout, testPathIgnorePatterns = []) => ({
  displayName,
  testEnvironment: 'node',
  testMatch,
  globals: { TEST_TIMEOUT: timeout },
  setupFilesAfterEnv: ['<rootDir>/__test__/timeout.js'],
  testPathIgnorePatterns: ['/node_modules/', ...testPathIgnorePatterns],
  // Everything under test is CommonJS that Node runs as it is.
  transform: {},
  modulePathIgnorePatterns: ['<rootDir>/target/', '<rootDir>/npm/'],
});

module.exports = {
  // Tests mostly wait, so there may be more of them than cores.
  maxWorkers: 3,
  watchman: false,
  projects: [
    // Whatever is not one of the others is a unit test, so that no file is forgotten.
    project('unit', ['<rootDir>/__test__/**/*.test.js'], 20_000, [
      '/__test__/e2e/',
      '/__test__/long/',
      '/__test__/chapter\\.test\\.js$',
    ]),
    project('chapter', ['<rootDir>/__test__/chapter.test.js'], 120_000),
    project('e2e', ['<rootDir>/__test__/e2e/**/*.test.js'], 120_000),
    project('long', ['<rootDir>/__test__/long/**/*.test.js'], 1_800_000),
  ],
};
