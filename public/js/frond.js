/**
 * frond.js: a WebSocket that reconnects.
 *
 *   const ws = frond.ws("/ws/chat/" + room, { maxReconnectAttempts: 20 });
 *   const off = ws.on("message", (data) => { … });  // off() unsubscribes
 *
 * send(data): a string, ArrayBuffer, view or Blob as it is, anything else as JSON; false when dropped.
 * close(code, reason): ends it for good; 1000 (default) or 3000 to 4999, reason up to 123 bytes.
 * status: "connecting", "open", "reconnecting" or "closed".
 *
 * Events
 *   open ()               each time a connection opens
 *   message (data)        text as it came, never parsed; binary as an ArrayBuffer
 *   close (code, reason)  once for every connection that had opened
 *   error (event)         a failed attempt, or an Error saying why something was dropped
 *   reconnect (attempt)   an attempt begins: from 1, anew after a connection longer than reconnectInterval
 *   reconnect_failed ()   the last attempt has failed
 *
 * Options: reconnect (true), reconnectInterval (3000 ms, ± 20 %), maxReconnectAttempts (10), protocols;
 * reconnectDelay: a first wait, doubled each time up to maxReconnectDelay (30000 ms; alone, it lets
 * reconnectInterval double); onOpen, onClose, onError.
 *
 * What is sent without a connection waits (up to 1,000 messages, 1 MiB) and goes out in order after the
 * open listeners, which may send a name first. What does not fit, or is sent or still waiting when the
 * status is "closed", is dropped with a console warning and an error event. Delivery is at most once.
 *
 * "/ws/x" is on the page's host, "ws/x" beside the page; ws, wss, http and https URLs stay. What a URL
 * cannot carry (\ " < > # space é, a % that is no escape) is percent-encoded, so a name goes in raw. Valid
 * escapes stay, "/" separates (not in a </tag>), the first "?" begins the query: a name with any of these
 * needs encodeURIComponent.
 */
(function (window) {
  "use strict";

  const EVENTS = ["open", "message", "close", "error", "reconnect", "reconnect_failed"];
  const MAX_MESSAGES = 1000;
  const MAX_BYTES = 1024 * 1024;

  /** Escapes what a URL cannot carry, and an escape that is no UTF-8, which the server would refuse. */
  function encode(text) {
    return text
      .replace(/[\uD800-\uDFFF]/gu, "\uFFFD") // a lone surrogate has no encoding
      .replace(/<[^>?]*>|<\//g, (tag) => tag.replace(/\//g, "%2F")) // markup is a name
      .replace(/((?:%[0-9A-Fa-f]{2})+)|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]/gu, function (match, escapes) {
        if (!escapes) return encodeURIComponent(match);
        try {
          decodeURIComponent(escapes);
          return escapes;
        } catch (error) {
          return escapes.replace(/%/g, "%25");
        }
      });
  }

  /** The absolute ws: or wss: URL of what the caller passed. */
  function resolve(url) {
    const text = String(url);
    const absolute = /^(?:ws|http)(s?):\/\/([^/?#\\]+)([^]*)$/i.exec(text);
    let origin = location.protocol.replace("http", "ws") + "//" + location.host;
    let rest = text;
    if (absolute) {
      origin = "ws" + absolute[1] + "://" + absolute[2];
      rest = absolute[3];
    } else if (text === "" || /^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
      throw new TypeError('frond.ws: "' + text + '" is neither a path nor a ws, wss, http or https URL');
    } else if (text[0] !== "/") {
      rest = location.pathname.replace(/[^/]*$/, "") + text;
    }
    rest = encode(rest);
    // Every browser resolves these away, which would open another path than the one asked for.
    if (/^[^?]*\/(\.|%2e){1,2}(\/|\?|$)/i.test(rest)) {
      throw new TypeError('frond.ws: "' + text + '" has a segment "." or "..", which no URL can carry');
    }
    return origin + rest;
  }

  function number(options, name, fallback) {
    const value = options[name];
    if (value === undefined) return fallback;
    if (typeof value === "number" && value >= 0) return value;
    throw new TypeError("frond.ws: " + name + " must be a number from 0 up, not " + value);
  }

  function byteLength(data) {
    if (typeof data === "string") return new TextEncoder().encode(data).length;
    return data.byteLength === undefined ? data.size : data.byteLength;
  }

  /** What a socket takes. Buffers are copied: they may wait while their owner writes to them. */
  function payload(data) {
    if (typeof data === "string") return data;
    if (ArrayBuffer.isView(data)) {
      return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
    }
    const kind = Object.prototype.toString.call(data);
    if (/ (ArrayBuffer|Blob|File)]$/.test(kind)) return data.slice(0);
    const json = JSON.stringify(data);
    if (json === undefined) throw new TypeError("frond.ws: cannot send " + typeof data);
    return json;
  }

  function ws(url, options = {}) {
    const address = resolve(url);
    const reconnect = options.reconnect !== false;
    const maxAttempts = number(options, "maxReconnectAttempts", 10);
    const interval = number(options, "reconnectDelay", number(options, "reconnectInterval", 3000));
    const grows = options.reconnectDelay !== undefined;
    const longest = number(options, "maxReconnectDelay", grows ? 30000 : interval);

    const listeners = {};
    const buffer = [];
    let bufferedBytes = 0;
    let socket = null;
    let status = "connecting";
    let attempts = 0;
    let timer = 0;
    let away = false; // the page is left, or sleeps in the back/forward cache

    function on(event, listener) {
      if (EVENTS.indexOf(event) < 0) {
        throw new TypeError('frond.ws: no event "' + event + '" in ' + EVENTS.join(", "));
      }
      if (typeof listener !== "function") throw new TypeError("frond.ws: a listener must be a function");
      const entry = { run: listener };
      listeners[event] = (listeners[event] || []).concat(entry);
      return () => {
        listeners[event] = listeners[event].filter((other) => other !== entry);
      };
    }

    function emit(event, a, b) {
      (listeners[event] || []).forEach(function (entry) {
        try {
          entry.run(a, b);
        } catch (error) {
          // Reaches window.onerror and stops no other listener.
          setTimeout(() => { throw error; });
        }
      });
    }

    function dropped(what) {
      const error = new Error("frond.ws: " + what);
      console.warn(error.message);
      emit("error", error);
      return false;
    }

    function send(data) {
      const message = payload(data);
      if (status === "closed") return dropped("message dropped, the connection is closed");
      if (status === "open" && socket.readyState === 1) {
        socket.send(message);
        return true;
      }
      const bytes = bufferedBytes + byteLength(message);
      if (buffer.length >= MAX_MESSAGES || bytes > MAX_BYTES) {
        return dropped("message dropped, the buffer is full (1,000 messages or 1 MiB)");
      }
      bufferedBytes = bytes;
      buffer.push(message);
      return true;
    }

    function finish() {
      status = "closed";
      clearTimeout(timer);
      window.removeEventListener("pagehide", leave);
      window.removeEventListener("pageshow", enter);
      const left = buffer.splice(0).length;
      bufferedBytes = 0;
      if (left) dropped(left + " buffered message(s) dropped, the connection is closed");
    }

    function schedule() {
      const wait = Math.min(interval * Math.pow(2, attempts), longest);
      timer = setTimeout(() => {
        attempts += 1;
        emit("reconnect", attempts);
        if (status !== "closed") connect();
      }, Math.min(wait * (0.8 + Math.random() * 0.4), 0x7fffffff)); // a longer timer would fire at once
    }

    function connect() {
      let openedAt = -1;
      socket = new WebSocket(address, options.protocols || []);
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        if (status === "closed") return;
        openedAt = performance.now();
        status = "open";
        emit("open");
        while (buffer.length && socket.readyState === 1) {
          bufferedBytes -= byteLength(buffer[0]);
          socket.send(buffer.shift());
        }
      };
      socket.onmessage = (event) => {
        if (status !== "closed") emit("message", event.data);
      };
      socket.onerror = (event) => {
        if (status !== "closed") emit("error", event);
      };
      socket.onclose = (event) => {
        const wanted = status !== "closed";
        socket = null;
        if (openedAt >= 0 && performance.now() - openedAt > interval) attempts = 0;
        if (wanted && reconnect && attempts < maxAttempts) status = "reconnecting";
        else if (wanted) finish();
        if (openedAt >= 0) emit("close", event.code, event.reason);
        if (status === "reconnecting" && !away) schedule();
        else if (wanted && reconnect && attempts >= maxAttempts) emit("reconnect_failed");
      };
    }

    function close(code = 1000, reason = "") {
      if (code !== 1000 && !(Number.isInteger(code) && code >= 3000 && code <= 4999)) {
        throw new RangeError("frond.ws: close code " + code + " is neither 1000 nor from 3000 to 4999");
      }
      if (byteLength(reason) > 123) throw new RangeError("frond.ws: close reason over 123 bytes");
      if (status === "closed") return;
      finish();
      if (socket) socket.close(code, reason);
    }

    function leave() {
      away = true;
      clearTimeout(timer);
    }

    function enter() {
      if (away && !socket && status === "reconnecting") schedule();
      away = false;
    }

    if (options.onOpen) on("open", options.onOpen);
    if (options.onClose) on("close", options.onClose);
    if (options.onError) on("error", options.onError);
    connect();
    window.addEventListener("pagehide", leave);
    window.addEventListener("pageshow", enter);
    return { on, send, close, get status() { return status; } };
  }

  window.frond = Object.assign(window.frond || {}, { ws });
})(window);
