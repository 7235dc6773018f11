//! The plain objects that cross between JavaScript and the addon.

use napi_derive::napi;

/// A listener that a child process can inherit.
#[napi(object)]
pub struct BoundListener {
    /// Its file descriptor, open until the process ends.
    pub fd: i32,
    /// The port it is bound to.
    pub port: u32,
}

/// Where the app and the package keep their files.
#[napi(object)]
pub struct AppFolders {
    /// The app's folder.
    pub directory: String,
    /// The package's folder.
    pub package_directory: String,
    /// Templates, if not in `src/templates`.
    pub templates: Option<String>,
    /// Static files, if not in `public` and `src/public`.
    pub public: Option<String>,
    /// Whether edited templates are seen without a restart.
    pub development: bool,
    /// What `/health` reports.
    pub version: String,
    /// The socket of the relay between the workers of one machine.
    pub relay: Option<String>,
}

/// The part of the configuration that JavaScript acts on. Times are in milliseconds.
#[napi(object)]
pub struct NativeConfig {
    /// `TINA4_HOST`
    pub host: String,
    /// `TINA4_PORT`
    pub port: u32,
    /// `TINA4_WS_CLOSE_GRACE`
    pub ws_close_grace: f64,
    /// `TINA4_HANDLER_TIMEOUT`
    pub handler_timeout: f64,
    /// `TINA4_SHUTDOWN_TIMEOUT`
    pub shutdown_timeout: f64,
    /// `TINA4_SECRET`
    pub secret: Option<String>,
    /// `TINA4_LOG_LEVEL`
    pub log_level: String,
    /// `TINA4_LOG_FORMAT`
    pub log_format: String,
    /// `TINA4_DEBUG`
    pub debug: bool,
    /// `TINA4_WS_ALLOWED_ORIGINS`
    pub ws_allowed_origins: Vec<String>,
}

/// How a WebSocket route treats its connections.
#[napi(object)]
#[derive(Default)]
pub struct WebSocketOptions {
    /// Whether binary messages are handed over as they are.
    pub binary: bool,
    /// Whether messages are compressed; as configured if it is not said.
    pub compress: Option<bool>,
    /// The subprotocols it speaks.
    pub protocols: Vec<String>,
}

/// Where an engine listens.
#[napi(object)]
pub struct Address {
    /// The address it is bound to.
    pub host: String,
    /// The port.
    pub port: u32,
}

/// What was dropped, refused and is held.
#[napi(object)]
pub struct Statistics {
    /// Frames queued for a connection and never written.
    pub dropped_frames: f64,
    /// Connections closed with 1013.
    pub slow_consumers: f64,
    /// Upgrades refused.
    pub rejected_upgrades: f64,
    /// Panics inside the engine.
    pub panics: f64,
    /// Turns of shards on the JS thread.
    pub driven: f64,
    /// Bytes in queues and bodies.
    pub buffered: f64,
    /// Paths that have connections.
    pub topics: f64,
    /// Open sockets, upgraded or not.
    pub sockets: f64,
    /// WebSocket connections that are open or about to be.
    pub connections: f64,
    /// Connections that the shards keep a place for.
    pub members: f64,
    /// Connections that handlers can send to, or that JavaScript has not let go of.
    pub registered: f64,
    /// Requests that wait for their handlers.
    pub requests: f64,
}

/// How a node stands to its bus, and what it has counted since it started: envelopes, but for
/// `nodes` and `connects`.
#[napi(object)]
pub struct NativeBackplane {
    /// "redis", "nats" or "relay".
    pub kind: String,
    /// "connected", "connecting" or "off".
    pub state: String,
    /// What it calls itself on the bus.
    pub src: String,
    /// Other nodes heard lately.
    pub nodes: f64,
    /// Taken by the bus.
    pub published: f64,
    /// Of other nodes.
    pub received: f64,
    /// Received before.
    pub duplicates: f64,
    /// Malformed, of an unknown kind, too large, or without a usable path.
    pub ignored: f64,
    /// Received because they were asked for.
    pub recovered: f64,
    /// Of other nodes, never received.
    pub lost: f64,
    /// Own ones that never reached the bus.
    pub dropped: f64,
    /// Sent once more for a node that had missed them.
    pub resent: f64,
    /// Own ones that a node had missed and that were no longer kept.
    pub forgotten: f64,
    /// Times that a link came up.
    pub connects: f64,
}
