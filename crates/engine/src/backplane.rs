//! The backplane: one chat over many processes. What is broadcast here is published on a bus, and
//! what other nodes publish is delivered here, by a thread that no handler can keep waiting.
//!
//! Between our nodes every envelope is delivered once and in its origin's order, as long as the
//! origin lives and its replay buffer still has it. To and from other frameworks, and when a
//! process dies, it is at most once.

mod channel;
mod complaint;
mod control;
mod counting;
mod envelope;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod link;
mod nats;
mod node;
mod peer;
mod peers;
mod publishes;
mod redis;
mod relay;
mod replay;
mod sequence;
mod socket;
mod status;
mod thread;
mod troubles;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::command::CommandQueue;
use crate::config::{Bus, Config};
use crate::event_queue::EventQueue;
use crate::shared::Shared;
use crate::topics::Topics;

pub(crate) use publishes::Publishes;
use publishes::{Order, Orders};
pub use relay::Relay;
pub use status::{Counters, Status};

/// The backplane of one engine.
pub(crate) struct Backplane {
    bus: Bus,
    status: Arc<Status>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Backplane {
    pub(crate) fn new(bus: Bus) -> Self {
        let status = Arc::new(Status::new(envelope::new_source(), bus.kind()));
        Self { bus, status, orders: Arc::default(), thread: None }
    }

    pub(crate) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// The sending side, for the thread that runs the handlers.
    pub(crate) fn publishes(&self) -> Publishes {
        Publishes::new(Arc::clone(&self.orders))
    }

    /// Starts the thread, which connects and goes on connecting until it is told to end.
    ///
    /// # Errors
    /// What the system says of the thread.
    pub(crate) fn start(
        &mut self,
        config: &Config,
        topics: Topics,
        commands: Vec<Arc<CommandQueue>>,
        shared: Arc<Shared>,
        events: Arc<EventQueue>,
    ) -> io::Result<()> {
        let parts = thread::Parts {
            bus: self.bus.clone(),
            status: Arc::clone(&self.status),
            orders: Arc::clone(&self.orders),
            limits: node::Limits {
                heartbeat: config.backplane_heartbeat,
                replay_bytes: config.backplane_replay_bytes,
                replay_age: config.backplane_replay_age,
                max_envelope: config.backplane_max_envelope,
            },
            retry_delay: config.backplane_retry_delay,
            topics,
            commands,
            shared,
            events,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("tina4-backplane".into())
            .spawn(move || thread::run(runtime, parts))?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Asks all reachable nodes; an [`crate::event::Event::Counted`] follows.
    pub(crate) fn count(&self, id: u64, path: String) {
        self.orders.push(Order::Count { id, path });
    }

    /// Sends what waits, says goodbye and ends; an [`crate::event::Event::Backplane`] follows. False
    /// if it does not run.
    pub(crate) fn finish(&self) -> bool {
        let is_running = self.is_running();
        if is_running {
            self.orders.push(Order::Finish);
        }
        is_running
    }

    /// Whether orders are obeyed.
    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the thread at once and waits for it.
    pub(crate) fn stop(&mut self) {
        self.orders.push(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so and has nothing left to end.
            let _ = thread.join();
        }
        self.status.set_ended();
    }
}
