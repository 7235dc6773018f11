//! The opening handshake over the wire: each way to be refused, and that a refusal costs nothing.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;

mod common;

use common::{App, Raw, Response, Seen, Server, answer, echo, quiet, upgrade_request, within};

/// The good request without the line of one header, and with `line` in its place.
fn with(header: &str, line: &str) -> String {
    let good = upgrade_request("/ws");
    let mut out = String::new();
    for one in good.trim_end().split("\r\n") {
        if !one.starts_with(header) {
            out.push_str(one);
            out.push_str("\r\n");
        }
    }
    if !line.is_empty() {
        out.push_str(line);
        out.push_str("\r\n");
    }
    out + "\r\n"
}

async fn answer_to(server: &Server, request: &str) -> Response {
    let mut raw = server.raw().await;
    raw.write(request).await;
    raw.response().await
}

#[tokio::test]
async fn a_good_request_is_upgraded() {
    let server = App::new().websocket("/ws", echo).start();
    let response = answer_to(&server, &upgrade_request("/ws")).await;
    assert_eq!(response.status, 101);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("connection"), Some("Upgrade"));
    // The example of RFC 6455 section 1.3.
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn each_flaw_of_a_request_has_its_status_and_its_sentence() {
    let server = App::new()
        .with(|config| config.allowed_origins = vec!["https://a.example".into()])
        .websocket("/ws", quiet)
        .start();
    let good = with("origin", "origin: https://a.example");
    assert_eq!(answer_to(&server, &good).await.status, 101);
    let flawed = |header: &str, line: &str| {
        with(header, line).trim_end().to_owned() + "\r\norigin: https://a.example\r\n\r\n"
    };
    let key = "sec-websocket-key";
    let cases = [
        (flawed("GET", "").replacen("host", "POST /ws HTTP/1.1\r\nhost", 1), 405, "GET"),
        (flawed("host", ""), 400, "Host"),
        (flawed("connection", ""), 400, "Connection"),
        (flawed("connection", "connection: notupgrade"), 400, "Connection"),
        (flawed("connection", "connection: keep-alive, upgrades"), 400, "Connection"),
        (flawed("sec-websocket-version", ""), 426, "13"),
        (flawed("sec-websocket-version", "sec-websocket-version: 8"), 426, "13"),
        (flawed(key, ""), 400, "Key"),
        (flawed(key, "sec-websocket-key: c2hvcnQ="), 400, "Key"),
        (with("origin", "origin: https://b.example"), 403, "origin"),
        (with("origin", "origin: https://a.example.evil"), 403, "origin"),
        (with("origin", ""), 403, "origin"),
        (good.replace("/ws", "/nowhere"), 404, "path"),
        (good.replace("/ws", "/%zz"), 400, "escape"),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400, "HTTP/1.1"),
    ];
    let count = cases.len() as u64;
    for (request, status, part) in cases {
        let response = answer_to(&server, &request).await;
        assert_eq!(response.status, status, "{request}");
        assert!(response.text().contains(part), "{}", response.text());
        let version = (status == 426).then_some("13");
        assert_eq!(response.header("sec-websocket-version"), version);
        assert_eq!(response.header("allow"), (status == 405).then_some("GET"));
    }
    let counter =
        |engine: &mut engine::Engine| engine.counters().rejected_upgrades.load(Ordering::Relaxed);
    assert_eq!(server.with(counter), count);
    assert_eq!(server.opened("/ws", 1).await.len(), 1, "no handler heard of the others");
}

#[tokio::test]
async fn the_tokens_of_a_header_are_compared_one_by_one_in_any_case() {
    let server = App::new().websocket("/ws", quiet).start();
    for (header, line) in [
        ("connection", "Connection: keep-alive,UPGRADE"),
        ("connection", "connection: close\r\nconnection: upgrade"),
        ("upgrade", "Upgrade: h2c , WebSocket"),
    ] {
        let response = answer_to(&server, &with(header, line)).await;
        assert_eq!(response.status, 101, "{line}");
    }
    // Something else is asked for: an ordinary request, to a path that has no such answer.
    let response = answer_to(&server, &with("upgrade", "upgrade: websockets")).await;
    assert_eq!(response.status, 404);
}

#[tokio::test]
async fn a_plain_request_to_a_websocket_path_is_404_and_an_upgrade_of_an_http_path_too() {
    let server = App::new()
        .websocket("/ws", quiet)
        .request("GET", "/page", |_| answer(200, "page"))
        .websocket("/both", quiet)
        .request("GET", "/both", |_| answer(200, "both"))
        .start();
    assert_eq!(server.ask("GET", "/ws").await.status, 404);
    assert_eq!(answer_to(&server, &upgrade_request("/page")).await.status, 404);
    assert_eq!(server.ask("GET", "/both").await.text(), "both");
    assert_eq!(answer_to(&server, &upgrade_request("/both")).await.status, 101);
}

fn one_place() -> Server {
    App::new().with(|config| config.max_connections = 1).websocket("/ws", echo).start()
}

/// Waits until the one place is free, then takes it.
async fn takes_the_place(server: &Server) -> Raw {
    within("a free place", async {
        loop {
            let mut raw = server.raw().await;
            raw.write(upgrade_request("/ws")).await;
            match raw.response().await.status {
                101 => return raw,
                503 => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
                other => panic!("an unexpected {other}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn above_the_limit_of_connections_an_upgrade_gets_503_until_one_has_closed() {
    let server = one_place();
    let mut first = server.connect("/ws").await;
    for _ in 0..3 {
        let refused = answer_to(&server, &upgrade_request("/ws")).await;
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains("too many connections"), "{}", refused.text());
    }
    first.send("still served").await;
    assert_eq!(first.text().await, "still served");
    first.close().await;
    takes_the_place(&server).await;
}

#[tokio::test]
async fn above_the_limit_of_one_address_an_upgrade_gets_503_and_others_are_let_in() {
    let server = App::new()
        .with(|config| {
            config.max_connections_per_ip = 1;
            config.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
        })
        .websocket("/ws", quiet)
        .start();
    let from = |ip: &str| {
        let header = format!("\r\nx-forwarded-for: {ip}\r\n\r\n");
        upgrade_request("/ws").replacen("\r\n\r\n", &header, 1)
    };
    let mut first = server.raw().await;
    first.write(from("10.0.0.1")).await;
    assert_eq!(first.response().await.status, 101);
    let refused = answer_to(&server, &from("10.0.0.1")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("too many connections from this address"), "{refused:?}");
    assert_eq!(answer_to(&server, &from("10.0.0.2")).await.status, 101);
    let handle = server.opened("/ws", 2).await[0];
    first.reset();
    server.closed(handle).await;
    assert_eq!(answer_to(&server, &from("10.0.0.1")).await.status, 101, "it has left");
}

#[tokio::test]
async fn a_refused_or_abandoned_upgrade_takes_no_place() {
    let server = one_place();
    for request in [
        with("sec-websocket-key", ""),
        with("connection", ""),
        upgrade_request("/nowhere"),
        upgrade_request("/%zz"),
    ] {
        assert!((400..500).contains(&answer_to(&server, &request).await.status));
    }
    for _ in 0..20 {
        // Gone before the answer could be written, at once or after it was on its way.
        let mut raw = server.raw().await;
        raw.write(upgrade_request("/ws")).await;
        raw.reset();
    }
    let mut raw = takes_the_place(&server).await;
    raw.write(common::frame(true, common::opcode::TEXT, b"mine")).await;
    assert_eq!(raw.frame().await.payload, b"mine");
    let refused = answer_to(&server, &upgrade_request("/ws")).await;
    assert_eq!(refused.status, 503, "one place, not more");
}

#[tokio::test]
async fn an_upgrade_that_comes_after_shutdown_began_gets_503_or_no_answer() {
    let server = App::new().websocket("/ws", quiet).request("GET", "/slow", |_| None).start();
    let mut busy = server.raw().await;
    // The upgrade is on its way before the answer to the request in front of it.
    busy.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    busy.write(upgrade_request("/ws")).await;
    let mut silent = server.raw().await;
    let request = server.event("the request", |seen| matches!(seen, Seen::Request(..))).await;
    let Seen::Request(handle, _) = request else { unreachable!("only that was waited for") };
    server.with(|engine| engine.shutdown(1001, ""));
    server.with(|engine| {
        engine.publisher().answer(handle, answer(200, "done").expect("an answer"));
    });
    assert_eq!(busy.response().await.text(), "done");
    for rest in [busy.rest().await, {
        let _ = tokio::io::AsyncWriteExt::write_all(
            &mut silent.stream,
            upgrade_request("/ws").as_bytes(),
        )
        .await;
        silent.rest().await
    }] {
        if !rest.is_empty() {
            let (response, _) = Response::parse(&rest, "GET", true).expect("a response");
            assert_eq!(response.status, 503, "{response:?}");
        }
    }
    server.event("the end", |seen| *seen == Seen::Stopped).await;
    assert!(!server.seen().iter().any(|one| matches!(one, Seen::Open(..))));
}

#[tokio::test]
async fn the_handler_is_told_what_the_request_said() {
    let server = App::new().websocket("/ws/{room}/{n:int}", quiet).start();
    let request = upgrade_request("/ws/caf%C3%A9/7?token=a%20b&x").replacen(
        "host: a",
        "Host: example.org\r\nCookie: a=1\r\nCookie: b=2\r\nX-Forwarded-For: 10.9.9.9",
        1,
    );
    let mut raw = server.raw().await;
    raw.write(request).await;
    assert_eq!(raw.response().await.status, 101);
    let handle = server.opened("/ws/caf%C3%A9/7", 1).await[0];
    let Seen::Open(_, info) = server.seen().remove(0) else { panic!("open comes first") };
    assert_eq!(info.query, "token=a%20b&x");
    assert_eq!(info.ip, "127.0.0.1");
    assert_eq!(info.id.len(), 32);
    assert!(info.id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let head: Vec<_> = server.with(|engine| {
        let head = engine.publisher().head(handle).expect("known");
        head.lines().map(str::to_owned).collect()
    });
    assert!(head.contains(&"host:example.org".to_owned()), "{head:?}");
    let cookies: Vec<_> = head.iter().filter(|one| one.starts_with("cookie:")).collect();
    assert_eq!(cookies, ["cookie:a=1", "cookie:b=2"]);

    let mut other = server.connect("/ws/x/8").await;
    server.opened("/ws/x/8", 1).await;
    let ids: std::collections::HashSet<_> = server
        .seen()
        .into_iter()
        .filter_map(|one| match one {
            Seen::Open(_, info) => Some(info.id),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 2, "every connection has an id of its own");
    other.0.close(None).await.expect("closed");
    while let Some(Ok(_)) = other.0.next().await {}
}
