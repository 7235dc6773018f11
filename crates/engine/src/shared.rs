//! What all shards of an engine share: the configuration and a few counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};

use crate::config::Config;

/// What an engine has dropped and refused since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that were queued for a connection and never written.
    pub dropped_frames: AtomicU64,
    /// Connections closed with 1013 because they read too slowly.
    pub slow_consumers: AtomicU64,
    /// Upgrades that were refused, for any reason.
    pub rejected_upgrades: AtomicU64,
}

/// State of an engine that all its shards share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    /// Upgraded connections.
    pub(crate) connections: AtomicUsize,
    /// Open sockets of each shard.
    loads: Box<[AtomicUsize]>,
    /// Bytes in queues and bodies, of all shards.
    buffered: AtomicIsize,
}

impl Shared {
    pub(crate) fn new(config: Config, shards: usize) -> Self {
        Self {
            config,
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            counters: Counters::default(),
            connections: AtomicUsize::new(0),
            buffered: AtomicIsize::new(0),
        }
    }

    /// Open sockets of a shard.
    pub(crate) fn load(&self, shard: usize) -> usize {
        self.loads[shard].load(Ordering::Acquire)
    }

    /// The shard with the fewest sockets.
    pub(crate) fn least_loaded(&self) -> usize {
        (0..self.loads.len()).min_by_key(|shard| self.load(*shard)).unwrap_or(0)
    }

    /// Bytes in queues and bodies; a shard says its own only now and then.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed).max(0) as usize
    }

    /// Counts `bytes` more in queues or bodies, fewer if negative.
    pub(crate) fn add_buffered(&self, bytes: isize) {
        self.buffered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the process holds more than it may.
    pub(crate) fn is_over(&self) -> bool {
        self.buffered() > self.config.max_buffered
    }
}

/// One socket in its shard's count, from being accepted to being closed. An upgrade hands over.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    pub(crate) shard: usize,
}

impl Load {
    pub(crate) fn new(shared: &Arc<Shared>, shard: usize) -> Self {
        shared.loads[shard].fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), shard }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.loads[self.shard].fetch_sub(1, Ordering::Release);
    }
}
