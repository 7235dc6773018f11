//! Topics: the concrete paths that have connections in this process, and how many each shard has.
//!
//! Counts are written by the thread that dispatches events and by nobody else, so that they agree
//! with what handlers have seen. Shards and other threads only read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;

/// One concrete path with connections on it.
#[derive(Debug)]
pub struct Topic {
    /// Never reused in an engine.
    pub id: u64,
    /// The canonical concrete path.
    pub path: Arc<str>,
    /// Whether somebody on it has agreed on compression.
    compresses: AtomicBool,
    shards: Box<[PerShard]>,
}

#[derive(Debug, Default)]
struct PerShard {
    members: AtomicU32,
    /// Bytes broadcast and not yet in the members' outboxes.
    in_flight: AtomicU64,
}

impl Topic {
    /// Connections on this path, in this process.
    pub fn count(&self) -> u32 {
        self.shards.iter().map(|shard| shard.members.load(Ordering::Relaxed)).sum()
    }

    /// Connections on this path that `shard` owns.
    pub(crate) fn count_in(&self, shard: usize) -> u32 {
        self.shards[shard].members.load(Ordering::Relaxed)
    }

    /// `compresses` says that the member has agreed on compression.
    pub(crate) fn add_member(&self, shard: usize, compresses: bool) {
        self.shards[shard].members.fetch_add(1, Ordering::Relaxed);
        if compresses {
            self.compresses.store(true, Ordering::Relaxed);
        }
    }

    /// Whether what is sent here may be worth compressing. It stays so until everybody has left.
    pub(crate) fn compresses(&self) -> bool {
        self.compresses.load(Ordering::Relaxed)
    }

    pub(crate) fn remove_member(&self, shard: usize) {
        self.shards[shard].members.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes on their way to each of `shard`'s members.
    pub(crate) fn in_flight(&self, shard: usize) -> u64 {
        self.shards[shard].in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn add_in_flight(&self, shard: usize, bytes: usize) {
        self.shards[shard].in_flight.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn landed(&self, shard: usize, bytes: usize) {
        self.shards[shard].in_flight.fetch_sub(bytes as u64, Ordering::Release);
    }
}

/// All topics of an engine. Cloning is one refcount.
#[derive(Clone, Debug)]
pub struct Topics {
    by_path: Arc<DashMap<Arc<str>, Arc<Topic>>>,
    shards: usize,
}

impl Topics {
    pub(crate) fn new(shards: usize) -> Self {
        Self { by_path: Arc::default(), shards }
    }

    /// The topic of a canonical path, if anyone is on it.
    pub fn get(&self, path: &str) -> Option<Arc<Topic>> {
        // The guard ends with this statement: none is ever held across a callback or an await.
        self.by_path.get(path).map(|entry| Arc::clone(entry.value()))
    }

    pub(crate) fn insert(&self, path: Arc<str>, id: u64) -> Arc<Topic> {
        let shards = (0..self.shards).map(|_| PerShard::default()).collect();
        let topic = Arc::new(Topic {
            id,
            path: Arc::clone(&path),
            compresses: AtomicBool::new(false),
            shards,
        });
        self.by_path.insert(path, Arc::clone(&topic));
        topic
    }

    pub(crate) fn remove(&self, path: &str) {
        self.by_path.remove(path);
    }

    /// How many paths have connections.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether no path has connections.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }
}
