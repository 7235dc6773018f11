'use strict';

/**
 * The variable through which the supervisor tells a child about the listening socket that it passes on, as JSON:
 * `{ fd, host, port, relay, reload }`.
 */
const OFFER = 'TINA4_INHERITED_LISTENER';

let offer;

/**
 * The offer of the supervisor that started this process, if one did. It is taken out of the environment, so that processes
 * which the app starts do not think it is theirs.
 *
 * @returns {{ fd: number, host: string, port: number, relay?: string, reload: boolean } | null}
 */
function readOffer() {
  if (offer === undefined) {
    offer = process.env[OFFER] ? JSON.parse(process.env[OFFER]) : null;
    delete process.env[OFFER];
  }
  return offer;
}

/**
 * The listening socket that the supervisor holds for this server. It can be taken once.
 *
 * When the app listens somewhere else than the supervisor thought, the supervisor is told, and starts this process again with
 * the right one: a socket that the app bound by itself could not be kept across a reload.
 *
 * @param {string} host As configured
 * @param {number} port As configured, so 0 when any will do
 * @returns {number | undefined} A file descriptor; undefined when the server has to bind by itself
 */
function inheritedListener(host, port) {
  const held = readOffer();
  if (!held || held.taken) return undefined;
  held.taken = true;
  if (held.host === host && held.port === port) return held.fd;
  process.send({ type: 'address', host, port });
  return undefined;
}

/**
 * Where the workers of this app are connected to each other. It is for the server that is going to get the listening socket, which
 * this does not take.
 *
 * @param {string} host As configured
 * @param {number} port As configured
 * @returns {string | undefined} The path of a socket; undefined when this process is no worker, or the server another one
 */
function inheritedRelay(host, port) {
  const held = readOffer();
  if (!held || held.taken || held.host !== host || held.port !== port) return undefined;
  return held.relay;
}

module.exports = { OFFER, inheritedListener, inheritedRelay, readOffer };
