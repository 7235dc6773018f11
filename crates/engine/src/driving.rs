//! When the thread that runs the handlers drives the shards itself.
//!
//! A message costs two threads two wakes, where one that waits for sockets and handlers alike needs
//! none; and what it reads stays in its own cache. So a shard with frequent messages is lent to the
//! handlers' thread, until that blocks, or has much to write at once, or has so much to do that two
//! threads or more do it faster.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::event_queue::EventQueue;
use crate::lease::Driver;
use crate::shared::Shared;
use crate::to_shard::ToShard;

/// A shard is wanted when it has had two batches of handlers in this time. Less than a shard that is lent
/// may go without a turn.
const OFTEN: Duration = Duration::from_millis(1);
/// Turns after which it is known whether there is too much for one thread.
const WINDOW: u64 = 16;
/// Several shards do more on their own threads if each turn brings this many events, of all of them
/// together: they come faster than handlers take them, and what a wake costs is little for each.
const FULL: u64 = 64;
/// So does one, with this many requests a turn, unless they are light and fewer than [`FULL`]: most of
/// what they cost is the shard's. For messages a second thread is no gain, as their frames are then
/// written in smaller pieces.
const FULL_OF_REQUESTS: u64 = 8;
/// Requests are light if they cost less than so many times what it costs to read them; with a handler
/// that does next to nothing it is about four. Two threads would take no more of them, for what they
/// tell each other costs as much as the one takes off the other.
const LIGHT: u32 = 5;
/// How long requests are read before it is known whether they are light: longer than the system stops a
/// thread for others. They are not if that is so twice in a row: the first handlers of a process run
/// before V8 has compiled them.
const MEASURED: Duration = Duration::from_millis(20);
/// The thread that drives gives memory back at most this often.
const TIDY_APART: Duration = Duration::from_millis(500);
/// How long shards that were given back for that, or had too much to write, are left to their threads.
const REST: Duration = Duration::from_millis(200);
/// The same for requests that are not light or too many, which takes a while to see and seldom changes.
const REST_OF_REQUESTS: Duration = Duration::from_secs(2);

/// What a turn on the handlers' thread was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was none: the shard's own thread drives it, and its sockets are not to be watched.
    Elsewhere,
    /// Events wait for [`crate::Engine::take`], perhaps; nobody has rung for them.
    Events,
    /// No event waits.
    Quiet,
}

/// The driving side of an engine: used by the one thread that runs the handlers.
pub struct Driving {
    shards: Vec<Driven>,
    events: Arc<EventQueue>,
    shared: Arc<Shared>,
    /// Nothing is wanted before.
    rests_until: Option<Instant>,
    /// When this thread gave memory back.
    tidied: Option<Instant>,
    window: Window,
    /// While there are many requests: to read the clock twice a turn is a noticeable part of a turn
    /// that brings one message.
    measure: Option<Measure>,
}

/// One shard.
struct Driven {
    way: Arc<ToShard>,
    descriptor: Option<i32>,
    /// It has published since the last batch of handlers ended.
    heard: bool,
    /// When a batch of handlers with events of it ended last.
    last: Option<Instant>,
}

/// What came since the last look at it.
#[derive(Default)]
struct Window {
    turns: u64,
    events: u64,
    requests: u64,
}

/// What requests cost, while shards are lent.
struct Measure {
    began: Instant,
    /// How long the turns took.
    reading: Duration,
    /// Those of the measure before were not light.
    were_heavy: bool,
}

impl Measure {
    fn new(now: Instant, were_heavy: bool) -> Self {
        Self { began: now, reading: Duration::ZERO, were_heavy }
    }
}

impl Driving {
    pub(crate) fn new(ways: &[Arc<ToShard>], events: Arc<EventQueue>, shared: Arc<Shared>) -> Self {
        let driven =
            |way| Driven { way: Arc::clone(way), descriptor: None, heard: false, last: None };
        let shards = ways.iter().map(driven).collect();
        let window = Window::default();
        Self { shards, events, shared, rests_until: None, tidied: None, window, measure: None }
    }

    pub(crate) fn set_descriptors(&mut self, descriptors: Vec<Option<i32>>) {
        for (shard, descriptor) in self.shards.iter_mut().zip(descriptors) {
            shard.descriptor = descriptor;
        }
    }

    /// What is readable when a shard has something to do: the descriptor of the epoll instance of its
    /// runtime. None where the system has no such thing.
    pub fn descriptor(&self, shard: usize) -> Option<i32> {
        self.shards.get(shard)?.descriptor
    }

    /// Events of a shard were taken.
    pub(crate) fn heard(&mut self, shard: usize, events: usize, requests: usize) {
        let Some(shard) = self.shards.get_mut(shard) else { return };
        shard.heard = true;
        // What came while its own thread drove it says nothing of turns here.
        if shard.way.is_lent() {
            self.window.events += events as u64;
            self.window.requests += requests as u64;
        }
    }

    /// A batch of handlers has ended: calls `watch` for each shard whose descriptor is to be watched
    /// from now on, with a [`Self::turn`] whenever it is readable; false if it cannot be.
    pub fn batch_ended(&mut self, watch: impl FnMut(usize) -> bool) {
        self.want(Instant::now(), watch);
    }

    fn want(&mut self, now: Instant, mut watch: impl FnMut(usize) -> bool) {
        // Lent again, it would be given back at once.
        if self.shards.iter().any(|shard| shard.way.take_too_much()) {
            self.rests_until = Some(now + REST);
        }
        let rests = self.rests_until.is_some_and(|until| now < until);
        for (index, shard) in self.shards.iter_mut().enumerate() {
            if !std::mem::take(&mut shard.heard) || shard.descriptor.is_none() {
                continue;
            }
            let last = shard.last.replace(now);
            let often = last.is_some_and(|last| now.saturating_duration_since(last) < OFTEN);
            if often && !rests && !shard.way.is_lent() && watch(index) {
                shard.way.want();
                // What requests cost before says nothing of the time in between.
                self.measure = None;
            }
        }
    }

    /// Gives a shard a turn.
    pub fn turn(&mut self, shard: usize) -> Turn {
        self.weigh(Instant::now);
        let Some(shard) = self.shards.get(shard) else { return Turn::Elsewhere };
        let hushed = self.events.hush();
        let began = self.measure.is_some().then(Instant::now);
        let driver = shard.way.lease().drive();
        if let (Some(measure), Some(began)) = (&mut self.measure, began) {
            measure.reading += began.elapsed();
        }
        if driver == Driver::Asker {
            self.shared.drove.store(true, Ordering::Relaxed);
            self.shared.counters.driven.fetch_add(1, Ordering::Relaxed);
        }
        let waits = !self.events.is_empty();
        if waits || hushed && self.events.finish() {
            return Turn::Events;
        }
        if driver == Driver::Itself { Turn::Elsewhere } else { Turn::Quiet }
    }

    /// Whether this thread is to give back the memory that the shards it drove have left with it: once
    /// for all that came before.
    pub(crate) fn has_rested(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let drives = |shard: &Driven| shard.way.is_lent();
        if !self.shared.drove.load(Ordering::Relaxed) || self.shards.iter().any(drives) {
            return false;
        }
        let now = now();
        if self.tidied.is_some_and(|last| now.saturating_duration_since(last) < TIDY_APART) {
            return false;
        }
        self.shared.drove.store(false, Ordering::Relaxed);
        self.tidied = Some(now);
        true
    }

    /// Counts a turn. Gives the shards back if there is too much for one thread.
    fn weigh(&mut self, now: impl Fn() -> Instant) {
        self.window.turns += 1;
        if self.window.turns < WINDOW {
            return;
        }
        let Window { turns, events, requests } = std::mem::take(&mut self.window);
        let unhandled = self.shared.answered.swap(0, Ordering::Relaxed);
        let shards = self.shards.len() as u64;
        let many = |requests| requests >= turns * FULL_OF_REQUESTS;
        let rest = if shards > 1 && events * shards >= turns * FULL || many(unhandled) {
            REST
        } else if many(requests + unhandled) {
            if requests < turns * FULL && self.are_light(now()) {
                return;
            }
            REST_OF_REQUESTS
        } else {
            self.measure = None;
            return;
        };
        self.measure = None;
        self.rests_until = Some(now() + rest);
        for shard in &self.shards {
            shard.way.lease().give_back();
        }
    }

    /// Whether the many requests that come are light, as far as is known.
    fn are_light(&mut self, now: Instant) -> bool {
        let measure = self.measure.get_or_insert_with(|| Measure::new(now, false));
        if measure.reading < MEASURED {
            return true;
        }
        let all = now.saturating_duration_since(measure.began);
        let are_heavy = all >= LIGHT * measure.reading;
        let were_heavy = measure.were_heavy;
        *measure = Measure::new(now, are_heavy);
        !(are_heavy && were_heavy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::CommandQueue;
    use crate::config::Config;
    use crate::outgoing::Outgoing;

    const DESCRIPTOR: i32 = 7;

    /// The driving side of shards that never begin.
    fn driving(shards: usize) -> Driving {
        let queues = (0..shards).map(|_| Arc::<CommandQueue>::default()).collect();
        let shared = Arc::new(Shared::new(Config::default(), shards));
        let outgoing = Outgoing::new(queues, Arc::clone(&shared));
        let ways: Vec<_> = (0..shards).filter_map(|shard| outgoing.to_shard(shard)).collect();
        let events = Arc::new(EventQueue::new(Box::new(|| {})));
        let mut driving = Driving::new(&ways, events, shared);
        driving.set_descriptors(vec![Some(DESCRIPTOR); shards]);
        driving
    }

    /// The shards that are wanted after a batch that ended at `now`.
    fn wanted(driving: &mut Driving, now: Instant) -> Vec<usize> {
        let mut wanted = Vec::new();
        driving.want(now, |shard| {
            wanted.push(shard);
            true
        });
        wanted
    }

    #[test]
    fn shards_that_have_often_something_to_say_are_wanted_once() {
        let (mut driving, now) = (driving(3), Instant::now());
        driving.heard(0, 1, 0);
        driving.heard(1, 1, 0);
        assert_eq!(wanted(&mut driving, now), [0; 0], "the first of each");
        driving.heard(1, 1, 0);
        driving.heard(2, 1, 0);
        assert_eq!(wanted(&mut driving, now + OFTEN / 2), [1]);
        driving.heard(0, 1, 0);
        driving.heard(1, 1, 0);
        assert_eq!(wanted(&mut driving, now + OFTEN), [0; 0], "too late for 0, and 1 is known");
    }

    #[test]
    fn a_shard_that_cannot_be_watched_is_left_alone() {
        let (mut driving, now) = (driving(2), Instant::now());
        driving.set_descriptors(vec![None, Some(DESCRIPTOR)]);
        assert_eq!((driving.descriptor(0), driving.descriptor(1)), (None, Some(DESCRIPTOR)));
        for _ in 0..2 {
            driving.heard(0, 1, 0);
            driving.heard(1, 1, 0);
            driving.want(now, |_| false);
        }
        assert!(driving.shards.iter().all(|shard| !shard.way.is_lent()));
    }

    #[test]
    fn shards_are_given_back_for_a_while_when_they_bring_too_much() {
        // By shards, and events and requests that each turn brings: whether that is too much.
        for (shards, events, requests, too_much) in [
            (1, 10 * FULL, FULL_OF_REQUESTS - 1, false),
            (1, FULL, FULL - 1, false),
            (1, FULL, FULL, true),
            (2, FULL / 2 - 1, 0, false),
            (2, FULL / 2, 0, true),
            (4, FULL / 4, 0, true),
        ] {
            let (mut driving, now) = (driving(shards), Instant::now());
            driving.shards.iter().for_each(|shard| shard.way.want());
            for turn in 1..=WINDOW {
                driving.heard(0, events as usize, requests as usize);
                driving.weigh(|| now);
                let given_back = driving.shards.iter().all(|shard| !shard.way.is_lent());
                assert_eq!(given_back, too_much && turn == WINDOW, "{shards} {events} {turn}");
            }
            if !too_much {
                continue;
            }
            let rest = if requests > 0 { REST_OF_REQUESTS } else { REST };
            for (late, again) in [(OFTEN, false), (rest - OFTEN / 2, false), (rest, true)] {
                driving.heard(0, 1, 0);
                wanted(&mut driving, now + late - OFTEN / 4);
                driving.heard(0, 1, 0);
                assert_eq!(!wanted(&mut driving, now + late).is_empty(), again, "{late:?}");
            }
        }
    }

    #[test]
    fn many_requests_are_too_much_unless_they_are_light() {
        const BEFORE: Duration = Duration::from_nanos(1);
        // By requests that each turn brings, how long they were read and how long that and all else
        // took: whether they are too much.
        for (requests, reading, all, too_much) in [
            (FULL_OF_REQUESTS, MEASURED, LIGHT * MEASURED, true),
            (FULL_OF_REQUESTS, MEASURED, LIGHT * MEASURED - BEFORE, false),
            (FULL - 1, MEASURED - BEFORE, LIGHT * MEASURED, false),
            (FULL_OF_REQUESTS - 1, MEASURED, 10 * LIGHT * MEASURED, false),
        ] {
            let (mut driving, now) = (driving(1), Instant::now());
            driving.shards[0].way.want();
            let look = |driving: &mut Driving, now: Instant| {
                for _ in 0..WINDOW {
                    driving.heard(0, requests as usize, requests as usize);
                    driving.weigh(|| now);
                }
                driving.shards[0].way.is_lent()
            };
            let read = |driving: &mut Driving, now: Instant| {
                if let Some(measure) = &mut driving.measure {
                    measure.reading = reading;
                }
                look(driving, now)
            };
            assert!(look(&mut driving, now), "nothing is known of them");
            assert!(read(&mut driving, now + all), "it may have been the first time");
            let is_lent = read(&mut driving, now + 2 * all);
            assert_eq!(!is_lent, too_much, "{requests} {reading:?} {all:?}");
            if too_much {
                assert_eq!(driving.rests_until, Some(now + 2 * all + REST_OF_REQUESTS));
                driving.shards[0].way.want();
                assert!(look(&mut driving, now + 2 * all + REST), "what was does not count");
            }
        }
    }

    #[test]
    fn requests_that_are_light_in_between_are_not_too_much() {
        let (mut driving, now) = (driving(1), Instant::now());
        for (measures, all) in [LIGHT, LIGHT - 1, LIGHT, LIGHT].into_iter().enumerate() {
            driving.measure.get_or_insert(Measure::new(now, false)).reading = MEASURED;
            assert_eq!(driving.are_light(now + all * MEASURED), measures < 3, "{measures}");
            if let Some(measure) = &mut driving.measure {
                measure.began = now;
            }
        }
    }

    #[test]
    fn the_time_for_which_a_shard_was_not_lent_is_not_what_requests_cost() {
        let (mut driving, now) = (driving(1), Instant::now());
        let look = |driving: &mut Driving, now: Instant| {
            for _ in 0..WINDOW {
                driving.heard(0, FULL_OF_REQUESTS as usize, FULL_OF_REQUESTS as usize);
                driving.weigh(|| now);
            }
        };
        driving.shards[0].way.want();
        look(&mut driving, now);
        if let Some(measure) = &mut driving.measure {
            measure.were_heavy = true;
        }
        // Its own thread takes it back while nobody asks anything.
        driving.shards[0].way.lease().give_back();
        let later = now + 10 * LIGHT * MEASURED;
        for ended in [later - OFTEN / 2, later] {
            driving.heard(0, 1, 1);
            wanted(&mut driving, ended);
        }
        if let Some(measure) = &mut driving.measure {
            measure.reading = MEASURED;
        }
        look(&mut driving, later);
        assert!(driving.shards[0].way.is_lent());
    }

    #[test]
    fn shards_with_too_much_to_write_are_left_alone_for_a_while() {
        let (mut driving, now) = (driving(2), Instant::now());
        // Those that are wanted when the last batch of two that follow each other soon ends at `now`.
        let often = |driving: &mut Driving, now: Instant| {
            driving.heard(1, 1, 0);
            driving.want(now - OFTEN / 2, |_| true);
            driving.shards[1].way.lease().give_back();
            driving.heard(1, 1, 0);
            wanted(driving, now)
        };
        assert_eq!(often(&mut driving, now), [1]);
        driving.shards[0].way.note_too_much();
        assert_eq!(often(&mut driving, now + OFTEN), [0; 0]);
        assert_eq!(often(&mut driving, now + REST), [0; 0]);
        assert_eq!(often(&mut driving, now + REST + OFTEN), [1], "it was said once");
    }

    #[test]
    fn requests_that_need_no_handler_count_too() {
        let (mut driving, now) = (driving(1), Instant::now());
        driving.shards[0].way.want();
        for answered in [WINDOW * FULL_OF_REQUESTS - 1, WINDOW * FULL_OF_REQUESTS] {
            assert!(driving.shards[0].way.is_lent());
            driving.shared.answered.store(answered, Ordering::Relaxed);
            (0..WINDOW).for_each(|_| driving.weigh(|| now));
        }
        assert!(!driving.shards[0].way.is_lent());
    }

    #[test]
    fn what_came_before_a_shard_was_lent_does_not_count() {
        let (mut driving, now) = (driving(1), Instant::now());
        driving.heard(0, 10_000, 10_000);
        driving.shards[0].way.want();
        for _ in 0..WINDOW {
            driving.heard(0, 1, 1);
            driving.weigh(|| now);
        }
        assert!(driving.shards[0].way.is_lent());
    }

    #[test]
    fn memory_is_given_back_once_when_no_shard_is_driven_any_more() {
        let (mut driving, now) = (driving(2), Instant::now());
        assert!(!driving.has_rested(|| now), "nothing was driven");
        driving.shared.drove.store(true, Ordering::Relaxed);
        driving.shards[1].way.want();
        assert!(!driving.has_rested(|| now), "one is");
        driving.shards[1].way.lease().give_back();
        assert!(driving.has_rested(|| now));
        assert!(!driving.has_rested(|| now), "done");
        driving.shared.drove.store(true, Ordering::Relaxed);
        assert!(!driving.has_rested(|| now + TIDY_APART / 2), "too soon");
        assert!(driving.has_rested(|| now + TIDY_APART));
    }

    #[test]
    fn there_is_no_turn_of_a_shard_that_is_not_wanted() {
        let mut driving = driving(1);
        assert_eq!(driving.turn(0), Turn::Elsewhere);
        assert_eq!(driving.turn(1), Turn::Elsewhere);
        driving.events.push_one(crate::event::Event::Stopped);
        assert_eq!(driving.turn(0), Turn::Events, "whose bell nobody hears");
        driving.shards[0].way.want();
        driving.events.take(&mut Vec::new());
        assert_eq!(driving.turn(0), Turn::Quiet, "not yet");
        assert_eq!(driving.shared.counters.driven.load(Ordering::Relaxed), 0);
    }
}
