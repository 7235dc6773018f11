//! Compression beside another library's, in both directions.

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::deflate::{Deflater, InflateError, Inflater, Window};
use crate::message::{self, Kind};

/// What ends a compressed message and is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Byte 0 chooses the limit and the window. The rest is inflated as what a peer sends, then
/// deflated as what a handler does.
pub fn deflated(data: &[u8]) {
    let Some((&choice, payload)) = data.split_first() else { return };
    let limit = [1, 125, 4_096, 70_000][usize::from(choice) % 4];
    let mut inflater = Inflater::default();
    let expected = other(payload, limit);
    let found = inflater.inflate(payload, limit).map(<[u8]>::to_vec);
    match (&found, &expected) {
        (Ok(found), Other::Message(expected)) => assert!(found == expected),
        (Ok(found), Other::Refused) => assert!(found.len() <= limit),
        (Ok(_), Other::TooBig) => panic!("over the limit"),
        (Err(InflateError::TooBig), Other::Message(_)) => panic!("within the limit"),
        // The two do not agree on codes that no compressor makes, and which fault comes first.
        (Err(_), _) => {}
    }

    let bits = Window::MIN_BITS + choice / 4 % 7;
    let window = Window::new(bits).expect("a window");
    let mut frame = BytesMut::new();
    message::put_header(&mut frame, Kind::Binary, payload.len());
    frame.put_slice(payload);
    let frame: Bytes = frame.freeze();
    let smaller = Deflater::default().deflate(&frame, window);
    if smaller == frame {
        return;
    }
    assert!(smaller.len() < frame.len() && smaller[0] == 0xC2, "FIN, RSV1, binary");
    let again = inflater.inflate(message::payload(&smaller), payload.len());
    assert!(again.is_ok_and(|again| again == payload), "whatever was inflated before");
    // A peer that keeps no more than it has agreed to.
    let mut narrow = Decompress::new_with_window_bits(false, bits);
    let mut out = Vec::with_capacity(payload.len() + 1);
    let input = [message::payload(&smaller), &TAIL].concat();
    let status = narrow.decompress_vec(&input, &mut out, FlushDecompress::Sync);
    assert!(status.is_ok() && out == payload, "{bits} bits");
}

/// What another library makes of a compressed message.
enum Other {
    Message(Vec<u8>),
    TooBig,
    Refused,
}

fn other(payload: &[u8], limit: usize) -> Other {
    let input = [payload, &TAIL].concat();
    // One byte more than allowed shows that there is more.
    let mut out = vec![0; limit + 1];
    let (mut read, mut made) = (0, 0);
    let mut state = DecompressorOxide::new();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
        | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
    loop {
        // Each stream has a window of its own: nothing is referred to across.
        let (status, taken, given) =
            decompress(&mut state, &input[read..], &mut out[made..], 0, flags);
        read += taken;
        made += given;
        if made > limit {
            return Other::TooBig;
        }
        match status {
            // The last block; another stream may follow (RFC 7692 section 7.2.3.4).
            TINFLStatus::Done if read < input.len() => state = DecompressorOxide::new(),
            TINFLStatus::Done | TINFLStatus::NeedsMoreInput => {
                out.truncate(made);
                return Other::Message(out);
            }
            _ => return Other::Refused,
        }
    }
}
