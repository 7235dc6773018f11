//! The sequence of one origin: its envelopes in order, each once.
//!
//! Envelopes carry consecutive numbers. One that was delivered already is a duplicate; behind a gap
//! they are held, until what is missing has come or is given up.

use std::collections::BTreeMap;

/// Envelopes of one origin that are held behind a gap, at most.
pub(crate) const MAX_HELD: usize = 16_384;

/// What became of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It and perhaps others after it are ready.
    Ready,
    /// It waits for what is missing.
    Held,
    /// It was taken before.
    Duplicate,
    /// There is no room to hold it; it will be missing.
    NoRoom,
}

/// What an origin has to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Where to begin: nothing is known of it.
    Beginning,
    /// These numbers, both included.
    Range { from: u64, until: u64 },
}

/// The envelopes of one origin, each with its size.
pub(crate) struct Sequence<T> {
    /// The number that is delivered next; 0 until the beginning is known.
    next: u64,
    /// The last number that the origin is known to have sent.
    head: u64,
    held: BTreeMap<u64, (T, usize)>,
    held_bytes: usize,
}

impl<T> Sequence<T> {
    pub(crate) fn new() -> Self {
        Self { next: 0, head: 0, held: BTreeMap::new(), held_bytes: 0 }
    }

    /// Bytes that are held behind a gap.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The number that is delivered next; `None` until the beginning is known.
    pub(crate) fn next(&self) -> Option<u64> {
        (self.next > 0).then_some(self.next)
    }

    /// Takes envelope `number` of `bytes`, holding it if that fits into `room`; what is in order now
    /// is appended to `ready`.
    pub(crate) fn take(
        &mut self,
        number: u64,
        item: T,
        bytes: usize,
        room: usize,
        ready: &mut Vec<T>,
    ) -> Taken {
        if self.next > 0 && number < self.next || self.held.contains_key(&number) {
            return Taken::Duplicate;
        }
        self.head = self.head.max(number);
        if number == self.next {
            self.next += 1;
            ready.push(item);
            self.release(ready);
            return Taken::Ready;
        }
        if self.held.len() >= MAX_HELD || bytes > room {
            return Taken::NoRoom;
        }
        self.held_bytes += bytes;
        self.held.insert(number, (item, bytes));
        Taken::Held
    }

    fn release(&mut self, ready: &mut Vec<T>) {
        while let Some(first) = self.held.first_entry()
            && *first.key() == self.next
        {
            let (item, bytes) = first.remove();
            self.held_bytes -= bytes;
            self.next += 1;
            ready.push(item);
        }
    }

    /// The origin has sent everything up to `head`.
    pub(crate) fn heard_head(&mut self, head: u64) {
        self.head = self.head.max(head);
        if self.next == 0 && self.head == 0 {
            self.next = 1;
        }
    }

    /// The origin says that it has sent nothing after `head`: what claims to be is forged. Returns
    /// how many are let go.
    pub(crate) fn trim(&mut self, head: u64) -> usize {
        self.head = head;
        let forged = self.held.split_off(&head.saturating_add(1));
        self.held_bytes -= forged.values().map(|(_, bytes)| bytes).sum::<usize>();
        forged.len()
    }

    /// Nothing before `number` will come any more. Returns how many are lost; none of those before a
    /// beginning that was not known.
    pub(crate) fn skip_to(&mut self, number: u64, ready: &mut Vec<T>) -> u64 {
        if number <= self.next {
            return 0;
        }
        let was_known = self.next > 0;
        let mut lost = number - self.next;
        while let Some(first) = self.held.first_entry()
            && *first.key() < number
        {
            let (item, bytes) = first.remove();
            self.held_bytes -= bytes;
            lost -= 1;
            ready.push(item);
        }
        self.next = number;
        self.head = self.head.max(number - 1);
        self.release(ready);
        if was_known { lost } else { 0 }
    }

    /// What is missing first, if anything is.
    pub(crate) fn missing(&self) -> Option<Missing> {
        if self.next == 0 {
            return Some(Missing::Beginning);
        }
        let until = match self.held.first_key_value() {
            Some((first, _)) => first - 1,
            None => self.head,
        };
        (until >= self.next).then_some(Missing::Range { from: self.next, until })
    }

    /// Gives up what is missing first. Returns how many are lost.
    pub(crate) fn give_up(&mut self, ready: &mut Vec<T>) -> u64 {
        match self.missing() {
            Some(Missing::Range { until, .. }) => self.skip_to(until + 1, ready),
            Some(Missing::Beginning) => {
                let first = self.held.first_key_value().map_or(self.head + 1, |(first, _)| *first);
                self.skip_to(first, ready)
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Receiver {
        sequence: Sequence<u64>,
        ready: Vec<u64>,
    }

    impl Receiver {
        fn new() -> Self {
            Self { sequence: Sequence::new(), ready: Vec::new() }
        }

        fn from_the_first() -> Self {
            let mut receiver = Self::new();
            receiver.sequence.heard_head(0);
            receiver
        }

        fn take(&mut self, number: u64) -> Taken {
            let room = 1_000 - self.sequence.held_bytes();
            self.sequence.take(number, number, 10, room, &mut self.ready)
        }

        fn missing(&self) -> Option<(u64, u64)> {
            match self.sequence.missing() {
                Some(Missing::Range { from, until }) => Some((from, until)),
                Some(Missing::Beginning) => Some((0, 0)),
                None => None,
            }
        }
    }

    #[test]
    fn in_order_each_once() {
        let mut receiver = Receiver::from_the_first();
        assert_eq!(receiver.take(1), Taken::Ready);
        assert_eq!(receiver.take(1), Taken::Duplicate);
        assert_eq!(receiver.take(3), Taken::Held);
        assert_eq!(receiver.take(3), Taken::Duplicate);
        assert_eq!(receiver.missing(), Some((2, 2)));
        assert_eq!(receiver.take(2), Taken::Ready);
        assert_eq!(receiver.missing(), None);
        assert_eq!(receiver.ready, [1, 2, 3]);
    }

    #[test]
    fn any_order_and_any_repetition_come_out_in_order() {
        for seed in 0..200_u64 {
            let mut receiver = Receiver::from_the_first();
            let mut state = seed;
            let mut numbers: Vec<u64> = (1..=40).chain(1..=40).collect();
            for index in (1..numbers.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                numbers.swap(index, (state >> 33) as usize % (index + 1));
            }
            for number in numbers {
                receiver.take(number);
            }
            assert_eq!(receiver.ready, (1..=40).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(receiver.missing(), None);
            assert_eq!(receiver.sequence.held_bytes, 0);
        }
    }

    #[test]
    fn a_lost_tail_is_missed_when_the_origin_says_how_far_it_is() {
        let mut receiver = Receiver::from_the_first();
        receiver.take(1);
        receiver.sequence.heard_head(4);
        assert_eq!(receiver.missing(), Some((2, 4)));
        for number in 2..=4 {
            receiver.take(number);
        }
        assert_eq!(receiver.missing(), None);
    }

    #[test]
    fn the_beginning_is_asked_for_and_nothing_before_it_counts_as_lost() {
        let mut receiver = Receiver::new();
        assert_eq!(receiver.take(57), Taken::Held);
        assert_eq!(receiver.missing(), Some((0, 0)));
        assert_eq!(receiver.sequence.skip_to(56, &mut receiver.ready), 0);
        assert_eq!(receiver.missing(), Some((56, 56)));
        receiver.take(56);
        assert_eq!(receiver.ready, [56, 57]);
        let mut alone = Receiver::new();
        alone.take(9);
        assert_eq!(alone.sequence.give_up(&mut alone.ready), 0);
        assert_eq!(alone.ready, [9]);
    }

    #[test]
    fn what_is_given_up_is_counted_and_the_rest_goes_on() {
        let mut receiver = Receiver::from_the_first();
        for number in [1, 4, 5, 9] {
            receiver.take(number);
        }
        assert_eq!(receiver.sequence.give_up(&mut receiver.ready), 2);
        assert_eq!(receiver.ready, [1, 4, 5]);
        assert_eq!(receiver.missing(), Some((6, 8)));
        assert_eq!(receiver.sequence.skip_to(12, &mut receiver.ready), 5, "6, 7, 8, 10 and 11");
        assert_eq!(receiver.ready, [1, 4, 5, 9]);
        assert_eq!(receiver.take(12), Taken::Ready);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut receiver = Receiver::from_the_first();
        for number in 2..=101 {
            assert_eq!(receiver.take(number), Taken::Held);
        }
        assert_eq!(receiver.take(102), Taken::NoRoom);
        receiver.take(1);
        assert_eq!(receiver.ready.len(), 101);
        assert_eq!(receiver.missing(), Some((102, 102)), "it is asked for like any other");
    }

    #[test]
    fn a_number_far_ahead_is_let_go_when_the_origin_has_not_come_so_far() {
        let mut receiver = Receiver::from_the_first();
        receiver.take(1);
        receiver.take(u64::MAX);
        receiver.take(3);
        assert_eq!(receiver.missing(), Some((2, 2)));
        assert_eq!(receiver.sequence.trim(3), 1);
        receiver.take(2);
        assert_eq!(receiver.missing(), None);
        assert_eq!(receiver.ready, [1, 2, 3]);
    }
}
