//! An alarm that a thread sleeps by and others put off: a timer of the kernel, so that to put it off wakes
//! nobody. On Linux; elsewhere there is none.

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// Zero would switch it off (timerfd_settime(2)).
    const AT_ONCE: Duration = Duration::from_nanos(1);

    /// One alarm, for one thread to sleep by.
    #[derive(Debug)]
    pub(crate) struct Alarm(OwnedFd);

    impl Alarm {
        /// One that does not ring until it is set.
        ///
        /// # Errors
        /// What the system says, which may be out of descriptors.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
        }

        /// Has it ring once, `after` that long; not when it was to before.
        pub(crate) fn set(&self, after: Duration) {
            let (tv_sec, tv_nsec) = (after.as_secs() as i64, i64::from(after.subsec_nanos()));
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let time = Itimerspec { it_interval, it_value: Timespec { tv_sec, tv_nsec } };
            // It fails for what is no timer or no time only.
            let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &time);
        }

        /// Has it ring now.
        pub(crate) fn ring(&self) {
            self.set(AT_ONCE);
        }

        /// Waits until it has rung since it was set.
        pub(crate) fn sleep(&self) {
            let mut rings = [0; size_of::<u64>()];
            while rustix::io::read(&self.0, &mut rings) == Err(rustix::io::Errno::INTR) {}
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum Alarm {}

    impl Alarm {
        pub(crate) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn set(&self, _: Duration) {
            match *self {}
        }

        pub(crate) fn ring(&self) {
            match *self {}
        }

        pub(crate) fn sleep(&self) {
            match *self {}
        }
    }
}

pub(crate) use timer::Alarm;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_rings_when_it_is_set_to() {
        let alarm = Alarm::new().expect("a timer");
        let began = Instant::now();
        alarm.set(SHORT);
        alarm.sleep();
        assert!((SHORT..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[test]
    fn one_that_is_put_off_does_not_ring_before() {
        let alarm = Alarm::new().expect("a timer");
        // Before it has rung, and after.
        for later in [Duration::ZERO, 2 * SHORT] {
            alarm.set(SHORT);
            std::thread::sleep(later);
            let began = Instant::now();
            alarm.set(2 * SHORT);
            alarm.sleep();
            assert!(began.elapsed() >= 2 * SHORT, "put off {later:?} later: {:?}", began.elapsed());
        }
    }

    #[test]
    fn another_thread_can_ring_it_while_one_sleeps() {
        let alarm = Alarm::new().expect("a timer");
        let began = Instant::now();
        alarm.set(LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| alarm.sleep());
            alarm.ring();
        });
        assert!(began.elapsed() < LONG / 2);
    }
}
