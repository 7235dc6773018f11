//! The socket of an upgraded connection, and the two ways of writing to it.

use std::io::{self, IoSlice};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::outbox::Sink;
use crate::shared::{Load, Place};

/// A connection's socket, counted until it closes.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    /// Held, not read.
    pub(crate) _load: Load,
    /// Held, not read.
    pub(crate) _place: Place,
}

/// A socket that tokio watches: writing nothing when it is known to be full.
pub(crate) struct TcpSink<'a>(pub(crate) &'a mut TcpStream);

impl Sink for TcpSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }
}

/// A socket of which tokio knows only that it was full.
pub(crate) struct FullSink<'a>(pub(crate) SockRef<'a>);

impl Sink for FullSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored(slices)
    }
}
