//! What everyone may know of a node: whether it is connected, and what it has counted.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::event::BackplaneState as State;

/// What a node has counted since it started, in envelopes unless it says otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Own ones that the bus has taken.
    pub published: AtomicU64,
    /// Of other nodes, each counted once.
    pub received: AtomicU64,
    /// That had been received before.
    pub duplicates: AtomicU64,
    /// Malformed, of an unknown kind or too large, without a number; without a usable path; or in the
    /// name of another node.
    pub ignored: AtomicU64,
    /// Of other nodes, received because they were asked for.
    pub recovered: AtomicU64,
    /// Of other nodes, that could not be had any more or not be taken here.
    pub lost: AtomicU64,
    /// Own ones that never reached the bus.
    pub dropped: AtomicU64,
    /// Own ones that were sent once more, because a node had missed them.
    pub resent: AtomicU64,
    /// Own ones that a node had missed and that were no longer kept, or too large for the bus.
    pub forgotten: AtomicU64,
    /// Times that a link to the bus came up.
    pub connects: AtomicU64,
}

/// The node's own thread writes it, anyone reads it.
#[derive(Debug)]
pub struct Status {
    /// What it calls itself on the bus.
    pub source: String,
    /// "redis", "nats" or "relay".
    pub kind: &'static str,
    /// What it has counted.
    pub counters: Counters,
    connected: AtomicBool,
    ended: AtomicBool,
    nodes: AtomicUsize,
}

impl Status {
    pub(crate) fn new(source: String, kind: &'static str) -> Self {
        Self {
            source,
            kind,
            counters: Counters::default(),
            connected: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            nodes: AtomicUsize::new(0),
        }
    }

    /// How it stands to the bus.
    pub fn state(&self) -> State {
        match (self.ended.load(Ordering::Acquire), self.connected.load(Ordering::Acquire)) {
            (true, _) => State::Off,
            (false, true) => State::Connected,
            (false, false) => State::Connecting,
        }
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Other nodes that were heard lately.
    pub fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nodes(&self, nodes: usize) {
        self.nodes.store(nodes, Ordering::Relaxed);
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
