//! What is missing: it is asked for, waited for, given up and counted.

use super::test_bus::*;
use super::*;
use crate::message::Kind;

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
fn what_no_longer_fits_for_a_node_that_links_later_is_counted_as_well() {
    let limits = Limits { replay_bytes: 2_000, ..LIMITS };
    let mut bus = Bus::new(2, limits);
    bus.link(0);
    for _ in 0..100 {
        bus.publish(0);
        bus.step();
    }
    bus.run(100);
    bus.start_one_more();
    bus.link(2);
    bus.run(100);
    let forgotten = |bus: &Bus| bus.counter(0, |counters| read(&counters.forgotten));
    assert_eq!((bus.numbers(2, 0).len(), forgotten(&bus)), (0, 0), "it was not there for any");
    bus.link(1);
    bus.run(100);
    let numbers = bus.numbers(1, 0);
    assert_eq!(numbers.last(), Some(&100));
    assert!(numbers.len() < 50, "{}", numbers.len());
    assert_eq!(forgotten(&bus), 1, "at least: how many it was there for is not known");
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

#[test]
fn a_gap_of_a_node_that_died_is_given_up_and_what_came_after_it_is_delivered() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.publish(0);
    bus.run(5);
    bus.publish(0);
    bus.run_deaf(2);
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
fn one_that_said_goodbye_is_not_asked_any_more() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.publish(0);
    bus.run_deaf(1);
    bus.parties[0].node.leave();
    bus.run(50);
    assert_eq!(bus.parties[1].node.status.nodes(), 0);
    assert!(!bus.parties[1].node.peers.misses_something());
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
fn an_answer_without_anything_is_not_waited_for() {
    let mut bus = Bus::new(2, LIMITS);
    bus.publish_bytes(0, 1_000);
    bus.publish(0);
    bus.parties[0].is_linked = true;
    bus.parties[0].node.link_up(bus.now, 1_000);
    bus.run(20);
    bus.link(1);
    bus.run(30);
    assert_eq!(bus.numbers(1, 0), [2]);
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
                let again = envelope_of_stranger(4);
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
