//! The thread of a shard: its runtime, and the lease, which it has whenever it is awake.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

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
pub(crate) fn runtime() -> std::io::Result<LocalRuntime> {
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
        .build_local(LocalOptions::default())
}

/// Runs shard `index` until it is told to terminate. `listener` makes it the acceptor.
pub(crate) fn run(
    runtime: LocalRuntime,
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
    let main = Rc::clone(&shard);
    // Not the runtime's, so that a panic in it drops nothing.
    let mut serving = pin!(async move {
        if let Some(listener) = listener {
            let placing = Rc::clone(&main);
            let context = Rc::clone(&main.context);
            tokio::task::spawn_local(async move {
                acceptor::accept(&context, listener, |stream, peer| place(&placing, stream, peer))
                    .await;
            });
        }
        tokio::task::spawn_local(sweep(Rc::clone(&main)));
        tokio::task::spawn_local(take_overdue(Rc::clone(&main)));
        let context = Rc::clone(&main.context);
        tokio::task::spawn_local(async move { context.publish_when_quiet().await });
        std::future::poll_fn(|task| {
            if main.waker.get().is_none() {
                let _ = main.waker.set(task.waker().clone());
                main.commands().set_waker(task.waker().clone());
            }
            main.work();
            if main.terminated.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    let lease = shard.way().lease();
    awake(lease, Box::new(Rc::downgrade(&shard)), || runtime.block_on(serving.as_mut()));
    CURRENT.set(None);
    // Tasks hold connections and the shard holds them too: dropping the runtime ends the tasks.
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
    use crate::command::CommandBatch;

    struct Willing;

    impl Sleeper for Willing {
        fn carry_out(&self, _: CommandBatch) -> Result<(), CommandBatch> {
            Ok(())
        }
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
