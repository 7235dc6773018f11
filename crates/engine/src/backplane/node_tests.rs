//! What everyone gets, in which order, and how many are there.

#[path = "node_loss_tests.rs"]
mod loss;
#[path = "node_stranger_tests.rs"]
mod strangers;
#[path = "test_bus.rs"]
mod test_bus;

use super::*;
use crate::message::Kind;
use test_bus::*;

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
