//! Outgoing commands: what one thread has for the shards and has not committed yet.
//!
//! Nothing reaches a shard before `Outgoing::commit`, so that one wake carries a whole batch.
//! Frames are encoded here, once, into the arena of the batch; what goes to the same place in a row
//! becomes one command over one range of bytes, and so one write.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{Ack, Answer, AnswerBody, Command, CommandQueue, Origin};
use crate::event::Received;
use crate::message::{self, Kind, LARGE};
use crate::shared::Shared;
use crate::slots::Handle;
use crate::to_shard::{ToShard, Writes};
use crate::topics::Topic;

/// Frames in a row are joined up to this many bytes, so that what a slow consumer has half received
/// and must be finished stays small.
const MAX_JOINED: usize = 64 * 1024;

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

impl Outgoing {
    pub(crate) fn new(queues: Vec<Arc<CommandQueue>>, shared: Arc<Shared>) -> Self {
        let shards = queues.into_iter().map(|queue| Arc::new(ToShard::new(queue))).collect();
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
            let (from, to) = frame(&mut outgoing.arena, message);
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
            let (from, to) = frame(&mut outgoing.arena, message);
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

fn joins(start: u32, end: u32, from: u32, to: u32) -> bool {
    end == from && (to - start) as usize <= MAX_JOINED
}

/// Frames into the arena; returns the range.
fn frame(arena: &mut BytesMut, message: &impl Source) -> (u32, u32) {
    let from = arena.len();
    arena.reserve(message::MAX_HEADER + message.length() + 1);
    message::put_header(arena, message.kind(), message.length());
    message.append(arena);
    // The arena is committed at 256 KiB and takes no payload over 16 KiB.
    (from as u32, arena.len() as u32)
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
