//! What went wrong with envelopes: counted, and said in few lines.

use std::sync::Arc;
use std::time::Instant;

use super::complaint::Complaint;
use super::status::{Status, count};

/// One trouble of each kind; what was counted meanwhile is said together.
pub(super) struct Troubles {
    status: Arc<Status>,
    ignored: Complaint,
    dropped: Complaint,
    lost: Complaint,
    forgotten: Complaint,
}

impl Troubles {
    pub(super) fn new(status: Arc<Status>) -> Self {
        Self {
            status,
            ignored: Complaint::new("Envelopes of other nodes that were ignored"),
            dropped: Complaint::new("Envelopes that did not reach the other nodes"),
            lost: Complaint::new("Envelopes of other nodes that were lost"),
            forgotten: Complaint::new(
                "Envelopes that another node had missed and that cannot be sent again",
            ),
        }
    }

    /// Somebody sent what is no envelope for us.
    pub(super) fn ignore(&mut self, reason: String) {
        count(&self.status.counters.ignored, 1);
        self.ignored.add(1, reason);
    }

    /// There is no room to keep one more node in order.
    pub(super) fn crowd(&mut self, most: usize) {
        self.ignored.add(1, format!("there are more than {most} nodes, in no order now"));
    }

    /// So many own ones do not reach the bus.
    pub(super) fn drop(&mut self, dropped: u64, reason: String) {
        if dropped > 0 {
            count(&self.status.counters.dropped, dropped);
            self.dropped.add(dropped, reason);
        }
    }

    /// So many of another node are never delivered.
    pub(super) fn lose(&mut self, lost: u64, reason: String) {
        if lost > 0 {
            count(&self.status.counters.lost, lost);
            self.lost.add(lost, reason);
        }
    }

    /// So many own ones were asked for in vain.
    pub(super) fn forget(&mut self, forgotten: u64) {
        if forgotten > 0 {
            count(&self.status.counters.forgotten, forgotten);
            self.forgotten.add(forgotten, "they are no longer kept or too large".into());
        }
    }

    /// The lines that are due.
    pub(super) fn due(&mut self, now: Instant) -> impl Iterator<Item = String> {
        [&mut self.ignored, &mut self.dropped, &mut self.lost, &mut self.forgotten]
            .into_iter()
            .filter_map(move |complaint| complaint.due(now))
    }
}
