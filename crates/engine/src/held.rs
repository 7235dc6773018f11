//! Answers on their way out, counted under `TINA4_MAX_BUFFERED` until the kernel has them.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::shared::Shared;
use crate::static_files::Body;

/// An answer smaller than this is not counted, in bytes: it is no more than a socket itself costs.
const COUNTED_FROM: usize = 1024;
/// What a file holds while it is written: one piece of it, in bytes.
const FILE_PIECE: u64 = 64 * 1024;

/// Bytes in the count for as long as this lives. Not in a shard's own share of it, because hyper
/// wants bodies that can be sent.
struct Count {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Count {
    /// `None` if that would be more than the process may hold.
    fn take(shared: &Arc<Shared>, bytes: usize) -> Option<Self> {
        if shared.buffered.get().saturating_add(bytes) > shared.config.max_buffered {
            return None;
        }
        shared.buffered.add(bytes as isize);
        Some(Self { shared: Arc::clone(shared), bytes })
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.shared.buffered.add(-(self.bytes as isize));
    }
}

/// Bytes that are counted until the last piece of them is dropped, wherever hyper keeps it.
struct Counted {
    bytes: Bytes,
    _count: Count,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer at hand, counted; `None` if there is no room for it.
pub(crate) fn bytes(shared: &Arc<Shared>, bytes: Bytes) -> Option<Bytes> {
    if bytes.len() < COUNTED_FROM {
        return Some(bytes);
    }
    let count = Count::take(shared, bytes.len())?;
    Some(Bytes::from_owner(Counted { bytes, _count: count }))
}

/// A file, of which one piece is counted; `None` if there is no room for that.
pub(crate) fn file(shared: &Arc<Shared>, body: Body) -> Option<Body> {
    let length = body.size_hint().exact().unwrap_or(FILE_PIECE);
    if length == 0 {
        return Some(body);
    }
    let count = Count::take(shared, length.min(FILE_PIECE) as usize)?;
    Some(along(body, count))
}

/// A body that takes something along, to be dropped with it.
pub(crate) fn along(body: Body, taken: impl Send + 'static) -> Body {
    let body = body.map_frame(move |frame| {
        let _ = &taken;
        frame
    });
    body.boxed_unsync()
}
