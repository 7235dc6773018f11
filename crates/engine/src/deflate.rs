//! permessage-deflate (RFC 7692): messages compressed on the way out and inflated on the way in.
//!
//! No context is taken over from one message to the next, in either direction, so that a
//! connection holds nothing for it: a shard has one compressor for each size of window and one
//! decompressor, which all its connections use in turn, and what is broadcast is compressed once
//! for all who agreed on the same window.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::message;

/// What ends a compressed message and is not sent (RFC 7692 section 7.2.1): an empty stored block
/// without its first bits.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Other connections wait while one is compressed for. Of 4 KiB of JSON level 1 leaves 24 % in 4 µs,
/// level 2 17 % in 10 µs, level 6 16 % in 13 µs; of 256 KiB 19 %, 14 % and 12 % in 0.2, 0.4 and 1.4 ms.
const LEVEL: Compression = Compression::new(2);
/// First room for an inflated message, in bytes.
const FIRST_ROOM: usize = 4 * 1024;
/// The output buffer is kept for the next message up to this many bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// How far back a compressed message may refer: 2⁹ to 2¹⁵ bytes (RFC 7692 section 7.1.2.1).
///
/// The RFC also allows 2⁸, which the library cannot keep to; who insists on it gets no compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(u8);

impl Window {
    pub(crate) const MIN_BITS: u8 = 9;
    pub(crate) const MAX_BITS: u8 = 15;
    const COUNT: usize = (Self::MAX_BITS - Self::MIN_BITS + 1) as usize;

    /// A window of 2 to the power of `bits`; `None` for one that cannot be kept to.
    pub(crate) fn new(bits: u8) -> Option<Self> {
        (Self::MIN_BITS..=Self::MAX_BITS).contains(&bits).then_some(Self(bits))
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    fn index(self) -> usize {
        usize::from(self.0 - Self::MIN_BITS)
    }
}

/// The compressors of one shard, each made when it is first needed.
///
/// One of the largest window takes about 300 KB.
#[derive(Default)]
pub(crate) struct Deflater {
    by_window: [Option<Compress>; Window::COUNT],
    output: Vec<u8>,
}

impl Deflater {
    /// Compresses the payload of a data frame that is alone in `frame`. Gives `frame` back where
    /// that would not make it smaller.
    pub(crate) fn deflate(&mut self, frame: &Bytes, window: Window) -> Bytes {
        self.smaller(frame, window).unwrap_or_else(|| frame.clone())
    }

    fn smaller(&mut self, frame: &Bytes, window: Window) -> Option<Bytes> {
        let payload = message::payload(frame);
        let compress = self.by_window[window.index()]
            .get_or_insert_with(|| Compress::new_with_window_bits(LEVEL, false, window.bits()));
        compress.reset();
        // What does not fit into as many bytes is not worth sending compressed.
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        output.reserve(payload.len());
        let status = compress.compress_vec(payload, &mut output, FlushCompress::Sync);
        let whole = status.is_ok()
            && compress.total_in() == payload.len() as u64
            && output.len() < payload.len();
        let frame = match output.strip_suffix(&TAIL) {
            Some(compressed) if whole => Some(message::compressed_frame(frame, compressed)),
            _ => None,
        };
        if output.capacity() <= KEPT_BYTES {
            self.output = output;
        }
        frame
    }
}

/// One frame as each size of window needs it, compressed for the first connection that has it,
/// whichever shard that is on.
#[derive(Debug, Default)]
pub(crate) struct Deflated {
    by_window: [OnceLock<Bytes>; Window::COUNT],
}

impl Deflated {
    pub(crate) fn frame(&self, frame: &Bytes, window: Window, deflater: &mut Deflater) -> Bytes {
        let deflated = &self.by_window[window.index()];
        deflated.get_or_init(|| deflater.deflate(frame, window)).clone()
    }
}

/// Why a compressed message cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It would be larger than the limit.
    TooBig,
    /// It is not what deflate makes (RFC 1951).
    Invalid,
}

/// The decompressor of one shard, made when it is first needed. It takes about 50 KB, and up to the
/// message limit while a message is inflated.
#[derive(Default)]
pub(crate) struct Inflater {
    decompress: Option<Decompress>,
    output: Vec<u8>,
}

impl Inflater {
    /// Inflates one message of at most `limit` bytes. No more memory is taken than that, whatever
    /// the payload says.
    ///
    /// # Errors
    /// [`InflateError`]; what was inflated until then is dropped.
    pub(crate) fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], InflateError> {
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(false));
        decompress.reset(false);
        if self.output.capacity() > KEPT_BYTES {
            self.output = Vec::new();
        }
        self.output.clear();
        for input in [payload, &TAIL] {
            inflate_part(decompress, input, &mut self.output, limit)?;
        }
        Ok(&self.output)
    }
}

fn inflate_part(
    decompress: &mut Decompress,
    mut input: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), InflateError> {
    loop {
        if output.len() == output.capacity() {
            // One byte more than allowed shows that there is more.
            let room = output.len().max(FIRST_ROOM).min(limit + 1 - output.len());
            output.reserve_exact(room);
        }
        let (taken, made) = (decompress.total_in(), output.len());
        let status = decompress
            .decompress_vec(input, output, FlushDecompress::Sync)
            .map_err(|_| InflateError::Invalid)?;
        if output.len() > limit {
            return Err(InflateError::TooBig);
        }
        let taken = (decompress.total_in() - taken) as usize;
        input = &input[taken..];
        let full = output.len() == output.capacity();
        match status {
            // A block may say that it is the last one; another may follow all the same (RFC 7692
            // section 7.2.3.4).
            Status::StreamEnd => decompress.reset(false),
            Status::Ok | Status::BufError if full => continue,
            _ if taken == 0 && output.len() == made && !input.is_empty() => {
                return Err(InflateError::Invalid);
            }
            _ => {}
        }
        if input.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::message::Kind;

    fn window(bits: u8) -> Window {
        Window::new(bits).expect("a window")
    }

    fn frame(payload: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        message::put_header(&mut frame, Kind::Text, payload.len());
        frame.extend_from_slice(payload);
        frame.freeze()
    }

    fn prose(length: usize) -> Vec<u8> {
        let words = ["room", "message", "hello", "you", "there", "42", "{\"a\":", "}, "];
        let mut text = Vec::new();
        let mut state = 7_u32;
        while text.len() < length {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            text.extend_from_slice(words[(state >> 16) as usize % words.len()].as_bytes());
        }
        text.truncate(length);
        text
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn what_is_deflated_is_inflated_to_the_same_bytes() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        for bits in Window::MIN_BITS..=Window::MAX_BITS {
            for length in [60, 4_096, 4_097, 70_000, 1 << 20] {
                let payload = prose(length);
                let deflated = deflater.deflate(&frame(&payload), window(bits));
                assert_eq!(deflated[0], 0xC1, "FIN, RSV1, text");
                assert!(deflated.len() < payload.len());
                let inflated = inflater.inflate(message::payload(&deflated), 1 << 20);
                assert!(inflated == Ok(&payload), "{length} bytes, {bits} bits");
            }
        }
    }

    #[test]
    fn what_would_not_get_smaller_stays_as_it_is() {
        let mut deflater = Deflater::default();
        for payload in [noise(5_000), vec![], b"x".to_vec(), noise(100_000)] {
            let frame = frame(&payload);
            assert_eq!(deflater.deflate(&frame, window(15)), frame);
        }
        let after = deflater.deflate(&frame(&prose(5_000)), window(15));
        assert!(after.len() < 5_000, "and the next one is none the worse for it");
    }

    #[test]
    fn a_frame_is_compressed_once_for_each_window() {
        let (plain, deflated) = (frame(&prose(5_000)), Deflated::default());
        let (mut one, mut other) = (Deflater::default(), Deflater::default());
        let first = deflated.frame(&plain, window(15), &mut one);
        let second = deflated.frame(&plain, window(15), &mut other);
        assert_eq!(first.as_ptr(), second.as_ptr(), "the same memory");
        let narrow = deflated.frame(&plain, window(9), &mut other);
        assert_ne!(first.as_ptr(), narrow.as_ptr());
    }

    #[test]
    fn a_bomb_is_refused_with_no_more_memory_than_the_limit() {
        let bomb = Deflater::default().deflate(&frame(&vec![b'a'; 10 << 20]), window(15));
        assert!(bomb.len() < 50_000, "{} bytes for 10 MiB", bomb.len());
        let mut inflater = Inflater::default();
        let limit = 1 << 20;
        assert_eq!(inflater.inflate(message::payload(&bomb), limit), Err(InflateError::TooBig));
        assert!(inflater.output.capacity() <= limit + 1, "{}", inflater.output.capacity());
        let fits = Deflater::default().deflate(&frame(&vec![b'a'; limit]), window(15));
        let inflated = inflater.inflate(message::payload(&fits), limit).map(<[u8]>::len);
        assert_eq!(inflated, Ok(limit), "exactly the limit is allowed");
        let over = Deflater::default().deflate(&frame(&vec![b'a'; limit + 1]), window(15));
        assert_eq!(inflater.inflate(message::payload(&over), limit), Err(InflateError::TooBig));
    }

    #[test]
    fn what_is_not_deflate_is_refused_and_the_next_message_is_none_the_worse() {
        let mut inflater = Inflater::default();
        for garbage in [&[0xFF; 9][..], &[0x07], b"hello there"] {
            assert_eq!(inflater.inflate(garbage, 1_000), Err(InflateError::Invalid));
        }
        // The example of RFC 7692 section 7.2.3.1.
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(inflater.inflate(&hello, 1_000), Ok(&b"Hello"[..]));
    }

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        let mut inflater = Inflater::default();
        // RFC 7692 section 7.2.3.3: a block that is not compressed.
        let stored = [0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00];
        assert_eq!(inflater.inflate(&stored, 1_000), Ok(&b"Hello"[..]));
        // Section 7.2.3.4: a block that says it is the last one.
        let last = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00];
        assert_eq!(inflater.inflate(&last, 1_000), Ok(&b"Hello"[..]));
        // Section 7.2.3.5: two blocks.
        let two = [0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(inflater.inflate(&two, 1_000), Ok(&b"Hello"[..]));
        // Section 7.2.3.6: an empty message.
        assert_eq!(inflater.inflate(&[0x00], 1_000), Ok(&b""[..]));
    }
}
