// Sizes are bytes and durations are seconds throughout, whole or fractional, unless a line says otherwise.
//
// A program without @types/node still compiles: the reference below is then ignored, and `Buffer` reads as `Uint8Array`.
// @ts-ignore
/// <reference types="node" />

/** `Buffer` where the program knows Node's types, else the `Uint8Array` that every Buffer is. */
type NodeBuffer = typeof globalThis extends { Buffer: { isBuffer(value: any): value is infer B } } ? B : Uint8Array;

// ---------------------------------------------------------------------------------------------------------------------
// Paths and their parameters

/** The parameter segments of a path pattern, as a union: `"/ws/{room}/{seat:int}"` → `"{room}" | "{seat:int}"`. */
type ParamSegments<Path extends string, Seen extends string = never> = Path extends `${infer First}/${infer Rest}`
  ? ParamSegments<Rest, First extends `{${string}}` ? Seen | First : Seen>
  : Path extends `{${string}}` ? Seen | Path : Seen;

/** The name in a parameter segment. */
type SegmentName<Segment extends string> =
  Segment extends `{${infer Name}:${string}}` ? Name : Segment extends `{${infer Name}}` ? Name : never;

/** What a parameter segment matches: a number for `int` and `float`, else text. */
type SegmentValue<Segment extends string> = Segment extends `{${string}:${"int" | "float"}}` ? number : string;

/**
 * The parameters of a path pattern, read from its literal type.
 *
 * | pattern | parameter |
 * |---|---|
 * | `{name}` | `name: string`, one segment |
 * | `{id:int}`, `{x:float}` | `id: number`, `x: number`, only where the segment is one |
 * | `{rest:path}` | `rest: string`, the last one or more segments |
 *
 * Every other name is `string | undefined`: it may be in the query (`/ws/secure?token=…` gives `params.token`).
 * For a path that is no literal (a `string` variable) every name is `string | number | undefined`.
 *
 * @example
 * type Chat = RouteParams<"/ws/chat/{room}">; // Chat["room"] is string, Chat["token"] is string | undefined
 */
export type RouteParams<Path extends string = string> = Path extends unknown // each path of a union for itself
  ? string extends Path
    ? { readonly [name: string]: string | number | undefined }
    : { readonly [Segment in ParamSegments<Path> as SegmentName<Segment>]: SegmentValue<Segment> }
      & { readonly [name: string]: string | undefined }
  : never;

/** Named texts of a request: header fields, cookies or the query. The object has no prototype; any name may be missing. */
export interface StringMap {
  readonly [name: string]: string | undefined;
}

// ---------------------------------------------------------------------------------------------------------------------
// WebSocket routes

/** What a WebSocket handler is called for: `"open"` first, then any number of `"message"`, `"close"` once and last. */
export type WebSocketEvent = "open" | "message" | "close";

/** What can be sent: a string goes out as a text frame; a Buffer, typed array or DataView as a binary frame. */
export type WebSocketMessage = string | ArrayBufferView;

/**
 * What a handler gets as `data`: `string`, or `string | Buffer` on a route registered with `{ binary: true }`.
 * It is `""` for `open` and `close`.
 */
export type WebSocketData<Binary extends boolean = false> = [Binary] extends [false] ? string : string | NodeBuffer;

/** How a WebSocket route treats its messages. */
export interface WebSocketRouteOptions<Binary extends boolean = boolean> {
  /**
   * Hand binary messages over as `Buffer`. Default `false`: a binary message that is valid UTF-8 arrives as a string, one
   * that is not closes the connection with code 1003.
   */
  binary?: Binary;
  /**
   * Compress messages for peers that can inflate them (permessage-deflate, RFC 7692). Default
   * {@link Tina4Config.wsCompression}. Never for secrets beside text that a stranger chooses: the length tells of both.
   */
  compress?: boolean;
  /**
   * The subprotocols this route speaks, such as `["chat.v1"]`. The first that a peer offers and that is among them is agreed
   * and is {@link WebSocketConnection.protocol}; a connection opens without one all the same. Default: none.
   */
  protocols?: readonly string[];
  /**
   * Start the events of a connection in order without waiting for the promise of the one before. Default `false`: one event
   * at a time for each connection. Switch it on for handlers that await a reply on the same socket.
   */
  concurrent?: boolean;
}

/** Whom a broadcast reaches. */
export interface BroadcastOptions {
  /** Leave out the connection that broadcasts. Default `false`: it receives its own message. */
  excludeSelf?: boolean;
}

/** Where connections are counted. */
export interface CountOptions<Cluster extends boolean = boolean> {
  /** Count in every process that the backplane reaches, not in this one alone; the answer is then a promise. Default `false`. */
  cluster?: Cluster;
}

/**
 * Properties of your own on connections. It is the same object in every event of a connection, so it can carry what you
 * know about its peer. Declare what you add:
 *
 * @example
 * declare module "tina4-nodejs" {
 *   interface WebSocketConnectionProperties { username?: string }
 * }
 */
export interface WebSocketConnectionProperties {}

/**
 * One upgraded socket, as the handler of its route sees it. Kept after it has closed, it is harmless: what is sent goes
 * nowhere (a wrong argument still throws).
 *
 * @typeParam Path The route's pattern; it types `params`.
 * @typeParam Params What follows from `Path`. Compared by it, a connection of one route fits where any is wanted.
 */
export interface WebSocketConnection<Path extends string = string, Params = RouteParams<Path>>
  extends WebSocketConnectionProperties {
  /** Unique text of this connection, random enough never to be shared between servers. */
  readonly id: string;
  /** The concrete path of the URL without the query, in canonical form: broadcasts and counts stay within one path. */
  readonly path: string;
  /** Path parameters, URL-decoded, together with the query's; a path parameter wins over a query parameter of its name. */
  readonly params: Params;
  /** The query of the upgrade request; the last value of a repeated name. */
  readonly query: StringMap;
  /**
   * The header fields of the upgrade request, names in lower case; repeated ones joined with `", "`. They are fetched on first
   * use; after the close handler has settled there is nothing left to fetch.
   */
  readonly headers: StringMap;
  /** The cookies of the upgrade request. */
  readonly cookies: StringMap;
  /** The peer's address. `X-Forwarded-For` counts only from {@link Tina4Config.trustedProxies}. */
  readonly ip: string;
  /**
   * The subprotocol that was agreed, one of the route's {@link WebSocketRouteOptions.protocols}; `""` for none. It is `"bearer"`
   * for a peer that offers that word before a token of its own.
   */
  readonly protocol: string;
  /**
   * Bytes queued for this connection and not yet written. Above {@link Tina4Config.wsMaxBacklog} the connection is closed
   * with code 1013; await {@link drained} before that.
   */
  readonly bufferedAmount: number;

  /**
   * Queues a message for this connection. Never waits.
   *
   * @throws {TypeError} if `message` is neither a string, a Buffer nor an ArrayBuffer view
   */
  send(message: WebSocketMessage): void;

  /**
   * Queues `JSON.stringify(value)` for this connection.
   *
   * @throws {TypeError} if the value has no JSON text (`undefined`, a function, a cycle, a BigInt)
   */
  sendJson(value: unknown): void;

  /**
   * Queues a message for every connection on the same concrete path, this one included unless
   * `{ excludeSelf: true }` is given; with a backplane ({@link Tina4Config.wsBackplane}) also for those of other processes. It
   * also works in the close handler, when this connection is no longer one of them.
   *
   * @throws {TypeError} if `message` is neither a string, a Buffer nor an ArrayBuffer view
   */
  broadcast(message: WebSocketMessage, options?: BroadcastOptions): void;

  /**
   * Starts the closing handshake; what was sent before still goes out first. Closing twice is a no-op.
   *
   * @param code Close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999. Default 1000.
   * @param reason At most 123 bytes of UTF-8. Default `""`.
   * @throws {RangeError} if the code may not be sent or the reason is too long
   * @throws {TypeError} if the code is no number or the reason no string
   */
  close(code?: number, reason?: string): void;

  /** Resolves once everything queued for this connection up to now is written, or the connection is gone. Never rejects. */
  drained(): Promise<void>;

  /**
   * Connections on the same concrete path on this server, in this process: this one counts in `open` and no longer in `close`.
   * {@link RouterMethods.connectionCount} and {@link Tina4Server.connectionCount} with `{ cluster: true }` count in every
   * process that the backplane reaches.
   */
  connectionCount(): number;
}

/**
 * Handles the events of the connections of one route. What it returns is ignored, except that the next event of the same
 * connection waits for a promise. A handler that throws or rejects is logged with its route, event and connection; the
 * connection stays open.
 *
 * @typeParam Path The route's pattern; it types `connection.params`.
 * @typeParam Binary `true` for a route registered with `{ binary: true }`; it types `data`.
 */
export type WebSocketRouteHandler<Path extends string = string, Binary extends boolean = false> = (
  connection: WebSocketConnection<Path>,
  event: WebSocketEvent,
  data: WebSocketData<Binary>,
) => unknown;

// ---------------------------------------------------------------------------------------------------------------------
// HTTP routes

/**
 * One HTTP request.
 *
 * @typeParam Path The route's pattern; it types `params`.
 * @typeParam Params What follows from `Path`. Compared by it, a request of one route fits where any is wanted.
 */
export interface Tina4Request<Path extends string = string, Params = RouteParams<Path>> {
  /** The method in upper case, as the client sent it (`"HEAD"` also where a GET route answers). */
  readonly method: string;
  /** Path and query as the client sent them, for example `"/users/7?full=1"`. */
  readonly url: string;
  /** The concrete path without the query, in canonical form. */
  readonly path: string;
  /** Path parameters, URL-decoded. */
  readonly params: Params;
  /** The query; the last value of a repeated name. */
  readonly query: StringMap;
  /** The header fields, names in lower case; repeated ones joined with `", "`. */
  readonly headers: StringMap;
  /** The cookies the client sent. */
  readonly cookies: StringMap;
  /**
   * The body by its content type: the value of a JSON body, an object of strings for a form, `{}` for none, a string for
   * other text and XML, else a Buffer. Malformed JSON is answered with 400 before the handler runs.
   */
  readonly body: any;
  /** The client's address. `X-Forwarded-For` counts only from {@link Tina4Config.trustedProxies}. */
  readonly ip: string;

  /** The header field of that name in any case, `undefined` when it was not sent. */
  header(name: string): string | undefined;
  /** The token of `Authorization: Bearer <token>`, `null` when there is none. */
  bearerToken(): string | null;
}

/** Attributes of a cookie. */
export interface CookieOptions {
  /** Lifetime in seconds. Default: none, the cookie ends with the browser's session unless `expires` is given. */
  maxAge?: number;
  /** When the cookie ends. `maxAge` wins over it. */
  expires?: Date;
  /** The path it is sent for, with what lies below. Default `"/"`. */
  path?: string;
  /** The domain it is sent to. Default: this host alone. */
  domain?: string;
  /** Send it over TLS only. Default `false`. */
  secure?: boolean;
  /** Hide it from the page's scripts. Default `false`. */
  httpOnly?: boolean;
  /** Whether requests from other sites carry it; `true` is `"strict"`. Default: the browser's own rule. */
  sameSite?: boolean | "Strict" | "Lax" | "None" | "strict" | "lax" | "none";
  /** Keep it apart for each site that embeds this one; needs `secure`. Default `false`. */
  partitioned?: boolean;
  /** Which cookies the browser drops last when it has too many. Default: the browser's own rule. */
  priority?: "low" | "medium" | "high";
}

/** How a file is sent. */
export interface FileOptions {
  /** Offer it for saving: `true` under its own name, or a string under that name. Default `false`: show it. */
  download?: boolean | string;
  /** Its content type. Default: from the extension. */
  contentType?: string;
}

/** The values a template can use, by name. */
export type TemplateData = Record<string, any>;

/**
 * The answer to one request. Every method returns the same object, so calls chain: `res.status(201).json(order)`.
 *
 * The first call that gives a body, a redirect or a file is the answer; later ones are ignored and logged once. A handler that
 * returns a promise and has not answered when it settles is answered for, with an empty body and the status set or 204; after
 * another one the answer may still come, from a callback. Without one in time the client gets 503.
 *
 * The content type is the one given with the answer, else the `Content-Type` header set before, else the one that fits.
 */
export interface Tina4Response {
  /**
   * Answers with whatever fits the value: an object, array, number or boolean as JSON, a string that starts with `<` and ends
   * with `>` as HTML, another string as plain text, bytes as `application/octet-stream`, null and undefined as an empty body.
   *
   * @param status Default: the one set by {@link status}, else 200.
   * @param contentType Default: by the value, as above.
   * @throws {TypeError | RangeError} for a bad status or content type, or a value without JSON text
   */
  (data?: unknown, status?: number, contentType?: string): Tina4Response;

  /** Sets the status code of the answer, 200 to 599. Default 200. @throws {TypeError | RangeError} for any other */
  status(code: number): Tina4Response;

  /**
   * Sets a header field, replacing an earlier value; `Set-Cookie` is added. An array sends the field several times.
   *
   * @param value ASCII without control characters.
   * @throws {TypeError} if the name or a value cannot stand in a header, or the field is the server's own (`Content-Length` …)
   */
  header(name: string, value: string | number | readonly string[]): Tina4Response;

  /**
   * Answers with JSON; `undefined` is sent as `null`. `status` defaults to the one set, else 200.
   *
   * @throws {TypeError} if the value has no JSON text (a function, a cycle, a BigInt)
   */
  json(data: unknown, status?: number): Tina4Response;

  /** Answers with markup as it is. `status` defaults to the one set, else 200. */
  html(markup: string, status?: number): Tina4Response;
  /**
   * Answers with the template `src/templates/<file>`. Values are escaped for the place they are printed in.
   *
   * @throws {Error} naming the template's file and line, if it cannot be read or rendered
   */
  html(file: string, data: TemplateData, status?: number): Tina4Response;

  /** Answers with plain text. `status` defaults to the one set, else 200. */
  text(text: string, status?: number): Tina4Response;

  /** The same as calling the response itself. */
  send(data?: unknown, status?: number, contentType?: string): Tina4Response;

  /**
   * Answers with a redirect.
   *
   * @param url Where to: a path of this server or an absolute URL.
   * @param status 300 to 399. Default 302.
   */
  redirect(url: string, status?: number): Tina4Response;

  /**
   * Sets a cookie. Call it before the answer.
   *
   * @param value Percent-encoded on the way; `req.cookies` decodes it.
   * @throws {TypeError} if the name, value or an attribute cannot stand in a cookie
   */
  cookie(name: string, value: string | number | boolean, options?: CookieOptions): Tina4Response;

  /** Makes the browser forget a cookie; `path` and `domain` must be those it was set with. */
  clearCookie(name: string, options?: CookieOptions): Tina4Response;

  /**
   * Answers with a file of the application's folder; 404 when there is none, also for a path that leads outside.
   *
   * @param path Relative to the application's folder.
   * @param options A string offers the file for saving under that name.
   */
  file(path: string, options?: FileOptions | string): Tina4Response;

  /**
   * Answers with the template `src/templates/<file>`. Values are escaped for the place they are printed in.
   *
   * @param data Default `{}`.
   * @param status Default: the one set, else 200.
   * @throws {Error} naming the template's file and line, if it cannot be read or rendered
   */
  render(file: string, data?: TemplateData, status?: number): Tina4Response;
}

/**
 * Answers the requests of one route. What it returns is ignored, except that a promise is waited for. One that throws or
 * rejects before it has answered is logged and answered with 500, one that has not answered after
 * {@link Tina4Config.handlerTimeout} with 503.
 *
 * @typeParam Path The route's pattern; it types `req.params`.
 */
export type RouteHandler<Path extends string = string> = (req: Tina4Request<Path>, res: Tina4Response) => unknown;

// ---------------------------------------------------------------------------------------------------------------------
// Router

/** One registered route. */
export interface RouteInfo {
  /** What it answers to; `"ANY"` is every HTTP method. */
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" | "ANY" | "WEBSOCKET";
  /** Its pattern as registered. */
  path: string;
}

/**
 * What a router can do. Registering while a server is running takes effect for the next request or upgrade. The same pattern
 * registered again (for the same method) replaces the earlier handler.
 *
 * A pattern is a path of literal segments, `{name}`, `{id:int}`, `{x:float}` and `{rest:path}`; see {@link RouteParams}. Where
 * several patterns match, literal text wins over int, then float, then `{name}`, then `{rest:path}`, segment by segment.
 */
export interface RouterMethods {
  /**
   * Registers a WebSocket route.
   *
   * @throws {TypeError} if the path is no valid pattern, the handler no function, or an option unknown or of another type
   * @example
   * Router.websocket("/ws/chat/{room}", (connection, event, data) => {
   *   if (event === "message") connection.broadcast(`${connection.params.room}: ${data}`);
   * });
   */
  websocket<Path extends string, Binary extends boolean = false>(
    path: Path,
    handler: WebSocketRouteHandler<Path, Binary>,
    options?: WebSocketRouteOptions<Binary>,
  ): void;

  /**
   * Sends to every connection on one concrete path, from anywhere: a request handler, a timer. It reaches every running
   * server of this router, each connection once, and with a backplane those of other processes; before the first start it
   * does nothing.
   *
   * @param path A concrete path such as `"/ws/notifications/7"`, not a pattern.
   * @throws {TypeError} if the path does not begin with `/` or has a bad escape, or the message is neither a string, a Buffer
   * nor an ArrayBuffer view
   */
  pushToWebSocket(path: string, message: WebSocketMessage): void;

  /**
   * Connections on one concrete path, on the running servers of this router in this process.
   *
   * @param path A concrete path such as `"/ws/chat/general"`, not a pattern.
   * @throws {TypeError} at once, if the path does not begin with `/` or has a bad escape, or an option is unknown or no boolean
   */
  connectionCount(path: string, options?: CountOptions<false>): number;
  /**
   * Connections on one concrete path in every process that the backplane reaches, each counted once. Without a backplane it is
   * the number of this process.
   *
   * @returns resolves within about a second, as soon as all have answered; one that does not answer is left out. Never rejects
   * @throws {TypeError} at once, as without `cluster`
   * @example
   * Router.get("/online", async (req, res) => {
   *   res.json({ online: await Router.connectionCount("/ws/chat/general", { cluster: true }) });
   * });
   */
  connectionCount(path: string, options: Required<CountOptions<true>>): Promise<number>;

  /**
   * Registers a GET route. It also answers HEAD where no HEAD route does.
   *
   * @throws {TypeError} if the path is no valid pattern or the handler no function
   */
  get<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers a POST route. @throws {TypeError} as {@link get} does */
  post<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers a PUT route. @throws {TypeError} as {@link get} does */
  put<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers a PATCH route. @throws {TypeError} as {@link get} does */
  patch<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers a DELETE route. @throws {TypeError} as {@link get} does */
  delete<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers a HEAD route, for where the answer to GET is not to be computed. @throws {TypeError} as {@link get} does */
  head<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers an OPTIONS route; without one the server answers `Allow`. @throws {TypeError} as {@link get} does */
  options<Path extends string>(path: Path, handler: RouteHandler<Path>): void;
  /** Registers a route for every method that has none of its own on that pattern. @throws {TypeError} as {@link get} does */
  any<Path extends string>(path: Path, handler: RouteHandler<Path>): void;

  /** The registered routes, HTTP and WebSocket, in the order of their registration. A copy: changing it changes no route. */
  getRoutes(): RouteInfo[];
}

/** Tells a router from the class {@link Router}, which has the same methods and cannot be served itself. */
declare const routes: unique symbol;

/** A set of routes of its own, made with `new Router()`; `startServer({ router })` serves it. */
export interface Router extends RouterMethods {
  /** Only in the types: no router has such a property. */
  readonly [routes]: true;
}

/** The type of the class {@link Router}: its own methods act on the default router, `new` makes another. */
export interface RouterConstructor extends RouterMethods {
  /** Makes an empty router with the same methods. */
  new (): Router;
  /** The default router, on which the methods of the class act. */
  readonly default: Router;
  readonly prototype: Router;
}

/**
 * The default router of this JavaScript thread: `Router.get(…)`, `Router.websocket(…)`. {@link startServer} serves it unless
 * it is given another.
 */
export const Router: RouterConstructor;

// ---------------------------------------------------------------------------------------------------------------------
// Server

/** How much is logged: a level lets through what is as grave or graver. */
export type LogLevel = "ALL" | "DEBUG" | "INFO" | "WARNING" | "ERROR";

/** Where log lines go instead of standard output. `console` and a pino logger both fit. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/**
 * Settings of one server. What is left out comes from the environment variable named beside it (or `.env` under
 * `tina4 serve`), then from the default.
 */
export interface Tina4Config {
  /** Port to listen on, 0 to 65535; 0 takes a free one. `TINA4_PORT`, then `PORT`; default 7148. */
  port?: number;
  /** Address or host name to listen on. `TINA4_HOST`, then `HOST`; default `"0.0.0.0"`. */
  host?: string;
  /** The routes to serve. Default: `Router.default`, the router that `Router.get(…)` fills. */
  router?: Router;

  /** The application's folder, to which the folders below are relative. Default: the working directory. */
  directory?: string;
  /** Folder of the templates. Default `"src/templates"`. */
  templatesDir?: string;
  /** Folder of the static files. Default: `"src/public"`, then `"public"`. */
  staticDir?: string;
  /** A folder of static files that is looked into before the others. `TINA4_PUBLIC_DIR`; default none. */
  publicDir?: string;
  /**
   * Folder of the route files to import, with its subfolders; `false` imports none. They register on the default router, so
   * that a server of another router imports none unless this names them. Default `"src/routes"`.
   */
  routesDir?: string | false;

  /** Threads that own sockets, 1 to 64. `TINA4_IO_THREADS`; default: one less than there are cores, 1 to 8. */
  ioThreads?: number;
  /**
   * Bytes that all queues and bodies of the server may hold together, 64 KiB to 1 TiB. Above it reading pauses, the largest
   * queues close with 1013 and arriving bodies get 503. `TINA4_MAX_BUFFERED`; default 268435456 (256 MiB).
   */
  maxBuffered?: number;
  /** Seconds that {@link Tina4Server.close} may take; 0 cuts every connection. `TINA4_SHUTDOWN_TIMEOUT`; default 30. */
  shutdownTimeout?: number;
  /**
   * Addresses or networks of the proxies whose `X-Forwarded-For` counts, as a list or comma-separated: who is on it chooses
   * its own `ip`. `TINA4_TRUSTED_PROXIES`; default none.
   */
  trustedProxies?: readonly string[] | string;
  /** Secret of {@link getToken} and {@link validToken}. `TINA4_SECRET`; default none. */
  secret?: string;

  /**
   * Bytes of the largest message accepted, 1 to 536870888 (no string is longer); a larger one closes with 1009. `TINA4_WS_MAX_MESSAGE_SIZE`; default
   * 1048576 (1 MiB).
   */
  wsMaxMessageSize?: number;
  /** Frames that one message may come in; more closes with 1008. `TINA4_WS_MAX_FRAGMENTS`; default 4096. */
  wsMaxFragments?: number;
  /**
   * Pings, pongs and close frames that a peer may send in a second, 0 for no limit; more closes with 1008.
   * `TINA4_WS_MAX_CONTROL_FRAMES`; default 1000.
   */
  wsMaxControlFrames?: number;
  /**
   * Messages of one connection that may wait for its handler; then its socket is not read until some are handled.
   * `TINA4_WS_MAX_PENDING_MESSAGES`; default 64.
   */
  wsMaxPendingMessages?: number;
  /** Bytes of them, 1 to 1 GiB; then its socket is not read. `TINA4_WS_MAX_PENDING_SIZE`; default 262144 (256 KiB). */
  wsMaxPendingSize?: number;
  /**
   * Compress messages for peers that can inflate them; a route may say otherwise. `TINA4_WS_COMPRESSION`; default false.
   */
  wsCompression?: boolean;
  /** Bytes of a message below which it is sent as it is, 1 to 1 GiB. `TINA4_WS_COMPRESSION_THRESHOLD`; default 1024 (1 KiB). */
  wsCompressionThreshold?: number;
  /**
   * Bytes that may wait unsent for one connection, 1 to 1 GiB; more closes it with 1013. One message of any size fits an empty
   * queue. `TINA4_WS_MAX_BACKLOG`; default 1048576 (1 MiB).
   */
  wsMaxBacklog?: number;
  /** Connections at a time; an upgrade above gets 503. `TINA4_WS_MAX_CONNECTIONS`; default 0, no limit. */
  wsMaxConnections?: number;
  /**
   * The same for one address, or one IPv6 network of /64; an upgrade above gets 503. Behind a proxy set {@link trustedProxies}
   * too, or everybody has the proxy's. `TINA4_WS_MAX_CONNECTIONS_PER_IP`; default 0, no limit.
   */
  wsMaxConnectionsPerIp?: number;
  /** Seconds between two pings to a peer, 0 for none. `TINA4_WS_PING_INTERVAL`; default 30. */
  wsPingInterval?: number;
  /** Seconds a peer has to answer a ping before it counts as dead. `TINA4_WS_PING_TIMEOUT`; default 10. */
  wsPingTimeout?: number;
  /** Seconds without a message from the peer after which it is closed with 1001. `TINA4_WS_IDLE_TIMEOUT`; default 0, off. */
  wsIdleTimeout?: number;
  /** Seconds that `close` waits for a handler still pending when the socket ends. `TINA4_WS_CLOSE_GRACE`; default 5. */
  wsCloseGrace?: number;
  /** Seconds a peer has to answer a close frame before its socket is cut. `TINA4_WS_CLOSING_TIMEOUT`; default 5. */
  wsClosingTimeout?: number;
  /**
   * Origins that may connect, as a list or comma-separated, compared exactly; others, and none at all, get 403.
   * `TINA4_WS_ALLOWED_ORIGINS`; default empty, every origin.
   */
  wsAllowedOrigins?: readonly string[] | string;

  /**
   * What carries broadcasts, pushes and counts to the servers of other processes: a Redis (or Valkey) or a NATS server. It need
   * not be reachable at the start: until it is, messages reach the connections of this process. `TINA4_WS_BACKPLANE`; default
   * none, `""`.
   */
  wsBackplane?: "redis" | "nats" | "";
  /**
   * Where it is, with user and password if it wants them: `redis://`, `rediss://` (TLS), `unix://`; `nats://`, `tls://`.
   * `TINA4_WS_BACKPLANE_URL`; default `"redis://localhost:6379"` or `"nats://localhost:4222"`.
   */
  wsBackplaneUrl?: string;
  /**
   * Seconds between two signs of life on the backplane. A server not heard for three of them no longer counts; one that does
   * not hear itself connects anew. `TINA4_WS_BACKPLANE_HEARTBEAT`; default 2.
   */
  wsBackplaneHeartbeat?: number;
  /** Seconds between two attempts to connect at most; the first come sooner. `TINA4_WS_BACKPLANE_RETRY_DELAY`; default 5. */
  wsBackplaneRetryDelay?: number;
  /**
   * Bytes of what was published that are kept, 64 KiB to 1 GiB, for the time the backplane is away and for servers that missed
   * some. `TINA4_WS_BACKPLANE_REPLAY_SIZE`; default 16777216 (16 MiB).
   */
  wsBackplaneReplaySize?: number;
  /** Seconds that it is kept. `TINA4_WS_BACKPLANE_REPLAY_AGE`; default 60. */
  wsBackplaneReplayAge?: number;
  /**
   * Bytes of the largest message on the backplane, 1 KiB to 64 MiB, as it travels there: text grows by its quotes, bytes by a
   * third. A larger one reaches this process only, and is logged. `TINA4_WS_BACKPLANE_MAX_ENVELOPE`; default 8388608 (8 MiB).
   */
  wsBackplaneMaxEnvelope?: number;

  /** Seconds in which an HTTP handler must begin to answer, else 503. `TINA4_HANDLER_TIMEOUT`; default 60. */
  handlerTimeout?: number;
  /** Bytes of the largest request body, 1 to 1 GiB; a larger one gets 413. `TINA4_MAX_UPLOAD_SIZE`; default 10485760. */
  maxUploadSize?: number;
  /** Seconds a client has to send the head of a request. `TINA4_HEADER_TIMEOUT`; default 10. */
  headerTimeout?: number;
  /** Seconds a client has to send the whole body of a request, else 408. `TINA4_BODY_TIMEOUT`; default 300. */
  bodyTimeout?: number;
  /** Seconds a client may take nothing of an HTTP answer until it is cut. `TINA4_SEND_TIMEOUT`; default 60. */
  sendTimeout?: number;
  /**
   * Seconds an idle HTTP connection is kept for its next request. `TINA4_KEEP_ALIVE_TIMEOUT`; default 65. Longer than that of
   * a proxy in front, which else meets a socket that is just being closed.
   */
  keepAliveTimeout?: number;
  /** Bytes of the largest request head, 8 KiB to 1 MiB. `TINA4_MAX_HEADER_SIZE`; default 16384 (16 KiB). */
  maxHeaderSize?: number;
  /** Header fields in one request, 1 to 1,000. `TINA4_MAX_HEADERS`; default 100. */
  maxHeaders?: number;

  /** Show errors with their stack in the answer. `TINA4_DEBUG`; default `false`. */
  debug?: boolean;
  /** How much is logged. `TINA4_LOG_LEVEL`; default `"INFO"`. */
  logLevel?: LogLevel | Lowercase<LogLevel>;
  /** Log lines for people or as one JSON object a line. `TINA4_LOG_FORMAT`; default `"text"`. */
  logFormat?: "text" | "json";
  /** Where log lines go. Default: standard output. */
  logger?: Logger;
}

/** How a server tells its WebSocket peers that it closes. */
export interface CloseOptions {
  /** Close code. Default 1001 (going away); 1012 asks peers to come back soon. */
  code?: number;
  /** Close reason, at most 123 bytes of UTF-8. */
  reason?: string;
}

/**
 * Whether messages travel between processes: `"connecting"` also while a lost backplane is tried again, `"off"` without one and
 * after the close.
 */
export type BackplaneState = "connected" | "connecting" | "off";

/** What has happened on a backplane since the start. Numbers are messages unless a line says otherwise. */
export interface BackplaneCounters {
  /** Of this server, taken by the backplane. */
  readonly published: number;
  /** Of other servers, accepted. */
  readonly received: number;
  /** Of other servers, dropped because they had come before. */
  readonly duplicates: number;
  /** Ignored because they were no messages of a server: malformed, of an unknown kind, or in the name of another one. */
  readonly ignored: number;
  /** Of other servers, received late because this one asked for them again. */
  readonly recovered: number;
  /** Of other servers, never delivered: they could not be had any more, or are larger than is taken here. */
  readonly lost: number;
  /** Of this server, never published: too large, or too many while the backplane was away or slow. */
  readonly dropped: number;
  /** Of this server, sent again because another one asked. */
  readonly resent: number;
  /** Of this server, asked for by another one when they were no longer kept, or too large. */
  readonly forgotten: number;
  /** How many times the connection to the backplane came up. */
  readonly connects: number;
}

/** One server's part in what carries messages between processes. It is there without a backplane too, and then `"off"`. */
export interface Backplane {
  /** Whether messages travel now. */
  readonly state: BackplaneState;
  /** What carries them; `"workers"` is built into `tina4 serve --workers`, `null` is none. */
  readonly kind: "redis" | "nats" | "workers" | null;
  /** Other servers heard lately, this one not counted. Those written in other languages of the family do not say that they exist. */
  readonly nodes: number;
  /** What has happened since the start. A copy: it stays as it is. */
  readonly counters: BackplaneCounters;
  /** Calls `listener` whenever the state has changed. One that throws or rejects is logged. */
  on(event: "state", listener: (state: BackplaneState) => unknown): this;
  /** As {@link on}, for the next change only. */
  once(event: "state", listener: (state: BackplaneState) => unknown): this;
  /** Takes a listener back. */
  off(event: "state", listener: (state: BackplaneState) => unknown): this;
}

/** A running server. */
export interface Tina4Server {
  /** The port it listens on, the real one where 0 was asked for. */
  readonly port: number;
  /** The address it listens on. */
  readonly host: string;
  /** Where a program on this machine reaches it, for example `"http://localhost:7148"`. */
  readonly url: string;
  /** The routes it serves. */
  readonly router: Router;
  /** What carries messages between this server and those of other processes, and whether it does. */
  readonly backplane: Backplane;
  /**
   * Connections on one concrete path, on this server; 0 after the close.
   *
   * @param path A concrete path such as `"/ws/chat/general"`, not a pattern.
   * @throws {TypeError} at once, if the path does not begin with `/` or has a bad escape, or an option is unknown or no boolean
   */
  connectionCount(path: string, options?: CountOptions<false>): number;
  /**
   * Connections on one concrete path, on every server that the backplane reaches. Without a backplane it is the number of this
   * server.
   *
   * @returns resolves within about a second, as soon as all have answered; one that does not answer is left out. Never rejects
   * @throws {TypeError} at once, as without `cluster`
   */
  connectionCount(path: string, options: Required<CountOptions<true>>): Promise<number>;
  /**
   * Stops accepting, answers the requests under way, closes every socket, runs the close handlers and publishes what they sent.
   * Resolves when all is done or after {@link Tina4Config.shutdownTimeout}. Called again, it gives the same promise.
   */
  close(options?: CloseOptions): Promise<void>;
}

/**
 * Starts a server for HTTP and WebSocket routes on one port: reads `.env` of the app's folder, imports its route files and
 * listens. Routes may be registered before and after. Several servers can run in one process, each with its own settings.
 *
 * @returns resolves once it accepts connections; rejects with an `Error` of one sentence that names what was wrong: a setting,
 * its value and what is accepted, or the port in use (`code` is then `"EADDRINUSE"`)
 */
export function startServer(config?: Tina4Config): Promise<Tina4Server>;

// ---------------------------------------------------------------------------------------------------------------------
// Tokens

/** The claims of a token: those it was made with, and when it was made and ends. */
export interface TokenPayload {
  /** When it was made, in seconds since 1970. */
  iat?: number;
  /** When it ends, in seconds since 1970. */
  exp?: number;
  [claim: string]: any;
}

/**
 * Makes a signed JSON Web Token (HS256).
 *
 * @param payload The claims. They are signed, not hidden: the client can read them.
 * @param secret Default: `TINA4_SECRET`.
 * @param expiresInMinutes Lifetime in **minutes**. Default 60.
 * @throws {Error} if there is no secret
 */
export function getToken(payload: object, secret?: string, expiresInMinutes?: number): string;

/**
 * The claims of a token that is signed with the secret (HS256) and not over, else `null`. Without a secret every token
 * is `null`, which is logged once.
 *
 * @param secret Default: `TINA4_SECRET`.
 */
export function validToken(token: string, secret?: string): TokenPayload | null;

// Without this line a declaration file exports everything it declares, the helper types above too.
export {};
