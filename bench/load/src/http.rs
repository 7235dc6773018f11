//! GET requests on connections that stay open.
//!
//! All requests are the same bytes, prepared as often as they may be under way; an answer is cut by
//! its `Content-Length`, and its status and body are compared with what is expected.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::drive::{EVENTS, Outcome, QUIET, READ_BUFFER, STALLED, TICK, about};
use crate::latency::Latency;
use crate::peer::{find, source};
use crate::plan::Plan;
use crate::usage::Usage;

const OK: &[u8] = b"HTTP/1.1 200 ";
const END: &[u8] = b"\r\n\r\n";
const LENGTH: &[u8] = b"content-length:";
const MAX_HEAD: usize = 16 * 1024;

/// # Errors
/// When a connection cannot be made or does not last, when an answer is not 200 with the body
/// expected and its length, and when nothing comes for five seconds.
pub(crate) fn run(plan: &Plan, expect: &str) -> io::Result<Outcome> {
    let mut load = Load::connect(plan, expect)?;
    for index in 0..load.askers.len() {
        load.ask(index, plan.in_flight)?;
    }
    load.go_on_for(plan.warm_up)?;
    let begin = load.mark()?;
    load.timing = plan.in_flight == 1;
    load.go_on_for(plan.measured)?;
    let end = load.mark()?;
    load.timing = false;
    load.asking = false;
    load.finish()?;
    Ok(Outcome {
        window: end.at - begin.at,
        messages: end.asked - begin.asked,
        deliveries: end.answered - begin.answered,
        lost: load.asked.saturating_sub(load.answered),
        extra: load.answered.saturating_sub(load.asked),
        usage: end.usage.since(&begin.usage),
        latency: load.latency,
    })
}

/// Counters at a mark of time.
struct Mark {
    at: Instant,
    asked: u64,
    answered: u64,
    usage: Usage,
}

/// One connection.
struct Asker {
    socket: TcpStream,
    /// The beginning of an answer whose end has not arrived.
    part: Vec<u8>,
    /// Bytes to write, and how far into a request the first of them is.
    owed: usize,
    phase: usize,
    asked_at: Instant,
}

struct Load<'a> {
    plan: &'a Plan,
    expect: &'a [u8],
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// As many requests as may be under way, and the length of one.
    requests: Vec<u8>,
    request: usize,
    askers: Vec<Asker>,
    asking: bool,
    timing: bool,
    asked: u64,
    answered: u64,
    last_answer: Instant,
    latency: Latency,
}

impl<'a> Load<'a> {
    fn connect(plan: &'a Plan, expect: &'a str) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut askers = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let mut socket = connect(plan.address, index).map_err(|error| about(index, &error))?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(index), interest)?;
            let asked_at = Instant::now();
            askers.push(Asker { socket, part: Vec::new(), owed: 0, phase: 0, asked_at });
        }
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", plan.path, plan.address);
        Ok(Self {
            plan,
            expect: expect.as_bytes(),
            poll,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BUFFER],
            requests: request.repeat(plan.in_flight).into_bytes(),
            request: request.len(),
            askers,
            asking: true,
            timing: false,
            asked: 0,
            answered: 0,
            last_answer: Instant::now(),
            latency: Latency::default(),
        })
    }

    fn mark(&self) -> io::Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            asked: self.asked,
            answered: self.answered,
            usage: Usage::now(self.plan.servers.first().copied())?,
        })
    }

    fn ask(&mut self, index: usize, count: usize) -> io::Result<()> {
        self.asked += count as u64;
        let asker = &mut self.askers[index];
        asker.asked_at = Instant::now();
        asker.owed += count * self.request;
        asker.flush(&self.requests, self.request).map_err(|error| about(index, &error))
    }

    fn go_on_for(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now.saturating_duration_since(self.last_answer) > STALLED {
                return Err(io::Error::other(format!(
                    "nothing came for {} s while {} answers were due",
                    STALLED.as_secs(),
                    self.asked.saturating_sub(self.answered)
                )));
            }
            self.turn(end - now)?;
        }
    }

    /// One wait, and what is ready after it.
    fn turn(&mut self, at_most: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(at_most.min(TICK))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        let before = self.answered;
        for event in &events {
            let Token(index) = event.token();
            if event.is_readable() {
                self.readable(index)?;
            }
            if event.is_writable() && self.askers[index].owed > 0 {
                let flushed = self.askers[index].flush(&self.requests, self.request);
                flushed.map_err(|error| about(index, &error))?;
            }
        }
        self.events = events;
        if self.answered != before {
            self.last_answer = Instant::now();
        }
        Ok(())
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let asker = &mut self.askers[index];
        let answers =
            asker.receive(&mut self.buffer, self.expect).map_err(|error| about(index, &error))?;
        self.answered += answers as u64;
        if self.timing && answers > 0 {
            self.latency.record(asker.asked_at.elapsed());
        }
        if self.asking && answers > 0 { self.ask(index, answers) } else { Ok(()) }
    }

    /// Waits for what is under way, and then for what would be too much.
    fn finish(&mut self) -> io::Result<()> {
        while self.answered < self.asked && self.last_answer.elapsed() < STALLED {
            self.turn(TICK)?;
        }
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn(QUIET)?;
        }
        Ok(())
    }
}

/// A connection that ends with a reset, so that its port is free at once.
fn connect(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let kind = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
    if let Some(source) = source(address.ip(), index) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&address.into(), STALLED)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket.into()))
}

impl Asker {
    /// Writes what is owed, as far as the socket takes it.
    fn flush(&mut self, requests: &[u8], request: usize) -> io::Result<()> {
        while self.owed > 0 {
            let rest = &requests[self.phase..];
            match self.socket.write(&rest[..rest.len().min(self.owed)]) {
                Ok(written) => {
                    self.owed -= written;
                    self.phase = (self.phase + written) % request;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all there is; returns how many answers ended in it.
    fn receive(&mut self, buffer: &mut [u8], expect: &[u8]) -> io::Result<usize> {
        let mut answers = 0;
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(read) => {
                    answers +=
                        take(&mut self.part, &buffer[..read], expect).map_err(io::Error::other)?;
                    // A read that did not fill the buffer emptied the socket (epoll(7)).
                    if read < buffer.len() {
                        return Ok(answers);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Counts the answers that end in `bytes`, which come after `part`, and keeps the rest there.
fn take(part: &mut Vec<u8>, bytes: &[u8], expect: &[u8]) -> Result<usize, String> {
    if part.is_empty() {
        let (answers, used) = cut(bytes, expect)?;
        part.extend_from_slice(&bytes[used..]);
        return Ok(answers);
    }
    part.extend_from_slice(bytes);
    let (answers, used) = cut(part, expect)?;
    part.drain(..used);
    Ok(answers)
}

/// How many whole answers the bytes begin with, and how long those are together.
fn cut(bytes: &[u8], expect: &[u8]) -> Result<(usize, usize), String> {
    let (mut answers, mut used) = (0, 0);
    while let Some(length) = answer(&bytes[used..], expect)? {
        answers += 1;
        used += length;
    }
    Ok((answers, used))
}

/// The length of the answer at the beginning, if it is whole.
fn answer(bytes: &[u8], expect: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = find(bytes, END) else {
        return if bytes.len() < MAX_HEAD { Ok(None) } else { Err("an answer has no end".into()) };
    };
    let (head, rest) = bytes.split_at(end + END.len());
    let said = || String::from_utf8_lossy(head).into_owned();
    if !head.starts_with(OK) {
        return Err(format!("the server did not answer with 200: {}", said()));
    }
    if content_length(head) != Some(expect.len()) {
        return Err(format!("an answer has not the length of what is expected: {}", said()));
    }
    let Some(body) = rest.get(..expect.len()) else { return Ok(None) };
    if body != expect {
        return Err(format!("the body is {:?}", String::from_utf8_lossy(body)));
    }
    Ok(Some(head.len() + body.len()))
}

fn content_length(head: &[u8]) -> Option<usize> {
    let line = head.split(|byte| *byte == b'\n').find(|line| {
        line.get(..LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(LENGTH))
    })?;
    std::str::from_utf8(&line[LENGTH.len()..]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\n\r\n42\
        HTTP/1.1 200 \r\ncontent-length:2\r\n\r\n42";

    #[test]
    fn answers_are_found_wherever_reads_cut_them() {
        for cut in 0..TWO.len() {
            let mut part = Vec::new();
            let first = take(&mut part, &TWO[..cut], b"42").unwrap();
            let second = take(&mut part, &TWO[cut..], b"42").unwrap();
            assert_eq!((first + second, part.len()), (2, 0), "cut at {cut}");
        }
        for size in 1..TWO.len() {
            let mut part = Vec::new();
            let pieces = TWO.chunks(size).map(|piece| take(&mut part, piece, b"42").unwrap());
            assert_eq!(pieces.sum::<usize>(), 2, "pieces of {size}");
        }
    }

    #[test]
    fn another_status_length_or_body_is_refused() {
        for (said, named) in [
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n42", "with 200"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42", "length"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n42", "length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n43", "43"),
        ] {
            let sentence = take(&mut Vec::new(), said.as_bytes(), b"42").unwrap_err();
            assert!(sentence.contains(named), "{said}: {sentence}");
        }
    }
}
