//! One connection of the load.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::frame::{self, Expected, MARK, Reader, Seen};

/// Key and answer of the example in RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a room says to a member once it is in: from then on every broadcast reaches it.
const GREETING: &[u8] = b"ready";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 16 * 1024;

const FROM_ONE_ADDRESS: usize = 10_000;

/// What Socket.IO's client says to be let in, and the event with which it is in the room.
const SOCKET_IO_CONNECT: &[u8] = b"40";
const SOCKET_IO_GREETING: &[u8] = br#"42["ready"]"#;

/// What comes before the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    Silent,
    /// The server says [`GREETING`].
    Greeted,
    /// Engine.IO 4 opens, the client connects to the main namespace, the server greets.
    SocketIo,
}

/// Connects, upgrades and waits until the opening is over. Returns a non-blocking socket with
/// nothing left to read. `index` is the number of the connection.
pub(crate) fn connect(
    address: SocketAddr,
    index: usize,
    path: &str,
    opening: Opening,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source(address.ip(), index) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    // The end is a reset, so that its port is free for the next run at once.
    socket.set_linger(Some(Duration::ZERO))?;
    let mut socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    socket.write_all(request(address, path).as_bytes())?;
    let mut bytes = Vec::new();
    let end = loop {
        read_more(&mut socket, &mut bytes)?;
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let rest = bytes.split_off(end);
    check_answer(&String::from_utf8_lossy(&bytes))?;
    open(&mut socket, rest, opening)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A loopback address has 28,232 ports to give unless set otherwise, and looking for a free one takes
/// long once half of them are taken: later connections come from 127.0.0.2 and on.
pub(crate) fn source(server: IpAddr, index: usize) -> Option<Ipv4Addr> {
    let address = index / FROM_ONE_ADDRESS;
    match server {
        IpAddr::V4(server) if server.is_loopback() && address > 0 => {
            Some(Ipv4Addr::new(127, 0, 0, u8::try_from(address + 1).ok()?))
        }
        _ => None,
    }
}

/// What asks for a WebSocket.
pub(crate) fn request(address: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

fn read_more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 1024];
    let read = socket.read(&mut chunk)?;
    if read == 0 {
        return Err(io::Error::other("the server ended the handshake"));
    }
    bytes.extend_from_slice(&chunk[..read]);
    if bytes.len() > MAX_ANSWER {
        return Err(io::Error::other("the server's answer has no end"));
    }
    Ok(())
}

/// Takes what the server says first, of which `bytes` are here.
fn open(socket: &mut TcpStream, mut bytes: Vec<u8>, opening: Opening) -> io::Result<()> {
    let greeting = match opening {
        Opening::Silent if bytes.is_empty() => return Ok(()),
        Opening::Silent => return Err(not_the_greeting()),
        Opening::Greeted => frame::unmasked(GREETING),
        Opening::SocketIo => {
            socket.write_all(&frame::masked(SOCKET_IO_CONNECT))?;
            frame::unmasked(SOCKET_IO_GREETING)
        }
    };
    loop {
        while let Some(length) = frame::frame_length(&bytes).filter(|it| *it <= bytes.len()) {
            let rest = bytes.split_off(length);
            if bytes == greeting && rest.is_empty() {
                return Ok(());
            }
            // Socket.IO has said before how often it pings, and who the client is now.
            if bytes == greeting || opening == Opening::Greeted {
                return Err(not_the_greeting());
            }
            bytes = rest;
        }
        read_more(socket, &mut bytes)?;
    }
}

fn not_the_greeting() -> io::Error {
    io::Error::other("the server sent something else than its greeting after the handshake")
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

pub(crate) fn check_answer(answer: &str) -> io::Result<()> {
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(io::Error::other(format!("the server refused the upgrade: {status}")));
    }
    let accepted = answer.lines().any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT
        })
    });
    if accepted {
        Ok(())
    } else {
        Err(io::Error::other("the server's Sec-WebSocket-Accept is wrong"))
    }
}

/// A connected socket, what it still has to send, and what it has received.
pub(crate) struct Peer {
    pub(crate) socket: mio::net::TcpStream,
    mark: [u8; MARK],
    reader: Reader,
    /// The same frame as often as messages may be under way, so that they go out in one write.
    frames: Rc<[u8]>,
    frame_length: usize,
    /// Bytes to write, and how far into a frame the first of them is.
    owed: usize,
    phase: usize,
    /// Written between two frames, and whole.
    control: Vec<u8>,
    /// Messages handed to the socket or owed to it.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// When the last message was handed over.
    pub(crate) sent_at: Instant,
}

impl Peer {
    pub(crate) fn new(
        socket: TcpStream,
        index: usize,
        frames: Rc<[u8]>,
        frame_length: usize,
    ) -> Self {
        let mut mark = [0; MARK];
        mark.copy_from_slice(&frame::message(index, MARK));
        Self {
            socket: mio::net::TcpStream::from_std(socket),
            mark,
            reader: Reader::default(),
            frames,
            frame_length,
            owed: 0,
            phase: 0,
            control: Vec::new(),
            sent: 0,
            received: 0,
            sent_at: Instant::now(),
        }
    }

    /// Sends `count` messages, or as much of them as the socket takes now.
    pub(crate) fn send(&mut self, count: u64) -> io::Result<()> {
        self.sent += count;
        self.owed += count as usize * self.frame_length;
        self.flush()
    }

    /// Sends a control frame, between two others, or as much of it as the socket takes now.
    pub(crate) fn ping(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sent += 1;
        self.control.extend_from_slice(frame);
        self.flush()
    }

    /// Writes what is owed, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        loop {
            let between = self.phase == 0 && !self.control.is_empty();
            let bytes = if between {
                &self.control[..]
            } else {
                let rest = &self.frames[self.phase..];
                &rest[..rest.len().min(self.owed)]
            };
            if bytes.is_empty() {
                return Ok(());
            }
            match self.socket.write(bytes) {
                Ok(written) if between => {
                    self.control.drain(..written);
                }
                Ok(written) => {
                    let whole = written == bytes.len();
                    self.owed -= written;
                    self.phase = (self.phase + written) % self.frame_length;
                    if !whole {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets go of what was kept for messages that came in pieces.
    pub(crate) fn rest(&mut self) {
        self.reader = Reader::default();
        self.control = Vec::new();
    }

    /// Reads all there is.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], expected: &Expected) -> io::Result<Seen> {
        let mut all = Seen::default();
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::Error::other("closed without a close frame")),
                Ok(read) => {
                    let seen = self
                        .reader
                        .read(&buffer[..read], expected, &self.mark)
                        .map_err(io::Error::other)?;
                    all.messages += seen.messages;
                    all.own += seen.own;
                    if seen.messages > 0 {
                        all.last = seen.last;
                    }
                    if let Some(pong) = seen.pong {
                        self.control.extend(pong);
                        self.flush()?;
                    }
                    // A read that did not fill the buffer emptied the socket (epoll(7)): no second
                    // one is needed to be told so.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.received += all.messages;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_come_from_several_addresses() {
        let server = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source(server, 9_999), None);
        assert_eq!(source(server, 10_000), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source(server, 59_999), Some(Ipv4Addr::new(127, 0, 0, 6)));
        assert_eq!(source(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 59_999), None);
    }
}
