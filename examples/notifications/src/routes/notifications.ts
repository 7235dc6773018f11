import { Router } from "tina4-nodejs";

/** A page listens here for what is meant for one user. */
Router.websocket("/ws/inbox/{user}", (connection, event) => {
  if (event === "open") connection.sendJson({ type: "ready", user: connection.params.user, tabs: connection.connectionCount() });
});

/** Another part of the system posts here: `{ "title": "…" }`. Every open tab of that user gets it, nobody else does. */
Router.post("/users/{user}/notifications", (req, res) => {
  const title = req.body?.title;
  if (typeof title !== "string" || title === "") return res.status(422).json({ error: 'The body needs a "title", a text that is not empty.' });
  const notification = { type: "notification", title, at: new Date().toISOString() };
  Router.pushToWebSocket(`/ws/inbox/${encodeURIComponent(req.params.user)}`, JSON.stringify(notification));
  return res.status(202).json(notification);
});
