//! What connections at rest cost in memory: opened, and after each has sent and received a message.

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::drive::{EVENTS, READ_BUFFER, STALLED, about};
use crate::frame::Expected;
use crate::memory::Memory;
use crate::peer::{self, Opening, Peer};
use crate::plan::Plan;

/// Connections that are used and closed before anything is measured, so that what a server needs
/// once is there: compiled handlers, code read from its file, buffers that all share.
const WARM_UP: usize = 64;
/// Messages under way at once.
const AT_ONCE: usize = 64;

/// Memory has settled when it changed by less than this for as long.
const STEADY: i64 = 128 * 1024;
const STEADY_FOR: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// It has not before this: V8 looks 8 s after the last work for what it can give back.
const MIN_SETTLING: Duration = Duration::from_secs(10);

/// What came of it.
pub(crate) struct Outcome {
    /// With no connection open.
    pub(crate) before: Memory,
    /// With all of them open, before any message.
    pub(crate) open: Memory,
    /// After each has sent and received one.
    pub(crate) after: Memory,
    /// Whether each of the three was steady when it was taken.
    pub(crate) settled: bool,
}

impl Outcome {
    /// The kernel's memory for the server's ends: half of what grew since nothing was open. Both
    /// ends of each connection are sockets of this machine, alike but for little: the client's
    /// have a port each, the server's are watched by epoll.
    pub(crate) fn kernel(&self, then: &Memory) -> i64 {
        (then.slab - self.before.slab + then.tcp - self.before.tcp) / 2
    }
}

/// # Errors
/// When a connection cannot be made or does not last, when something else comes than was sent, and
/// when nothing comes for five seconds.
pub(crate) fn run(plan: &Plan) -> io::Result<Outcome> {
    let pid = *plan.servers.first().ok_or(io::Error::other("no process to look at"))?;
    let mut load = Load::new(plan)?;
    load.open(WARM_UP)?;
    load.talk()?;
    load.close();
    let (before, first) = settle(pid, plan.settling)?;
    load.open(plan.connections)?;
    let (open, second) = settle(pid, plan.settling)?;
    load.talk()?;
    let (after, third) = settle(pid, plan.settling)?;
    Ok(Outcome { before, open, after, settled: first && second && third })
}

/// Waits until memory is steady, but not longer than `most`; also returns whether it was.
fn settle(pid: u32, most: Duration) -> io::Result<(Memory, bool)> {
    let begin = Instant::now();
    let mut reference = Memory::now(pid)?;
    let mut since = Instant::now();
    loop {
        thread::sleep(LOOK_EVERY);
        let now = Memory::now(pid)?;
        let moved = (now.rss - reference.rss).abs().max((now.slab - reference.slab).abs());
        if moved >= STEADY {
            (reference, since) = (now, Instant::now());
        }
        let steady = begin.elapsed() >= MIN_SETTLING && since.elapsed() >= STEADY_FOR;
        if steady || begin.elapsed() >= most {
            return Ok((now, steady));
        }
    }
}

struct Load<'a> {
    plan: &'a Plan,
    poll: Poll,
    buffer: Vec<u8>,
    expected: Expected,
    frame: Rc<[u8]>,
    peers: Vec<Peer>,
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        Ok(Self {
            plan,
            poll: Poll::new()?,
            buffer: vec![0; READ_BUFFER],
            expected: plan.expected(),
            frame: plan.frame_of(0).into(),
            peers: Vec::new(),
        })
    }

    /// One after the other, so that no backlog overflows.
    fn open(&mut self, count: usize) -> io::Result<()> {
        let opening = self.plan.opening(Opening::Silent);
        for index in 0..count {
            let socket = peer::connect(self.plan.address, index, &self.plan.path, opening)
                .map_err(|error| about(index, &error))?;
            let length = self.frame.len();
            self.peers.push(Peer::new(socket, index, Rc::clone(&self.frame), length));
        }
        Ok(())
    }

    fn close(&mut self) {
        self.peers.clear();
    }

    /// Sends one message on each connection and receives it. A connection is watched meanwhile only,
    /// so that at rest it costs the kernel nothing for that on this side.
    fn talk(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let registry = self.poll.registry().try_clone()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let (mut next, mut open, mut last) = (0, 0, Instant::now());
        while next < self.peers.len() || open > 0 {
            while open < AT_ONCE && next < self.peers.len() {
                let peer = &mut self.peers[next];
                registry.register(&mut peer.socket, Token(next), interest)?;
                peer.send(1).map_err(|error| about(next, &error))?;
                (next, open) = (next + 1, open + 1);
            }
            match self.poll.poll(&mut events, Some(STALLED)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            for event in &events {
                let Token(index) = event.token();
                let peer = &mut self.peers[index];
                if event.is_writable() {
                    peer.flush().map_err(|error| about(index, &error))?;
                }
                if !event.is_readable() {
                    continue;
                }
                let seen = peer
                    .receive(&mut self.buffer, &self.expected)
                    .map_err(|error| about(index, &error))?;
                if seen.messages == 0 {
                    continue;
                }
                if peer.received > peer.sent {
                    return Err(about(index, &io::Error::other("answered twice")));
                }
                peer.rest();
                registry.deregister(&mut peer.socket)?;
                (open, last) = (open - 1, Instant::now());
            }
            if last.elapsed() > STALLED {
                return Err(io::Error::other(format!("{open} messages were not answered")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_share_is_half_of_what_grew() {
        let memory = |slab, tcp| Memory { rss: 0, slab, tcp };
        let (before, open, after) = (memory(1000, 8), memory(1600, 8), memory(1800, 16));
        let outcome = Outcome { before, open, after, settled: true };
        assert_eq!((outcome.kernel(&open), outcome.kernel(&after)), (300, 404));
    }
}
