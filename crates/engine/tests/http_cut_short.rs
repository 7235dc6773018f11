//! Requests that are refused unread, given up half way, or left by one of the two sides.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

mod common;

use common::asking::{asked, respond, say};
use common::{App, Raw, Seen, Server, answer, within};

fn small_bodies() -> Server {
    App::new()
        .with(|config| config.max_upload_size = 1_000)
        .request("POST", "/", |request| answer(200, &request.body.len().to_string()))
        .start()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_its_length_is_announced_or_not() {
    let server = small_bodies();
    let fits = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{:1000}", "");
    assert_eq!(say(&server, fits).await.text(), "1000");
    // Refused by what is announced: none of it is sent here.
    let announced =
        say(&server, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n").await;
    assert_eq!(announced.status, 413);
    assert_eq!(announced.json()["statusCode"], 413);
    let chunk = format!("{:x}\r\n{:500}\r\n", 500, "");
    let chunked = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(3)
    );
    assert_eq!(say(&server, chunked).await.status, 413);
    assert!(
        !server.seen().iter().any(|one| matches!(one, Seen::Request(_, target) if target != "/"))
    );
    let heard = server.seen().iter().filter(|one| matches!(one, Seen::Request(..))).count();
    assert_eq!(heard, 1, "no handler hears of the others");
}

#[tokio::test]
async fn a_413_is_not_lost_to_a_client_that_is_still_sending() {
    let server = small_bodies();
    // More than all buffers of the system take.
    let body = vec![b'x'; 24 * 1024 * 1024];
    for (path, status) in [("/", 413), ("/nothing", 404)] {
        let mut raw = server.raw().await;
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        raw.write(head).await;
        raw.write(&body).await;
        assert_eq!(raw.response().await.status, status);
    }
}

#[tokio::test]
async fn a_client_that_sends_on_after_an_early_answer_is_cut_off_in_the_end() {
    let server = small_bodies();
    let mut raw = server.raw().await;
    raw.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000\r\n\r\n").await;
    assert_eq!(raw.response().await.status, 413);
    let begun = Instant::now();
    within("the end", async {
        while raw.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(begun.elapsed() > Duration::from_secs(4), "it has some time");
}

#[tokio::test]
async fn a_body_that_stops_half_way_does_not_wait_for_ever() {
    let server = App::new()
        .with(|config| config.keep_alive_timeout = Duration::from_millis(500))
        .request("POST", "/", |_| answer(200, "ok"))
        .start();
    let mut slow = server.raw().await;
    slow.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert_eq!(slow.response().await.status, 408);
    let mut gone = server.raw().await;
    gone.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    drop(gone);
    assert_eq!(say(&server, "POST / HTTP/1.1\r\nhost: a\r\n\r\n").await.text(), "ok");
    let heard = server.seen().iter().filter(|one| matches!(one, Seen::Request(..))).count();
    assert_eq!(heard, 1, "half a body reaches no handler");
}

#[tokio::test]
async fn a_handler_that_does_not_answer_in_time_gets_503_and_is_then_ignored() {
    let server = App::new()
        .with(|config| config.handler_timeout = Duration::from_millis(60))
        .request("GET", "/slow", |_| None)
        .request("GET", "/fast", |_| answer(200, "fast"))
        .start();
    let mut raw = server.raw().await;
    raw.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let handle = asked(&server, "/slow").await;
    let late = raw.response().await;
    assert_eq!(late.status, 503);
    assert_eq!(late.json()["message"], "the handler did not answer in time");
    respond(&server, handle, "too late");
    // The socket is still good, and the late answer is nobody's.
    raw.write("GET /fast HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw.response().await.text(), "fast");
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing_waiting() {
    let server = App::new().request("GET", "/{name}", |_| None).start();
    let waiting = || server.with(|engine| engine.held().requests.load(Ordering::Relaxed));
    for how in ["reset", "end"] {
        let mut raw = server.raw().await;
        raw.write(format!("GET /{how} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let gone = asked(&server, &format!("/{how}")).await;
        assert_eq!(waiting(), 1);
        if how == "reset" {
            raw.reset()
        } else {
            drop(raw)
        }
        within("its place", async {
            while waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        // Its slot is free again: the next request gets the same one, under another handle.
        let next = within("the slot", async {
            for attempt in 0.. {
                let mut raw = server.raw().await;
                let target = format!("/{how}-{attempt}");
                raw.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
                let next = asked(&server, &target).await;
                if next.slot() == gone.slot() {
                    return (next, raw);
                }
            }
            unreachable!("it does not count that far")
        });
        let (next, mut raw) = next.await;
        assert_ne!(next, gone);
        respond(&server, gone, "for nobody");
        respond(&server, next, "for me");
        assert_eq!(raw.response().await.text(), "for me");
    }
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_gets_its_answer() {
    let server =
        App::new().request("GET", "/{name}", |_| None).request("POST", "/", |_| None).start();
    let get = "GET /late HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    for (request, target) in [(get, "/late"), (post, "/")] {
        let mut raw = server.raw().await;
        raw.write(request).await;
        raw.stream.shutdown().await.expect("open");
        let late = asked(&server, target).await;
        // The end is there long before the answer.
        tokio::time::sleep(Duration::from_millis(100)).await;
        respond(&server, late, "better late");
        let response = raw.response().await;
        assert_eq!(response.text(), "better late");
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(raw.rest().await, b"");
    }
}

#[tokio::test]
async fn a_client_that_ends_its_side_while_it_is_answered_gets_all_of_the_answer() {
    // More than the system keeps for a socket.
    const LENGTH: usize = 16 * 1024 * 1024;
    let large = "x".repeat(LENGTH);
    let server = App::new()
        .file("app/public/large", &large)
        .request("GET", "/answer", move |_| answer(200, &large))
        .start();
    for target in ["/large", "/answer"] {
        let mut raw = Raw::connect_narrow(server.address).await;
        raw.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert!(raw.more().await, "the answer begins");
        raw.stream.shutdown().await.expect("open");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(raw.response().await.body.len(), LENGTH, "{target}");
        // Long before it would be for a client that is silent.
        assert_eq!(raw.rest().await, b"", "{target}");
    }
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let server = App::new()
        .with(|config| {
            config.max_headers = 20;
            config.max_header_bytes = 8 * 1024;
        })
        .request("GET", "/", |_| answer(200, "ok"))
        .start();
    let with = |headers: String| format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    assert_eq!(say(&server, with("x: y\r\n".repeat(19))).await.text(), "ok");
    assert_eq!(say(&server, with("x: y\r\n".repeat(20))).await.status, 431);
    let large = format!("x: {}\r\n", "y".repeat(7_000));
    assert_eq!(say(&server, with(large)).await.text(), "ok");
    let mut raw = server.raw().await;
    let huge = with(format!("x: {}\r\n", "y".repeat(64 * 1024)));
    let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, huge.as_bytes()).await;
    assert_eq!(raw.response().await.status, 431);
}

#[tokio::test]
async fn what_is_no_http_is_400_and_costs_nobody_else_anything() {
    let server = App::new().request("GET", "/", |_| answer(200, "ok")).start();
    let mut raw: Raw = server.raw().await;
    raw.write("\x16\x03\x01 this is no request\r\n\r\n").await;
    let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
    assert_eq!(server.ask("GET", "/").await.text(), "ok");
}
