//! One upgraded socket: reading, writing, keep-alive and the closing handshake (RFC 6455).
//!
//! A connection lives on its shard's thread. Its task reads; commands and the sweep write through
//! it directly, without a hop. It knows no handlers: what happens becomes events. Here is its life;
//! `input` is what the peer sends, `output` what goes to the peer.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};

use crate::close;
use crate::codec::{Decoder, Violation};
use crate::context::Context;
use crate::deflate::Window;
use crate::event::Event;
use crate::keepalive::{ControlRate, Overdue, Phase, Signs};
use crate::message;
use crate::outbox::{Chunk, Gauge, Outbox};
use crate::slots::Handle;
use crate::socket::{FullSink, Socket};

#[cfg(test)]
mod fault_tests;
mod input;
mod output;

/// Reads one connection may do before the others have their turn.
const READS_A_TURN: usize = 4;

pub(crate) struct Connection {
    pub(crate) handle: Handle,
    /// What other nodes know it by.
    pub(crate) id: u128,
    /// Whether binary messages are handed over as they are.
    binary: bool,
    /// For what is compressed for it, if compression was agreed.
    window: Option<Window>,
    gauge: Arc<Gauge>,
    context: Rc<Context<Connection>>,
    dirty: Cell<bool>,
    inner: RefCell<Inner>,
    /// Where the next panic of a test is.
    #[cfg(test)]
    fault: Cell<Option<fault_tests::Fault>>,
}

/// With the two counts of its `Rc` it takes 512 bytes, which allocators have a size for; the next is 640.
const _: () = assert!(size_of::<Connection>() + 2 * size_of::<usize>() <= 512);

struct Inner {
    socket: Option<Socket>,
    decoder: Decoder,
    outbox: Outbox,
    phase: Phase,
    /// The socket took no more; the task waits for room.
    blocked: bool,
    waker: Option<Waker>,
    /// The task has stopped reading.
    paused: bool,
    waiting: Waiting,
    /// Bytes of `send` that have reached this connection, for the gauge.
    received: u64,
    /// What the meter counts of the outbox.
    metered: usize,
    /// What the meter counts of an unfinished message and of the rest.
    assembling: usize,
    signs: Signs,
    control: ControlRate,
    /// Nothing for most connections most of the time.
    rare: Option<Box<Rare>>,
}

/// What a connection at rest has no need of.
#[derive(Default)]
struct Rare {
    /// What was read and not decoded, because messages inflated to more than the handlers can take.
    rest: Box<[u8]>,
    /// The answer to the last ping that came while the socket was full.
    pong: Option<Bytes>,
    /// The peer's close frame, as soon as it is here.
    peer_close: Option<(u16, Box<str>)>,
    /// What the peer broke, as soon as it has.
    violation: Option<Violation>,
    /// Positions in the stream of written bytes that someone waits for.
    drains: Vec<u64>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { rest, pong, peer_close, violation, drains } = self;
        rest.is_empty()
            && pong.is_none()
            && peer_close.is_none()
            && violation.is_none()
            && drains.is_empty()
    }
}

impl Inner {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Bytes read and not decoded.
    fn rest(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.rest.len())
    }

    /// Whether the peer has closed, or broken the rules.
    fn has_last_word(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.peer_close.is_some() || rare.violation.is_some())
    }

    /// Gives back what a connection at rest does not need.
    fn give_back(&mut self) {
        self.outbox.rest();
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }
}

/// What was agreed with a peer when it connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    /// Whether binary messages are handed over as they are.
    pub(crate) binary: bool,
    /// For what is compressed for it, if compression was agreed.
    pub(crate) window: Option<Window>,
}

/// Messages that were handed over and not yet dispatched.
#[derive(Default)]
struct Waiting {
    events: usize,
    bytes: usize,
}

impl Connection {
    /// `early` is what the peer sent right behind its upgrade request.
    pub(crate) fn new(
        handle: Handle,
        id: u128,
        Agreed { binary, window }: Agreed,
        gauge: Arc<Gauge>,
        socket: Socket,
        early: &[u8],
        context: Rc<Context<Connection>>,
    ) -> Rc<Self> {
        context.shared.held.members.fetch_add(1, Ordering::Relaxed);
        let connection = Rc::new(Self {
            handle,
            id,
            binary,
            window,
            gauge,
            context,
            dirty: Cell::new(false),
            #[cfg(test)]
            fault: Cell::new(None),
            inner: RefCell::new(Inner {
                socket: Some(socket),
                decoder: Decoder::default(),
                outbox: Outbox::default(),
                phase: Phase::Open,
                blocked: false,
                waker: None,
                paused: false,
                waiting: Waiting::default(),
                received: 0,
                metered: 0,
                assembling: 0,
                signs: Signs::new(Instant::now()),
                control: ControlRate::default(),
                rare: None,
            }),
        });
        if !early.is_empty() {
            let mut early = early.to_vec();
            connection.take_input(&mut connection.inner.borrow_mut(), &mut early);
        }
        connection
    }

    /// The connection's task: runs until its socket is gone. A panic ends this connection only.
    pub(crate) async fn run(self: Rc<Self>) {
        std::future::poll_fn(|task| {
            let polled = self.context.contain(Some(self.handle), || self.poll(task));
            let polled = polled.unwrap_or_else(|| {
                self.terminate();
                Poll::Ready(())
            });
            self.context.turn();
            polled
        })
        .await;
    }

    /// Reads and, after the socket was full, writes. Ready when the connection has ended.
    fn poll(self: &Rc<Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            inner.waker = Some(task.waker().clone());
        }
        if inner.blocked {
            self.poll_room(inner, task);
        }
        for turn in 0.. {
            if inner.phase == Phase::Ended {
                return Poll::Ready(());
            }
            if !self.may_read(inner) {
                return Poll::Pending;
            }
            if turn == READS_A_TURN {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if inner.rest() > 0 {
                let mut rest = std::mem::take(&mut inner.rare().rest);
                self.take_input(inner, &mut rest);
                continue;
            }
            let Some(Socket { stream, .. }) = &mut inner.socket else {
                return Poll::Ready(());
            };
            let mut bytes = self.context.read_buffer.borrow_mut();
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(stream).poll_read(task, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => self.end(inner),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.end(inner),
                Poll::Ready(Ok(())) => self.take_input(inner, buffer.filled_mut()),
            }
        }
        Poll::Pending
    }

    fn poll_room(&self, inner: &mut Inner, task: &mut TaskContext<'_>) {
        let Some(Socket { stream, .. }) = &inner.socket else { return };
        match stream.poll_write_ready(task) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                inner.blocked = false;
                self.flush_inner(inner);
                // A peer that takes what was sent lives, though it cannot answer a ping yet.
                inner.signs.alive(Instant::now());
                if inner.blocked
                    && let Some(Socket { stream, .. }) = &inner.socket
                {
                    // The readiness was spent; ask for the next one. A second `Ready` would be
                    // stale, and the task comes back for it.
                    if stream.poll_write_ready(task).is_ready() {
                        task.waker().wake_by_ref();
                    }
                }
            }
            Poll::Ready(Err(_)) => self.end(inner),
        }
    }

    /// Whether the task reads now; if not, it is woken when it may.
    fn may_read(&self, inner: &mut Inner) -> bool {
        let must_pause = self.must_pause(inner);
        if must_pause && self.context.shared.is_over() {
            self.context.starved.set(true);
        }
        if inner.paused && !must_pause {
            // The peer could not show that it lives while nobody read.
            inner.signs.alive(Instant::now());
        }
        inner.paused = must_pause;
        !must_pause
    }

    /// Whether reading stops until the handlers have caught up.
    fn must_pause(&self, inner: &Inner) -> bool {
        let config = self.context.config();
        match inner.phase {
            Phase::Open => {
                inner.waiting.events >= config.max_pending_messages
                    || inner.waiting.bytes >= config.max_pending_bytes
                    || self.context.shared.is_over()
            }
            phase => matches!(phase, Phase::Settling { .. }),
        }
    }

    /// Begins the closing handshake behind whatever is queued.
    pub(crate) fn close(self: &Rc<Self>, code: u16, reason: &str) {
        let inner = &mut *self.inner.borrow_mut();
        match inner.phase {
            Phase::Open => {}
            // The peer was first; nothing that is sent from now on may reach it.
            Phase::Settling { .. } => return self.settled(inner),
            _ => return,
        }
        inner.outbox.push(Chunk::control(message::close_frame(code, reason)));
        inner.phase = Phase::Closing { since: Instant::now() };
        self.mark_dirty();
        // Reading may be paused; the peer's close frame must be read all the same.
        wake(inner);
    }

    fn mark_dirty(self: &Rc<Self>) {
        if !self.dirty.replace(true) {
            self.context.dirty.borrow_mut().push_back(Rc::clone(self));
        }
    }

    /// Messages of `bytes` together were handed to their handler.
    pub(crate) fn acknowledge(self: &Rc<Self>, messages: usize, bytes: usize) {
        let inner = &mut *self.inner.borrow_mut();
        inner.waiting.events = inner.waiting.events.saturating_sub(messages);
        inner.waiting.bytes = inner.waiting.bytes.saturating_sub(bytes);
        self.context.meter(-(bytes as isize));
        if matches!(inner.phase, Phase::Settling { .. }) && inner.waiting.events == 0 {
            // What the handler sent comes behind this, in the same batch.
            self.mark_dirty();
        }
        self.resume_if(inner);
    }

    /// Wakes the task if it has stopped reading and may go on.
    pub(crate) fn resume(&self) {
        self.resume_if(&self.inner.borrow());
    }

    fn resume_if(&self, inner: &Inner) {
        if inner.paused && !self.must_pause(inner) {
            wake(inner);
        }
    }

    /// Keep-alive and time-outs; called a few times in each of them.
    pub(crate) fn sweep(self: &Rc<Self>, now: Instant) {
        #[cfg(test)]
        self.strike(fault_tests::Fault::Sweep);
        if self.has_failed() {
            return self.terminate();
        }
        let overdue = {
            let inner = &mut *self.inner.borrow_mut();
            inner.give_back();
            inner.signs.overdue(inner.phase, !inner.paused, self.context.config(), now)
        };
        if matches!(overdue, Overdue::Ping | Overdue::Dead) && self.takes_more(now) {
            return;
        }
        match overdue {
            Overdue::Nothing => {}
            Overdue::Ping => {
                {
                    let inner = &mut *self.inner.borrow_mut();
                    inner.signs.pinged(now);
                    if inner.blocked {
                        // It would wait behind the rest; what is written meanwhile is the answer.
                        return;
                    }
                    inner.outbox.push(Chunk::control(message::ping()));
                }
                self.mark_dirty();
            }
            Overdue::Idle => self.close(close::GOING_AWAY, "idle timeout"),
            Overdue::CloseTimeout if self.is_settling() => {
                self.settled(&mut self.inner.borrow_mut());
            }
            Overdue::Dead | Overdue::CloseTimeout => self.terminate(),
        }
    }

    fn is_settling(&self) -> bool {
        matches!(self.inner.borrow().phase, Phase::Settling { .. })
    }

    /// Whether a socket that nobody reads has failed: reset by the peer, or given up by the system
    /// after `TCP_USER_TIMEOUT`.
    fn has_failed(&self) -> bool {
        let inner = self.inner.borrow();
        let Some(Socket { stream, .. }) = &inner.socket else { return false };
        inner.paused && !matches!(stream.take_error(), Ok(None))
    }

    /// Whether a peer that is behind has taken anything since the socket was full. The system
    /// wakes the task only when there is plenty of room again, which may take a slow peer minutes.
    fn takes_more(&self, now: Instant) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let Some(Socket { stream, .. }) = &inner.socket else { return false };
        if !inner.blocked {
            return false;
        }
        let before = inner.outbox.written();
        let scratch = &mut *self.context.scratch.borrow_mut();
        // An error is seen by the task, which the socket wakes.
        let _ = inner.outbox.flush(&mut FullSink(SockRef::from(stream)), scratch);
        let took = inner.outbox.written() > before;
        if took {
            inner.signs.alive(now);
            self.wrote(inner);
        }
        took
    }

    /// Ends TCP without a closing handshake.
    pub(crate) fn terminate(&self) {
        let inner = &mut *self.inner.borrow_mut();
        self.end(inner);
    }

    /// The last thing that happens to a connection: its socket closes, `Close` is emitted.
    fn end(&self, inner: &mut Inner) {
        if inner.phase == Phase::Ended {
            return;
        }
        inner.phase = Phase::Ended;
        inner.socket = None;
        inner.blocked = false;
        let unwritten = inner.outbox.frames();
        if unwritten > 0 {
            let counters = &self.context.shared.counters;
            counters.dropped_frames.fetch_add(unwritten, Ordering::Relaxed);
        }
        inner.outbox = Outbox::default();
        inner.decoder = Decoder::default();
        if let Some(rare) = &mut inner.rare {
            rare.rest = Box::default();
        }
        self.meter_decoder(inner);
        self.wrote(inner);
        let peer_close = inner.rare.take().and_then(|rare| rare.peer_close);
        let (code, reason) = peer_close.unwrap_or_else(|| (close::ABNORMAL, Box::default()));
        self.context.event(Event::Close { handle: self.handle, code, reason });
        wake(inner);
    }

    /// Nobody will acknowledge anything any more.
    pub(crate) fn forget(&self) {
        self.context.shared.held.members.fetch_sub(1, Ordering::Relaxed);
        let inner = &mut *self.inner.borrow_mut();
        let Waiting { bytes, .. } = std::mem::take(&mut inner.waiting);
        self.context.meter(-(bytes as isize));
        self.end(inner);
    }
}

fn wake(inner: &Inner) {
    if let Some(waker) = &inner.waker {
        waker.wake_by_ref();
    }
}
