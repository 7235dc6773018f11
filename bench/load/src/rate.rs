//! An open loop: messages or pings that are sent when they are due, whatever is under way, and how
//! long after that each was answered. A server that stops for two seconds shows it in all that was
//! due meanwhile, as its users would see it.
//!
//! Message `k` goes to connection `k mod N`. Answers of one connection come in the order in which
//! they were asked for, so nothing has to be kept for a message that is under way.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::block::{BLOCK, Block};
use crate::drive::{EVENTS, QUIET, READ_BUFFER, STALLED, TICK, about};
use crate::frame::{self, Expected, MARK};
use crate::latency::Latency;
use crate::pace::{PACE, Pace};
use crate::peer::{self, Opening, Peer};
use crate::plan::{Open, Plan, With};
use crate::usage::Usage;

/// Messages that may be under way before the server is given up.
const MAX_BEHIND: u64 = 1_000_000;

/// What came of an open loop.
pub(crate) struct Outcome {
    pub(crate) window: Duration,
    /// Sent, and answered, within the window.
    pub(crate) messages: u64,
    pub(crate) answers: u64,
    /// Of the whole run.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Pings that one pong to a later ping answered too, as RFC 6455 (5.5.3) allows; they count as
    /// answered, at that moment.
    pub(crate) merged: u64,
    pub(crate) lost: u64,
    pub(crate) extra: u64,
    pub(crate) usage: Usage,
    /// From when a message was due, of those that were due within the window.
    pub(crate) latency: Latency,
    /// How long the server took to answer `/block`.
    pub(crate) blocked: Option<Duration>,
}

/// # Errors
/// When a connection cannot be made or does not last, when a frame comes that was not sent, when
/// nothing comes for five seconds beside the block, and when the server is a million messages
/// behind.
pub(crate) fn run(plan: &Plan, open: &Open) -> io::Result<Outcome> {
    let mut load = Load::connect(plan, open)?;
    load.go_on_until(load.pace.from)?;
    let begin = load.mark()?;
    load.ask_for_block()?;
    load.go_on_until(load.pace.to)?;
    let end = load.mark()?;
    load.finish()?;
    let lost = load.sent.saturating_sub(load.answered);
    Ok(Outcome {
        window: end.at - begin.at,
        messages: end.sent - begin.sent,
        answers: end.answered - begin.answered,
        sent: load.sent,
        answered: load.answered,
        merged: load.merged,
        lost,
        extra: load.extra,
        usage: end.usage.since(&begin.usage),
        latency: load.latency,
        blocked: load.block.and_then(|block| block.took),
    })
}

/// Counters at a mark of time.
struct Mark {
    at: Instant,
    sent: u64,
    answered: u64,
    usage: Usage,
}

/// One connection, and how many of its messages were answered.
struct Asker {
    peer: Peer,
    answered: u64,
}

struct Load<'a> {
    plan: &'a Plan,
    with: With,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    expected: Expected,
    askers: Vec<Asker>,
    pace: Pace,
    block: Option<Block>,
    sent: u64,
    answered: u64,
    merged: u64,
    extra: u64,
    last_answer: Instant,
    latency: Latency,
}

impl<'a> Load<'a> {
    fn connect(plan: &'a Plan, open: &Open) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut askers = Vec::with_capacity(plan.connections);
        let opening = plan.opening(Opening::Silent);
        for index in 0..plan.connections {
            let socket = peer::connect(plan.address, index, &plan.path, opening)
                .map_err(|error| about(index, &error))?;
            let frame = plan.frame_of(index);
            let length = frame.len();
            let mut peer = Peer::new(socket, index, Rc::from(frame), length);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut peer.socket, Token(index), interest)?;
            askers.push(Asker { peer, answered: 0 });
        }
        let block = match open.block {
            Some(length) => Some(Block::connect(&poll, plan.address, length)?),
            None => None,
        };
        let measured = plan.measured.max(open.block.unwrap_or_default());
        Ok(Self {
            plan,
            with: open.with,
            pace: Pace::begin(&poll, open.rate, 0, plan.warm_up, measured)?,
            poll,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BUFFER],
            expected: match open.with {
                With::Messages => plan.expected(),
                With::Pings => Expected::pongs(plan.bytes),
            },
            askers,
            block,
            sent: 0,
            answered: 0,
            merged: 0,
            extra: 0,
            last_answer: Instant::now(),
            latency: Latency::default(),
        })
    }

    fn mark(&self) -> io::Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            sent: self.sent,
            answered: self.answered,
            usage: Usage::now(self.plan.servers.first().copied())?,
        })
    }

    fn ask_for_block(&mut self) -> io::Result<()> {
        self.block.as_mut().map_or(Ok(()), Block::ask)
    }

    /// How long nothing may come.
    fn patience(&self) -> Duration {
        STALLED + self.block.as_ref().map_or(Duration::ZERO, Block::length)
    }

    fn go_on_until(&mut self, end: Instant) -> io::Result<()> {
        loop {
            let now = Instant::now();
            self.send_what_is_due(now.min(end))?;
            if now >= end {
                return Ok(());
            }
            let under_way = self.sent - self.answered;
            if under_way == 0 {
                self.last_answer = now;
            }
            if now.saturating_duration_since(self.last_answer) > self.patience() {
                return Err(io::Error::other(format!(
                    "nothing came for {} s while {under_way} answers were due",
                    self.patience().as_secs(),
                )));
            }
            if under_way > MAX_BEHIND {
                return Err(io::Error::other(format!("the server is {under_way} messages behind")));
            }
            self.turn(end - now)?;
        }
    }

    fn send_what_is_due(&mut self, now: Instant) -> io::Result<()> {
        let due = self.pace.due_by(now);
        while self.sent < due {
            let number = self.sent;
            self.sent += 1;
            let index = (number % self.askers.len() as u64) as usize;
            let peer = &mut self.askers[index].peer;
            let sent = match self.with {
                With::Messages => peer.send(1),
                With::Pings => peer.ping(&frame::ping(number, self.plan.bytes)),
            };
            sent.map_err(|error| about(index, &error))?;
        }
        Ok(())
    }

    /// One wait, and what is ready after it.
    fn turn(&mut self, at_most: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(at_most.min(TICK))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            match event.token() {
                PACE => self.pace.rewind(),
                BLOCK => self.block.as_mut().map_or(Ok(()), Block::readable)?,
                Token(index) => {
                    if event.is_readable() {
                        self.readable(index)?;
                    }
                    if event.is_writable() {
                        let flushed = self.askers[index].peer.flush();
                        flushed.map_err(|error| about(index, &error))?;
                    }
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let count = self.askers.len() as u64;
        let Asker { peer, answered } = &mut self.askers[index];
        let seen =
            peer.receive(&mut self.buffer, &self.expected).map_err(|error| about(index, &error))?;
        if seen.messages == 0 {
            return Ok(());
        }
        let upto = match self.with {
            With::Messages => *answered + seen.messages,
            With::Pings => {
                1 + place(seen.last, index as u64, count, peer.sent)
                    .ok_or_else(|| about(index, &io::Error::other("a pong of a ping never sent")))?
            }
        };
        let upto = upto.min(peer.sent);
        let news = upto.saturating_sub(*answered);
        self.extra += seen.messages.saturating_sub(news);
        self.merged += news.saturating_sub(seen.messages);
        let now = Instant::now();
        let numbers = (*answered..upto).map(|place| place * count + index as u64);
        self.pace.record(&mut self.latency, numbers, now);
        *answered += news;
        self.answered += news;
        self.last_answer = now;
        Ok(())
    }

    /// Sends nothing more; waits for what is under way, and then for what would be too much.
    fn finish(&mut self) -> io::Result<()> {
        self.last_answer = Instant::now();
        let waiting = |load: &Self| {
            load.answered < load.sent
                || load.block.as_ref().is_some_and(|block| block.took.is_none())
        };
        while waiting(self) && self.last_answer.elapsed() < self.patience() {
            self.turn(TICK)?;
        }
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn(QUIET)?;
        }
        Ok(())
    }
}

/// Which of the connection's own messages the one with this mark is, if it was sent.
fn place(mark: [u8; MARK], index: u64, connections: u64, sent: u64) -> Option<u64> {
    let number = u64::from_be_bytes(mark);
    let place = number / connections;
    (number % connections == index && place < sent).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_is_known_by_the_number_of_its_ping() {
        assert_eq!(place(205u64.to_be_bytes(), 5, 100, 3), Some(2));
        assert_eq!(place(205u64.to_be_bytes(), 6, 100, 3), None);
        assert_eq!(place(305u64.to_be_bytes(), 5, 100, 3), None);
    }
}
