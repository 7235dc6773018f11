//! Publishes on their way from the handlers' thread to the backplane's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use super::status::count;
use crate::message::Kind;
use crate::outgoing::Source;

/// Publishes that wait to be numbered, in bytes of their messages. The thread that takes them waits
/// for nothing, so that only a machine without any time to spare comes here.
const MAX_WAITING_BYTES: u64 = 64 * 1024 * 1024;

/// One publish; its message is a range of its batch's arena.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) path: Arc<str>,
    pub(crate) exclude: Option<u128>,
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) delivered: Vec<String>,
}

/// Publishes of one commit.
#[derive(Debug, Default)]
pub(crate) struct PublishBatch {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) arena: Bytes,
}

/// What the backplane's thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    Publish(PublishBatch),
    /// Count the connections on a path, of all nodes.
    Count {
        id: u64,
        path: String,
    },
    /// Send what waits, say goodbye and end.
    Finish,
    /// End at once.
    Stop,
}

/// The queue to the backplane's thread.
#[derive(Default)]
pub(crate) struct Orders {
    waiting: Mutex<VecDeque<Order>>,
    bytes: AtomicU64,
    /// Publishes that found no room.
    refused: AtomicU64,
    bell: Notify,
}

impl Orders {
    pub(crate) fn push(&self, order: Order) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(order);
        self.bell.notify_one();
    }

    /// How many publishes have found no room since the last time.
    pub(crate) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// Waits until there is something and takes all of it.
    pub(crate) async fn take(&self) -> VecDeque<Order> {
        loop {
            let orders =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !orders.is_empty() {
                self.bytes.store(0, Ordering::Relaxed);
                return orders;
            }
            self.bell.notified().await;
        }
    }
}

/// The handlers' thread's side: gathers the publishes of one commit.
pub(crate) struct Publishes {
    orders: Arc<Orders>,
    gathered: Vec<Publish>,
    arena: BytesMut,
}

impl Publishes {
    pub(crate) fn new(orders: Arc<Orders>) -> Self {
        Self { orders, gathered: Vec::new(), arena: BytesMut::new() }
    }

    /// Copies a message to be published, and lends the copy: reading a message from JavaScript once
    /// more is dearer than copying it once more.
    pub(crate) fn add(
        &mut self,
        path: Arc<str>,
        message: &impl Source,
        exclude: Option<u128>,
        delivered: Vec<String>,
    ) -> Copied<'_> {
        let start = self.arena.len();
        // One more than the message: a JavaScript string is written with a zero behind it.
        self.arena.reserve(message.length() + 1);
        message.append(&mut self.arena);
        let (kind, end) = (message.kind(), self.arena.len());
        self.gathered.push(Publish { path, exclude, kind, start, end, delivered });
        Copied { kind, bytes: &self.arena[start..end], frame: message.frame() }
    }

    /// Bytes that are not committed.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Hands everything to the backplane's thread.
    pub(crate) fn commit(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let publishes = std::mem::take(&mut self.gathered);
        let arena = self.arena.split().freeze();
        let waiting = self.orders.bytes.fetch_add(arena.len() as u64, Ordering::Relaxed);
        if waiting > MAX_WAITING_BYTES {
            count(&self.orders.refused, publishes.len() as u64);
            return;
        }
        self.orders.push(Order::Publish(PublishBatch { publishes, arena }));
    }
}

/// A message whose bytes are in memory already.
pub(crate) struct Copied<'a> {
    kind: Kind,
    bytes: &'a [u8],
    frame: Option<Bytes>,
}

impl Source for Copied<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn append(&self, out: &mut BytesMut) {
        out.put_slice(self.bytes);
    }

    fn frame(&self) -> Option<Bytes> {
        self.frame.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_bounded_and_the_rest_is_counted() {
        let orders = Arc::new(Orders::default());
        let mut publishes = Publishes::new(Arc::clone(&orders));
        let message = vec![0; 1024 * 1024];
        for _ in 0..80 {
            publishes.add("/p".into(), &&message[..], None, Vec::new());
            publishes.commit();
        }
        let waiting = orders.waiting.lock().unwrap().len();
        assert!((64..70).contains(&waiting), "{waiting}");
        assert_eq!(waiting as u64 + orders.take_refused(), 80);
        assert_eq!(orders.take_refused(), 0, "said once");
    }
}
