//! The responses the engine makes itself.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};

use crate::upgrade::Accepted;

/// A response body: bytes at hand, or a file that is read as it is written.
pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, std::io::Error>>;

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// A socket keeps room for so many headers from one request to the next: browsers send fewer.
const KEPT_HEADERS: usize = 32;

/// The map of a request's headers, for those of its answer. hyper reads the next request's headers into
/// the map of the answer: handed on, it is allocated once for a socket, not twice for each request.
pub(crate) fn emptied(mut headers: HeaderMap) -> HeaderMap {
    if headers.capacity() > KEPT_HEADERS {
        return HeaderMap::new();
    }
    headers.clear();
    headers
}

pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

pub(crate) fn full(status: StatusCode, content_type: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    insert(response.headers_mut(), header::CONTENT_TYPE, content_type);
    response
}

pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

pub(crate) fn switching_protocols(accepted: &Accepted) -> Response<Body> {
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    insert(headers, header::CONNECTION, "Upgrade");
    insert(headers, header::UPGRADE, "websocket");
    insert(headers, header::SEC_WEBSOCKET_ACCEPT, &accepted.key);
    if let Some(protocol) = &accepted.protocol {
        insert(headers, header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(extension) = accepted.extension {
        insert(headers, header::SEC_WEBSOCKET_EXTENSIONS, &extension.answer());
    }
    response
}

/// The response, after which the connection is closed.
pub(crate) fn closing(mut response: Response<Body>) -> Response<Body> {
    insert(response.headers_mut(), header::CONNECTION, "close");
    response
}

/// `TINA4_MAX_BUFFERED` is reached.
pub(crate) fn out_of_memory(headers: &HeaderMap) -> Response<Body> {
    let message = "the server is out of buffer memory";
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, message, headers);
    insert(response.headers_mut(), header::RETRY_AFTER, "1");
    closing(response)
}

pub(crate) fn bad_path(headers: &HeaderMap) -> Response<Body> {
    error(StatusCode::BAD_REQUEST, "the path has a bad escape", headers)
}

/// An error the engine answers by itself: a page for browsers, JSON for everyone else.
///
/// It may quote the path. A browser must read that as nothing but what the content type says.
pub(crate) fn error(
    status: StatusCode,
    message: &str,
    request_headers: &HeaderMap,
) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or("Error");
    let wants_html = request_headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().windows(9).any(|part| part == b"text/html"));
    if wants_html {
        let message = escape_html(message);
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{reason}</title>\
             <h1>{} {reason}</h1><p>{message}</p></html>\n",
            status.as_u16()
        );
        return unsniffed(full(status, HTML, page));
    }
    let body = serde_json::json!({
        "error": reason,
        "statusCode": status.as_u16(),
        "message": message,
    });
    unsniffed(full(status, JSON, body.to_string()))
}

fn unsniffed(mut response: Response<Body>) -> Response<Body> {
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

pub(crate) fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_many_headers_is_not_kept() {
        let emptied = |count: usize| {
            let mut headers = HeaderMap::new();
            for number in 0..count {
                let name = format!("x-{number}");
                headers.insert(HeaderName::try_from(name).expect("a name"), HeaderValue::from(1));
            }
            let headers = emptied(headers);
            (headers.len(), headers.capacity())
        };
        let (left, room) = emptied(20);
        assert_eq!(left, 0);
        assert!(room >= 20);
        assert_eq!(emptied(100), (0, 0));
    }
}
