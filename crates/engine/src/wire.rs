//! The socket as hyper sees it: it ends when its time is over, writes what is small at once, and is not
//! closed before a client that was answered early has finished.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::traffic::Traffic;

/// Head and body up to this many bytes are joined: a copy costs less than the kernel's look at a list.
const JOINED: usize = 1024;

/// What a client sends in vain is read in pieces of this many bytes.
const DISCARDED: usize = 16 * 1024;
/// Before others have their turn again, so many of them.
const DISCARDS_A_TURN: usize = 16;

/// A socket that carries requests.
pub(crate) struct Wire {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic }
    }

    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.traffic.went();
            return written;
        }
        self.traffic.filled();
        if !self.traffic.is_send_late() {
            return Poll::Pending;
        }
        // The kernel says that there is room only when a third of its buffer is free, which takes a
        // slow client long. If it took anything, this fits.
        match SockRef::from(&self.stream).send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            written => {
                self.traffic.went();
                Poll::Ready(written)
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.traffic.awaits_answer() {
            // The task is woken by the answer, and by the sweep.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if is_end && self.traffic.came_to_end() {
            return Poll::Pending;
        }
        if read.is_pending() && self.traffic.is_head_late() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.traffic.came(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.wrote(written, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length <= JOINED {
            let mut joined = [0; JOINED];
            let mut end = 0;
            for slice in slices {
                joined[end..end + slice.len()].copy_from_slice(slice);
                end += slice.len();
            }
            return self.poll_write(task, &joined[..end]);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.wrote(written, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once it has written all it had.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.traffic.flush();
        // A socket has no buffer of its own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(task))?;
        let mut bytes = [MaybeUninit::uninit(); DISCARDED];
        for _ in 0..DISCARDS_A_TURN {
            if !self.traffic.lingers() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(task, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The end, or an error: nothing more comes.
                _ => return Poll::Ready(Ok(())),
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
