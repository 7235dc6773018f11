import {
  Router,
  type WebSocketConnection,
  type WebSocketEvent,
  type WebSocketRouteHandler,
} from "tina4-nodejs";
import { same } from "./same.js";

declare module "tina4-nodejs" {
  interface WebSocketConnectionProperties {
    nickname?: string;
  }
}

// Every member of a connection, and what the handler is given.
Router.websocket("/ws/pit/{car}", (connection, event, data) => {
  same<typeof event, WebSocketEvent>();
  same<WebSocketEvent, "open" | "message" | "close">();
  same<typeof data, string>();

  same<typeof connection.id, string>();
  same<typeof connection.path, string>();
  same<typeof connection.ip, string>();
  same<typeof connection.protocol, string>();
  same<typeof connection.query.lap, string | undefined>();
  same<typeof connection.headers.origin, string | undefined>();
  same<typeof connection.headers["user-agent"], string | undefined>();
  same<typeof connection.cookies.driver, string | undefined>();
  same<typeof connection.bufferedAmount, number>();
  same<ReturnType<typeof connection.connectionCount>, number>();
  same<ReturnType<typeof connection.drained>, Promise<void>>();
  same<ReturnType<typeof connection.send>, void>();
  same<ReturnType<typeof connection.broadcast>, void>();

  connection.send("box, box");
  connection.send(new Uint8Array([1, 2]));
  connection.send(new DataView(new ArrayBuffer(4)));
  connection.send(new Float32Array(3));
  connection.sendJson({ tyres: ["soft"] });
  connection.sendJson(null);
  connection.broadcast(data);
  connection.broadcast(data, { excludeSelf: true });
  connection.broadcast(new Uint8Array(1), {});
  connection.nickname = "flash";
  connection.close();
  connection.close(4001);
  connection.close(4001, "retired");
});

// Binary routes get both kinds, others text alone.
Router.websocket("/ws/radio", (_connection, _event, data) => {
  if (typeof data === "string") same<typeof data, string>();
  else same<typeof data.byteLength, number>();
}, { binary: true });
Router.websocket("/ws/radio", (_connection, _event, data) => same<typeof data, string>(), { binary: false });
Router.websocket("/ws/radio", (_connection, _event, data) => same<typeof data, string>(), { concurrent: true });
Router.websocket("/ws/radio", (_connection, _event, data) => same<typeof data, string>(), {});
Router.websocket("/ws/radio", () => {}, { compress: true, protocols: ["radio.v1"] });
Router.websocket("/ws/radio", () => {}, { protocols: ["radio.v1"] as const });
declare const perhaps: boolean;
Router.websocket("/ws/radio", (_connection, _event, data) => {
  if (typeof data !== "string") same<typeof data.byteLength, number>();
}, { binary: perhaps, concurrent: perhaps });

// Handlers may be sync or async, leave parameters out, and return what they like.
Router.websocket("/ws/lap", () => {});
Router.websocket("/ws/lap", async (connection) => {
  await connection.drained();
  connection.send("done");
});
Router.websocket("/ws/lap", (connection, event) => event === "open" && connection.send("go"));

// Handlers written apart from the route.
const anywhere: WebSocketRouteHandler = (connection, event, data) => {
  if (event === "message") connection.send(data.toUpperCase());
};
const track: WebSocketRouteHandler<"/ws/track/{corner:int}", true> = (connection, _event, data) => {
  same<typeof connection.params.corner, number>();
  if (typeof data !== "string") connection.send(data);
};
Router.websocket("/ws/lap/{n:int}", anywhere);
Router.websocket("/ws/track/{corner:int}", track, { binary: true });
function greet(connection: WebSocketConnection<"/ws/lap/{n:int}">, event: WebSocketEvent): void {
  if (event === "open") connection.sendJson({ lap: connection.params.n });
}
Router.websocket("/ws/lap/{n:int}", greet);

// Connections of different routes in one collection.
const everyone = new Map<string, WebSocketConnection>();
Router.websocket("/ws/pit/{car}/{bay:int}", (connection, event) => {
  if (event === "open") everyone.set(connection.id, connection);
  if (event === "close") everyone.delete(connection.id);
});

Router.pushToWebSocket("/ws/lap/3", "finish");
Router.pushToWebSocket("/ws/lap/3", new Uint8Array(2));
