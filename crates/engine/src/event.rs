//! Events: what the shards tell the thread that runs the handlers.

use std::net::IpAddr;

use bytes::Bytes;

use crate::lines::Lines;
use crate::message::{self, Kind, LARGE};
use crate::router::{Params, RouteId};
use crate::slots::Handle;

/// Bytes of messages and bodies that the engine hands over at once, and at most one message or body
/// more. What JavaScript makes of them is alive at once; its heap for what is new grows with that, and
/// keeps the size for long.
pub const MAX_TAKEN_BYTES: usize = 64 * 1024;
/// What most connections need for the lines about them beside path and query, in bytes.
const OPENED_ROOM: usize = 96;

/// Something that happened, for a handler to hear of.
#[derive(Debug)]
pub enum Event {
    /// A WebSocket connection was opened.
    Open(Box<Opened>),
    /// A message arrived.
    Message {
        /// Whose.
        handle: Handle,
        /// Whether the handler gets text.
        kind: Kind,
        /// Whether all of a text is ASCII.
        ascii: bool,
        /// Where the bytes are.
        payload: Payload,
    },
    /// A connection has ended; its last event.
    Close {
        /// Whose.
        handle: Handle,
        /// The peer's close code, 1005 if it gave none, 1006 without a closing handshake.
        code: u16,
        /// The peer's close reason.
        reason: Box<str>,
    },
    /// An HTTP request waits for its answer.
    Request(Box<Request>),
    /// Everything that was queued for a connection when it was asked has been written.
    Drained {
        /// Whose.
        handle: Handle,
    },
    /// The engine has shut down: no connection is left.
    Stopped,
    /// The node stands to its bus in another way.
    Backplane {
        /// How.
        state: BackplaneState,
    },
    /// The connections on a path are counted, over all nodes.
    Counted {
        /// As it was asked for.
        id: u64,
        /// Of all nodes that answered.
        sum: u64,
    },
    /// Something an operator should know.
    Log {
        /// How urgent it is.
        level: LogLevel,
        /// The connection it is about, if it is about one.
        handle: Option<Handle>,
        /// One sentence; without its subject if that is the connection.
        message: String,
    },
}

/// How a node stands to its bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackplaneState {
    /// What is broadcast reaches the other nodes.
    Connected,
    /// It is kept for them, within the limits of the replay buffer.
    Connecting,
    /// There is no backplane, or it has ended.
    Off,
}

impl BackplaneState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            BackplaneState::Connected => "connected",
            BackplaneState::Connecting => "connecting",
            BackplaneState::Off => "off",
        }
    }
}

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the one who debugs the engine.
    Debug,
    /// Normal operation.
    Info,
    /// Something was dropped or refused.
    Warning,
    /// Something failed.
    Error,
}

/// A new connection: what its `open` handler may ask for.
#[derive(Debug)]
pub struct Opened {
    /// Names it from now on.
    pub handle: Handle,
    /// The route that matched.
    pub route: RouteId,
    /// 128 random bits, unique across nodes; handlers get them in hexadecimal.
    pub id: u128,
    /// The canonical concrete path.
    pub path: String,
    /// What the pattern captured, decoded.
    pub params: Params,
    /// The query without its question mark.
    pub query: String,
    /// The peer's address, or what a trusted proxy says it is.
    pub ip: IpAddr,
    /// The subprotocol that was agreed; empty for none.
    pub protocol: Box<str>,
    /// How far back what is compressed for it may refer, if compression was agreed.
    pub window: Option<crate::deflate::Window>,
    /// The headers of the upgrade request, a line `name:value` each.
    pub head: Box<str>,
    /// The bytes queued for it, shared with its shard.
    pub gauge: std::sync::Arc<crate::outbox::Gauge>,
}

impl Opened {
    /// Id, path, address, query and protocol, then parameters.
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::with_capacity(OPENED_ROOM + self.path.len() + self.query.len());
        lines.push(&id_text(self.id));
        lines.push(&self.path);
        lines.push_ip(self.ip);
        lines.push(&self.query);
        lines.push(&self.protocol);
        lines.push_params(&self.params);
        lines
    }
}

/// A connection's id as handlers and other nodes see it.
pub fn id_text(id: u128) -> String {
    format!("{id:032x}")
}

/// The id that [`id_text`] wrote; `None` for a text it never writes.
pub(crate) fn parse_id(text: &str) -> Option<u128> {
    let is_ours = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// An HTTP request with its whole body.
#[derive(Debug)]
pub struct Request {
    /// Names the answer that is waited for.
    pub handle: Handle,
    /// The route that matched.
    pub route: RouteId,
    /// Method in upper case, target as it was sent, canonical path and the address of the peer, or
    /// what a trusted proxy says it is; then parameters and headers.
    pub lines: Lines,
    /// The body; empty if there was none.
    pub body: Bytes,
}

impl Request {
    /// The method in upper case.
    pub fn method(&self) -> &str {
        self.lines.line(0)
    }

    /// Path and query as they were sent.
    pub fn target(&self) -> &str {
        self.lines.line(1)
    }

    /// The canonical concrete path.
    pub fn path(&self) -> &str {
        self.lines.line(2)
    }

    /// The peer's address, or what a trusted proxy says it is.
    pub fn ip(&self) -> &str {
        self.lines.line(3)
    }

    /// What the pattern captured, a line each.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.lines.params(4)
    }
}

/// A message's bytes: in its batch's buffer, or on their own when they are many or came in several
/// reads.
#[derive(Debug)]
pub enum Payload {
    /// A range of the batch's buffer.
    Inline {
        /// Where it begins.
        start: usize,
        /// How long it is.
        length: usize,
    },
    /// Its own allocation.
    Owned(Vec<u8>),
    /// The frame that sends it on as it is.
    Framed(Bytes),
}

impl Payload {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Inline { length, .. } => *length,
            Payload::Owned(bytes) => bytes.len(),
            Payload::Framed(frame) => message::payload(frame).len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, given the buffer of the batch it came in.
    pub fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match self {
            Payload::Inline { start, length } => {
                buffer.get(*start..start + length).unwrap_or_default()
            }
            Payload::Owned(bytes) => bytes,
            Payload::Framed(frame) => message::payload(frame),
        }
    }

    /// The frame that sends it on, if it was made.
    pub(crate) fn frame(&self) -> Option<&Bytes> {
        match self {
            Payload::Framed(frame) => Some(frame),
            Payload::Inline { .. } | Payload::Owned(_) => None,
        }
    }
}

/// A message that was taken, to be sent on as it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a Payload,
    buffer: &'a [u8],
}

impl Received<'_> {
    /// What it says.
    pub fn bytes(&self) -> &[u8] {
        self.payload.bytes(self.buffer)
    }
}

/// Events in the order they happened, and the bytes of their messages in one buffer.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// In order.
    pub events: Vec<Event>,
    /// What [`Payload::Inline`] points into.
    pub buffer: Vec<u8>,
    /// Bytes of messages and bodies, in the buffer or not.
    pub(crate) bytes: usize,
    /// Whose they are, if a shard's.
    pub(crate) shard: Option<usize>,
}

impl EventBatch {
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += match &event {
            Event::Message { payload, .. } => payload.len(),
            Event::Request(request) => request.body.len(),
            _ => 0,
        };
        self.events.push(event);
    }

    /// Copies a message's bytes: into the buffer, or, as that copy can be shared, into a frame.
    pub(crate) fn store(&mut self, kind: Kind, bytes: &[u8]) -> Payload {
        if bytes.len() >= LARGE {
            return Payload::Framed(message::framed(kind, bytes));
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        Payload::Inline { start, length: bytes.len() }
    }

    /// The message that event `index` is; `None` if it is none.
    pub fn message(&self, index: usize) -> Option<Received<'_>> {
        match self.events.get(index)? {
            Event::Message { kind, payload, .. } => {
                Some(Received { kind: *kind, payload, buffer: &self.buffer })
            }
            _ => None,
        }
    }

    /// Whether it holds as many bytes as are taken at once.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= MAX_TAKEN_BYTES
    }

    /// Makes it one to be used again.
    pub(crate) fn clear(&mut self) {
        self.events.clear();
        self.buffer.clear();
        self.bytes = 0;
        self.shard = None;
    }
}

impl From<Event> for EventBatch {
    fn from(event: Event) -> Self {
        let mut batch = Self::default();
        batch.push(event);
        batch
    }
}
