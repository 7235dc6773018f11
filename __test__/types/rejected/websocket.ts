// Every line that ends in an error's number must be refused with that error, and no other line with any.
import { Router, validToken, type WebSocketRouteHandler } from "tina4-nodejs";

Router.websocket("/ws/a"); // TS2554
Router.websocket("/ws/a", "handler"); // TS2345
Router.websocket(7, () => {}); // TS2345
Router.websocket("/ws/a", (connection: string) => connection); // TS2345
Router.websocket("/ws/a", (_connection: any, _event: any, _data: any, _more: any) => {}); // TS2345
Router.websocket("/ws/a", () => {}, { binry: true }); // TS2561
Router.websocket("/ws/a", () => {}, { concurrent: true, secured: true }); // TS2353
Router.websocket("/ws/a", () => {}, { concurrent: "yes" }); // TS2322
Router.websocket("/ws/a", () => {}, { binary: 1 }); // TS2322

Router.websocket("/ws/b/{id:int}/{name}", (connection, event, data) => {
  if (event === "opened") return; // TS2367
  switch (event) {
    case "error": // TS2678
      break;
  }
  data.byteLength; // TS2339
  connection.params.id.trim(); // TS2339
  connection.params.name.length.trim(); // TS2339
  connection.params.nmae.trim(); // TS18048
  validToken(connection.params.token); // TS2345
  connection.id = "mine"; // TS2540
  connection.colour = "red"; // TS2339
  connection.send(); // TS2554
  connection.send(7); // TS2345
  connection.send({ type: "ping" }); // TS2353
  connection.send(new ArrayBuffer(2)); // TS2345
  connection.broadcast(null); // TS2345
  connection.broadcast("x", { excludeself: true }); // TS2561
  connection.broadcast("x", true); // TS2559
  connection.close("1000"); // TS2345
  connection.connectionCount.toFixed(); // TS2339
  connection.headers.origin.length; // TS18048
});

Router.websocket("/ws/c", (_connection, _event, data) => data.trim(), { binary: true }); // TS2339
Router.websocket("/ws/c", (_connection, _event, data: string) => data.trim(), { binary: true }); // TS2345
Router.websocket("/ws/c", () => {}, { protocols: "chat" }); // TS2322
Router.websocket("/ws/c", () => {}, { compress: "yes" }); // TS2322

const other: WebSocketRouteHandler<"/ws/d/{colour}"> = () => {};
Router.websocket("/ws/d/{size}", other); // TS2345

Router.pushToWebSocket("/ws/e"); // TS2554
Router.pushToWebSocket("/ws/e", { type: "ping" }); // TS2353
Router.pushToWebsocket("/ws/e", "ping"); // TS2551
