'use strict';

const { parseBody } = require('./body.js');
const { describe } = require('./check.js');
const { Exchange } = require('./exchange.js');
const { Tina4Request } = require('./request.js');
const { Tina4Response } = require('./response.js');

/**
 * Runs the handler of one HTTP request and sees to it that the client gets an answer.
 *
 * A body that cannot be read is answered with 400 before the handler runs; a handler that throws or rejects before it
 * answered, with 500; one whose promise settles without an answer, with an empty body. A sync handler without an answer may
 * still answer from a callback; the engine's handler timeout (503) bounds that.
 *
 * @private
 */
class HttpDispatch {
  #host;
  #watch;
  #showErrors;
  #development;

  /**
   * @param {object} host The server's parts: `engine`, `calls`, `commits`, `log`
   * @param {{watch: import('./watch.js').Watch, showErrors: boolean, development: boolean}} options
   */
  constructor(host, { watch, showErrors, development }) {
    this.#host = host;
    this.#watch = watch;
    this.#showErrors = showErrors;
    this.#development = development;
  }

  /**
   * @param {number} handle
   * @param {import('./router.js').Route} route
   * @param {string|[string, Buffer]} told Of the event: its lines, and its body if it has one
   */
  request(handle, route, told) {
    const [lines, bytes] = typeof told === 'string' ? [told, null] : told;
    const req = new Tina4Request(lines);
    const exchange = new Exchange(this.#host, handle, req.method, route.path);
    try {
      req.body = parseBody(bytes, bytes === null ? undefined : req.headers['content-type']);
    } catch (error) {
      exchange.sendError(error.status ?? 400, error.message);
      return;
    }
    const res = new Tina4Response(exchange);
    const handler = route.handler;
    try {
      const result = handler(req, res);
      if (result !== undefined && result !== null && typeof result.then === 'function') {
        if (!exchange.answered) this.#watch.addExchange(exchange);
        Promise.resolve(result).then(
          (value) => this.#finish(exchange, res, value),
          (error) => this.#failed(exchange, error),
        );
      } else if (!exchange.answered) {
        this.#watch.addExchange(exchange);
        if (result !== undefined && result !== res) this.#pointOut(exchange, result);
      }
    } catch (error) {
      this.#failed(exchange, error);
    }
  }

  #finish(exchange, res, value) {
    if (exchange.answered) return;
    this.#pointOut(exchange, value);
    Tina4Response.finish(res);
  }

  /** In development, says what a handler that gave no answer probably wanted. */
  #pointOut(exchange, value) {
    if (!this.#development) return;
    this.#host.log.warning(
      value === undefined
        ? `The handler of ${exchange.name} finished without an answer; an empty one was sent. Answer with res, for example res.json(data).`
        : `The handler of ${exchange.name} returned ${describe(value)} without an answer; what a handler returns is not sent. Answer with res, for example res.json(data).`,
    );
  }

  #failed(exchange, error) {
    this.#host.log.error(`The handler of ${exchange.name} failed.`, error);
    if (exchange.answered) return;
    if (this.#showErrors) exchange.sendThrown(error);
    else exchange.sendError(500, 'the handler failed');
  }
}

module.exports = { HttpDispatch };
