//! The socket as hyper sees it, with the times hyper does not watch: how long a head may take from
//! its first byte, and how long a client may take nothing of what it is sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

/// What a wire and the requests that come over it tell each other. Atomic because hyper wants a
/// stream that can be sent; all of it stays on one thread.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// A head has arrived, and its request is not answered yet.
    serving: AtomicBool,
    /// A head has arrived, and the wire does not know yet.
    arrived: AtomicBool,
    /// The socket is full: something waits to be written.
    full: AtomicBool,
    flushed: Notify,
}

impl Traffic {
    /// A request is about to be answered.
    pub(crate) fn begin(&self) {
        self.arrived.store(true, Ordering::Relaxed);
        self.serving.store(true, Ordering::Relaxed);
    }

    /// Its answer is there.
    pub(crate) fn end(&self) {
        self.serving.store(false, Ordering::Relaxed);
    }

    /// Waits until all that was answered is on its way. hyper reads the next request of a client
    /// that takes no answers, and would gather them without end.
    pub(crate) async fn flushed(&self) {
        while self.full.load(Ordering::Relaxed) {
            self.flushed.notified().await;
        }
    }
}

/// The time of one thing, which runs while it is pending.
struct Timer {
    limit: Duration,
    running: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(limit: Duration) -> Self {
        Self { limit, running: None }
    }

    fn start(&mut self) {
        let limit = self.limit;
        self.running.get_or_insert_with(|| Box::pin(sleep(limit)));
    }

    fn stop(&mut self) {
        self.running = None;
    }

    /// Fails once the time is over.
    fn check<T>(&mut self, task: &mut Context<'_>) -> Poll<io::Result<T>> {
        if let Some(running) = &mut self.running {
            ready!(running.as_mut().poll(task));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

/// A socket that carries requests.
pub(crate) struct Wire {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    head: Timer,
    send: Timer,
}

impl Wire {
    /// The time of the first head begins at once, so that it bounds silence too.
    pub(crate) fn new(
        stream: TcpStream,
        traffic: Arc<Traffic>,
        head_timeout: Duration,
        send_timeout: Duration,
    ) -> Self {
        let mut head = Timer::new(head_timeout);
        head.start();
        Self { stream, traffic, head, send: Timer::new(send_timeout) }
    }

    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn wrote(
        &mut self,
        task: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.send.stop();
            return written;
        }
        self.traffic.full.store(true, Ordering::Relaxed);
        self.send.start();
        let late = ready!(self.send.check(task));
        // The kernel says that there is room only when a third of its buffer is free, which takes a
        // slow client long. If it took anything, this fits.
        match SockRef::from(&self.stream).send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(late),
            written => {
                self.send.stop();
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if self.traffic.arrived.swap(false, Ordering::Relaxed) {
            self.head.stop();
        }
        if self.traffic.serving.load(Ordering::Relaxed) {
            return read;
        }
        if read.is_pending() {
            return self.head.check(task);
        }
        if buffer.filled().len() > before {
            self.head.start();
        }
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
        self.wrote(task, written, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.wrote(task, written, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once it has written all it had.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.traffic.full.swap(false, Ordering::Relaxed) {
            self.traffic.flushed.notify_one();
        }
        // A socket has no buffer of its own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
