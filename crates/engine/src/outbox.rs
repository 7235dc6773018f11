//! The outbox: frames waiting to be written to one connection, and the gauge others read.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Outboxes up to this many bytes are copied into one buffer and written with one `send`; beyond
/// it not copying is worth a `writev`.
pub(crate) const GATHER_BYTES: usize = 16 * 1024;
/// Slices one `writev` is given; the kernel takes at most 1,024.
const MAX_SLICES: usize = 64;
/// An empty outbox keeps room for this many chunks and gives the rest back.
const KEPT_CHUNKS: usize = 8;
/// Bytes behind a message that are not held against its size: pongs, above all.
const CONTROL_ROOM: usize = 1_024;
/// A waiting chunk may hold on to this many times its size.
pub(crate) const PINS_AT_MOST: usize = 4;

/// Whole frames in one piece of memory, shared with every other outbox it is in.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    /// How many frames the bytes hold.
    pub(crate) frames: u32,
    /// Bytes of memory that live as long as this chunk: the arena it was cut from.
    pub(crate) pins: usize,
}

impl Chunk {
    /// A frame in memory of its own.
    pub(crate) fn control(bytes: Bytes) -> Self {
        Self { pins: bytes.len(), bytes, frames: 1 }
    }
}

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more for now.
    Blocked,
}

/// Frames in the order they will be written. Owned by the connection's shard.
#[derive(Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written already.
    head_written: usize,
    bytes: usize,
    /// All bytes ever written.
    written: u64,
    /// Chunks from the front that have been looked at by [`Self::unpin`].
    unpinned: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
    }

    /// Bytes queued and not yet written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All bytes ever written; with [`Self::bytes`] the position of whatever is pushed next.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Frames queued, a partly written one included.
    pub(crate) fn frames(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.frames)).sum()
    }

    /// Whether more waits than one message and the control frames that came meanwhile.
    pub(crate) fn is_more_than_one_message(&self) -> bool {
        self.chunks.front().is_some_and(|first| {
            let behind = self.bytes - (first.bytes.len() - self.head_written);
            first.frames > 1 || behind > CONTROL_ROOM
        })
    }

    /// Writes until nothing is left or the socket takes no more. `scratch` is the shard's.
    ///
    /// # Errors
    /// Whatever the socket says, other than that it would block.
    pub(crate) fn flush(
        &mut self,
        socket: &mut impl Sink,
        scratch: &mut Vec<u8>,
    ) -> io::Result<Flushed> {
        while self.bytes > 0 {
            let result = match &self.chunks.as_slices() {
                ([only], []) => socket.write(&only.bytes[self.head_written..]),
                _ if self.bytes <= GATHER_BYTES => {
                    scratch.clear();
                    self.slices(|bytes| scratch.extend_from_slice(bytes));
                    socket.write(scratch)
                }
                _ => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let mut count = 0;
                    for (index, chunk) in self.chunks.iter().take(MAX_SLICES).enumerate() {
                        let from = if index == 0 { self.head_written } else { 0 };
                        slices[index] = IoSlice::new(&chunk.bytes[from..]);
                        count += 1;
                    }
                    socket.write_vectored(&slices[..count])
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.chunks.clear();
        self.unpinned = 0;
        if self.chunks.capacity() > KEPT_CHUNKS {
            self.chunks = VecDeque::new();
        }
        Ok(Flushed::All)
    }

    /// Gives back the room of an empty outbox.
    pub(crate) fn rest(&mut self) {
        if self.chunks.is_empty() && self.chunks.capacity() > 0 {
            self.chunks = VecDeque::new();
        }
    }

    fn slices(&self, mut take: impl FnMut(&[u8])) {
        for (index, chunk) in self.chunks.iter().enumerate() {
            let from = if index == 0 { self.head_written } else { 0 };
            take(&chunk.bytes[from..]);
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        self.written += count as u64;
        while let Some(first) = self.chunks.front() {
            let left = first.bytes.len() - self.head_written;
            if count < left {
                self.head_written += count;
                return;
            }
            count -= left;
            self.head_written = 0;
            self.chunks.pop_front();
            self.unpinned = self.unpinned.saturating_sub(1);
        }
    }

    /// Copies what stays here and holds on to far more memory than its own size: a peer that does
    /// not read must not keep the arenas of whole batches alive.
    pub(crate) fn unpin(&mut self) {
        for chunk in self.chunks.iter_mut().skip(self.unpinned) {
            if chunk.pins / PINS_AT_MOST > chunk.bytes.len() {
                chunk.bytes = Bytes::copy_from_slice(&chunk.bytes);
                chunk.pins = chunk.bytes.len();
            }
        }
        self.unpinned = self.chunks.len();
    }

    /// Drops every chunk of which nothing has been written; returns how many frames that were.
    pub(crate) fn drop_unsent(&mut self) -> u64 {
        let keep = usize::from(self.head_written > 0);
        let dropped =
            self.chunks.iter().skip(keep).map(|chunk| u64::from(chunk.frames)).sum::<u64>();
        self.chunks.truncate(keep);
        self.unpinned = self.unpinned.min(keep);
        self.bytes = self.chunks.front().map_or(0, |first| first.bytes.len() - self.head_written);
        dropped
    }
}

/// Where an outbox writes: a non-blocking socket.
pub(crate) trait Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// How full a connection's outbox is, for the thread that sends.
///
/// Each field has one writer, so that a store is enough: `sent` is the sender's, `settled` the
/// shard's.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Bytes ever sent to this connection alone, uncommitted ones included.
    sent: AtomicU64,
    /// Of those, the ones that reached the outbox, less what the outbox holds now. May wrap below
    /// zero when a broadcast fills the outbox.
    settled: AtomicU64,
}

impl Gauge {
    /// The sender queued `bytes` more. Called by the sending thread only.
    pub(crate) fn add_sent(&self, bytes: u64) {
        let sent = self.sent.load(Ordering::Relaxed);
        self.sent.store(sent.wrapping_add(bytes), Ordering::Relaxed);
    }

    /// The shard has taken `received` of the sent bytes so far and holds `queued` of any kind.
    pub(crate) fn settle(&self, received: u64, queued: usize) {
        self.settled.store(received.wrapping_sub(queued as u64), Ordering::Release);
    }

    /// Bytes queued and not yet written.
    pub fn buffered(&self) -> u64 {
        let settled = self.settled.load(Ordering::Acquire);
        self.sent.load(Ordering::Relaxed).wrapping_sub(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes in all, at most `step` of them a call, then blocks.
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
        step: usize,
        calls: usize,
    }

    impl Pipe {
        fn new(room: usize, step: usize) -> Self {
            Self { taken: Vec::new(), room, step, calls: 0 }
        }
    }

    impl Sink for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let count = bytes.len().min(self.step).min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut count = 0;
            for slice in slices {
                // Like the kernel: it stops at the first slice that does not fit whole.
                let room = self.step.min(self.room).saturating_sub(count);
                let taken = slice.len().min(room);
                self.taken.extend_from_slice(&slice[..taken]);
                count += taken;
                if taken < slice.len() {
                    break;
                }
            }
            self.calls += 1;
            self.room -= count;
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        }
    }

    fn filled(sizes: &[usize]) -> (Outbox, Vec<u8>) {
        let mut outbox = Outbox::default();
        let mut all = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let bytes = vec![index as u8; *size];
            all.extend_from_slice(&bytes);
            outbox.push(Chunk::control(bytes.into()));
        }
        (outbox, all)
    }

    #[test]
    fn every_way_of_writing_keeps_the_order() {
        for sizes in [&[5][..], &[5, 6, 7], &[20_000, 3, 9_000], &[700; 90], &[1; 200]] {
            for step in [1, 4, 1_000, usize::MAX] {
                let (mut outbox, all) = filled(sizes);
                let mut pipe = Pipe::new(usize::MAX, step);
                let flushed = outbox.flush(&mut pipe, &mut Vec::new()).expect("open");
                assert_eq!(flushed, Flushed::All);
                assert!(pipe.taken == all, "{} chunks, {step} a write", sizes.len());
                assert_eq!(outbox.bytes(), 0);
                assert_eq!(outbox.written(), all.len() as u64);
            }
        }
    }

    #[test]
    fn many_small_frames_are_one_write() {
        let (mut outbox, _) = filled(&[70; 32]);
        let mut pipe = Pipe::new(usize::MAX, usize::MAX);
        outbox.flush(&mut pipe, &mut Vec::new()).expect("open");
        assert_eq!(pipe.calls, 1);
    }

    #[test]
    fn a_partly_written_frame_is_finished_when_the_rest_is_dropped() {
        let (mut outbox, all) = filled(&[10, 10, 10]);
        let mut pipe = Pipe::new(14, usize::MAX);
        let flushed = outbox.flush(&mut pipe, &mut Vec::new()).expect("open");
        assert_eq!(flushed, Flushed::Blocked);
        assert_eq!(outbox.drop_unsent(), 1);
        assert_eq!(outbox.bytes(), 6);
        pipe.room = 100;
        outbox.flush(&mut pipe, &mut Vec::new()).expect("open");
        assert_eq!(pipe.taken, all[..20]);
    }

    #[test]
    fn what_waits_does_not_keep_a_whole_arena_alive() {
        let arena = Bytes::from(vec![7; 100_000]);
        let mut outbox = Outbox::default();
        for at in [10, 50_000] {
            let bytes = arena.slice(at..at + 10);
            outbox.push(Chunk { bytes, frames: 1, pins: arena.len() });
        }
        outbox.unpin();
        assert!(arena.is_unique(), "both small chunks were copied");
        let mut pipe = Pipe::new(usize::MAX, usize::MAX);
        outbox.flush(&mut pipe, &mut Vec::new()).expect("open");
        assert_eq!(pipe.taken, [7; 20]);
    }

    #[test]
    fn the_gauge_counts_what_is_sent_broadcast_and_written() {
        let gauge = Gauge::default();
        gauge.add_sent(100);
        assert_eq!(gauge.buffered(), 100, "not yet committed");
        gauge.settle(100, 150);
        assert_eq!(gauge.buffered(), 150, "a broadcast of 50 came on top");
        gauge.add_sent(30);
        assert_eq!(gauge.buffered(), 180);
        gauge.settle(130, 0);
        assert_eq!(gauge.buffered(), 0, "all written");
    }
}
