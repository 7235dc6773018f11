// With @types/node: binary messages are a Buffer, and Node's own names need no setting of ours.
import { Router } from "tina4-nodejs";
import { same } from "./same.js";

Router.websocket("/ws/photos", (connection, _event, data) => {
  same<typeof data, string | Buffer>();
  if (typeof data !== "string") connection.send(data.subarray(0, process.pid % 4).toString("hex"));
  connection.send(Buffer.from("raw"));
}, { binary: true });
