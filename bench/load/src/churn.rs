//! Connections that come and go: each connects, asks for a WebSocket, closes it as soon as it is
//! open, waits for the server's close and for the end of its stream, and begins again. One delivery
//! is all of that.
//!
//! The server ends the stream first (RFC 6455, 7.1.1). The client answers that with a reset, which
//! neither side remembers: a port that waited (TIME_WAIT) would be missing after a second.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::drive::{EVENTS, Outcome, STALLED, TICK, about};
use crate::frame;
use crate::latency::Latency;
use crate::peer::{Opening, check_answer, find, request};
use crate::plan::Plan;
use crate::usage::Usage;

/// More than a server's answer to an upgrade, and its close.
const MAX_ANSWER: usize = 16 * 1024;
const END: &[u8] = b"\r\n\r\n";

/// # Errors
/// When a connection cannot be made, when something else comes than the upgrade and a close, and
/// when no connection ends for five seconds.
pub(crate) fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut load = Load::new(plan)?;
    for index in 0..plan.connections {
        load.begin(index)?;
    }
    load.go_on_for(plan.warm_up)?;
    let begin = load.mark()?;
    load.timing = true;
    load.go_on_for(plan.measured)?;
    let end = load.mark()?;
    load.timing = false;
    load.opening = false;
    while load.ended < load.begun {
        load.turn(TICK)?;
    }
    Ok(Outcome {
        window: end.at - begin.at,
        messages: end.begun - begin.begun,
        deliveries: end.ended - begin.ended,
        // One that does not end is an error.
        lost: 0,
        extra: 0,
        usage: end.usage.since(&begin.usage),
        latency: load.latency,
    })
}

/// Counters at a mark of time.
struct Mark {
    at: Instant,
    begun: u64,
    ended: u64,
    usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The request is not written.
    Connecting,
    /// The answer is not here.
    Asked,
    /// The close is written.
    Closing,
}

/// One place, for one connection after another.
struct Slot {
    socket: Option<TcpStream>,
    stage: Stage,
    /// What the server has said and was not understood so far.
    said: Vec<u8>,
    /// Its close frame is here.
    closed: bool,
    since: Instant,
}

struct Load<'a> {
    plan: &'a Plan,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    request: Vec<u8>,
    close: Vec<u8>,
    /// Whether the server says something once it is open.
    greeted: bool,
    slots: Vec<Slot>,
    opening: bool,
    timing: bool,
    begun: u64,
    ended: u64,
    last_end: Instant,
    latency: Latency,
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        let slot = || Slot {
            socket: None,
            stage: Stage::Connecting,
            said: Vec::with_capacity(1024),
            closed: false,
            since: Instant::now(),
        };
        Ok(Self {
            plan,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; MAX_ANSWER],
            request: request(plan.address, &plan.path).into_bytes(),
            close: frame::close(),
            greeted: plan.opening(Opening::Silent) != Opening::Silent,
            slots: (0..plan.connections).map(|_| slot()).collect(),
            opening: true,
            timing: false,
            begun: 0,
            ended: 0,
            last_end: Instant::now(),
            latency: Latency::default(),
        })
    }

    fn mark(&self) -> io::Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            begun: self.begun,
            ended: self.ended,
            usage: Usage::now(self.plan.servers.first().copied())?,
        })
    }

    /// Opens the next connection of a slot.
    fn begin(&mut self, index: usize) -> io::Result<()> {
        let slot = &mut self.slots[index];
        slot.since = Instant::now();
        slot.stage = Stage::Connecting;
        slot.closed = false;
        slot.said.clear();
        let mut socket = connect(self.plan.address).map_err(|error| about(index, &error))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(index), interest)?;
        slot.socket = Some(socket);
        self.begun += 1;
        slot.ask(&self.request).map_err(|error| about(index, &error))
    }

    fn go_on_for(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
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
        let before = self.ended;
        for event in &events {
            let Token(index) = event.token();
            // What was meant for the slot's last connection finds nothing at this one.
            if event.is_writable() {
                self.slots[index].ask(&self.request).map_err(|error| about(index, &error))?;
            }
            if event.is_readable() {
                self.readable(index)?;
            }
        }
        self.events = events;
        if self.ended != before {
            self.last_end = Instant::now();
        }
        if self.last_end.elapsed() > STALLED {
            return Err(io::Error::other(format!(
                "none of {} connections ended within {} s",
                self.begun - self.ended,
                STALLED.as_secs()
            )));
        }
        Ok(())
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let slot = &mut self.slots[index];
        if !slot
            .receive(&mut self.buffer, &self.close, self.greeted)
            .map_err(|error| about(index, &error))?
        {
            return Ok(());
        }
        slot.socket = None;
        self.ended += 1;
        if self.timing {
            self.latency.record(slot.since.elapsed());
        }
        if self.opening { self.begin(index) } else { Ok(()) }
    }
}

/// Begins to connect, from a port that the kernel chooses, to end with a reset.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

impl Slot {
    /// Writes the request once the connection is made.
    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        let (Stage::Connecting, Some(socket)) = (self.stage, &mut self.socket) else {
            return Ok(());
        };
        match socket.write(request) {
            Ok(written) if written == request.len() => self.stage = Stage::Asked,
            Ok(_) => return Err(io::Error::other("the socket does not take a request")),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads all there is and closes once the connection is open; returns whether it has ended.
    fn receive(&mut self, buffer: &mut [u8], close: &[u8], greeted: bool) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else { return Ok(false) };
        loop {
            let read = match socket.read(buffer) {
                Ok(0) if self.closed => return Ok(true),
                Ok(0) => return Err(io::Error::other("the server ended without a close frame")),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A server that forgets what it has read too much of may reset after its close.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && self.closed => {
                    return Ok(true);
                }
                Err(error) => return Err(error),
            };
            self.said.extend_from_slice(&buffer[..read]);
            if self.stage == Stage::Asked && opened(&mut self.said)? {
                self.stage = Stage::Closing;
                if socket.write(close)? != close.len() {
                    return Err(io::Error::other("the socket does not take a close"));
                }
            }
            if self.stage == Stage::Closing && greeted {
                skip_texts(&mut self.said);
            }
            if self.stage == Stage::Closing && !self.said.is_empty() {
                self.closed = frame::is_close(&self.said);
                if !self.closed && !greeted && self.said.len() > close.len() {
                    return Err(io::Error::other("the server did not answer a close with a close"));
                }
            }
            if self.said.len() >= MAX_ANSWER {
                return Err(io::Error::other("the server's answer has no end"));
            }
        }
    }
}

/// Takes the answer to the upgrade from what the server said, if it is whole.
fn opened(said: &mut Vec<u8>) -> io::Result<bool> {
    let Some(end) = find(said, END) else { return Ok(false) };
    check_answer(&String::from_utf8_lossy(&said[..end]))?;
    said.drain(..end + END.len());
    Ok(true)
}

/// Takes whole texts from what the server said.
fn skip_texts(said: &mut Vec<u8>) {
    while said.first() == Some(&frame::FINAL_TEXT)
        && let Some(length) = frame::frame_length(said).filter(|length| *length <= said.len())
    {
        said.drain(..length);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server of one connection that says these words, one after each read, and ends.
    fn serve(words: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for word in words {
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(word).unwrap();
            }
        });
        address
    }

    fn one_cycle(words: &'static [&'static [u8]]) -> io::Result<u64> {
        let address = serve(words);
        let line = format!("churn --port {} --path / --connections 1", address.port());
        let plan = Plan::parse(line.split(' ').map(str::to_owned)).unwrap();
        let mut load = Load::new(&plan)?;
        load.begin(0)?;
        load.opening = false;
        while load.ended < load.begun {
            load.turn(TICK)?;
        }
        Ok(load.ended)
    }

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn a_cycle_is_an_upgrade_a_close_and_the_end() {
        assert_eq!(one_cycle(&[ANSWER, &[0x88, 2, 3, 0xe8]]).unwrap(), 1);
        assert_eq!(one_cycle(&[ANSWER, &[0x88, 0]]).unwrap(), 1);
    }

    #[test]
    fn texts_before_a_close_are_skipped_and_parts_are_kept() {
        let mut said = b"\x81\x01a\x81\x02bc\x88\x00".to_vec();
        skip_texts(&mut said);
        assert_eq!(said, b"\x88\x00");
        let mut part = b"\x81\x02b".to_vec();
        skip_texts(&mut part);
        assert_eq!(part, b"\x81\x02b");
    }

    #[test]
    fn an_end_without_a_close_and_a_refusal_are_errors() {
        for (words, named) in [
            (&[ANSWER, b""] as &'static [&'static [u8]], "without a close frame"),
            (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "refused the upgrade"),
            (&[ANSWER, b"\x81\x05hello"], "without a close frame"),
            (&[ANSWER, b"\x81\x0bhello world"], "a close with a close"),
        ] {
            let sentence = one_cycle(words).unwrap_err().to_string();
            assert!(sentence.contains(named), "{sentence}");
        }
    }
}
