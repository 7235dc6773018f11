//! The lease of a shard: the right to touch what the shard owns. Its thread has it while it is awake.
//! While it sleeps, another thread may carry out a batch of commands in its place, which spares both
//! a wake; and the thread that runs the handlers may want to have the shard *lent*, and drive it.
//!
//! The only file of the engine with `unsafe`: a shard's state is not `Send`, and goes from one thread
//! to another under this lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use crate::alarm::Alarm;
use crate::clock::Moment;
use crate::command::CommandBatch;

/// How long a shard that is lent may have no turn before its thread takes it back, or [`PUT_OFF_APART`]
/// less: a handler that blocks must hold up nothing but handlers.
const LENT_PATIENCE: Duration = Duration::from_millis(4);
/// Turns put that off at most this often: it is a call of the system.
const PUT_OFF_APART: Duration = Duration::from_millis(1);

/// What a sleeping shard does on another thread.
pub(crate) trait Sleeper {
    /// Carries out a batch of [light](crate::command::Command::is_light) commands and writes: nothing
    /// that needs its runtime.
    ///
    /// # Errors
    /// The batch, if it is no time for that.
    fn carry_out(&self, batch: CommandBatch) -> Result<(), CommandBatch>;

    /// Of a shard that is lent: looks at its sockets, does all that there is to do and publishes. Says
    /// when it began, by the shard's clock.
    fn turn(&self) -> Moment;

    /// Of a shard that is lent: the same without a look, after a batch of any commands.
    fn carry_out_any(&self, batch: CommandBatch);
}

/// A shard from when it begins until it ends.
#[derive(Default)]
struct Leased {
    shard: Option<Box<dyn Sleeper>>,
    /// Its thread is not in its runtime, so that another may be.
    lent: bool,
    /// The turn that has put the alarm off, of those since it was lent.
    put_off: Option<Moment>,
}

// SAFETY: whoever has the lock is alone with the shard and all that it reaches, for the shard's thread
// has it whenever it runs anything but the inside of its runtime: it lets go of it last thing before it
// parks and takes it first thing after, and ends it before anything is dropped, should the runtime
// panic in between (all in `shard::thread`). While it is parked the runtime polls sockets and timers and
// wakes tasks, whose flags are atomic; it neither polls nor drops a future. Where the shard is lent its
// thread has left the runtime, which any thread may enter.
// The lock orders what one thread did before what the next one sees.
#[expect(unsafe_code, reason = "see above")]
unsafe impl Send for Leased {}

/// Clones are the same lease.
#[derive(Clone)]
pub(crate) struct Lease {
    leased: Arc<Mutex<Leased>>,
    wish: Arc<Wish>,
}

/// What the thread that runs the handlers wants of the shard.
struct Wish {
    /// To have it lent. Ends when it is given or taken back.
    wanted: AtomicBool,
    /// Rings when the shard is to be driven by its own thread again. Each turn puts it off, and nothing
    /// else does: a handler that never waits for the loop may commit without end. None where the system
    /// has none.
    alarm: Option<Alarm>,
    patience: Duration,
}

impl Wish {
    fn put_off(&self) {
        let Some(alarm) = &self.alarm else { return };
        alarm.set(self.patience);
        // Another thread may have given it back in between.
        if !self.wanted.load(Ordering::SeqCst) {
            alarm.ring();
        }
    }
}

/// Who drives a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Its own thread, again or still.
    Itself,
    /// Its own thread, which has not heard yet that it is to be lent.
    ItselfYet,
    /// Whoever asked, and it has had a turn.
    Asker,
}

/// The lease in the hands of the shard's own thread.
#[must_use = "dropped, it lets other threads at the shard"]
pub(crate) struct Awake(ArcMutexGuard<RawMutex, Leased>);

impl Default for Lease {
    fn default() -> Self {
        Self::with_patience(LENT_PATIENCE)
    }
}

impl Lease {
    fn with_patience(patience: Duration) -> Self {
        let (wanted, alarm) = (AtomicBool::default(), Alarm::new().ok());
        Self { leased: Arc::default(), wish: Arc::new(Wish { wanted, alarm, patience }) }
    }

    /// The shard begins, on this thread.
    pub(crate) fn begin(&self, shard: Box<dyn Sleeper>) -> Awake {
        let mut leased = self.leased.lock_arc();
        leased.shard = Some(shard);
        Awake(leased)
    }

    /// The shard's thread is awake again. Waits for another thread that is carrying out a batch, which
    /// `outgoing` keeps small.
    pub(crate) fn wake(&self) -> Awake {
        Awake(self.leased.lock_arc())
    }

    /// Carries out a batch of light commands in the place of a shard that sleeps. Never waits.
    ///
    /// # Errors
    /// The batch, if the shard is awake, not begun or ended, or if it is no time for that.
    pub(crate) fn carry_out(&self, batch: CommandBatch) -> Result<(), CommandBatch> {
        match self.leased.try_lock().as_deref() {
            Some(Leased { shard: Some(shard), .. }) => shard.carry_out(batch),
            _ => Err(batch),
        }
    }

    /// Carries out a batch of any commands in the place of a shard that is lent. Never waits.
    ///
    /// # Errors
    /// The batch, if the shard is not lent.
    pub(crate) fn carry_out_any(&self, batch: CommandBatch) -> Result<(), CommandBatch> {
        match self.leased.try_lock().as_deref() {
            Some(Leased { shard: Some(shard), lent: true, .. }) => {
                shard.carry_out_any(batch);
                Ok(())
            }
            _ => Err(batch),
        }
    }

    /// Whether the shard can be lent.
    pub(crate) fn can_be_lent(&self) -> bool {
        self.wish.alarm.is_some()
    }

    /// Wants the shard lent, which must be possible; true if that is new, and its thread must be woken to
    /// hear of it.
    pub(crate) fn want(&self) -> bool {
        !self.wish.wanted.swap(true, Ordering::AcqRel)
    }

    /// Whether the shard is lent, or about to be.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wish.wanted.load(Ordering::Acquire)
    }

    /// Gives the shard back, and wakes its thread.
    pub(crate) fn give_back(&self) {
        if self.wish.wanted.swap(false, Ordering::SeqCst)
            && let Some(alarm) = &self.wish.alarm
        {
            alarm.ring();
        }
    }

    /// Gives a shard that is lent a turn on this thread. Never waits for its own.
    pub(crate) fn drive(&self) -> Driver {
        if !self.is_wanted() {
            // Given back, though its thread may not have noticed yet.
            return Driver::Itself;
        }
        if let Some(Leased { shard: Some(shard), lent: true, put_off }) =
            self.leased.try_lock().as_deref_mut()
        {
            let turn = shard.turn();
            if put_off.is_none_or(|last| turn.since(last) >= PUT_OFF_APART) {
                *put_off = Some(turn);
                self.wish.put_off();
            }
            return Driver::Asker;
        }
        if self.is_wanted() { Driver::ItselfYet } else { Driver::Itself }
    }
}

impl Awake {
    /// Lends the shard until it is given back, or has had no turn for as long as the lease's patience. Its
    /// thread must not be in its runtime.
    pub(crate) fn lend(mut self, lease: &Lease) -> Self {
        if let Some(alarm) = &lease.wish.alarm {
            self.0.lent = true;
            self.0.put_off = None;
            lease.wish.put_off();
            ArcMutexGuard::unlocked(&mut self.0, || alarm.sleep());
            self.0.lent = false;
        }
        lease.wish.wanted.store(false, Ordering::Release);
        self
    }

    /// Lends the shard while `job` runs on this thread.
    #[cfg(test)]
    pub(crate) fn lend_while(mut self, job: impl FnOnce()) -> Self {
        self.0.lent = true;
        ArcMutexGuard::unlocked(&mut self.0, job);
        self.0.lent = false;
        self
    }

    /// The shard ends: no other thread gets at it any more.
    pub(crate) fn end(mut self) {
        *self.0 = Leased::default();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    #[cfg(target_os = "linux")]
    use std::time::Instant;

    use super::*;
    use crate::clock::Clock;

    #[derive(Clone)]
    struct Counts {
        carried: Rc<Cell<usize>>,
        turns: Rc<Cell<usize>>,
        clock: Rc<Clock>,
    }

    impl Default for Counts {
        fn default() -> Self {
            let (carried, turns, clock) = (Rc::default(), Rc::default(), Rc::new(Clock::new()));
            Self { carried, turns, clock }
        }
    }

    impl Sleeper for Counts {
        fn carry_out(&self, _: CommandBatch) -> Result<(), CommandBatch> {
            self.carried.set(self.carried.get() + 1);
            Ok(())
        }

        fn turn(&self) -> Moment {
            self.turns.set(self.turns.get() + 1);
            self.clock.read();
            self.clock.now()
        }

        fn carry_out_any(&self, _: CommandBatch) {
            self.carried.set(self.carried.get() + 10);
        }
    }

    /// What `job` says on another thread.
    fn elsewhere<T: Send>(lease: &Lease, job: impl FnOnce(&Lease) -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(|| job(lease)).join().expect("no panic"))
    }

    /// Gives the shard its first turn, once it is lent.
    #[cfg(target_os = "linux")]
    fn drive_first(lease: &Lease) {
        let patience = Instant::now() + Duration::from_secs(20);
        while lease.drive() != Driver::Asker {
            assert!(Instant::now() < patience, "never lent");
            std::thread::yield_now();
        }
    }

    #[test]
    fn another_thread_carries_out_only_while_the_shard_sleeps() {
        let lease = Lease::default();
        let carries = |lease: &Lease| {
            elsewhere(lease, |lease| lease.carry_out(CommandBatch::default()).is_ok())
        };
        assert!(!carries(&lease), "not begun");
        let counts = Counts::default();
        let awake = lease.begin(Box::new(counts.clone()));
        assert!(!carries(&lease), "awake");
        drop(awake);
        assert!(carries(&lease), "asleep");
        let awake = lease.wake();
        assert!(!carries(&lease), "awake again");
        awake.end();
        assert!(!carries(&lease), "ended");
        assert_eq!(counts.carried.get(), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_thread_drives_only_what_is_lent() {
        let lease = Lease::default();
        let counts = Counts::default();
        let drives = |lease: &Lease| elsewhere(lease, Lease::drive);
        let carries_any = |lease: &Lease| {
            elsewhere(lease, |lease| lease.carry_out_any(CommandBatch::default()).is_ok())
        };
        drop(lease.begin(Box::new(counts.clone())));
        assert_eq!(drives(&lease), Driver::Itself);
        assert!(!carries_any(&lease), "asleep in its runtime");
        assert!(lease.want(), "new");
        assert!(!lease.want(), "known");
        assert_eq!(drives(&lease), Driver::ItselfYet);
        let asker = std::thread::spawn({
            let lease = lease.clone();
            move || {
                drive_first(&lease);
                assert!(lease.carry_out_any(CommandBatch::default()).is_ok());
            }
        });
        // It may have no turn in time on a machine that is busy.
        while !asker.is_finished() {
            lease.want();
            drop(lease.wake().lend(&lease));
        }
        asker.join().expect("no panic");
        assert!(!lease.is_wanted(), "no turn, so it was taken back");
        assert_eq!(drives(&lease), Driver::Itself);
        assert!(counts.turns.get() >= 1);
        assert_eq!(counts.carried.get(), 10);
    }

    #[test]
    fn nobody_drives_what_is_given_back() {
        let lease = Lease::default();
        let counts = Counts::default();
        let awake = lease.begin(Box::new(counts.clone()));
        assert!(lease.want());
        let drives = || elsewhere(&lease, Lease::drive);
        let awake = awake.lend_while(|| {
            assert_eq!(drives(), Driver::Asker);
            lease.give_back();
            assert_eq!(drives(), Driver::Itself, "though it is lent until its thread wakes");
        });
        awake.end();
        assert_eq!(counts.turns.get(), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn batches_alone_do_not_keep_a_shard_lent() {
        let lease = Lease::default();
        drop(lease.begin(Box::new(Counts::default())));
        assert!(lease.want());
        let committer = std::thread::spawn({
            let lease = lease.clone();
            move || {
                let patience = Instant::now() + Duration::from_secs(20);
                while lease.is_wanted() && Instant::now() < patience {
                    let _ = lease.carry_out(CommandBatch::default());
                    let _ = lease.carry_out_any(CommandBatch::default());
                }
            }
        });
        let lent = Instant::now();
        lease.wake().lend(&lease).end();
        assert!(lent.elapsed() < Duration::from_secs(10));
        committer.join().expect("no panic");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_shard_is_lent_as_long_as_it_has_turns_and_its_patience_longer() {
        // Long enough for a machine that is busy.
        const PATIENCE: Duration = Duration::from_secs(1);
        let lease = Lease::with_patience(PATIENCE);
        drop(lease.begin(Box::new(Counts::default())));
        assert!(lease.want());
        let driver = std::thread::spawn({
            let lease = lease.clone();
            move || {
                drive_first(&lease);
                let began = Instant::now();
                let mut last = began;
                while began.elapsed() < PATIENCE * 3 / 2 {
                    std::thread::sleep(PATIENCE / 50);
                    last = Instant::now();
                    assert_eq!(lease.drive(), Driver::Asker, "{:?}", began.elapsed());
                }
                last
            }
        });
        lease.wake().lend(&lease).end();
        let ended = Instant::now();
        let last = driver.join().expect("no panic");
        assert!(ended.duration_since(last) >= PATIENCE - PUT_OFF_APART);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_given_back_is_taken_at_once() {
        const LONG: Duration = Duration::from_secs(60);
        let lease = Lease::with_patience(LONG);
        drop(lease.begin(Box::new(Counts::default())));
        assert!(lease.want());
        let giver = std::thread::spawn({
            let lease = lease.clone();
            move || {
                drive_first(&lease);
                lease.give_back();
                assert!(!lease.is_wanted());
            }
        });
        let lent = Instant::now();
        let awake = lease.wake().lend(&lease);
        assert!(lent.elapsed() < LONG / 2);
        assert!(!lease.is_wanted());
        awake.end();
        assert_eq!(lease.drive(), Driver::Itself);
        giver.join().expect("no panic");
    }
}
