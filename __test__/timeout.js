'use strict';

// Jest has one `testTimeout` for all projects; each project here gives its own as a global.
jest.setTimeout(globalThis.TEST_TIMEOUT);
