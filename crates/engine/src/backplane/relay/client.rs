//! A worker's link to the relay.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{GREETING, HEADER, MAX_PAYLOAD, Parsed, header, make_room, parse};
use crate::backplane::channel::{BATCH, Channel, LinkError};
use crate::backplane::socket;
use crate::config::bus::Address;

/// What is gathered for one write.
const WRITE_BLOCK: usize = 64 * 1024;

/// A payload from this size on is written where it is.
const LARGE: usize = 16 * 1024;

/// Connects and waits for the greeting.
pub(crate) async fn connect(path: &Path) -> Result<(Sender, Receiver), LinkError> {
    let mut stream = UnixStream::connect(path)
        .await
        .map_err(|error| socket::unreachable(&Address::Unix(path.to_owned()), &error))?;
    let mut greeting = [0; HEADER];
    stream.read_exact(&mut greeting).await.map_err(|error| socket::ended(&error))?;
    if greeting != GREETING {
        return Err(LinkError::new("what answers there is no relay"));
    }
    let (read, write) = stream.into_split();
    Ok((Sender { write, block: Vec::new() }, Receiver { read, buffer: BytesMut::new() }))
}

/// The half that writes.
pub(crate) struct Sender {
    write: OwnedWriteHalf,
    block: Vec<u8>,
}

impl Sender {
    pub(crate) async fn send(&mut self, messages: &[(Channel, Bytes)]) -> Result<(), LinkError> {
        self.write_all(messages).await.map_err(|error| socket::ended(&error))
    }

    async fn write_all(&mut self, messages: &[(Channel, Bytes)]) -> std::io::Result<()> {
        let Self { write, block } = self;
        block.clear();
        for (channel, payload) in messages {
            if payload.len() > MAX_PAYLOAD {
                return Err(std::io::Error::other("a message is too large for the relay"));
            }
            block.extend_from_slice(&header(*channel, payload));
            let large = payload.len() >= LARGE;
            if !large {
                block.extend_from_slice(payload);
            }
            if large || block.len() >= WRITE_BLOCK {
                write.write_all(block).await?;
                block.clear();
            }
            if large {
                write.write_all(payload).await?;
            }
        }
        write.write_all(block).await
    }
}

/// The half that reads.
pub(crate) struct Receiver {
    read: OwnedReadHalf,
    /// What was read and not yet handed out; a frame that is not complete waits here.
    buffer: BytesMut,
}

impl Receiver {
    pub(crate) async fn receive(
        &mut self,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> Result<(), LinkError> {
        let before = into.len();
        loop {
            let mut frame = HEADER;
            while into.len() - before < BATCH {
                match parse(&self.buffer) {
                    Parsed::Frame(channel, length) => {
                        let mut whole = self.buffer.split_to(HEADER + length);
                        into.push((channel, whole.split_off(HEADER).freeze()));
                    }
                    Parsed::Incomplete(bytes) => {
                        frame = bytes;
                        break;
                    }
                    Parsed::Garbage => {
                        return Err(LinkError::new("the relay sent something that is no frame"));
                    }
                }
            }
            if into.len() > before {
                return Ok(());
            }
            make_room(&mut self.buffer, frame);
            match self.read.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(LinkError::new("the relay closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(socket::ended(&error)),
            }
        }
    }
}
