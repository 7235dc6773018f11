//! The event loop: keeps as many messages under way as the plan says, and counts.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::frame::{Expected, Seen};
use crate::latency::Latency;
use crate::peer::{self, Opening, Peer};
use crate::plan::{Plan, Work};
use crate::usage::Usage;

pub(crate) const READ_BUFFER: usize = 256 * 1024;
pub(crate) const EVENTS: usize = 1024;
/// Without any delivery for this long, the server is given up.
pub(crate) const STALLED: Duration = Duration::from_secs(5);
/// After the last delivery that is due, more of them would be too many.
pub(crate) const QUIET: Duration = Duration::from_millis(50);
/// How long one wait for events may last, so that the marks of time are not missed by more.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// What came of a plan.
pub(crate) struct Outcome {
    pub(crate) window: Duration,
    /// Messages sent and deliveries received within the window.
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// Of the whole run: deliveries that never came, and that nobody had sent.
    pub(crate) lost: u64,
    pub(crate) extra: u64,
    pub(crate) usage: Usage,
    /// Recorded where each connection has one message under way.
    pub(crate) latency: Latency,
}

/// Counters at a mark of time.
struct Mark {
    at: Instant,
    messages: u64,
    deliveries: u64,
    usage: Usage,
}

/// # Errors
/// When a connection cannot be made or does not last, when a frame comes that was not sent, and
/// when nothing comes for five seconds.
pub(crate) fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut load = Load::connect(plan)?;
    load.begin()?;
    load.go_on_for(plan.warm_up)?;
    let begin = load.mark()?;
    load.timing = plan.work == Work::Echo && plan.in_flight == 1 && plan.under_way.is_none();
    load.go_on_for(plan.measured)?;
    let end = load.mark()?;
    load.timing = false;
    load.sending = false;
    let (lost, extra) = load.finish()?;
    Ok(Outcome {
        window: end.at - begin.at,
        messages: end.messages - begin.messages,
        deliveries: end.deliveries - begin.deliveries,
        lost,
        extra,
        usage: end.usage.since(&begin.usage),
        latency: load.latency,
    })
}

/// Those who get a message: everyone who opened the same path.
struct Room {
    members: u64,
    /// Messages that its members sent, and deliveries to them.
    sent: u64,
    received: u64,
}

impl Room {
    /// Messages that all members have, where one sends.
    fn complete(&self) -> u64 {
        self.received / self.members
    }
}

struct Load<'a> {
    plan: &'a Plan,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    expected: Expected,
    peers: Vec<Peer>,
    /// None for an echo; otherwise the peer `i` is in the room `i mod rooms`.
    rooms: Vec<Room>,
    /// Who sends next, where they take turns: the room, or the connection of an echo.
    next: usize,
    sending: bool,
    timing: bool,
    /// Sums over the peers.
    sent: u64,
    received: u64,
    last_delivery: Instant,
    latency: Latency,
}

impl<'a> Load<'a> {
    fn connect(plan: &'a Plan) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut peers = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let greeted = if plan.work == Work::Echo { Opening::Silent } else { Opening::Greeted };
            let opening = plan.opening(greeted);
            let path = plan.path_of(index);
            let socket = peer::connect(plan.address, index, &path, opening)
                .map_err(|error| about(index, &error))?;
            let one = plan.frame_of(index);
            let frames: Rc<[u8]> = one.repeat(plan.in_flight).into();
            let mut peer = Peer::new(socket, index, frames, one.len());
            poll.registry().register(
                &mut peer.socket,
                Token(index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            peers.push(peer);
        }
        let mut rooms = Vec::new();
        if plan.work != Work::Echo {
            let count = plan.rooms.unwrap_or(1);
            rooms.extend((0..count).map(|room| Room {
                members: (room..plan.connections).step_by(count).len() as u64,
                sent: 0,
                received: 0,
            }));
        }
        Ok(Self {
            plan,
            poll,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BUFFER],
            expected: plan.expected(),
            peers,
            rooms,
            next: 0,
            sending: true,
            timing: false,
            sent: 0,
            received: 0,
            last_delivery: Instant::now(),
            latency: Latency::default(),
        })
    }

    /// Deliveries that all messages so far cause.
    fn due(&self) -> u64 {
        match self.plan.work {
            Work::Echo => self.sent,
            Work::BroadcastAll | Work::BroadcastOne => {
                self.rooms.iter().map(|room| room.sent * room.members).sum()
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let count = self.plan.in_flight as u64;
        if let Some(all) = self.plan.under_way {
            return self.go_round(all as u64);
        }
        if self.plan.work == Work::BroadcastOne {
            return self.go_round(count);
        }
        let speakers = self.plan.speakers.unwrap_or(self.peers.len());
        (0..speakers).try_for_each(|index| self.send(index, count))
    }

    /// Sends this many messages, each from the first member of the next room, or from the next
    /// connection.
    fn go_round(&mut self, count: u64) -> io::Result<()> {
        let all = if self.rooms.is_empty() { self.peers.len() } else { self.rooms.len() };
        if all == 1 {
            return if count > 0 { self.send(0, count) } else { Ok(()) };
        }
        for _ in 0..count {
            self.send(self.next, 1)?;
            self.next = (self.next + 1) % all;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, count: u64) -> io::Result<()> {
        self.sent += count;
        let rooms = self.rooms.len().max(1);
        if let Some(room) = self.rooms.get_mut(index % rooms) {
            room.sent += count;
        }
        let peer = &mut self.peers[index];
        peer.sent_at = Instant::now();
        peer.send(count).map_err(|error| about(index, &error))
    }

    fn mark(&self) -> io::Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            messages: self.sent,
            deliveries: self.received,
            usage: Usage::now(self.plan.servers.first().copied())?,
        })
    }

    fn go_on_for(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now.saturating_duration_since(self.last_delivery) > STALLED {
                return Err(io::Error::other(format!(
                    "nothing came for {} s while {} deliveries were due",
                    STALLED.as_secs(),
                    self.due().saturating_sub(self.received)
                )));
            }
            self.turn(end - now)?;
        }
    }

    /// One wait, and what is ready after it.
    fn turn(&mut self, at_most: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let waited = self.poll.poll(&mut events, Some(at_most.min(TICK)));
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        let before = self.received;
        for event in &events {
            let Token(index) = event.token();
            if event.is_readable() {
                self.readable(index)?;
            }
            if event.is_writable() {
                let flushed = self.peers[index].flush();
                flushed.map_err(|error| about(index, &error))?;
            }
        }
        self.events = events;
        if self.received != before {
            self.last_delivery = Instant::now();
        }
        Ok(())
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        let Seen { messages, own, .. } =
            peer.receive(&mut self.buffer, &self.expected).map_err(|error| about(index, &error))?;
        self.received += messages;
        let mut complete = 0;
        let rooms = self.rooms.len().max(1);
        if let Some(room) = self.rooms.get_mut(index % rooms) {
            let before = room.complete();
            room.received += messages;
            complete = room.complete() - before;
        }
        if self.timing && messages > 0 {
            self.latency.record(peer.sent_at.elapsed());
        }
        if !self.sending {
            return Ok(());
        }
        match self.plan.work {
            Work::Echo if self.plan.under_way.is_some() => self.go_round(messages),
            Work::Echo if messages > 0 => self.send(index, messages),
            Work::BroadcastAll if own > 0 => self.send(index, own),
            Work::BroadcastOne => self.go_round(complete),
            Work::Echo | Work::BroadcastAll => Ok(()),
        }
    }

    /// Waits for what is still under way; returns how many deliveries were lost and how many were
    /// too many.
    fn finish(&mut self) -> io::Result<(u64, u64)> {
        let due = self.due();
        let mut progress = Instant::now();
        let mut received = self.received;
        while self.received < due && progress.elapsed() < STALLED {
            self.turn(TICK)?;
            if self.received != received {
                received = self.received;
                progress = Instant::now();
            }
        }
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn(QUIET)?;
        }
        let (mut lost, mut extra) = (0, 0);
        for (index, peer) in self.peers.iter().enumerate() {
            let room = self.rooms.get(index % self.rooms.len().max(1));
            let expected = room.map_or(peer.sent, |room| room.sent);
            lost += expected.saturating_sub(peer.received);
            extra += peer.received.saturating_sub(expected);
        }
        Ok((lost, extra))
    }
}

pub(crate) fn about(index: usize, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("connection {index}: {error}"))
}
