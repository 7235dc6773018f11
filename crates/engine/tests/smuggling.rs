//! Requests that two servers on the way could read differently: none hides a second one.
//!
//! Each is followed or filled by a request for `/smuggled`, whose handler must not run.

use std::fmt::Write as _;
use std::time::Duration;

mod common;

use common::{App, Raw, Response, Seen, Server, answer, quiet, upgrade_request};

/// What an attacker hides.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
/// An honest request which ends the connection.
const LAST: &str = "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

fn start() -> Server {
    App::new()
        // A test that expects the end of a connection must not wait long for it.
        .with(|config| config.keep_alive_timeout = Duration::from_secs(3))
        .request("ANY", "/{name}", |request| {
            let body = String::from_utf8_lossy(&request.body);
            answer(200, &format!("{} {} {body:?}", request.method(), request.target()))
        })
        .websocket("/ws", quiet)
        .start()
}

/// Writes everything at once, as a client that waits for no answer, and reads until the server
/// hangs up.
async fn exchange(server: &Server, bytes: &str) -> Vec<Response> {
    let mut raw = server.raw().await;
    // The server may hang up before it has read all.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, bytes.as_bytes()).await;
    let all = raw.rest().await;
    let mut responses = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let taken = Response::parse(&all[at..], "GET", true);
        let (response, used) = taken.unwrap_or_else(|| {
            panic!("no response: {:?}", String::from_utf8_lossy(&all[at..]));
        });
        responses.push(response);
        at += used;
    }
    responses
}

/// What handlers were asked for since the server started, in order.
async fn heard(server: &Server) -> Vec<String> {
    // Events keep their order: behind this one nothing of earlier sockets can come.
    assert_eq!(server.ask("GET", "/probe").await.status, 200);
    let targets = server.seen().into_iter().filter_map(|one| match one {
        Seen::Request(_, target) if target != "/probe" => Some(target),
        _ => None,
    });
    targets.collect()
}

/// One response with this status, the connection closed, and no handler asked.
async fn is_refused(status: u16, request: &str) {
    let server = start();
    let responses = exchange(&server, request).await;
    let what = format!("{request:?}: {responses:?}");
    assert_eq!(responses.len(), 1, "{what}");
    assert_eq!(responses[0].status, status, "{what}");
    assert_eq!(heard(&server).await, [""; 0], "{what}");
}

/// The request is refused with what lies behind it.
async fn are_400(requests: &[String]) {
    for request in requests {
        is_refused(400, request).await;
    }
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}{HIDDEN}")
}

#[tokio::test]
async fn a_length_that_is_not_one_number_is_400() {
    let lengths = [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 6\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 5\r\ncontent-length: 0\r\n",
        "content-length: 5, 6\r\n",
        "content-length: 5, 5\r\n",
        "content-length: 5,\r\n",
        "content-length: -5\r\n",
        "content-length: +5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5.0\r\n",
        "content-length: five\r\n",
        "content-length: \"5\"\r\n",
        "content-length: \r\n",
        "content-length: \u{665}\r\n",
        // 2^64, 2^64 + 5
        "content-length: 18446744073709551616\r\n",
        "content-length: 18446744073709551621\r\n",
        "content-length: 99999999999999999999999999999999\r\n",
    ];
    are_400(&lengths.map(|headers| post(headers, "hello"))).await;
}

#[tokio::test]
async fn a_length_that_is_repeated_alike_counts_once() {
    let server = start();
    let twice = "content-length: 5\r\ncontent-length: 5\r\n";
    let request = format!("POST /first HTTP/1.1\r\nhost: a\r\n{twice}\r\nhello{LAST}");
    let responses = exchange(&server, &request).await;
    assert_eq!(responses[0].text(), "POST /first \"hello\"");
    assert_eq!(responses[1].text(), "GET /last \"\"");
    assert_eq!(heard(&server).await, ["/first", "/last"]);
}

#[tokio::test]
async fn a_body_is_a_body_whatever_it_looks_like() {
    let server = start();
    for newline in ["\r\n", "\n", "\r"] {
        let body = format!("0{newline}{newline}{}", HIDDEN.replace("\r\n", newline));
        let length = body.len();
        let sized =
            format!("POST /sized HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        let chunked = format!(
            "POST /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             {length:x}\r\n{body}\r\n0\r\n\r\n"
        );
        let responses = exchange(&server, &format!("{sized}{chunked}{LAST}")).await;
        let texts: Vec<_> = responses.iter().map(Response::text).collect();
        let expected = [
            format!("POST /sized {body:?}"),
            format!("POST /chunked {body:?}"),
            "GET /last \"\"".into(),
        ];
        assert_eq!(texts, expected);
    }
    assert_eq!(heard(&server).await, ["/sized", "/chunked", "/last"].repeat(3));
}

const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

#[tokio::test]
async fn a_transfer_encoding_that_leaves_the_end_open_is_400() {
    let codings = [
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, identity\r\ncontent-length: 15\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunkedx\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: \r\n",
        "transfer-encoding: chunked,\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ];
    are_400(&codings.map(|headers| post(headers, CHUNKS))).await;
    let old = |headers: &str| {
        format!("POST /first HTTP/1.0\r\nconnection: keep-alive\r\n{headers}\r\n{CHUNKS}{HIDDEN}")
    };
    are_400(&[
        old("transfer-encoding: chunked\r\n"),
        old("content-length: 15\r\ntransfer-encoding: chunked\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn a_coding_other_than_chunked_is_501() {
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
    ] {
        is_refused(501, &post(codings, CHUNKS)).await;
    }
}

#[tokio::test]
async fn a_transfer_encoding_goes_before_a_length_and_nothing_is_read_behind_the_body() {
    let length = HIDDEN.len() + CHUNKS.len();
    for headers in [
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        "content-length: 3\r\nTransfer-Encoding: Chunked\r\ncontent-length: 4\r\n".to_owned(),
    ] {
        let server = start();
        let responses = exchange(&server, &post(&headers, CHUNKS)).await;
        assert_eq!(responses.len(), 1, "{headers:?}");
        assert_eq!(responses[0].text(), "POST /first \"hello\"", "{headers:?}");
        assert_eq!(responses[0].header("connection"), Some("close"), "{headers:?}");
        assert_eq!(heard(&server).await, ["/first"], "{headers:?}");
    }
}

#[tokio::test]
async fn malformed_chunks_are_400() {
    let mut bodies = [
        // 2^64, and 5 by a count that wraps
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        // line ends
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
        // extensions
        "5;a=b\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        // trailers
        "5\r\nhello\r\n0\r\nbad name: x\r\n\r\n",
        "5\r\nhello\r\n0\r\n\u{0}: x\r\n\r\n",
    ]
    .map(str::to_owned)
    .to_vec();
    bodies.push(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000)));
    bodies.push(format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "y".repeat(200)).repeat(100)));
    bodies.push(format!("0\r\n{}\r\n", "x: y\r\n".repeat(1_000)));
    bodies.push(format!("0\r\nx: {}\r\n\r\n", "y".repeat(20_000)));
    let requests: Vec<_> =
        bodies.iter().map(|body| post("transfer-encoding: chunked\r\n", body)).collect();
    are_400(&requests).await;
}

#[tokio::test]
async fn what_may_stand_around_a_chunk_size_is_left_out() {
    let server = start();
    let mut request = String::new();
    let bodies = [
        "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
        "05\r\nhello\r\n000\r\n\r\n",
        // Blanks behind the size, which only an extension may follow (RFC 9112 section 7.1.1).
        "5 \t\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nx-trailer: y\r\ncontent-length: 99\r\nhost: b\r\n\r\n",
    ];
    for body in bodies {
        let head = "POST /first HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = write!(request, "{head}{body}");
    }
    let responses = exchange(&server, &format!("{request}{LAST}")).await;
    let texts: Vec<_> = responses.iter().map(Response::text).collect();
    let first = "POST /first \"hello\"";
    assert_eq!(texts, [first, first, first, first, "GET /last \"\""]);
}

#[tokio::test]
async fn a_field_that_is_folded_or_malformed_is_400() {
    let fields = [
        // obs-fold
        "x: y\r\n z\r\n",
        "x: y\r\n\tz\r\n",
        "x: y\r\n \r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "content-length: 5\r\n\t0\r\n",
        // blanks before the colon
        "content-length : 5\r\n",
        "transfer-encoding\t: chunked\r\n",
        " x: y\r\n",
        ": y\r\n",
        "no colon\r\n",
        "x\u{0}: y\r\n",
        "x: \u{0}y\r\n",
        "x: y\u{7f}\r\n",
        "x: y\rcontent-length: 5\r\n",
        "x: y\r\rcontent-length: 5\r\n",
        "x\r: y\r\n",
        "x(y): z\r\n",
        "\u{e9}: z\r\n",
    ];
    are_400(&fields.map(|headers| post(headers, "hello"))).await;
    // Before the first field too.
    is_refused(400, &format!("GET /first HTTP/1.1\r\n x: y\r\nhost: a\r\n\r\n{HIDDEN}")).await;
}

#[tokio::test]
async fn a_request_line_that_is_malformed_is_400() {
    let lines = [
        "GET /first\r\n",
        "GET  /first HTTP/1.1\r\n",
        "GET /first  HTTP/1.1\r\n",
        "GET /first x HTTP/1.1\r\n",
        " GET /first HTTP/1.1\r\n",
        "GET /first HTTP/1.1 \r\n",
        "OPTIONS first HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "GET /first HTTP/1.1x\r\n",
        "GET /first HTTP/1.11\r\n",
        "GET /first HTTP/1.2\r\n",
        "GET /first HTTP/2.0\r\n",
        "GET /first http/1.1\r\n",
        "GET /fi\u{0}rst HTTP/1.1\r\n",
        "GET /fi\rrst HTTP/1.1\r\n",
        "GET /fi\trst HTTP/1.1\r\n",
        "G(T /first HTTP/1.1\r\n",
        "GET first HTTP/1.1\r\n",
        "/first HTTP/1.1\r\n",
    ];
    are_400(&lines.map(|line| format!("{line}host: a\r\n\r\n{HIDDEN}"))).await;
}

#[tokio::test]
async fn a_bare_line_feed_ends_a_line_of_a_head_and_nothing_else() {
    let server = start();
    let head = "POST /first HTTP/1.1\nhost: a\ncontent-length: 5\n\nhello";
    let mixed = "POST /first HTTP/1.1\r\nhost: a\nx: y\r\ncontent-length: 5\r\n\nhello";
    let responses = exchange(&server, &format!("{head}{mixed}{LAST}")).await;
    let texts: Vec<_> = responses.iter().map(Response::text).collect();
    let first = "POST /first \"hello\"";
    assert_eq!(texts, [first, first, "GET /last \"\""]);
    assert_eq!(heard(&server).await, ["/first", "/first", "/last"]);
}

#[tokio::test]
async fn a_request_has_one_host() {
    let server = start();
    for hosts in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a\r\nhost: a\r\n",
        "host: a, b\r\n",
        "host: a b\r\n",
        "host: a/b\r\n",
        "host: me@a\r\n",
        "host: a@a\r\n",
        "host: a:b\r\n",
        "host: \u{e9}\r\n",
    ] {
        is_refused(400, &format!("GET /first HTTP/1.1\r\n{hosts}\r\n{HIDDEN}")).await;
    }
    is_refused(400, "GET /first HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n").await;
    for head in [
        "GET /first HTTP/1.0\r\n",
        "GET /first HTTP/1.1\r\nhost:\r\nconnection: close\r\n",
        "GET /first HTTP/1.1\r\nhost: a.example:8080\r\nconnection: close\r\n",
        "GET /first HTTP/1.1\r\nhost: [::1]:80\r\nconnection: close\r\n",
        "GET /first HTTP/1.1\r\nhost: xn--caf-dma.example\r\nconnection: close\r\n",
    ] {
        let responses = exchange(&server, &format!("{head}\r\n")).await;
        assert_eq!(responses[0].text(), "GET /first \"\"", "{head:?}");
    }
}

#[tokio::test]
async fn nothing_behind_an_upgrade_request_is_a_request() {
    let server = start();
    // Accepted: what follows is frames, and these are not masked.
    let mut raw = server.raw().await;
    raw.write(format!("{}{HIDDEN}", upgrade_request("/ws"))).await;
    assert_eq!(raw.response().await.status, 101);
    assert_eq!(raw.frame().await.close().0, 1002);
    assert_eq!(raw.rest().await, b"");
    // Refused.
    let refused = upgrade_request("/ws").replacen("dGhlIHNhbXBsZSBub25jZQ==", "short", 1);
    let responses = exchange(&server, &format!("{refused}{HIDDEN}")).await;
    assert_eq!((responses.len(), responses[0].status), (1, 400));
    // A body where none belongs.
    for body in ["content-length: 36\r\n\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let request = upgrade_request("/ws");
        let request = format!("{}\r\n{body}{HIDDEN}", request.trim_end());
        let responses = exchange(&server, &request).await;
        assert_eq!((responses.len(), responses[0].status), (1, 400), "{body:?}");
    }
    assert_eq!(heard(&server).await, [""; 0]);
}

#[tokio::test]
async fn an_upgrade_to_something_else_changes_nothing() {
    let server = start();
    let other = "GET /first HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    let responses = exchange(&server, &format!("{other}{LAST}")).await;
    let texts: Vec<_> = responses.iter().map(Response::text).collect();
    assert_eq!(texts, ["GET /first \"\"", "GET /last \"\""]);
}

#[tokio::test]
async fn a_tunnel_is_501() {
    let connect = "CONNECT first:80 HTTP/1.1\r\nhost: first:80\r\n\r\n";
    is_refused(501, &format!("{connect}{HIDDEN}")).await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_never_a_request() {
    let server = start();
    let length = HIDDEN.len();
    for head in [
        // Nothing is there, a method is wrong, a path is bad.
        "POST /no/where HTTP/1.1\r\n",
        "POST /health HTTP/1.1\r\n",
        "POST /%zz HTTP/1.1\r\n",
        "GET /no/where HTTP/1.1\r\n",
    ] {
        let sized = format!("{head}host: a\r\ncontent-length: {length}\r\n\r\n{HIDDEN}");
        let chunked = format!(
            "{head}host: a\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"
        );
        for request in [sized, chunked] {
            // The body at once, and the body behind the answer.
            for split in [request.len(), request.find(HIDDEN).expect("a body")] {
                let mut raw: Raw = server.raw().await;
                raw.write(&request[..split]).await;
                let first = raw.response().await;
                let _ = tokio::io::AsyncWriteExt::write_all(
                    &mut raw.stream,
                    format!("{}{LAST}", &request[split..]).as_bytes(),
                )
                .await;
                let rest = raw.rest().await;
                let rest = String::from_utf8_lossy(&rest);
                let head = head.trim_end();
                let is_last =
                    rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("/last \"\"");
                assert!(rest.is_empty() || is_last, "{head}: {first:?}, then {rest:?}");
            }
        }
    }
    assert!(!heard(&server).await.iter().any(|target| target == "/smuggled"));
}

#[tokio::test]
async fn get_with_a_body_and_expect_keep_their_places() {
    let server = start();
    let mut raw: Raw = server.raw().await;
    let length = HIDDEN.len();
    raw.write(format!(
        "GET /first HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"
    ))
    .await;
    assert_eq!(raw.response().await.text(), format!("GET /first {HIDDEN:?}"));
    // A client that waits for leave to send.
    let head = "POST /waits HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n";
    raw.write(format!("{head}content-length: 5\r\n\r\n")).await;
    assert_eq!(raw.response().await.status, 100);
    raw.write(format!("hello{head}content-length: {length}\r\n\r\n{HIDDEN}")).await;
    assert_eq!(raw.response().await.text(), "POST /waits \"hello\"");
    // One that does not wait.
    let mut answer = raw.response().await;
    if answer.status == 100 {
        answer = raw.response().await;
    }
    assert_eq!(answer.text(), format!("POST /waits {HIDDEN:?}"));
    // One that is refused before it may send: what it sends nevertheless is no request.
    let refused = "POST /no/where HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n";
    raw.write(format!("{refused}content-length: {length}\r\n\r\n")).await;
    assert_eq!(raw.response().await.status, 404);
    let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, HIDDEN.as_bytes()).await;
    assert_eq!(raw.rest().await, b"");
    assert_eq!(heard(&server).await, ["/first", "/waits", "/waits"]);
}
