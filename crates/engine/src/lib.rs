//! The tina4 engine: sockets, HTTP, WebSocket connections, the per-path hub, templates and static
//! files. It knows nothing of Node: events go to a queue, commands come from a publisher.
//!
//! # Layout
//! Read in this order; imports run downward only, from the last floor to the first (a test checks
//! it).
//! - plain data: [`config`] every limit and timer; [`close`] close codes; [`path`] the canonical form
//!   of a concrete path; `slots` handles; `clock` a shard's time; `alarm` what its thread sleeps by;
//!   `token` words of headers; [`message`] prepared frames
//! - machines: [`router`] patterns and matching; [`deflate`] compressed messages; `codec` what a
//!   client's bytes mean; [`lines`] what handlers are told of a request; `keepalive` when a peer is
//!   given up; [`outbox`] frames waiting to be written; [`topics`] who is where; [`template`] and
//!   [`static_files`] pages and files
//! - the border: `shared` configuration and counters of all shards; [`event`] what shards tell the
//!   handlers' thread, and [`event_queue`] how it comes there; `command` what they are told; `lease`
//!   who may touch a shard; `to_shard` what is not committed to it; [`outgoing`] frames for all of
//!   them; [`driving`] when the handlers' thread drives a shard itself; [`backplane`] the way to other
//!   processes; [`publisher`] that thread's sending side; [`routes`] the table both read
//! - sockets: `extension` and `subprotocol` what is agreed; [`upgrade`] the opening handshake;
//!   `socket` what is written to; `traffic` how long a socket under HTTP may take, and `wire` that
//!   socket; `tasks` what runs on a shard; `context` what its sockets share; `connection` one upgraded
//!   socket; `hub` a shard's connections by topic; `response` what the engine answers by itself;
//!   `opening` from the request to the connection
//! - requests: `client_ip`; `framing` which are refused unread; `body` what comes in; `held` what is
//!   on its way out; `waiting` for a handler's answer; `http`, which uses them
//! - `acceptor` where sockets come from; [`shard`](self) the thread that owns them; [`server`] the
//!   engine as a whole
//! - `fuzzing` what random bytes are fed to, in no other build
#![deny(unsafe_code)]

mod acceptor;
mod alarm;
pub mod backplane;
mod body;
mod client_ip;
mod clock;
pub mod close;
mod codec;
mod command;
pub mod config;
mod connection;
mod context;
pub mod deflate;
pub mod driving;
pub mod event;
pub mod event_queue;
mod extension;
mod framing;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod held;
mod html_context;
mod http;
mod hub;
mod keepalive;
mod lease;
pub mod lines;
pub mod message;
mod opening;
pub mod outbox;
pub mod outgoing;
pub mod path;
pub mod publisher;
mod response;
pub mod router;
pub mod routes;
pub mod server;
mod shard;
mod shared;
mod slots;
mod socket;
pub mod static_files;
mod subprotocol;
mod tasks;
pub mod template;
mod template_escape;
mod template_filters;
mod to_shard;
mod token;
pub mod topics;
mod traffic;
pub mod upgrade;
mod waiting;
mod wire;

pub use command::{Answer, AnswerBody};
pub use server::{App, Engine, Host, ListenError};
pub use shared::{Counters, Held};
pub use slots::Handle;
