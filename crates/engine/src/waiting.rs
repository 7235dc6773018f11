//! The requests of a shard that wait for what their handlers answer.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::command::Answer;
use crate::shared::Shared;
use crate::slots::{Handle, Slots};

struct Request {
    since: Moment,
    answer: Answered,
}

enum Answered {
    /// Not yet; its task, once it has begun to wait.
    Not(Option<Waker>),
    So(Answer),
    /// Its time is over.
    Never,
}

/// The requests of one shard.
pub(crate) struct Waiting {
    clock: Arc<Clock>,
    shared: Arc<Shared>,
    requests: RefCell<Slots<Request>>,
}

/// A request on the list, taken off it when this is dropped: with its answer, or because its client
/// hung up.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    pub(crate) handle: Handle,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.requests.borrow_mut().remove(self.handle);
        self.waiting.shared.held.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place<'_> {
    /// The answer; `None` if it did not come in time.
    pub(crate) async fn answer(&self) -> Option<Answer> {
        std::future::poll_fn(|task| {
            let mut requests = self.waiting.requests.borrow_mut();
            let Some(request) = requests.get_mut(self.handle) else {
                return Poll::Ready(None);
            };
            match std::mem::replace(&mut request.answer, Answered::Never) {
                Answered::Not(waker) => {
                    let waker = waker.filter(|waker| waker.will_wake(task.waker()));
                    let waker = waker.unwrap_or_else(|| task.waker().clone());
                    request.answer = Answered::Not(Some(waker));
                    Poll::Pending
                }
                Answered::So(answer) => Poll::Ready(Some(answer)),
                Answered::Never => Poll::Ready(None),
            }
        })
        .await
    }
}

impl Request {
    fn decide(&mut self, answer: Answered) {
        if let Answered::Not(waker) = std::mem::replace(&mut self.answer, answer)
            && let Some(waker) = waker
        {
            waker.wake();
        }
    }
}

impl Waiting {
    pub(crate) fn new(shard: usize, shared: Arc<Shared>, clock: Arc<Clock>) -> Self {
        Self { clock, shared, requests: RefCell::new(Slots::new(shard)) }
    }

    /// `None` if there is no place left.
    pub(crate) fn add(&self) -> Option<Place<'_>> {
        let request = Request { since: self.clock.now(), answer: Answered::Not(None) };
        let handle = self.requests.borrow_mut().insert_with(|_| request)?;
        self.shared.held.requests.fetch_add(1, Ordering::Relaxed);
        Some(Place { waiting: self, handle })
    }

    /// Answers a request; does nothing if it is no longer waited for, or has its answer.
    pub(crate) fn respond(&self, handle: Handle, answer: Answer) {
        if let Some(request) = self.requests.borrow_mut().get_mut(handle)
            && matches!(request.answer, Answered::Not(_))
        {
            request.decide(Answered::So(answer));
        }
    }

    /// Gives up on handlers that have not answered for `timeout`; zero is no limit.
    pub(crate) fn sweep(&self, timeout: Duration) {
        if timeout.is_zero() {
            return;
        }
        let now = self.clock.now();
        for request in self.requests.borrow_mut().values_mut() {
            if matches!(request.answer, Answered::Not(_)) && now.since(request.since) >= timeout {
                request.decide(Answered::Never);
            }
        }
    }
}
