//! What a client can cost that is slow, greedy or takes no answers.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

mod common;

use common::pressure::{KIB, MIB, SLACK};
use common::{App, Raw, Seen, Server, answer, within};

/// What no test waits for.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_body_that_trickles_is_408_when_its_time_is_over() {
    let server = App::new()
        .with(|config| config.body_timeout = Duration::from_millis(600))
        .request("POST", "/", |request| answer(200, &request.body.len().to_string()))
        .start();
    let mut slow = server.raw().await;
    let begun = Instant::now();
    slow.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await;
    // A byte now and then: no pause is long.
    let (mut reading, mut writing) = slow.stream.into_split();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut all = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut all);
    let _ = within("the answer", read).await;
    trickle.abort();
    assert!(String::from_utf8_lossy(&all).starts_with("HTTP/1.1 408 "), "{all:?}");
    assert!(begun.elapsed() >= Duration::from_millis(600));
    // Nobody heard of it, and others are served.
    let mut next = server.raw().await;
    next.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(next.response().await.text(), "2");
}

#[tokio::test]
async fn the_head_of_a_later_request_has_the_same_time_as_the_first() {
    let server = App::new()
        .with(|config| {
            config.header_timeout = Duration::from_millis(300);
            config.keep_alive_timeout = NEVER;
        })
        .request("GET", "/", |_| answer(200, "ok"))
        .start();
    // One that a handler answers, one that the engine answers at once.
    for target in ["/", "/no/where"] {
        let mut raw = server.raw().await;
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        raw.write(&request).await;
        raw.response().await;
        // Between two requests it may be silent for longer.
        let silence = tokio::time::timeout(Duration::from_millis(700), raw.stream.readable());
        assert!(silence.await.is_err(), "{target}: cut between two requests");
        raw.write(&request).await;
        raw.response().await;
        raw.write(&request[..20]).await;
        assert_eq!(raw.rest().await, b"", "{target}");
    }
}

fn large(config: impl FnOnce(&mut engine::config::Config), size: usize) -> Server {
    let body = "x".repeat(size);
    App::new()
        .with(|defaults| config(defaults))
        .request("GET", "/large", move |_| answer(200, &body))
        .request("GET", "/small", |_| answer(200, "ok"))
        .start()
}

const LARGE: &str = "GET /large HTTP/1.1\r\nhost: a\r\n\r\n";

async fn until_held(server: &Server, what: &str, enough: impl Fn(usize) -> bool) {
    within(what, async {
        while !enough(server.buffered()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let server = large(|config| config.send_timeout = Duration::from_secs(1), 8 * MIB);
    let mut deaf = Raw::connect_narrow(server.address).await;
    deaf.write(LARGE).await;
    until_held(&server, "the answer is held", |held| held >= 8 * MIB).await;
    until_held(&server, "it is given up", |held| held == 0).await;
    let got = deaf.rest().await;
    assert!(got.len() < 8 * MIB, "{} bytes", got.len());
    // One that is slow, but takes something, gets all.
    let mut slow = Raw::connect_narrow(server.address).await;
    slow.write(LARGE).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert!(slow.more().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(slow.response().await.body.len(), 8 * MIB);
}

#[tokio::test]
async fn answers_nobody_takes_are_held_within_the_bound_of_the_process() {
    const BOUND: usize = 20 * MIB;
    let server = large(
        |config| {
            config.max_buffered = BOUND;
            config.send_timeout = NEVER;
        },
        8 * MIB,
    );
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect_narrow(server.address).await;
        raw.write(LARGE).await;
        deaf.push(raw);
    }
    let all = |seen: &[Seen]| {
        let asked = seen.iter().filter(|one| matches!(one, Seen::Request(..))).count();
        (asked == 20).then_some(())
    };
    server.until("all are asked", all).await;
    // Whoever does not fit is refused rather than held.
    let mut refused = server.raw().await;
    refused.write(LARGE).await;
    let response = refused.response().await;
    let held = server.buffered();
    assert_eq!(response.status, 503, "{held} bytes are held");
    assert!(held > BOUND / 2 && held <= BOUND + SLACK, "{held} bytes are held");
    drop(deaf);
    until_held(&server, "nothing is held any more", |held| held == 0).await;
    let mut raw = server.raw().await;
    raw.write(LARGE).await;
    assert_eq!(raw.response().await.body.len(), 8 * MIB);
}

#[tokio::test]
async fn requests_in_a_row_wait_until_their_client_takes_the_answers() {
    const REQUESTS: usize = 600_000;
    let server = large(|config| config.send_timeout = NEVER, 10);
    let mut raw = Raw::connect_narrow(server.address).await;
    // Answers without bodies are what hyper would gather.
    let request = "OPTIONS /small HTTP/1.1\r\nhost: a\r\n\r\n";
    let bytes = request.repeat(1_000);
    let mut written = 0;
    let mut stalled = false;
    while written < REQUESTS {
        let writing = raw.stream.write(bytes.as_bytes());
        match tokio::time::timeout(Duration::from_secs(2), writing).await {
            Ok(count) => written += count.expect("open") / request.len(),
            Err(_) => {
                stalled = true;
                break;
            }
        }
    }
    assert!(stalled, "{written} requests were taken");
    // The server is well.
    assert_eq!(server.ask("GET", "/small").await.text(), "ok");
}

#[tokio::test]
async fn a_target_over_the_limit_of_a_head_is_431_and_over_64_kib_414() {
    let ask = async |server: &Server, length: usize| {
        let mut raw = server.raw().await;
        let request = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(length));
        let _ = raw.stream.write_all(request.as_bytes()).await;
        raw.response().await.status
    };
    let server = App::new().start();
    assert_eq!(ask(&server, 15 * KIB).await, 404);
    assert_eq!(ask(&server, 20 * KIB).await, 431);
    let server = App::new().with(|config| config.max_header_bytes = 256 * KIB).start();
    assert_eq!(ask(&server, 60 * KIB).await, 404);
    assert_eq!(ask(&server, 70 * KIB).await, 414);
    assert_eq!(ask(&server, 300 * KIB).await, 431);
}
