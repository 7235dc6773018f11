//! A complaint: the same trouble over and over is one log line now and then, with how often it was.

use std::time::{Duration, Instant};

/// Lines about the same trouble come no more often than this.
const INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct Complaint {
    what: &'static str,
    times: u64,
    reason: String,
    logged: Option<Instant>,
}

impl Complaint {
    /// `what` goes before the number of times.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, times: 0, reason: String::new(), logged: None }
    }

    pub(crate) fn add(&mut self, times: u64, reason: String) {
        self.times += times;
        self.reason = reason;
    }

    /// The line, if one is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<String> {
        let is_early = self.logged.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL);
        if self.times == 0 || is_early {
            return None;
        }
        self.logged = Some(now);
        let times = std::mem::take(&mut self.times);
        let because = if times == 1 { "because" } else { "the last one because" };
        Some(format!("{}: {times}, {because} {}", self.what, self.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_trouble_is_few_lines() {
        let mut complaint = Complaint::new("Envelopes ignored");
        let now = Instant::now();
        assert_eq!(complaint.due(now), None);
        complaint.add(1, "a".into());
        assert_eq!(complaint.due(now).as_deref(), Some("Envelopes ignored: 1, because a"));
        complaint.add(1, "b".into());
        complaint.add(2, "c".into());
        assert_eq!(complaint.due(now + INTERVAL / 2), None);
        let line = complaint.due(now + INTERVAL);
        assert_eq!(line.as_deref(), Some("Envelopes ignored: 3, the last one because c"));
    }
}
