//! The opening handshake (RFC 6455 section 4.2): every check with its own named rejection.

use http::header::{CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, Method, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::Config;
use crate::router::WebSocketRoute;
use crate::{extension, subprotocol};

/// Why an upgrade is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A WebSocket opens with GET (RFC 6455 section 4.1).
    #[error("a WebSocket is opened with GET")]
    MethodNotGet,
    /// HTTP/1.0 has no upgrade.
    #[error("a WebSocket needs HTTP/1.1")]
    VersionTooOld,
    /// Required of every HTTP/1.1 request.
    #[error("the Host header is missing")]
    HostMissing,
    /// `Connection` does not list `upgrade`.
    #[error("the Connection header does not list \"upgrade\"")]
    ConnectionNotUpgrade,
    /// Not version 13; the answer says which one is spoken (RFC 6455 section 4.4).
    #[error("Sec-WebSocket-Version must be 13")]
    UnsupportedVersion,
    /// The key is missing, there twice, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    BadKey,
    /// The extensions that are offered do not follow the grammar (RFC 6455 section 9.1).
    #[error("the Sec-WebSocket-Extensions header is malformed")]
    BadExtensions,
    /// The subprotocols that are offered are not a list of different tokens (RFC 6455 section
    /// 4.1).
    #[error("the Sec-WebSocket-Protocol header is malformed")]
    BadProtocol,
    /// The allow-list is on and the page's origin is not in it.
    #[error("this origin is not allowed")]
    OriginNotAllowed,
    /// No WebSocket route has this path.
    #[error("no WebSocket route has this path")]
    NotFound,
    /// The path or a parameter in it cannot be decoded.
    #[error("the path has a bad escape")]
    BadPath,
    /// `TINA4_WS_MAX_CONNECTIONS` is reached.
    #[error("too many connections")]
    TooManyConnections,
    /// `TINA4_WS_MAX_CONNECTIONS_PER_IP` is reached.
    #[error("too many connections from this address")]
    TooManyFromAddress,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Rejection {
    /// The HTTP status that says it.
    pub fn status(self) -> StatusCode {
        match self {
            Rejection::MethodNotGet => StatusCode::METHOD_NOT_ALLOWED,
            Rejection::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Rejection::OriginNotAllowed => StatusCode::FORBIDDEN,
            Rejection::NotFound => StatusCode::NOT_FOUND,
            Rejection::TooManyConnections
            | Rejection::TooManyFromAddress
            | Rejection::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Rejection::VersionTooOld
            | Rejection::HostMissing
            | Rejection::ConnectionNotUpgrade
            | Rejection::BadKey
            | Rejection::BadExtensions
            | Rejection::BadProtocol
            | Rejection::BadPath => StatusCode::BAD_REQUEST,
        }
    }
}

/// Whether the request asks for a WebSocket at all.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    lists(headers, &UPGRADE, "websocket")
}

/// What an upgrade is answered with, and what holds from then on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The value of `Sec-WebSocket-Accept`.
    pub(crate) key: String,
    /// The subprotocol, if one was agreed.
    pub(crate) protocol: Option<String>,
    /// Compression, if it was agreed.
    pub(crate) extension: Option<extension::Agreed>,
}

/// Checks everything but the path.
pub(crate) fn check(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    route: &WebSocketRoute,
    config: &Config,
) -> Result<Accepted, Rejection> {
    if method != Method::GET {
        return Err(Rejection::MethodNotGet);
    }
    if version != Version::HTTP_11 {
        return Err(Rejection::VersionTooOld);
    }
    if !headers.contains_key(HOST) {
        return Err(Rejection::HostMissing);
    }
    if !lists(headers, &CONNECTION, "upgrade") {
        return Err(Rejection::ConnectionNotUpgrade);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Rejection::UnsupportedVersion);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(Rejection::BadKey);
    };
    if !config.allowed_origins.is_empty() && !origin_allowed(headers, config) {
        return Err(Rejection::OriginNotAllowed);
    }
    let protocol = subprotocol::negotiate(headers, &route.protocols);
    let protocol = protocol.map_err(|_| Rejection::BadProtocol)?.map(str::to_owned);
    let extension = match route.compress.unwrap_or(config.compression) {
        true => extension::negotiate(headers).map_err(|_| Rejection::BadExtensions)?,
        false => None,
    };
    Ok(Accepted { key: derive_accept_key(key), protocol, extension })
}

fn origin_allowed(headers: &HeaderMap, config: &Config) -> bool {
    // A missing Origin is refused too: only pages have one, and only pages are meant.
    only(headers, &ORIGIN)
        .is_some_and(|origin| config.allowed_origins.iter().any(|one| one.as_bytes() == origin))
}

/// Whether a header that is a comma-separated list of tokens has `token`, in any case.
fn lists(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// The value of a header that must not be repeated.
fn only<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first.as_bytes())
}

/// 16 bytes in base64 are 22 characters and two of padding (RFC 6455 section 4.1).
fn is_key(key: &[u8]) -> bool {
    let Some(digits) = key.strip_suffix(b"==") else {
        return false;
    };
    digits.len() == 22
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn good() -> Vec<(&'static str, &'static str)> {
        vec![
            ("host", "example.org"),
            ("upgrade", "h2c, WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ]
    }

    fn verdict(
        headers: &[(&'static str, &'static str)],
        config: &Config,
    ) -> Result<String, Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header value"));
        }
        verdict_on(&Method::GET, Version::HTTP_11, &map, config)
    }

    fn verdict_on(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
        config: &Config,
    ) -> Result<String, Rejection> {
        let route = WebSocketRoute::default();
        check(method, version, headers, &route, config).map(|accepted| accepted.key)
    }

    /// The good request with one header replaced, or removed when `value` is empty.
    fn with(name: &'static str, value: &'static str) -> Result<String, Rejection> {
        let mut headers = good();
        headers.retain(|(other, _)| *other != name);
        if !value.is_empty() {
            headers.push((name, value));
        }
        verdict(&headers, &Config::default())
    }

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        let key = verdict(&good(), &Config::default());
        assert_eq!(key.as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn each_flaw_has_its_rejection() {
        assert_eq!(with("host", ""), Err(Rejection::HostMissing));
        assert_eq!(with("connection", "notupgrade"), Err(Rejection::ConnectionNotUpgrade));
        assert_eq!(with("sec-websocket-version", "8"), Err(Rejection::UnsupportedVersion));
        assert_eq!(with("sec-websocket-key", ""), Err(Rejection::BadKey));
        assert_eq!(with("sec-websocket-key", "c2hvcnQ="), Err(Rejection::BadKey));
        assert_eq!(with("sec-websocket-protocol", "chat, chat"), Err(Rejection::BadProtocol));
        assert_eq!(with("sec-websocket-key", "!!!!!!!!!!!!!!!!!!!!!!=="), Err(Rejection::BadKey));
        let mut twice = good();
        twice.push(("sec-websocket-key", KEY));
        assert_eq!(verdict(&twice, &Config::default()), Err(Rejection::BadKey));
        let old = verdict_on(&Method::GET, Version::HTTP_10, &HeaderMap::new(), &Config::default());
        assert_eq!(old, Err(Rejection::VersionTooOld));
        let post =
            verdict_on(&Method::POST, Version::HTTP_11, &HeaderMap::new(), &Config::default());
        assert_eq!(post, Err(Rejection::MethodNotGet));
    }

    #[test]
    fn extensions_are_looked_at_only_where_compression_is_allowed() {
        let plain = Config::default();
        let compressing = Config { compression: true, ..plain.clone() };
        let header = "sec-websocket-extensions";
        let malformed = |config: &Config| {
            let mut headers = good();
            headers.push((header, "permessage-deflate;;"));
            verdict(&headers, config)
        };
        assert!(malformed(&plain).is_ok());
        assert_eq!(malformed(&compressing), Err(Rejection::BadExtensions));
        let mut map = HeaderMap::new();
        for (name, value) in good() {
            map.append(name, value.parse().expect("a header value"));
        }
        map.insert(header, "permessage-deflate".parse().expect("a header value"));
        let agreed = |compress, config| {
            let route = WebSocketRoute { compress, ..WebSocketRoute::default() };
            let accepted = check(&Method::GET, Version::HTTP_11, &map, &route, config);
            accepted.expect("accepted").extension.is_some()
        };
        assert!(agreed(None, &compressing), "as the setting says");
        assert!(!agreed(Some(false), &compressing), "the route goes first");
        assert!(agreed(Some(true), &plain));
        assert!(!agreed(None, &plain));
    }

    #[test]
    fn the_allow_list_refuses_other_origins_and_none() {
        let config =
            Config { allowed_origins: vec!["https://a.example".into()], ..Config::default() };
        let origin = |value: &'static str| {
            let mut headers = good();
            if !value.is_empty() {
                headers.push(("origin", value));
            }
            verdict(&headers, &config)
        };
        assert!(origin("https://a.example").is_ok());
        assert_eq!(origin("https://a.example.evil"), Err(Rejection::OriginNotAllowed));
        assert_eq!(origin(""), Err(Rejection::OriginNotAllowed));
    }

    #[test]
    fn an_upgrade_to_something_else_is_not_asked() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, "websockets".parse().expect("a header value"));
        assert!(!is_asked(&headers));
        headers.insert(UPGRADE, "WebSocket".parse().expect("a header value"));
        assert!(is_asked(&headers));
    }
}
