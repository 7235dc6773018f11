//! The decoder of frames beside a plain one that has the whole input at once.

use std::ops::ControlFlow;

use super::Cuts;
use crate::close;
use crate::codec::{Decoder, Item, Limits};
use crate::deflate::{InflateError, Inflater};

/// What an input chooses from: all rules meet their limits in one of these.
const LIMITS: [Limits; 4] = [
    Limits { max_message: 1, max_fragments: 1 },
    Limits { max_message: 125, max_fragments: 2 },
    Limits { max_message: 1_000, max_fragments: 4 },
    Limits { max_message: 70_000, max_fragments: 4_096 },
];

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(u16, String),
}

/// What the decoder says of an input, and the close code where it refuses to go on.
type Outcome = (Vec<Said>, Option<u16>);

/// Byte 0 chooses the limits and whether compression was agreed; then [`Cuts`]; the rest is what a
/// peer sends.
pub fn frames(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let limits = &LIMITS[usize::from(choice) % LIMITS.len()];
    let deflate = choice & 4 != 0;
    let (cuts, input) = Cuts::take(rest);
    let (expected, end) = plain(input, limits, deflate);
    let is_expected = |(said, refusal): Outcome, reads: &str| {
        assert_eq!(refusal, end, "{reads}");
        assert!(said == expected, "{} instead of {} items {reads}", said.len(), expected.len());
    };
    is_expected(decoded(input, limits, deflate, Cuts(&[])), "in one read");
    is_expected(decoded(input, limits, deflate, cuts), "in several reads");
    is_expected(decoded(input, limits, deflate, Cuts(&[1])), "byte by byte");
}

fn decoded(input: &[u8], limits: &Limits, deflate: bool, cuts: Cuts<'_>) -> Outcome {
    let mut decoder = Decoder::default();
    let mut inflater = deflate.then(Inflater::default);
    let mut said = Vec::new();
    let mut input = input.to_vec();
    let mut left = &mut input[..];
    for length in cuts.lengths(left.len()) {
        let (mut read, rest) = left.split_at_mut(length);
        left = rest;
        // Interrupted after each item, as a connection does that cannot take more.
        while !read.is_empty() {
            let before = said.len();
            let result = decoder.decode(read, limits, inflater.as_mut(), &mut |item| {
                said.push(owned(item));
                ControlFlow::Break(())
            });
            // A vector at least doubles when it grows, and begins with eight bytes.
            let most = 2 * wire_limit(limits, deflate).max(4);
            assert!(decoder.held() <= most, "{} bytes", decoder.held());
            match result {
                Ok(taken) => {
                    assert!(taken == read.len() || said.len() == before + 1);
                    read = &mut read[taken..];
                }
                Err(violation) => return (said, Some(violation.code)),
            }
        }
    }
    (said, None)
}

/// Bytes of a message on the wire: what cannot be compressed grows a little.
fn wire_limit(limits: &Limits, compressed: bool) -> usize {
    limits.max_message + if compressed { limits.max_message / 1_024 + 64 } else { 0 }
}

fn owned(item: Item<'_>) -> Said {
    match item {
        Item::Text { data, ascii } => {
            assert_eq!(ascii, data.bytes().is_ascii());
            Said::Text(String::from_utf8(data.bytes().to_vec()).expect("text is UTF-8"))
        }
        Item::Binary(data) => Said::Binary(data.bytes().to_vec()),
        Item::Ping(payload) => Said::Ping(payload.to_vec()),
        Item::Pong => Said::Pong,
        Item::Close { code, reason } => Said::Close(code, reason.to_owned()),
    }
}

/// RFC 6455 section 5 and RFC 7692 section 6 once more, without a thought of speed: for the
/// whole input at once.
fn plain(mut input: &[u8], limits: &Limits, deflate: bool) -> Outcome {
    let mut said = Vec::new();
    let mut message: Option<Message> = None;
    loop {
        let (first, second) = match input {
            [first, second, ..] => (*first, *second),
            _ => return (said, None),
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let is_control = opcode >= 8;
        let compressed = first & 0x40 != 0;
        let wrong = first & 0x30 != 0
            || (compressed && !(deflate && matches!(opcode, 1 | 2)))
            || second & 0x80 == 0
            || !matches!(opcode, 0..=2 | 8..=10)
            || (is_control && (!fin || second & 0x7F > 125));
        if wrong {
            return (said, Some(close::PROTOCOL_ERROR));
        }
        let width = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if input.len() < 2 + width {
            return (said, None);
        }
        let long = input[2..2 + width].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if width == 0 { u64::from(second & 0x7F) } else { long };
        let least = [0, 0, 126, 0, 0, 0, 0, 0, 65_536][width];
        if length < least || length >= 1 << 63 {
            return (said, Some(close::PROTOCOL_ERROR));
        }
        let start = 2 + width + 4;
        if input.len() < start {
            return (said, None);
        }
        let mask = &input[start - 4..start];
        let end = (start as u64 + length).min(input.len() as u64) as usize;
        let payload = input[start..end].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]);
        let payload: Vec<u8> = payload.collect();
        let is_whole = payload.len() as u64 == length;
        input = &input[end..];
        let outcome = if is_control {
            if is_whole { control(opcode, payload).map(Some) } else { Ok(None) }
        } else {
            Message::of(&mut message, opcode, compressed)
                .and_then(|message| message.add(payload, length, fin && is_whole, limits))
        };
        match outcome {
            Ok(Some(item)) => {
                if !is_control {
                    message = None;
                }
                said.push(item);
            }
            Ok(None) => {}
            Err(code) => return (said, Some(code)),
        }
        if !is_whole {
            return (said, None);
        }
    }
}

/// A message as far as it has come.
struct Message {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
    fragments: usize,
}

impl Message {
    /// The message that a data frame belongs to.
    fn of(open: &mut Option<Self>, opcode: u8, compressed: bool) -> Result<&mut Self, u16> {
        if open.is_some() != (opcode == 0) {
            return Err(close::PROTOCOL_ERROR);
        }
        let (text, bytes, fragments) = (opcode == 1, Vec::new(), 0);
        Ok(open.get_or_insert(Self { text, compressed, bytes, fragments }))
    }

    fn add(
        &mut self,
        payload: Vec<u8>,
        length: u64,
        is_all: bool,
        limits: &Limits,
    ) -> Result<Option<Said>, u16> {
        self.fragments += 1;
        if self.fragments > limits.max_fragments {
            return Err(close::POLICY);
        }
        if self.bytes.len() as u64 + length > wire_limit(limits, self.compressed) as u64 {
            return Err(close::TOO_BIG);
        }
        self.bytes.extend(payload);
        if !self.compressed && self.text && !may_become_text(&self.bytes, is_all) {
            return Err(close::INVALID_DATA);
        }
        if !is_all {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        if self.compressed {
            let mut inflater = Inflater::default();
            let inflated = inflater.inflate(&bytes, limits.max_message).map(<[u8]>::to_vec);
            bytes = inflated.map_err(|error| match error {
                InflateError::TooBig => close::TOO_BIG,
                InflateError::Invalid => close::INVALID_DATA,
            })?;
        }
        if !self.text {
            return Ok(Some(Said::Binary(bytes)));
        }
        String::from_utf8(bytes).map(|text| Some(Said::Text(text))).map_err(|_| close::INVALID_DATA)
    }
}

fn may_become_text(bytes: &[u8], is_all: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && !is_all,
    }
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Said, u16> {
    match opcode {
        9 => Ok(Said::Ping(payload)),
        10 => Ok(Said::Pong),
        _ if payload.is_empty() => Ok(Said::Close(1005, String::new())),
        _ if payload.len() == 1 => Err(close::PROTOCOL_ERROR),
        _ => {
            let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(close::PROTOCOL_ERROR);
            }
            let reason = String::from_utf8(payload[2..].to_vec());
            reason.map(|reason| Said::Close(code, reason)).map_err(|_| close::INVALID_DATA)
        }
    }
}
