'use strict';

// A route file that a test adds to an app, and what the test asks it.

const fs = require('node:fs');

/** `src/routes/*.ts` */
const PROBE = `
import { Router } from "tina4-nodejs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

Router.get("/probe", (req, res) => {
  collect();
  return res.json({ pid: process.pid, heap: process.memoryUsage().heapUsed });
});
Router.websocket("/ws/colon/:room", (connection, event) => {
  if (event === "open") connection.sendJson({ path: connection.path, params: connection.params });
});
`;

/**
 * The memory of the process that serves the probe.
 *
 * @param {string} origin
 * @returns {Promise<{ pid: number, heap: number, resident: number }>} Bytes: of JavaScript after a collection, and of the process
 */
async function measure(origin) {
  const { pid, heap } = await (await fetch(`${origin}/probe`)).json();
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return { pid, heap, resident: Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)[1]) * 1024 };
}

module.exports = { PROBE, measure };
