//! What anyone may write to the bus: it stops no node, and takes bounded memory.

use super::test_bus::*;
use super::*;

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
fn a_node_that_comes_after_a_flood_is_kept_in_order_all_the_same() {
    let mut bus = Bus::linked(2, LIMITS);
    bus.flood(1, 3_000);
    bus.run(700);
    bus.start_one_more();
    bus.link(2);
    bus.run(20);
    bus.publish(2);
    bus.run_deaf(1);
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
fn what_is_sent_again_of_a_node_that_there_is_no_room_for_is_not_delivered_again() {
    let mut bus = Bus::linked(1, LIMITS);
    bus.flood(0, 2_000);
    bus.send_as_stranger(0, 1);
    let again = envelope_of_stranger(1);
    let envelope = std::str::from_utf8(&again).unwrap();
    bus.say_as_stranger(0, Body::Again { envelope });
    bus.run(2);
    assert_eq!(bus.of_stranger(0), ["aa:1"]);
}
