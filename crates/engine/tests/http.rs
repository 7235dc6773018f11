//! Requests and responses over the wire: what handlers are told, and what the engine answers by itself.

use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use engine::event::Request;
use engine::{Answer, AnswerBody};

mod common;

use common::asking::{asked, respond, say};
use common::{App, Seen, Server, answer, quiet};

/// What a handler was told, as far as the tests ask.
#[derive(Debug)]
struct Told {
    method: String,
    target: String,
    path: String,
    params: Vec<String>,
    ip: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Told {
    fn new(request: &Request) -> Self {
        let headers = request.lines.headers();
        Self {
            method: request.method().to_owned(),
            target: request.target().to_owned(),
            path: request.path().to_owned(),
            params: request.params().map(str::to_owned).collect(),
            ip: request.ip().to_owned(),
            headers: headers.map(|(name, value)| format!("{name}: {value}")).collect(),
            body: request.body.to_vec(),
        }
    }
}

/// A server that tells what its one handler was told.
fn telling(method: &str, pattern: &str) -> (Server, Receiver<Told>) {
    let (tell, told) = channel();
    let server = App::new()
        .request(method, pattern, move |request| {
            tell.send(Told::new(request)).expect("listening");
            answer(200, "told")
        })
        .start();
    (server, told)
}

#[tokio::test]
async fn a_handler_is_told_the_method_the_target_the_parameters_and_the_body() {
    let (server, told) = telling("POST", "/shop/{name}/{id:int}/{price:float}/{rest:path}");
    let response = say(
        &server,
        "POST /shop/caf%C3%A9/-7/2.5/a/b%2fc?x=1&y=%20 HTTP/1.1\r\nHost: a\r\nX-One: 1\r\n\
         X-One: 2\r\ncontent-length: 5\r\n\r\nhello",
    )
    .await;
    assert_eq!((response.status, response.text()), (200, "told"));
    let told = told.try_recv().expect("told");
    assert_eq!(told.method, "POST");
    assert_eq!(told.target, "/shop/caf%C3%A9/-7/2.5/a/b%2fc?x=1&y=%20");
    assert_eq!(told.path, "/shop/caf%C3%A9/-7/2.5/a/b%2Fc");
    assert_eq!(told.params, ["name=café", "id:-7", "price:2.5", "rest=a/b/c"]);
    assert_eq!(told.headers, ["host: a", "x-one: 1", "x-one: 2", "content-length: 5"]);
    assert_eq!(told.ip, "127.0.0.1");
    assert_eq!(told.body, b"hello");
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_and_a_request_without_one_has_none() {
    let (server, told) = telling("ANY", "/");
    say(
        &server,
        "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(told.try_recv().expect("told").body, b"abcdefgh");
    say(&server, "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let told = told.try_recv().expect("told");
    assert_eq!((told.method.as_str(), told.body.len()), ("DELETE", 0));
}

#[tokio::test]
async fn a_large_body_arrives_as_it_was_sent() {
    let (server, told) = telling("POST", "/");
    let body: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut request =
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())
            .into_bytes();
    request.extend_from_slice(&body);
    assert_eq!(say(&server, request).await.status, 200);
    assert!(told.try_recv().expect("told").body == body);
}

#[tokio::test]
async fn head_is_answered_by_get_without_the_body() {
    let (server, told) = telling("GET", "/page");
    let mut raw = server.raw().await;
    raw.write("HEAD /page HTTP/1.1\r\nhost: a\r\n\r\nGET /page HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = raw.response_to("HEAD").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
    // Were there a body, the next response would not begin here.
    assert_eq!(raw.response().await.text(), "told");
    let methods: Vec<_> = told.try_iter().map(|told| told.method).collect();
    assert_eq!(methods, ["HEAD", "GET"]);
}

#[tokio::test]
async fn options_and_a_wrong_method_say_what_is_allowed() {
    let server = App::new()
        .request("GET", "/page", |_| answer(200, "got"))
        .request("POST", "/page", |_| answer(200, "posted"))
        .request("OPTIONS", "/own", |_| answer(200, "own"))
        .start();
    let options = server.ask("OPTIONS", "/page").await;
    assert_eq!((options.status, options.body.len()), (204, 0));
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    let wrong = server.ask("DELETE", "/page").await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    assert_eq!(wrong.json()["statusCode"], 405);
    assert_eq!(server.ask("OPTIONS", "/own").await.text(), "own");
    assert_eq!(server.ask("OPTIONS", "/nowhere").await.status, 404);
}

#[tokio::test]
async fn a_path_nobody_has_is_404_as_json_or_as_a_page_with_its_text_escaped() {
    let server = App::new().start();
    let json = server.ask("GET", "/no/%3Cb%3E").await;
    assert_eq!(json.status, 404);
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.json()["error"], "Not Found");
    assert_eq!(json.json()["statusCode"], 404);
    let page =
        say(&server, "GET /no/&'x HTTP/1.1\r\nhost: a\r\naccept: text/html,*/*;q=0.8\r\n\r\n")
            .await;
    assert_eq!(page.status, 404);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("/no/&amp;"), "{}", page.text());
    assert!(!page.text().contains("/no/&'"), "{}", page.text());
    assert_eq!(server.ask("POST", "/nowhere").await.status, 404);
}

#[tokio::test]
async fn a_bad_escape_in_a_path_is_400() {
    let server = App::new().request("GET", "/u/{name}", |_| answer(200, "ok")).start();
    for target in ["/u/%", "/u/%zz", "/u/%ff", "/%g0"] {
        assert_eq!(server.ask("GET", target).await.status, 400, "{target}");
    }
    assert_eq!(server.ask("GET", "/u/%C3%A9").await.status, 200);
}

#[tokio::test]
async fn the_server_itself_may_be_asked_for_its_options() {
    let server = App::new().start();
    assert_eq!(say(&server, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await.status, 204);
    assert_eq!(say(&server, "GET * HTTP/1.1\r\nhost: a\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn a_request_is_answered_once() {
    let server = App::new().request("GET", "/{name}", |_| None).start();
    let mut raw = server.raw().await;
    raw.write("GET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /two HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let one = asked(&server, "/one").await;
    respond(&server, one, "first");
    respond(&server, one, "again");
    assert_eq!(raw.response().await.text(), "first");
    let two = asked(&server, "/two").await;
    respond(&server, one, "and again");
    respond(&server, two, "second");
    assert_eq!(raw.response().await.text(), "second");
}

#[tokio::test]
async fn several_requests_use_one_socket_and_pipelined_ones_keep_their_order() {
    let server = App::new().request("GET", "/{name}", |_| None).start();
    let mut raw = server.raw().await;
    for round in 0..3 {
        let target = format!("/kept-{round}");
        raw.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        respond(&server, asked(&server, &target).await, &target);
        assert_eq!(raw.response().await.text(), target);
    }
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
    let targets = ["/a", "/b", "/c"];
    raw.write(targets.map(request).concat()).await;
    for target in targets {
        respond(&server, asked(&server, target).await, target);
        assert_eq!(raw.response().await.text(), target);
    }
}

#[tokio::test]
async fn a_slow_handler_holds_up_nobody_on_another_socket() {
    let server = App::new()
        .request("GET", "/slow", |_| None)
        .request("GET", "/fast", |_| answer(200, "fast"))
        .start();
    let mut slow = server.raw().await;
    slow.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let handle = asked(&server, "/slow").await;
    assert_eq!(server.ask("GET", "/fast").await.text(), "fast");
    respond(&server, handle, "slow");
    assert_eq!(slow.response().await.text(), "slow");
}

#[tokio::test]
async fn connection_close_and_http_1_0_end_the_socket_behind_the_response() {
    let server = App::new().request("GET", "/", |_| answer(200, "bye")).start();
    for request in
        ["GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
    {
        let mut raw = server.raw().await;
        raw.write(request).await;
        assert_eq!(raw.response().await.text(), "bye");
        assert_eq!(raw.rest().await, b"");
    }
}

fn with_headers(headers: &[(&str, &str)]) -> App {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let headers = Bytes::from(headers);
    App::new().request("GET", "/", move |_| {
        Some(Answer {
            status: 201,
            headers: headers.clone(),
            body: AnswerBody::Bytes("body".into()),
        })
    })
}

#[tokio::test]
async fn the_headers_of_an_answer_are_sent_and_cookies_each_on_their_own() {
    let server = with_headers(&[
        ("Content-Type", "text/plain"),
        ("X-Name", "Zoë"),
        ("Set-Cookie", "a=1"),
        ("set-cookie", "b=2; HttpOnly"),
        ("Content-Length", "999"),
    ])
    .start();
    let response = server.ask("GET", "/").await;
    assert_eq!(response.status, 201);
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert_eq!(response.header("x-name"), Some("Zoë"));
    assert_eq!(response.all("set-cookie"), ["a=1", "b=2; HttpOnly"]);
    assert_eq!(response.header("content-length"), Some("4"), "the engine knows better");
    assert_eq!(response.text(), "body");
}

#[tokio::test]
async fn a_header_http_does_not_allow_is_left_out_and_logged() {
    let server =
        with_headers(&[("X-Good", "yes"), ("X-Split", "a\rX-Injected: b"), ("bad name", "x")])
            .start();
    let response = server.ask("GET", "/").await;
    assert_eq!(response.header("x-good"), Some("yes"));
    assert_eq!(response.header("x-split"), None);
    assert_eq!(response.header("x-injected"), None);
    assert_eq!(response.text(), "body");
    server.logged("X-Split").await;
    server.logged("bad name").await;
}

fn file_answer(path: &str) -> Option<Answer> {
    Some(Answer { status: 200, headers: Bytes::new(), body: AnswerBody::File(path.into()) })
}

#[tokio::test]
async fn a_file_is_answered_from_the_apps_folder_and_from_nowhere_else() {
    let server = App::new()
        .file("app/files/a.txt", "inside")
        .file("app/.env", "TINA4_SECRET=1")
        .file("outside.txt", "outside")
        .request("GET", "/inside", |_| file_answer("files/a.txt"))
        .request("GET", "/outside", |_| file_answer("../outside.txt"))
        .request("GET", "/absolute", |_| file_answer("/etc/passwd"))
        .request("GET", "/hidden", |_| file_answer(".env"))
        .request("GET", "/missing", |_| file_answer("files/b.txt"))
        .start();
    let inside = server.ask("GET", "/inside").await;
    assert_eq!((inside.status, inside.text()), (200, "inside"));
    assert_eq!(inside.header("content-type"), Some("text/plain; charset=utf-8"));
    for target in ["/outside", "/absolute", "/hidden", "/missing"] {
        let refused = server.ask("GET", target).await;
        assert_eq!(refused.status, 404, "{target}");
        assert_eq!(refused.json()["message"], "there is no such file");
    }
    let etag = inside.header("etag").expect("a tag");
    let again =
        say(&server, format!("GET /inside HTTP/1.1\r\nhost: a\r\nif-none-match: {etag}\r\n\r\n"));
    assert_eq!(again.await.status, 304);
}

#[tokio::test]
async fn static_files_are_found_behind_the_routes_and_health_behind_them() {
    let server = App::new()
        .file("app/public/a.css", "a {}")
        .file("app/public/route", "shadowed")
        .file("package/public/js/frond.js", "frond")
        .file("app/public/.git/config", "secret")
        .request("GET", "/route", |_| answer(200, "from the handler"))
        .request("POST", "/a.css", |_| answer(200, "posted"))
        .start();
    let css = server.ask("GET", "/a.css").await;
    assert_eq!((css.status, css.text()), (200, "a {}"));
    assert_eq!(css.header("content-type"), Some("text/css; charset=utf-8"));
    let head = server.ask("HEAD", "/a.css").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
    assert_eq!(server.ask("POST", "/a.css").await.text(), "posted");
    assert_eq!(server.ask("GET", "/route").await.text(), "from the handler");
    assert_eq!(server.ask("GET", "/js/frond.js").await.text(), "frond");
    for target in ["/.git/config", "/../app/public/a.css", "/%2e%2e/secret", "/js"] {
        assert_eq!(server.ask("GET", target).await.status, 404, "{target}");
    }
    let health = server.ask("GET", "/health").await.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], "1.2.3");
    assert!(health["uptime"].is_u64());
}

#[tokio::test]
async fn forwarded_addresses_count_only_from_trusted_proxies() {
    let asked = |trusted: &'static str, forwarded: &'static str| async move {
        let (tell, told) = channel();
        let server = App::new()
            .with(|config| {
                config.trusted_proxies =
                    trusted.split_whitespace().map(|one| one.parse().expect("one")).collect();
            })
            .request("GET", "/", move |request| {
                tell.send(request.ip().to_owned()).expect("listening");
                answer(200, "ok")
            })
            .websocket("/ws", quiet)
            .start();
        say(&server, format!("GET / HTTP/1.1\r\nhost: a\r\n{forwarded}\r\n")).await;
        let mut raw = server.raw().await;
        let upgrade = common::upgrade_request("/ws");
        raw.write(upgrade.replacen("host: a\r\n", &format!("host: a\r\n{forwarded}"), 1)).await;
        assert_eq!(raw.response().await.status, 101);
        let opened = server.event("open", |seen| matches!(seen, Seen::Open(..))).await;
        let Seen::Open(_, info) = opened else { unreachable!("only that was waited for") };
        let ip = told.try_recv().expect("told");
        assert_eq!(ip, info.ip, "the same on both protocols");
        ip
    };
    let forged = "x-forwarded-for: 9.9.9.9\r\n";
    assert_eq!(asked("", forged).await, "127.0.0.1");
    assert_eq!(asked("10.0.0.0/8", forged).await, "127.0.0.1");
    assert_eq!(asked("127.0.0.1", forged).await, "9.9.9.9");
    let chain = "x-forwarded-for: 1.1.1.1, 8.8.8.8\r\nx-forwarded-for: 10.0.0.7\r\n";
    assert_eq!(asked("127.0.0.1 10.0.0.0/8", chain).await, "8.8.8.8");
    assert_eq!(asked("127.0.0.1", "x-forwarded-for: rubbish\r\n").await, "127.0.0.1");
}
