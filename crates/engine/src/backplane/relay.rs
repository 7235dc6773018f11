//! The relay: the bus between the workers of one machine, over a Unix socket.
//!
//! # Format
//!
//! ```text
//! u32 length of the payload, big-endian | u8 channel | payload
//! ```
//!
//! The relay passes a message on to all other links and a control message to all, its sender
//! included, each as it came. Its first frame to a link is a greeting: from then on the link misses
//! nothing.

#[cfg(not(unix))]
pub(crate) use absent::{Receiver, Sender, connect};
#[cfg(unix)]
pub(crate) use client::{Receiver, Sender, connect};

#[cfg(not(unix))]
pub use absent::Relay;
#[cfg(unix)]
pub use server::Relay;

use super::channel::Channel;

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod server;
#[cfg(all(test, unix))]
mod tests;

/// The longest payload; a link that sends a longer one is closed.
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024 * 1024;

/// Length and channel.
const HEADER: usize = 5;

/// What a link gets first.
const GREETING: [u8; HEADER] = [0, 0, 0, 0, 255];

/// Room that a read finds at least, and what is allocated when there is less.
const READ_ROOM: usize = 16 * 1024;
const READ_BLOCK: usize = 64 * 1024;

fn header(channel: Channel, payload: &[u8]) -> [u8; HEADER] {
    // Longer ones are refused before.
    let [a, b, c, d] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, channel as u8]
}

/// What stands at the beginning of `bytes`.
enum Parsed {
    /// A frame with a payload of so many bytes.
    Frame(Channel, usize),
    /// A frame of so many bytes has begun, as far as that is known.
    Incomplete(usize),
    /// No frame of ours.
    Garbage,
}

fn parse(bytes: &[u8]) -> Parsed {
    let Some((&[a, b, c, d, channel], rest)) = bytes.split_first_chunk() else {
        return Parsed::Incomplete(HEADER);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let Some(channel) = Channel::ALL.into_iter().find(|known| *known as u8 == channel) else {
        return Parsed::Garbage;
    };
    if length > MAX_PAYLOAD {
        Parsed::Garbage
    } else if rest.len() < length {
        Parsed::Incomplete(HEADER + length)
    } else {
        Parsed::Frame(channel, length)
    }
}

/// Makes room for the next read, for all of a frame that has begun.
fn make_room(buffer: &mut bytes::BytesMut, frame: usize) {
    let missing = frame.saturating_sub(buffer.len()).max(READ_ROOM);
    if buffer.capacity() - buffer.len() < missing {
        buffer.reserve(missing.max(READ_BLOCK));
    }
}

#[cfg(not(unix))]
mod absent {
    use std::io;
    use std::path::Path;

    use bytes::Bytes;

    use crate::backplane::channel::{Channel, LinkError};

    const ABSENT: &str =
        "the relay between workers needs Unix sockets, which this system does not have";

    /// There is none on this system.
    pub struct Relay(());

    impl Relay {
        /// # Errors
        ///
        /// Always.
        pub fn bind(_path: &Path) -> io::Result<Self> {
            Err(io::Error::new(io::ErrorKind::Unsupported, ABSENT))
        }
    }

    pub(crate) enum Sender {}
    pub(crate) enum Receiver {}

    pub(crate) async fn connect(_path: &Path) -> Result<(Sender, Receiver), LinkError> {
        Err(LinkError::new(ABSENT))
    }

    impl Sender {
        pub(crate) async fn send(
            &mut self,
            _messages: &[(Channel, Bytes)],
        ) -> Result<(), LinkError> {
            match *self {}
        }
    }

    impl Receiver {
        pub(crate) async fn receive(
            &mut self,
            _into: &mut Vec<(Channel, Bytes)>,
        ) -> Result<(), LinkError> {
            match *self {}
        }
    }
}
