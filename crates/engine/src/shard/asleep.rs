//! What another thread does for a shard whose own sleeps: a batch of commands, or all of it.

use std::rc;
use std::sync;
use std::task::Poll;

use tokio::runtime::Runtime;
use tokio::task::coop::unconstrained;

use super::Shard;
use crate::command::CommandBatch;
use crate::lease::Sleeper;

/// A turn goes on as long as there is something to do, at most this often.
const ROUNDS_A_TURN: u32 = 8;

/// A shard whose thread sleeps.
pub(super) struct Asleep {
    pub(super) shard: rc::Weak<Shard>,
    pub(super) runtime: sync::Weak<Runtime>,
}

impl Asleep {
    /// What the shard's thread would do now, on this one; `look` at its sockets first.
    fn turn(&self, mut look: bool) {
        let (Some(shard), Some(runtime)) = (self.shard.upgrade(), self.runtime.upgrade()) else {
            return;
        };
        for _ in 0..ROUNDS_A_TURN {
            runtime.block_on(unconstrained(std::future::poll_fn(|task| {
                if std::mem::take(&mut look) {
                    // The runtime looks before it comes back here.
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                shard.work();
                shard.context.run_tasks();
                shard.park();
                Poll::Ready(())
            })));
            // Who wakes this runtime has to see that nobody is in it, or nobody will hear of it.
            runtime.block_on(std::future::ready(()));
            if !shard.has_more() {
                return;
            }
            shard.commands().unpark();
        }
        // The descriptor becomes readable, and there will be another turn.
        drop(runtime.spawn(std::future::ready(())));
    }
}

impl Sleeper for Asleep {
    fn turn(&self) {
        if let Some(shard) = self.shard.upgrade() {
            shard.context.clock.read();
            shard.commands().unpark();
        }
        self.turn(true);
    }

    fn carry_out_any(&self, batch: CommandBatch) {
        if let Some(shard) = self.shard.upgrade() {
            shard.commands().unpark();
            shard.commands().push(batch);
        }
        self.turn(false);
    }

    fn carry_out(&self, batch: CommandBatch) -> Result<(), CommandBatch> {
        match self.shard.upgrade() {
            Some(shard) if shard.needs_no_more_than_a_batch() => {
                // A panic must not reach whoever commits, and the rest of its commit.
                let done = shard.context.contain(None, || {
                    shard.carry_out(batch);
                    shard.flush_slice();
                    shard.context.publish();
                    shard.context.say_meter();
                });
                if done.is_none() || shard.context.shared.is_over() {
                    // It closes slow consumers, and whatever is left.
                    shard.wake();
                }
                Ok(())
            }
            _ => Err(batch),
        }
    }
}
