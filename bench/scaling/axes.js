'use strict';

/** As many as a process here may open, with room for its own files. */
const MOST = 19_000;

/**
 * What grows, and the load for each step of it. `from` is the first step that the others are compared with: below it fewer messages
 * are under way at once, so that each costs a wake, which the others share.
 *
 * @typedef {object} Axis
 * @property {string} name
 * @property {string} unit What the steps count
 * @property {string} what One sentence for the page
 * @property {number[]} steps
 * @property {number} from
 * @property {(step: number) => (string|number)[]} load Words for the load generator
 */

/** @type {Axis[]} */
const AXES = [
  {
    name: 'connections, all in turn',
    unit: 'connections',
    what: 'Echo of 64 bytes; 64 messages are under way, and the connections take turns, so that each message finds its connection cold.',
    steps: [100, 1000, 5000, 10_000, MOST],
    from: 100,
    load: (step) => ['echo', '--path', '/echo', '--connections', step, '--under-way', 64],
  },
  {
    name: 'connections, most at rest',
    unit: 'connections',
    what: 'Echo of 64 bytes between 64 of the connections, one message under way in each; the others say nothing.',
    steps: [100, 1000, 5000, 10_000, MOST],
    from: 100,
    load: (step) => ['echo', '--path', '/echo', '--connections', step, '--speakers', 64],
  },
  {
    name: 'size of a room',
    unit: 'members',
    what: 'One member sends 64 bytes, all get them; the next message is sent when all have it.',
    steps: [10, 100, 1000, 10_000, MOST],
    from: 10,
    load: (step) => ['broadcast', '--path', '/room', '--connections', step, '--senders', 'one'],
  },
  {
    name: 'rooms of one',
    unit: 'rooms',
    what: 'Each connection is alone in a room and broadcasts there; the rooms take turns, at most 64 messages are under way and one in each room.',
    steps: [1, 10, 100, 1000, 10_000, MOST],
    from: 100,
    load: (step) => rooms(step, step),
  },
  {
    name: 'rooms of ten',
    unit: 'rooms',
    what: 'The same with ten members in each room.',
    steps: [1, 10, 100, 1000, 1900],
    from: 10,
    load: (step) => rooms(step * 10, step),
  },
  {
    name: 'one crowd in more and more rooms',
    unit: 'rooms',
    what: `${MOST.toLocaleString('en-US')} connections, spread over the rooms; the rooms take turns as above. The smaller the rooms, the more of what a message costs by itself comes upon each delivery; in the last step each message has one.`,
    steps: [1, 10, 100, 1000, 10_000, MOST],
    from: 1,
    load: (step) => rooms(MOST, step),
  },
];

function rooms(connections, count) {
  return ['broadcast', '--path', '/room', '--connections', connections, '--senders', 'one', '--rooms', count, '--in-flight', Math.min(64, count)];
}

module.exports = { AXES };
