//! The queue from the shards to the thread that runs the handlers, and its doorbell.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Event, EventBatch, LogLevel, MAX_TAKEN_BYTES};
use crate::slots::Handle;

/// Events the engine hands over in one [`EventQueue::take`].
pub const MAX_TAKEN: usize = 512;
/// Log lines that may wait to be handed over; more are counted and dropped.
pub const MAX_WAITING_LOGS: usize = 1_000;
/// Emptied batches kept for reuse.
const MAX_SPARE: usize = 16;
/// A batch whose buffer grew past this is not kept, in bytes.
const MAX_SPARE_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Queued {
    batches: VecDeque<EventBatch>,
    spare: Vec<EventBatch>,
    logs: usize,
    logs_dropped: usize,
}

/// The queue from all shards to the one thread that runs the handlers.
///
/// A push rings the doorbell only if it has not been rung since the taker last said that it found
/// the queue empty, so that a busy taker is never interrupted.
pub struct EventQueue {
    queued: Mutex<Queued>,
    rung: AtomicBool,
    doorbell: Box<dyn Fn() + Send + Sync>,
}

impl EventQueue {
    /// `doorbell` is called from any thread and must not block.
    pub fn new(doorbell: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queued: Mutex::default(), rung: AtomicBool::new(false), doorbell }
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        // Nothing panics while holding it, and the queue is sound after every statement.
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `batch` and leaves an empty one in its place.
    pub(crate) fn push(&self, batch: &mut EventBatch) {
        {
            let mut queued = self.lock();
            let spare = queued.spare.pop().unwrap_or_default();
            queued.batches.push_back(std::mem::replace(batch, spare));
        }
        self.ring();
    }

    /// Appends one event that belongs to no shard's order.
    pub(crate) fn push_one(&self, event: Event) {
        self.lock().batches.push_back(event.into());
        self.ring();
    }

    /// Appends a log line, or counts it as dropped when too many wait.
    pub(crate) fn log(&self, level: LogLevel, handle: Option<Handle>, message: String) {
        {
            let mut queued = self.lock();
            if queued.logs >= MAX_WAITING_LOGS {
                queued.logs_dropped += 1;
                return;
            }
            queued.logs += 1;
        }
        self.push_one(Event::Log { level, handle, message });
    }

    /// Whether events wait.
    pub fn is_empty(&self) -> bool {
        self.lock().batches.is_empty()
    }

    /// Whether the taker is, or will be, in a turn.
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// The taker is in a turn, or about to be: nobody rings.
    pub(crate) fn hush(&self) -> bool {
        !self.rung.swap(true, Ordering::AcqRel)
    }

    /// Rings, if that is not done already.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            (self.doorbell)();
        }
    }

    /// Takes whole batches, as many as hold at most [`MAX_TAKEN`] events and [`MAX_TAKEN_BYTES`]
    /// together; one at least, which is published once it is full and so may hold one message more.
    pub fn take(&self, into: &mut Vec<EventBatch>) {
        let mut queued = self.lock();
        // One place is kept for the line about dropped lines.
        let (before, mut events, mut bytes) = (into.len(), 1, 0);
        while let Some(batch) = queued.batches.pop_front() {
            events += batch.events.len();
            bytes += batch.bytes;
            // A shard publishes far fewer events at once than fit, so the first always may.
            if into.len() > before && (events > MAX_TAKEN || bytes > MAX_TAKEN_BYTES) {
                queued.batches.push_front(batch);
                break;
            }
            into.push(batch);
        }
        queued.logs = 0;
        let dropped = std::mem::take(&mut queued.logs_dropped);
        drop(queued);
        if dropped > 0 {
            let message = format!("{dropped} log lines were dropped: too many were waiting");
            into.push(Event::Log { level: LogLevel::Warning, handle: None, message }.into());
        }
    }

    /// Gives emptied batches back for reuse.
    pub fn give_back(&self, batches: &mut Vec<EventBatch>) {
        let mut queued = self.lock();
        for mut batch in batches.drain(..) {
            if queued.spare.len() < MAX_SPARE && batch.buffer.capacity() <= MAX_SPARE_BYTES {
                batch.clear();
                queued.spare.push(batch);
            }
        }
    }

    /// Ends a turn of the taker: true if more events wait, and the taker must come back for them;
    /// otherwise the next push rings again.
    pub fn finish(&self) -> bool {
        let queued = self.lock();
        let more = !queued.batches.is_empty();
        if !more {
            // Under the lock: a push after this sees it and rings.
            self.rung.store(false, Ordering::Release);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::event::Payload;
    use crate::message::Kind;

    fn queue() -> (Arc<AtomicUsize>, EventQueue) {
        let rings = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&rings);
        let doorbell = Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        (rings, EventQueue::new(doorbell))
    }

    #[test]
    fn the_doorbell_rings_once_until_the_queue_was_found_empty() {
        let (rings, queue) = queue();
        queue.push_one(Event::Stopped);
        queue.push_one(Event::Stopped);
        assert_eq!(rings.load(Ordering::SeqCst), 1);
        let mut taken = Vec::new();
        queue.take(&mut taken);
        assert_eq!(taken.len(), 2);
        queue.push_one(Event::Stopped);
        assert_eq!(rings.load(Ordering::SeqCst), 1, "the taker is still busy");
        assert!(queue.finish(), "and is told that more waits");
        queue.take(&mut taken);
        assert!(!queue.finish());
        queue.push_one(Event::Stopped);
        assert_eq!(rings.load(Ordering::SeqCst), 2);
    }

    fn batch(bytes: usize) -> EventBatch {
        let (handle, payload) = (Handle::from_number(0), Payload::Owned(vec![0; bytes]));
        Event::Message { handle, kind: Kind::Binary, ascii: false, payload }.into()
    }

    #[test]
    fn one_take_is_bounded_by_bytes_but_never_empty() {
        let (_, queue) = queue();
        for mut batch in
            [batch(MAX_TAKEN_BYTES + 1), batch(MAX_TAKEN_BYTES - 1), batch(1), batch(1)]
        {
            queue.push(&mut batch);
            assert!(!batch.is_full(), "an empty one is left in its place");
        }
        let sizes = || {
            let mut taken = Vec::new();
            queue.take(&mut taken);
            let sizes: Vec<_> = taken.iter().map(|batch| batch.bytes).collect();
            queue.give_back(&mut taken);
            sizes
        };
        assert_eq!(sizes(), [MAX_TAKEN_BYTES + 1]);
        assert_eq!(sizes(), [MAX_TAKEN_BYTES - 1, 1]);
        assert_eq!(sizes(), [1]);
        assert!(!queue.finish());
        queue.push(&mut batch(1));
        assert_eq!(sizes(), [1], "what is used again counts from nothing");
    }

    #[test]
    fn logs_past_the_limit_are_counted_and_said() {
        let (_, queue) = queue();
        for _ in 0..MAX_WAITING_LOGS + 7 {
            queue.log(LogLevel::Info, None, "line".into());
        }
        let mut taken = Vec::new();
        while queue.finish() {
            queue.take(&mut taken);
        }
        let lines: Vec<_> = taken.iter().flat_map(|batch| &batch.events).collect();
        assert_eq!(lines.len(), MAX_WAITING_LOGS + 1);
        assert!(lines.iter().any(
            |event| matches!(event, Event::Log { message, .. } if message.starts_with("7 log"))
        ));
    }
}
