//! Asks a server to keep its JavaScript thread busy, and notes how long it was.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Interest, Poll, Token};

pub(crate) const BLOCK: Token = Token(usize::MAX - 1);

const MAX_ANSWER: usize = 16 * 1024;

/// A connection of its own for one `GET /block?ms=N`.
pub(crate) struct Block {
    socket: mio::net::TcpStream,
    length: Duration,
    asked: Option<Instant>,
    answer: Vec<u8>,
    /// From asking until the answer began.
    pub(crate) took: Option<Duration>,
}

impl Block {
    /// Connects; nothing is asked yet.
    pub(crate) fn connect(poll: &Poll, address: SocketAddr, length: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, BLOCK, Interest::READABLE)?;
        Ok(Self { socket, length, asked: None, answer: Vec::new(), took: None })
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Asks, once.
    pub(crate) fn ask(&mut self) -> io::Result<()> {
        if self.asked.is_some() {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        let milliseconds = self.length.as_millis();
        // A new connection takes a request of this size whole.
        write!(self.socket, "GET /block?ms={milliseconds} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }

    /// # Errors
    /// When the answer is not 200, or none comes.
    pub(crate) fn readable(&mut self) -> io::Result<()> {
        let mut chunk = [0; 1024];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) if self.took.is_some() => return Ok(()),
                Ok(0) => return Err(io::Error::other("the server did not answer /block")),
                Ok(read) => self.answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.answer.len() > MAX_ANSWER {
                return Err(io::Error::other("the server's answer to /block has no end"));
            }
        }
        if self.took.is_some() || !self.answer.windows(2).any(|pair| pair == b"\r\n") {
            return Ok(());
        }
        let status = String::from_utf8_lossy(&self.answer);
        let status = status.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(io::Error::other(format!("the server refused /block: {status}")));
        }
        self.took = self.asked.map(|asked| asked.elapsed());
        Ok(())
    }
}
