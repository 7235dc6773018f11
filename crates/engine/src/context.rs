//! What the connections and requests of one shard share: the events being gathered, the buffers,
//! the memory meter and the list of connections that have something to write.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::codec::Data;
use crate::config::{self, Config};
use crate::deflate::{Deflater, Inflater};
use crate::event::{Event, EventBatch, LogLevel, Payload};
use crate::event_queue::EventQueue;
use crate::message::Kind;
use crate::shared::Shared;
use crate::slots::Handle;
use crate::tasks::Tasks;

/// Bytes read from a socket at once. One buffer a shard, so its size costs no connection anything.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Events gathered before they are published without waiting for quiet sockets, if they do not fill
/// a batch with bytes before.
const GATHER_EVENTS: usize = 64;
/// How long a gathered event waits at most while the shard is busy.
const GATHER_TIME: Duration = Duration::from_micros(100);
/// The same where only opens and closes are gathered. Where many come and go, to wake the handlers'
/// thread for a few of them at a time costs a noticeable part of it all.
const GATHER_TIME_CALM: Duration = Duration::from_millis(1);
/// How far a shard's own count may run ahead of the shared one, in bytes.
const METER_STEP: isize = 64 * 1024;

/// A shard's share of [`Shared::buffered`], brought up to date in steps.
#[derive(Default)]
struct Meter {
    unsaid: Cell<isize>,
    /// Of those, what is in outboxes.
    outboxes: Cell<isize>,
    /// Of those, what belongs to messages that are not finished.
    unfinished: Cell<isize>,
}

/// How far the ending of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Taking requests.
    Serving,
    /// Answering what is in flight, nothing new.
    Draining,
    /// The time for draining is over.
    Ending,
}

/// Generic over the connection only because that is defined further up.
pub(crate) struct Context<Connection> {
    pub(crate) shared: Arc<Shared>,
    /// Which shard this is.
    pub(crate) shard: usize,
    /// For its tasks to watch.
    pub(crate) stage: watch::Sender<Stage>,
    /// The close code and reason of a shutdown, for a connection that is opening meanwhile.
    pub(crate) farewell: OnceCell<(u16, Box<str>)>,
    pub(crate) queue: Arc<EventQueue>,
    /// For what may be late by a sweep.
    pub(crate) clock: Arc<Clock>,
    batch: RefCell<EventBatch>,
    /// When the first event since they were published was gathered.
    first: Cell<Option<Instant>>,
    /// One of them is more than an open or a close.
    urgent: Cell<bool>,
    /// How many there were at the last look at the sockets.
    seen: Cell<usize>,
    /// Tells that events were published: their handlers may begin. Not while the shard is lent.
    pub(crate) published: Notify,
    /// The thread that runs the handlers drives the shard.
    pub(crate) is_lent: Cell<bool>,
    /// A broadcast has filled outboxes since they were last written.
    pub(crate) fanned_out: Cell<bool>,
    meter: Meter,
    /// A connection has stopped reading because the process held too much.
    pub(crate) starved: Cell<bool>,
    /// For writing many small frames at once.
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(crate) read_buffer: RefCell<Box<[u8]>>,
    /// For connections that agreed on compression.
    pub(crate) deflater: RefCell<Deflater>,
    pub(crate) inflater: RefCell<Inflater>,
    /// Connections with something new in their outbox, each once.
    pub(crate) dirty: RefCell<VecDeque<Rc<Connection>>>,
    turn: OnceCell<Box<dyn Fn()>>,
    pub(crate) tasks: Tasks,
}

impl<Connection> Context<Connection> {
    pub(crate) fn new(shard: usize, shared: Arc<Shared>, queue: Arc<EventQueue>) -> Self {
        Self {
            shard,
            stage: watch::Sender::new(Stage::Serving),
            farewell: OnceCell::new(),
            shared,
            queue,
            clock: Arc::new(Clock::new()),
            batch: RefCell::default(),
            first: Cell::new(None),
            urgent: Cell::new(false),
            seen: Cell::new(0),
            published: Notify::new(),
            is_lent: Cell::new(false),
            fanned_out: Cell::new(false),
            meter: Meter::default(),
            starved: Cell::new(false),
            scratch: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
            deflater: RefCell::default(),
            inflater: RefCell::default(),
            dirty: RefCell::default(),
            turn: OnceCell::new(),
            tasks: Tasks::default(),
        }
    }

    /// Whether nothing new is begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// What [`Self::turn`] calls: the shard's own work.
    pub(crate) fn set_turn(&self, turn: Box<dyn Fn()>) {
        let _ = self.turn.set(turn);
    }

    /// Ends a task's turn. A busy shard never parks, so its commands are noticed here.
    pub(crate) fn turn(&self) {
        if let Some(turn) = self.turn.get() {
            turn();
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn event(&self, event: Event) {
        let mut batch = self.batch.borrow_mut();
        let urgent = !matches!(event, Event::Open(_) | Event::Close { .. });
        batch.push(event);
        self.gathered(&mut batch, urgent);
    }

    pub(crate) fn message(&self, handle: Handle, kind: Kind, ascii: bool, data: Data<'_>) {
        let mut batch = self.batch.borrow_mut();
        let payload = match data {
            Data::Borrowed(bytes) => batch.store(kind, bytes),
            Data::Owned(bytes) => Payload::Owned(bytes),
        };
        batch.push(Event::Message { handle, kind, ascii, payload });
        self.gathered(&mut batch, true);
    }

    fn gathered(&self, batch: &mut EventBatch, urgent: bool) {
        if batch.events.len() >= GATHER_EVENTS || batch.is_full() {
            return self.hand_over(batch);
        }
        if self.first.get().is_none() {
            self.first.set(Some(Instant::now()));
        }
        if urgent {
            self.urgent.set(true);
        }
    }

    /// After a look at the sockets: publishes what is gathered if they had no more; true if another look
    /// is due. To wake the handlers' thread costs both threads system calls and a switch, and another
    /// look at the sockets one system call. Opens and closes alone wait until the shard has no task to
    /// run, or [`GATHER_TIME_CALM`].
    pub(crate) fn publish_when_quiet(&self) -> bool {
        if !self.urgent.get() {
            self.seen.set(0);
            return false;
        }
        let gathered = self.batch.borrow().events.len();
        if self.seen.replace(gathered) != gathered {
            return true;
        }
        self.publish();
        false
    }

    /// Gives the tasks that are woken a turn. One that panics ends.
    pub(crate) fn run_tasks(&self) {
        if self.contain(None, || self.tasks.run()).is_none() {
            self.tasks.wake();
        }
    }

    /// Publishes what is gathered if it has waited long enough.
    pub(crate) fn publish_if_due(&self) {
        let patience = if self.urgent.get() { GATHER_TIME } else { GATHER_TIME_CALM };
        if self.first.get().is_some_and(|first| first.elapsed() >= patience) {
            self.publish();
        }
    }

    /// Publishes what is gathered.
    pub(crate) fn publish(&self) {
        if self.first.get().is_some() {
            self.hand_over(&mut self.batch.borrow_mut());
        }
    }

    fn hand_over(&self, batch: &mut EventBatch) {
        self.first.set(None);
        self.urgent.set(false);
        self.seen.set(0);
        batch.shard = Some(self.shard);
        self.queue.push(batch);
        if !self.is_lent.get() {
            self.published.notify_one();
        }
    }

    /// Runs `job`, which works for the connection `handle` if for one. A panic in it goes no further:
    /// it is counted and logged, and there is no result.
    pub(crate) fn contain<T>(&self, handle: Option<Handle>, job: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(job));
        if done.is_err() {
            self.shared.counters.panics.fetch_add(1, Ordering::Relaxed);
            let subject = if handle.is_some() { "" } else { "something " };
            let message = format!("{subject}failed inside the engine; standard error says where");
            self.queue.log(LogLevel::Error, handle, message);
        }
        done.ok()
    }

    pub(crate) fn log(&self, level: LogLevel, message: String) {
        if level == LogLevel::Debug && self.config().log_level > config::LogLevel::Debug {
            // Nobody reads it, and there is room for so many lines only.
            return;
        }
        self.queue.log(level, None, message);
    }

    /// Counts `bytes` more in queues or bodies, fewer if negative.
    pub(crate) fn meter(&self, bytes: isize) {
        let unsaid = self.meter.unsaid.get() + bytes;
        self.meter.unsaid.set(unsaid);
        if unsaid.abs() >= METER_STEP {
            self.say_meter();
        }
    }

    /// Counts `bytes` more in outboxes, fewer if negative.
    pub(crate) fn meter_outbox(&self, bytes: isize) {
        self.meter.outboxes.set(self.meter.outboxes.get() + bytes);
        self.meter(bytes);
    }

    /// Counts `bytes` more of messages that are not finished, fewer if negative.
    pub(crate) fn meter_unfinished(&self, bytes: isize) {
        self.meter.unfinished.set(self.meter.unfinished.get() + bytes);
        self.meter(bytes);
    }

    /// Brings the shared counts up to date.
    pub(crate) fn say_meter(&self) {
        let Meter { unsaid, outboxes, unfinished } = &self.meter;
        for (share, all) in [
            (unsaid, &self.shared.buffered),
            (outboxes, &self.shared.outboxes),
            (unfinished, &self.shared.unfinished),
        ] {
            let bytes = share.take();
            if bytes != 0 {
                all.add(bytes);
            }
        }
    }
}

impl<Connection> Drop for Context<Connection> {
    fn drop(&mut self) {
        self.say_meter();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_TAKEN_BYTES;

    fn context() -> Context<()> {
        let queue = Arc::new(EventQueue::new(Box::new(|| {})));
        Context::new(0, Arc::new(Shared::new(Config::default(), 1)), queue)
    }

    /// How many events are published and not taken.
    fn published(context: &Context<()>) -> usize {
        let mut taken = Vec::new();
        context.queue.take(&mut taken);
        taken.iter().map(|batch| batch.events.len()).sum()
    }

    #[test]
    fn what_nobody_reads_takes_no_place_among_the_log_lines() {
        for (log_level, lines) in [(config::LogLevel::Info, 1), (config::LogLevel::Debug, 2)] {
            let queue = Arc::new(EventQueue::new(Box::new(|| {})));
            let config = Config { log_level, ..Config::default() };
            let context: Context<()> = Context::new(0, Arc::new(Shared::new(config, 1)), queue);
            context.log(LogLevel::Debug, "a client hung up".into());
            context.log(LogLevel::Warning, "something was dropped".into());
            assert_eq!(published(&context), lines);
        }
    }

    #[test]
    fn opens_and_closes_alone_can_wait() {
        let context = context();
        let handle = Handle::from_number(0);
        let close = || Event::Close { handle, code: 1000, reason: Box::default() };
        let begun = Instant::now();
        context.event(close());
        std::thread::sleep(GATHER_TIME);
        context.publish_if_due();
        let early = published(&context);
        if begun.elapsed() < GATHER_TIME_CALM {
            assert_eq!(early, 0);
        }
        std::thread::sleep(GATHER_TIME_CALM);
        context.publish_if_due();
        assert_eq!(early + published(&context), 1);
        let begun = Instant::now();
        context.event(close());
        context.message(handle, Kind::Text, true, Data::Borrowed(b"hello"));
        context.event(close());
        context.publish_if_due();
        let early = published(&context);
        if begun.elapsed() < GATHER_TIME {
            assert_eq!(early, 0);
        }
        std::thread::sleep(GATHER_TIME);
        context.publish_if_due();
        assert_eq!(early + published(&context), 3, "a message does not wait as long");
    }

    #[test]
    fn a_batch_full_of_events_or_bytes_is_published_at_once() {
        let context = context();
        let handle = Handle::from_number(0);
        let taken = || published(&context);
        for _ in 1..GATHER_EVENTS {
            context.event(Event::Drained { handle });
        }
        assert_eq!(taken(), 0);
        context.event(Event::Drained { handle });
        assert_eq!(taken(), GATHER_EVENTS);
        let half = vec![0; MAX_TAKEN_BYTES / 2];
        context.message(handle, Kind::Binary, false, Data::Borrowed(&half));
        assert_eq!(taken(), 0);
        context.message(handle, Kind::Binary, false, Data::Owned(half));
        assert_eq!(taken(), 2);
        assert_eq!(context.first.get(), None, "nothing is left to publish");
    }
}
