//! A shard while it sleeps.

use std::task::Wake;

use super::asleep::Asleep;
use super::*;
use crate::config::Config;
use crate::lease::Sleeper;
use crate::server::{App, Engine, Host};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An engine of one shard that holds at most 10,000 bytes.
fn engine() -> Engine {
    let config = Config {
        host: "127.0.0.1".into(),
        port: 0,
        max_buffered: 10_000,
        io_threads: 1,
        ..Config::default()
    };
    let app = App {
        directory: "/nonexistent".into(),
        package_directory: "/nonexistent".into(),
        templates: None,
        public: None,
        development: false,
        version: String::new(),
        relay: None,
    };
    Engine::new(config, app, Host::new(|| {}))
}

/// Its shard, without a thread.
struct Sleeping {
    shard: Rc<Shard>,
    wakes: Arc<Wakes>,
}

impl Sleeping {
    fn new() -> Self {
        let engine = engine();
        let shard = Shard::new(0, Arc::clone(engine.common()));
        let wakes = Arc::new(Wakes::default());
        let _ = shard.waker.set(Waker::from(Arc::clone(&wakes)));
        Self { shard, wakes }
    }

    fn carries_out(&self) -> bool {
        let (shard, runtime) = (Rc::downgrade(&self.shard), std::sync::Weak::new());
        Asleep { shard, runtime }.carry_out(CommandBatch::default()).is_ok()
    }

    fn wakes(&self) -> usize {
        self.wakes.0.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn a_sleeping_shard_with_more_to_do_than_a_batch_is_left_alone() {
    let sleeping = Sleeping::new();
    let Sleeping { shard, .. } = &sleeping;
    assert!(sleeping.carries_out());
    shard.context.starved.set(true);
    assert!(!sleeping.carries_out(), "readers wait");
    shard.context.starved.set(false);
    shard.context.shared.buffered.add(10_001);
    assert!(!sleeping.carries_out(), "too much is held");
    shard.context.shared.buffered.add(-10_001);
    shard.deadline.set(Some(Instant::now()));
    assert!(!sleeping.carries_out(), "shutting down");
    shard.deadline.set(None);
    assert!(sleeping.carries_out());
    assert_eq!(sleeping.wakes(), 0);
}

#[test]
fn a_sleeping_shard_is_woken_when_a_batch_leaves_too_much() {
    let sleeping = Sleeping::new();
    sleeping.shard.context.meter(10_001);
    assert!(sleeping.carries_out());
    assert_eq!(sleeping.wakes(), 1);
}

#[test]
fn a_batch_is_carried_out_for_a_shard_that_runs_and_sleeps() {
    let mut engine = engine();
    let way = Arc::clone(&engine.common().ways[0]);
    let leased = || way.lease().carry_out(CommandBatch::default()).is_ok();
    assert!(!leased(), "not begun");
    engine.listen(None).expect("a free port");
    let patience = Instant::now() + Duration::from_secs(20);
    while !leased() {
        assert!(Instant::now() < patience, "it never lets go of its lease");
        std::thread::sleep(Duration::from_millis(1));
    }
    engine.terminate();
    assert!(!leased(), "ended");
}
