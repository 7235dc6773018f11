//! The backplane's thread: a link to the bus that is made again whenever it is lost, and the node
//! that speaks and listens through it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::channel::{Channel, LinkError};
use super::envelope::{Delivery, Outbound, Payload, Scope};
use super::link::{self, Receiver, Sender};
use super::node::{Here, Limits, Node, PATIENCE};
use super::publishes::{Order, Orders, PublishBatch};
use super::status::{Status, count};
use crate::command::{CommandQueue, Origin};
use crate::config::Bus;
use crate::event::{BackplaneState as State, Event, LogLevel};
use crate::event_queue::EventQueue;
use crate::message::Kind;
use crate::outgoing::{Outgoing, Source};
use crate::path;
use crate::shared::Shared;
use crate::topics::Topics;

/// The first pause before connecting again; it doubles up to `TINA4_WS_BACKPLANE_RETRY_DELAY`.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A link that held as long as this was a good one: the pauses begin anew.
const GOOD_LINK: Duration = Duration::from_secs(10);
/// Messages of one pipelined batch.
const BATCH_MESSAGES: usize = 512;
/// Envelopes of one pipelined batch, in bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// How long finishing may take.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(super) struct Parts {
    pub(super) bus: Bus,
    pub(super) status: Arc<Status>,
    pub(super) orders: Arc<Orders>,
    pub(super) limits: Limits,
    pub(super) retry_delay: Duration,
    pub(super) topics: Topics,
    pub(super) commands: Vec<Arc<CommandQueue>>,
    pub(super) shared: Arc<Shared>,
    pub(super) events: Arc<EventQueue>,
}

/// Runs until it is told to end.
pub(super) fn run(runtime: Runtime, parts: Parts) {
    let (status, events) = (Arc::clone(&parts.status), Arc::clone(&parts.events));
    let core = Core::new(parts);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = core.obey() => {}
                () = core.keep_linked() => {}
            }
        });
    }));
    if ended.is_err() {
        let message = "the backplane failed inside the engine and has ended; see standard error";
        events.log(LogLevel::Error, None, message.to_owned());
    }
    // A library's tasks may be stuck in a look-up of a name, which nobody has to wait for.
    runtime.shutdown_background();
    let unsent = core.node.borrow_mut().abandon();
    if unsent > 0 {
        let message = format!(
            "Envelopes that did not reach the other nodes: {unsent}, because the server has ended"
        );
        events.log(LogLevel::Warning, None, message);
    }
    status.set_ended();
    events.push_one(Event::Backplane { state: State::Off });
}

/// What the tasks of the thread share.
struct Core {
    bus: Bus,
    status: Arc<Status>,
    orders: Arc<Orders>,
    retry_delay: Duration,
    /// After so long without a word the link is dead.
    silence: Duration,
    node: RefCell<Node>,
    here: RefCell<Process>,
    events: Arc<EventQueue>,
    /// Something waits to be sent.
    outgoing: Notify,
    /// Something is due sooner than it was.
    sooner: Notify,
    /// A batch is being sent.
    is_sending: Cell<bool>,
    /// Everything is sent.
    idle: Notify,
}

impl Core {
    fn new(parts: Parts) -> Self {
        let Parts { bus, status, orders, limits, retry_delay, topics, commands, shared, events } =
            parts;
        let process = Process {
            outgoing: Outgoing::new(commands, Arc::clone(&shared)),
            topics,
            shared,
            events: Arc::clone(&events),
        };
        Self {
            bus,
            node: RefCell::new(Node::new(Instant::now(), Arc::clone(&status), limits)),
            status,
            orders,
            retry_delay,
            silence: limits.heartbeat * PATIENCE,
            here: RefCell::new(process),
            events,
            outgoing: Notify::new(),
            sooner: Notify::new(),
            is_sending: Cell::new(false),
            idle: Notify::new(),
        }
    }

    fn log(&self, level: LogLevel, message: String) {
        self.events.log(level, None, message);
    }

    /// Does what the handlers' thread says, until it says to end.
    async fn obey(&self) {
        loop {
            let orders = self.orders.take().await;
            self.node.borrow_mut().miss(self.orders.take_refused());
            for order in orders {
                match order {
                    Order::Publish(batch) => self.publish(&batch),
                    Order::Count { id, path } => {
                        let here = &mut *self.here.borrow_mut();
                        self.node.borrow_mut().count(Instant::now(), id, path, here);
                    }
                    Order::Finish => {
                        let _ = timeout(FINISH_TIMEOUT, self.finish()).await;
                        return;
                    }
                    Order::Stop => return,
                }
            }
            self.after_change();
        }
    }

    fn publish(&self, batch: &PublishBatch) {
        let now = Instant::now();
        let mut node = self.node.borrow_mut();
        for publish in &batch.publishes {
            node.publish(
                now,
                Outbound {
                    path: &publish.path,
                    exclude: publish.exclude,
                    kind: publish.kind,
                    payload: &batch.arena[publish.start..publish.end],
                    delivered: &publish.delivered,
                },
            );
        }
    }

    async fn finish(&self) {
        // What waits for the first link, or for one that is just being made again, is worth a moment.
        if self.status.state() != State::Connected && !self.node.borrow().has_outgoing() {
            return;
        }
        self.sent().await;
        self.node.borrow_mut().leave();
        self.after_change();
        self.sent().await;
    }

    /// Waits until nothing is left to be sent.
    async fn sent(&self) {
        self.outgoing.notify_one();
        while self.is_sending.get() || self.node.borrow().has_outgoing() {
            self.idle.notified().await;
        }
    }

    fn after_change(&self) {
        self.here.borrow_mut().outgoing.commit();
        if self.node.borrow().has_outgoing() {
            self.outgoing.notify_one();
        }
        self.sooner.notify_one();
    }

    /// Connects, over and over.
    async fn keep_linked(&self) {
        let mut pause = FIRST_PAUSE;
        let mut lost: Option<Instant> = None;
        let mut reason = String::new();
        loop {
            let connecting = timeout(self.silence, link::connect(&self.bus));
            let failure = match self.tick_until(connecting).await {
                Ok(Ok((sender, receiver))) => {
                    let up = Instant::now();
                    self.come_up(up, &sender, lost);
                    let failure = self.serve(sender, receiver).await;
                    if up.elapsed() >= GOOD_LINK {
                        pause = FIRST_PAUSE;
                    }
                    reason.clear();
                    self.go_down();
                    failure
                }
                Ok(Err(error)) => error,
                Err(_) => no_answer(self.silence),
            };
            // One line for an outage, unless what is wrong changes.
            if failure.to_string() != reason {
                reason = failure.to_string();
                let bus = &self.bus;
                let message = format!(
                    "No link to {bus}: {reason}. Other processes are not reached meanwhile; \
                     connecting is tried again and again"
                );
                self.log(LogLevel::Warning, message);
            }
            lost.get_or_insert_with(Instant::now);
            self.tick_until(sleep(pause.mul_f64(rand::random_range(0.5..1.0)))).await;
            pause = (pause * 2).min(self.retry_delay);
        }
    }

    /// Does what is due while there is no link.
    async fn tick_until<T>(&self, done: impl Future<Output = T>) -> T {
        let mut done = pin!(done);
        loop {
            let pause = self.node.borrow().pause(Instant::now());
            if let Ok(done) = timeout(pause, &mut done).await {
                return done;
            }
            self.tick();
        }
    }

    fn come_up(&self, now: Instant, sender: &Sender, lost: Option<Instant>) {
        self.status.set_connected(true);
        self.node.borrow_mut().link_up(now, sender.max_payload());
        let bus = &self.bus;
        self.log(
            LogLevel::Info,
            match lost {
                Some(lost) => {
                    let seconds = lost.elapsed().as_secs_f64();
                    format!("Linked to {bus} again, after {seconds:.1} s")
                }
                None => format!("Linked to {bus}"),
            },
        );
        self.events.push_one(Event::Backplane { state: State::Connected });
        self.after_change();
    }

    fn go_down(&self) {
        self.status.set_connected(false);
        self.node.borrow_mut().link_down();
        self.is_sending.set(false);
        self.events.push_one(Event::Backplane { state: State::Connecting });
    }

    /// Speaks and listens until the link is dead; says why it is.
    async fn serve(&self, sender: Sender, receiver: Receiver) -> LinkError {
        tokio::select! {
            error = self.listen(receiver) => error,
            error = self.speak(sender) => error,
            error = self.watch() => error,
        }
    }

    async fn speak(&self, mut sender: Sender) -> LinkError {
        let mut batch = Vec::new();
        loop {
            batch.clear();
            let envelopes = self.node.borrow_mut().take_outgoing(
                Instant::now(),
                BATCH_MESSAGES,
                BATCH_BYTES,
                &mut batch,
            );
            if batch.is_empty() {
                self.idle.notify_waiters();
                self.outgoing.notified().await;
                continue;
            }
            self.is_sending.set(true);
            match timeout(self.silence, sender.send(&batch)).await {
                Ok(Ok(())) => count(&self.status.counters.published, envelopes as u64),
                Ok(Err(error)) => return error,
                Err(_) => return no_answer(self.silence),
            }
            self.is_sending.set(false);
        }
    }

    async fn listen(&self, mut receiver: Receiver) -> LinkError {
        let mut messages: Vec<(Channel, Bytes)> = Vec::new();
        loop {
            if let Err(error) = receiver.receive(&mut messages).await {
                return error;
            }
            let now = Instant::now();
            for (channel, bytes) in messages.drain(..) {
                // Whatever anyone can make the engine do with it must not end the backplane.
                let hearing = catch_unwind(AssertUnwindSafe(|| {
                    let here = &mut *self.here.borrow_mut();
                    self.node.borrow_mut().hear(now, channel, &bytes, here);
                }));
                if hearing.is_err() {
                    let message =
                        "a message from the backplane made the engine fail; see standard error";
                    self.log(LogLevel::Error, message.to_owned());
                }
            }
            self.after_change();
        }
    }

    /// Does what is due, and notices a link that is dead without saying so.
    async fn watch(&self) -> LinkError {
        loop {
            self.tick();
            let pause = self.node.borrow().pause(Instant::now());
            tokio::select! {
                () = sleep(pause.max(Duration::from_millis(1))) => {}
                () = self.sooner.notified() => {}
            }
            // What others say proves only the half of the link on which it comes.
            if self.node.borrow().is_unheard(Instant::now()) {
                return no_answer(self.silence);
            }
        }
    }

    fn tick(&self) {
        self.node.borrow_mut().tick(Instant::now(), &mut *self.here.borrow_mut());
        self.here.borrow_mut().outgoing.commit();
        if self.node.borrow().has_outgoing() {
            self.outgoing.notify_one();
        }
    }
}

fn no_answer(silence: Duration) -> LinkError {
    LinkError::new(format!("no answer within {} s", silence.as_secs_f64()))
}

/// The connections of this process.
struct Process {
    outgoing: Outgoing,
    topics: Topics,
    shared: Arc<Shared>,
    events: Arc<EventQueue>,
}

impl Here for Process {
    fn deliver(&mut self, delivery: &Delivery) -> bool {
        let origin = Origin::Remote(delivery.exclude);
        match &delivery.scope {
            Scope::All => self.outgoing.broadcast_to_all(&delivery.payload, delivery.exclude),
            Scope::Path(path) => {
                let Ok(path) = path::canonical(path) else { return false };
                if let Some(topic) = self.topics.get(&path) {
                    self.outgoing.fan_out(&topic, &delivery.payload, origin);
                }
            }
            Scope::Room => {}
        }
        true
    }

    fn count(&self, path: &str) -> u64 {
        self.topics.get(path).map_or(0, |topic| u64::from(topic.count()))
    }

    fn counted(&mut self, id: u64, sum: u64) {
        self.events.push_one(Event::Counted { id, sum });
    }

    fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    fn log(&mut self, level: LogLevel, message: String) {
        self.events.log(level, None, message);
    }
}

impl Source for Payload {
    fn length(&self) -> usize {
        self.len()
    }

    fn kind(&self) -> Kind {
        match self {
            Payload::Text(_) => Kind::Text,
            Payload::Binary(_) => Kind::Binary,
        }
    }

    fn append(&self, out: &mut BytesMut) {
        match self {
            Payload::Text(text) => out.put_slice(text.as_bytes()),
            Payload::Binary(bytes) => out.put_slice(bytes),
        }
    }
}
