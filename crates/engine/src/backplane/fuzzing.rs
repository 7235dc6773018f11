//! What arrives on a bus, as random bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::control::Control;
use super::envelope::{self, Delivery, Outbound, Payload, Place, Scope};
use super::node::{Here, Limits, Node};
use super::status::Status;
use crate::event::LogLevel;
use crate::message::Kind;

const SOURCE: &str = "0123456789abcdef";

/// One envelope or control message as it came from a bus.
pub fn envelopes(data: &[u8]) {
    if let Ok(read) = envelope::decode(data) {
        let place = read.place.unwrap_or(Place { epoch: 5, seq: 1 });
        if let Scope::Path(path) = &read.delivery.scope {
            let (kind, payload) = match &read.delivery.payload {
                Payload::Text(text) => (Kind::Text, text.as_bytes()),
                Payload::Binary(bytes) => (Kind::Binary, &bytes[..]),
            };
            let exclude = read.delivery.exclude;
            let delivered = &read.delivery.delivered;
            round(&read.source, place, Outbound { path, exclude, kind, payload, delivered });
        }
    }
    if let Some(control) = Control::decode(data) {
        let said = format!("{control:?}");
        let bytes = control.encode();
        let again = Control::decode(&bytes).map(|control| format!("{control:?}"));
        assert_eq!(again.as_ref(), Some(&said));
    }
    // And as what a handler broadcasts: any bytes, on any path.
    let (path, payload) = data.split_at(data.len() / 4);
    let path = String::from_utf8_lossy(path);
    let place = Place { epoch: 5, seq: envelope::MAX_NUMBER - 1 };
    let publish =
        Outbound { path: &path, exclude: Some(7), kind: Kind::Binary, payload, delivered: &[] };
    round(SOURCE, place, publish);
    let text = String::from_utf8_lossy(payload);
    round(SOURCE, place, Outbound { kind: Kind::Text, payload: text.as_bytes(), ..publish });
}

/// What is published is what is read.
fn round(source: &str, place: Place, publish: Outbound<'_>) {
    let bytes = envelope::encode(source, place, publish);
    assert!(bytes.len() >= envelope::least_size(publish.kind, publish.payload.len()));
    let read = envelope::decode(&bytes).expect("an envelope");
    assert_eq!(read.source, source);
    assert_eq!(read.place, envelope::is_source(source).then_some(place));
    assert_eq!(read.delivery.scope, Scope::Path(publish.path.to_owned()));
    assert_eq!(read.delivery.exclude, publish.exclude);
    assert_eq!(read.delivery.delivered, publish.delivered);
    let payload = match &read.delivery.payload {
        Payload::Text(text) => (Kind::Text, text.as_bytes()),
        Payload::Binary(bytes) => (Kind::Binary, &bytes[..]),
    };
    assert!(payload == (publish.kind, publish.payload));
}

/// A node that hears anything: each line is one thing that happens to it.
///
/// `m` and `c` with what arrives on the two channels, `s` with an envelope of a well-behaved origin
/// (digits: which one, its epoch, the number), `t` with so many milliseconds, `u` and `d` the link
/// up and down, `p` with a text to publish, `n` with a path to count, `o` what is to be sent.
pub fn nodes(data: &[u8]) {
    let limits = Limits {
        // Longer than any input lasts, so that no origin is forgotten.
        heartbeat: Duration::from_secs(3_600),
        replay_bytes: 64 * 1024,
        replay_age: Duration::from_secs(1),
        max_envelope: 4 * 1024,
    };
    let mut now = Instant::now();
    let mut node = Node::new(now, Arc::new(Status::new(SOURCE.into(), "test")), limits);
    let mut here = Order::default();
    for line in data.split(|byte| *byte == b'\n').take(1_000) {
        let Some((what, rest)) = line.split_first() else { continue };
        let text = String::from_utf8_lossy(rest);
        let path = "/a";
        match what {
            b'm' if !may_be_well_behaved(&text) => {
                node.hear(now, Channel::Messages, rest, &mut here);
            }
            b'c' if !may_be_well_behaved(&text) => {
                node.hear(now, Channel::Control, rest, &mut here);
            }
            b's' => {
                let (Some(source), Some(epoch)) = (digit(&text, 0), digit(&text, 1)) else {
                    continue;
                };
                let Ok(seq @ 1..) = text[2..].parse::<u64>() else { continue };
                if seq < envelope::MAX_NUMBER {
                    let payload = format!("#{source}/{epoch}/{seq}");
                    let payload = payload.as_bytes();
                    let (exclude, kind, delivered) = (None, Kind::Text, &[][..]);
                    let publish = Outbound { path, exclude, kind, payload, delivered };
                    let source = format!("{source:016}");
                    let bytes = envelope::encode(&source, Place { epoch, seq }, publish);
                    node.hear(now, Channel::Messages, &bytes, &mut here);
                }
            }
            b't' => {
                now += Duration::from_millis(text.parse().unwrap_or(0).min(3_000));
                node.tick(now, &mut here);
                assert!(node.pause(now) <= limits.heartbeat);
            }
            b'u' => node.link_up(now, text.parse().unwrap_or(usize::MAX)),
            b'd' => node.link_down(),
            b'p' => {
                let (exclude, kind, payload) = (None, Kind::Text, text.as_bytes());
                node.publish(now, Outbound { path, exclude, kind, payload, delivered: &[] });
            }
            b'n' => node.count(now, 7, text.into_owned(), &mut here),
            b'o' => {
                let mut outgoing = Vec::new();
                node.take_outgoing(now, 64, 64 * 1024, &mut outgoing);
                for (channel, bytes) in outgoing {
                    match channel {
                        Channel::Messages => assert!(envelope::decode(&bytes).is_ok()),
                        Channel::Control => assert!(Control::decode(&bytes).is_some()),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether what arrives could be in the name of a well-behaved origin.
fn may_be_well_behaved(text: &str) -> bool {
    text.contains("00000000") || text.contains(['#', '\\'])
}

fn digit(text: &str, at: usize) -> Option<u64> {
    let digit = text.chars().nth(at)?.to_digit(10);
    digit.map(u64::from).filter(|_| text.is_char_boundary(2))
}

/// What was delivered last of each well-behaved origin.
#[derive(Default)]
struct Order(HashMap<String, (u64, u64)>);

impl Here for Order {
    fn deliver(&mut self, delivery: &Delivery) -> bool {
        if let Payload::Text(text) = &delivery.payload
            && let Some(text) = text.strip_prefix('#')
        {
            let mut parts = text.split('/');
            let source = parts.next().unwrap_or_default().to_owned();
            let numbers: Vec<u64> = parts.map(|part| part.parse().expect("a number")).collect();
            let place = (numbers[0], numbers[1]);
            let before = self.0.insert(source, place);
            assert!(before.is_none_or(|before| before < place), "{place:?} after {before:?}");
        }
        true
    }

    fn count(&self, path: &str) -> u64 {
        path.len() as u64
    }

    fn counted(&mut self, id: u64, _: u64) {
        assert_eq!(id, 7);
    }

    fn is_over(&self) -> bool {
        false
    }

    fn log(&mut self, _: LogLevel, message: String) {
        assert!(message.len() < 1_000 && !message.contains('\n'), "{message:?}");
    }
}
