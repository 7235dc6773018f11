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
        Item::Text { data, ascii } => {
            assert_eq!(ascii, data.bytes().is_ascii());
            format!("text {}", text(data))
        }
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
            let plain: Vec<u8> = (0..length).map(|i| i as u8 ^ MASK[(i + position) % 4]).collect();
            let mut fast: Vec<u8> = (0..length).map(|i| i as u8).collect();
            assert_eq!(unmask(&mut fast, MASK, position), plain.is_ascii());
            assert_eq!(fast, plain, "length {length} from {position}");
        }
    }
}

#[test]
fn one_byte_that_is_not_ascii_is_seen_wherever_it_is() {
    for length in 1..40 {
        for at in 0..length {
            let mut masked: Vec<u8> = (0..length).map(|i| b'x' ^ MASK[i % 4]).collect();
            assert!(unmask(&mut masked.clone(), MASK, 0));
            masked[at] ^= 0x80;
            assert!(!unmask(&mut masked, MASK, 0), "{at} of {length}");
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
