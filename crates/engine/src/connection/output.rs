//! What goes to the peer: frames queued, compressed where that was agreed, written as far as the
//! socket takes them, and dropped from one that takes too little.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::{Connection, Inner, wake};
use crate::close;
use crate::codec::Decoder;
use crate::deflate::Deflated;
use crate::event::{Event, LogLevel};
use crate::keepalive::Phase;
use crate::message;
use crate::outbox::{Chunk, Flushed};
use crate::socket::{self, LastSink, Socket, TcpSink};

impl Connection {
    /// Queues a frame that was sent to this connection alone, compressed if that was agreed.
    pub(crate) fn push_frame(self: &Rc<Self>, frame: Bytes) {
        let sent = frame.len();
        let frame = match self.window {
            Some(window) if self.sends() && self.is_compressible(&frame) => {
                self.context.deflater.borrow_mut().deflate(&frame, window)
            }
            _ => frame,
        };
        self.push(Chunk::control(frame), sent);
    }

    /// Queues a frame that goes to many, compressed if that was agreed: once for all of them.
    pub(crate) fn push_shared(self: &Rc<Self>, chunk: &Chunk, deflated: Option<&Deflated>) {
        let chunk = match (self.window, deflated) {
            (Some(window), Some(deflated)) => {
                let deflater = &mut self.context.deflater.borrow_mut();
                Chunk::control(deflated.frame(&chunk.bytes, window, deflater))
            }
            _ => chunk.clone(),
        };
        self.push(chunk, 0);
    }

    fn sends(&self) -> bool {
        self.inner.borrow().phase.sends()
    }

    fn is_compressible(&self, frame: &[u8]) -> bool {
        message::payload(frame).len() >= self.context.config().compression_threshold
    }

    /// Queues whole frames, unless the connection is closing. `sent` says how many bytes of frames
    /// were sent to this connection alone, before any compression. They are written by the next
    /// [`Self::flush`].
    pub(crate) fn push(self: &Rc<Self>, chunk: Chunk, sent: usize) {
        let inner = &mut *self.inner.borrow_mut();
        inner.received += sent as u64;
        if inner.phase.sends() {
            inner.outbox.push(chunk);
            self.mark_dirty();
        }
        self.gauge.settle(inner.received, inner.outbox.bytes());
    }

    /// Emits one `Drained` once everything queued by now is written.
    pub(crate) fn drain(&self) {
        let inner = &mut *self.inner.borrow_mut();
        let position = inner.outbox.written() + inner.outbox.bytes() as u64;
        if inner.phase == Phase::Ended || inner.outbox.bytes() == 0 {
            self.context.event(Event::Drained { handle: self.handle });
        } else {
            inner.rare().drains.push(position);
        }
    }

    /// Writes what is queued.
    pub(crate) fn flush(&self) {
        self.dirty.set(false);
        #[cfg(test)]
        self.strike(super::fault_tests::Fault::Output);
        let inner = &mut *self.inner.borrow_mut();
        if matches!(inner.phase, Phase::Settling { .. }) && inner.waiting.events == 0 {
            self.settled(inner);
        } else {
            self.flush_inner(inner);
        }
    }

    pub(super) fn flush_inner(&self, inner: &mut Inner) {
        let Some(Socket { stream, .. }) = &mut inner.socket else {
            return;
        };
        if !inner.blocked {
            let scratch = &mut *self.context.scratch.borrow_mut();
            let mut flushed = match inner.phase {
                Phase::Closed { .. } => inner.outbox.flush(&mut LastSink(stream), scratch),
                _ => inner.outbox.flush(&mut TcpSink(stream), scratch),
            };
            if let (Ok(Flushed::All), Phase::Open) = (&flushed, inner.phase)
                && let Some(pong) = inner.rare.as_mut().and_then(|rare| rare.pong.take())
            {
                inner.outbox.push(Chunk::control(pong));
                flushed = inner.outbox.flush(&mut TcpSink(stream), scratch);
            }
            match flushed {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => {
                    inner.blocked = true;
                    // The task waits for room; it alone can be woken by the socket.
                    wake(inner);
                }
                Err(_) => return self.end(inner),
            }
        }
        inner.outbox.unpin();
        if inner.phase.sends() {
            self.check_backlog(inner);
        }
        self.wrote(inner);
        if matches!(inner.phase, Phase::Closed { .. }) && inner.outbox.bytes() == 0 {
            if let Some(Socket { stream, .. }) = &inner.socket {
                socket::end(stream);
            }
            self.end(inner);
        }
    }

    /// Brings gauge, meter and whoever waits for a drain up to date.
    pub(super) fn wrote(&self, inner: &mut Inner) {
        let left = inner.outbox.bytes();
        self.gauge.settle(inner.received, left);
        if left != inner.metered {
            self.context.meter_outbox(left as isize - inner.metered as isize);
            inner.metered = left;
        }
        if let Some(rare) = &mut inner.rare {
            let written = inner.outbox.written();
            let all = left == 0;
            rare.drains.retain(|position| {
                let waits = !all && *position > written;
                if !waits {
                    self.context.event(Event::Drained { handle: self.handle });
                }
                waits
            });
        }
    }

    /// A slow consumer is closed, so that it costs nobody else memory. One message always fits.
    fn check_backlog(&self, inner: &mut Inner) {
        let cap = self.context.config().max_backlog;
        if inner.outbox.bytes() > cap && inner.outbox.is_more_than_one_message() {
            self.shed(inner, "reading too slowly");
        }
    }

    /// Drops whole unsent frames and closes with 1013; a partly written frame is finished.
    fn shed(&self, inner: &mut Inner, reason: &str) {
        let dropped = inner.outbox.drop_unsent();
        let counters = &self.context.shared.counters;
        counters.dropped_frames.fetch_add(dropped, Ordering::Relaxed);
        counters.slow_consumers.fetch_add(1, Ordering::Relaxed);
        let message = format!("closed with 1013, {reason}: {dropped} frames dropped");
        self.context.queue.log(LogLevel::Warning, Some(self.handle), message);
        inner.outbox.push(Chunk::control(message::close_frame(close::TRY_AGAIN, reason)));
        let since = Instant::now();
        let violated = inner.rare.as_ref().is_some_and(|rare| rare.violation.is_some());
        inner.phase = match inner.phase {
            Phase::Settling { .. } if violated => Phase::Failing { since },
            Phase::Settling { .. } => Phase::Closed { since },
            _ => Phase::Closing { since },
        };
        wake(inner);
    }

    /// What closing this connection with 1013 could free, in bytes: of its outbox, and of a message
    /// it has not finished.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        let inner = self.inner.borrow();
        if inner.phase.sends() { (inner.metered, inner.assembling) } else { (0, 0) }
    }

    /// Closes with 1013 because the process holds too much.
    pub(crate) fn shed_for_memory(&self) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.phase.sends() {
            self.shed(inner, "the server is out of buffer memory");
            if inner.assembling > 0 {
                // The rest of the unfinished message means nothing without its beginning.
                inner.decoder = Decoder::default();
                inner.rare().rest = Box::default();
                inner.phase = Phase::Failing { since: Instant::now() };
                self.meter_decoder(inner);
            }
            self.flush_inner(inner);
        }
    }
}
