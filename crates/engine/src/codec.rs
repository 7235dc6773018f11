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
    /// A text message, inflated and checked to be UTF-8, and whether all of it is ASCII.
    Text { data: Data<'a>, ascii: bool },
    /// A binary message, inflated.
    Binary(Data<'a>),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame. The code is 1005 if it carried none.
    Close { code: u16, reason: &'a str },
}

impl Item<'_> {
    pub(crate) fn is_control(&self) -> bool {
        matches!(self, Item::Ping(_) | Item::Pong | Item::Close { .. })
    }
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
            let ascii = unmask(payload, header.mask, start as usize);
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
                match self.take_data(payload, ascii, first, last)? {
                    Some((data, ascii)) => {
                        self.message(data, ascii, limits, inflater.as_deref_mut(), on_item)?
                    }
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

    /// Returns the message, not inflated yet, if `payload` is its end, and whether it is ASCII. What lies
    /// whole in one read is not copied.
    fn take_data<'a>(
        &mut self,
        payload: &'a [u8],
        ascii: bool,
        first: bool,
        last: bool,
    ) -> Result<Option<(Data<'a>, bool)>, Violation> {
        let text = self.opcode == OPCODE_TEXT && !self.compressed;
        if first && last {
            self.assembling = false;
            if text && !ascii && std::str::from_utf8(payload).is_err() {
                return Err(INVALID_UTF8);
            }
            return Ok(Some((Data::Borrowed(payload), ascii)));
        }
        self.message.extend_from_slice(payload);
        if text {
            self.check_utf8(last)?;
        }
        if !last {
            return Ok(None);
        }
        self.assembling = false;
        let message = std::mem::take(&mut self.message);
        let ascii = text && message.is_ascii();
        Ok(Some((Data::Owned(message), ascii)))
    }

    /// Hands a message over, inflated if it is compressed.
    fn message(
        &self,
        data: Data<'_>,
        ascii: bool,
        limits: &Limits,
        inflater: Option<&mut Inflater>,
        on_item: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let text = self.opcode == OPCODE_TEXT;
        if !self.compressed {
            return Ok(on_item(if text { Item::Text { data, ascii } } else { Item::Binary(data) }));
        }
        // A compressed frame is refused where there is none.
        let Some(inflater) = inflater else { return Err(INVALID_DEFLATE) };
        let inflated = inflater.inflate(data.bytes(), limits.max_message);
        let inflated = inflated.map_err(|error| match error {
            InflateError::TooBig => TOO_BIG,
            InflateError::Invalid => INVALID_DEFLATE,
        })?;
        if !text {
            return Ok(on_item(Item::Binary(Data::Borrowed(inflated))));
        }
        let ascii = text_is_ascii(inflated).ok_or(INVALID_UTF8)?;
        Ok(on_item(Item::Text { data: Data::Borrowed(inflated), ascii }))
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

/// Whether `bytes` are ASCII; `None` if they are no UTF-8 at all.
pub(crate) fn text_is_ascii(bytes: &[u8]) -> Option<bool> {
    let ascii = bytes.is_ascii();
    (ascii || std::str::from_utf8(bytes).is_ok()).then_some(ascii)
}

/// RFC 6455 section 5.3. `position` is how many payload bytes came before `data`. Says, as it sees
/// every byte, whether all that it has unmasked is ASCII.
fn unmask(data: &mut [u8], mask: [u8; 4], position: usize) -> bool {
    const NOT_ASCII: u8 = 0x80;
    let mut turned = mask;
    turned.rotate_left(position % 4);
    let wide = u64::from_ne_bytes([
        turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3],
    ]);
    let mut seen = 0;
    let mut chunks = data.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Some(bytes) = chunk.first_chunk_mut::<8>() {
            let word = u64::from_ne_bytes(*bytes) ^ wide;
            seen |= word;
            *bytes = word.to_ne_bytes();
        }
    }
    let mut rest = 0;
    for (byte, key) in chunks.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
        rest |= *byte;
    }
    seen & u64::from_ne_bytes([NOT_ASCII; 8]) == 0 && rest & NOT_ASCII == 0
}

#[cfg(test)]
mod tests;
