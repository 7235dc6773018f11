//! What the peer sends: messages become events, pings are answered, and a last word is answered when
//! the handlers have answered what came before it.

use std::ops::ControlFlow;
use std::time::Instant;

use super::{Connection, Inner, Rare, wake};
use crate::close;
use crate::codec::{Decoder, Item, Limits, Violation, text_is_ascii};
use crate::keepalive::Phase;
use crate::message::{self, Kind};
use crate::outbox::Chunk;

const UNSUPPORTED: Violation = Violation {
    code: close::UNSUPPORTED,
    reason: "this route takes text; the binary message is not UTF-8",
};

const TOO_MANY_CONTROL_FRAMES: Violation =
    Violation { code: close::POLICY, reason: "too many control frames in a second" };

impl Connection {
    pub(super) fn take_input(&self, inner: &mut Inner, input: &mut [u8]) {
        let now = Instant::now();
        inner.signs.alive(now);
        #[cfg(test)]
        self.strike(super::fault_tests::Fault::Input);
        if !matches!(inner.phase, Phase::Open | Phase::Closing { .. }) {
            return;
        }
        let config = self.context.config();
        let limits =
            Limits { max_message: config.max_message_size, max_fragments: config.max_fragments };
        let deliver = inner.phase == Phase::Open;
        let mut violation = None;
        let mut messages = 0;
        let mut bytes = 0;
        // One read of plain messages is bounded by its size. A thousand times that may be in a read
        // of compressed ones.
        let room = match self.window {
            Some(_) => config.max_pending_bytes.saturating_sub(inner.waiting.bytes),
            None => usize::MAX,
        };
        let mut inflater = self.window.map(|_| self.context.inflater.borrow_mut());
        let Inner { decoder, outbox, blocked, control, rare, .. } = inner;
        let result = decoder.decode(input, &limits, inflater.as_deref_mut(), &mut |item| {
            if item.is_control() && control.exceeds(config.max_control_frames, now) {
                violation = Some(TOO_MANY_CONTROL_FRAMES);
                return ControlFlow::Break(());
            }
            match item {
                Item::Text { data, ascii } if deliver => {
                    messages += 1;
                    bytes += data.bytes().len();
                    self.context.message(self.handle, Kind::Text, ascii, data);
                    if bytes < room { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                }
                Item::Binary(data) if deliver => {
                    let kind = if self.binary { Kind::Binary } else { Kind::Text };
                    let ascii = match kind {
                        Kind::Text => text_is_ascii(data.bytes()),
                        Kind::Binary => Some(false),
                    };
                    let Some(ascii) = ascii else {
                        violation = Some(UNSUPPORTED);
                        return ControlFlow::Break(());
                    };
                    messages += 1;
                    bytes += data.bytes().len();
                    self.context.message(self.handle, kind, ascii, data);
                    if bytes < room { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                }
                Item::Ping(payload) if deliver => {
                    let frame = message::pong(payload);
                    if *blocked {
                        // RFC 6455 section 5.5.3: of several pings only the last must be answered.
                        rare.get_or_insert_default().pong = Some(frame);
                    } else {
                        outbox.push(Chunk::control(frame));
                    }
                    ControlFlow::Continue(())
                }
                Item::Close { code, reason } => {
                    rare.get_or_insert_default().peer_close = Some((code, reason.into()));
                    ControlFlow::Break(())
                }
                // After our own close frame nothing but the peer's is of interest.
                _ => ControlFlow::Continue(()),
            }
        });
        drop(inflater);
        #[cfg(test)]
        self.plant(input);
        if messages > 0 {
            inner.signs.message();
            inner.waiting.events += messages;
            inner.waiting.bytes += bytes;
            self.context.meter(bytes as isize);
        }
        if let Some(violation) = violation.or(result.err()) {
            inner.rare().violation = Some(violation);
        } else if let Ok(taken) = result
            && taken < input.len()
            && !inner.has_last_word()
        {
            inner.rare().rest = input[taken..].into();
        }
        if inner.has_last_word() {
            self.settle(inner);
        } else {
            self.meter_decoder(inner);
            if inner.outbox.bytes() > 0 {
                self.flush_inner(inner);
            }
        }
    }

    /// Counts what an unfinished message takes, and what is not decoded.
    pub(super) fn meter_decoder(&self, inner: &mut Inner) {
        let held = inner.decoder.held() + inner.rest();
        if held != inner.assembling {
            self.context.meter_unfinished(held as isize - inner.assembling as isize);
            inner.assembling = held;
        }
    }

    /// The peer has said its last. Our close frame goes behind what the handlers still answer.
    fn settle(&self, inner: &mut Inner) {
        inner.decoder = Decoder::default();
        self.meter_decoder(inner);
        if inner.phase == Phase::Open && inner.waiting.events > 0 {
            inner.phase = Phase::Settling { since: Instant::now() };
            self.flush_inner(inner);
        } else {
            self.settled(inner);
        }
    }

    /// Says goodbye: the answer to a close frame repeats its code (RFC 6455 section 5.5.1); a
    /// violation is told with the code and the words for it (section 7.1.7).
    pub(super) fn settled(&self, inner: &mut Inner) {
        let since = Instant::now();
        let (frame, phase) = match inner.rare.as_deref() {
            Some(Rare { violation: Some(violation), .. }) => {
                let frame = message::close_frame(violation.code, violation.reason);
                (frame, Phase::Failing { since })
            }
            Some(Rare { peer_close: Some((code, _)), .. }) => {
                (message::close_frame(*code, ""), Phase::Closed { since })
            }
            _ => (message::close_frame(close::NORMAL, ""), Phase::Closed { since }),
        };
        if inner.phase.sends() {
            inner.outbox.push(Chunk::control(frame));
        }
        inner.phase = phase;
        self.flush_inner(inner);
        // What the peer still sends is read, to be thrown away.
        wake(inner);
    }
}
