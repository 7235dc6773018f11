//! Request bodies: read whole, within the limits of size, time and memory.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::context::Context;

/// Reads a body to its end.
pub(crate) async fn read(
    body: &mut Incoming,
    context: &Context<Connection>,
) -> Result<Bytes, BodyError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    Box::pin(read_all(body, context)).await
}

async fn read_all(body: &mut Incoming, context: &Context<Connection>) -> Result<Bytes, BodyError> {
    let limit = context.config().max_upload_size;
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(BodyError::TOO_LARGE);
    }
    let mut held = HeldBody::new(context, 0);
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    // A client that stops is given up sooner than one that is slow.
    let patience = context.config().keep_alive_timeout;
    let deadline = Instant::now() + context.config().body_timeout;
    loop {
        let until = deadline.min(Instant::now() + patience);
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Err(_) => return Err(BodyError::TOO_SLOW),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(BodyError::BROKEN),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if held.bytes + data.len() > limit {
            return Err(BodyError::TOO_LARGE);
        }
        held.add(data.len());
        // Others may have begun when there was room for all of them.
        if context.shared.is_over() {
            return Err(BodyError::NO_MEMORY);
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            earlier => {
                all.extend_from_slice(&earlier.unwrap_or_default());
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// Why a body was not read.
pub(crate) struct BodyError {
    pub(crate) status: StatusCode,
    pub(crate) message: &'static str,
}

impl BodyError {
    const TOO_LARGE: Self =
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, message: "the body is over the size limit" };
    const NO_MEMORY: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "the server is out of buffer memory",
    };
    const TOO_SLOW: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, message: "the body arrives too slowly" };
    const BROKEN: Self =
        Self { status: StatusCode::BAD_REQUEST, message: "the body could not be read" };
}

/// A body counted by the meter for as long as it is held.
pub(crate) struct HeldBody<'a> {
    context: &'a Context<Connection>,
    bytes: usize,
}

impl<'a> HeldBody<'a> {
    pub(crate) fn new(context: &'a Context<Connection>, bytes: usize) -> Self {
        context.meter(bytes as isize);
        Self { context, bytes }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.context.meter(bytes as isize);
    }
}

impl Drop for HeldBody<'_> {
    fn drop(&mut self) {
        self.context.meter(-(self.bytes as isize));
    }
}
