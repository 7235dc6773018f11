//! Prepared frames: what the server writes, encoded once however many connections receive it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::close;

/// What a data frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Kind::Text => OPCODE_TEXT,
            Kind::Binary => OPCODE_BINARY,
        }
    }
}

pub(crate) const OPCODE_CONTINUATION: u8 = 0x0;
pub(crate) const OPCODE_TEXT: u8 = 0x1;
pub(crate) const OPCODE_BINARY: u8 = 0x2;
pub(crate) const OPCODE_CLOSE: u8 = 0x8;
pub(crate) const OPCODE_PING: u8 = 0x9;
pub(crate) const OPCODE_PONG: u8 = 0xA;
const FIN: u8 = 0x80;
/// Says that a message is compressed (RFC 7692 section 6).
pub(crate) const RSV1: u8 = 0x40;

/// Longest header of a frame the server writes, in bytes: it never masks (RFC 6455 section 5.1).
pub const MAX_HEADER: usize = 10;

/// Payloads from this size on are framed in memory of their own, which everyone who sends them shares,
/// in bytes.
pub const LARGE: usize = 16 * 1024;

/// A data frame in memory of its own.
pub(crate) fn framed(kind: Kind, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(MAX_HEADER + payload.len());
    put_header(&mut out, kind, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// Writes the header of an unfragmented, unmasked data frame with `length` bytes of payload.
pub fn put_header(out: &mut BytesMut, kind: Kind, length: usize) {
    put_raw_header(out, kind.opcode(), length);
}

/// The length uses the fewest bytes that hold it (RFC 6455 section 5.2).
fn put_raw_header(out: &mut BytesMut, opcode: u8, length: usize) {
    out.put_u8(FIN | opcode);
    if length < 126 {
        out.put_u8(length as u8);
    } else if let Ok(short) = u16::try_from(length) {
        out.put_u8(126);
        out.put_u16(short);
    } else {
        out.put_u8(127);
        out.put_u64(length as u64);
    }
}

/// The payload of the one frame in `frame`, which is ours: well formed and not masked.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// `frame` with a payload that is compressed (RFC 7692 section 6.1).
pub(crate) fn compressed_frame(frame: &[u8], payload: &[u8]) -> Bytes {
    let opcode = frame.first().map_or(OPCODE_BINARY, |first| first & 0x0F);
    let mut out = BytesMut::with_capacity(MAX_HEADER + payload.len());
    put_raw_header(&mut out, RSV1 | opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// A control frame; `payload` holds at most 125 bytes (RFC 6455 section 5.5).
fn control(opcode: u8, payload: &[u8]) -> Bytes {
    debug_assert!(payload.len() <= 125);
    let mut out = BytesMut::with_capacity(2 + payload.len());
    put_raw_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// The answer to a ping: the same payload (RFC 6455 section 5.5.3).
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    control(OPCODE_PONG, payload)
}

/// A keep-alive ping without payload.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[FIN | OPCODE_PING, 0])
}

/// A close frame. A code that may not be sent makes an empty one; the reason is cut to 123 bytes.
pub(crate) fn close_frame(code: u16, reason: &str) -> Bytes {
    if !close::may_be_sent(code) {
        return control(OPCODE_CLOSE, &[]);
    }
    let mut payload = Vec::with_capacity(2 + reason.len().min(close::MAX_REASON));
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(close::cut_reason(reason).as_bytes());
    control(OPCODE_CLOSE, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_header(&mut out, Kind::Text, length);
        out.to_vec()
    }

    #[test]
    fn the_length_takes_the_fewest_bytes() {
        assert_eq!(header(0), [0x81, 0]);
        assert_eq!(header(125), [0x81, 125]);
        assert_eq!(header(126), [0x81, 126, 0, 126]);
        assert_eq!(header(65_535), [0x81, 126, 0xff, 0xff]);
        assert_eq!(header(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        assert_eq!(&close_frame(1000, "bye")[..], b"\x88\x05\x03\xe8bye");
        assert_eq!(&close_frame(close::NO_STATUS, "")[..], b"\x88\x00");
        assert_eq!(close_frame(1000, &"x".repeat(200)).len(), 127);
    }
}
