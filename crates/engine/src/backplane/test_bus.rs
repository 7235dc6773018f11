//! For tests: several nodes on a bus that is a few lines. It loses, repeats, delays and cuts.

use std::collections::VecDeque;

use super::*;
use crate::backplane::envelope::{Payload, Scope};
use crate::backplane::status::Counters;
use crate::message::Kind;

pub(super) const LIMITS: Limits = Limits {
    heartbeat: Duration::from_secs(1),
    replay_bytes: 1024 * 1024,
    replay_age: Duration::from_secs(60),
    max_envelope: 64 * 1024,
};
pub(super) const STEP: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(super) struct Local {
    pub(super) delivered: Vec<(String, String)>,
    pub(super) connections: u64,
    pub(super) counted: Vec<(u64, u64)>,
    pub(super) logged: Vec<String>,
    pub(super) is_over: bool,
}

impl Here for Local {
    fn deliver(&mut self, delivery: &Delivery) -> bool {
        let path = match &delivery.scope {
            Scope::Path(path) => path.clone(),
            scope => format!("{scope:?}"),
        };
        if path == "//" {
            return false;
        }
        let text = match &delivery.payload {
            Payload::Text(text) => text.clone(),
            Payload::Binary(bytes) => format!("{bytes:?}"),
        };
        self.delivered.push((path, text));
        true
    }
    fn count(&self, _: &str) -> u64 {
        self.connections
    }
    fn counted(&mut self, id: u64, sum: u64) {
        self.counted.push((id, sum));
    }
    fn is_over(&self) -> bool {
        self.is_over
    }
    fn log(&mut self, _: LogLevel, message: String) {
        self.logged.push(message);
    }
}

/// A node, its process and what is on its way to it.
pub(super) struct Party {
    pub(super) node: Node,
    pub(super) here: Local,
    /// When each is there.
    pub(super) inbox: VecDeque<(Instant, Channel, Bytes)>,
    pub(super) published: u64,
    pub(super) is_linked: bool,
    /// What it says does not come onto the bus, or not to where it listens.
    pub(super) is_half_linked: bool,
}

impl Party {
    pub(super) fn new(now: Instant, index: usize, limits: Limits) -> Self {
        let status = Arc::new(Status::new(format!("{index:016x}"), "test"));
        Self {
            node: Node::new(now, status, limits),
            here: Local::default(),
            inbox: VecDeque::new(),
            published: 0,
            is_linked: false,
            is_half_linked: false,
        }
    }
}

pub(super) struct Bus {
    pub(super) now: Instant,
    pub(super) parties: Vec<Party>,
    pub(super) random: u64,
    /// Of a hundred messages, how many are lost on the way to one node, and how many come twice.
    pub(super) lost: u64,
    pub(super) twice: u64,
    /// How long envelopes and control messages take: with different times they overtake each other,
    /// as the subjects of NATS do.
    pub(super) delay: [Duration; 2],
    /// What a foreign reader of `tina4:ws` sees.
    pub(super) seen: Vec<Bytes>,
    /// What was said on `tina4:ws:ctl` and no test has looked at.
    pub(super) said: Vec<Bytes>,
}

impl Bus {
    pub(super) fn new(parties: usize, limits: Limits) -> Self {
        let now = Instant::now();
        let parties = (0..parties).map(|index| Party::new(now, index, limits)).collect();
        Self {
            now,
            parties,
            random: 1,
            lost: 0,
            twice: 0,
            delay: [Duration::ZERO; 2],
            seen: Vec::new(),
            said: Vec::new(),
        }
    }

    pub(super) fn linked(parties: usize, limits: Limits) -> Self {
        let mut bus = Self::new(parties, limits);
        (0..parties).for_each(|index| bus.link(index));
        bus.run(20);
        bus
    }

    /// A process that begins now, without a link.
    pub(super) fn start_one_more(&mut self) {
        self.parties.push(Party::new(self.now, self.parties.len(), LIMITS));
    }

    pub(super) fn chance(&mut self, of_hundred: u64) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % 100 < of_hundred
    }

    pub(super) fn link(&mut self, index: usize) {
        let party = &mut self.parties[index];
        party.is_linked = true;
        party.node.link_up(self.now, usize::MAX);
    }

    pub(super) fn cut(&mut self, index: usize) {
        let party = &mut self.parties[index];
        party.is_linked = false;
        party.inbox.clear();
        party.node.link_down();
    }

    /// Publishes the next number of a node, as text.
    pub(super) fn publish(&mut self, index: usize) {
        let party = &mut self.parties[index];
        party.published += 1;
        let payload = format!("{index}:{}", party.published);
        let publish = Outbound {
            path: "/p",
            exclude: None,
            kind: Kind::Text,
            payload: payload.as_bytes(),
            delivered: &[],
        };
        party.node.publish(self.now, publish);
    }

    pub(super) fn put(&mut self, to: usize, message: (Channel, Bytes)) {
        if !self.parties[to].is_linked || self.chance(self.lost) {
            return;
        }
        let times = if self.chance(self.twice) { 2 } else { 1 };
        for _ in 0..times {
            let there = self.now + self.delay[message.0 as usize];
            let (channel, bytes) = message.clone();
            self.parties[to].inbox.push_back((there, channel, bytes));
        }
    }

    /// Everything that is sent arrives, and the clock goes on by one step.
    pub(super) fn step(&mut self) {
        self.now += STEP;
        for from in 0..self.parties.len() {
            let party = &mut self.parties[from];
            party.node.tick(self.now, &mut party.here);
            if !party.is_linked {
                continue;
            }
            let mut batch = Vec::new();
            party.node.take_outgoing(self.now, 64, 16 * 1024, &mut batch);
            for message in batch {
                match message.0 {
                    Channel::Messages => self.seen.push(message.1.clone()),
                    Channel::Control => self.said.push(message.1.clone()),
                }
                if self.parties[from].is_half_linked {
                    continue;
                }
                for to in 0..self.parties.len() {
                    self.put(to, message.clone());
                }
            }
        }
        for party in &mut self.parties {
            let is_there = |(there, ..): &(Instant, Channel, Bytes)| *there <= self.now;
            let (arrived, on_its_way) = party.inbox.drain(..).partition::<Vec<_>, _>(is_there);
            party.inbox = on_its_way.into();
            for (_, channel, bytes) in arrived {
                party.node.hear(self.now, channel, &bytes, &mut party.here);
            }
        }
    }

    pub(super) fn run(&mut self, steps: usize) {
        (0..steps).for_each(|_| self.step());
    }

    /// Runs while everything is lost.
    pub(super) fn run_deaf(&mut self, steps: usize) {
        let lost = std::mem::replace(&mut self.lost, 100);
        self.run(steps);
        self.lost = lost;
    }

    /// What `of` published, as `at` received it.
    pub(super) fn numbers(&self, at: usize, of: usize) -> Vec<u64> {
        let prefix = format!("{of}:");
        let texts = self.parties[at].here.delivered.iter();
        texts.filter_map(|(_, text)| text.strip_prefix(&prefix)?.parse().ok()).collect()
    }

    /// How many questions were asked that no test has looked at.
    pub(super) fn questions(&self) -> usize {
        let is_question =
            |body: &Body<'_>| matches!(body, Body::Ask { .. } | Body::AskWithin { .. });
        let said = self.said.iter().filter_map(|bytes| Control::decode(bytes));
        said.filter(|control| is_question(&control.body)).count()
    }

    pub(super) fn counter(&self, of: usize, read: fn(&Counters) -> u64) -> u64 {
        read(&self.parties[of].node.status.counters)
    }

    #[track_caller]
    pub(super) fn assert_everyone_has_everything(&self) {
        for at in 0..self.parties.len() {
            for of in 0..self.parties.len() {
                let expected: Vec<u64> =
                    if at == of { vec![] } else { (1..=self.parties[of].published).collect() };
                assert!(
                    self.numbers(at, of) == expected,
                    "what {of} published at {at}: {:?}",
                    self.numbers(at, of)
                );
            }
        }
    }
}

pub(super) fn read(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

pub(super) fn envelope(fields: &str) -> Bytes {
    format!(r#"{{"src":"00000000000000aa","kind":"path","exclude":null,"room":null,"path":"/p",{fields}}}"#).into()
}

/// A node that is nothing but what a test says in its name.
pub(super) const STRANGER: &str = "00000000000000aa";

pub(super) fn of_stranger(body: Body<'_>) -> (Channel, Bytes) {
    (Channel::Control, Control { source: STRANGER.into(), epoch: 1, body }.encode())
}

pub(super) fn envelope_of_stranger(number: u64) -> Bytes {
    let text = format!(r#""text":"aa:{number}","epoch":1,"seq":{number}"#);
    envelope(&text)
}

impl Bus {
    pub(super) fn publish_bytes(&mut self, index: usize, length: usize) {
        self.parties[index].published += 1;
        let payload = vec![b'x'; length];
        let (path, kind, exclude) = ("/p", Kind::Text, None);
        let publish = Outbound { path, exclude, kind, payload: &payload, delivered: &[] };
        self.parties[index].node.publish(self.now, publish);
    }

    pub(super) fn say_as_stranger(&mut self, to: usize, body: Body<'_>) {
        self.put(to, of_stranger(body));
    }

    pub(super) fn send_as_stranger(&mut self, to: usize, number: u64) {
        self.put(to, (Channel::Messages, envelope_of_stranger(number)));
    }

    /// An envelope of each of so many nodes that nobody knows.
    pub(super) fn flood(&mut self, to: usize, nodes: u64) {
        for number in 0..nodes {
            let (source, seq) = (number + 1_000, 9);
            let envelope = format!(
                r#"{{"src":"{source:016x}","kind":"path","path":"/q","text":"x","epoch":1,"seq":{seq}}}"#
            );
            self.put(to, (Channel::Messages, envelope.into()));
        }
    }

    /// The texts that a process got of the stranger.
    pub(super) fn of_stranger(&self, at: usize) -> Vec<&str> {
        let texts = self.parties[at].here.delivered.iter().map(|(_, text)| text.as_str());
        texts.filter(|text| text.starts_with("aa:")).collect()
    }
}
