//! Several nodes on a bus that is a few lines of test: it loses, repeats, delays and cuts.

use std::collections::VecDeque;

use super::*;
use crate::backplane::envelope::{Payload, Scope};
use crate::message::Kind;

const LIMITS: Limits = Limits {
    heartbeat: Duration::from_secs(1),
    replay_bytes: 1024 * 1024,
    replay_age: Duration::from_secs(60),
    max_envelope: 64 * 1024,
};
const STEP: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Local {
    delivered: Vec<(String, String)>,
    connections: u64,
    counted: Vec<(u64, u64)>,
    logged: Vec<String>,
    is_over: bool,
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
struct Party {
    node: Node,
    here: Local,
    /// When each is there.
    inbox: VecDeque<(Instant, Channel, Bytes)>,
    published: u64,
    is_linked: bool,
    /// What it says does not come onto the bus, or not to where it listens.
    is_half_linked: bool,
}

impl Party {
    fn new(now: Instant, index: usize, limits: Limits) -> Self {
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

struct Bus {
    now: Instant,
    parties: Vec<Party>,
    random: u64,
    /// Of a hundred messages, how many are lost on the way to one node, and how many come twice.
    lost: u64,
    twice: u64,
    /// How long envelopes and control messages take: with different times they overtake each other,
    /// as the subjects of NATS do.
    delay: [Duration; 2],
    /// What a foreign reader of `tina4:ws` sees.
    seen: Vec<Bytes>,
    /// What was said on `tina4:ws:ctl` and no test has looked at.
    said: Vec<Bytes>,
}

impl Bus {
    fn new(parties: usize, limits: Limits) -> Self {
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

    fn linked(parties: usize, limits: Limits) -> Self {
        let mut bus = Self::new(parties, limits);
        (0..parties).for_each(|index| bus.link(index));
        bus.run(20);
        bus
    }

    /// A process that begins now, without a link.
    fn start_one_more(&mut self) {
        self.parties.push(Party::new(self.now, self.parties.len(), LIMITS));
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % 100 < of_hundred
    }

    fn link(&mut self, index: usize) {
        let party = &mut self.parties[index];
        party.is_linked = true;
        party.node.link_up(self.now, usize::MAX);
    }

    fn cut(&mut self, index: usize) {
        let party = &mut self.parties[index];
        party.is_linked = false;
        party.inbox.clear();
        party.node.link_down();
    }

    /// Publishes the next number of a node, as text.
    fn publish(&mut self, index: usize) {
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

    fn put(&mut self, to: usize, message: (Channel, Bytes)) {
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
    fn step(&mut self) {
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

    fn run(&mut self, steps: usize) {
        (0..steps).for_each(|_| self.step());
    }

    /// What `of` published, as `at` received it.
    fn numbers(&self, at: usize, of: usize) -> Vec<u64> {
        let prefix = format!("{of}:");
        let texts = self.parties[at].here.delivered.iter();
        texts.filter_map(|(_, text)| text.strip_prefix(&prefix)?.parse().ok()).collect()
    }

    /// How many questions were asked that no test has looked at.
    fn questions(&self) -> usize {
        let is_question =
            |body: &Body<'_>| matches!(body, Body::Ask { .. } | Body::AskWithin { .. });
        let said = self.said.iter().filter_map(|bytes| Control::decode(bytes));
        said.filter(|control| is_question(&control.body)).count()
    }

    fn counter(&self, of: usize, read: fn(&super::super::status::Counters) -> u64) -> u64 {
        read(&self.parties[of].node.status.counters)
    }

    #[track_caller]
    fn assert_everyone_has_everything(&self) {
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

fn read(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn everyone_gets_everything_in_order_and_nobody_their_own() {
    let mut bus = Bus::linked(3, LIMITS);
    for _ in 0..100 {
        (0..3).for_each(|index| bus.publish(index));
        bus.step();
    }
    bus.run(10);
    bus.assert_everyone_has_everything();
    assert_eq!(bus.seen.len(), 300, "a foreign reader sees each once");
    assert_eq!(bus.counter(0, |counters| read(&counters.received)), 200);
    assert_eq!(bus.counter(0, |counters| read(&counters.recovered)), 0);
}

#[test]
fn what_a_bad_bus_loses_repeats_and_cuts_arrives_all_the_same_once_and_in_order() {
    for seed in 1..=25 {
        let mut bus = Bus::linked(3, LIMITS);
        bus.random = seed;
        (bus.lost, bus.twice) = (10, 10);
        for round in 0..150 {
            (0..3).for_each(|index| bus.publish(index));
            let victim = (round + seed as usize) % 3;
            if bus.chance(5) {
                if bus.parties[victim].is_linked {
                    bus.cut(victim);
                } else {
                    bus.link(victim);
                }
            }
            bus.step();
        }
        (0..3).for_each(|index| {
            if !bus.parties[index].is_linked {
                bus.link(index);
            }
        });
        (bus.lost, bus.twice) = (0, 0);
        bus.run(1_000);
        bus.assert_everyone_has_everything();
        let lost: u64 = (0..3).map(|of| bus.counter(of, |counters| read(&counters.lost))).sum();
        assert_eq!(lost, 0, "seed {seed}");
        assert_eq!(bus.seen.len(), 450, "a foreign reader gets nothing twice, seed {seed}");
    }
}

#[test]
fn what_was_published_without_a_link_arrives_when_there_is_one() {
    let mut bus = Bus::new(2, LIMITS);
    bus.link(1);
    bus.run(10);
    (0..50).for_each(|_| bus.publish(0));
    bus.run(100);
    assert!(bus.numbers(1, 0).is_empty());
    bus.link(0);
    bus.run(20);
    bus.assert_everyone_has_everything();
}

#[test]
fn a_node_that_was_cut_from_the_start_gets_what_was_published_since_then() {
    let mut bus = Bus::new(2, LIMITS);
    bus.link(0);
    (0..50).for_each(|_| bus.publish(0));
    bus.run(20);
    bus.link(1);
    bus.run(200);
    assert_eq!(bus.numbers(1, 0).len(), 50, "it has been running as long as the other");
}

#[test]
fn what_a_question_takes_on_its_way_cuts_nothing_off_a_node_that_links_later() {
    let mut bus = Bus::new(2, LIMITS);
    bus.delay = [Duration::from_millis(100); 2];
    bus.publish(0);
    bus.link(0);
    bus.run(50);
    bus.link(1);
    bus.run(200);
    assert_eq!(bus.numbers(1, 0), [1]);
}

#[test]
fn a_node_gets_what_came_onto_the_bus_since_it_runs_whoever_links_first() {
    for order in [[0, 1], [1, 0]] {
        let mut bus = Bus::new(1, LIMITS);
        bus.publish(0);
        bus.run(200);
        bus.start_one_more();
        for index in order {
            bus.run(100);
            bus.link(index);
        }
        bus.run(200);
        assert_eq!(bus.numbers(1, 0), [1], "{order:?}");
    }
}

#[test]
fn a_node_that_comes_later_gets_nothing_that_was_before_its_time() {
    let mut bus = Bus::linked(2, LIMITS);
    (0..50).for_each(|_| bus.publish(0));
    bus.run(100);
    bus.start_one_more();
    bus.run(1);
    bus.link(2);
    bus.publish(0);
    bus.run(100);
    bus.publish(0);
    bus.run(100);
    assert_eq!(bus.numbers(2, 0), [51, 52]);
    assert_eq!(bus.counter(2, |counters| read(&counters.lost)), 0);
    assert_eq!(bus.counter(2, |counters| read(&counters.received)), 2);
}

#[test]
fn what_no_longer_fits_is_counted_and_logged_on_both_sides() {
    let limits = Limits { replay_bytes: 2_000, ..LIMITS };
    let mut bus = Bus::linked(2, limits);
    bus.publish(0);
    bus.run(10);
    bus.cut(1);
    (0..100).for_each(|_| {
        bus.publish(0);
        bus.step();
    });
    bus.link(1);
    bus.run(400);
    let numbers = bus.numbers(1, 0);
    let lost = bus.counter(1, |counters| read(&counters.lost));
    assert_eq!(numbers.first(), Some(&1));
    assert_eq!(numbers.last(), Some(&101));
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(numbers.len() as u64 + lost, 101);
    assert!(lost > 50, "{lost}");
    assert_eq!(bus.counter(0, |counters| read(&counters.forgotten)), lost);
    assert!(bus.parties[1].here.logged[0].starts_with("Envelopes of other nodes that were lost"));
    assert!(bus.parties[0].here.logged[0].starts_with("Envelopes that another node had missed"));
}

#[test]
fn what_was_never_sent_and_no_longer_fits_is_dropped_and_said() {
    let limits = Limits { replay_bytes: 2_000, ..LIMITS };
    let mut bus = Bus::linked(2, limits);
    bus.cut(0);
    (0..100).for_each(|_| bus.publish(0));
    bus.run(1);
    let dropped = bus.counter(0, |counters| read(&counters.dropped));
    assert!(dropped > 50, "{dropped}");
    assert!(bus.parties[0].here.logged[0].contains("TINA4_WS_BACKPLANE_REPLAY_SIZE"));
    bus.link(0);
    bus.run(600);
    assert_eq!(bus.numbers(1, 0), (dropped + 1..=100).collect::<Vec<_>>());
    assert_eq!(bus.counter(1, |counters| read(&counters.lost)), dropped);
}

#[test]
fn what_is_too_old_is_not_sent_any_more() {
    let limits = Limits { replay_age: Duration::from_secs(2), ..LIMITS };
    let mut bus = Bus::linked(2, limits);
    bus.cut(0);
    bus.publish(0);
    bus.run(500);
    assert_eq!(bus.counter(0, |counters| read(&counters.dropped)), 1);
    assert!(bus.parties[0].here.logged[0].contains("TINA4_WS_BACKPLANE_REPLAY_AGE"));
}

#[test]
fn a_gap_of_a_node_that_died_is_given_up_and_what_came_after_it_is_delivered() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.publish(0);
    bus.run(5);
    bus.publish(0);
    bus.lost = 100;
    bus.run(2);
    bus.lost = 0;
    bus.publish(0);
    bus.run(2);
    bus.cut(0);
    bus.said.clear();
    assert_eq!(bus.numbers(1, 0), [1]);
    bus.run(11_000);
    assert_eq!(bus.numbers(1, 0), [1], "it may still come back");
    assert!(bus.questions() < 15, "{} questions to nobody", bus.questions());
    bus.run(2_000);
    assert_eq!(bus.numbers(1, 0), [1, 3]);
    assert_eq!(bus.counter(1, |counters| read(&counters.lost)), 1);
    assert_eq!(bus.parties[1].node.status.nodes(), 0, "it is not there for that");
    assert_eq!(bus.parties[1].node.peers.held_bytes(), 0);
}

#[test]
fn a_process_that_holds_too_much_takes_nothing_in_and_gets_it_later() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.parties[1].here.is_over = true;
    (0..20).for_each(|_| bus.publish(0));
    bus.run(100);
    assert!(bus.numbers(1, 0).is_empty());
    bus.parties[1].here.is_over = false;
    bus.run(200);
    bus.assert_everyone_has_everything();
}

fn envelope(fields: &str) -> Bytes {
    format!(r#"{{"src":"00000000000000aa","kind":"path","exclude":null,"room":null,"path":"/p",{fields}}}"#).into()
}

#[test]
fn garbage_is_ignored_and_counted_and_what_comes_after_it_is_delivered() {
    let mut bus = Bus::linked(2, LIMITS);
    let own = bus.parties[1].node.status.source.clone();
    let garbage = [
        Bytes::from_static(b"\xff\x00"),
        Bytes::from_static(b"{}"),
        envelope(r#""kind":"shout","text":"x""#),
        envelope(r#""text":1"#),
        vec![b'a'; LIMITS.max_envelope + 1].into(),
        Bytes::from_static(br#"{"src":"x","kind":"path","path":"//","text":"no path"}"#),
    ];
    let count = garbage.len() as u64;
    for message in garbage {
        bus.put(1, (Channel::Messages, message));
    }
    bus.put(1, (Channel::Control, Bytes::from_static(b"nonsense")));
    let forged = format!(r#"{{"src":"{own}","kind":"all","text":"x","epoch":1,"seq":1}}"#);
    bus.put(1, (Channel::Messages, forged.into()));
    bus.put(1, (Channel::Messages, envelope(r#""text":"foreign""#)));
    bus.publish(0);
    bus.run(10);
    let delivered: Vec<_> = bus.parties[1].here.delivered.iter().map(|(_, text)| text).collect();
    assert_eq!(delivered, ["foreign", "0:1"]);
    assert_eq!(bus.counter(1, |counters| read(&counters.ignored)), count + 1);
}

#[test]
fn forged_numbers_do_not_stop_the_node_they_claim_to_be_from() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.publish(0);
    bus.run(5);
    let epoch = bus.parties[0].node.epoch;
    for number in [envelope::MAX_NUMBER - 1, 1_000_000, 50] {
        let forged = format!(
            r#"{{"src":"{:016x}","kind":"path","path":"/p","text":"forged","epoch":{epoch},"seq":{number}}}"#,
            0
        );
        bus.put(1, (Channel::Messages, forged.into()));
    }
    bus.run(200);
    (0..10).for_each(|_| bus.publish(0));
    bus.run(200);
    assert_eq!(bus.numbers(1, 0), (1..=11).collect::<Vec<_>>());
    assert_eq!(bus.parties[1].node.peers.held_bytes(), 0);
}

#[test]
fn a_flood_of_unknown_nodes_takes_bounded_memory_and_the_known_ones_go_on() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.flood(1, 3_000);
    bus.publish(0);
    bus.run(10);
    assert!(bus.parties[1].node.peers.count() <= MAX_PEERS);
    assert_eq!(bus.numbers(1, 0), [1]);
    bus.run(30_000);
    assert!(bus.parties[1].node.peers.count() <= MAX_PEERS);
    assert_eq!(bus.parties[1].node.peers.held_bytes(), 0);
}

#[test]
fn a_node_that_delivered_it_already_takes_it_as_received() {
    let mut bus = Bus::linked(3, LIMITS);
    let delivered = [bus.parties[1].node.status.source.clone()];
    bus.parties[0].published += 1;
    let publish = Outbound {
        path: "/p",
        exclude: None,
        kind: Kind::Text,
        payload: b"0:1",
        delivered: &delivered,
    };
    bus.parties[0].node.publish(bus.now, publish);
    bus.publish(0);
    bus.run(10);
    assert_eq!(bus.numbers(1, 0), [2]);
    assert_eq!(bus.numbers(2, 0), [1, 2]);
}

#[test]
fn an_envelope_that_is_too_large_stays_here() {
    let mut bus = Bus::linked(2, LIMITS);
    let payload = vec![b'"'; LIMITS.max_envelope / 2 + 1];
    let publish =
        Outbound { path: "/p", exclude: None, kind: Kind::Text, payload: &payload, delivered: &[] };
    bus.parties[0].node.publish(bus.now, publish);
    bus.publish(0);
    bus.run(10);
    assert_eq!(bus.numbers(1, 0), [1], "it took no number");
    assert_eq!(bus.counter(0, |counters| read(&counters.dropped)), 1);
    assert!(bus.parties[0].here.logged[0].contains("is larger than"));
}

#[test]
fn what_the_bus_turns_out_not_to_take_is_dropped() {
    let mut bus = Bus::new(1, LIMITS);
    bus.publish(0);
    bus.parties[0].node.link_up(bus.now, 300);
    let mut batch = Vec::new();
    bus.parties[0].node.take_outgoing(bus.now, 9, 9_000, &mut batch);
    assert!(batch.iter().all(|(channel, _)| *channel == Channel::Control));
    assert_eq!(bus.counter(0, |counters| read(&counters.dropped)), 1);
}

#[test]
fn counts_are_summed_over_the_nodes_that_are_there() {
    let mut bus = Bus::linked(3, LIMITS);
    for (index, connections) in [5, 7, 11].into_iter().enumerate() {
        bus.parties[index].here.connections = connections;
    }
    let count = |bus: &mut Bus, id| {
        let now = bus.now;
        let Party { node, here, .. } = &mut bus.parties[0];
        node.count(now, id, "/p".into(), here);
    };
    count(&mut bus, 1);
    bus.run(3);
    assert_eq!(bus.parties[0].here.counted, [(1, 23)]);

    bus.cut(2);
    count(&mut bus, 2);
    bus.run(100);
    assert_eq!(bus.parties[0].here.counted.len(), 1, "it is waited for");
    bus.run(120);
    assert_eq!(bus.parties[0].here.counted[1..], [(2, 12)], "but not for ever");

    bus.run(600);
    count(&mut bus, 3);
    bus.run(3);
    assert_eq!(bus.parties[0].here.counted[2..], [(3, 12)], "and no longer once it is stale");

    bus.parties[1].node.leave();
    bus.run(2);
    count(&mut bus, 4);
    assert_eq!(bus.parties[0].here.counted[3..], [(4, 5)], "nor when it said goodbye");
}

#[test]
fn one_that_said_goodbye_is_not_asked_any_more() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.publish(0);
    bus.lost = 100;
    bus.run(1);
    bus.lost = 0;
    bus.parties[0].node.leave();
    bus.run(50);
    assert_eq!(bus.parties[1].node.status.nodes(), 0);
    assert!(!bus.parties[1].node.peers.misses_something());
}

/// A node that is nothing but what a test says in its name.
const STRANGER: &str = "00000000000000aa";

fn of_stranger(body: Body<'_>) -> (Channel, Bytes) {
    (Channel::Control, Control { source: STRANGER.into(), epoch: 1, body }.encode())
}

fn envelope_of_stranger(number: u64, fields: &str) -> Bytes {
    let text = format!(r#""text":"aa:{number}","epoch":1,"seq":{number}{fields}"#);
    envelope(&text)
}

impl Bus {
    fn publish_bytes(&mut self, index: usize, length: usize) {
        self.parties[index].published += 1;
        let payload = vec![b'x'; length];
        let (path, kind, exclude) = ("/p", Kind::Text, None);
        let publish = Outbound { path, exclude, kind, payload: &payload, delivered: &[] };
        self.parties[index].node.publish(self.now, publish);
    }

    fn say_as_stranger(&mut self, to: usize, body: Body<'_>) {
        self.put(to, of_stranger(body));
    }

    fn send_as_stranger(&mut self, to: usize, number: u64) {
        self.put(to, (Channel::Messages, envelope_of_stranger(number, "")));
    }

    /// An envelope of each of so many nodes that nobody knows.
    fn flood(&mut self, to: usize, nodes: u64) {
        for number in 0..nodes {
            let (source, seq) = (number + 1_000, 9);
            let envelope = format!(
                r#"{{"src":"{source:016x}","kind":"path","path":"/q","text":"x","epoch":1,"seq":{seq}}}"#
            );
            self.put(to, (Channel::Messages, envelope.into()));
        }
    }

    /// The texts that a process got of the stranger.
    fn of_stranger(&self, at: usize) -> Vec<&str> {
        let texts = self.parties[at].here.delivered.iter().map(|(_, text)| text.as_str());
        texts.filter(|text| text.starts_with("aa:")).collect()
    }
}

#[test]
fn what_the_bus_does_not_take_holds_up_nothing_that_comes_after_it() {
    let mut bus = Bus::new(2, LIMITS);
    bus.link(1);
    bus.publish(0);
    (0..3).for_each(|_| bus.publish_bytes(0, 1_000));
    bus.publish(0);
    bus.publish_bytes(0, 1_000);
    bus.publish(0);
    bus.parties[0].is_linked = true;
    bus.parties[0].node.link_up(bus.now, 1_000);
    bus.run(200);
    assert_eq!(bus.numbers(1, 0), [1, 5, 7]);
    assert_eq!(bus.counter(0, |counters| read(&counters.dropped)), 4);
    assert_eq!(bus.counter(1, |counters| read(&counters.lost)), 4);
}

#[test]
fn what_is_too_large_here_is_lost_and_holds_up_nothing_that_comes_after_it() {
    let mut bus = Bus::linked(3, LIMITS);
    bus.parties[1].node.limits.max_envelope = 500;
    bus.publish(0);
    bus.publish_bytes(0, 1_000);
    bus.publish(0);
    bus.run(2);
    assert_eq!(bus.numbers(1, 0), [1, 3]);
    bus.run(1_000);
    let counters = &bus.parties[1].node.status.counters;
    assert_eq!((read(&counters.lost), read(&counters.ignored)), (1, 0));
    assert!(bus.parties[1].here.logged[0].contains("is larger than 500"));
    assert_eq!(bus.counter(0, |counters| read(&counters.resent)), 0, "nobody asks for it");
}

#[test]
fn what_a_later_version_sends_is_lost_and_holds_up_nothing_that_comes_after_it() {
    let mut bus = Bus::linked(1, LIMITS);
    bus.say_as_stranger(0, Body::Beat { head: 0, hello: true });
    bus.send_as_stranger(0, 1);
    for _ in 0..2 {
        let later = br#"{"src":"00000000000000aa","kind":"later","epoch":1,"seq":2}"#;
        bus.put(0, (Channel::Messages, Bytes::from_static(later)));
    }
    bus.send_as_stranger(0, 3);
    bus.run(2);
    assert_eq!(bus.of_stranger(0), ["aa:1", "aa:3"]);
    let counters = &bus.parties[0].node.status.counters;
    assert_eq!((read(&counters.lost), read(&counters.duplicates)), (1, 1));
}

#[test]
fn what_is_answered_but_never_comes_is_given_up_and_nothing_else_is() {
    let mut bus = Bus::linked(1, LIMITS);
    let to = bus.parties[0].node.status.source.clone();
    bus.say_as_stranger(0, Body::Beat { head: 0, hello: true });
    [1, 3, 5].into_iter().for_each(|number| bus.send_as_stranger(0, number));
    let mut asked = 0;
    for _ in 0..1_000 {
        for bytes in std::mem::take(&mut bus.said) {
            let Some(Control { body: Body::Ask { from, until, .. }, .. }) = Control::decode(&bytes)
            else {
                continue;
            };
            asked += 1;
            let to = to.clone();
            bus.say_as_stranger(0, Body::Answer { to, from, first: from, last: until, head: 5 });
            if from == 4 {
                let again = envelope_of_stranger(4, "");
                let envelope = std::str::from_utf8(&again).unwrap();
                bus.say_as_stranger(0, Body::Again { envelope });
            }
        }
        bus.step();
    }
    assert_eq!(bus.of_stranger(0), ["aa:1", "aa:3", "aa:4", "aa:5"]);
    assert_eq!(bus.counter(0, |counters| read(&counters.lost)), 1);
    assert!(asked <= 11, "{asked} questions");
}

#[test]
fn a_goodbye_does_not_overtake_what_was_published_before_it() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.delay = [Duration::from_millis(500), Duration::ZERO];
    for _ in 0..3 {
        bus.publish(0);
        bus.run(40);
    }
    // Before the first one has arrived, and 200 ms pass between them.
    let now = bus.now;
    bus.parties[0].node.beat(now, false);
    bus.parties[0].node.leave();
    bus.run(300);
    bus.assert_everyone_has_everything();
    assert_eq!(bus.counter(1, |counters| read(&counters.lost)), 0);
}

#[test]
fn what_is_missing_of_one_that_said_goodbye_is_given_up() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.lost = 100;
    bus.publish(0);
    bus.run(1);
    bus.lost = 0;
    bus.publish(0);
    bus.run(1);
    bus.parties[0].node.leave();
    bus.run(2);
    assert!(bus.numbers(1, 0).is_empty(), "it may still come");
    bus.run(60);
    assert_eq!(bus.numbers(1, 0), [2]);
    assert_eq!(bus.counter(1, |counters| read(&counters.lost)), 1);
    assert!(bus.parties[1].here.logged[0].contains("their node has ended"));
}

#[test]
fn a_node_that_goes_away_while_it_is_asked_is_asked_again_when_it_is_back() {
    for away in [100, 2_000, 10_000] {
        let mut bus = Bus::linked(2, LIMITS);
        bus.publish(0);
        bus.run(10);
        bus.cut(1);
        (0..20).for_each(|_| bus.publish(0));
        bus.run(10);
        bus.said.clear();
        bus.link(1);
        while bus.questions() == 0 {
            bus.step();
        }
        bus.cut(0);
        bus.run(away);
        assert_eq!(bus.numbers(1, 0), [1]);
        bus.link(0);
        bus.run(200);
        bus.assert_everyone_has_everything();
        assert_eq!(bus.counter(1, |counters| read(&counters.lost)), 0, "away for {away} steps");
    }
}

#[test]
fn a_node_that_is_there_but_never_answers_is_asked_ten_times() {
    let mut bus = Bus::linked(1, LIMITS);
    bus.say_as_stranger(0, Body::Beat { head: 0, hello: true });
    [1, 3, 5].into_iter().for_each(|number| bus.send_as_stranger(0, number));
    for _ in 0..12 {
        bus.run(200);
        bus.say_as_stranger(0, Body::Beat { head: 5, hello: false });
    }
    assert_eq!(bus.of_stranger(0), ["aa:1", "aa:3", "aa:5"]);
    assert_eq!(bus.counter(0, |counters| read(&counters.lost)), 2);
    assert!(bus.parties[0].here.logged[0].contains("their node does not answer"));
}

#[test]
fn a_node_that_ends_before_it_said_where_to_begin_may_have_lost_some() {
    let mut bus = Bus::linked(1, LIMITS);
    bus.send_as_stranger(0, 7);
    bus.say_as_stranger(0, Body::Bye);
    bus.run(100);
    assert_eq!(bus.of_stranger(0), ["aa:7"]);
    assert_eq!(bus.counter(0, |counters| read(&counters.lost)), 1);
    assert!(bus.parties[0].here.logged[0].contains("how many there were is not known"));
}

#[test]
fn a_process_that_holds_too_much_is_not_woken_for_what_it_cannot_ask() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.parties[1].here.is_over = true;
    bus.publish(0);
    bus.run(20);
    let (now, Party { node, here, .. }) = (bus.now, &mut bus.parties[1]);
    node.tick(now, here);
    assert!(node.pause(now) > Duration::from_millis(50), "{:?}", node.pause(now));
}

#[test]
fn what_a_node_had_to_drop_while_it_was_away_for_long_is_lost_and_counted() {
    let limits = Limits { replay_age: Duration::from_secs(2), ..LIMITS };
    let mut bus = Bus::linked(2, limits);
    bus.publish(0);
    bus.run(10);
    bus.cut(0);
    (0..50).for_each(|_| bus.publish(0));
    bus.run(4_000);
    assert_eq!(bus.counter(0, |counters| read(&counters.dropped)), 50);
    bus.link(0);
    bus.publish(0);
    bus.run(200);
    assert_eq!(bus.numbers(1, 0), [1, 52]);
    assert_eq!(bus.counter(1, |counters| read(&counters.lost)), 50);
}

#[test]
fn a_node_that_comes_after_a_flood_is_kept_in_order_all_the_same() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.flood(1, 3_000);
    bus.run(700);
    bus.start_one_more();
    bus.link(2);
    bus.run(20);
    bus.publish(2);
    bus.lost = 100;
    bus.run(1);
    bus.lost = 0;
    bus.publish(2);
    bus.run(100);
    assert_eq!(bus.numbers(1, 2), [1, 2]);
    assert_eq!(bus.numbers(0, 2), [1, 2]);
}

#[test]
fn a_node_that_had_to_be_forgotten_while_it_was_away_gives_nothing_twice() {
    let mut bus = Bus::linked(2, LIMITS);
    (0..5).for_each(|_| bus.publish(0));
    bus.run(100);
    bus.cut(0);
    bus.run(700);
    bus.flood(1, 3_000);
    bus.publish(0);
    bus.run(20);
    bus.link(0);
    bus.run(1_400);
    bus.publish(0);
    bus.run(200);
    assert_eq!(bus.numbers(1, 0), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_link_is_dead_on_which_a_node_hears_others_and_not_itself() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.parties[0].is_half_linked = true;
    for second in 0..5 {
        let is_dead = bus.parties[0].node.is_unheard(bus.now);
        assert_eq!(is_dead, second >= 4, "after {second} s");
        bus.publish(1);
        bus.run(200);
        assert!(!bus.parties[1].node.is_unheard(bus.now));
    }
    assert_eq!(bus.numbers(0, 1).len(), 5);
    bus.parties[0].is_half_linked = false;
    bus.cut(0);
    bus.run(1_000);
    assert!(!bus.parties[0].node.is_unheard(bus.now), "there is none");
    bus.link(0);
    bus.run(1_000);
    assert!(!bus.parties[0].node.is_unheard(bus.now));
}

#[test]
fn a_node_is_not_muted_by_one_that_claims_to_be_it_after_a_new_start() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.publish(0);
    bus.run(5);
    let (source, epoch) = (bus.parties[0].node.status.source.clone(), bus.parties[0].node.epoch);
    for forged in [epoch - 1, epoch + 1] {
        let envelope =
            format!(r#"{{"src":"{source}","kind":"room","text":"","epoch":{forged},"seq":1}}"#);
        bus.put(1, (Channel::Messages, envelope.into()));
        let body = Body::Beat { head: 0, hello: true };
        let beat = Control { source: source.clone(), epoch: forged, body }.encode();
        bus.put(1, (Channel::Control, beat));
    }
    (0..10).for_each(|_| bus.publish(0));
    bus.run(200);
    bus.assert_everyone_has_everything();
    assert_eq!(bus.counter(1, |counters| read(&counters.ignored)), 4);
}

#[test]
fn a_node_that_was_claimed_before_it_was_heard_is_heard_after_a_while() {
    let mut bus = Bus::new(2, LIMITS);
    let (source, epoch) = (bus.parties[0].node.status.source.clone(), bus.parties[0].node.epoch);
    bus.link(1);
    let forged =
        format!(r#"{{"src":"{source}","kind":"room","text":"","epoch":{},"seq":1}}"#, epoch + 1);
    bus.put(1, (Channel::Messages, forged.into()));
    bus.run(1);
    bus.link(0);
    bus.run(1_000);
    bus.publish(0);
    bus.run(20);
    assert_eq!(bus.numbers(1, 0), [1]);
}

#[test]
fn what_is_sent_again_of_a_node_that_there_is_no_room_for_is_not_delivered_again() {
    let mut bus = Bus::linked(1, LIMITS);
    bus.flood(0, 2_000);
    bus.send_as_stranger(0, 1);
    let again = envelope_of_stranger(1, "");
    let envelope = std::str::from_utf8(&again).unwrap();
    bus.say_as_stranger(0, Body::Again { envelope });
    bus.run(2);
    assert_eq!(bus.of_stranger(0), ["aa:1"]);
}

#[test]
fn what_the_bus_takes_too_slowly_is_not_said_to_be_dropped_for_want_of_a_link() {
    let limits = Limits { replay_bytes: 2_000, ..LIMITS };
    let mut bus = Bus::linked(1, limits);
    (0..100).for_each(|_| bus.publish(0));
    bus.run(1);
    assert!(bus.counter(0, |counters| read(&counters.dropped)) > 50);
    let line = &bus.parties[0].here.logged[0];
    assert!(line.contains("TINA4_WS_BACKPLANE_REPLAY_SIZE"), "{line}");
    assert!(!line.contains("no link"), "{line}");
}
