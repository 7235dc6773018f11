//! What a commit carries out itself, and what it hands over.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::clock::Moment;
use crate::command::CommandBatch;
use crate::config::Config;
use crate::event::{Event, EventBatch};
use crate::lease::Sleeper;
use crate::to_shard::{BYTES_HERE, BYTES_LENT, COMMIT_BYTES, SOCKETS_HERE};
use crate::topics::Topics;

/// Notes how many commands each batch had, of a shard that is lent as if they were a hundred more.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<usize>>>);

const LENT: usize = 100;

impl Sleeper for Notes {
    fn carry_out(&self, batch: CommandBatch) -> Result<(), CommandBatch> {
        self.0.borrow_mut().push(batch.commands.len());
        Ok(())
    }

    fn turn(&self) -> Moment {
        Moment::default()
    }

    fn carry_out_any(&self, batch: CommandBatch) {
        self.0.borrow_mut().push(LENT + batch.commands.len());
    }
}

/// The ways to shards that sleep.
struct Fixture {
    queues: Vec<Arc<CommandQueue>>,
    outgoing: Outgoing,
    here: Notes,
}

impl Fixture {
    fn new(shards: usize) -> Self {
        let queues: Vec<_> = (0..shards).map(|_| Arc::<CommandQueue>::default()).collect();
        let shared = Arc::new(Shared::new(Config::default(), shards));
        let outgoing = Outgoing::new(queues.clone(), shared);
        let here = Notes::default();
        for way in &outgoing.shards {
            drop(way.lease().begin(Box::new(here.clone())));
        }
        Self { queues, outgoing, here }
    }

    fn send(&mut self, shard: usize, connections: usize) {
        for slot in 0..connections {
            self.outgoing.send(Handle::new(shard, slot, 1), false, &"hello");
        }
    }

    /// Commits; says how many commands of each batch were carried out here, and how many the
    /// shards find in their queues.
    fn commit(&mut self) -> (Vec<usize>, Vec<usize>) {
        self.outgoing.commit();
        let mut queued = Vec::new();
        for queue in &self.queues {
            let mut taken = Vec::new();
            queue.take(&mut taken);
            queued.extend(taken.iter().map(|batch| batch.commands.len()));
        }
        (self.here.0.take(), queued)
    }
}

#[test]
fn a_little_is_carried_out_for_a_shard_that_sleeps() {
    let mut fixture = Fixture::new(1);
    fixture.send(0, SOCKETS_HERE);
    assert_eq!(fixture.commit(), (vec![SOCKETS_HERE], vec![]));
    fixture.send(0, SOCKETS_HERE + 1);
    assert_eq!(fixture.commit(), (vec![], vec![SOCKETS_HERE + 1]));
}

#[test]
fn a_little_for_each_of_many_shards_may_be_too_much() {
    let mut fixture = Fixture::new(4);
    for shard in 0..4 {
        fixture.send(shard, SOCKETS_HERE / 4);
    }
    assert_eq!(fixture.commit(), (vec![SOCKETS_HERE / 4; 4], vec![]));
    for shard in 0..4 {
        fixture.send(shard, SOCKETS_HERE / 4 + 1);
    }
    assert_eq!(fixture.commit(), (vec![], vec![SOCKETS_HERE / 4 + 1; 4]));
}

#[test]
fn a_broadcast_counts_its_members() {
    let mut fixture = Fixture::new(1);
    let topic = Topics::new(1).insert("/room".into(), 1);
    let members = SOCKETS_HERE;
    (0..members).for_each(|_| topic.add_member(0, false));
    // However many go to them in a row: each socket is written once.
    for exclude in 0..3 {
        let origin = Origin::Local(Some(Handle::new(0, exclude, 1)));
        fixture.outgoing.fan_out(&topic, &"hello", origin);
    }
    assert_eq!(fixture.commit(), (vec![3], vec![]));
    topic.add_member(0, false);
    fixture.outgoing.fan_out(&topic, &"hello", Origin::Local(None));
    assert_eq!(fixture.commit(), (vec![], vec![1]));
}

#[test]
fn many_bytes_go_to_the_shard() {
    let mut fixture = Fixture::new(1);
    let topic = Topics::new(1).insert("/room".into(), 1);
    (0..32).for_each(|_| topic.add_member(0, false));
    for (length, here) in [(BYTES_HERE / 64, true), (BYTES_HERE / 32, false), (LARGE, false)] {
        let text = "x".repeat(length);
        fixture.outgoing.fan_out(&topic, &text.as_str(), Origin::Local(None));
        let (carried, queued) = fixture.commit();
        assert_eq!((carried.len(), queued.len()), (here.into(), (!here).into()), "{length}");
    }
    let text = "x".repeat(LARGE);
    fixture.outgoing.send(Handle::new(0, 0, 1), false, &text.as_str());
    assert_eq!(fixture.commit(), (vec![1], vec![]));
}

#[test]
fn what_waits_for_the_shard_comes_first() {
    let mut fixture = Fixture::new(1);
    fixture.send(0, 1);
    fixture.outgoing.hand_over();
    fixture.send(0, 2);
    assert_eq!(fixture.commit(), (vec![], vec![1, 2]));
}

#[test]
fn what_is_more_than_a_write_goes_to_the_shard() {
    let mut fixture = Fixture::new(1);
    let handle = Handle::new(0, 0, 1);
    fixture.outgoing.respond(handle, 200, &"", &"hello");
    fixture.send(0, 1);
    assert_eq!(fixture.commit(), (vec![], vec![2]));
    fixture.outgoing.command(0, Command::Drain { handle });
    assert_eq!(fixture.commit(), (vec![], vec![1]));
    let compressible = "x".repeat(Config::default().compression_threshold);
    fixture.outgoing.send(handle, true, &compressible.as_str());
    assert_eq!(fixture.commit(), (vec![], vec![1]));
    let topic = Topics::new(1).insert("/room".into(), 1);
    topic.add_member(0, true);
    fixture.outgoing.fan_out(&topic, &compressible.as_str(), Origin::Local(None));
    assert_eq!(fixture.commit(), (vec![], vec![1]));
    fixture.send(0, 1);
    assert_eq!(fixture.commit(), (vec![1], vec![]), "forgotten with its batch");
}

/// One shard that is lent while `job` runs.
fn lent(job: impl FnOnce(&mut Fixture)) {
    let mut fixture = Fixture::new(1);
    let lease = fixture.outgoing.shards[0].lease().clone();
    lease.want();
    lease.wake().lend_while(|| job(&mut fixture)).end();
}

#[test]
fn anything_is_carried_out_for_a_shard_that_is_lent() {
    lent(|fixture| {
        fixture.send(0, SOCKETS_HERE + 1);
        assert_eq!(fixture.commit(), (vec![SOCKETS_HERE + 1], vec![]), "answers");
        fixture.outgoing.respond(Handle::new(0, 0, 1), 200, &"", &"hello");
        assert_eq!(fixture.commit(), (vec![LENT + 1], vec![]), "more than writes");
        fixture.send(0, 2);
        fixture.outgoing.hand_over();
        assert_eq!(fixture.here.0.take(), [2], "before more events are taken");
        fixture.send(0, 3);
        fixture.outgoing.flush();
        assert_eq!(fixture.here.0.take(), [0; 0], "nobody writes them while handlers run");
        assert_eq!(fixture.commit(), (vec![3], vec![]));
        assert!(fixture.outgoing.shards[0].is_lent());
    });
}

#[test]
fn a_shard_that_is_lent_is_given_back_with_much_to_write() {
    let topic = || Topics::new(1).insert("/room".into(), 1);
    lent(|fixture| {
        let topic = topic();
        (0..SOCKETS_HERE).for_each(|_| topic.add_member(0, false));
        fixture.outgoing.fan_out(&topic, &"hello", Origin::Local(None));
        assert_eq!(fixture.commit(), (vec![1], vec![]));
        assert!(!fixture.outgoing.shards[0].take_too_much());
        topic.add_member(0, false);
        fixture.outgoing.fan_out(&topic, &"hello", Origin::Local(None));
        assert_eq!(fixture.commit(), (vec![], vec![1]), "to many");
        assert!(!fixture.outgoing.shards[0].is_lent());
        assert!(fixture.outgoing.shards[0].take_too_much());
        assert!(!fixture.outgoing.shards[0].take_too_much(), "once");
    });
    lent(|fixture| {
        let topic = topic();
        (0..SOCKETS_HERE).for_each(|_| topic.add_member(0, false));
        let text = "x".repeat(BYTES_LENT / SOCKETS_HERE);
        fixture.outgoing.fan_out(&topic, &text.as_str(), Origin::Local(None));
        assert_eq!(fixture.commit(), (vec![], vec![1]), "much to each");
        assert!(!fixture.outgoing.shards[0].is_lent());
    });
    lent(|fixture| {
        let topic = topic();
        (0..SOCKETS_HERE).for_each(|_| topic.add_member(0, false));
        let text = "x".repeat(COMMIT_BYTES);
        fixture.outgoing.fan_out(&topic, &text.as_str(), Origin::Local(None));
        assert!(!fixture.outgoing.shards[0].is_lent(), "so much that it is committed at once");
        assert!(fixture.outgoing.shards[0].take_too_much());
    });
}

#[test]
fn a_message_is_sent_on_as_it_came() {
    let mut fixture = Fixture::new(1);
    let handle = Handle::new(0, 0, 1);
    let mut batch = EventBatch::default();
    let cases =
        [(Kind::Text, 5), (Kind::Binary, LARGE - 1), (Kind::Text, LARGE), (Kind::Binary, LARGE)];
    for (kind, length) in cases {
        let payload = batch.store(kind, &vec![b'x'; length]);
        batch.push(Event::Message { handle, kind, ascii: false, payload });
    }
    batch.push(Event::Drained { handle });
    for (index, (kind, length)) in cases.into_iter().enumerate() {
        let received = batch.message(index).expect("a message");
        fixture.outgoing.send(handle, false, &received);
        fixture.outgoing.hand_over();
        let mut taken = Vec::new();
        fixture.queues[0].take(&mut taken);
        let (frame, copied) = match &taken[0].commands[..] {
            [Command::Send { start, end, .. }] => {
                (taken[0].arena.slice(*start as usize..*end as usize), true)
            }
            [Command::SendAlone { frame, .. }] => {
                (frame.clone(), frame.as_ptr() != received.frame().expect("framed").as_ptr())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(frame, message::framed(kind, &vec![b'x'; length]));
        assert_eq!(copied, length < LARGE, "{length} bytes");
    }
    assert!(batch.message(cases.len()).is_none(), "no message");
    assert!(batch.message(cases.len() + 1).is_none(), "no event");
}
