//! The way to one shard: what has not been committed to it, and whether a commit carries it out itself
//! or leaves it to the shard's own thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

use crate::command::{Ack, Command, CommandBatch, CommandQueue};
use crate::lease::Lease;
use crate::shared::Shared;

/// Uncommitted bytes for one shard that are committed without being asked for.
pub(crate) const COMMIT_BYTES: usize = 256 * 1024;
/// Uncommitted commands for one shard that are committed without being asked for.
const COMMIT_COMMANDS: usize = 1_024;
/// Sockets, of all shards together, that one commit writes to at most in the place of shards that
/// sleep: they cannot wake, and the committing thread does nothing else, meanwhile.
pub(crate) const SOCKETS_HERE: usize = 64;
/// Bytes it writes to them at most.
pub(crate) const BYTES_HERE: usize = 256 * 1024;
/// Bytes that the thread that runs the handlers writes at most for a shard that is lent to it; and it
/// broadcasts to at most [`SOCKETS_HERE`]. More is the shard's, which it gives back for that. Answers
/// have no bound but this one: there are no more of them than messages that came.
pub(crate) const BYTES_LENT: usize = 1024 * 1024;

/// The way to one shard. The shard itself takes what a thread that blocks has not committed, so both
/// lock it: for as long as a copy of one message takes, or what is carried out here.
pub(crate) struct ToShard {
    queue: Arc<CommandQueue>,
    lease: Lease,
    uncommitted: Mutex<Uncommitted>,
    /// Something was too much for the thread that runs the handlers.
    was_too_much: AtomicBool,
}

/// What has not been committed to one shard.
#[derive(Default)]
pub(crate) struct Uncommitted {
    pub(crate) commands: Vec<Command>,
    pub(crate) arena: BytesMut,
    /// Bytes of frames that are not in the arena.
    pub(crate) large: usize,
    pub(crate) acks: Vec<Ack>,
    /// What the commands write at most.
    pub(crate) writes: Writes,
    /// One of the commands is not light.
    heavy: bool,
    /// Counts the commits.
    commits: u64,
}

/// How much is written to how many sockets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Writes {
    pub(crate) sockets: usize,
    pub(crate) bytes: usize,
    /// Of the sockets, those that broadcasts go to.
    members: usize,
}

impl Writes {
    pub(crate) fn add(&mut self, sockets: usize, bytes: usize) {
        self.sockets += sockets;
        self.bytes += bytes;
    }

    /// What a broadcast writes.
    pub(crate) fn fan_out(&mut self, members: usize, bytes: usize) {
        self.add(members, bytes);
        self.members += members;
    }

    /// Too much for the thread that runs the handlers, even if it drives the shard.
    fn are_much(self) -> bool {
        self.members > SOCKETS_HERE || self.bytes > BYTES_LENT
    }

    pub(crate) fn are_few(self) -> bool {
        self.sockets <= SOCKETS_HERE && self.bytes <= BYTES_HERE
    }
}

impl ToShard {
    pub(crate) fn new(queue: Arc<CommandQueue>) -> Self {
        Self {
            queue,
            lease: Lease::default(),
            uncommitted: Mutex::default(),
            was_too_much: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Uncommitted> {
        // Commands stay whole whatever panics: each is pushed by one statement.
        self.uncommitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commit_if_full(&self, outgoing: &mut Uncommitted, shared: &Shared) {
        if outgoing.arena.len() + outgoing.large >= COMMIT_BYTES
            || outgoing.commands.len() >= COMMIT_COMMANDS
        {
            self.hand_over(outgoing, shared);
        }
    }

    /// Leaves it to the shard's own thread, which gets the shard back if that is much.
    fn hand_over(&self, outgoing: &mut Uncommitted, shared: &Shared) {
        let much = outgoing.writes.are_much();
        if let Some(batch) = outgoing.take(shared) {
            self.queue.push(batch);
        }
        if much {
            self.note_too_much();
            self.lease.give_back();
        }
    }

    /// Carries out what is light `here` while the shard sleeps, or anything while it is lent.
    pub(crate) fn commit(&self, shared: &Shared, here: bool) {
        let lent = self.is_lent();
        let mut outgoing = self.lock();
        if outgoing.writes.are_much() {
            return self.hand_over(&mut outgoing, shared);
        }
        // What is in the queue comes first.
        let light = !outgoing.heavy && !self.queue.is_pending();
        let Some(batch) = outgoing.take(shared) else { return };
        let left = if !lent {
            if here && light { self.lease.carry_out(batch) } else { Err(batch) }
        } else if light {
            self.lease.carry_out(batch)
        } else {
            // The shard's tasks may look for what is overdue here.
            drop(outgoing);
            self.lease.carry_out_any(batch)
        };
        if let Err(batch) = left {
            self.queue.push(batch);
        }
    }

    /// Wants the shard lent to the thread that runs the handlers.
    pub(crate) fn want(&self) {
        if self.lease.want() {
            self.queue.wake();
        }
    }

    pub(crate) fn note_too_much(&self) {
        self.was_too_much.store(true, Ordering::Relaxed);
    }

    /// Whether it has had too much to write to be lent, since this was last asked. For the thread that
    /// runs the handlers.
    pub(crate) fn take_too_much(&self) -> bool {
        self.was_too_much.swap(false, Ordering::Relaxed)
    }

    /// Whether the shard is lent, or about to be.
    pub(crate) fn is_lent(&self) -> bool {
        self.lease.is_wanted()
    }

    /// The lease of the shard.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// How many commits there were.
    pub(crate) fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// For another shard: hands over what is uncommitted, if there was no commit since the count of them
    /// was `commits`.
    pub(crate) fn hand_over_overdue(&self, commits: u64, shared: &Shared) {
        let outgoing = &mut *self.lock();
        if outgoing.commits == commits && !outgoing.commands.is_empty() {
            self.hand_over(outgoing, shared);
        }
    }

    /// For the shard: everything that waits for it, what is uncommitted last, if there was no commit
    /// since the count of them was `commits`.
    pub(crate) fn take_overdue(&self, commits: u64, shared: &Shared, into: &mut Vec<CommandBatch>) {
        let mut outgoing = self.lock();
        if outgoing.commits == commits
            && !outgoing.commands.is_empty()
            && let Some(batch) = outgoing.take(shared)
        {
            // Under the lock, so that nothing is committed between the two.
            self.queue.take(into);
            into.push(batch);
        }
    }
}

impl Uncommitted {
    pub(crate) fn add(&mut self, command: Command) {
        self.heavy |= !command.is_light();
        self.commands.push(command);
    }

    fn take(&mut self, shared: &Shared) -> Option<CommandBatch> {
        if self.commands.is_empty() && self.acks.is_empty() {
            return None;
        }
        self.commits += 1;
        self.writes = Writes::default();
        self.heavy = false;
        let bytes = self.arena.len() + std::mem::take(&mut self.large);
        shared.buffered.add(bytes as isize);
        Some(CommandBatch {
            bytes,
            commands: std::mem::take(&mut self.commands),
            arena: self.arena.split().freeze(),
            acks: std::mem::take(&mut self.acks),
        })
    }
}
