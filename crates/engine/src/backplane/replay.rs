//! The replay buffer: what this node has published lately, sent or not, by number.
//!
//! It is the queue to the bus and the memory for nodes that missed something, so that an envelope
//! is kept once. Bounded in bytes and in age; what falls out before it was sent is dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// An envelope is not sent again for another node within this time: the first answer serves all.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

struct Entry {
    envelope: Bytes,
    published: Instant,
    /// When it was given to the bus.
    sent: Option<Instant>,
    resent: Option<Instant>,
}

/// Envelopes in a row; the numbers begin with 1.
pub(crate) struct Replay {
    entries: VecDeque<Entry>,
    /// The number of the first entry, or of the next one if there is none.
    first: u64,
    /// The first number that has not been sent.
    unsent: u64,
    bytes: usize,
    max_bytes: usize,
    max_age: Duration,
    /// When the last one was sent that is gone.
    gone: Option<Instant>,
}

impl Replay {
    /// Keeps at most `max_bytes` of envelopes, none for longer than `max_age`.
    pub(crate) fn new(max_bytes: usize, max_age: Duration) -> Self {
        let (entries, gone) = (VecDeque::new(), None);
        Self { entries, first: 1, unsent: 1, bytes: 0, max_bytes, max_age, gone }
    }

    /// The number that the next envelope gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The last number that has been sent, 0 if none has.
    pub(crate) fn head(&self) -> u64 {
        self.unsent - 1
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent < self.next()
    }

    /// How many wait to be sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.next() - self.unsent
    }

    /// Appends the envelope with the number [`Self::next`]. Returns how many unsent ones had to make
    /// room.
    pub(crate) fn push(&mut self, now: Instant, envelope: Bytes) -> u64 {
        self.bytes += envelope.len();
        self.entries.push_back(Entry { envelope, published: now, sent: None, resent: None });
        let mut dropped = 0;
        // The newest stays, whatever its size: one envelope always fits.
        while self.bytes > self.max_bytes && self.entries.len() > 1 {
            dropped += self.pop();
        }
        dropped
    }

    /// Forgets what is too old. Returns how many of them had not been sent.
    pub(crate) fn expire(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while let Some(entry) = self.entries.front()
            && now.saturating_duration_since(entry.published) > self.max_age
        {
            dropped += self.pop();
        }
        dropped
    }

    fn pop(&mut self) -> u64 {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        self.bytes -= entry.envelope.len();
        self.gone = entry.sent.or(self.gone);
        let was_unsent = self.unsent == self.first;
        self.first += 1;
        self.unsent = self.unsent.max(self.first);
        u64::from(was_unsent)
    }

    /// Appends what was not sent yet, up to so many envelopes and about so many bytes, and counts it
    /// as sent: whether the bus has it is not known if sending fails, and nobody must get it twice.
    pub(crate) fn take_unsent(
        &mut self,
        now: Instant,
        count: usize,
        bytes: usize,
        into: &mut Vec<Bytes>,
    ) {
        let mut taken = 0;
        for index in 0..count {
            let Some(entry) = self.entry_mut(self.unsent) else { return };
            taken += entry.envelope.len();
            if taken > bytes && index > 0 {
                return;
            }
            entry.sent = Some(now);
            into.push(entry.envelope.clone());
            self.unsent += 1;
        }
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The first sent number from `from` on that is still here and of at most `most` bytes, or the
    /// one after the head.
    pub(crate) fn first_from(&self, from: u64, most: usize) -> u64 {
        let mut first = from.max(self.first).min(self.unsent);
        while first < self.unsent
            && self.entry(first).is_some_and(|entry| entry.envelope.len() > most)
        {
            first += 1;
        }
        first
    }

    /// The first number that was sent within the last `age`, or the one after the head. Not when it
    /// was published: that may have been long before, if there was no link.
    pub(crate) fn first_within(&self, now: Instant, age: Duration) -> u64 {
        let is_older = |sent: Instant| now.saturating_duration_since(sent) > age;
        let older = self.entries.partition_point(|entry| entry.sent.is_some_and(is_older));
        (self.first + older as u64).min(self.unsent)
    }

    /// Whether one that was sent within the last `age` is gone.
    pub(crate) fn is_gone_within(&self, now: Instant, age: Duration) -> bool {
        self.gone.is_some_and(|sent| now.saturating_duration_since(sent) <= age)
    }

    /// How many of the sent envelopes from `first` to `until`, each of at most `most` bytes, fit into
    /// `bytes`; at least one if there is one. Returns the last number.
    pub(crate) fn last_within(&self, first: u64, until: u64, bytes: usize, most: usize) -> u64 {
        let mut last = first.saturating_sub(1);
        let mut total = 0;
        while last < until.min(self.head()) {
            let Some(entry) = self.entry(last + 1) else { break };
            total += entry.envelope.len();
            if entry.envelope.len() > most || total > bytes && last >= first {
                break;
            }
            last += 1;
        }
        last
    }

    /// An envelope to be sent again; `None` if that has just been done.
    pub(crate) fn again(&mut self, now: Instant, number: u64) -> Option<Bytes> {
        let entry = self.entry_mut(number)?;
        if entry.resent.is_some_and(|at| now.saturating_duration_since(at) < AGAIN_AFTER) {
            return None;
        }
        entry.resent = Some(now);
        Some(entry.envelope.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn filled(count: u64, max_bytes: usize) -> (Replay, Instant, u64) {
        let now = Instant::now();
        let mut replay = Replay::new(max_bytes, AGE);
        let dropped =
            (0..count).map(|_| replay.push(now, Bytes::from_static(&[0; 10]))).sum::<u64>();
        (replay, now, dropped)
    }

    fn send(replay: &mut Replay, count: usize) -> usize {
        send_at(replay, Instant::now(), count)
    }

    fn send_at(replay: &mut Replay, now: Instant, count: usize) -> usize {
        let mut taken = Vec::new();
        replay.take_unsent(now, count, usize::MAX, &mut taken);
        taken.len()
    }

    #[test]
    fn what_is_sent_is_taken_once_and_kept() {
        let (mut replay, now, _) = filled(5, 1_000);
        assert_eq!((replay.head(), replay.unsent()), (0, 5));
        assert_eq!(send(&mut replay, 3), 3);
        assert_eq!(send(&mut replay, 9), 2);
        assert!(!replay.has_unsent());
        assert_eq!((replay.head(), replay.first_from(1, 1_000)), (5, 1));
        assert!(replay.again(now, 5).is_some());
        assert!(replay.again(now, 6).is_none());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_takes_one_at_least() {
        let (mut replay, now, _) = filled(5, 1_000);
        let mut taken = Vec::new();
        replay.take_unsent(now, 9, 25, &mut taken);
        assert_eq!(taken.len(), 2);
        replay.take_unsent(now, 9, 5, &mut taken);
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn the_oldest_makes_room_and_counts_as_dropped_if_it_was_never_sent() {
        let (mut replay, now, dropped) = filled(10, 55);
        assert_eq!((dropped, replay.unsent(), replay.head()), (5, 5, 5));
        assert_eq!(send(&mut replay, 9), 5);
        assert_eq!(replay.push(now, Bytes::from_static(&[0; 10])), 0, "it had been sent");
        assert_eq!(replay.first_from(1, 1_000), 7);
        assert_eq!(replay.push(now, vec![0; 1_000].into()), 1, "one always fits");
        assert_eq!(replay.unsent(), 1);
    }

    #[test]
    fn age_is_bounded() {
        let (mut replay, now, _) = filled(3, 1_000);
        send(&mut replay, 1);
        assert_eq!(replay.expire(now + AGE), 0);
        assert_eq!(replay.expire(now + AGE + Duration::from_millis(1)), 2);
        assert_eq!((replay.next(), replay.head()), (4, 3));
        assert_eq!(replay.bytes, 0);
    }

    #[test]
    fn an_answer_begins_with_what_is_there_and_stays_small() {
        let (mut replay, _, _) = filled(20, 100);
        send(&mut replay, 5);
        assert_eq!(replay.head(), 15);
        assert_eq!(replay.first_from(1, 1_000), 11, "before it everything is gone");
        assert_eq!(replay.last_within(11, 99, 25, 1_000), 12);
        assert_eq!(
            replay.last_within(11, 99, 1_000, 1_000),
            15,
            "what is not sent yet comes by itself"
        );
        assert_eq!(replay.last_within(11, 12, 1_000, 1_000), 12);
        assert_eq!(replay.last_within(11, 99, 1, 1_000), 11, "one at least");
        assert_eq!(replay.last_within(16, 99, 1_000, 1_000), 15, "none");
        assert_eq!(replay.first_from(99, 1_000), 16);
    }

    #[test]
    fn what_counts_is_when_it_was_sent_and_not_when_it_was_published() {
        let (mut replay, now, _) = filled(6, 100);
        let second = Duration::from_secs(1);
        assert_eq!(replay.first_within(now, AGE), 1, "the one after the head");
        send_at(&mut replay, now + 5 * second, 2);
        send_at(&mut replay, now + 7 * second, 2);
        let later = now + 8 * second;
        assert_eq!(replay.first_within(later, 4 * second), 1);
        assert_eq!(replay.first_within(later, 2 * second), 3);
        assert_eq!(replay.first_within(later + second, second), 5, "nothing is so new");
        assert_eq!(replay.expire(now + AGE + second), 2, "it is kept from its publishing on");
    }

    #[test]
    fn an_answer_passes_over_what_is_too_large_and_ends_before_it() {
        let (mut replay, now, _) = filled(1, 1_000);
        for size in [20, 20, 10, 20] {
            replay.push(now, vec![0; size].into());
        }
        send(&mut replay, 9);
        assert_eq!((replay.first_from(1, 10), replay.last_within(1, 9, 100, 10)), (1, 1));
        assert_eq!((replay.first_from(2, 10), replay.last_within(4, 9, 100, 10)), (4, 4));
        assert_eq!(replay.first_from(5, 10), 6, "the one after the head");
    }

    #[test]
    fn one_answer_serves_everyone_who_asks_at_the_time() {
        let (mut replay, now, _) = filled(1, 100);
        assert!(replay.again(now, 1).is_some());
        assert!(replay.again(now + AGAIN_AFTER / 2, 1).is_none());
        assert!(replay.again(now + AGAIN_AFTER, 1).is_some());
    }
}
