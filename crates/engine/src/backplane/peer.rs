//! A peer: another node whose envelopes have numbers, and what it is asked for.

use std::time::{Duration, Instant};

use super::envelope::Delivery;
use super::sequence::Sequence;

/// Envelopes may be a little late on another way: a gap is asked about after this and up to twice
/// as long, so that not everyone asks at once.
pub(super) const ASK_AFTER: Duration = Duration::from_millis(20);
/// An unanswered question is put again after this.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(300);
/// After so many questions in vain what is missing is lost.
pub(super) const ASKS_AT_MOST: u32 = 10;

/// An origin whose envelopes have numbers.
pub(super) struct Peer {
    pub(super) epoch: u64,
    pub(super) heard: Instant,
    /// `None` in the place of one that cannot be taken here.
    pub(super) sequence: Sequence<Option<Delivery>>,
    pub(super) asking: Option<Asking>,
    pub(super) has_left: bool,
}

/// What is missing has been noticed.
pub(super) struct Asking {
    pub(super) due: Instant,
    /// When it was asked last.
    asked: Option<Instant>,
    /// Questions in vain since something last came of what is missing: the node was heard after
    /// them. One that is away may come back and answer.
    pub(super) in_vain: u32,
    /// The first number that was missing then.
    next: u64,
    /// The last number of the answer that is coming in.
    pub(super) answered_until: Option<u64>,
}

impl Peer {
    pub(super) fn new(now: Instant, epoch: u64) -> Self {
        Self { epoch, heard: now, sequence: Sequence::new(), asking: None, has_left: false }
    }

    /// A word of it: if it was away it can be asked now.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        if let Some(asking) = &mut self.asking {
            asking.due = asking.due.min(now + ASK_AGAIN);
        }
    }

    /// Begins to ask when something is missing, asks on when an answer is complete and something
    /// still is, and ends when nothing is.
    pub(super) fn look_after_gap(&mut self, now: Instant) {
        if self.sequence.missing().is_none() {
            self.asking = None;
            return;
        }
        let next = self.sequence.next().unwrap_or(0);
        let asking = self.asking.get_or_insert_with(|| Asking::new(now, next));
        if next > asking.next {
            (asking.next, asking.in_vain) = (next, 0);
            let is_answered = asking.answered_until.is_some_and(|until| next > until);
            if is_answered {
                asking.answered_until = None;
            }
            // Otherwise more of it is likely to come by itself.
            asking.due =
                if is_answered && !self.has_left { now } else { asking.due.max(now + ASK_AGAIN) };
        }
    }
}

impl Asking {
    fn new(now: Instant, next: u64) -> Self {
        Self {
            due: now + ASK_AFTER.mul_f64(rand::random_range(1.0..2.0)),
            asked: None,
            in_vain: 0,
            next,
            answered_until: None,
        }
    }

    /// It is asked now, and was heard last at `heard`. False if that has been in vain too often.
    pub(super) fn ask(&mut self, now: Instant, heard: Instant) -> bool {
        if self.asked.is_some_and(|asked| heard > asked) {
            self.in_vain += 1;
        }
        self.asked = Some(now);
        self.due = now + ASK_AGAIN;
        self.in_vain < ASKS_AT_MOST
    }

    /// It is not asked for now, and what it says meanwhile is not taken in.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.asked = None;
        self.due = now + ASK_AGAIN;
    }

    /// Begins anew: what was asked and answered has been lost with the link.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self::new(now, self.next);
    }
}
