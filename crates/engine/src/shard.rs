//! A shard: one thread with a single-threaded runtime that owns its connections outright.
//!
//! `thread` is that thread and when it lets others at the shard, `asleep` what those do; here is what
//! is done. It carries out commands, writes what they queued, publishes events when its sockets are
//! quiet and sweeps its connections' timers. Nothing here is shared, so nothing is locked.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::command::{Answer, AnswerBody, Command, CommandBatch, CommandQueue};
use crate::connection::Connection;
use crate::context::{Context, Stage};
use crate::event::{Event, LogLevel};
use crate::event_queue::EventQueue;
use crate::http::{Http, Served};
use crate::hub::Hub;
use crate::outbox::{Chunk, PINS_AT_MOST};
use crate::routes::Routes;
use crate::shared::{Load, Shared};
use crate::static_files::StaticFiles;
use crate::to_shard::ToShard;

mod asleep;
#[cfg(target_os = "linux")]
mod descriptor;
mod thread;

#[cfg(target_os = "linux")]
pub(crate) use descriptor::descriptor_of;
pub(crate) use thread::{run, runtime};

/// Elsewhere no shard is lent.
#[cfg(not(target_os = "linux"))]
pub(crate) fn descriptor_of(_: &tokio::runtime::Runtime) -> Option<i32> {
    None
}

/// Connections written to before reads, commands and pings have their turn again.
const FLUSH_SLICE: usize = 256;
/// Slow consumers closed at once when the process holds too much.
const SHED_SLICE: usize = 16;
/// An outbox smaller than this is not worth closing for its memory, in bytes, unless outboxes are most
/// of it.
const SHED_AT_LEAST: usize = 16 * 1024;
/// The sweep looks at each timer about this many times before it is due.
const SWEEPS_A_TIMER: u32 = 4;
const SWEEP_AT_MOST: Duration = Duration::from_secs(1);
const SWEEP_AT_LEAST: Duration = Duration::from_millis(5);
/// How often the memory that a burst has left is given back.
const TIDY_PERIOD: Duration = Duration::from_secs(1);
/// How often a shard looks for commands that the handlers' thread has not committed, after it has
/// published events: a handler that blocks must not keep back what was sent before. A batch of
/// handlers that is not blocked commits about as often.
const COMMIT_PATIENCE: Duration = Duration::from_millis(1);
/// While broadcasts come, tasks that have their turn before the members are written to: what several
/// of them say then is one write a member.
const FAN_OUT_TURNS: u32 = 64;

/// What all shards of an engine know.
pub(crate) struct Common {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) served: Served,
    pub(crate) static_roots: Vec<std::path::PathBuf>,
    /// The commands of each shard.
    pub(crate) commands: Vec<Arc<CommandQueue>>,
    /// What the handlers' thread has not committed to each shard.
    pub(crate) ways: Vec<Arc<ToShard>>,
    /// Shards that have not finished draining.
    pub(crate) undrained: AtomicUsize,
    /// Gives free memory back to the system.
    pub(crate) tidy: fn(),
}

struct Shard {
    common: Arc<Common>,
    context: Rc<Context<Connection>>,
    http: Rc<Http>,
    hub: Rc<RefCell<Hub>>,
    /// Wakes [`Shard::work`].
    waker: OnceCell<Waker>,
    deadline: Cell<Option<Instant>>,
    drained: Cell<bool>,
    terminated: Cell<bool>,
    taken: RefCell<Vec<CommandBatch>>,
    /// Turns of tasks since the last write to members of a broadcast.
    turns: Cell<u32>,
}

impl Shard {
    fn new(index: usize, common: Arc<Common>) -> Rc<Self> {
        let context =
            Rc::new(Context::new(index, Arc::clone(&common.shared), Arc::clone(&common.events)));
        let hub = Rc::new(RefCell::new(Hub::new(index)));
        let http = Rc::new(Http::new(
            index,
            Rc::clone(&context),
            Rc::clone(&hub),
            Arc::clone(&common.routes),
            StaticFiles::new(common.static_roots.clone()),
            common.served.clone(),
        ));
        Rc::new(Self {
            common,
            context,
            http,
            hub,
            waker: OnceCell::new(),
            deadline: Cell::new(None),
            drained: Cell::new(false),
            terminated: Cell::new(false),
            taken: RefCell::default(),
            turns: Cell::new(0),
        })
    }

    fn commands(&self) -> &CommandQueue {
        &self.common.commands[self.context.shard]
    }

    /// How commands come to it.
    fn way(&self) -> &Arc<ToShard> {
        &self.common.ways[self.context.shard]
    }

    /// Whether nothing waits that a batch carried out does not do: a shutdown, readers that stopped
    /// for want of memory, connections that are not written yet.
    fn needs_no_more_than_a_batch(&self) -> bool {
        self.deadline.get().is_none()
            && !self.context.shared.is_over()
            && !self.context.starved.get()
            && self.context.dirty.borrow().is_empty()
    }

    /// Whether there is something to do without a look at the sockets.
    fn has_more(&self) -> bool {
        self.context.tasks.are_woken()
            || self.commands().is_pending()
            || !self.context.dirty.borrow().is_empty()
    }

    /// Before the thread sleeps: everything gathered is published, and no command waits.
    fn park(&self) {
        self.turns.set(0);
        self.flush_slice();
        self.context.publish();
        self.context.say_meter();
        while !self.commands().park() {
            self.work();
            self.context.publish();
        }
    }

    /// At the end of a task's turn on a busy thread.
    fn turn(&self) {
        if self.context.fanned_out.get() && self.deadline.get().is_none() {
            self.turns.set(self.turns.get() + 1);
            if self.turns.get() < FAN_OUT_TURNS {
                return self.context.publish_if_due();
            }
        }
        self.turns.set(0);
        let unwritten = !self.context.dirty.borrow().is_empty();
        if unwritten || self.commands().is_pending() || self.deadline.get().is_some() {
            self.work();
        }
        self.context.publish_if_due();
    }

    /// Carries out what waits, then writes.
    fn work(&self) {
        let Ok(mut taken) = self.taken.try_borrow_mut() else {
            return;
        };
        self.commands().take(&mut taken);
        for batch in taken.drain(..) {
            self.carry_out(batch);
        }
        drop(taken);
        self.flush_slice();
        self.relieve();
        self.check_drained();
    }

    /// Carries out what the handlers' thread has not committed since `commits`.
    fn take_overdue(&self, way: &ToShard, commits: u64) {
        let mut taken = self.taken.borrow_mut();
        way.take_overdue(commits, &self.context.shared, &mut taken);
        for batch in taken.drain(..) {
            self.carry_out(batch);
        }
        drop(taken);
        self.flush_slice();
    }

    fn carry_out(&self, batch: CommandBatch) {
        for ack in &batch.acks {
            let connection = self.hub.borrow().get(ack.handle);
            if let Some(connection) = connection {
                self.context.contain(Some(ack.handle), || {
                    connection.acknowledge(ack.messages, ack.bytes);
                });
            }
        }
        self.context.meter(-(batch.bytes as isize));
        let arena = batch.arena;
        for command in batch.commands {
            // A panic in one command must not lose the others.
            self.context.contain(None, || self.apply(command, &arena));
        }
    }

    fn apply(&self, command: Command, arena: &Bytes) {
        let connection = |handle| self.hub.borrow().get(handle);
        match command {
            Command::Send { handle, start, end, frames } => {
                if let Some(connection) = connection(handle) {
                    let bytes = arena.slice(start as usize..end as usize);
                    let sent = bytes.len();
                    connection.push(Chunk { bytes, frames, pins: arena.len() }, sent);
                }
            }
            Command::SendAlone { handle, frame, .. } => {
                if let Some(connection) = connection(handle) {
                    connection.push_frame(frame);
                }
            }
            Command::Broadcast { topic, origin, start, end, frames } => {
                let range = start as usize..end as usize;
                // One copy for the room, rather than one for each member that is slow.
                let bytes = if arena.len() / PINS_AT_MOST > range.len() {
                    Bytes::copy_from_slice(&arena[range])
                } else {
                    arena.slice(range)
                };
                let chunk = Chunk { pins: bytes.len(), bytes, frames };
                self.hub.borrow().broadcast(topic, &chunk, None, origin);
                self.context.fanned_out.set(true);
            }
            Command::BroadcastAlone { topic, origin, frame, deflated } => {
                let chunk = Chunk::control(frame);
                self.hub.borrow().broadcast(topic, &chunk, deflated.as_deref(), origin);
            }
            Command::ToAll { exclude, frame } => {
                self.hub.borrow().broadcast_to_all(&Chunk::control(frame), exclude);
            }
            Command::Join { handle, topic } => self.hub.borrow_mut().join(handle, topic),
            Command::Leave { handle } => self.hub.borrow_mut().leave(handle),
            Command::Release { handle } => self.hub.borrow_mut().release(handle),
            Command::Close { handle, code, reason } => {
                if let Some(connection) = connection(handle) {
                    connection.close(code, &reason);
                }
            }
            Command::Drain { handle } => match connection(handle) {
                Some(connection) => connection.drain(),
                None => self.context.event(Event::Drained { handle }),
            },
            Command::Respond { handle, status, start, middle, end } => {
                let [start, middle, end] = [start, middle, end].map(|at| at as usize);
                // The lines are read at once; a slow client must not keep the arena.
                let body = Bytes::copy_from_slice(&arena[middle..end]);
                let headers = arena.slice(start..middle);
                let answer = Answer { status, headers, body: AnswerBody::Bytes(body) };
                self.http.respond(handle, answer);
            }
            Command::RespondAlone { handle, answer } => self.http.respond(handle, *answer),
            Command::Adopt { socket, peer, load } => match TcpStream::from_std(socket) {
                Ok(stream) => self.adopt(stream, peer, load),
                Err(error) => {
                    self.context.log(LogLevel::Warning, format!("{peer}: {error}"));
                }
            },
            Command::Shutdown { code, reason } => self.shut_down(code, &reason),
            Command::Terminate => {
                self.terminated.set(true);
                self.wake();
            }
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Serves a socket.
    fn adopt(&self, stream: TcpStream, peer: SocketAddr, load: Load) {
        let http = Rc::clone(&self.http);
        let context = Rc::clone(&self.context);
        self.context.tasks.spawn(async move {
            let serving = http.serve_socket(stream, peer);
            let mut serving = std::pin::pin!(serving);
            std::future::poll_fn(|task| {
                let polled = context.contain(None, || serving.as_mut().poll(task));
                context.turn();
                // A future that panicked must not be polled again.
                polled.unwrap_or(Poll::Ready(()))
            })
            .await;
            drop(load);
            context.turn();
        });
    }

    /// Writes to some of the connections that have something new; the rest come after whatever
    /// else the runtime has to do.
    fn flush_slice(&self) {
        for _ in 0..FLUSH_SLICE {
            let next = self.context.dirty.borrow_mut().pop_front();
            let Some(connection) = next else {
                self.context.fanned_out.set(false);
                return;
            };
            if self.context.contain(Some(connection.handle), || connection.flush()).is_none() {
                connection.terminate();
            }
        }
        if !self.context.dirty.borrow().is_empty() {
            self.wake();
        }
    }

    /// Keeps the process under `TINA4_MAX_BUFFERED`: while it is over, nobody reads; the largest
    /// outboxes are closed; when it is under again, reading goes on.
    fn relieve(&self) {
        self.context.say_meter();
        if self.context.shared.is_over() {
            for _ in 0..SHED_SLICE {
                let Some(connection) = self.largest_backlog() else { return };
                connection.shed_for_memory();
                self.context.say_meter();
                if !self.context.shared.is_over() {
                    break;
                }
            }
        }
        if self.context.starved.get() && !self.context.shared.is_over() {
            self.context.starved.set(false);
            for connection in self.hub.borrow().connections() {
                connection.resume();
            }
        }
    }

    /// The connection whose end frees the most. What peers can make last as long as they like, outboxes
    /// and messages that are still arriving, must not be most of what may be held: handlers come to the
    /// end of all else.
    fn largest_backlog(&self) -> Option<Rc<Connection>> {
        let half = self.context.config().max_buffered / 2;
        let (outboxes, unfinished) =
            (self.context.shared.outboxes.get(), self.context.shared.unfinished.get());
        let count_unfinished = unfinished > half;
        let at_least = if count_unfinished || outboxes > half { 1 } else { SHED_AT_LEAST };
        let hub = self.hub.borrow();
        hub.connections()
            .map(|connection| {
                let (outbox, unfinished) = connection.backlog();
                (if count_unfinished { outbox + unfinished } else { outbox }, connection)
            })
            .filter(|(backlog, _)| *backlog >= at_least)
            .max_by_key(|(backlog, _)| *backlog)
            .map(|(_, connection)| Rc::clone(connection))
    }

    fn shut_down(&self, code: u16, reason: &str) {
        if self.deadline.get().is_some() {
            return;
        }
        let timeout = self.context.config().shutdown_timeout;
        self.deadline.set(Some(Instant::now() + timeout));
        let _ = self.context.farewell.set((code, reason.into()));
        self.context.stage.send_replace(Stage::Draining);
        self.http.stage_changed();
        let connections: Vec<_> = self.hub.borrow().connections().map(Rc::clone).collect();
        for connection in connections {
            connection.close(code, reason);
        }
    }

    /// Says so when the last socket of a shard that is shutting down is gone.
    fn check_drained(&self) {
        let Some(deadline) = self.deadline.get() else {
            return;
        };
        if self.drained.get() {
            return;
        }
        if Instant::now() >= deadline {
            for connection in self.hub.borrow().connections() {
                connection.terminate();
            }
            self.context.stage.send_replace(Stage::Ending);
            self.http.stage_changed();
        } else if self.context.shared.load(self.context.shard) > 0 {
            return;
        }
        self.drained.set(true);
        self.context.publish();
        if self.common.undrained.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.common.events.push_one(Event::Stopped);
        }
    }
}

/// While handlers run, looks whether their thread commits: to any shard, for one that has published
/// nothing does not look.
async fn take_overdue(shard: Rc<Shard>) {
    let (common, context) = (&shard.common, &shard.context);
    let mut commits = vec![0; common.ways.len()];
    loop {
        context.published.notified().await;
        while common.events.is_rung() && !context.is_lent.get() {
            for (commits, way) in commits.iter_mut().zip(&common.ways) {
                *commits = way.commits();
            }
            tokio::time::sleep(COMMIT_PATIENCE).await;
            for (index, (commits, way)) in commits.iter().zip(&common.ways).enumerate() {
                if index == context.shard {
                    shard.take_overdue(way, *commits);
                } else {
                    way.hand_over_overdue(*commits, &context.shared);
                }
            }
        }
    }
}

/// Runs the timers of a shard's connections and requests.
async fn sweep(shard: Rc<Shard>) {
    let period = sweep_period(shard.context.config());
    let mut tidied = Instant::now();
    loop {
        tokio::time::sleep(period).await;
        let now = Instant::now();
        shard.context.clock.read();
        let connections: Vec<_> = shard.hub.borrow().connections().map(Rc::clone).collect();
        for connection in connections {
            let handle = Some(connection.handle);
            if shard.context.contain(handle, || connection.sweep(now)).is_none() {
                connection.terminate();
            }
        }
        shard.context.contain(None, || shard.http.sweep());
        shard.work();
        if now - tidied >= TIDY_PERIOD {
            tidied = now;
            (shard.common.tidy)();
            if shard.context.shared.drove.load(Ordering::Relaxed) && !shard.context.is_lent.get() {
                // The thread that drove it has some to give back too.
                shard.common.events.ring();
            }
        }
    }
}

fn sweep_period(config: &crate::config::Config) -> Duration {
    [
        config.ping_interval,
        config.ping_timeout,
        config.idle_timeout,
        config.closing_timeout,
        config.handler_timeout,
        config.header_timeout,
        config.send_timeout,
        config.keep_alive_timeout,
        config.shutdown_timeout,
    ]
    .into_iter()
    .filter(|timer| !timer.is_zero())
    .map(|timer| timer / SWEEPS_A_TIMER)
    .min()
    .unwrap_or(SWEEP_AT_MOST)
    .clamp(SWEEP_AT_LEAST, SWEEP_AT_MOST)
}

/// Hands a socket to the shard with the fewest.
fn place(shard: &Shard, stream: TcpStream, peer: SocketAddr) {
    let load = Load::new(&shard.context.shared, shard.context.shared.least_loaded());
    let least = load.shard;
    if least == shard.context.shard {
        shard.adopt(stream, peer, load);
        return;
    }
    match stream.into_std() {
        Ok(socket) => {
            let command = Command::Adopt { socket, peer, load };
            shard.common.commands[least].push(CommandBatch::one(command));
        }
        Err(error) => shard.context.log(LogLevel::Warning, format!("{peer}: {error}")),
    }
}

#[cfg(test)]
mod tests;
