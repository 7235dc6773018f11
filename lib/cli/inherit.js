'use strict';

/**
 * The variable through which the development supervisor tells a child about the listening socket that it passes on, as JSON:
 * `{ fd, host, port, reload }`.
 */
const OFFER = 'TINA4_INHERITED_LISTENER';

let offer;

/**
 * The offer of the supervisor that started this process, if one did. It is taken out of the environment, so that processes
 * which the app starts do not think it is theirs.
 *
 * @returns {{ fd: number, host: string, port: number, reload: boolean } | null}
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

module.exports = { OFFER, inheritedListener, readOffer };
