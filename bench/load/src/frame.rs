//! Frames that are made once, and the reader that compares what comes back with them.

/// Bytes at the start of each message that name its sender.
pub(crate) const MARK: usize = 8;

/// Any key but zero makes the server unmask as it does for a browser.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const FINAL_TEXT: u8 = 0x81;
const FINAL_PING: u8 = 0x89;
const FINAL_PONG: u8 = 0x8a;
const FINAL_CLOSE: u8 = 0x88;
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x08;

/// The text of sender `index`: its mark, then letters, `bytes` long in all.
pub(crate) fn message(index: usize, bytes: usize) -> Vec<u8> {
    let mark = format!("{index:0MARK$}").into_bytes();
    mark.into_iter().chain((b'a'..=b'z').cycle()).take(bytes).collect()
}

/// What a protocol above WebSocket writes around each text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrapping {
    before: &'static str,
    after: &'static str,
}

impl Wrapping {
    pub(crate) const NONE: Self = Self { before: "", after: "" };
    /// The event "m" of Socket.IO 4, in both directions.
    pub(crate) const SOCKET_IO: Self = Self { before: r#"42["m",""#, after: r#""]"# };

    pub(crate) fn around(self, text: &[u8]) -> Vec<u8> {
        [self.before.as_bytes(), text, self.after.as_bytes()].concat()
    }
}

/// A text frame as a server sends it.
pub(crate) fn unmasked(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(FINAL_TEXT, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// A text frame as a client sends it.
pub(crate) fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(FINAL_TEXT, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// A close as a client sends it, with the code of a normal end (RFC 6455, 7.4.1).
pub(crate) fn close() -> Vec<u8> {
    let mut frame = header(FINAL_CLOSE, NORMAL.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(NORMAL.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// Whether these bytes are a close frame of a server and nothing else, with its code or without.
pub(crate) fn is_close(bytes: &[u8]) -> bool {
    bytes.first() == Some(&FINAL_CLOSE)
        && frame_length(bytes) == Some(bytes.len())
        && (bytes.len() == 2 || bytes[2..4] == NORMAL)
}

/// A ping as a client sends it: the number in eight bytes, then letters, `bytes` long in all.
pub(crate) fn ping(number: u64, bytes: usize) -> Vec<u8> {
    let mut frame = header(FINAL_PING, bytes, 0x80);
    frame.extend_from_slice(&MASK);
    let payload = number.to_be_bytes().into_iter().chain((b'a'..=b'z').cycle()).take(bytes);
    frame.extend(payload.zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// The answer to a ping.
fn pong(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(FINAL_PONG, payload.len(), 0x80);
    // A key of zero leaves the payload as it is.
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn header(first: u8, length: usize, mask_bit: u8) -> Vec<u8> {
    let mut header = vec![first];
    if length < 126 {
        header.push(mask_bit | length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        header.push(mask_bit | 126);
        header.extend_from_slice(&length.to_be_bytes());
    } else {
        header.push(mask_bit | 127);
        header.extend_from_slice(&(length as u64).to_be_bytes());
    }
    header
}

/// Length of a server's frame, header included; `None` while its header is incomplete.
pub(crate) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let short = usize::from(*bytes.get(1)? & 0x7f);
    Some(match short {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            10usize.saturating_add(length as usize)
        }
        _ => 2 + short,
    })
}

/// What every data frame from the server has to look like, whoever sent it.
pub(crate) struct Expected {
    frame: Vec<u8>,
    /// Where the sender's mark begins.
    mark: usize,
}

impl Expected {
    pub(crate) fn new(wrapping: Wrapping, bytes: usize) -> Self {
        let frame = unmasked(&wrapping.around(&message(0, bytes)));
        let mark = frame.len() - wrapping.after.len() - bytes;
        Self { frame, mark }
    }

    /// Pongs to pings of `bytes`; their mark is the number of the ping.
    pub(crate) fn pongs(bytes: usize) -> Self {
        let mut frame = header(FINAL_PONG, bytes, 0);
        let mark = frame.len();
        frame.extend(message(0, bytes));
        Self { frame, mark }
    }

    /// The sender's mark, if this is a whole and faithful frame of one of the senders.
    fn mark<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let rest = self.mark + MARK;
        let faithful = frame.len() == self.frame.len()
            && frame[..self.mark] == self.frame[..self.mark]
            && frame[rest..] == self.frame[rest..];
        faithful.then(|| &frame[self.mark..rest])
    }
}

/// Cuts one connection's bytes into frames.
#[derive(Default)]
pub(crate) struct Reader {
    /// The beginning of a frame whose end has not arrived.
    part: Vec<u8>,
}

/// What a read brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Messages.
    pub(crate) messages: u64,
    /// Those among them with the mark asked for.
    pub(crate) own: u64,
    /// The mark of the last one.
    pub(crate) last: [u8; MARK],
    /// A frame to send back.
    pub(crate) pong: Option<Vec<u8>>,
}

impl Reader {
    /// # Errors
    /// A sentence about the first frame that is neither a faithful message nor a ping.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        expected: &Expected,
        own: &[u8],
    ) -> Result<Seen, String> {
        let mut seen = Seen::default();
        while !self.part.is_empty() && !bytes.is_empty() {
            let wanted = frame_length(&self.part).unwrap_or(self.part.len() + 1);
            let missing = wanted.saturating_sub(self.part.len()).min(bytes.len());
            let (now, later) = bytes.split_at(missing);
            self.part.extend_from_slice(now);
            bytes = later;
            if frame_length(&self.part) == Some(self.part.len()) {
                see(&self.part, expected, own, &mut seen)?;
                self.part.clear();
            }
        }
        while let Some(length) = frame_length(bytes).filter(|length| *length <= bytes.len()) {
            let (frame, later) = bytes.split_at(length);
            see(frame, expected, own, &mut seen)?;
            bytes = later;
        }
        // A server that announces more than was ever sent is found out now, not when it arrives.
        if frame_length(bytes).is_some_and(|length| length > expected.frame.len().max(127)) {
            return Err(unexpected(bytes));
        }
        self.part.extend_from_slice(bytes);
        Ok(seen)
    }
}

fn see(frame: &[u8], expected: &Expected, own: &[u8], seen: &mut Seen) -> Result<(), String> {
    if let Some(mark) = expected.mark(frame) {
        seen.messages += 1;
        seen.own += u64::from(mark == own);
        seen.last.copy_from_slice(mark);
        return Ok(());
    }
    if frame[0] == FINAL_PING && frame.len() <= 127 {
        seen.pong = Some(pong(&frame[2..]));
        return Ok(());
    }
    Err(unexpected(frame))
}

fn unexpected(frame: &[u8]) -> String {
    if frame[0] & OPCODE == CLOSE {
        let code = match frame.get(2..4) {
            Some(code) => u16::from_be_bytes([code[0], code[1]]).to_string(),
            None => "no code".into(),
        };
        return format!("closed with {code}");
    }
    format!(
        "sent a frame that is no message of the load: first byte {:#04x}, {} bytes",
        frame[0],
        frame_length(frame).unwrap_or(frame.len())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        message(7, MARK)
    }

    #[test]
    fn frames_are_found_wherever_reads_cut_them() {
        for bytes in [8, 125, 126, 300, 70_000] {
            let expected = Expected::new(Wrapping::NONE, bytes);
            let mut stream = unmasked(&message(7, bytes));
            stream.extend(unmasked(&message(8, bytes)));
            let step = (stream.len() / 50).max(1);
            for cut in (0..stream.len()).step_by(step) {
                let mut reader = Reader::default();
                let first = reader.read(&stream[..cut], &expected, &own()).unwrap();
                let second = reader.read(&stream[cut..], &expected, &own()).unwrap();
                assert_eq!(first.messages + second.messages, 2, "{bytes} cut at {cut}");
                assert_eq!(first.own + second.own, 1, "{bytes} cut at {cut}");
            }
            let mut reader = Reader::default();
            let mut messages = 0;
            for byte in stream.chunks(1).take(400) {
                messages += reader.read(byte, &expected, &own()).unwrap().messages;
            }
            assert_eq!(messages, stream.len().min(400) as u64 / (stream.len() as u64 / 2));
        }
    }

    #[test]
    fn a_wrapped_message_is_known_by_its_mark_and_refused_without_its_wrapping() {
        let expected = Expected::new(Wrapping::SOCKET_IO, 64);
        let wrapped = unmasked(&Wrapping::SOCKET_IO.around(&message(7, 64)));
        let seen = Reader::default().read(&wrapped, &expected, &own()).unwrap();
        assert_eq!((seen.messages, seen.own), (1, 1));
        let naked = unmasked(&message(7, 64));
        Reader::default().read(&naked, &expected, &own()).unwrap_err();
    }

    #[test]
    fn a_message_of_another_length_or_text_is_refused() {
        let expected = Expected::new(Wrapping::NONE, 64);
        let mut wrong_letter = unmasked(&message(7, 64));
        *wrong_letter.last_mut().unwrap() ^= 1;
        let mut binary = unmasked(&message(7, 64));
        binary[0] = 0x82;
        let longer = unmasked(&message(7, 65));
        let endless = [FINAL_TEXT, 127, 0, 0, 0, 1, 0, 0, 0, 0].to_vec();
        for stream in [wrong_letter, binary, longer, endless] {
            let mut reader = Reader::default();
            let sentence = reader.read(&stream, &expected, &own()).unwrap_err();
            assert!(sentence.contains("no message of the load"), "{sentence}");
        }
    }

    #[test]
    fn a_close_is_reported_with_its_code() {
        let mut reader = Reader::default();
        let close = [0x88, 2, 0x03, 0xf5];
        let sentence = reader.read(&close, &Expected::new(Wrapping::NONE, 64), &own());
        assert_eq!(sentence, Err("closed with 1013".into()));
    }

    #[test]
    fn a_ping_between_messages_is_answered() {
        let expected = Expected::new(Wrapping::NONE, 64);
        let mut stream = unmasked(&message(7, 64));
        stream.extend([FINAL_PING, 2, b'h', b'i']);
        stream.extend(unmasked(&message(7, 64)));
        let seen = Reader::default().read(&stream, &expected, &own()).unwrap();
        assert_eq!((seen.messages, seen.own), (2, 2));
        assert_eq!(seen.pong.unwrap(), [0x8a, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn a_pong_has_the_number_of_its_ping() {
        let sent = ping(0x0102_0304_0506, 20);
        assert_eq!(sent[..6], [0x89, 0x80 | 20, 0x37, 0xfa, 0x21, 0x3d]);
        let payload: Vec<u8> =
            sent[6..].iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
        let mut answer = vec![0x8a, 20];
        answer.extend(payload);
        let expected = Expected::pongs(20);
        let seen = Reader::default().read(&answer, &expected, &own()).unwrap();
        assert_eq!((seen.messages, u64::from_be_bytes(seen.last)), (1, 0x0102_0304_0506));
        *answer.last_mut().unwrap() ^= 1;
        Reader::default().read(&answer, &expected, &own()).unwrap_err();
    }

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        let frame = masked(b"12345678abc");
        assert_eq!(frame[..6], [0x81, 0x80 | 11, 0x37, 0xfa, 0x21, 0x3d]);
        let plain: Vec<u8> =
            frame[6..].iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(plain, b"12345678abc");
    }
}
