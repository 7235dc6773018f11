import { Router, getToken, validToken } from "tina4-nodejs";

/** Stands for the check of a real password. */
const PASSWORDS: Record<string, string> = { ada: "lovelace", grace: "hopper" };

Router.post("/login", (req, res) => {
  const { user, password } = req.body ?? {};
  if (typeof user !== "string" || !Object.hasOwn(PASSWORDS, user) || PASSWORDS[user] !== password) {
    return res.status(401).json({ error: "Unknown user or wrong password." });
  }
  return res.json({ token: getToken({ user }) });
});

/**
 * `/ws/account?token=…`. A browser cannot set headers on a WebSocket, so the token comes in the query; one that is missing,
 * forged or over is told so with a close code of its own, which a page can tell from a lost connection.
 */
Router.websocket("/ws/account", (connection, event, data) => {
  const claims = validToken(connection.params.token ?? "");
  if (event === "open") {
    if (!claims) return connection.close(4401, "This needs a valid token.");
    connection.sendJson({ type: "welcome", user: claims.user });
  }
  // The token is checked for every message: one that ends while the connection is open ends what it allowed.
  if (event === "message") {
    if (!claims) return connection.close(4401, "The token is over.");
    connection.sendJson({ type: "noted", user: claims.user, text: data });
  }
});
