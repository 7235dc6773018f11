import {
  getToken, Router, startServer, validToken, type Backplane, type BackplaneState, type Tina4Config, type Tina4Server, type TokenPayload,
} from "tina4-nodejs";
import { same } from "./same.js";

const everySetting: Required<Tina4Config> = {
  port: 0,
  host: "127.0.0.1",
  router: new Router(),
  directory: ".",
  templatesDir: "src/templates",
  staticDir: "public",
  publicDir: "assets",
  routesDir: "src/routes",
  ioThreads: 1,
  maxBuffered: 2 ** 28,
  shutdownTimeout: 1.5,
  trustedProxies: ["10.0.0.1"],
  secret: "s3cret",
  wsMaxMessageSize: 65536,
  wsMaxFragments: 64,
  wsMaxControlFrames: 0,
  wsMaxPendingMessages: 8,
  wsMaxPendingSize: 65536,
  wsMaxConnectionsPerIp: 100,
  wsCompression: true,
  wsCompressionThreshold: 2048,
  wsMaxBacklog: 65536,
  wsMaxConnections: 1000,
  wsPingInterval: 0.5,
  wsPingTimeout: 0.25,
  wsIdleTimeout: 0,
  wsCloseGrace: 1,
  wsClosingTimeout: 1,
  wsAllowedOrigins: ["https://example.org"],
  wsBackplane: "redis",
  wsBackplaneUrl: "redis://localhost:6379",
  wsBackplaneHeartbeat: 0.5,
  wsBackplaneRetryDelay: 1,
  wsBackplaneReplaySize: 2 ** 24,
  wsBackplaneReplayAge: 30,
  wsBackplaneMaxEnvelope: 2 ** 20,
  handlerTimeout: 10,
  maxUploadSize: 1024,
  headerTimeout: 5,
  bodyTimeout: 30,
  sendTimeout: 30,
  keepAliveTimeout: 5,
  maxHeaderSize: 16384,
  maxHeaders: 64,
  debug: false,
  logLevel: "WARNING",
  logFormat: "json",
  logger: console,
};

async function run(): Promise<void> {
  const server = await startServer(everySetting);
  same<typeof server, Tina4Server>();
  same<typeof server.port, number>();
  same<typeof server.host, string>();
  server.router.get("/late", (_req, res) => res.text("registered while running"));
  await server.close();
  await server.close({ code: 1012, reason: "restart" });
  same<ReturnType<typeof server.close>, Promise<void>>();
}
void run;

async function throughTheBackplane(server: Tina4Server): Promise<void> {
  const { backplane } = server;
  same<typeof backplane, Backplane>();
  same<typeof backplane.state, "connected" | "connecting" | "off">();
  same<typeof backplane.kind, "redis" | "nats" | "workers" | null>();
  const { published, lost }: { published: number; lost: number } = backplane.counters;
  const listener = (state: BackplaneState) => console.log(state, backplane.nodes, published, lost);
  backplane.on("state", listener).once("state", async () => {}).off("state", listener);

  for (const counting of [server, server.router, Router, Router.default]) {
    const here: number = counting.connectionCount("/ws/chat/general");
    const alsoHere: number = counting.connectionCount("/ws/chat/general", { cluster: false });
    const everywhere: Promise<number> = counting.connectionCount("/ws/chat/general", { cluster: true });
    console.log(here, alsoHere, await everywhere);
  }
}
void throughTheBackplane;
void (() => startServer({ wsBackplane: "", wsBackplaneUrl: undefined }));
void (() => startServer());
void (() => startServer({ router: Router.default, logLevel: "debug", trustedProxies: "10.0.0.1,10.0.0.2", wsAllowedOrigins: "https://a.example" }));

interface Claims {
  user: string;
}
const claims: Claims = { user: "ada" };
same<ReturnType<typeof getToken>, string>();
getToken(claims);
getToken({ user: "ada" }, "secret", 5);
const payload = validToken("x.y.z", "secret");
same<typeof payload, TokenPayload | null>();
same<NonNullable<typeof payload>["exp"], number | undefined>();
same<NonNullable<typeof payload>["user"], any>();

Router.websocket("/ws/safe", (connection, event) => {
  const { token } = connection.params;
  if (event === "open" && (!token || !validToken(token))) return connection.close(4401, "no token");
});
Router.get("/safe", (req, res) => {
  const token = req.bearerToken();
  return token && validToken(token) ? res({ ok: true }) : res({ ok: false }, 401);
});
