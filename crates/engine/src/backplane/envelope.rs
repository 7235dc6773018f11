//! Envelopes: one publish as it travels on `tina4:ws`, in the format of the tina4 family.
//!
//! A JSON object: `src` (who published), `kind` ("all", "path" or "room"), `exclude` (the id of a
//! connection that must not get it, or null), `room`, `path`, and either `text` or `b64`. Ours add
//! `epoch` and `seq`, and `delivered` where it is needed; other frameworks do not look at them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{id_text, parse_id};
use crate::message::Kind;

/// Bytes of an envelope around its payload and its path, at most.
pub(crate) const MAX_FIELDS: usize = 512;
/// The last number of an envelope: what JSON carries between all languages without loss. At a
/// million a second it is reached after 285 years.
pub(crate) const MAX_NUMBER: u64 = 1 << 53;
/// Digits of a `src` that is one of ours.
const SOURCE_DIGITS: usize = 16;

/// A publish of this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbound<'a> {
    pub(crate) path: &'a str,
    pub(crate) exclude: Option<u128>,
    pub(crate) kind: Kind,
    /// UTF-8 if it is text.
    pub(crate) payload: &'a [u8],
    /// Nodes that have delivered it already.
    pub(crate) delivered: &'a [String],
}

/// Where in its origin's publishes an envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// When the origin started, in milliseconds since 1970.
    pub(crate) epoch: u64,
    /// From 1 on.
    pub(crate) seq: u64,
}

/// An envelope that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) source: String,
    /// `None` for another framework's: such an envelope is delivered as it comes.
    pub(crate) place: Option<Place>,
    pub(crate) delivery: Delivery,
}

/// What an envelope asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) scope: Scope,
    pub(crate) exclude: Option<u128>,
    pub(crate) payload: Payload,
    /// Nodes that have delivered it already.
    pub(crate) delivered: Vec<String>,
}

/// Who is to get it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every connection.
    All,
    /// The connections on a concrete path, not yet in canonical form.
    Path(String),
    /// The members of a room, of which there are none.
    Room,
}

/// The message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Text(String),
    Binary(Vec<u8>),
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        match self {
            Payload::Text(text) => text.len(),
            Payload::Binary(bytes) => bytes.len(),
        }
    }
}

/// Why an envelope is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is not the JSON object of an envelope ({0})")]
    Json(String),
    #[error("its kind is {0:?}")]
    Kind(String),
    #[error("it has no path")]
    NoPath,
    #[error("it needs exactly one of text and b64")]
    Payload,
    #[error("its b64 is not base64")]
    Base64,
}

#[derive(Serialize)]
struct Written<'a> {
    src: &'a str,
    kind: &'static str,
    exclude: Option<String>,
    room: Option<&'a str>,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64: Option<String>,
    epoch: u64,
    seq: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    delivered: &'a [String],
}

/// Where an envelope stands, whatever else is in it.
#[derive(Deserialize)]
struct ReadPlace {
    src: String,
    epoch: u64,
    seq: u64,
}

#[derive(Deserialize)]
struct Read {
    src: String,
    kind: String,
    exclude: Option<String>,
    path: Option<String>,
    text: Option<String>,
    b64: Option<String>,
    epoch: Option<u64>,
    seq: Option<u64>,
    #[serde(default)]
    delivered: Vec<String>,
}

/// A new node's `src`: 64 random bits in hexadecimal.
pub(crate) fn new_source() -> String {
    format!("{:0SOURCE_DIGITS$x}", rand::random::<u64>())
}

/// Whether a text can be the `src` of a node that numbers its envelopes.
pub(crate) fn is_source(text: &str) -> bool {
    text.len() == SOURCE_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Bytes that the envelope of a publish takes at least.
pub(crate) fn least_size(kind: Kind, payload: usize) -> usize {
    match kind {
        Kind::Text => payload,
        Kind::Binary => payload.div_ceil(3) * 4,
    }
}

/// The envelope of a publish.
pub(crate) fn encode(source: &str, place: Place, publish: Outbound<'_>) -> Bytes {
    let (text, b64) = match publish.kind {
        // What the border hands over as text is UTF-8; anything else would come out as U+FFFD.
        Kind::Text => (Some(String::from_utf8_lossy(publish.payload)), None),
        Kind::Binary => (None, Some(BASE64.encode(publish.payload))),
    };
    let written = Written {
        src: source,
        kind: "path",
        exclude: publish.exclude.map(id_text),
        room: None,
        path: publish.path,
        text: text.as_deref(),
        b64,
        epoch: place.epoch,
        seq: place.seq,
        delivered: publish.delivered,
    };
    let expected = least_size(publish.kind, publish.payload.len()) + publish.path.len();
    let mut out = Vec::with_capacity(expected + expected / 8 + MAX_FIELDS);
    // Writing texts and numbers to memory cannot fail.
    let _ = serde_json::to_writer(&mut out, &written);
    out.into()
}

/// Reads an envelope.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Inbound, Malformed> {
    let read: Read =
        serde_json::from_slice(bytes).map_err(|error| Malformed::Json(error.to_string()))?;
    let scope = match read.kind.as_str() {
        "all" => Scope::All,
        "path" => Scope::Path(read.path.ok_or(Malformed::NoPath)?),
        "room" => Scope::Room,
        _ => return Err(Malformed::Kind(read.kind.chars().take(40).collect())),
    };
    let payload = match (read.text, read.b64) {
        (Some(text), None) => Payload::Text(text),
        (None, Some(b64)) => Payload::Binary(BASE64.decode(b64).map_err(|_| Malformed::Base64)?),
        _ => return Err(Malformed::Payload),
    };
    let place = place(&read.src, read.epoch, read.seq);
    let exclude = read.exclude.as_deref().and_then(parse_id);
    let delivery = Delivery { scope, exclude, payload, delivered: read.delivered };
    Ok(Inbound { source: read.src, place, delivery })
}

/// Whose envelope it is and where it stands, of one that cannot be taken as a whole. `None` if it has
/// no place.
pub(crate) fn decode_place(bytes: &[u8]) -> Option<(String, Place)> {
    let read: ReadPlace = serde_json::from_slice(bytes).ok()?;
    let place = place(&read.src, Some(read.epoch), Some(read.seq))?;
    Some((read.src, place))
}

fn place(source: &str, epoch: Option<u64>, seq: Option<u64>) -> Option<Place> {
    let (epoch, seq) = (epoch?, seq?);
    let is_ours = (1..MAX_NUMBER).contains(&seq) && is_source(source);
    is_ours.then_some(Place { epoch, seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { epoch: 1_700_000_000_000, seq: 7 };

    fn publish(kind: Kind, payload: &[u8]) -> Outbound<'_> {
        Outbound { path: "/ws/chat/r", exclude: None, kind, payload, delivered: &[] }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("JSON is UTF-8")
    }

    #[test]
    fn an_envelope_has_the_fields_of_the_family_and_a_place() {
        let envelope = encode("0123456789abcdef", PLACE, publish(Kind::Text, b"a\"\n"));
        assert_eq!(
            text(&envelope),
            r#"{"src":"0123456789abcdef","kind":"path","exclude":null,"room":null,"path":"/ws/chat/r","text":"a\"\n","epoch":1700000000000,"seq":7}"#
        );
        let publish = Outbound { exclude: Some(255), ..publish(Kind::Binary, &[0, 255]) };
        let envelope = encode("0123456789abcdef", PLACE, publish);
        assert!(text(&envelope).contains(r#""exclude":"000000000000000000000000000000ff""#));
        assert!(text(&envelope).contains(r#""b64":"AP8=""#));
        assert!(!text(&envelope).contains("text"));
    }

    #[test]
    fn what_was_written_is_read_again() {
        for (kind, payload) in [
            (Kind::Text, &b""[..]),
            (Kind::Text, "é\u{0}\u{2028}\\".as_bytes()),
            (Kind::Binary, &[]),
            (Kind::Binary, &[0, 1, 2, 253, 254, 255, 10]),
        ] {
            let delivered = ["f".repeat(16)];
            let publish =
                Outbound { exclude: Some(9), delivered: &delivered, ..publish(kind, payload) };
            let read = decode(&encode("00ff00ff00ff00ff", PLACE, publish)).expect("an envelope");
            assert_eq!(read.source, "00ff00ff00ff00ff");
            assert_eq!(read.place, Some(PLACE));
            assert_eq!(read.delivery.exclude, Some(9));
            assert_eq!(read.delivery.delivered, delivered);
            assert_eq!(read.delivery.scope, Scope::Path("/ws/chat/r".into()));
            match read.delivery.payload {
                Payload::Text(text) => assert_eq!(text.as_bytes(), payload),
                Payload::Binary(bytes) => assert_eq!(bytes, payload),
            }
        }
    }

    #[test]
    fn an_envelope_of_another_framework_has_no_place() {
        let read = decode(
            br#"{"src":"ab","kind":"all","exclude":"1a2b3c4d","room":null,"path":null,"text":"x","later":[1]}"#,
        )
        .expect("an envelope");
        assert_eq!(read.place, None);
        assert_eq!(read.delivery.scope, Scope::All);
        assert_eq!(read.delivery.exclude, None, "an id that no connection of ours has");
        let forged = decode(br#"{"src":"ab","kind":"room","text":"x","epoch":1,"seq":1}"#);
        assert_eq!(forged.expect("an envelope").place, None, "such a node numbers nothing");
    }

    #[test]
    fn what_is_no_envelope_says_why() {
        for (bytes, reason) in [
            (&b""[..], "it is not the JSON object of an envelope"),
            (b"[]", "it is not the JSON object of an envelope"),
            (b"\xff\xfe", "it is not the JSON object of an envelope"),
            (br#"{"src":1,"kind":"all","text":"x"}"#, "it is not the JSON object of an envelope"),
            (br#"{"src":"a","kind":"some","text":"x"}"#, r#"its kind is "some""#),
            (br#"{"src":"a","kind":"path","text":"x"}"#, "it has no path"),
            (br#"{"src":"a","kind":"all"}"#, "it needs exactly one of text and b64"),
            (br#"{"src":"a","kind":"all","text":"x","b64":""}"#, "it needs exactly one"),
            (br#"{"src":"a","kind":"all","b64":"?"}"#, "its b64 is not base64"),
        ] {
            let error = decode(bytes).expect_err("malformed").to_string();
            assert!(error.starts_with(reason), "{}: {error}", String::from_utf8_lossy(bytes));
        }
        let nested = "[".repeat(100_000);
        assert!(decode(format!(r#"{{"src":{nested}"#).as_bytes()).is_err());
    }
}
