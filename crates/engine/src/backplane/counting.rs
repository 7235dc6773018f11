//! Counts over all nodes that are under way: who has still to answer, and until when.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Counts that may be under way; of any more only this process answers.
const MAX_COUNTS: usize = 1_024;
/// How long the others have to say their counts.
const TIMEOUT: Duration = Duration::from_secs(1);

struct Counting {
    sum: u64,
    waiting: HashSet<String>,
    deadline: Instant,
}

#[derive(Default)]
pub(super) struct Counts(HashMap<u64, Counting>);

impl Counts {
    /// Whether one more may begin.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < MAX_COUNTS
    }

    /// Begins with this process's count; `waiting` are those that are to answer.
    pub(super) fn begin(&mut self, now: Instant, id: u64, sum: u64, waiting: HashSet<String>) {
        self.0.insert(id, Counting { sum, waiting, deadline: now + TIMEOUT });
    }

    /// A node has answered.
    pub(super) fn add(&mut self, id: u64, source: &str, count: u64) {
        if let Some(counting) = self.0.get_mut(&id)
            && counting.waiting.remove(source)
        {
            counting.sum = counting.sum.saturating_add(count);
        }
    }

    /// A node has left: it is not waited for.
    pub(super) fn leave(&mut self, source: &str) {
        for counting in self.0.values_mut() {
            counting.waiting.remove(source);
        }
    }

    /// Ends those that everyone has answered or that took too long.
    pub(super) fn end(&mut self, now: Instant, mut counted: impl FnMut(u64, u64)) {
        self.0.retain(|id, counting| {
            let goes_on = !counting.waiting.is_empty() && now < counting.deadline;
            if !goes_on {
                counted(*id, counting.sum);
            }
            goes_on
        });
    }

    /// When the next one has taken too long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|counting| counting.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_under_way() {
        let now = Instant::now();
        let mut counts = Counts::default();
        for id in 0..MAX_COUNTS as u64 {
            assert!(counts.has_room());
            counts.begin(now, id, 1, HashSet::from(["a".to_owned()]));
        }
        assert!(!counts.has_room());
        let mut ended = 0;
        counts.end(now + TIMEOUT, |_, sum| ended += sum);
        assert_eq!(ended, MAX_COUNTS as u64);
        assert!(counts.has_room());
    }

    #[test]
    fn an_answer_counts_once_and_only_if_it_was_waited_for() {
        let now = Instant::now();
        let mut counts = Counts::default();
        counts.begin(now, 1, 1, HashSet::from(["a".to_owned(), "b".to_owned()]));
        for source in ["a", "a", "c"] {
            counts.add(1, source, 10);
        }
        counts.end(now, |_, _| panic!("b has not answered"));
        counts.leave("b");
        let mut sums = Vec::new();
        counts.end(now, |id, sum| sums.push((id, sum)));
        assert_eq!(sums, [(1, 11)]);
    }
}
