//! What must be clear about a request before anything else is asked: where it ends, and for whom it
//! is.
//!
//! hyper refuses most of what is ambiguous (RFC 9112 sections 5 to 7). What it takes and another
//! server on the way may read differently is refused here.

use http::header::{self, HeaderMap};
use http::uri::{Authority, Uri};
use http::{Method, Request, StatusCode, Version};
use hyper::body::Body;

/// Why a request is refused, and its connection closed: what follows it cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    RepeatedChunked,
    UnknownCoding,
    UpgradeWithBody,
    Tunnel,
    Target,
    Host,
}

impl Flaw {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::RepeatedChunked | Self::UpgradeWithBody | Self::Target | Self::Host => {
                StatusCode::BAD_REQUEST
            }
            // RFC 9112 section 6.1, RFC 9110 section 9.1.
            Self::UnknownCoding | Self::Tunnel => StatusCode::NOT_IMPLEMENTED,
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::RepeatedChunked => "a body is chunked once",
            Self::UnknownCoding => "chunked is the only transfer coding here",
            Self::UpgradeWithBody => "an upgrade request has no body",
            Self::Tunnel => "this server is no proxy",
            Self::Target => "the target of a request is a path or a URL",
            Self::Host => "a request has one Host header with a host in it",
        }
    }
}

/// Looks at how a request is framed. The `Host` of one that asks for an upgrade is left to the checks
/// of upgrades.
///
/// # Errors
/// The first flaw.
pub(crate) fn check<B: Body>(request: &Request<B>, asks_for_upgrade: bool) -> Result<(), Flaw> {
    let headers = request.headers();
    check_target(request.method(), request.uri())?;
    check_codings(headers)?;
    if !asks_for_upgrade {
        return check_host(request.version(), headers);
    }
    // Its bytes would be read as frames.
    if request.body().is_end_stream() { Ok(()) } else { Err(Flaw::UpgradeWithBody) }
}

/// Origin form, absolute form, or `*` for OPTIONS (RFC 9112 section 3.2).
fn check_target(method: &Method, uri: &Uri) -> Result<(), Flaw> {
    // A 2xx answer would make hyper hand over the socket as a tunnel.
    if method == Method::CONNECT {
        return Err(Flaw::Tunnel);
    }
    match uri.path() {
        "*" if method == Method::OPTIONS => Ok(()),
        path if path.starts_with('/') => Ok(()),
        _ => Err(Flaw::Target),
    }
}

fn check_codings(headers: &HeaderMap) -> Result<(), Flaw> {
    let mut chunked = false;
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Flaw::UnknownCoding);
            }
            if chunked {
                return Err(Flaw::RepeatedChunked);
            }
            chunked = true;
        }
    }
    Ok(())
}

/// RFC 9112 section 3.2: one, which may be empty; HTTP/1.0 may leave it out.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Flaw> {
    let mut all = headers.get_all(header::HOST).iter();
    let sound = match (all.next(), all.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || is_host(host.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    if sound { Ok(()) } else { Err(Flaw::Host) }
}

/// A host and perhaps a port.
fn is_host(text: &[u8]) -> bool {
    is_plain_host(text) || is_any_host(text)
}

/// Whether it is a host as in almost every request, which takes one look to see: letters, digits, dots
/// and hyphens.
fn is_plain_host(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    match text.iter().position(|byte| !is_plain(byte)) {
        Some(end) => end > 0 && text[end] == b':' && text[end + 1..].iter().all(u8::is_ascii_digit),
        None => !text.is_empty(),
    }
}

/// The port is what the `http` crate takes to be any text behind the colon.
fn is_any_host(text: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(text) else {
        return false;
    };
    match authority.as_str().strip_prefix(authority.host()) {
        Some("") => true,
        Some(rest) => {
            let port = rest.strip_prefix(':');
            port.is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()))
        }
        // Who asks comes before the host.
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_host_is_one_to_the_crate_too() {
        for host in ["a", "a.b-c.9", "A:8080", "127.0.0.1:1", "a:", "-", ".", "a.:65536"] {
            let both = (is_plain_host(host.as_bytes()), is_any_host(host.as_bytes()));
            assert_eq!(both, (true, true), "{host}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_crate() {
        for (text, is_a_host) in [
            ("[::1]:80", true),
            ("a_b", true),
            ("", false),
            (":80", true),
            ("a:b", false),
            ("a:80:81", false),
            ("a b", false),
            ("user@a", false),
            ("a/b", false),
        ] {
            assert!(!is_plain_host(text.as_bytes()), "{text}");
            assert_eq!(is_host(text.as_bytes()), is_a_host, "{text}");
        }
    }
}
