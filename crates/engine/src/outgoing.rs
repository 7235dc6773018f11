//! Outgoing commands: what one thread has for the shards and has not committed yet.
//!
//! Nothing reaches a shard before `Outgoing::commit`, so that one wake carries a whole batch.
//! Frames are encoded here, once, into the arena of the batch; what goes to the same place in a row
//! becomes one command over one range of bytes, and so one write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{Ack, Answer, AnswerBody, Command, CommandBatch, CommandQueue, Origin};
use crate::event::Received;
use crate::lease::Lease;
use crate::message::{self, Kind, LARGE};
use crate::shared::Shared;
use crate::slots::Handle;
use crate::topics::Topic;

/// Uncommitted bytes for one shard that are committed without being asked for.
pub const COMMIT_BYTES: usize = 256 * 1024;
/// Uncommitted commands for one shard that are committed without being asked for.
pub const COMMIT_COMMANDS: usize = 1_024;
/// Frames in a row are joined up to this many bytes, so that what a slow consumer has half received
/// and must be finished stays small.
const MAX_JOINED: usize = 64 * 1024;

/// Sockets, of all shards together, that one commit writes to at most in the place of shards that
/// sleep: they cannot wake, and the committing thread does nothing else, meanwhile.
const SOCKETS_HERE: usize = 64;
/// Bytes it writes to them at most.
const BYTES_HERE: usize = 256 * 1024;
/// Bytes that the thread that runs the handlers writes at most for a shard that is lent to it; and it
/// broadcasts to at most [`SOCKETS_HERE`]. More is the shard's, which it gives back for that. Answers
/// have no bound but this one: there are no more of them than messages that came.
const BYTES_LENT: usize = 1024 * 1024;

/// A message to be framed: its length is known before its bytes are written.
pub trait Source {
    /// Exactly how many bytes [`Self::append`] will write.
    fn length(&self) -> usize;
    /// Text or binary.
    fn kind(&self) -> Kind;
    /// Writes the bytes.
    fn append(&self, out: &mut BytesMut);
    /// The frame itself, if there is one already.
    fn frame(&self) -> Option<Bytes> {
        None
    }
}

impl Source for &str {
    fn length(&self) -> usize {
        str::len(self)
    }
    fn kind(&self) -> Kind {
        Kind::Text
    }
    fn append(&self, out: &mut BytesMut) {
        out.put_slice(self.as_bytes());
    }
}

impl Source for &[u8] {
    fn length(&self) -> usize {
        <[u8]>::len(self)
    }
    fn kind(&self) -> Kind {
        Kind::Binary
    }
    fn append(&self, out: &mut BytesMut) {
        out.put_slice(self);
    }
}

impl Source for Received<'_> {
    fn length(&self) -> usize {
        self.bytes().len()
    }
    fn kind(&self) -> Kind {
        self.kind
    }
    fn append(&self, out: &mut BytesMut) {
        out.put_slice(self.bytes());
    }
    fn frame(&self) -> Option<Bytes> {
        self.payload.frame().cloned()
    }
}

/// The uncommitted commands of one thread for every shard.
pub(crate) struct Outgoing {
    shards: Vec<Arc<ToShard>>,
    /// Counts what is committed and not yet carried out.
    shared: Arc<Shared>,
}

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
struct Uncommitted {
    commands: Vec<Command>,
    arena: BytesMut,
    /// Bytes of frames that are not in the arena.
    large: usize,
    acks: Vec<Ack>,
    /// What the commands write at most.
    writes: Writes,
    /// One of the commands is not light.
    heavy: bool,
    /// Counts the commits.
    commits: u64,
}

/// How much is written to how many sockets.
#[derive(Clone, Copy, Debug, Default)]
struct Writes {
    sockets: usize,
    bytes: usize,
    /// Of the sockets, those that broadcasts go to.
    members: usize,
}

impl Writes {
    fn add(&mut self, sockets: usize, bytes: usize) {
        self.sockets += sockets;
        self.bytes += bytes;
    }

    /// What a broadcast writes.
    fn fan_out(&mut self, members: usize, bytes: usize) {
        self.add(members, bytes);
        self.members += members;
    }

    /// Too much for the thread that runs the handlers, even if it drives the shard.
    fn are_much(self) -> bool {
        self.members > SOCKETS_HERE || self.bytes > BYTES_LENT
    }

    fn are_few(self) -> bool {
        self.sockets <= SOCKETS_HERE && self.bytes <= BYTES_HERE
    }
}

impl Outgoing {
    pub(crate) fn new(queues: Vec<Arc<CommandQueue>>, shared: Arc<Shared>) -> Self {
        let shards = queues
            .into_iter()
            .map(|queue| {
                let (lease, uncommitted) = (Lease::default(), Mutex::default());
                Arc::new(ToShard {
                    queue,
                    lease,
                    uncommitted,
                    was_too_much: AtomicBool::new(false),
                })
            })
            .collect();
        Self { shards, shared }
    }

    /// The way to one shard, for that shard.
    pub(crate) fn to_shard(&self, shard: usize) -> Option<Arc<ToShard>> {
        self.shards.get(shard).cloned()
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Sends to one connection, which `compresses` or not; returns the bytes of the frame.
    pub(crate) fn send(
        &mut self,
        handle: Handle,
        compresses: bool,
        message: &impl Source,
    ) -> usize {
        let alone = self.goes_alone(message, compresses);
        let way = &self.shards[handle.shard()];
        let outgoing = &mut *way.lock();
        let bytes;
        if alone {
            let frame = frame_alone(message);
            bytes = frame.len();
            outgoing.large += bytes;
            outgoing.writes.add(1, bytes);
            let compress = compresses && self.is_compressible(message);
            outgoing.add(Command::SendAlone { handle, frame, compress });
        } else {
            let (from, to) = outgoing.frame(message);
            bytes = (to - from) as usize;
            outgoing.writes.add(0, bytes);
            match outgoing.commands.last_mut() {
                Some(Command::Send { handle: same, start, end, frames })
                    if *same == handle && joins(*start, *end, from, to) =>
                {
                    *end = to;
                    *frames += 1;
                }
                _ => {
                    outgoing.writes.add(1, 0);
                    outgoing.add(Command::Send { handle, start: from, end: to, frames: 1 });
                }
            }
        }
        way.commit_if_full(outgoing, &self.shared);
        bytes
    }

    /// Sends to the topic's connections, on the shards that have some.
    pub(crate) fn fan_out(&mut self, topic: &Topic, message: &impl Source, origin: Origin) {
        let compresses = topic.compresses();
        if self.goes_alone(message, compresses) {
            let mut framed = None;
            let mut shared_deflated = None;
            let compressed = compresses && self.is_compressible(message);
            for shard in 0..self.shards.len() {
                if topic.count_in(shard) == 0 {
                    continue;
                }
                let frame: Bytes = framed.get_or_insert_with(|| frame_alone(message)).clone();
                origin.depart(topic, shard, frame.len());
                let way = &self.shards[shard];
                let outgoing = &mut *way.lock();
                outgoing.large += frame.len();
                let members = topic.count_in(shard) as usize;
                outgoing.writes.fan_out(members, members * frame.len());
                let deflated = compressed
                    .then(|| Arc::clone(shared_deflated.get_or_insert_with(Arc::default)));
                let topic = topic.id;
                outgoing.add(Command::BroadcastAlone { topic, origin, frame, deflated });
                way.commit_if_full(outgoing, &self.shared);
            }
            return;
        }
        for shard in 0..self.shards.len() {
            if topic.count_in(shard) == 0 {
                continue;
            }
            let way = &self.shards[shard];
            let outgoing = &mut *way.lock();
            let (from, to) = outgoing.frame(message);
            let (members, bytes) = (topic.count_in(shard) as usize, (to - from) as usize);
            origin.depart(topic, shard, bytes);
            outgoing.writes.fan_out(0, members * bytes);
            match outgoing.commands.last_mut() {
                Some(Command::Broadcast { topic: same, origin: but, start, end, frames })
                    if *same == topic.id && *but == origin && joins(*start, *end, from, to) =>
                {
                    *end = to;
                    *frames += 1;
                }
                last => {
                    // One write a member, however many go to them in a row.
                    if !matches!(last, Some(Command::Broadcast { topic: same, .. }) if *same == topic.id)
                    {
                        outgoing.writes.fan_out(members, 0);
                    }
                    outgoing.add(Command::Broadcast {
                        topic: topic.id,
                        origin,
                        start: from,
                        end: to,
                        frames: 1,
                    });
                }
            }
            way.commit_if_full(outgoing, &self.shared);
        }
    }

    /// Whether a message is framed in memory of its own. One that is compressed must be.
    fn goes_alone(&self, message: &impl Source, compresses: bool) -> bool {
        message.length() >= LARGE || compresses && self.is_compressible(message)
    }

    fn is_compressible(&self, message: &impl Source) -> bool {
        message.length() >= self.shared.config.compression_threshold
    }

    /// Sends to every connection that is on a topic, whichever it is, but the one with the id
    /// `exclude`.
    pub(crate) fn broadcast_to_all(&mut self, message: &impl Source, exclude: Option<u128>) {
        let frame = frame_alone(message);
        for shard in 0..self.shards.len() {
            self.shards[shard].lock().large += frame.len();
            self.command(shard, Command::ToAll { exclude, frame: frame.clone() });
        }
    }

    /// Answers an HTTP request with header lines and a body.
    pub(crate) fn respond(
        &mut self,
        handle: Handle,
        status: u16,
        headers: &impl Source,
        body: &impl Source,
    ) {
        let Some(way) = self.shards.get(handle.shard()) else {
            return;
        };
        let outgoing = &mut *way.lock();
        let length = headers.length() + body.length();
        if length >= LARGE {
            // Node-API ends each with a zero, which the next one overwrites.
            let mut bytes = BytesMut::with_capacity(length + 1);
            headers.append(&mut bytes);
            let headers = bytes.split().freeze();
            body.append(&mut bytes);
            let body = AnswerBody::Bytes(bytes.freeze());
            outgoing.large += length;
            let answer = Box::new(Answer { status, headers, body });
            outgoing.add(Command::RespondAlone { handle, answer });
        } else {
            outgoing.arena.reserve(length + 1);
            let start = outgoing.arena.len() as u32;
            headers.append(&mut outgoing.arena);
            let middle = outgoing.arena.len() as u32;
            body.append(&mut outgoing.arena);
            let end = outgoing.arena.len() as u32;
            outgoing.add(Command::Respond { handle, status, start, middle, end });
        }
        way.commit_if_full(outgoing, &self.shared);
    }

    pub(crate) fn command(&mut self, shard: usize, command: Command) {
        let way = &self.shards[shard];
        let outgoing = &mut *way.lock();
        outgoing.add(command);
        way.commit_if_full(outgoing, &self.shared);
    }

    /// A message of `bytes` was handed to its handler: its shard may read more.
    pub(crate) fn acknowledge(&mut self, handle: Handle, bytes: usize) {
        if let Some(way) = self.shards.get(handle.shard()) {
            let mut outgoing = way.lock();
            match outgoing.acks.last_mut() {
                Some(last) if last.handle == handle => {
                    last.messages += 1;
                    last.bytes += bytes;
                }
                _ => outgoing.acks.push(Ack { handle, messages: 1, bytes }),
            }
        }
    }

    /// Hands everything to the shards and wakes those that sleep. If it writes little in all, what is
    /// for those that sleep is carried out here instead.
    pub(crate) fn commit(&mut self) {
        let mut all = Writes::default();
        for way in &self.shards {
            let Writes { sockets, bytes, .. } = way.lock().writes;
            all.add(sockets, bytes);
        }
        for way in &self.shards {
            way.commit(&self.shared, all.are_few());
        }
    }

    /// Hands over what there is to the shards that run on their own threads.
    pub(crate) fn flush(&mut self) {
        for way in self.shards.iter().filter(|way| !way.is_lent()) {
            way.commit(&self.shared, false);
        }
    }

    /// As [`Self::commit`], but nothing is carried out for shards that run on their own threads.
    pub(crate) fn hand_over(&mut self) {
        for way in &self.shards {
            way.commit(&self.shared, false);
        }
    }
}

impl ToShard {
    fn lock(&self) -> MutexGuard<'_, Uncommitted> {
        // Commands stay whole whatever panics: each is pushed by one statement.
        self.uncommitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_if_full(&self, outgoing: &mut Uncommitted, shared: &Shared) {
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
    fn commit(&self, shared: &Shared, here: bool) {
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
    fn add(&mut self, command: Command) {
        self.heavy |= !command.is_light();
        self.commands.push(command);
    }

    /// Frames into the arena; returns the range.
    fn frame(&mut self, message: &impl Source) -> (u32, u32) {
        let from = self.arena.len();
        self.arena.reserve(message::MAX_HEADER + message.length() + 1);
        message::put_header(&mut self.arena, message.kind(), message.length());
        message.append(&mut self.arena);
        // The arena is committed at 256 KiB and takes no payload over 16 KiB.
        (from as u32, self.arena.len() as u32)
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

fn joins(start: u32, end: u32, from: u32, to: u32) -> bool {
    end == from && (to - start) as usize <= MAX_JOINED
}

fn frame_alone(message: &impl Source) -> Bytes {
    if let Some(frame) = message.frame() {
        return frame;
    }
    let mut out = BytesMut::with_capacity(message::MAX_HEADER + message.length() + 1);
    message::put_header(&mut out, message.kind(), message.length());
    message.append(&mut out);
    out.freeze()
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
