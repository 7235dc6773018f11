import { Router } from "tina4-nodejs";

Router.websocket("/ws/echo", (connection, event, data) => {
  if (event === "message") connection.send(data);
});

/** Answers bytes with the same bytes backwards, text with how many characters it had. */
Router.websocket(
  "/ws/bytes",
  (connection, event, data) => {
    if (event !== "message") return;
    if (typeof data === "string") connection.send(`${data.length} characters`);
    else connection.send(Uint8Array.from(data).reverse());
  },
  { binary: true },
);
