//! Commands: what the thread that runs the handlers tells a shard, and the queue between them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use crate::deflate::Deflated;
use crate::shared::Load;
use crate::slots::Handle;
use crate::topics::Topic;

/// Where a broadcast was made, and whom it leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Here.
    Local(Option<Handle>),
    /// On another node, which knows our connections by their ids only.
    Remote(Option<u128>),
}

impl Origin {
    /// Counts bytes on their way to a shard's members. Those of another node are not counted: the
    /// count is kept for the handlers' thread, and only that one knows whether the shard will find
    /// the topic.
    pub(crate) fn depart(self, topic: &Topic, shard: usize, bytes: usize) {
        if let Origin::Local(_) = self {
            topic.add_in_flight(shard, bytes);
        }
    }

    /// They have reached the members' outboxes.
    pub(crate) fn arrive(self, topic: &Topic, shard: usize, bytes: usize) {
        if let Origin::Local(_) = self {
            topic.landed(shard, bytes);
        }
    }
}

/// One thing for a shard to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write a range of the batch's arena to one connection.
    Send { handle: Handle, start: u32, end: u32, frames: u32 },
    /// Write a frame too large to be worth a copy, or to be compressed, to one connection.
    SendAlone { handle: Handle, frame: Bytes, compress: bool },
    /// Write a range of the batch's arena to everyone on a topic.
    Broadcast { topic: u64, origin: Origin, start: u32, end: u32, frames: u32 },
    /// Write a frame too large to be worth a copy, or to be compressed, to everyone on a topic.
    BroadcastAlone { topic: u64, origin: Origin, frame: Bytes, deflated: Option<Arc<Deflated>> },
    /// Write a frame to everyone on any topic.
    ToAll { exclude: Option<u128>, frame: Bytes },
    /// The connection's `open` is dispatched: it joins its path.
    Join { handle: Handle, topic: Arc<Topic> },
    /// Its `close` is dispatched: it leaves its path.
    Leave { handle: Handle },
    /// Nothing refers to the connection any more: free its slot.
    Release { handle: Handle },
    /// Begin the closing handshake.
    Close { handle: Handle, code: u16, reason: Box<str> },
    /// Tell when everything queued so far is written.
    Drain { handle: Handle },
    /// Answer an HTTP request with header lines and a body that follow each other in the batch's
    /// arena.
    Respond { handle: Handle, status: u16, start: u32, middle: u32, end: u32 },
    /// Answer an HTTP request with what is too large for the arena, or a file.
    RespondAlone { handle: Handle, answer: Box<Answer> },
    /// A socket that the acceptor gives to this shard.
    Adopt { socket: std::net::TcpStream, peer: std::net::SocketAddr, load: Load },
    /// Finish what is in flight and close every connection with `code`.
    Shutdown { code: u16, reason: Box<str> },
    /// End the thread; whatever is still open is dropped.
    Terminate,
}

impl Command {
    /// Whether any thread may carry it out that has the shard's lease: it only writes. The rest starts,
    /// ends or wakes something, or compresses, all of which costs more on another thread than a wake.
    pub(crate) fn is_light(&self) -> bool {
        matches!(
            self,
            Command::Send { .. }
                | Command::SendAlone { compress: false, .. }
                | Command::Broadcast { .. }
                | Command::BroadcastAlone { deflated: None, .. }
        )
    }
}

/// What a handler answers an HTTP request with.
#[derive(Debug)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Lines `name:value` in order; one that HTTP does not allow is dropped and logged.
    pub headers: Bytes,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an [`Answer`].
#[derive(Debug)]
pub enum AnswerBody {
    /// These bytes.
    Bytes(Bytes),
    /// A file below the app's folder, by its path.
    File(PathBuf),
}

/// Some of a connection's messages have been handed to its handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) handle: Handle,
    pub(crate) messages: usize,
    /// All of them together.
    pub(crate) bytes: usize,
}

/// Commands in order, the frames they write in one arena, and acknowledgements.
#[derive(Debug, Default)]
pub(crate) struct CommandBatch {
    pub(crate) commands: Vec<Command>,
    pub(crate) arena: Bytes,
    pub(crate) acks: Vec<Ack>,
    /// Bytes of frames, in the arena and outside it.
    pub(crate) bytes: usize,
}

impl CommandBatch {
    pub(crate) fn one(command: Command) -> Self {
        Self { commands: vec![command], ..Self::default() }
    }
}

/// The queue to one shard. A push wakes the shard only if it is parked.
#[derive(Default)]
pub(crate) struct CommandQueue {
    batches: Mutex<Vec<CommandBatch>>,
    pending: AtomicBool,
    parked: AtomicBool,
    waker: OnceLock<Waker>,
}

impl CommandQueue {
    /// The shard says once how it is woken.
    pub(crate) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    pub(crate) fn push(&self, batch: CommandBatch) {
        // Nothing panics while holding it.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        // Sequential consistency pairs this store and load with those in `park`: either the shard
        // sees the batch before it sleeps, or it is seen parked here.
        self.pending.store(true, Ordering::SeqCst);
        if self.parked.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    /// Wakes the shard if it is parked.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether a batch waits. One load, for a shard that is busy.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// The shard is about to sleep; false if it must not.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        if self.pending.load(Ordering::SeqCst) {
            self.parked.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// The shard is awake.
    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Swaps everything that waits into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<CommandBatch>) {
        if self.pending.swap(false, Ordering::SeqCst) {
            let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *batches, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_a_parked_shard_is_woken_and_once() {
        let wakes = Arc::new(Counter::default());
        let queue = CommandQueue::default();
        queue.set_waker(Waker::from(Arc::clone(&wakes)));
        queue.push(CommandBatch::default());
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "busy");
        assert!(!queue.park(), "a batch waits");
        let mut taken = Vec::new();
        queue.take(&mut taken);
        assert_eq!(taken.len(), 1);
        assert!(queue.park());
        queue.push(CommandBatch::default());
        queue.push(CommandBatch::default());
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    }
}
