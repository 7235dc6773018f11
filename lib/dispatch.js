'use strict';

const { WebSocketConnection } = require('./connection.js');
const { HttpDispatch } = require('./http-dispatch.js');
const { CLOSED, GONE, Link } = require('./link.js');
const { Links } = require('./links.js');
const { Pending } = require('./pending.js');
const { LONGEST_TIMER } = require('./timers.js');

/** Kinds of events, as the addon numbers them. */
const OPEN_EVENT = 1;
const MESSAGE_EVENT = 2;
const CLOSE_EVENT = 3;
const REQUEST_EVENT = 4;
const DRAINED_EVENT = 5;
const STOPPED_EVENT = 6;
const LOG_EVENT = 7;
const BACKPLANE_EVENT = 8;
const COUNTED_EVENT = 9;

/** Events of one drain, and numbers of one event: kind, handle, place, and one of its own. */
const MAX_EVENTS = 512;
const WORDS = 4;
/** Milliseconds of handlers after which timers and other I/O get their turn, however many events wait. */
const MAX_BATCH_TIME = 2;
/** Milliseconds of handlers after which the shards get what was sent so far, to write it while the other handlers run. */
const FLUSH_TIME = 0.03;
/** The clock is read after every eighth event: reading it costs a noticeable part of a short handler. */
const CLOCK_MASK = 7;

/** No events. */
const NONE = [];

const LOG_LEVELS = new Set(['debug', 'info', 'warning', 'error']);

/**
 * Drains the engine's queue and runs the handlers, in the order in which the events happened.
 *
 * - One event at a time for each connection: while a handler's promise is pending, the next events of that connection wait,
 *   held back from acknowledgement so that the engine stops reading a socket whose events pile up. `concurrent` routes start
 *   their events in order without waiting.
 * - `open` first, `close` once and last. `close` waits for a pending handler at most `TINA4_WS_CLOSE_GRACE` after the socket's
 *   end; then it runs, and messages still waiting are dropped (running them beside a stuck handler would break the rule above).
 * - A handler that throws or rejects is logged; nothing it does ends the loop, the connection or the process.
 *
 * @private
 */
class Dispatch {
  #host;
  #router;
  #closeGrace;
  #watch;
  #http;
  #onStopped;
  #onIdle = null;
  #links = new Links();

  #words = new Float64Array(MAX_EVENTS * WORDS);
  #values = NONE;
  /** The drained events that are not dispatched yet are those from #next to before #count. */
  #next = 0;
  #count = 0;
  /** Events from this index on were held when the batch was interrupted, and are acknowledged one by one. */
  #heldFrom = MAX_EVENTS;
  #running = false;
  /** It goes on by itself: in a microtask, or in the next turn of the loop. */
  #continuing = false;
  /** When the other work of the loop has waited long enough, by `performance.now()`; 0 while no handlers run. */
  #deadline = 0;
  #continue = () => {
    this.#continuing = false;
    this.#run();
  };

  /**
   * @param {object} host The server's parts: `engine`, `calls`, `commits`, `arrived`, `log`, `backplane`
   * @param {object} options
   * @param {import('./router.js').Router} options.router
   * @param {number} options.closeGrace Milliseconds
   * @param {import('./watch.js').Watch} options.watch
   * @param {boolean} options.showErrors Whether an answer 500 says what was thrown
   * @param {boolean} options.development Whether questionable handlers are pointed out
   * @param {() => void} options.onStopped Called for the engine's last event
   */
  constructor(host, options) {
    this.#host = host;
    this.#router = options.router;
    this.#closeGrace = Math.min(options.closeGrace, LONGEST_TIMER);
    this.#watch = options.watch;
    this.#http = new HttpDispatch(host, options);
    this.#onStopped = options.onStopped;
  }

  /** The doorbell: there are events. While a batch goes on by itself, it drains them too. */
  ring() {
    if (!this.#running && !this.#continuing) this.#run();
  }

  /** Connections whose close handler has not settled yet. */
  get size() {
    return this.#links.size;
  }

  /** @param {() => void} callback Called once, when there is no connection left */
  whenIdle(callback) {
    if (this.#links.size === 0) callback();
    else this.#onIdle = callback;
  }

  /** Lets go of every connection: the engine has ended, so that everything kept becomes a no-op. */
  stop() {
    for (const link of this.#links.all()) {
      this.#watch.removeLink(link);
      link.gone();
    }
    this.#links.clear();
    this.#watch.stop();
  }

  /**
   * Runs the handlers of one drain. If more events wait then, their handlers run once the promises that are settled have been
   * heard, and in the next turn of the loop when the time is up.
   */
  #run() {
    const { calls, commits } = this.#host;
    this.#running = true;
    commits.inBatch = true;
    let isDone = false;
    try {
      if (this.#next === this.#count) this.#refill(calls);
      isDone = this.#dispatchAll(calls);
    } finally {
      this.#running = false;
      commits.inBatch = false;
      if (!isDone) {
        calls.commit();
        this.#later();
      } else if (calls.finish()) {
        this.#soon();
      } else {
        this.#deadline = 0;
      }
    }
  }

  /** Dispatches what is drained; false if the time is up before the end. */
  #dispatchAll(calls) {
    const began = performance.now();
    if (this.#deadline === 0) this.#deadline = began + MAX_BATCH_TIME;
    let flushAt = began + FLUSH_TIME;
    while (this.#next < this.#count) {
      this.#dispatch(this.#next++);
      if ((this.#next & CLOCK_MASK) !== 0) continue;
      const now = performance.now();
      if (now >= this.#deadline) {
        this.#hold(calls);
        return false;
      }
      if (now >= flushAt) {
        calls.flush();
        flushAt = now + FLUSH_TIME;
      }
    }
    return began < this.#deadline;
  }

  #refill(calls) {
    // Should the drain fail, nothing is dispatched twice.
    this.#next = 0;
    this.#count = 0;
    this.#heldFrom = MAX_EVENTS;
    this.#values = calls.drain(this.#words, list) ?? NONE;
    this.#count = this.#values.length;
  }

  /** Leaves the rest of the drained events to the next turn; the commit must not acknowledge them. */
  #hold(calls) {
    if (this.#next === this.#count || this.#heldFrom !== MAX_EVENTS) return;
    this.#heldFrom = this.#next;
    for (let index = this.#next; index < this.#count; index += 1) {
      if (this.#words[index * WORDS] === MESSAGE_EVENT) calls.hold(index);
    }
  }

  #later() {
    this.#continuing = true;
    this.#deadline = 0;
    setImmediate(this.#continue);
  }

  #soon() {
    this.#continuing = true;
    queueMicrotask(this.#continue);
  }

  #dispatch(index) {
    const at = index * WORDS;
    const words = this.#words;
    const handle = words[at + 1];
    const place = words[at + 2];
    const number = words[at + 3];
    const value = this.#values[index];
    // What it held is not kept longer than its handler.
    this.#values[index] = undefined;
    switch (words[at]) {
      case MESSAGE_EVENT: {
        const link = this.#links.get(place, handle);
        const wasHeld = index >= this.#heldFrom;
        if (link !== undefined && link.isPending) {
          if (!wasHeld) this.#host.calls.hold(index);
          link.pending.defer({ kind: MESSAGE_EVENT, data: value, bytes: number });
          return;
        }
        if (link !== undefined && link.state < CLOSED) {
          const { arrived } = this.#host;
          if (typeof value === 'string') {
            arrived.text = value;
            arrived.index = index;
          }
          this.#call(link, 'message', value);
          arrived.text = null;
        }
        // Behind what the handler has sent, which comes before the answer to a close frame.
        if (wasHeld) this.#host.calls.ack(handle, number);
        return;
      }
      case OPEN_EVENT: this.#open(handle, place, number, value); return;
      case CLOSE_EVENT: this.#close(this.#links.get(place, handle)); return;
      case REQUEST_EVENT: this.#http.request(handle, this.#router.route(number), value); return;
      case DRAINED_EVENT: this.#links.get(place, handle)?.answerDrain(); return;
      case STOPPED_EVENT: this.#onStopped(); return;
      case LOG_EVENT: this.#log(handle, this.#links.get(place, handle), value); return;
      case BACKPLANE_EVENT: this.#host.backplane.changed(value); return;
      case COUNTED_EVENT: this.#host.backplane.counted(number, value); return;
      default:
    }
  }

  /** A line of the engine; one about a connection leaves it to us to name it. */
  #log(handle, link, [level, message]) {
    const subject = link === undefined ? 'A connection' : link.name;
    this.#host.log[LOG_LEVELS.has(level) ? level : 'info'](handle === 0 ? message : `${subject}: ${message}`);
  }

  #open(handle, place, id, lines) {
    const link = new Link(this.#host, handle, place, this.#router.route(id));
    link.connection = new WebSocketConnection(link, lines);
    this.#links.add(link);
    link.topic = this.#host.calls.join(handle);
    this.#call(link, 'open', '');
  }

  #close(link) {
    if (link === undefined) return;
    if (!link.isPending) {
      this.#runClose(link);
      return;
    }
    const { pending } = link;
    pending.defer({ kind: CLOSE_EVENT, data: '', bytes: 0 });
    link.closing();
    pending.graceTimer = setTimeout(() => this.#endGrace(link), this.#closeGrace);
    pending.graceTimer.unref();
  }

  /** Calls a handler. What it does next is the business of {@link Dispatch#wait} if it returned a promise. */
  #call(link, event, data) {
    const { handler } = link.route;
    try {
      const result = handler(link.connection, event, data);
      if (isThenable(result)) this.#wait(link, event, result);
    } catch (error) {
      this.#report(link, event, error);
    }
  }

  #wait(link, event, thenable) {
    // Foreign thenables may call back twice or at once; the promise around one does neither.
    const promise = Promise.resolve(thenable);
    if (link.route.concurrent) {
      promise.then(undefined, (error) => this.#report(link, event, error));
      return;
    }
    const pending = (link.pending ??= this.#pendingOf(link));
    pending.event = event;
    this.#watch.addLink(link);
    promise.then(pending.onSettled, pending.onFailed);
  }

  #pendingOf(link) {
    const pending = new Pending(
      () => this.#settled(link),
      (error) => {
        this.#report(link, link.state < CLOSED ? pending.event : pending.abandoned, error);
        this.#settled(link);
      },
    );
    return pending;
  }

  /** The pending handler of a connection is done: its next events run, up to the first that is pending again. */
  #settled(link) {
    // After the grace has ended the close event runs without it, and its own end is no longer waited for.
    if (link.state >= CLOSED) return;
    const { pending } = link;
    pending.event = null;
    this.#watch.removeLink(link);
    while (pending.event === null && pending.waiting !== null && pending.waiting.length > 0) {
      const { kind, data, bytes } = pending.waiting.shift();
      if (kind === CLOSE_EVENT) {
        this.#runClose(link);
        return;
      }
      this.#call(link, 'message', data);
      // Behind what the handler has sent, which comes before the answer to a close frame.
      this.#host.calls.ack(link.handle, bytes);
      this.#host.commits.touch();
    }
  }

  #endGrace(link) {
    if (link.state >= CLOSED) return;
    const { event, waiting } = link.pending;
    const dropped = waiting.length - 1;
    this.#host.log.warning(
      `The ${event} handler of ${link.name} was still pending ${this.#closeGrace / 1000} s after the socket's end; `
      + `its close handler runs without waiting for it${dropped > 0 ? `, and ${dropped} waiting ${dropped === 1 ? 'message is' : 'messages are'} dropped` : ''}.`,
    );
    this.#runClose(link);
  }

  #runClose(link) {
    const { calls, commits } = this.#host;
    this.#watch.removeLink(link);
    link.closed();
    link.pending?.abandon();
    calls.leave(link.handle);
    commits.touch();
    const { handler } = link.route;
    try {
      const result = handler(link.connection, 'close', '');
      if (isThenable(result)) {
        (link.pending ??= this.#pendingOf(link)).event = 'close';
        this.#watch.addLink(link);
        Promise.resolve(result).then(
          () => this.#release(link),
          (error) => {
            this.#report(link, 'close', error);
            this.#release(link);
          },
        );
        return;
      }
    } catch (error) {
      this.#report(link, 'close', error);
    }
    this.#release(link);
  }

  #release(link) {
    if (link.state === GONE) return;
    this.#watch.removeLink(link);
    link.gone();
    this.#links.remove(link);
    this.#host.calls.release(link.handle);
    this.#host.commits.touch();
    if (this.#links.size === 0 && this.#onIdle !== null) {
      const callback = this.#onIdle;
      this.#onIdle = null;
      callback();
    }
  }

  #report(link, event, error) {
    this.#host.log.error(`The ${event} handler of ${link.name} failed.`, error);
  }
}

/** The addon has this make an array of the values it drains. */
function list(...values) {
  return values;
}

/** Whether a handler gave a promise of any make. */
function isThenable(result) {
  return result !== undefined && result !== null && typeof result.then === 'function';
}

module.exports = { Dispatch };
