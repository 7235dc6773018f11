//! The publisher: the sending side, used by the one thread that runs the handlers.
//!
//! Nothing it is told reaches a shard before [`Publisher::commit`], so that one wake carries a
//! whole batch. Frames are encoded here, once, into the arena of the batch; what goes to the same
//! place in a row becomes one command over one range of bytes, and so one write.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backplane::Publishes;
use crate::command::{Answer, Command, CommandQueue, Origin};
use crate::event::Opened;
use crate::outbox::Gauge;
use crate::outgoing::{Outgoing, Source};
use crate::shared::Shared;
use crate::slots::Handle;
use crate::to_shard::{COMMIT_BYTES, ToShard};
use crate::topics::{Topic, Topics};

/// A connection whose `open` has been taken and which has not been released.
struct Member {
    handle: Handle,
    id: u128,
    /// Until it has joined.
    path: Box<str>,
    head: Box<str>,
    gauge: Arc<Gauge>,
    /// Whether compression was agreed.
    compresses: bool,
    topic: Option<Arc<Topic>>,
    counted: bool,
}

/// A topic and how many unreleased members refer to it.
struct Held {
    topic: Arc<Topic>,
    members: usize,
}

fn find(members: &[Vec<Option<Member>>], handle: Handle) -> Option<&Member> {
    let member = members.get(handle.shard())?.get(handle.slot())?.as_ref()?;
    (member.handle == handle).then_some(member)
}

/// The sending side of an engine.
pub struct Publisher {
    outgoing: Outgoing,
    topics: Topics,
    held: HashMap<u64, Held>,
    /// By shard and slot.
    members: Vec<Vec<Option<Member>>>,
    last_topic: u64,
    /// To the other nodes, if there may be any.
    publishes: Option<Publishes>,
}

impl Publisher {
    pub(crate) fn new(
        queues: Vec<Arc<CommandQueue>>,
        topics: Topics,
        shared: Arc<Shared>,
        publishes: Option<Publishes>,
    ) -> Self {
        let members = queues.iter().map(|_| Vec::new()).collect();
        let outgoing = Outgoing::new(queues, shared);
        Self { outgoing, topics, held: HashMap::new(), members, last_topic: 0, publishes }
    }

    /// The way to one shard, for that shard.
    pub(crate) fn to_shard(&self, shard: usize) -> Option<Arc<ToShard>> {
        self.outgoing.to_shard(shard)
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
            id: opened.id,
            path: opened.path.as_str().into(),
            head: std::mem::take(&mut opened.head),
            gauge: Arc::clone(&opened.gauge),
            compresses: opened.window.is_some(),
            topic: None,
            counted: false,
        });
    }

    fn member(&self, handle: Handle) -> Option<&Member> {
        find(&self.members, handle)
    }

    fn member_mut(&mut self, handle: Handle) -> Option<&mut Member> {
        let member = self.members.get_mut(handle.shard())?.get_mut(handle.slot())?.as_mut()?;
        (member.handle == handle).then_some(member)
    }

    /// The connection joins its path, and counts from now on. Returns its topic's id.
    pub fn join(&mut self, handle: Handle) -> Option<u64> {
        let member = self.member_mut(handle)?;
        if let Some(topic) = &member.topic {
            return Some(topic.id);
        }
        let path = std::mem::take(&mut member.path);
        let topic = match self.topics.get(&path) {
            Some(topic) => topic,
            None => {
                self.last_topic += 1;
                self.topics.insert(path.into(), self.last_topic)
            }
        };
        let id = topic.id;
        let member = self.member_mut(handle)?;
        member.topic = Some(Arc::clone(&topic));
        member.counted = true;
        topic.add_member(handle.shard(), member.compresses);
        self.held
            .entry(id)
            .or_insert_with(|| Held { topic: Arc::clone(&topic), members: 0 })
            .members += 1;
        self.outgoing.command(handle.shard(), Command::Join { handle, topic });
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
        self.outgoing.command(handle.shard(), Command::Leave { handle });
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
        self.outgoing.command(handle.shard(), Command::Release { handle });
    }

    /// Connections that it has learned of and that are not released.
    pub fn registered(&self) -> usize {
        self.members.iter().flatten().flatten().count()
    }

    /// The headers of the connection's upgrade request, a line `name:value` each.
    pub fn head(&self, handle: Handle) -> Option<&str> {
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
        let Self { members, outgoing, .. } = self;
        let Some(member) = find(members, handle) else {
            return;
        };
        let sent = outgoing.send(handle, member.compresses, message);
        member.gauge.add_sent(sent as u64);
    }

    /// Sends to everyone on the topic, `exclude` excepted, and on its path on the other nodes.
    pub fn broadcast(&mut self, topic: u64, message: &impl Source, exclude: Option<Handle>) {
        let Some(held) = self.held.get(&topic) else {
            return;
        };
        let topic = Arc::clone(&held.topic);
        let origin = Origin::Local(exclude);
        let excluded = exclude.and_then(|handle| Some(self.member(handle)?.id));
        let Some(publishes) = &mut self.publishes else {
            return self.outgoing.fan_out(&topic, message, origin);
        };
        let copied = publishes.add(Arc::clone(&topic.path), message, excluded, Vec::new());
        self.outgoing.fan_out(&topic, &copied, origin);
        self.commit_if_full();
    }

    /// Sends to everyone on a canonical path, on all nodes but those in `delivered`, which have
    /// delivered it already.
    pub fn push(&mut self, path: &str, message: &impl Source, delivered: Vec<String>) {
        let Some(publishes) = &mut self.publishes else {
            return self.push_here(path, message);
        };
        let copied = publishes.add(path.into(), message, None, delivered);
        if let Some(topic) = self.topics.get(path) {
            self.outgoing.fan_out(&topic, &copied, Origin::Local(None));
        }
        self.commit_if_full();
    }

    /// Sends to everyone on a canonical path, in this process alone.
    pub fn push_here(&mut self, path: &str, message: &impl Source) {
        if let Some(topic) = self.topics.get(path) {
            self.outgoing.fan_out(&topic, message, Origin::Local(None));
        }
    }

    /// The backplane never gets what the shards have not: local delivery comes first.
    fn commit_if_full(&mut self) {
        if self.publishes.as_ref().is_some_and(|publishes| publishes.bytes() >= COMMIT_BYTES) {
            self.commit();
        }
    }

    /// Begins the closing handshake. The code is sent if it may be, the reason cut to 123 bytes.
    pub fn close(&mut self, handle: Handle, code: u16, reason: &str) {
        if self.member(handle).is_some() {
            let reason = crate::close::cut_reason(reason).into();
            self.outgoing.command(handle.shard(), Command::Close { handle, code, reason });
        }
    }

    /// Asks for one [`crate::event::Event::Drained`] when everything queued so far is written.
    /// False if the connection is gone, and no event will come.
    pub fn drain(&mut self, handle: Handle) -> bool {
        let known = self.member(handle).is_some();
        if known {
            self.outgoing.command(handle.shard(), Command::Drain { handle });
        }
        known
    }

    /// Answers an HTTP request; `headers` are lines `name:value`. A handle that is no longer waited
    /// for is ignored.
    pub fn respond(
        &mut self,
        handle: Handle,
        status: u16,
        headers: &impl Source,
        body: &impl Source,
    ) {
        self.outgoing.respond(handle, status, headers, body);
    }

    /// Answers an HTTP request with what is at hand already, or a file.
    pub fn answer(&mut self, handle: Handle, answer: Answer) {
        if handle.shard() < self.outgoing.shards() {
            let answer = Box::new(answer);
            self.outgoing.command(handle.shard(), Command::RespondAlone { handle, answer });
        }
    }

    /// A message of `bytes` was handed to its handler: its shard may read more.
    pub fn acknowledge(&mut self, handle: Handle, bytes: usize) {
        self.outgoing.acknowledge(handle, bytes);
    }

    /// Hands everything to the shards and wakes those that sleep. A little for one that sleeps is
    /// carried out here instead: that takes longer here and less time in all. So is everything for one
    /// that this thread drives, in its runtime: this must be no thread of another one.
    pub fn commit(&mut self) {
        self.outgoing.commit();
        if let Some(publishes) = &mut self.publishes {
            publishes.commit();
        }
    }

    /// In the middle of a batch: hands over what there is to shards that run on their own threads, to
    /// write it while the other handlers run.
    pub fn flush(&mut self) {
        self.outgoing.flush();
    }

    /// As [`Self::commit`], for a thread with more to do: nothing is carried out here.
    pub fn hand_over(&mut self) {
        self.outgoing.hand_over();
        if let Some(publishes) = &mut self.publishes {
            publishes.commit();
        }
    }
}
