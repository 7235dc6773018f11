//! The sockets of a shard that carry requests, and how long each may take for what it does.
//!
//! hyper's own timers cost each request several times what a sweep over all sockets costs in a
//! second; and it has none for a client that takes nothing of what it is sent.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{Clock, Moment, Since};
use crate::config::Config;
use crate::slots::{Handle, Slots};

/// How long a client that was answered early may go on sending before the socket is closed: as long as
/// other servers let it.
const LINGER: Duration = Duration::from_secs(5);

/// How long a client that has ended its side of the socket is taken for one that waits for its answer.
/// Few do that, and one that has hung up looks the same; its request has its place until then.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// What a wire, the requests that come over it and the sweep tell each other. Atomic because hyper
/// wants a stream that can be sent; all of it stays on one thread.
#[derive(Debug)]
pub(crate) struct Traffic {
    clock: Arc<Clock>,
    /// A head was ever here.
    asked: AtomicBool,
    /// A head has arrived, and its request is not answered yet.
    serving: AtomicBool,
    /// A head is arriving. So it is from the beginning, which bounds silence too.
    head: Since,
    /// Something waits for room in the socket.
    send: Since,
    /// Between two requests: from the last bytes of an answer to the end of the next head.
    rest: Since,
    /// The sweep has found that the next head comes too late.
    head_late: AtomicBool,
    /// The sweep has found that the client takes nothing.
    send_late: AtomicBool,
    /// The socket is full: something waits to be written.
    full: AtomicBool,
    /// An answer that is read as it is written is not at its end.
    streaming: AtomicBool,
    /// The client has ended its side, which hyper is told when the answer is written.
    keeps_end: AtomicBool,
    /// The client has ended its side, and its answer is not there or not written.
    ended: Since,
    /// The sweep has found that it has waited long enough.
    hung_up: AtomicBool,
    /// The body of the last request may not have been read to its end.
    unread: AtomicBool,
    /// The answer is written, and what the client still sends is thrown away.
    lingering: Since,
    /// The sweep has found that it has sent long enough.
    linger_over: AtomicBool,
    flushed: Notify,
    task: OnceLock<Waker>,
}

impl Traffic {
    fn new(clock: Arc<Clock>) -> Self {
        let head = Since::default();
        head.begin(clock.now());
        Self {
            clock,
            asked: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            head,
            send: Since::default(),
            rest: Since::default(),
            head_late: AtomicBool::new(false),
            send_late: AtomicBool::new(false),
            full: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            keeps_end: AtomicBool::new(false),
            ended: Since::default(),
            hung_up: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            lingering: Since::default(),
            linger_over: AtomicBool::new(false),
            flushed: Notify::new(),
            task: OnceLock::new(),
        }
    }

    /// The socket's task says how it is woken. Of several wakers the first one counts: a task has one.
    pub(crate) fn set_task(&self, waker: &Waker) {
        if self.task.get().is_none() {
            let _ = self.task.set(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.task.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether any request came.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// A request is about to be answered.
    pub(crate) fn begin(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.serving.store(true, Ordering::Relaxed);
        self.head.end();
        self.rest.end();
        // It came at the last moment, and what comes behind it has its own time.
        self.head_late.store(false, Ordering::Relaxed);
    }

    /// The wire has read the end: whether it is kept from hyper, which would throw away the request, or
    /// what is left of its answer.
    pub(crate) fn came_to_end(&self) -> bool {
        if self.serving.load(Ordering::Relaxed) {
            self.ended.begin(self.clock.now());
        }
        if self.awaits_answer() {
            return true;
        }
        let keeps = self.full.load(Ordering::Relaxed) || self.streaming.load(Ordering::Relaxed);
        self.keeps_end.store(keeps, Ordering::Relaxed);
        keeps
    }

    /// Some of what kept the end from hyper is over: it is to read again.
    fn give_end(&self) {
        if self.keeps_end.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// An answer begins that is read as it is written, until what is returned is dropped.
    pub(crate) fn stream(self: &Arc<Self>) -> Streaming {
        self.streaming.store(true, Ordering::Relaxed);
        Streaming(Arc::clone(self))
    }

    /// Whether the client has ended its side and waits for an answer, which will be the last.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.ended.get().is_some() && !self.hung_up.load(Ordering::Relaxed)
    }

    /// Its answer is there, and some of its body may be `unread`.
    pub(crate) fn end(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
        self.rest.set(self.clock.now());
        self.serving.store(false, Ordering::Relaxed);
    }

    /// Waits until all that was answered is on its way. hyper reads the next request of a client
    /// that takes no answers, and would gather them without end.
    pub(crate) async fn flushed(&self) {
        while self.full.load(Ordering::Relaxed) {
            self.flushed.notified().await;
        }
    }

    /// The wire has written all that hyper had.
    pub(crate) fn flush(&self) {
        if self.full.swap(false, Ordering::Relaxed) {
            self.flushed.notify_one();
            self.give_end();
        }
    }

    /// The wire has read `bytes`.
    pub(crate) fn came(&self, bytes: usize) {
        if bytes > 0 && !self.serving.load(Ordering::Relaxed) {
            self.head.begin(self.clock.now());
        }
    }

    /// The wire has written something.
    pub(crate) fn went(&self) {
        self.send.end();
        self.send_late.store(false, Ordering::Relaxed);
        if self.rest.get().is_some() {
            self.rest.set(self.clock.now());
        }
    }

    /// The socket took nothing.
    pub(crate) fn filled(&self) {
        self.full.store(true, Ordering::Relaxed);
        self.send.begin(self.clock.now());
    }

    /// The socket is to be closed: whether what the client still sends must be read before. Closed
    /// with something unread, the system would reset it, and take the answer back from the client.
    pub(crate) fn lingers(&self) -> bool {
        let lingers = self.unread.load(Ordering::Relaxed);
        if lingers {
            self.lingering.begin(self.clock.now());
        }
        lingers && !self.linger_over.load(Ordering::Relaxed)
    }

    /// Whether reading must end.
    pub(crate) fn is_head_late(&self) -> bool {
        self.head_late.load(Ordering::Relaxed)
    }

    /// Whether writing must end.
    pub(crate) fn is_send_late(&self) -> bool {
        self.send_late.load(Ordering::Relaxed)
    }

    /// Tells the socket's task if something takes too long.
    fn check(&self, now: Moment, config: &Config) {
        let over =
            |since: &Since, limit| since.get().is_some_and(|since| now.since(since) >= limit);
        let late = if self.lingering.get().is_some() {
            over(&self.lingering, LINGER).then_some(&self.linger_over)
        } else if self.send.get().is_some() {
            over(&self.send, config.send_timeout).then_some(&self.send_late)
        } else if self.serving.load(Ordering::Relaxed) {
            over(&self.ended, HALF_CLOSED).then_some(&self.hung_up)
        } else {
            let late = over(&self.head, config.header_timeout)
                || over(&self.rest, config.keep_alive_timeout);
            late.then_some(&self.head_late)
        };
        if let Some(late) = late {
            late.store(true, Ordering::Relaxed);
            self.wake();
        }
    }
}

/// Lives as long as the body of an answer.
pub(crate) struct Streaming(Arc<Traffic>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streaming.store(false, Ordering::Relaxed);
        self.0.give_end();
    }
}

/// The sockets of one shard.
pub(crate) struct Traffics {
    clock: Arc<Clock>,
    sockets: RefCell<Slots<Arc<Traffic>>>,
}

/// A place among the sockets, given up when it is dropped.
pub(crate) struct Listed<'a> {
    traffics: &'a Traffics,
    handle: Handle,
    pub(crate) traffic: Arc<Traffic>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.traffics.sockets.borrow_mut().remove(self.handle);
    }
}

impl Traffics {
    pub(crate) fn new(shard: usize, clock: Arc<Clock>) -> Self {
        Self { clock, sockets: RefCell::new(Slots::new(shard)) }
    }

    /// `None` if there is no place left.
    pub(crate) fn add(&self) -> Option<Listed<'_>> {
        let traffic = Arc::new(Traffic::new(Arc::clone(&self.clock)));
        let handle = self.sockets.borrow_mut().insert_with(|_| Arc::clone(&traffic))?;
        Some(Listed { traffics: self, handle, traffic })
    }

    /// Looks at the times of all.
    pub(crate) fn sweep(&self, config: &Config) {
        let now = self.clock.now();
        for traffic in self.sockets.borrow().values() {
            traffic.check(now, config);
        }
    }

    /// Wakes the task of each: the stage has changed.
    pub(crate) fn wake_all(&self) {
        for traffic in self.sockets.borrow().values() {
            traffic.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_arrives_after_all_leaves_nothing_behind_for_the_next_one() {
        let clock = Arc::new(Clock::new());
        let traffic = Traffic::new(Arc::clone(&clock));
        let config = Config { header_timeout: Duration::ZERO, ..Config::default() };
        traffic.check(clock.now(), &config);
        assert!(traffic.is_head_late());
        traffic.begin();
        traffic.check(clock.now(), &config);
        assert!(!traffic.is_head_late(), "its handler may take as long as it does");
        traffic.end(false);
        traffic.check(clock.now(), &config);
        assert!(!traffic.is_head_late(), "silence has another limit");
    }
}
