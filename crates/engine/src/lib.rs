//! The tina4 engine: sockets, HTTP, WebSocket connections, the per-path hub, templates and static
//! files. It knows nothing of Node; events go to a queue and commands come from a publisher.
//!
//! # Layout
//! Read in the order bytes meet them; imports run downward only (a test checks it).
//! - [`config`]: every limit and timer, with its variable, default and unit
//! - [`path`]: the canonical form of a concrete path; [`router`]: patterns and matching
//! - [`template`], [`static_files`]: what the engine answers without a handler
#![forbid(unsafe_code)]

pub mod config;
mod html_context;
pub mod path;
pub mod router;
pub mod static_files;
pub mod template;
mod template_escape;
mod template_filters;
