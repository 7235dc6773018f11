'use strict';

/**
 * The connections that JavaScript knows, by their place: a look-up is one array access. A place is used again; the handle tells
 * whether it still means the same connection.
 *
 * @private
 */
class Links {
  /** @type {(import('./link.js').Link|undefined)[]} */
  #places = [];
  /** How many there are. */
  size = 0;

  /**
   * @param {number} place
   * @param {number} handle
   * @returns {import('./link.js').Link|undefined}
   */
  get(place, handle) {
    const link = this.#places[place];
    return link !== undefined && link.handle === handle ? link : undefined;
  }

  /** @param {import('./link.js').Link} link */
  add(link) {
    const places = this.#places;
    // Without holes V8 keeps the array fast.
    while (places.length <= link.place) places.push(undefined);
    places[link.place] = link;
    this.size += 1;
  }

  /** @param {import('./link.js').Link} link One that was added */
  remove(link) {
    this.#places[link.place] = undefined;
    this.size -= 1;
  }

  /** @returns {import('./link.js').Link[]} */
  all() {
    return this.#places.filter((link) => link !== undefined);
  }

  clear() {
    this.#places = [];
    this.size = 0;
  }
}

module.exports = { Links };
