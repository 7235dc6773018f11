//! The publisher: the sending side, used by the one thread that runs the handlers.
//!
//! Nothing it is told reaches a shard before [`Publisher::commit`], so that one wake carries a
//! whole batch. Frames are encoded here, once, into the arena of the batch; what goes to the same
//! place in a row becomes one command over one range of bytes, and so one write.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{Ack, Answer, Command, CommandBatch, CommandQueue};
use crate::event::{Head, Opened};
use crate::message::{self, Kind};
use crate::outbox::Gauge;
use crate::shared::Shared;
use crate::slots::Handle;
use crate::topics::{Topic, Topics};

/// Uncommitted bytes for one shard at which the publisher commits by itself.
pub const COMMIT_BYTES: usize = 256 * 1024;
/// Uncommitted commands for one shard at which the publisher commits by itself.
pub const COMMIT_COMMANDS: usize = 1_024;
/// Payloads from this size on are framed in memory of their own, which all outboxes share.
const LARGE: usize = 16 * 1024;
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

/// What has not been committed to one shard.
struct Outgoing {
    queue: Arc<CommandQueue>,
    commands: Vec<Command>,
    arena: BytesMut,
    /// Bytes of frames that are not in the arena.
    large: usize,
    acks: Vec<Ack>,
}

/// A connection whose `open` has been taken and which has not been released.
struct Member {
    handle: Handle,
    path: Arc<str>,
    head: Head,
    gauge: Arc<Gauge>,
    topic: Option<Arc<Topic>>,
    counted: bool,
}

/// A topic and how many unreleased members refer to it.
struct Held {
    topic: Arc<Topic>,
    members: usize,
}

/// The sending side of an engine.
pub struct Publisher {
    outgoing: Vec<Outgoing>,
    topics: Topics,
    held: HashMap<u64, Held>,
    /// By shard and slot.
    members: Vec<Vec<Option<Member>>>,
    last_topic: u64,
    /// Counts what is committed and not yet carried out.
    shared: Arc<Shared>,
}

impl Publisher {
    pub(crate) fn new(queues: Vec<Arc<CommandQueue>>, topics: Topics, shared: Arc<Shared>) -> Self {
        let members = queues.iter().map(|_| Vec::new()).collect();
        let outgoing = queues
            .into_iter()
            .map(|queue| Outgoing {
                queue,
                commands: Vec::new(),
                arena: BytesMut::new(),
                large: 0,
                acks: Vec::new(),
            })
            .collect();
        Self { outgoing, topics, held: HashMap::new(), members, last_topic: 0, shared }
    }

    /// Learns of a connection; its `open` is about to be dispatched.
    pub fn register(&mut self, opened: &mut Opened) {
        let handle = opened.handle;
        let Some(slots) = self.members.get_mut(handle.shard()) else {
            return;
        };
        if slots.len() <= handle.slot() {
            slots.resize_with(handle.slot() + 1, || None);
        }
        slots[handle.slot()] = Some(Member {
            handle,
            path: opened.path.as_str().into(),
            head: std::mem::take(&mut opened.head),
            gauge: Arc::clone(&opened.gauge),
            topic: None,
            counted: false,
        });
    }

    fn member(&self, handle: Handle) -> Option<&Member> {
        let member = self.members.get(handle.shard())?.get(handle.slot())?.as_ref()?;
        (member.handle == handle).then_some(member)
    }

    fn member_mut(&mut self, handle: Handle) -> Option<&mut Member> {
        let member = self.members.get_mut(handle.shard())?.get_mut(handle.slot())?.as_mut()?;
        (member.handle == handle).then_some(member)
    }

    /// The connection joins its path, and counts from now on. Returns its topic's id.
    pub fn join(&mut self, handle: Handle) -> Option<u64> {
        let path = Arc::clone(&self.member(handle)?.path);
        let topic = match self.topics.get(&path) {
            Some(topic) => topic,
            None => {
                self.last_topic += 1;
                self.topics.insert(path, self.last_topic)
            }
        };
        let id = topic.id;
        let member = self.member_mut(handle)?;
        if member.topic.is_some() {
            return Some(id);
        }
        member.topic = Some(Arc::clone(&topic));
        member.counted = true;
        topic.add_member(handle.shard());
        self.held
            .entry(id)
            .or_insert_with(|| Held { topic: Arc::clone(&topic), members: 0 })
            .members += 1;
        self.command(handle.shard(), Command::Join { handle, topic });
        Some(id)
    }

    /// The connection leaves its path and no longer counts.
    pub fn leave(&mut self, handle: Handle) {
        let Some(member) = self.member_mut(handle) else {
            return;
        };
        if !std::mem::take(&mut member.counted) {
            return;
        }
        if let Some(topic) = &member.topic {
            topic.remove_member(handle.shard());
        }
        self.command(handle.shard(), Command::Leave { handle });
    }

    /// Forgets the connection: every later call with its handle does nothing.
    pub fn release(&mut self, handle: Handle) {
        if self.member(handle).is_none() {
            return;
        }
        self.leave(handle);
        let member = self.members[handle.shard()][handle.slot()].take();
        if let Some(topic) = member.and_then(|member| member.topic)
            && let Some(held) = self.held.get_mut(&topic.id)
        {
            held.members -= 1;
            if held.members == 0 {
                self.held.remove(&topic.id);
                self.topics.remove(&topic.path);
            }
        }
        self.command(handle.shard(), Command::Release { handle });
    }

    /// The headers of the connection's upgrade request.
    pub fn head(&self, handle: Handle) -> Option<&Head> {
        Some(&self.member(handle)?.head)
    }

    /// Bytes queued for the connection and not yet written, uncommitted ones included. A broadcast
    /// that is on its way to its path counts even if the connection is excluded from it.
    pub fn buffered(&self, handle: Handle) -> u64 {
        let Some(member) = self.member(handle) else {
            return 0;
        };
        let broadcast = match &member.topic {
            Some(topic) if member.counted => topic.in_flight(handle.shard()),
            _ => 0,
        };
        member.gauge.buffered() + broadcast
    }

    /// Connections on the topic, in this process.
    pub fn count(&self, topic: u64) -> u32 {
        self.held.get(&topic).map_or(0, |held| held.topic.count())
    }

    /// Sends to one connection.
    pub fn send(&mut self, handle: Handle, message: &impl Source) {
        let Some(member) = self.member(handle) else {
            return;
        };
        let gauge = Arc::clone(&member.gauge);
        let shard = handle.shard();
        let outgoing = &mut self.outgoing[shard];
        if message.length() >= LARGE {
            let frame = frame_alone(message);
            gauge.add_sent(frame.len() as u64);
            outgoing.large += frame.len();
            outgoing.commands.push(Command::SendLarge { handle, frame });
        } else {
            let (from, to) = outgoing.frame(message);
            gauge.add_sent(u64::from(to - from));
            match outgoing.commands.last_mut() {
                Some(Command::Send { handle: same, start, end, frames })
                    if *same == handle && joins(*start, *end, from, to) =>
                {
                    *end = to;
                    *frames += 1;
                }
                _ => {
                    let command = Command::Send { handle, start: from, end: to, frames: 1 };
                    outgoing.commands.push(command);
                }
            }
        }
        self.commit_if_full(shard);
    }

    /// Sends to everyone on the topic, `exclude` excepted.
    pub fn broadcast(&mut self, topic: u64, message: &impl Source, exclude: Option<Handle>) {
        let Some(held) = self.held.get(&topic) else {
            return;
        };
        let topic = Arc::clone(&held.topic);
        self.publish(&topic, message, exclude);
    }

    /// Sends to everyone on a canonical path.
    pub fn push(&mut self, path: &str, message: &impl Source) {
        if let Some(topic) = self.topics.get(path) {
            self.publish(&topic, message, None);
        }
    }

    fn publish(&mut self, topic: &Topic, message: &impl Source, exclude: Option<Handle>) {
        if message.length() >= LARGE {
            let mut framed = None;
            for shard in 0..self.outgoing.len() {
                if topic.count_in(shard) == 0 {
                    continue;
                }
                let frame: Bytes = framed.get_or_insert_with(|| frame_alone(message)).clone();
                topic.add_in_flight(shard, frame.len());
                let outgoing = &mut self.outgoing[shard];
                outgoing.large += frame.len();
                let command = Command::BroadcastLarge { topic: topic.id, exclude, frame };
                outgoing.commands.push(command);
                self.commit_if_full(shard);
            }
            return;
        }
        for shard in 0..self.outgoing.len() {
            if topic.count_in(shard) == 0 {
                continue;
            }
            let outgoing = &mut self.outgoing[shard];
            let (from, to) = outgoing.frame(message);
            topic.add_in_flight(shard, (to - from) as usize);
            match outgoing.commands.last_mut() {
                Some(Command::Broadcast { topic: same, exclude: but, start, end, frames })
                    if *same == topic.id && *but == exclude && joins(*start, *end, from, to) =>
                {
                    *end = to;
                    *frames += 1;
                }
                _ => outgoing.commands.push(Command::Broadcast {
                    topic: topic.id,
                    exclude,
                    start: from,
                    end: to,
                    frames: 1,
                }),
            }
            self.commit_if_full(shard);
        }
    }

    /// Begins the closing handshake. The code is sent if it may be, the reason cut to 123 bytes.
    pub fn close(&mut self, handle: Handle, code: u16, reason: &str) {
        if self.member(handle).is_some() {
            let reason = crate::close::cut_reason(reason).into();
            self.command(handle.shard(), Command::Close { handle, code, reason });
        }
    }

    /// Asks for one [`crate::event::Event::Drained`] when everything queued so far is written.
    /// False if the connection is gone, and no event will come.
    pub fn drain(&mut self, handle: Handle) -> bool {
        let known = self.member(handle).is_some();
        if known {
            self.command(handle.shard(), Command::Drain { handle });
        }
        known
    }

    /// Answers an HTTP request. A handle that is no longer waited for is ignored.
    pub fn respond(&mut self, handle: Handle, answer: Answer) {
        if handle.shard() < self.outgoing.len() {
            let answer = Box::new(answer);
            self.command(handle.shard(), Command::Respond { handle, answer });
        }
    }

    /// A message of `bytes` was handed to its handler: its shard may read more.
    pub fn acknowledge(&mut self, handle: Handle, bytes: usize) {
        if let Some(outgoing) = self.outgoing.get_mut(handle.shard()) {
            outgoing.acks.push(Ack { handle, bytes });
        }
    }

    /// Hands everything to the shards and wakes those that sleep.
    pub fn commit(&mut self) {
        for outgoing in &mut self.outgoing {
            outgoing.commit(&self.shared);
        }
    }

    fn command(&mut self, shard: usize, command: Command) {
        self.outgoing[shard].commands.push(command);
        self.commit_if_full(shard);
    }

    fn commit_if_full(&mut self, shard: usize) {
        let outgoing = &mut self.outgoing[shard];
        if outgoing.arena.len() + outgoing.large >= COMMIT_BYTES
            || outgoing.commands.len() >= COMMIT_COMMANDS
        {
            outgoing.commit(&self.shared);
        }
    }
}

impl Outgoing {
    /// Frames into the arena; returns the range.
    fn frame(&mut self, message: &impl Source) -> (u32, u32) {
        let from = self.arena.len();
        self.arena.reserve(message::MAX_HEADER + message.length() + 1);
        message::put_header(&mut self.arena, message.kind(), message.length());
        message.append(&mut self.arena);
        // The arena is committed at 256 KiB and takes no payload over 16 KiB.
        (from as u32, self.arena.len() as u32)
    }

    fn commit(&mut self, shared: &Shared) {
        if self.commands.is_empty() && self.acks.is_empty() {
            return;
        }
        let bytes = self.arena.len() + std::mem::take(&mut self.large);
        shared.add_buffered(bytes as isize);
        self.queue.push(CommandBatch {
            bytes,
            commands: std::mem::take(&mut self.commands),
            arena: self.arena.split().freeze(),
            acks: std::mem::take(&mut self.acks),
        });
    }
}

fn joins(start: u32, end: u32, from: u32, to: u32) -> bool {
    end == from && (to - start) as usize <= MAX_JOINED
}

fn frame_alone(message: &impl Source) -> Bytes {
    let mut out = BytesMut::with_capacity(message::MAX_HEADER + message.length() + 1);
    message::put_header(&mut out, message.kind(), message.length());
    message.append(&mut out);
    out.freeze()
}
