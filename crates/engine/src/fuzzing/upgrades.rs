//! Raw bytes through hyper to the checks of an opening handshake.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::Cuts;
use crate::client_ip::client_ip;
use crate::config::Config;
use crate::router::WebSocketRoute;
use crate::token::is_token;
use crate::upgrade::{self, Accepted, Rejection};
use crate::{lines, path};

const DEFLATE: &str = "permessage-deflate";
const PEER: [u8; 4] = [10, 0, 0, 7];

/// One request as it was understood.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: Method,
    target: String,
    body: Result<Bytes, ()>,
    /// `None` if no WebSocket was asked for.
    verdict: Option<Result<Accepted, Rejection>>,
}

/// [`Cuts`], then what a peer sends.
pub fn upgrades(data: &[u8]) {
    let (cuts, input) = Cuts::take(data);
    let whole = served(input, Cuts(&[]));
    assert_eq!(served(input, cuts), whole, "in several reads");
}

/// Everything that one socket was understood to ask for, and the status codes it was sent.
fn served(input: &[u8], cuts: Cuts<'_>) -> Vec<Seen> {
    let config = Config {
        allowed_origins: vec!["https://a.example".into()],
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a range")],
        ..Config::default()
    };
    let seen = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let one = serve(request, &config).await;
        let is_refused = matches!(one.verdict, Some(Err(_))) || one.body.is_err();
        seen.borrow_mut().push(one);
        let mut response = Response::new(Full::new(Bytes::new()));
        if is_refused {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok::<_, Infallible>(response)
    });
    let reads = cuts.lengths(input.len());
    let socket =
        Socket { input: Bytes::copy_from_slice(input), reads: reads.into_iter().rev().collect() };
    let connection = http1::Builder::new()
        // The end of the input is no reason to drop what was asked before it.
        .half_close(true)
        .max_headers(config.max_headers)
        .max_header_size(config.max_header_bytes)
        .max_buf_size(config.max_header_bytes)
        .serve_connection(socket, service);
    let mut connection = pin!(connection);
    // It wakes itself up while there is more to do and never waits for anything else.
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10 * (input.len() + 10) {
        if connection.as_mut().poll(&mut context).is_ready() {
            return seen.take();
        }
    }
    panic!("the connection does not end");
}

async fn serve(request: Request<Incoming>, config: &Config) -> Seen {
    let (parts, body) = request.into_parts();
    let kept = lines::of_headers(&parts.headers);
    let kept: Vec<_> = lines::headers(&kept).collect();
    assert_eq!(kept.len(), parts.headers.len(), "no header is lost or made up");
    for ((name, value), (expected, raw)) in kept.into_iter().zip(&parts.headers) {
        assert_eq!(name, expected.as_str());
        assert!(raw.to_str().is_err() || raw.to_str().is_ok_and(|raw| raw == value));
        assert!(!value.contains(['\n', '\r', '\0']), "{value:?}");
    }
    if let Ok(path) = path::canonical(parts.uri.path()) {
        assert!(path.starts_with('/'));
    }
    client_ip(PEER.into(), &parts.headers, &config.trusted_proxies);
    let verdict = upgrade::is_asked(&parts.headers).then(|| {
        let route = WebSocketRoute {
            compress: Some(true),
            protocols: ["chat", "superchat"].map(Into::into).into(),
            ..WebSocketRoute::default()
        };
        let verdict = upgrade::check(&parts.method, parts.version, &parts.headers, &route, config);
        if let Ok(accepted) = &verdict {
            must_be_acceptable(&parts, accepted);
        }
        verdict
    });
    Seen {
        method: parts.method,
        target: parts.uri.to_string(),
        body: body.collect().await.map(|body| body.to_bytes()).map_err(|_| ()),
        verdict,
    }
}

/// RFC 6455 section 4.2.1, read once more.
fn must_be_acceptable(parts: &http::request::Parts, accepted: &Accepted) {
    // The bits after the 16th byte may be any.
    let base64 =
        GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));
    assert_eq!((&parts.method, parts.version), (&Method::GET, Version::HTTP_11));
    assert!(parts.headers.contains_key(header::HOST));
    assert_eq!(only(&parts.headers, header::SEC_WEBSOCKET_VERSION), b"13");
    assert_eq!(only(&parts.headers, header::ORIGIN), b"https://a.example");
    let key = base64.decode(only(&parts.headers, header::SEC_WEBSOCKET_KEY));
    assert_eq!(key.expect("base64").len(), 16);
    assert_eq!(base64.decode(&accepted.key).expect("base64").len(), 20, "SHA-1");
    let listed = |name| -> Vec<String> {
        let values = parts.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.join(",").split(',').map(|one| one.trim().to_owned()).collect()
    };
    for (name, token) in [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")] {
        assert!(listed(name).iter().any(|one| one.eq_ignore_ascii_case(token)), "{token}");
    }
    let offered = listed(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(protocol) = &accepted.protocol {
        assert!(["chat", "superchat", "bearer"].contains(&protocol.as_str()));
        assert!(offered.contains(protocol));
    }
    assert!(offered.iter().all(|one| is_token(one)) || offered == [""]);
    if let Some(agreed) = &accepted.extension {
        let offers = listed(header::SEC_WEBSOCKET_EXTENSIONS);
        assert!(offers.iter().any(|one| one.split(';').next().map(str::trim) == Some(DEFLATE)));
        let answer = agreed.answer();
        let mut parts = answer.split("; ");
        assert_eq!(parts.next(), Some(DEFLATE));
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, "none"));
            assert!(is_token(name) && is_token(value), "{answer}");
            let bits = name.ends_with("_bits").then(|| value.parse().expect("a number"));
            assert!(bits.is_none_or(|bits: u8| (9..=15).contains(&bits)), "{answer}");
        }
    }
}

fn only(headers: &HeaderMap, name: header::HeaderName) -> &[u8] {
    let mut values = headers.get_all(name).iter();
    let value = values.next().expect("it is there");
    assert!(values.next().is_none(), "once");
    value.as_bytes()
}

/// A peer that has sent everything and reads everything.
struct Socket {
    input: Bytes,
    /// From the last one to the first.
    reads: Vec<usize>,
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(length) = self.reads.pop() {
            let read = self.input.split_to(length.min(buffer.remaining()));
            if read.len() < length {
                self.reads.push(length - read.len());
            }
            buffer.put_slice(&read);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
