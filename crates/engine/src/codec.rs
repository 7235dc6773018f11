//! The decoder of what a client sends: RFC 6455 section 5, the server's side, without I/O.
//!
//! It is fed whatever a read returned and calls back once per message or control frame. A message
//! that lies whole in one read is handed over from the read buffer, unmasked in place; only what
//! crosses reads or fragments is copied. A decoder at rest owns no heap memory.

use std::ops::ControlFlow;

use crate::close;
use crate::deflate::{InflateError, Inflater};
use crate::message::{
    OPCODE_BINARY, OPCODE_CLOSE, OPCODE_CONTINUATION, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT, RSV1,
};

/// What the decoder refuses to exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one message, all fragments together and inflated; more is close 1009.
    pub(crate) max_message: usize,
    /// Fragments of one message; more is close 1008. Without it empty fragments cost CPU forever.
    pub(crate) max_fragments: usize,
}

/// One thing the peer said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A text message, inflated and checked to be UTF-8.
    Text(Data<'a>),
    /// A binary message, inflated.
    Binary(Data<'a>),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame. The code is 1005 if it carried none.
    Close { code: u16, reason: &'a str },
}

/// A message's bytes: in the read buffer or the inflater's, or assembled from several reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Data<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Data<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Data::Borrowed(bytes) => bytes,
            Data::Owned(bytes) => bytes,
        }
    }
}

/// Why the connection must be failed: the close code to send and the words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Violation {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: close::PROTOCOL_ERROR, reason }
}

const INVALID_UTF8: Violation =
    Violation { code: close::INVALID_DATA, reason: "the text is not valid UTF-8" };
const INVALID_DEFLATE: Violation =
    Violation { code: close::INVALID_DATA, reason: "the compressed message cannot be inflated" };
const TOO_BIG: Violation =
    Violation { code: close::TOO_BIG, reason: "the message is over the size limit" };

/// Longest header a client can send: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER: usize = 14;
/// Longest payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL: usize = 125;

#[derive(Clone, Copy)]
struct Header {
    fin: bool,
    compressed: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
}

/// The frame whose payload is being received.
struct Current {
    header: Header,
    /// Payload bytes already taken, which is also the position in the mask.
    taken: u64,
}

/// Where one connection's stream of frames stands.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The first bytes of a header that was cut by the end of a read.
    head: [u8; MAX_HEADER],
    head_length: u8,
    current: Option<Current>,
    /// Text or binary, while a message is being assembled.
    opcode: u8,
    assembling: bool,
    compressed: bool,
    fragments: usize,
    message: Vec<u8>,
    /// How much of `message` is known to be UTF-8.
    checked: usize,
    control: Vec<u8>,
}

impl Decoder {
    /// Bytes of memory that an unfinished message takes.
    pub(crate) fn held(&self) -> usize {
        self.message.capacity()
    }

    /// Takes `input` until its end, or until `on_item` breaks; returns how much of it was taken.
    ///
    /// `input` is unmasked in place, as far as it is taken. Without an `inflater` compression was
    /// not agreed.
    ///
    /// # Errors
    /// The [`Violation`] the connection must be failed with. Nothing more may be decoded then.
    pub(crate) fn decode(
        &mut self,
        mut input: &mut [u8],
        limits: &Limits,
        mut inflater: Option<&mut Inflater>,
        on_item: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Violation> {
        let all = input.len();
        loop {
            if self.current.is_none() {
                let Some((header, used)) = self.take_header(input, inflater.is_some())? else {
                    return Ok(all);
                };
                input = &mut input[used..];
                self.check_header(&header, limits)?;
                self.current = Some(Current { header, taken: 0 });
            }
            // A payload of no bytes is complete without any input.
            let Some(current) = &mut self.current else {
                return Ok(all);
            };
            let header = current.header;
            let start = current.taken;
            let left = header.length - start;
            let available = left.min(input.len() as u64) as usize;
            let (payload, rest) = input.split_at_mut(available);
            input = rest;
            unmask(payload, header.mask, start as usize);
            current.taken += available as u64;
            let complete = current.taken == header.length;
            if complete {
                self.current = None;
            }
            let flow = if header.opcode & 0x8 != 0 {
                self.take_control(&header, payload, complete, on_item)?
            } else {
                let first = start == 0 && self.fragments == 1;
                let last = complete && header.fin;
                match self.take_data(payload, first, last)? {
                    Some(data) => self.message(data, limits, inflater.as_deref_mut(), on_item)?,
                    None => ControlFlow::Continue(()),
                }
            };
            if flow.is_break() || !complete {
                return Ok(all - input.len());
            }
        }
    }

    /// Reads a header from `input`, or from what earlier reads left plus `input`.
    fn take_header(
        &mut self,
        input: &[u8],
        deflate: bool,
    ) -> Result<Option<(Header, usize)>, Violation> {
        let kept = self.head_length as usize;
        if kept == 0 {
            if let Some((header, length)) = parse_header(input, deflate)? {
                return Ok(Some((header, length)));
            }
            self.head[..input.len()].copy_from_slice(input);
            self.head_length = input.len() as u8;
            return Ok(None);
        }
        let added = input.len().min(MAX_HEADER - kept);
        self.head[kept..kept + added].copy_from_slice(&input[..added]);
        match parse_header(&self.head[..kept + added], deflate)? {
            Some((header, length)) => {
                self.head_length = 0;
                Ok(Some((header, length - kept)))
            }
            None => {
                self.head_length = (kept + added) as u8;
                Ok(None)
            }
        }
    }

    /// The rules that need to know what came before (RFC 6455 section 5.4).
    fn check_header(&mut self, header: &Header, limits: &Limits) -> Result<(), Violation> {
        match header.opcode {
            OPCODE_TEXT | OPCODE_BINARY => {
                if self.assembling {
                    return Err(protocol("a new message began inside a fragmented one"));
                }
                self.assembling = true;
                self.compressed = header.compressed;
                self.opcode = header.opcode;
                self.fragments = 1;
                self.checked = 0;
            }
            OPCODE_CONTINUATION => {
                if !self.assembling {
                    return Err(protocol("a continuation frame without a message to continue"));
                }
                self.fragments += 1;
                if self.fragments > limits.max_fragments {
                    return Err(Violation {
                        code: close::POLICY,
                        reason: "the message has too many fragments",
                    });
                }
            }
            _ => return Ok(()),
        }
        // What cannot be compressed grows a little.
        let growth = if self.compressed { limits.max_message / 1_024 + 64 } else { 0 };
        if header.length > (limits.max_message + growth - self.message.len()) as u64 {
            return Err(TOO_BIG);
        }
        Ok(())
    }

    /// Returns the message, not inflated yet, if `payload` is its end. What lies whole in one read is
    /// not copied.
    fn take_data<'a>(
        &mut self,
        payload: &'a [u8],
        first: bool,
        last: bool,
    ) -> Result<Option<Data<'a>>, Violation> {
        let text = self.opcode == OPCODE_TEXT && !self.compressed;
        if first && last {
            self.assembling = false;
            if text && std::str::from_utf8(payload).is_err() {
                return Err(INVALID_UTF8);
            }
            return Ok(Some(Data::Borrowed(payload)));
        }
        self.message.extend_from_slice(payload);
        if text {
            self.check_utf8(last)?;
        }
        if !last {
            return Ok(None);
        }
        self.assembling = false;
        Ok(Some(Data::Owned(std::mem::take(&mut self.message))))
    }

    /// Hands a message over, inflated if it is compressed.
    fn message(
        &self,
        data: Data<'_>,
        limits: &Limits,
        inflater: Option<&mut Inflater>,
        on_item: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let text = self.opcode == OPCODE_TEXT;
        let item = if text { Item::Text } else { Item::Binary };
        if !self.compressed {
            return Ok(on_item(item(data)));
        }
        // A compressed frame is refused where there is none.
        let Some(inflater) = inflater else { return Err(INVALID_DEFLATE) };
        let inflated = inflater.inflate(data.bytes(), limits.max_message);
        let inflated = inflated.map_err(|error| match error {
            InflateError::TooBig => TOO_BIG,
            InflateError::Invalid => INVALID_DEFLATE,
        })?;
        if text && std::str::from_utf8(inflated).is_err() {
            return Err(INVALID_UTF8);
        }
        Ok(on_item(item(Data::Borrowed(inflated))))
    }

    /// Fails as soon as the bytes so far cannot become UTF-8 (RFC 6455 section 8.1).
    fn check_utf8(&mut self, last: bool) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) => {
                if error.error_len().is_some() || last {
                    return Err(INVALID_UTF8);
                }
                self.checked += error.valid_up_to();
            }
        }
        Ok(())
    }

    fn take_control(
        &mut self,
        header: &Header,
        payload: &[u8],
        complete: bool,
        on_item: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        if !complete {
            self.control.extend_from_slice(payload);
            return Ok(ControlFlow::Continue(()));
        }
        if self.control.is_empty() {
            return control_item(header.opcode, payload, on_item);
        }
        let mut whole = std::mem::take(&mut self.control);
        whole.extend_from_slice(payload);
        control_item(header.opcode, &whole, on_item)
    }
}

fn control_item(
    opcode: u8,
    payload: &[u8],
    on_item: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    Ok(match opcode {
        OPCODE_PING => on_item(Item::Ping(payload)),
        OPCODE_PONG => on_item(Item::Pong),
        _ => {
            let (code, reason) = parse_close(payload)?;
            on_item(Item::Close { code, reason })
        }
    })
}

/// RFC 6455 section 5.5.1: no payload, or two bytes of code and UTF-8.
fn parse_close(payload: &[u8]) -> Result<(u16, &str), Violation> {
    match payload {
        [] => Ok((close::NO_STATUS, "")),
        [_] => Err(protocol("a close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !close::may_be_sent(code) {
                return Err(protocol("a close code that may not be sent"));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| INVALID_UTF8)?;
            Ok((code, reason))
        }
    }
}

/// Parses a header; `None` when `input` ends inside it. What is wrong with the first two bytes is
/// said at once, without waiting for the rest.
fn parse_header(input: &[u8], deflate: bool) -> Result<Option<(Header, usize)>, Violation> {
    let [first, second, ..] = *input else {
        return Ok(None);
    };
    // RFC 7692 section 6.1: only the first frame of a message says that it is compressed.
    let may_compress = deflate && matches!(first & 0x0F, OPCODE_TEXT | OPCODE_BINARY);
    let allowed = if may_compress { RSV1 } else { 0 };
    if first & 0x70 & !allowed != 0 {
        return Err(protocol("a reserved bit is set that no extension gives a meaning"));
    }
    let fin = first & 0x80 != 0;
    let opcode = first & 0x0F;
    if second & 0x80 == 0 {
        return Err(protocol("a client's frame must be masked"));
    }
    let short = second & 0x7F;
    match opcode {
        OPCODE_CONTINUATION | OPCODE_TEXT | OPCODE_BINARY => {}
        OPCODE_CLOSE | OPCODE_PING | OPCODE_PONG => {
            if !fin {
                return Err(protocol("a control frame must not be fragmented"));
            }
            if usize::from(short) > MAX_CONTROL {
                return Err(protocol("a control frame over 125 bytes"));
            }
        }
        _ => return Err(protocol("a reserved opcode")),
    }
    let (length, mask_at) = match short {
        126 => {
            let Some(bytes) = input[2..].first_chunk::<2>() else {
                return Ok(None);
            };
            let length = u64::from(u16::from_be_bytes(*bytes));
            if length < 126 {
                return Err(protocol("a length in more bytes than it needs"));
            }
            (length, 4)
        }
        127 => {
            let Some(bytes) = input[2..].first_chunk::<8>() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(*bytes);
            if length >> 63 != 0 {
                return Err(protocol("a length with the highest bit set"));
            }
            if length <= u64::from(u16::MAX) {
                return Err(protocol("a length in more bytes than it needs"));
            }
            (length, 10)
        }
        short => (u64::from(short), 2),
    };
    let Some(mask) = input[mask_at..].first_chunk::<4>() else {
        return Ok(None);
    };
    let compressed = first & RSV1 != 0;
    Ok(Some((Header { fin, compressed, opcode, length, mask: *mask }, mask_at + 4)))
}

/// RFC 6455 section 5.3. `position` is how many payload bytes came before `data`.
fn unmask(data: &mut [u8], mask: [u8; 4], position: usize) {
    let mut turned = mask;
    turned.rotate_left(position % 4);
    let wide = u64::from_ne_bytes([
        turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3],
    ]);
    let mut chunks = data.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Some(bytes) = chunk.first_chunk_mut::<8>() {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_message: 70_000, max_fragments: 4 };
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![if fin { 0x80 } else { 0 } | opcode];
        match payload.len() {
            n @ 0..126 => out.push(0x80 | n as u8),
            n @ 126..65_536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().enumerate().map(|(i, b)| b ^ MASK[i % 4]));
        out
    }

    fn name(item: Item<'_>) -> String {
        let text = |data: Data<'_>| String::from_utf8_lossy(data.bytes()).into_owned();
        match item {
            Item::Text(data) => format!("text {}", text(data)),
            Item::Binary(data) => format!("binary {}", text(data)),
            Item::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload)),
            Item::Pong => "pong".into(),
            Item::Close { code, reason } => format!("close {code} {reason}"),
        }
    }

    /// Feeds `input` in reads of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<Vec<String>, Violation> {
        decode_with(None, input, step)
    }

    fn decode_with(
        mut inflater: Option<&mut Inflater>,
        input: &[u8],
        step: usize,
    ) -> Result<Vec<String>, Violation> {
        let mut decoder = Decoder::default();
        let mut items = Vec::new();
        for chunk in input.to_vec().chunks_mut(step) {
            let taken = decoder.decode(chunk, &LIMITS, inflater.as_deref_mut(), &mut |item| {
                items.push(name(item));
                ControlFlow::Continue(())
            })?;
            assert_eq!(taken, chunk.len());
        }
        Ok(items)
    }

    /// Where compression was agreed.
    fn inflate(input: &[u8]) -> Result<Vec<String>, u16> {
        decode_with(Some(&mut Inflater::default()), input, usize::MAX).map_err(|error| error.code)
    }

    /// "Hello", compressed (RFC 7692 section 7.2.3.1).
    const HELLO: [u8; 7] = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];

    fn compressed(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame(fin, opcode, payload);
        frame[0] |= RSV1;
        frame
    }

    fn refused(input: &[u8]) -> u16 {
        decode(input, usize::MAX).expect_err("refused").code
    }

    #[test]
    fn every_cut_into_reads_gives_the_same_messages() {
        let mut input = frame(true, OPCODE_TEXT, "grüße".as_bytes());
        input.extend(frame(false, OPCODE_TEXT, "häl".as_bytes()));
        input.extend(frame(true, OPCODE_PING, b"are you there"));
        input.extend(frame(false, OPCODE_CONTINUATION, b""));
        input.extend(frame(true, OPCODE_CONTINUATION, "ftß".as_bytes()));
        input.extend(frame(true, OPCODE_BINARY, b""));
        input.extend(frame(true, OPCODE_TEXT, "x".repeat(300).as_bytes()));
        input.extend(frame(true, OPCODE_TEXT, "y".repeat(66_000).as_bytes()));
        input.extend(frame(true, OPCODE_PONG, b""));
        input.extend(frame(true, OPCODE_CLOSE, b"\x03\xe8bye"));
        let whole = decode(&input, usize::MAX).expect("valid");
        assert_eq!(whole[0], "text grüße");
        assert_eq!(whole[1], "ping are you there");
        assert_eq!(whole[2], "text hälftß");
        assert_eq!(whole[3], "binary ");
        assert_eq!(whole[7], "close 1000 bye");
        for step in [1, 2, 3, 5, 7, 64, 1000] {
            assert_eq!(decode(&input, step).expect("valid"), whole, "reads of {step}");
        }
    }

    #[test]
    fn the_fast_unmask_equals_the_plain_one() {
        for length in 0..40 {
            for position in 0..9 {
                let plain: Vec<u8> =
                    (0..length).map(|i| i as u8 ^ MASK[(i + position) % 4]).collect();
                let mut fast: Vec<u8> = (0..length).map(|i| i as u8).collect();
                unmask(&mut fast, MASK, position);
                assert_eq!(fast, plain, "length {length} from {position}");
            }
        }
    }

    #[test]
    fn protocol_errors_are_close_1002() {
        assert_eq!(refused(&[0x81, 0x01, b'x']), 1002, "unmasked");
        assert_eq!(refused(&[0xC1, 0x80]), 1002, "reserved bit");
        assert_eq!(refused(&[0x83, 0x80]), 1002, "reserved data opcode");
        assert_eq!(refused(&[0x8B, 0x80]), 1002, "reserved control opcode");
        assert_eq!(refused(&[0x09, 0x80]), 1002, "fragmented ping");
        assert_eq!(refused(&[0x89, 0xFE]), 1002, "long ping");
        assert_eq!(refused(&frame(true, OPCODE_CONTINUATION, b"x")), 1002, "stray continuation");
        let mut nested = frame(false, OPCODE_TEXT, b"a");
        nested.extend(frame(true, OPCODE_TEXT, b"b"));
        assert_eq!(refused(&nested), 1002, "message inside a message");
        assert_eq!(refused(&[0x81, 0xFE, 0, 125]), 1002, "over-long 16-bit length");
        assert_eq!(refused(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 1, 0]), 1002, "over-long 64-bit length");
        assert_eq!(refused(&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002, "negative length");
        assert_eq!(refused(&frame(true, OPCODE_CLOSE, b"x")), 1002, "half a close code");
        assert_eq!(refused(&frame(true, OPCODE_CLOSE, b"\x03\xee")), 1002, "close 1006");
    }

    #[test]
    fn bad_utf8_is_close_1007_as_soon_as_it_is_seen() {
        assert_eq!(refused(&frame(true, OPCODE_TEXT, b"\xff")), 1007);
        assert_eq!(refused(&frame(false, OPCODE_TEXT, b"ok \xc3\x28")), 1007, "before the end");
        let whole = frame(true, OPCODE_TEXT, b"ok \xc3\x28 and a long rest");
        assert_eq!(refused(&whole[..whole.len() - 10]), 1007, "before the frame is whole");
        let mut cut = frame(false, OPCODE_TEXT, b"\xe2\x82");
        assert!(decode(&cut, usize::MAX).is_ok(), "a character may cross fragments");
        cut.extend(frame(true, OPCODE_CONTINUATION, b""));
        assert_eq!(refused(&cut), 1007, "but must be whole at the end");
        assert_eq!(refused(&frame(true, OPCODE_CLOSE, b"\x03\xe8\xff")), 1007);
    }

    #[test]
    fn a_message_over_the_limit_is_close_1009_before_it_arrives() {
        let header = &frame(true, OPCODE_BINARY, &vec![0; 70_001])[..14];
        assert_eq!(refused(header), 1009);
        let mut fragments = frame(false, OPCODE_BINARY, &vec![0; 60_000]);
        fragments.extend(frame(true, OPCODE_CONTINUATION, &vec![0; 10_001]));
        assert_eq!(refused(&fragments), 1009);
        assert!(decode(&frame(true, OPCODE_BINARY, &vec![0; 70_000]), usize::MAX).is_ok());
    }

    #[test]
    fn too_many_fragments_are_close_1008() {
        let mut input = frame(false, OPCODE_TEXT, b"");
        for _ in 0..4 {
            input.extend(frame(false, OPCODE_CONTINUATION, b""));
        }
        assert_eq!(refused(&input), 1008);
    }

    #[test]
    fn decoding_stops_at_a_break_and_goes_on_behind_it() {
        let mut input = frame(true, OPCODE_BINARY, b"one");
        let first = input.len();
        input.extend(frame(true, OPCODE_TEXT, b"two"));
        let mut items = Vec::new();
        let mut decoder = Decoder::default();
        let mut on_item = |item: Item<'_>| {
            items.push(name(item));
            ControlFlow::Break(())
        };
        assert_eq!(decoder.decode(&mut input, &LIMITS, None, &mut on_item), Ok(first));
        let rest = &mut input[first..];
        assert_eq!(decoder.decode(rest, &LIMITS, None, &mut on_item), Ok(rest.len()));
        assert_eq!(items, ["binary one", "text two"]);
    }

    #[test]
    fn compressed_messages_are_inflated_among_others_however_they_are_cut() {
        let mut input = compressed(true, OPCODE_TEXT, &HELLO);
        input.extend(frame(true, OPCODE_TEXT, b"plain"));
        input.extend(compressed(false, OPCODE_BINARY, &HELLO[..3]));
        input.extend(frame(true, OPCODE_PING, b"still there"));
        input.extend(frame(false, OPCODE_CONTINUATION, b""));
        input.extend(frame(true, OPCODE_CONTINUATION, &HELLO[3..]));
        let whole = ["text Hello", "text plain", "ping still there", "binary Hello"];
        for step in [1, 2, 5, 1_000] {
            let items = decode_with(Some(&mut Inflater::default()), &input, step);
            assert_eq!(items.expect("valid"), whole, "reads of {step}");
        }
    }

    #[test]
    fn compression_where_it_may_not_be_is_close_1002() {
        assert_eq!(refused(&compressed(true, OPCODE_TEXT, &HELLO)), 1002, "not agreed");
        assert_eq!(inflate(&compressed(true, OPCODE_PING, b"")), Err(1002), "a control frame");
        let mut input = frame(false, OPCODE_TEXT, b"a");
        input.extend(compressed(true, OPCODE_CONTINUATION, b"b"));
        assert_eq!(inflate(&input), Err(1002), "not on the first frame");
        assert_eq!(inflate(&[0xA1, 0x80]), Err(1002), "another reserved bit");
    }

    #[test]
    fn what_cannot_be_inflated_is_close_1007_and_what_is_too_large_1009() {
        assert_eq!(inflate(&compressed(true, OPCODE_BINARY, &[0xFF; 20])), Err(1007));
        // A stored block of one byte that no UTF-8 has.
        let stored = [0x00, 0x01, 0x00, 0xFE, 0xFF, 0xFF, 0x00];
        assert_eq!(inflate(&compressed(true, OPCODE_TEXT, &stored)), Err(1007), "not UTF-8");
        let as_binary = inflate(&compressed(true, OPCODE_BINARY, &stored));
        assert_eq!(as_binary, Ok(vec!["binary \u{FFFD}".to_owned()]));
        let mut bomb = Vec::new();
        let mut compress = flate2::Compress::new(flate2::Compression::new(9), false);
        bomb.reserve(1_000);
        let zeros = vec![0; LIMITS.max_message + 1];
        compress.compress_vec(&zeros, &mut bomb, flate2::FlushCompress::Sync).expect("compressed");
        assert_eq!(inflate(&compressed(true, OPCODE_BINARY, &bomb)), Err(1009));
    }
}
