//! The lease of a shard: the right to touch what the shard owns. Its thread has it while it is awake;
//! while it sleeps, another thread may carry out a batch of commands in its place, which spares both
//! a wake.
//!
//! The only file of the engine with `unsafe`: a shard's state is not `Send`, and goes from one thread
//! to another under this lock.

use std::sync::Arc;

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use crate::command::CommandBatch;

/// What a sleeping shard does on another thread: nothing that needs its runtime.
pub(crate) trait Sleeper {
    /// Carries out a batch of [light](crate::command::Command::is_light) commands and writes.
    ///
    /// # Errors
    /// The batch, if it is no time for that.
    fn carry_out(&self, batch: CommandBatch) -> Result<(), CommandBatch>;
}

/// A shard from when it begins until it ends.
struct Leased(Option<Box<dyn Sleeper>>);

// SAFETY: whoever has the lock is alone with the shard and all that it reaches, for the shard's thread
// has it whenever it runs anything but the inside of its runtime: it lets go of it last thing before it
// parks and takes it first thing after, and ends it before anything is dropped, should the runtime
// panic in between (all in `shard::thread`). While it is parked the runtime polls sockets and timers and
// wakes tasks, whose headers are atomic; it neither polls nor drops a future.
// The lock orders what one thread did before what the next one sees.
#[expect(unsafe_code, reason = "see above")]
unsafe impl Send for Leased {}

/// Clones are the same lease.
#[derive(Clone)]
pub(crate) struct Lease(Arc<Mutex<Leased>>);

/// The lease in the hands of the shard's own thread.
#[must_use = "dropped, it lets other threads at the shard"]
pub(crate) struct Awake(ArcMutexGuard<RawMutex, Leased>);

impl Default for Lease {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Leased(None))))
    }
}

impl Lease {
    /// The shard begins, on this thread.
    pub(crate) fn begin(&self, shard: Box<dyn Sleeper>) -> Awake {
        let mut leased = self.0.lock_arc();
        *leased = Leased(Some(shard));
        Awake(leased)
    }

    /// The shard's thread is awake again. Waits for another thread that is carrying out a batch, which
    /// `outgoing` keeps small.
    pub(crate) fn wake(&self) -> Awake {
        Awake(self.0.lock_arc())
    }

    /// Carries out a batch of light commands in the place of a shard that sleeps. Never waits.
    ///
    /// # Errors
    /// The batch, if the shard is awake, not begun or ended, or if it is no time for that.
    pub(crate) fn carry_out(&self, batch: CommandBatch) -> Result<(), CommandBatch> {
        match self.0.try_lock().as_deref() {
            Some(Leased(Some(shard))) => shard.carry_out(batch),
            _ => Err(batch),
        }
    }
}

impl Awake {
    /// The shard ends: no other thread gets at it any more.
    pub(crate) fn end(mut self) {
        *self.0 = Leased(None);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Counts(Rc<Cell<usize>>);

    impl Sleeper for Counts {
        fn carry_out(&self, _: CommandBatch) -> Result<(), CommandBatch> {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }

    #[test]
    fn another_thread_carries_out_only_while_the_shard_sleeps() {
        let lease = Lease::default();
        let elsewhere = || {
            let lease = lease.clone();
            let done = move || lease.carry_out(CommandBatch::default()).is_ok();
            std::thread::spawn(done).join().expect("no panic")
        };
        assert!(!elsewhere(), "not begun");
        let carried = Rc::new(Cell::new(0));
        let awake = lease.begin(Box::new(Counts(Rc::clone(&carried))));
        assert!(!elsewhere(), "awake");
        drop(awake);
        assert!(elsewhere(), "asleep");
        let awake = lease.wake();
        assert!(!elsewhere(), "awake again");
        awake.end();
        assert!(!elsewhere(), "ended");
        assert_eq!(carried.get(), 1);
    }
}
