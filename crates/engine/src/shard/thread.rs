//! The thread of a shard: its runtime, and the lease, which it has whenever it is awake.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::task::coop::unconstrained;

use super::asleep::{Asleep, ask_for_a_turn, leave};
use super::{Common, Shard, place, sweep, take_overdue};
use crate::acceptor;
use crate::lease::{Awake, Lease, Sleeper};

/// Threads that read files for a shard at a time; more requests for files wait for one. Without a bound
/// of ours peers could have 512 of them.
const FILE_THREADS: usize = 16;

thread_local! {
    /// The shard this thread runs, for the runtime's park hooks, which can capture nothing that
    /// stays on one thread. Set while the shard runs.
    static CURRENT: RefCell<Option<Rc<Shard>>> = const { RefCell::new(None) };
    /// Its lease, while the thread is awake.
    static AWAKE: RefCell<Option<Awake>> = const { RefCell::new(None) };
}

/// Makes the runtime of a shard; its thread then calls [`run`].
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(FILE_THREADS)
        .on_thread_park(|| {
            CURRENT.with_borrow(|shard| {
                if let Some(shard) = shard {
                    shard.park();
                    AWAKE.set(None);
                }
            });
        })
        // The runtime must not own the queue: the queue has a waker, which owns the runtime.
        .on_thread_unpark(|| {
            CURRENT.with_borrow(|shard| {
                if let Some(shard) = shard {
                    // To wait for what this thread has would be to wait for ever.
                    AWAKE.with_borrow_mut(|awake| {
                        awake.get_or_insert_with(|| shard.way().lease().wake());
                    });
                    shard.context.clock.read();
                    shard.commands().unpark();
                }
            });
        })
        .build()
}

/// Runs shard `index` until it is told to terminate. `listener` makes it the acceptor.
pub(crate) fn run(
    runtime: Runtime,
    index: usize,
    common: Arc<Common>,
    listener: Option<std::net::TcpListener>,
) {
    let shard = Shard::new(index, common);
    CURRENT.set(Some(Rc::clone(&shard)));
    let turning = Rc::downgrade(&shard);
    shard.context.set_turn(Box::new(move || {
        if let Some(shard) = turning.upgrade() {
            shard.turn();
        }
    }));
    let runtime = Arc::new(runtime);
    let asleep = Asleep { shard: Rc::downgrade(&shard), runtime: Arc::downgrade(&runtime) };
    // What is carried out before it lends the shard may need it.
    let entered = runtime.enter();
    let tasks = &shard.context.tasks;
    if let Some(listener) = listener {
        let placing = Rc::clone(&shard);
        let context = Rc::clone(&shard.context);
        tasks.spawn(async move {
            acceptor::accept(&context, listener, |stream, peer| place(&placing, stream, peer))
                .await;
        });
    }
    tasks.spawn(sweep(Rc::clone(&shard)));
    tasks.spawn(take_overdue(Rc::clone(&shard)));
    let lease = shard.way().lease();
    // As each connection has its own bounds, tokio need not make a task stop now and then.
    let serve = || {
        unconstrained(std::future::poll_fn(|task| {
            if shard.waker.get().is_none() {
                shard.context.tasks.set_runner(task.waker().clone());
                let _ = shard.waker.set(task.waker().clone());
                shard.commands().set_waker(task.waker().clone());
            }
            shard.work();
            shard.context.run_tasks();
            if shard.terminated.get() || lease.is_wanted() {
                return Poll::Ready(());
            }
            if shard.context.publish_when_quiet() {
                // The runtime looks at the sockets before it comes back here.
                task.waker().wake_by_ref();
            }
            Poll::Pending
        }))
    };
    awake(lease, Box::new(asleep), || {
        loop {
            runtime.block_on(serve());
            if shard.terminated.get() {
                break;
            }
            leave(&runtime);
            shard.park();
            if shard.has_more() {
                ask_for_a_turn(&runtime);
            }
            shard.context.is_lent.set(true);
            let awake = AWAKE.take().unwrap_or_else(|| lease.wake());
            AWAKE.set(Some(awake.lend(lease)));
            shard.context.is_lent.set(false);
            shard.commands().unpark();
            // Handlers may be running.
            shard.context.published.notify_one();
        }
    });
    CURRENT.set(None);
    // Tasks hold the shard, which holds them.
    shard.context.tasks.clear();
    drop(entered);
    drop(runtime);
}

/// Runs `job` with the lease of the shard, which is let go of and taken again as the thread parks. The
/// lease has ended when this returns, or panics as `job` did: nobody else gets at what is dropped then.
fn awake(lease: &Lease, shard: Box<dyn Sleeper>, job: impl FnOnce()) {
    AWAKE.set(Some(lease.begin(shard)));
    let done = catch_unwind(AssertUnwindSafe(job));
    AWAKE.take().unwrap_or_else(|| lease.wake()).end();
    if let Err(panic) = done {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Moment};
    use crate::command::CommandBatch;

    struct Willing;

    impl Sleeper for Willing {
        fn carry_out(&self, _: CommandBatch) -> Result<(), CommandBatch> {
            Ok(())
        }

        fn turn(&self) -> Moment {
            Clock::new().now()
        }

        fn carry_out_any(&self, _: CommandBatch) {}
    }

    #[test]
    fn nobody_gets_at_a_shard_whose_thread_failed_while_it_was_parked() {
        let lease = Lease::default();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            awake(&lease, Box::new(Willing), || {
                assert!(lease.carry_out(CommandBatch::default()).is_err(), "awake");
                AWAKE.set(None);
                assert!(lease.carry_out(CommandBatch::default()).is_ok(), "parked");
                panic!("as the runtime's driver may");
            });
        }));
        assert!(failed.is_err(), "the panic goes on");
        assert!(lease.carry_out(CommandBatch::default()).is_err(), "ended");
    }
}
