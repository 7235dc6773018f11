// Every line that ends in an error's number must be refused with that error, and no other line with any.
import { getToken, Router, startServer, validToken, type RouteHandler } from "tina4-nodejs";

Router.get("/a"); // TS2554
Router.get("/a", 7); // TS2345
Router.fetch("/a", () => {}); // TS2339
Router.get("/a", (_req: any, _res: any, _next: any) => {}); // TS2345

Router.post("/b/{id:int}/{name}", (req, res) => {
  req.params.id.trim(); // TS2339
  req.params.nmae.trim(); // TS18048
  req.query.page.trim(); // TS18048
  req.header(); // TS2554
  req.method = "GET"; // TS2540
  validToken(req.bearerToken()); // TS2345
  res.status("200"); // TS2345
  res.jsn({}); // TS2551
  res.html(7); // TS2345
  res.html("b.html", { name: 1 }, "200"); // TS2345
  res.html("b.html", "title"); // TS2769
  res.cookie("a", { b: 1 }); // TS2345
  res.cookie("a", "1", { maxage: 1 }); // TS2561
  res.cookie("a", "1", { sameSite: "Loose" }); // TS2322
  res.redirect(302); // TS2345
  res.file("b.pdf", { inline: true }); // TS2353
});

const other: RouteHandler<"/c/{colour}"> = () => {};
Router.get("/c/{size}", other); // TS2345

startServer({ prt: 80 }); // TS2561
startServer({ port: "80" }); // TS2322
startServer({ logLevel: "loud" }); // TS2322
startServer({ router: {} }); // TS2740
startServer({ router: Router }); // TS2741
startServer({ wsBackplane: "kafka" }); // TS2322
startServer({ wsBackplaneUrl: 6379 }); // TS2322
startServer().close(); // TS2339
startServer().then(({ backplane, connectionCount }) => {
  backplane.state = "off"; // TS2540
  backplane.counters.lost = 0; // TS2540
  backplane.on("message", () => {}); // TS2345
  connectionCount(); // TS2554
  connectionCount("/ws", { cluster: true }).toFixed(); // TS2339
});
Router.connectionCount("/ws", { clustre: true }); // TS2769
Router.connectionCount("/ws").then(() => {}); // TS2339
getToken("ada"); // TS2345
getToken({}, 60); // TS2345
getToken({}).user; // TS2339
validToken("x.y.z").user; // TS2531
