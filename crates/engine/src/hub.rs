//! The hub of one shard: its connections and who of them is on which topic.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::command::Origin;
use crate::connection::Connection;
use crate::deflate::Deflated;
use crate::outbox::Chunk;
use crate::slots::{Handle, Slots};
use crate::topics::Topic;

pub(crate) struct Hub {
    shard: usize,
    members: Slots<Member>,
    rooms: HashMap<u64, Room>,
}

struct Member {
    connection: Rc<Connection>,
    /// The topic it is on, and where in that room's list.
    place: Option<(u64, usize)>,
}

/// A topic's connections, dense: a fan-out walks nothing but this.
struct Room {
    topic: Arc<Topic>,
    connections: Vec<Rc<Connection>>,
}

impl Hub {
    pub(crate) fn new(shard: usize) -> Self {
        Self { shard, members: Slots::new(shard), rooms: HashMap::new() }
    }

    /// Registers what `make` makes of its handle; `None` when the shard is full.
    pub(crate) fn add(
        &mut self,
        make: impl FnOnce(Handle) -> Rc<Connection>,
    ) -> Option<Rc<Connection>> {
        let handle =
            self.members.insert_with(|handle| Member { connection: make(handle), place: None })?;
        self.get(handle)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<Rc<Connection>> {
        self.members.get(handle).map(|member| Rc::clone(&member.connection))
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.members.values().map(|member| &member.connection)
    }

    pub(crate) fn join(&mut self, handle: Handle, topic: Arc<Topic>) {
        let Some(member) = self.members.get_mut(handle) else {
            return;
        };
        let id = topic.id;
        let room = self.rooms.entry(id).or_insert_with(|| Room { topic, connections: Vec::new() });
        member.place = Some((id, room.connections.len()));
        room.connections.push(Rc::clone(&member.connection));
    }

    pub(crate) fn leave(&mut self, handle: Handle) {
        let Some(member) = self.members.get_mut(handle) else {
            return;
        };
        let Some((id, position)) = member.place.take() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        room.connections.swap_remove(position);
        if room.connections.is_empty() {
            self.rooms.remove(&id);
        } else if let Some(moved) = room.connections.get(position).map(|moved| moved.handle)
            && let Some(moved) = self.members.get_mut(moved)
        {
            moved.place = Some((id, position));
        }
    }

    /// Frees the slot; a connection that has not ended by itself is ended.
    pub(crate) fn release(&mut self, handle: Handle) {
        self.leave(handle);
        if let Some(member) = self.members.remove(handle) {
            member.connection.forget();
        }
    }

    /// Puts `chunk` into the outbox of everyone on the topic but the one that is left out.
    /// With `deflated`, those who agreed on compression get what is in there.
    pub(crate) fn broadcast(
        &self,
        topic: u64,
        chunk: &Chunk,
        deflated: Option<&Deflated>,
        origin: Origin,
    ) {
        let Some(room) = self.rooms.get(&topic) else {
            return;
        };
        match origin {
            Origin::Local(Some(exclude)) => {
                room.push(chunk, deflated, |member| member.handle == exclude);
            }
            Origin::Remote(Some(exclude)) => {
                room.push(chunk, deflated, |member| member.id == exclude);
            }
            Origin::Local(None) | Origin::Remote(None) => room.push(chunk, deflated, |_| false),
        }
        origin.arrive(&room.topic, self.shard, chunk.bytes.len());
    }

    /// Puts `chunk` into the outbox of everyone on any topic but the connection `exclude`.
    pub(crate) fn broadcast_to_all(&self, chunk: &Chunk, exclude: Option<u128>) {
        for room in self.rooms.values() {
            room.push(chunk, None, |member| Some(member.id) == exclude);
        }
    }
}

impl Room {
    fn push(
        &self,
        chunk: &Chunk,
        deflated: Option<&Deflated>,
        is_left_out: impl Fn(&Connection) -> bool,
    ) {
        for connection in &self.connections {
            if !is_left_out(connection) {
                connection.push_shared(chunk, deflated);
            }
        }
    }
}
