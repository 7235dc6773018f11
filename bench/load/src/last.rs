//! A broadcast right before the server's JavaScript thread is blocked: when does each member of the
//! room have it?

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::block::{BLOCK, Block};
use crate::drive::{EVENTS, READ_BUFFER, STALLED, TICK, about};
use crate::frame::Expected;
use crate::latency::Latency;
use crate::peer::{self, Opening, Peer};
use crate::plan::{Last, Plan};

/// Before the first one that counts, so that V8 has compiled the handlers.
const WARM_UP: usize = 50;
const SHOTS: usize = 5;

/// What came of it.
pub(crate) struct Outcome {
    /// From sending until each member had the message, of all shots.
    pub(crate) latency: Latency,
    /// The same until the last member had it, of each shot.
    pub(crate) last: Vec<Duration>,
    /// How long the server took to answer `/block`.
    pub(crate) blocked: Vec<Duration>,
}

/// # Errors
/// When a connection cannot be made or does not last, when something else comes than was sent, and
/// when nothing comes for five seconds beside the block.
pub(crate) fn run(plan: &Plan, shot: &Last) -> io::Result<Outcome> {
    let mut load = Load::connect(plan)?;
    let mut outcome = Outcome { latency: Latency::default(), last: Vec::new(), blocked: vec![] };
    for _ in 0..WARM_UP {
        let sent_at = load.send()?;
        load.wait(sent_at, &mut Latency::default())?;
    }
    for _ in 0..SHOTS {
        let block = Block::connect(&load.poll, plan.address, shot.block)?;
        // The server takes the new connection before there is anything to measure.
        thread::sleep(TICK);
        load.block = Some(block);
        let sent_at = load.send()?;
        while let Some(rest) = shot.gap.checked_sub(sent_at.elapsed()) {
            load.turn(rest, sent_at, &mut outcome.latency)?;
        }
        let block = load.block.as_mut().ok_or(io::Error::other("nothing to ask"))?;
        block.ask()?;
        outcome.last.push(load.wait(sent_at, &mut outcome.latency)?);
        outcome.blocked.push(load.answered(shot.block)?);
    }
    Ok(outcome)
}

struct Load {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    expected: Expected,
    peers: Vec<Peer>,
    received: u64,
    block: Option<Block>,
}

impl Load {
    fn connect(plan: &Plan) -> io::Result<Self> {
        let poll = Poll::new()?;
        let one = plan.frame_of(0);
        let frames: Rc<[u8]> = Rc::from(&one[..]);
        let mut peers = Vec::with_capacity(plan.connections);
        let opening = plan.opening(Opening::Greeted);
        for index in 0..plan.connections {
            let socket = peer::connect(plan.address, index, &plan.path, opening)
                .map_err(|error| about(index, &error))?;
            let mut peer = Peer::new(socket, index, Rc::clone(&frames), one.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut peer.socket, Token(index), interest)?;
            peers.push(peer);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BUFFER],
            expected: plan.expected(),
            peers,
            received: 0,
            block: None,
        })
    }

    fn send(&mut self) -> io::Result<Instant> {
        let sent_at = Instant::now();
        self.peers[0].send(1).map_err(|error| about(0, &error))?;
        Ok(sent_at)
    }

    /// Waits until all members have what was sent; returns how long that took.
    fn wait(&mut self, sent_at: Instant, latency: &mut Latency) -> io::Result<Duration> {
        let due = self.peers[0].sent * self.peers.len() as u64;
        while self.received < due {
            self.turn(TICK, sent_at, latency)?;
            if sent_at.elapsed() > self.patience() {
                let missing = due - self.received;
                return Err(io::Error::other(format!("{missing} deliveries never came")));
            }
        }
        Ok(sent_at.elapsed())
    }

    /// Waits for the end of the block; returns how long it was.
    fn answered(&mut self, length: Duration) -> io::Result<Duration> {
        let begin = Instant::now();
        loop {
            if let Some(took) = self.block.as_ref().and_then(|block| block.took) {
                self.block = None;
                return Ok(took);
            }
            if begin.elapsed() > length + STALLED {
                return Err(io::Error::other("/block was not answered"));
            }
            self.turn(TICK, begin, &mut Latency::default())?;
        }
    }

    fn patience(&self) -> Duration {
        STALLED + self.block.as_ref().map_or(Duration::ZERO, Block::length)
    }

    fn turn(
        &mut self,
        at_most: Duration,
        sent_at: Instant,
        latency: &mut Latency,
    ) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(at_most.min(TICK))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &self.events {
            let Token(index) = event.token();
            if event.token() == BLOCK {
                self.block.as_mut().map_or(Ok(()), Block::readable)?;
                continue;
            }
            let peer = &mut self.peers[index];
            if event.is_readable() {
                let seen = peer
                    .receive(&mut self.buffer, &self.expected)
                    .map_err(|error| about(index, &error))?;
                self.received += seen.messages;
                for _ in 0..seen.messages {
                    latency.record(sent_at.elapsed());
                }
            }
            if event.is_writable() {
                peer.flush().map_err(|error| about(index, &error))?;
            }
        }
        Ok(())
    }
}
