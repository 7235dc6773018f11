//! From a sender at one server to listeners at another: how many messages, and how long each took.
//!
//! All messages are the same bytes and arrive in the order they were sent, so the number of a
//! message is how many came before it; one that is lost or comes twice shows in the count.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::block::{BLOCK, Block};
use crate::drive::{EVENTS, QUIET, READ_BUFFER, STALLED, TICK, about};
use crate::frame::Expected;
use crate::latency::Latency;
use crate::pace::{PACE, Pace};
use crate::peer::{self, Opening, Peer};
use crate::plan::{Plan, Relay};
use crate::usage::{self, Usage};

/// The sender's place among the peers; the listeners come after it.
const SENDER: usize = 0;
/// Messages of the warm-up under way at once, where the plan has a pace and so no number of its own.
const WARM_UP_IN_FLIGHT: usize = 16;
/// Of a paced run, before anything is recorded.
const SETTLING: Duration = Duration::from_millis(500);
/// Messages that may be under way when the pace is kept though the servers are behind it.
const MAX_BEHIND: u64 = 100_000;

/// What came of a relay.
pub(crate) struct Outcome {
    pub(crate) window: Duration,
    /// Messages sent, and deliveries to listeners, within the window.
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// Of the whole run: messages, deliveries that never came, and such that nobody had sent.
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) extra: u64,
    pub(crate) usage: Usage,
    /// CPU seconds of the plan's processes within the window.
    pub(crate) servers: Vec<f64>,
    /// From when a message of a paced run was due: until the sender had its own copy, and until
    /// each listener had it.
    pub(crate) near: Latency,
    pub(crate) far: Latency,
    /// How long the listeners' server took to answer `/block`.
    pub(crate) blocked: Option<Duration>,
}

/// # Errors
/// When a connection cannot be made or does not last, when a frame comes that was not sent, when
/// nothing comes for five seconds, and when a pace is far above what the servers can do.
pub(crate) fn run(plan: &Plan, relay: &Relay) -> io::Result<Outcome> {
    let mut load = Load::connect(plan, relay)?;
    let measured = plan.measured.max(relay.block.unwrap_or_default());
    load.keep_up(if relay.rate.is_some() { WARM_UP_IN_FLIGHT } else { plan.in_flight });
    load.go_on_for(plan.warm_up)?;
    if let Some(rate) = relay.rate {
        load.rest()?;
        load.pace = Some(Pace::begin(&load.poll, rate, load.sent(), SETTLING, measured)?);
        load.go_on_for(SETTLING)?;
    }
    let begin = load.mark()?;
    if let Some(block) = &mut load.block {
        block.ask()?;
    }
    load.go_on_for(measured)?;
    let end = load.mark()?;
    load.rest()?;
    load.be_quiet()?;
    let (lost, extra) = load.losses();
    Ok(Outcome {
        window: end.at - begin.at,
        messages: end.sent - begin.sent,
        deliveries: end.deliveries - begin.deliveries,
        sent: load.sent(),
        lost,
        extra,
        usage: end.usage.since(&begin.usage),
        servers: end.servers.iter().zip(begin.servers).map(|(end, begin)| end - begin).collect(),
        near: load.near,
        far: load.far,
        blocked: load.block.and_then(|block| block.took),
    })
}

/// Counters at a mark of time.
struct Mark {
    at: Instant,
    sent: u64,
    deliveries: u64,
    usage: Usage,
    servers: Vec<f64>,
}

struct Load<'a> {
    plan: &'a Plan,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    expected: Expected,
    peers: Vec<Peer>,
    /// Messages to keep under way, where there is no pace.
    in_flight: u64,
    pace: Option<Pace>,
    /// Of all listeners.
    deliveries: u64,
    last_delivery: Instant,
    near: Latency,
    far: Latency,
    block: Option<Block>,
}

impl<'a> Load<'a> {
    fn connect(plan: &'a Plan, relay: &Relay) -> io::Result<Self> {
        let opening = plan.opening(Opening::Greeted);
        let one = plan.frame_of(SENDER);
        let frames: Rc<[u8]> = one.repeat(plan.in_flight.max(WARM_UP_IN_FLIGHT)).into();
        let poll = Poll::new()?;
        let mut peers = Vec::with_capacity(plan.connections + 1);
        for index in 0..=plan.connections {
            let address = if index == SENDER { plan.address } else { relay.to };
            let socket = peer::connect(address, index, &plan.path, opening)
                .map_err(|error| about(index, &error))?;
            let mut peer = Peer::new(socket, index, Rc::clone(&frames), one.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut peer.socket, Token(index), interest)?;
            peers.push(peer);
        }
        let block = match relay.block {
            Some(length) => Some(Block::connect(&poll, relay.to, length)?),
            None => None,
        };
        Ok(Self {
            plan,
            block,
            poll,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BUFFER],
            expected: plan.expected(),
            peers,
            in_flight: 0,
            pace: None,
            deliveries: 0,
            last_delivery: Instant::now(),
            near: Latency::default(),
            far: Latency::default(),
        })
    }

    fn sent(&self) -> u64 {
        self.peers[SENDER].sent
    }

    fn listeners(&self) -> u64 {
        self.peers.len() as u64 - 1
    }

    /// How long nothing may come.
    fn patience(&self) -> Duration {
        STALLED + self.block.as_ref().map_or(Duration::ZERO, Block::length)
    }

    fn keep_up(&mut self, in_flight: usize) {
        self.in_flight = in_flight as u64;
    }

    fn mark(&self) -> io::Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            sent: self.sent(),
            deliveries: self.deliveries,
            usage: Usage::now(None)?,
            servers: self
                .plan
                .servers
                .iter()
                .map(|pid| usage::process_seconds(*pid))
                .collect::<io::Result<_>>()?,
        })
    }

    fn go_on_for(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        self.last_delivery = Instant::now();
        loop {
            self.send_what_is_due()?;
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now.saturating_duration_since(self.last_delivery) > self.patience() {
                return Err(io::Error::other(format!(
                    "nothing came for {} s while {} deliveries were due",
                    self.patience().as_secs(),
                    (self.sent() * self.listeners()).saturating_sub(self.deliveries)
                )));
            }
            self.turn(end - now)?;
        }
    }

    fn send_what_is_due(&mut self) -> io::Result<()> {
        let under_way = self.sent().saturating_sub(self.deliveries / self.listeners());
        let count = match &self.pace {
            Some(pace) => {
                if under_way > MAX_BEHIND {
                    return Err(io::Error::other("the servers are far behind the pace"));
                }
                pace.due_by(Instant::now()).saturating_sub(self.sent())
            }
            None => self.in_flight.saturating_sub(under_way),
        };
        if count == 0 {
            return Ok(());
        }
        self.peers[SENDER].send(count).map_err(|error| about(SENDER, &error))
    }

    /// One wait, and what is ready after it.
    fn turn(&mut self, at_most: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(at_most.min(TICK))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            if event.token() == PACE {
                if let Some(pace) = &self.pace {
                    pace.rewind();
                }
                continue;
            }
            if event.token() == BLOCK {
                self.block.as_mut().map_or(Ok(()), Block::readable)?;
                continue;
            }
            let Token(index) = event.token();
            if event.is_readable() {
                self.readable(index)?;
            }
            if event.is_writable() {
                self.peers[index].flush().map_err(|error| about(index, &error))?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        let before = peer.received;
        peer.receive(&mut self.buffer, &self.expected).map_err(|error| about(index, &error))?;
        let now = Instant::now();
        let numbers = before..peer.received;
        let latency = if index == SENDER {
            &mut self.near
        } else {
            self.deliveries += numbers.end - numbers.start;
            self.last_delivery = now;
            &mut self.far
        };
        if let Some(pace) = &self.pace {
            pace.record(latency, numbers, now);
        }
        Ok(())
    }

    /// Sends nothing more and waits for what is under way.
    fn rest(&mut self) -> io::Result<()> {
        self.last_delivery = Instant::now();
        while self.missing() > 0 && self.last_delivery.elapsed() < self.patience() {
            self.turn(TICK)?;
        }
        Ok(())
    }

    /// After the last delivery that is due, waits for more of them, which would be too many.
    fn be_quiet(&mut self) -> io::Result<()> {
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn(QUIET)?;
        }
        Ok(())
    }

    fn missing(&self) -> u64 {
        self.losses().0
    }

    /// Deliveries that have not come, and those that were too many.
    fn losses(&self) -> (u64, u64) {
        let sent = self.sent();
        let difference = |wanted: fn(u64, u64) -> u64| {
            self.peers.iter().map(|peer| wanted(sent, peer.received)).sum()
        };
        (
            difference(|sent, received| sent.saturating_sub(received)),
            difference(|sent, received| received.saturating_sub(sent)),
        )
    }
}
