import { Router, type RouteHandler, type RouteInfo, type Tina4Request, type Tina4Response } from "tina4-nodejs";
import { same } from "./same.js";

// Every member of a request.
Router.post("/books/{isbn}", async (req, res) => {
  same<typeof req.method, string>();
  same<typeof req.url, string>();
  same<typeof req.path, string>();
  same<typeof req.ip, string>();
  same<typeof req.body, any>();
  same<typeof req.query.page, string | undefined>();
  same<typeof req.headers.accept, string | undefined>();
  same<typeof req.cookies.cart, string | undefined>();
  same<ReturnType<typeof req.header>, string | undefined>();
  same<ReturnType<typeof req.bearerToken>, string | null>();
  return res.status(201).json({ isbn: req.params.isbn, title: req.body.title ?? "untitled" });
});

// Every member of a response, all of which chain.
interface Shelf {
  books: number;
}
const shelf: Shelf = { books: 3 };
Router.get("/answers", (_req, res) => {
  const answers: Tina4Response[] = [
    res(shelf),
    res("<p>hi</p>", 200),
    res("a,b", 200, "text/csv"),
    res(null),
    res(),
    res.status(404),
    res.json(shelf),
    res.json([], 202),
    res.html("<p>hi</p>"),
    res.html("<p>gone</p>", 410),
    res.html("shelf.html", shelf),
    res.html("shelf.html", { books: 3 }, 203),
    res.text("hi", 200),
    res.send(new Uint8Array(2), 200, "image/png"),
    res.header("X-Shelf", 3).header("Link", ["</a>", "</b>"]),
    res.redirect("/elsewhere"),
    res.redirect("/elsewhere", 301),
    res.cookie("cart", "7"),
    res.cookie("cart", "7", { maxAge: 3600, httpOnly: true, secure: true, sameSite: "Lax", path: "/", domain: "example.org" }),
    res.cookie("visits", 7, { expires: new Date(0), partitioned: true, priority: "low", sameSite: true }),
    res.clearCookie("cart"),
    res.clearCookie("cart", { path: "/shop" }),
    res.file("reports/may.pdf"),
    res.file("reports/may.pdf", "May.pdf"),
    res.file("reports/may.pdf", { download: true, contentType: "application/pdf" }),
    res.render("shelf.html"),
    res.render("shelf.html", shelf, 206),
  ];
  return answers[0];
});

// Every verb, and handlers of every form.
Router.get("/a", () => {});
Router.put("/a", (_req, res) => res.text("put"));
Router.patch("/a", async () => {});
Router.delete("/a/{id:int}", (req, res) => res({ removed: req.params.id }));
Router.head("/a", (_req, res) => void res.status(204));
Router.options("/a", (_req, res) => res.header("Allow", "GET"));
Router.any("/b", (req, res) => res(req.method));

const list: RouteHandler = (req, res) => res.json(req.query);
const show: RouteHandler<"/c/{id:int}"> = (req, res) => res.json({ id: req.params.id.toFixed() });
function ask(req: Tina4Request, res: Tina4Response): void {
  res.json({ page: req.query.page });
}
Router.get("/c", list);
Router.get("/c/{id:int}", show);
Router.get("/c/{name}/asked", ask);

// A router of one's own has the same methods.
const shop = new Router();
shop.get("/d/{id:int}", (req, res) => res.json(req.params.id.toFixed()));
shop.websocket("/ws/d/{item}", (connection) => same<typeof connection.params.item, string>());
shop.pushToWebSocket("/ws/d/7", "sold");
same<ReturnType<typeof shop.getRoutes>, RouteInfo[]>();
Router.getRoutes().map((route) => `${route.method} ${route.path}`);
class Shop extends Router {
  open(): void {
    this.get("/", (_req, res) => res.text("open"));
  }
}
new Shop().open();
