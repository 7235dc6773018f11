//! One request, and the part of its handler.

use engine::Handle;

use super::{Response, Seen, Server, answer};

/// The answer to one request on a socket of its own.
pub(crate) async fn say(server: &Server, request: impl AsRef<[u8]>) -> Response {
    let mut raw = server.raw().await;
    raw.write(request).await;
    raw.response().await
}

/// Waits for the request with this target; returns its handle.
pub(crate) async fn asked(server: &Server, target: &str) -> Handle {
    server
        .until(target, |seen| {
            seen.iter().find_map(|one| match one {
                Seen::Request(handle, asked) if asked == target => Some(*handle),
                _ => None,
            })
        })
        .await
}

/// Answers a request that a handler has left.
pub(crate) fn respond(server: &Server, handle: Handle, body: &str) {
    let answer = answer(200, body).expect("an answer");
    server.with(|engine| engine.publisher().answer(handle, answer));
}
