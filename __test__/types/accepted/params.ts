// Parameters are typed from the path's literal type, in both kinds of routes.
import { Router, type RouteParams, type WebSocketConnection } from "tina4-nodejs";
import { same } from "./same.js";

Router.websocket("/ws/tables/{table}/seats/{seat:int}", (connection) => {
  same<typeof connection.params.table, string>();
  same<typeof connection.params.seat, number>();
  same<typeof connection.params.ticket, string | undefined>();
});

Router.get("/map/{zoom:float}/{layer}/{file:path}", (req) => {
  same<typeof req.params.zoom, number>();
  same<typeof req.params.layer, string>();
  same<typeof req.params.file, string>();
  same<typeof req.params.unit, string | undefined>();
  const { layer, unit } = req.params;
  same<typeof layer, string>();
  same<typeof unit, string | undefined>();
});

// Only braces make a parameter.
Router.websocket("/ws/:room/half", (connection) => {
  same<typeof connection.params.room, string | undefined>();
  same<typeof connection.params.half, string | undefined>();
});

// A path without parameters still has those of the query.
Router.websocket("/ws/door", (connection) => same<typeof connection.params.token, string | undefined>());

// A path known only as a string may have any parameter of any kind.
declare const somewhere: string;
Router.get(somewhere, (req) => same<typeof req.params.id, string | number | undefined>());

// A literal with an unknown part keeps what is known.
Router.get(`/${somewhere}/{id:int}`, (req) => same<typeof req.params.id, number>());

// One of several literal paths.
declare const either: "/cats/{name}" | "/dogs/{name}/{year:int}";
Router.get(either, (req) => {
  same<typeof req.params.name, string>();
  same<typeof req.params.year, number | string | undefined>();
});

// A path of many segments is no trouble for the compiler.
const long = "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/{end}";
same<RouteParams<typeof long>["end"], string>();

// What is written for connections or requests of any route takes those of a certain one.
function tokenOf(connection: WebSocketConnection): string {
  return String(connection.params.token ?? "");
}
Router.websocket("/ws/vault/{shelf:int}", (connection) => void tokenOf(connection));

// The parameters of a test double are an ordinary object.
const params: RouteParams<"/ws/tables/{table}"> = { table: "seven" };
void params;
