//! What another thread does for a shard whose own sleeps: a batch of commands, or all of it.

use std::rc;
use std::sync;
use std::task::Poll;

use tokio::runtime::Runtime;
use tokio::task::coop::unconstrained;

use super::Shard;
use crate::clock::Moment;
use crate::command::CommandBatch;
use crate::lease::Sleeper;

/// A turn goes on as long as there is something to do, at most this often.
const ROUNDS_A_TURN: u32 = 8;

/// A shard whose thread sleeps.
pub(super) struct Asleep {
    pub(super) shard: rc::Weak<Shard>,
    pub(super) runtime: sync::Weak<Runtime>,
}

/// Makes the descriptor of a runtime readable when something is woken from now on: a wake from inside,
/// which needs no telling, would hide those that follow from outside.
pub(super) fn leave(runtime: &Runtime) {
    runtime.block_on(std::future::ready(()));
}

/// Makes the descriptor readable, so that there will be a turn.
pub(super) fn ask_for_a_turn(runtime: &Runtime) {
    drop(runtime.spawn(std::future::ready(())));
}

impl Asleep {
    /// Does what the shard's thread would do now; `look` at its sockets first.
    fn go_on(&self, mut look: bool) {
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
            leave(&runtime);
            if !shard.has_more() {
                return;
            }
            shard.commands().unpark();
        }
        ask_for_a_turn(&runtime);
    }
}

impl Sleeper for Asleep {
    fn turn(&self) -> Moment {
        let began = self.shard.upgrade().map_or(Moment::default(), |shard| {
            shard.context.clock.read();
            shard.commands().unpark();
            shard.context.clock.now()
        });
        self.go_on(true);
        began
    }

    fn carry_out_any(&self, batch: CommandBatch) {
        if let Some(shard) = self.shard.upgrade() {
            shard.commands().unpark();
            shard.commands().push(batch);
        }
        self.go_on(false);
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
