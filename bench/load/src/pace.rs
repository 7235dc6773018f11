//! When each message of an open loop is due, whatever is still under way.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

use crate::latency::Latency;

pub(crate) const PACE: Token = Token(usize::MAX);

pub(crate) struct Pace {
    timer: OwnedFd,
    interval: Duration,
    /// When the message with the number `first` was due.
    start: Instant,
    first: u64,
    /// Those that are recorded.
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Pace {
    /// Begins now. What is due in the time of `settling` is not recorded.
    pub(crate) fn begin(
        poll: &Poll,
        rate: f64,
        first: u64,
        settling: Duration,
        measured: Duration,
    ) -> io::Result<Self> {
        let interval = Duration::from_secs_f64(1.0 / rate);
        let timer = periodic_timer(interval)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), PACE, Interest::READABLE)?;
        let start = Instant::now();
        let from = start + settling;
        Ok(Self { timer, interval, start, first, from, to: from + measured })
    }

    pub(crate) fn due(&self, number: u64) -> Instant {
        self.start + self.interval.mul_f64((number - self.first) as f64)
    }

    /// How many messages of the run are due by now.
    pub(crate) fn due_by(&self, now: Instant) -> u64 {
        let intervals = (now - self.start).as_secs_f64() / self.interval.as_secs_f64();
        self.first + intervals as u64 + 1
    }

    /// Takes the timer's expirations, so that the next one wakes again.
    pub(crate) fn rewind(&self) {
        let mut expirations = [0u8; 8];
        // SAFETY: the buffer has the eight bytes that timerfd_create(2) asks for. That nothing was
        // there to read is no error here.
        unsafe { libc::read(self.timer.as_raw_fd(), expirations.as_mut_ptr().cast(), 8) };
    }

    /// Records the messages of these numbers as here at `now`, if they were due while recording.
    pub(crate) fn record(
        &self,
        latency: &mut Latency,
        numbers: impl Iterator<Item = u64>,
        now: Instant,
    ) {
        for number in numbers.filter(|number| *number >= self.first) {
            let due = self.due(number);
            if due >= self.from && due < self.to {
                latency.record(now.saturating_duration_since(due));
            }
        }
    }
}

/// Finer than the milliseconds of epoll.
fn periodic_timer(interval: Duration) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no memory, and what it returns belongs to nobody else.
    let timer = unsafe {
        match libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) {
            -1 => return Err(io::Error::last_os_error()),
            timer => OwnedFd::from_raw_fd(timer),
        }
    };
    let every = libc::timespec {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(interval.subsec_nanos() as i32),
    };
    let setting = libc::itimerspec { it_interval: every, it_value: every };
    // SAFETY: the setting is valid, and the one before is not asked for.
    let status =
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &setting, std::ptr::null_mut()) };
    if status == 0 { Ok(timer) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_before_or_after_the_window_is_not_recorded() {
        let poll = Poll::new().unwrap();
        let second = Duration::from_secs(1);
        let pace = Pace::begin(&poll, 10.0, 100, second, second).unwrap();
        assert_eq!(pace.due_by(pace.due(100)), 101);
        assert_eq!(pace.due_by(pace.due(117) + Duration::from_millis(1)), 118);
        let mut latency = Latency::default();
        let now = pace.due(140);
        pace.record(&mut latency, [90, 109, 120].into_iter(), now);
        assert_eq!(latency.percentiles([0.5]), None);
        pace.record(&mut latency, [110, 119].into_iter(), now);
        assert_eq!(latency.percentiles([0.0, 1.0]), Some([2_100_000.0, 3_000_000.0]));
    }
}
