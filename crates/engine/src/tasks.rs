//! The tasks of a shard. Its runtime runs one future only, which gives these their turns: so any thread
//! that has the lease can run them, and knows when all that were woken have had their turn.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, Stream};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of one shard.
pub(crate) struct Tasks {
    begun: RefCell<FuturesUnordered<Task>>,
    /// Those that were added since the others had their turns.
    new: RefCell<Vec<Task>>,
    woken: Arc<Woken>,
    /// Of all of them: it sets `woken`.
    waker: Waker,
}

/// Whether a task was woken since they had their turns.
#[derive(Default)]
struct Woken {
    any: AtomicBool,
    /// Wakes whoever gives turns.
    runner: OnceLock<Waker>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.any.swap(true, Ordering::AcqRel)
            && let Some(runner) = self.runner.get()
        {
            runner.wake_by_ref();
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        Self { begun: RefCell::default(), new: RefCell::default(), woken, waker }
    }
}

impl Tasks {
    /// Says once who is woken when a task is.
    pub(crate) fn set_runner(&self, runner: Waker) {
        let _ = self.woken.runner.set(runner);
    }

    /// Adds a task; its first turn comes with the next ones.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.new.borrow_mut().push(Box::pin(task));
        self.wake();
    }

    /// Has those that are woken get their turn.
    pub(crate) fn wake(&self) {
        self.woken.wake_by_ref();
    }

    /// Whether some are to have a turn.
    pub(crate) fn are_woken(&self) -> bool {
        self.woken.any.load(Ordering::Acquire)
    }

    /// Gives those that are woken a turn, and those that they wake, up to about one for each task; if
    /// more are woken it says so by [`Self::are_woken`]. A panic of one ends that one; the others need
    /// to be [woken](Self::wake).
    pub(crate) fn run(&self) {
        if !self.woken.any.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut begun = self.begun.borrow_mut();
        let mut context = Context::from_waker(&self.waker);
        loop {
            begun.extend(self.new.borrow_mut().drain(..));
            let polled = Pin::new(&mut *begun).poll_next(&mut context);
            // `Ready` with something says that a task has ended.
            if !matches!(polled, Poll::Ready(Some(()))) && self.new.borrow().is_empty() {
                return;
            }
        }
    }

    /// Ends all of them.
    pub(crate) fn clear(&self) {
        loop {
            let begun = std::mem::take(&mut *self.begun.borrow_mut());
            let new = std::mem::take(&mut *self.new.borrow_mut());
            if begun.is_empty() && new.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Runner(AtomicUsize);

    impl Wake for Runner {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Tasks, and how often their runner was woken.
    fn tasks() -> (Rc<Tasks>, Arc<Runner>) {
        let (tasks, runner) = (Rc::new(Tasks::default()), Arc::<Runner>::default());
        tasks.set_runner(Waker::from(Arc::clone(&runner)));
        (tasks, runner)
    }

    #[test]
    fn all_that_are_woken_have_their_turn_and_nobody_else() {
        let (tasks, runner) = tasks();
        let (bell, turns) = (Arc::new(Notify::new()), Rc::new(Cell::new(0)));
        for _ in 0..100 {
            let (bell, turns) = (Arc::clone(&bell), Rc::clone(&turns));
            tasks.spawn(async move {
                turns.set(turns.get() + 1);
                bell.notified().await;
                turns.set(turns.get() + 1);
            });
        }
        assert_eq!(runner.0.load(Ordering::SeqCst), 1, "once for all of them");
        while tasks.are_woken() {
            tasks.run();
        }
        assert_eq!(turns.get(), 100);
        runner.0.store(1, Ordering::SeqCst);
        tasks.run();
        assert_eq!(turns.get(), 100, "nobody was woken");
        std::thread::spawn(move || bell.notify_one()).join().expect("no panic");
        assert!(tasks.are_woken());
        assert_eq!(runner.0.load(Ordering::SeqCst), 2);
        tasks.run();
        assert_eq!(turns.get(), 101);
    }

    #[test]
    fn a_task_that_is_added_by_another_has_its_turn_with_it() {
        let (tasks, _) = tasks();
        let done = Rc::new(Cell::new(false));
        let (adder, flag) = (Rc::clone(&tasks), Rc::clone(&done));
        tasks.spawn(async move { adder.spawn(async move { flag.set(true) }) });
        tasks.run();
        assert!(done.get());
    }

    #[test]
    fn a_task_that_always_wakes_itself_does_not_keep_the_runner() {
        let (tasks, _) = tasks();
        let turns = Rc::new(Cell::new(0));
        let counter = Rc::clone(&turns);
        tasks.spawn(std::future::poll_fn(move |task| {
            counter.set(counter.get() + 1);
            task.waker().wake_by_ref();
            Poll::Pending
        }));
        tasks.run();
        assert_eq!(turns.get(), 1);
        assert!(tasks.are_woken());
        tasks.run();
        assert_eq!(turns.get(), 2);
    }

    #[test]
    fn a_panic_ends_its_task_only() {
        let (tasks, _) = tasks();
        let turns = Rc::new(Cell::new(0));
        for index in 0..3 {
            let turns = Rc::clone(&turns);
            tasks.spawn(async move {
                assert!(index != 1, "as a task may");
                turns.set(turns.get() + 1);
            });
        }
        assert!(catch_unwind(AssertUnwindSafe(|| tasks.run())).is_err());
        tasks.wake();
        tasks.run();
        assert_eq!(turns.get(), 2);
    }

    #[test]
    fn what_tasks_hold_is_dropped_with_them() {
        let (tasks, _) = tasks();
        let held = Rc::new(());
        for _ in 0..2 {
            let held = Rc::clone(&held);
            tasks.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
            tasks.run();
        }
        let late = Rc::clone(&held);
        tasks.spawn(async move { drop(late) });
        tasks.clear();
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
