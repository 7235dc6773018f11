//! The least a server can do: the bench's work with one thread, one `read` for what is ready on a
//! connection and one `write` for each recipient. What it costs is what the kernel costs, so it
//! tells how much of a server's growth is not the server's.
//!
//! It speaks with the load generator only: it knows the answer to that one's key, believes what
//! frames say, and ends when a peer does not take everything at once. It prints `port N` and ends
//! with its standard input.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const READ_BUFFER: usize = 256 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const GREETING: &[u8] = b"\x81\x05ready";

fn main() -> io::Result<()> {
    let mut server = Server::listen()?;
    thread::spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        std::process::exit(0);
    });
    loop {
        server.turn()?;
    }
}

#[derive(Clone, Copy)]
enum Place {
    Opening,
    Echo,
    Room(usize),
}

struct Connection {
    socket: TcpStream,
    part: Vec<u8>,
    place: Place,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
    names: HashMap<String, usize>,
    rooms: Vec<Vec<usize>>,
}

impl Server {
    fn listen() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        println!("port {}", listener.local_addr()?.port());
        Ok(Self {
            poll,
            listener,
            buffer: vec![0; READ_BUFFER],
            connections: Vec::new(),
            names: HashMap::new(),
            rooms: Vec::new(),
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(index) => self.readable(index)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let token = Token(self.connections.len());
            self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
            let connection = Connection { socket, part: Vec::new(), place: Place::Opening };
            self.connections.push(Some(connection));
        }
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let read = match connection.socket.read(&mut self.buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => 0,
        };
        if read == 0 {
            // Nobody is told any more, and the place in its room is left as it is.
            self.connections[index] = None;
            return Ok(());
        }
        let place = connection.place;
        connection.part.extend_from_slice(&self.buffer[..read]);
        let mut bytes = std::mem::take(&mut connection.part);
        match place {
            Place::Opening => self.open(index, &mut bytes)?,
            Place::Echo => {
                let answer = take_messages(&mut bytes);
                write_all(&mut connection.socket, &answer)?;
            }
            Place::Room(room) => {
                let answer = take_messages(&mut bytes);
                self.broadcast(room, &answer)?;
            }
        }
        if let Some(connection) = &mut self.connections[index] {
            connection.part = bytes;
        }
        Ok(())
    }

    fn open(&mut self, index: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let head = String::from_utf8_lossy(bytes);
        if !head.ends_with("\r\n\r\n") {
            return Ok(());
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        bytes.clear();
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        if path == "/echo" {
            connection.place = Place::Echo;
            return write_all(&mut connection.socket, ANSWER);
        }
        let room = *self.names.entry(path).or_insert_with(|| {
            self.rooms.push(Vec::new());
            self.rooms.len() - 1
        });
        self.rooms[room].push(index);
        connection.place = Place::Room(room);
        write_all(&mut connection.socket, &[ANSWER, GREETING].concat())
    }

    fn broadcast(&mut self, room: usize, bytes: &[u8]) -> io::Result<()> {
        for member in &self.rooms[room] {
            if let Some(connection) = &mut self.connections[*member] {
                write_all(&mut connection.socket, bytes)?;
            }
        }
        Ok(())
    }
}

fn write_all(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match socket.write(bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::other("a peer is too slow for this server")),
        // It is gone, and its next event says so.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the whole frames at the beginning; returns them as a server sends them.
fn take_messages(bytes: &mut Vec<u8>) -> Vec<u8> {
    let mut answer = Vec::with_capacity(bytes.len());
    let mut taken = 0;
    while let Some((header, length)) = header(&bytes[taken..]) {
        let payload = taken + header + 4;
        if payload + length > bytes.len() {
            break;
        }
        answer.push(bytes[taken]);
        answer.push(bytes[taken + 1] & 0x7f);
        answer.extend_from_slice(&bytes[taken + 2..taken + header]);
        let mask = bytes[payload - 4..payload].to_vec();
        let masked = bytes[payload..payload + length].iter().zip(mask.iter().cycle());
        answer.extend(masked.map(|(byte, key)| byte ^ key));
        taken = payload + length;
    }
    bytes.drain(..taken);
    answer
}

/// Lengths of a frame's header without the key, and of its payload.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    Some(match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_sent_on_without_their_mask() {
        let masked = b"\x81\x82\x01\x01\x01\x01ih".to_vec();
        let mut bytes = [masked.clone(), masked.clone(), masked[..5].to_vec()].concat();
        assert_eq!(take_messages(&mut bytes), b"\x81\x02hi\x81\x02hi");
        assert_eq!(bytes, masked[..5]);
    }
}
