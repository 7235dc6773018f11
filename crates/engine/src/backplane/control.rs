//! Control messages: what our nodes tell each other on `tina4:ws:ctl`. The family does not read it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::{MAX_NUMBER, is_source};

/// Bytes of a control message around an envelope that is sent again, at most.
pub(crate) const MAX_WRAPPING: usize = 256;

/// A control message and who sent it.
#[derive(Debug)]
pub(crate) struct Control<'a> {
    pub(crate) source: String,
    /// When the sender started, in milliseconds since 1970.
    pub(crate) epoch: u64,
    pub(crate) body: Body<'a>,
}

/// What is said.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// "I am here", and how far the sender has published.
    Beat {
        head: u64,
        /// Its link has just come up: everyone answers with a beat.
        hello: bool,
    },
    /// "I am leaving."
    Bye,
    /// "I miss your envelopes from this one to that."
    Ask { to: String, from: u64, until: u64 },
    /// "I do not know you: what have you sent in the last so many milliseconds?"
    AskWithin { to: String, age: u64 },
    /// "You get these; what is before `first` is gone." `last` is less than `first` if none is left.
    /// `from` is that of the question, 0 if it was about a time.
    Answer { to: String, from: u64, first: u64, last: u64, head: u64 },
    /// One of the envelopes of an answer, as it was published.
    Again { envelope: &'a str },
    /// "How many connections have you on this path?"
    Count { id: u64, path: String },
    /// "So many."
    Counted { to: String, id: u64, count: u64 },
}

/// All fields of all kinds.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    src: String,
    epoch: u64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hello: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    envelope: Option<&'a RawValue>,
}

impl<'a> Control<'a> {
    pub(crate) fn encode(self) -> Bytes {
        let mut fields = Fields { src: self.source, epoch: self.epoch, ..Fields::default() };
        let mut envelope = None;
        fields.kind = match self.body {
            Body::Beat { head, hello } => {
                (fields.head, fields.hello) = (Some(head), Some(hello));
                "beat"
            }
            Body::Bye => "bye",
            Body::Ask { to, from, until } => {
                (fields.to, fields.from, fields.until) = (Some(to), Some(from), Some(until));
                "ask"
            }
            Body::AskWithin { to, age } => {
                (fields.to, fields.age) = (Some(to), Some(age));
                "ask"
            }
            Body::Answer { to, from, first, last, head } => {
                (fields.to, fields.from, fields.first) = (Some(to), Some(from), Some(first));
                (fields.last, fields.head) = (Some(last), Some(head));
                "answer"
            }
            Body::Again { envelope: again } => {
                envelope = Some(again);
                "again"
            }
            Body::Count { id, path } => {
                (fields.id, fields.path) = (Some(id), Some(path));
                "count"
            }
            Body::Counted { to, id, count } => {
                (fields.to, fields.id, fields.count) = (Some(to), Some(id), Some(count));
                "counted"
            }
        }
        .to_owned();
        // Texts and numbers: writing them to memory cannot fail.
        let mut out = serde_json::to_vec(&fields).unwrap_or_default();
        if let Some(envelope) = envelope {
            // An envelope is JSON already, and reading it again only to write it costs a copy more.
            out.pop();
            out.extend_from_slice(b",\"envelope\":");
            out.extend_from_slice(envelope.as_bytes());
            out.push(b'}');
        }
        out.into()
    }

    /// Reads a control message; `None` if it is none of ours.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let fields: Fields<'a> = serde_json::from_slice(bytes).ok()?;
        let numbers = [fields.head, fields.from, fields.until, fields.first, fields.last];
        let is_ours = is_source(&fields.src)
            && numbers.into_iter().flatten().all(|number| number <= MAX_NUMBER);
        // What is after the last one cannot be the first.
        let is_ahead = |first: u64| fields.head.is_some_and(|head| first > head + 1);
        if !is_ours || fields.first.is_some_and(is_ahead) {
            return None;
        }
        let body = match fields.kind.as_str() {
            "beat" => Body::Beat { head: fields.head?, hello: fields.hello.unwrap_or(false) },
            "bye" => Body::Bye,
            "ask" => match fields.age {
                Some(age) => Body::AskWithin { to: fields.to?, age },
                None => Body::Ask { to: fields.to?, from: fields.from?, until: fields.until? },
            },
            "answer" => Body::Answer {
                to: fields.to?,
                from: fields.from?,
                first: fields.first?,
                last: fields.last?,
                head: fields.head?,
            },
            "again" => Body::Again { envelope: fields.envelope?.get() },
            "count" => Body::Count { id: fields.id?, path: fields.path? },
            "counted" => Body::Counted { to: fields.to?, id: fields.id?, count: fields.count? },
            _ => return None,
        };
        Some(Self { source: fields.src, epoch: fields.epoch, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(body: Body<'_>) -> String {
        let said = format!("{body:?}");
        let source = "0123456789abcdef".to_owned();
        let bytes = Control { source, epoch: 5, body }.encode();
        let read = Control::decode(&bytes).expect("a control message");
        assert_eq!((read.source.as_str(), read.epoch), ("0123456789abcdef", 5));
        assert_eq!(format!("{:?}", read.body), said);
        String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8")
    }

    #[test]
    fn what_is_said_is_heard() {
        let to = || "f".repeat(16);
        round(Body::Beat { head: 3, hello: true });
        round(Body::Bye);
        round(Body::Ask { to: to(), from: 1, until: 2 });
        round(Body::AskWithin { to: to(), age: 9 });
        round(Body::Answer { to: to(), from: 2, first: 4, last: 3, head: 8 });
        round(Body::Count { id: 7, path: "/a\"b".into() });
        round(Body::Counted { to: to(), id: 7, count: 0 });
        let envelope = r#"{"src":"a","text":"}\""}"#;
        let again = round(Body::Again { envelope });
        assert!(again.len() <= envelope.len() + MAX_WRAPPING);
    }

    #[test]
    fn anything_else_is_not_heard() {
        for bytes in [
            &b"{}"[..],
            b"[]",
            br#"{"src":"0123456789abcdef","kind":"shout"}"#,
            br#"{"src":"0123456789abcdef","kind":"beat"}"#,
            br#"{"src":"0123456789abcdef","kind":"beat","head":-1}"#,
            br#"{"src":"0123456789abcdef","kind":"beat","head":18446744073709551615}"#,
            br#"{"src":"me","kind":"bye"}"#,
            br#"{"src":"0123456789abcdef","kind":"answer","to":"f","from":1,"first":9,"last":8,"head":7}"#,
        ] {
            assert!(Control::decode(bytes).is_none(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
