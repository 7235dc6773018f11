//! A shard's clock: one reading of the system's serves all that happens until the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Read when the shard wakes and when it sweeps, so that it is late by one sweep at most. Atomic
/// because hyper wants a stream that can be sent; all of it stays on one thread.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    now: AtomicU64,
}

/// A moment of the clock; by default that at which it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Clock {
    pub(crate) fn new() -> Self {
        let clock = Self { began: Instant::now(), now: AtomicU64::new(0) };
        clock.read();
        clock
    }

    /// Reads the system's clock.
    pub(crate) fn read(&self) {
        // From 1 on: see `Since`.
        let micros = self.began.elapsed().as_micros() as u64 + 1;
        self.now.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::Relaxed))
    }
}

impl Moment {
    /// How long ago `earlier` was.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Since when something is under way, if it is.
#[derive(Debug, Default)]
pub(crate) struct Since(AtomicU64);

impl Since {
    pub(crate) fn set(&self, moment: Moment) {
        self.0.store(moment.0, Ordering::Relaxed);
    }

    /// Sets it unless it is under way already.
    pub(crate) fn begin(&self, moment: Moment) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.set(moment);
        }
    }

    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Moment> {
        Some(self.0.load(Ordering::Relaxed)).filter(|micros| *micros > 0).map(Moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_when_the_clock_is_read() {
        let clock = Clock::new();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), before);
        clock.read();
        assert!(clock.now().since(before) >= Duration::from_millis(2));
        assert_eq!(before.since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn what_is_under_way_keeps_its_beginning() {
        let since = Since::default();
        assert_eq!(since.get(), None);
        since.begin(Moment(7));
        since.begin(Moment(9));
        assert_eq!(since.get(), Some(Moment(7)));
        since.set(Moment(9));
        assert_eq!(since.get(), Some(Moment(9)));
        since.end();
        assert_eq!(since.get(), None);
    }
}
