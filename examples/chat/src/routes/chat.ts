import { Router } from "tina4-nodejs";
import { MAX_MESSAGE, MAX_ROOM, Pace, length, readInput } from "../chat/input";
import { busiest, enter, leave, nameOf, peopleIn } from "../chat/rooms";

/** People named in a room's list; the count beside it is of all. */
const LISTED_PEOPLE = 100;
const LISTED_ROOMS = 20;

/** Messages a visitor may send at once, and how often one more (in milliseconds). Typing counts too. */
const BURST = 20;
const INTERVAL = 250;

/** How long changes of the rooms are gathered before the lobby hears of them, in milliseconds. */
const LOBBY_DELAY = 150;

const paces = new Map<string, Pace>();

Router.get("/", (req, res) => page(res).html("lobby.html", { rooms: busiest(LISTED_ROOMS) }));

Router.get("/room/{room}", (req, res) => {
  const room = req.params.room;
  if (length(room) > MAX_ROOM) return res.status(404).text(`A room's name has at most ${MAX_ROOM} characters.`);
  return page(res).html("room.html", { room });
});

/** Pages load nothing from elsewhere and run no inline script, so that no message can become one. */
function page<R extends { header(name: string, value: string): R }>(res: R): R {
  return res.header("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'");
}

Router.websocket("/ws/lobby", (connection, event) => {
  if (event === "open") connection.send(lobbyMessage());
});

Router.websocket("/ws/room/{room}", (connection, event, data) => {
  const { id, path } = connection;
  const room = connection.params.room;
  const everyone = (message: object, options?: { excludeSelf: boolean }) =>
    connection.broadcast(JSON.stringify(message), options);

  if (event === "open") {
    if (length(room) > MAX_ROOM) return connection.close(1008, "The name of this room is too long.");
    paces.set(id, new Pace(BURST, INTERVAL));
    return;
  }

  if (event === "close") {
    paces.delete(id);
    const name = leave(path, id);
    if (name === undefined) return;
    everyone({ type: "left", id, name, online: connection.connectionCount() });
    updateLobby();
    return;
  }

  if (data.length > MAX_MESSAGE) return connection.close(1009, `A message has at most ${MAX_MESSAGE} characters.`);
  const problem = (text: string, ref?: number) => connection.sendJson({ type: "problem", text, ref });
  const input = readInput(data);
  if (typeof input === "string") return problem(input);
  const ref = input.type === "say" ? input.ref : undefined;
  if (!paces.get(id)?.take()) return problem("You are too fast. Wait a moment.", ref);

  if (input.type === "hello") {
    const earlier = enter(path, room, id, input.name);
    const online = connection.connectionCount();
    connection.sendJson({ type: "welcome", id, name: input.name, online, people: peopleIn(path, LISTED_PEOPLE) });
    if (earlier === undefined) everyone({ type: "joined", id, name: input.name, online }, { excludeSelf: true });
    else everyone({ type: "renamed", id, name: input.name, earlier }, { excludeSelf: true });
    updateLobby();
    return;
  }

  const name = nameOf(path, id);
  if (name === undefined) return problem("Say hello with a name first.", ref);

  if (input.type === "typing") return everyone({ type: "typing", id, name }, { excludeSelf: true });

  const said = { type: "said", id, name, text: input.text, at: new Date().toISOString() };
  everyone(said, { excludeSelf: true });
  // The sender's copy says which of their messages it is, so that the page can mark it as delivered.
  connection.sendJson({ ...said, ref });
});

let lobbyTimer: NodeJS.Timeout | undefined;

function updateLobby(): void {
  lobbyTimer ??= setTimeout(() => {
    lobbyTimer = undefined;
    Router.pushToWebSocket("/ws/lobby", lobbyMessage());
  }, LOBBY_DELAY);
}

function lobbyMessage(): string {
  return JSON.stringify({ type: "rooms", rooms: busiest(LISTED_ROOMS) });
}
