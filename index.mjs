// The CommonJS module is the only instance: `import` and `require` share one default router.
import tina4 from './index.js';

export const { Router, startServer, getToken, validToken } = tina4;
