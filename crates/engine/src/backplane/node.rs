//! The node: what this process says on the bus and makes of what it hears there.
//!
//! No socket and no clock: it is told the time and what arrived, and is asked what to send. Whatever
//! connects it to a bus may lose, repeat or reorder; between nodes like this one every envelope is
//! delivered once and in its origin's order, as long as the origin lives and still keeps it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::channel::Channel;
use super::control::{Body, Control, MAX_WRAPPING};
use super::counting::Counts;
use super::envelope::{self, Delivery, Inbound, Outbound, Place};
use super::peer::ASK_AFTER;
use super::peers::{Answered, MAX_PEERS, Outcome, Peers, Question, Standing};
use super::replay::Replay;
use super::sequence::{Missing, Taken};
use super::status::{Status, count};
use super::troubles::Troubles;
use crate::event::LogLevel;

/// Heartbeats without a word after which a node, or the link itself, is given up.
pub(crate) const PATIENCE: u32 = 3;
/// Envelopes of one answer, in bytes; the next question brings the next ones.
const ANSWER_BYTES: usize = 1024 * 1024;
/// Control messages that wait, in bytes; while there are more, questions are not answered.
const MAX_CONTROL_BYTES: usize = 8 * 1024 * 1024;

/// This process, as its node acts on it.
pub(crate) trait Here {
    /// Sends an envelope's message to its connections. False if it names no usable path.
    fn deliver(&mut self, delivery: &Delivery) -> bool;
    /// Connections on a path.
    fn count(&self, path: &str) -> u64;
    /// A count that was asked for is complete.
    fn counted(&mut self, id: u64, sum: u64);
    /// Whether the process holds more than it may: then nothing more is taken in.
    fn is_over(&self) -> bool;
    /// Something an operator should know.
    fn log(&mut self, level: LogLevel, message: String);
}

/// The limits of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) heartbeat: Duration,
    pub(crate) replay_bytes: usize,
    pub(crate) replay_age: Duration,
    pub(crate) max_envelope: usize,
}

pub(crate) struct Node {
    status: Arc<Status>,
    epoch: u64,
    limits: Limits,
    replay: Replay,
    peers: Peers,
    control: VecDeque<Bytes>,
    control_bytes: usize,
    counts: Counts,
    is_connected: bool,
    /// What the bus takes; not known before the first link.
    max_payload: usize,
    next_beat: Instant,
    /// The first beat that has not come back.
    beat_out: Option<Instant>,
    troubles: Troubles,
}

impl Node {
    pub(crate) fn new(now: Instant, status: Arc<Status>, limits: Limits) -> Self {
        let patience = limits.heartbeat * PATIENCE;
        let troubles = Troubles::new(Arc::clone(&status));
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            status,
            epoch: since_1970.as_millis() as u64,
            limits,
            replay: Replay::new(limits.replay_bytes, limits.replay_age),
            peers: Peers::new(now, limits.replay_bytes, patience, limits.replay_age + patience),
            control: VecDeque::new(),
            control_bytes: 0,
            counts: Counts::default(),
            is_connected: false,
            max_payload: usize::MAX,
            next_beat: now,
            beat_out: None,
            troubles,
        }
    }

    /// Numbers a publish and keeps it until it is sent, and for those that miss it.
    pub(crate) fn publish(&mut self, now: Instant, publish: Outbound<'_>) {
        let most = self.largest();
        let least = envelope::least_size(publish.kind, publish.payload.len());
        if least > most {
            return self.refuse(least, most);
        }
        let place = Place { epoch: self.epoch, seq: self.replay.next() };
        let envelope = envelope::encode(&self.status.source, place, publish);
        if envelope.len() > most {
            return self.refuse(envelope.len(), most);
        }
        let dropped = self.replay.push(now, envelope);
        self.drop_unsent(dropped, "TINA4_WS_BACKPLANE_REPLAY_SIZE");
    }

    /// The largest envelope that can be published and sent again.
    fn largest(&self) -> usize {
        self.limits.max_envelope.min(self.max_payload.saturating_sub(MAX_WRAPPING))
    }

    fn refuse(&mut self, bytes: usize, most: usize) {
        self.troubles.drop(1, format!("an envelope of {bytes} bytes is larger than {most}"));
    }

    /// So many publishes never came here: they were more than there was time for.
    pub(crate) fn miss(&mut self, publishes: u64) {
        self.troubles.drop(publishes, "too many waited for the backplane's thread".into());
    }

    fn drop_unsent(&mut self, dropped: u64, variable: &str) {
        let why = if self.is_connected {
            ", and the bus takes less than is published"
        } else {
            " while there is no link"
        };
        self.troubles.drop(dropped, format!("{variable} keeps no more{why}"));
    }

    /// The link is up: from now on everything that is published is heard. The bus takes messages of
    /// at most `max_payload` bytes.
    pub(crate) fn link_up(&mut self, now: Instant, max_payload: usize) {
        self.is_connected = true;
        self.max_payload = max_payload;
        count(&self.status.counters.connects, 1);
        self.peers.link_up(now);
        self.beat(now, true);
    }

    /// The link is gone, and with it what was on its way.
    pub(crate) fn link_down(&mut self) {
        self.is_connected = false;
        self.beat_out = None;
        self.control.clear();
        self.control_bytes = 0;
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.replay.has_unsent() || !self.control.is_empty()
    }

    /// Takes what is to be sent next, about so many messages and bytes; returns how many of them are
    /// envelopes. They count as sent.
    pub(crate) fn take_outgoing(
        &mut self,
        now: Instant,
        messages: usize,
        bytes: usize,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> usize {
        while into.len() < messages
            && let Some(message) = self.control.pop_front()
        {
            self.control_bytes -= message.len();
            into.push((Channel::Control, message));
        }
        let mut envelopes = Vec::new();
        self.replay.take_unsent(now, messages - into.len(), bytes, &mut envelopes);
        let before = into.len();
        let most = self.largest();
        for envelope in envelopes {
            // Published before the bus said what it takes.
            if envelope.len() > most {
                self.refuse(envelope.len(), most);
            } else {
                into.push((Channel::Messages, envelope));
            }
        }
        into.len() - before
    }

    /// Says goodbye, so that nobody waits for this node.
    pub(crate) fn leave(&mut self) {
        self.say(Body::Bye);
    }

    /// Whatever was not sent will not be. Returns how many envelopes that are.
    pub(crate) fn abandon(&mut self) -> u64 {
        let unsent = self.replay.unsent();
        count(&self.status.counters.dropped, unsent);
        unsent
    }

    fn say(&mut self, body: Body<'_>) {
        let source = self.status.source.clone();
        let message = Control { source, epoch: self.epoch, body }.encode();
        self.control_bytes += message.len();
        self.control.push_back(message);
    }

    fn beat(&mut self, now: Instant, hello: bool) {
        self.next_beat = now + self.limits.heartbeat;
        self.beat_out.get_or_insert(now);
        self.say(Body::Beat { head: self.replay.head(), hello });
    }

    /// Takes what the bus delivered.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        channel: Channel,
        bytes: &[u8],
        here: &mut impl Here,
    ) {
        match channel {
            Channel::Messages => self.hear_envelope(now, bytes, false, here),
            Channel::Control => self.hear_control(now, bytes, here),
        }
    }

    fn hear_envelope(&mut self, now: Instant, bytes: &[u8], is_again: bool, here: &mut impl Here) {
        let (source, place, read) = match self.read(bytes) {
            Ok(Inbound { source, place, delivery }) => (source, place, Ok(delivery)),
            // What its origin sends after it must not wait for it.
            Err(reason) => match envelope::decode_place(bytes) {
                Some((source, place)) => (source, Some(place), Err(reason)),
                None => return self.troubles.ignore(reason),
            },
        };
        if source == self.status.source {
            return;
        }
        match place {
            Some(place) => self.hear_numbered(now, &source, place, read, is_again, here),
            // Of another framework, which will not send it again.
            None if here.is_over() => {
                self.troubles.lose(1, "the process holds more than TINA4_MAX_BUFFERED".into());
            }
            None => self.deliver_at_once(read, here),
        }
    }

    /// Whatever is to be done with it is done now: it has no place, or there is none to keep it in.
    fn deliver_at_once(&mut self, read: Result<Delivery, String>, here: &mut impl Here) {
        match read {
            Ok(delivery) => self.deliver(&delivery, here),
            Err(reason) => self.troubles.lose(1, reason),
        }
    }

    fn hear_numbered(
        &mut self,
        now: Instant,
        source: &str,
        place: Place,
        read: Result<Delivery, String>,
        is_again: bool,
        here: &mut impl Here,
    ) {
        match self.hear_of(now, source, place.epoch, here) {
            Standing::Kept => {}
            // Whether it came before is not known; twice would be worse.
            Standing::NoRoom if is_again => return count(&self.status.counters.duplicates, 1),
            Standing::NoRoom => {
                self.troubles.crowd(MAX_PEERS);
                return self.deliver_at_once(read, here);
            }
            Standing::Other => return self.ignore_other(source),
        }
        if here.is_over() {
            return self.peers.heard_head(now, source, place.seq);
        }
        let mut outcome = Outcome::default();
        let (delivery, refused) = match read {
            Ok(delivery) => (Some(delivery), None),
            Err(reason) => (None, Some(reason)),
        };
        match (self.peers.take(now, source, place.seq, delivery, &mut outcome), refused) {
            (Taken::Duplicate, _) => count(&self.status.counters.duplicates, 1),
            (Taken::NoRoom, _) => {}
            (_, Some(reason)) => self.troubles.lose(1, reason),
            (_, None) => count(&self.status.counters.recovered, u64::from(is_again)),
        }
        self.settle(outcome, here);
    }

    /// An origin is heard, which may need the room of another one.
    fn hear_of(
        &mut self,
        now: Instant,
        source: &str,
        epoch: u64,
        here: &mut impl Here,
    ) -> Standing {
        let mut outcome = Outcome::default();
        let standing = self.peers.hear(now, source, epoch, &mut outcome);
        self.settle(outcome, here);
        standing
    }

    fn read(&self, bytes: &[u8]) -> Result<Inbound, String> {
        let most = self.limits.max_envelope;
        if bytes.len() > most {
            return Err(format!("an envelope of {} bytes is larger than {most}", bytes.len()));
        }
        envelope::decode(bytes).map_err(|error| error.to_string())
    }

    fn ignore_other(&mut self, source: &str) {
        self.troubles.ignore(format!("node {source} is heard with another start"));
    }

    /// Delivers what is ready, and counts what is lost.
    fn settle(&mut self, outcome: Outcome, here: &mut impl Here) {
        for delivery in outcome.ready.into_iter().flatten() {
            self.deliver(&delivery, here);
        }
        for (lost, reason) in outcome.lost {
            self.troubles.lose(lost, reason);
        }
    }

    fn deliver(&mut self, delivery: &Delivery, here: &mut impl Here) {
        count(&self.status.counters.received, 1);
        if delivery.delivered.contains(&self.status.source) {
            return;
        }
        if !here.deliver(delivery) {
            self.troubles.ignore("its path is not the path of a URL".into());
        }
    }

    fn hear_control(&mut self, now: Instant, bytes: &[u8], here: &mut impl Here) {
        let Some(Control { source, epoch, body }) = Control::decode(bytes) else {
            return self.troubles.ignore("it is no control message".into());
        };
        if source == self.status.source {
            self.beat_out = None;
            return;
        }
        if let Body::Again { envelope } = body {
            return self.hear_envelope(now, envelope.as_bytes(), true, here);
        }
        match self.hear_of(now, &source, epoch, here) {
            Standing::Kept => self.peers.stay(&source),
            Standing::NoRoom => return self.troubles.crowd(MAX_PEERS),
            Standing::Other => return self.ignore_other(&source),
        }
        let is_for_me = |to: &str| to == self.status.source;
        match body {
            Body::Beat { head, hello } => {
                self.peers.heard_head(now, &source, head);
                if hello {
                    // One answer for all who have come up together.
                    self.next_beat = self.next_beat.min(now + ASK_AFTER);
                }
            }
            Body::Bye => {
                self.peers.leave(now, &source);
                self.counts.leave(&source);
                self.end_counts(now, here);
            }
            Body::Ask { to, from, until } if is_for_me(&to) => {
                let first = self.replay.first_from(from, self.largest());
                self.troubles.forget(first.saturating_sub(from));
                self.answer(now, source, from, first, until);
            }
            Body::AskWithin { to, age } if is_for_me(&to) => {
                let age = Duration::from_millis(age);
                let first = self.replay.first_within(now, age);
                // How many of them the other one was there for is not known.
                self.troubles.forget(u64::from(self.replay.is_gone_within(now, age)));
                self.answer(now, source, 0, first, self.replay.head());
            }
            Body::Answer { to, from, first, last, head } if is_for_me(&to) => {
                self.hear_answer(now, &source, Answered { from, first, last, head }, here);
            }
            Body::Count { id, path } => {
                let to = source;
                self.say(Body::Counted { to, id, count: here.count(&path) });
            }
            Body::Counted { to, id, count } if is_for_me(&to) => {
                self.counts.add(id, &source, count);
                self.end_counts(now, here);
            }
            // For another node.
            _ => {}
        }
    }

    fn answer(&mut self, now: Instant, to: String, from: u64, first: u64, until: u64) {
        if self.control_bytes > MAX_CONTROL_BYTES {
            // It will ask again.
            return;
        }
        let last = self.replay.last_within(first, until, ANSWER_BYTES, self.largest());
        let head = self.replay.head();
        self.say(Body::Answer { to, from, first, last, head });
        for number in first..=last {
            let Some(envelope) = self.replay.again(now, number) else { continue };
            if let Ok(envelope) = std::str::from_utf8(&envelope) {
                self.say(Body::Again { envelope });
                count(&self.status.counters.resent, 1);
            }
        }
    }

    fn hear_answer(&mut self, now: Instant, source: &str, said: Answered, here: &mut impl Here) {
        let mut outcome = Outcome::default();
        for _ in 0..self.peers.hear_answer(now, source, said, &mut outcome) {
            self.troubles.ignore(format!("node {source} has not come to its number"));
        }
        self.settle(outcome, here);
    }

    /// Asks all reachable nodes how many connections they have on a path.
    pub(crate) fn count(&mut self, now: Instant, id: u64, path: String, here: &mut impl Here) {
        let sum = here.count(&path);
        let waiting = self.peers.live(now);
        if !self.is_connected || waiting.is_empty() || !self.counts.has_room() {
            here.counted(id, sum);
            return;
        }
        self.counts.begin(now, id, sum, waiting);
        self.say(Body::Count { id, path });
    }

    fn end_counts(&mut self, now: Instant, here: &mut impl Here) {
        self.counts.end(now, |id, sum| here.counted(id, sum));
    }

    /// Whether what is said does not come back: then nobody hears it, whoever is heard here.
    pub(crate) fn is_unheard(&self, now: Instant) -> bool {
        self.unheard_from().is_some_and(|from| now >= from)
    }

    fn unheard_from(&self) -> Option<Instant> {
        Some(self.beat_out? + self.limits.heartbeat * PATIENCE)
    }

    /// Does what is due by the clock.
    pub(crate) fn tick(&mut self, now: Instant, here: &mut impl Here) {
        let dropped = self.replay.expire(now);
        self.drop_unsent(dropped, "TINA4_WS_BACKPLANE_REPLAY_AGE");
        self.end_counts(now, here);
        self.status.set_nodes(self.peers.live(now).len());
        if self.is_connected {
            if now >= self.next_beat {
                self.beat(now, false);
            }
            self.ask(now, here);
        }
        for message in self.troubles.due(now) {
            here.log(LogLevel::Warning, message);
        }
    }

    fn ask(&mut self, now: Instant, here: &mut impl Here) {
        if here.is_over() {
            return self.peers.put_off(now);
        }
        let mut outcome = Outcome::default();
        for Question { to, missing } in self.peers.ask(now, &mut outcome) {
            self.say(match missing {
                Missing::Range { from, until } => Body::Ask { to, from, until },
                Missing::Beginning => {
                    let age = self.peers.unheard_for(now).as_millis() as u64;
                    Body::AskWithin { to, age }
                }
            });
        }
        self.settle(outcome, here);
    }

    /// How long nothing is due.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let asks = self.is_connected.then(|| self.peers.due()).flatten();
        let beat = self.is_connected.then_some(self.next_beat);
        [asks, beat, self.unheard_from(), self.counts.due()]
            .into_iter()
            .flatten()
            .map(|due| due.saturating_duration_since(now))
            .min()
            .unwrap_or(self.limits.heartbeat)
            .min(self.limits.heartbeat)
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
