//! Every limit and timer of the engine, with its variable, default and unit.

use std::collections::HashMap;
use std::fmt;
use std::thread;
use std::time::Duration;

pub mod bus;
mod network;
mod setting;
mod variables;

pub use bus::Bus;
pub use network::{Network, NetworkError};
pub use variables::VARIABLES;

use setting::{Setting, Settings, Zero};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: u64 = 1024 * 1024 * 1024;
const TIB: u64 = 1024 * GIB;
/// The longest string of V8, in characters, each of which is a byte at least.
const MAX_STRING: u64 = (1 << 29) - 24;

/// The smallest buffer that hyper reads a request head into.
const MIN_HEADER_BYTES: u64 = 8 * 1024;

/// Characters of a value that an error quotes.
const QUOTED_CHARS: usize = 100;

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    All,
    /// What helps to find a mistake.
    Debug,
    /// What happened.
    Info,
    /// What may become a problem.
    Warning,
    /// What went wrong.
    Error,
}

impl LogLevel {
    /// The word of it in `TINA4_LOG_LEVEL`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::All => "ALL",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warning => "WARNING",
            LogLevel::Error => "ERROR",
        }
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word of it in `TINA4_LOG_FORMAT`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// A setting that stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}, accepted is {accepted}")]
pub struct ConfigError {
    /// The variable.
    pub variable: &'static str,
    /// What it was set to, shortened.
    pub value: String,
    /// What it may be set to.
    pub accepted: String,
}

impl ConfigError {
    fn new(variable: &'static str, value: &str, accepted: String) -> Self {
        let value = match value.char_indices().nth(QUOTED_CHARS) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value.to_owned(),
        };
        Self { variable, value, accepted }
    }
}

/// The limits and timers of one server.
///
/// `Default` is what a server without any setting has. Durations of zero mean "off" only where the
/// field says so.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// Address or host name to listen on. `TINA4_HOST`, then `HOST`; default `0.0.0.0`, every IPv4
    /// address of the machine. `127.0.0.1` behind a proxy on the same machine, `::` for IPv6 too.
    pub host: String,
    /// Port to listen on, 0 for any free one. `TINA4_PORT`, then `PORT`; default 7148.
    pub port: u16,
    /// Threads that own sockets, 1 to 64. `TINA4_IO_THREADS`; default one less than there are cores,
    /// at least 1 and at most 8. More than there are spare cores makes a server slower.
    pub io_threads: usize,
    /// Bytes of one message that a peer may send, 1 to 536,870,888, for Node.js has no longer string; a
    /// larger one closes with 1009.
    /// `TINA4_WS_MAX_MESSAGE_SIZE`, then `TINA4_WS_MAX_FRAME_SIZE`; default 1 MiB. Raise it for
    /// peers that send files; each connection may hold this much of an unfinished message.
    pub max_message_size: usize,
    /// Frames that one message may come in, 1 to 1,048,576; more closes with 1008.
    /// `TINA4_WS_MAX_FRAGMENTS`; default 4,096. A fragment costs work however few bytes are in it,
    /// so that the size alone does not bound what a peer can cause.
    pub max_fragments: usize,
    /// Pings, pongs and close frames that a peer may send in one second, zero for no limit; more
    /// closes with 1008. `TINA4_WS_MAX_CONTROL_FRAMES`; default 1,000. Each ping is answered.
    pub max_control_frames: usize,
    /// Whether messages are compressed for peers that can inflate them (permessage-deflate, RFC
    /// 7692); a route may say otherwise. `TINA4_WS_COMPRESSION`; default false. It costs CPU on the
    /// threads that own sockets, for every message that is sent to one, and saves traffic.
    pub compression: bool,
    /// Bytes of a message below which it is sent as it is, 1 to 1 GiB.
    /// `TINA4_WS_COMPRESSION_THRESHOLD`; default 1 KiB. Small ones hardly get smaller.
    pub compression_threshold: usize,
    /// Unsent bytes of one connection, 1 to 1 GiB, before it closes with 1013 as a slow consumer.
    /// `TINA4_WS_MAX_BACKLOG`; default 1 MiB. One message of any size fits an empty outbox. Raise it
    /// for peers that get bursts, lower it where there are many connections.
    pub max_backlog: usize,
    /// Bytes that all queues and bodies of the server may hold together, 64 KiB to 1 TiB; above it
    /// reading pauses, the largest outboxes close with 1013 and arriving bodies get 503.
    /// `TINA4_MAX_BUFFERED`; default 256 MiB. Set it to what the machine has to spare.
    pub max_buffered: usize,
    /// Messages of one connection that wait for its handler, 1 to 1,048,576, at which its socket is
    /// not read any more. `TINA4_WS_MAX_PENDING_MESSAGES`; default 64. A read that has begun is
    /// finished, so there may be more for a moment.
    pub max_pending_messages: usize,
    /// Bytes of them, 1 to 1 GiB, at which its socket is not read any more.
    /// `TINA4_WS_MAX_PENDING_SIZE`; default 256 KiB.
    pub max_pending_bytes: usize,
    /// How long the close handler waits for one that is pending when the socket ends; zero does not
    /// wait. `TINA4_WS_CLOSE_GRACE`; default 5 s.
    pub close_grace: Duration,
    /// How long a peer has to answer a close frame before its socket is cut.
    /// `TINA4_WS_CLOSING_TIMEOUT`; default 5 s, never zero.
    pub closing_timeout: Duration,
    /// How long an HTTP handler has to begin its answer; then the engine answers 503.
    /// `TINA4_HANDLER_TIMEOUT`; default 60 s, never zero.
    pub handler_timeout: Duration,
    /// The key of JSON web tokens. `TINA4_SECRET`; none by default. Taken as it is, blanks included.
    pub secret: Option<String>,
    /// Whose `X-Forwarded-For` counts. `TINA4_TRUSTED_PROXIES`; nobody's by default. Set it to the
    /// addresses of your proxies, and of nobody else: who is on the list chooses its own `ip`.
    pub trusted_proxies: Vec<Network>,
    /// WebSocket connections at a time, zero for no limit; above it an upgrade gets 503.
    /// `TINA4_WS_MAX_CONNECTIONS`; default 0.
    pub max_connections: usize,
    /// The same for one address, or for the /64 network of one that is IPv6, zero for no limit; above
    /// it an upgrade gets 503. `TINA4_WS_MAX_CONNECTIONS_PER_IP`; default 0. A company or a mobile
    /// network may have one address for thousands; behind a proxy set `TINA4_TRUSTED_PROXIES`, or all
    /// have the proxy's.
    pub max_connections_per_ip: usize,
    /// Time between two pings to a peer, zero for none. `TINA4_WS_PING_INTERVAL`; default 30 s.
    /// Shorter than the idle time of the proxies in between, so that they keep the connection.
    pub ping_interval: Duration,
    /// How long a peer has to answer a ping before its connection counts as dead.
    /// `TINA4_WS_PING_TIMEOUT`; default 10 s, never zero.
    pub ping_timeout: Duration,
    /// Time without a message from the peer after which its connection closes with 1001, zero for
    /// never; an answer to a ping is no message. `TINA4_WS_IDLE_TIMEOUT`; default 0.
    pub idle_timeout: Duration,
    /// Origins, in lower case, whose pages may open a WebSocket; every page's when empty. Else an
    /// upgrade from another origin, or with none, gets 403. `TINA4_WS_ALLOWED_ORIGINS`; default
    /// empty. Set it wherever a cookie alone says who a peer is.
    pub allowed_origins: Vec<String>,
    /// The bus that carries broadcasts to other processes. `TINA4_WS_BACKPLANE` (`redis` or `nats`)
    /// and `TINA4_WS_BACKPLANE_URL`; none by default, so that every process is on its own.
    pub backplane: Option<Bus>,
    /// How often a node says on the bus that it is there; one that is not heard for three of them
    /// counts as gone, a link that is silent for as long is made anew.
    /// `TINA4_WS_BACKPLANE_HEARTBEAT`; default 2 s, never zero. The same on all nodes.
    pub backplane_heartbeat: Duration,
    /// The longest pause between two attempts to reach the bus; the first is 0.1 s.
    /// `TINA4_WS_BACKPLANE_RETRY_DELAY`; default 5 s, never zero.
    pub backplane_retry_delay: Duration,
    /// Bytes of envelopes kept for nodes that missed them or until the bus is there again, 64 KiB to
    /// 1 GiB; also what may wait for missing ones of others. `TINA4_WS_BACKPLANE_REPLAY_SIZE`;
    /// default 16 MiB. Raise it to what is published while the bus restarts.
    pub backplane_replay_bytes: usize,
    /// How long they are kept. `TINA4_WS_BACKPLANE_REPLAY_AGE`; default 60 s, never zero. The same on
    /// all nodes.
    pub backplane_replay_age: Duration,
    /// Bytes of one envelope, 1 KiB to 64 MiB; a larger one is neither published nor accepted.
    /// `TINA4_WS_BACKPLANE_MAX_ENVELOPE`; default 8 MiB. Text grows a little by its quotes, binary by
    /// a third.
    pub backplane_max_envelope: usize,
    /// Bytes of a request body, 1 to 1 GiB; a larger one is answered with 413.
    /// `TINA4_MAX_UPLOAD_SIZE`; default 10 MiB. Bodies are held in memory.
    pub max_upload_size: usize,
    /// How long a shutdown may take; zero cuts every connection at once. `TINA4_SHUTDOWN_TIMEOUT`;
    /// default 30 s. Shorter than what the supervisor of the process allows.
    pub shutdown_timeout: Duration,
    /// How long a peer has to send the head of a request, from its first byte; a new connection has
    /// it from the start. `TINA4_HEADER_TIMEOUT`; default 10 s, never zero.
    pub header_timeout: Duration,
    /// How long a peer has to send the whole body of a request; then it gets 408.
    /// `TINA4_BODY_TIMEOUT`; default 300 s, never zero.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that is being sent; then it is cut.
    /// `TINA4_SEND_TIMEOUT`; default 60 s, never zero.
    pub send_timeout: Duration,
    /// How long an HTTP connection may wait for its next request. `TINA4_KEEP_ALIVE_TIMEOUT`;
    /// default 65 s, never zero. Longer than that of a proxy in front, which else meets a socket that
    /// is just being closed.
    pub keep_alive_timeout: Duration,
    /// Bytes of a request's head, 8 KiB to 1 MiB. `TINA4_MAX_HEADER_SIZE`; default 16 KiB. Raise it
    /// for large cookies.
    pub max_header_bytes: usize,
    /// Headers of a request, 1 to 1,000. `TINA4_MAX_HEADERS`; default 100.
    pub max_headers: usize,
    /// Folder of static files that goes before `src/public` and `public` of the app.
    /// `TINA4_PUBLIC_DIR`; none by default.
    pub public_dir: Option<String>,
    /// Whether error pages show what went wrong. `TINA4_DEBUG`; default false. Never where
    /// strangers can see it.
    pub debug: bool,
    /// The least that is logged. `TINA4_LOG_LEVEL`; default [`LogLevel::Info`].
    pub log_level: LogLevel,
    /// How a log line is written. `TINA4_LOG_FORMAT`; default [`LogFormat::Text`].
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        Self {
            host: "0.0.0.0".to_owned(),
            port: 7148,
            io_threads: (cores - 1).clamp(1, 8),
            max_message_size: MIB,
            max_fragments: 4096,
            max_control_frames: 1_000,
            compression: false,
            compression_threshold: KIB,
            max_backlog: MIB,
            max_buffered: 256 * MIB,
            max_pending_messages: 64,
            max_pending_bytes: 256 * KIB,
            close_grace: Duration::from_secs(5),
            closing_timeout: Duration::from_secs(5),
            handler_timeout: Duration::from_secs(60),
            secret: None,
            trusted_proxies: Vec::new(),
            max_connections: 0,
            max_connections_per_ip: 0,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            idle_timeout: Duration::ZERO,
            allowed_origins: Vec::new(),
            backplane: None,
            backplane_heartbeat: Duration::from_secs(2),
            backplane_retry_delay: Duration::from_secs(5),
            backplane_replay_bytes: 16 * MIB,
            backplane_replay_age: Duration::from_secs(60),
            backplane_max_envelope: 8 * MIB,
            max_upload_size: 10 * MIB,
            shutdown_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(300),
            send_timeout: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(65),
            max_header_bytes: 16 * KIB,
            max_headers: 100,
            public_dir: None,
            debug: false,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    }
}

impl fmt::Debug for Config {
    /// A few fields: the key of the tokens must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("io_threads", &self.io_threads)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the settings that are there and takes the defaults for the others.
    ///
    /// `settings` maps the names of [`VARIABLES`] to text; other names are not looked at. A blank
    /// value counts as not set. Durations are seconds with or without decimals, sizes are bytes.
    ///
    /// # Errors
    /// The first value that cannot be used: one sentence with the variable, the value and what is
    /// accepted.
    pub fn from_settings(settings: &HashMap<String, String>) -> Result<Self, ConfigError> {
        Self::read(&Settings::new(|name| settings.get(name).map(String::as_str)))
    }

    fn read<'a, F>(settings: &Settings<'a, F>) -> Result<Self, ConfigError>
    where
        F: Fn(&'static str) -> Option<&'a str>,
    {
        let mut config = Self::default();
        let bytes = |name, into: &mut usize, min, max| match settings.get(name) {
            Some(setting) => setting.bytes(min, max).map(|value| *into = value),
            None => Ok(()),
        };
        let seconds = |name, into: &mut Duration, zero| match settings.get(name) {
            Some(setting) => setting.duration(zero).map(|value| *into = value),
            None => Ok(()),
        };

        if let Some(host) = settings.either("TINA4_HOST", "HOST") {
            config.host = host.trimmed().to_owned();
        }
        if let Some(port) = settings.either("TINA4_PORT", "PORT") {
            config.port = port.number("a whole number", 0, u64::from(u16::MAX))?;
        }
        if let Some(threads) = settings.get("TINA4_IO_THREADS") {
            config.io_threads = threads.number("a whole number", 1, 64)?;
        }

        let size = settings.either("TINA4_WS_MAX_MESSAGE_SIZE", "TINA4_WS_MAX_FRAME_SIZE");
        if let Some(size) = size {
            config.max_message_size = size.bytes(1, MAX_STRING)?;
        }
        if let Some(compression) = settings.get("TINA4_WS_COMPRESSION") {
            config.compression = compression.boolean()?;
        }
        let threshold = &mut config.compression_threshold;
        bytes("TINA4_WS_COMPRESSION_THRESHOLD", threshold, 1, GIB)?;
        bytes("TINA4_WS_MAX_BACKLOG", &mut config.max_backlog, 1, GIB)?;
        bytes("TINA4_MAX_BUFFERED", &mut config.max_buffered, 64 * 1024, TIB)?;
        let (least, most) = (64 * 1024, GIB);
        bytes("TINA4_WS_BACKPLANE_REPLAY_SIZE", &mut config.backplane_replay_bytes, least, most)?;
        let (least, most) = (1024, 64 * 1024 * 1024);
        bytes("TINA4_WS_BACKPLANE_MAX_ENVELOPE", &mut config.backplane_max_envelope, least, most)?;
        bytes("TINA4_MAX_UPLOAD_SIZE", &mut config.max_upload_size, 1, GIB)?;
        bytes(
            "TINA4_MAX_HEADER_SIZE",
            &mut config.max_header_bytes,
            MIN_HEADER_BYTES,
            1024 * 1024,
        )?;
        bytes("TINA4_WS_MAX_PENDING_SIZE", &mut config.max_pending_bytes, 1, GIB)?;
        let count = |name, into: &mut usize, min, max| match settings.get(name) {
            Some(setting) => {
                let kind =
                    if min == 0 { "a whole number (0 is no limit)" } else { "a whole number" };
                setting.number(kind, min, max).map(|value| *into = value)
            }
            None => Ok(()),
        };
        count("TINA4_MAX_HEADERS", &mut config.max_headers, 1, 1_000)?;
        let many = 1_048_576;
        count("TINA4_WS_MAX_FRAGMENTS", &mut config.max_fragments, 1, many)?;
        count("TINA4_WS_MAX_CONTROL_FRAMES", &mut config.max_control_frames, 0, many)?;
        count("TINA4_WS_MAX_PENDING_MESSAGES", &mut config.max_pending_messages, 1, many)?;
        let most = u64::from(u32::MAX);
        count("TINA4_WS_MAX_CONNECTIONS", &mut config.max_connections, 0, most)?;
        count("TINA4_WS_MAX_CONNECTIONS_PER_IP", &mut config.max_connections_per_ip, 0, most)?;

        seconds("TINA4_WS_CLOSE_GRACE", &mut config.close_grace, Zero::Now)?;
        seconds("TINA4_WS_CLOSING_TIMEOUT", &mut config.closing_timeout, Zero::Refused)?;
        seconds("TINA4_HANDLER_TIMEOUT", &mut config.handler_timeout, Zero::Refused)?;
        seconds("TINA4_WS_PING_INTERVAL", &mut config.ping_interval, Zero::Off)?;
        seconds("TINA4_WS_PING_TIMEOUT", &mut config.ping_timeout, Zero::Refused)?;
        seconds("TINA4_WS_IDLE_TIMEOUT", &mut config.idle_timeout, Zero::Off)?;
        let heartbeat = &mut config.backplane_heartbeat;
        seconds("TINA4_WS_BACKPLANE_HEARTBEAT", heartbeat, Zero::Refused)?;
        let retry_delay = &mut config.backplane_retry_delay;
        seconds("TINA4_WS_BACKPLANE_RETRY_DELAY", retry_delay, Zero::Refused)?;
        let replay_age = &mut config.backplane_replay_age;
        seconds("TINA4_WS_BACKPLANE_REPLAY_AGE", replay_age, Zero::Refused)?;
        seconds("TINA4_SHUTDOWN_TIMEOUT", &mut config.shutdown_timeout, Zero::Now)?;
        seconds("TINA4_HEADER_TIMEOUT", &mut config.header_timeout, Zero::Refused)?;
        seconds("TINA4_BODY_TIMEOUT", &mut config.body_timeout, Zero::Refused)?;
        seconds("TINA4_SEND_TIMEOUT", &mut config.send_timeout, Zero::Refused)?;
        seconds("TINA4_KEEP_ALIVE_TIMEOUT", &mut config.keep_alive_timeout, Zero::Refused)?;

        config.secret = settings.get("TINA4_SECRET").map(|key| key.raw().to_owned());
        if let Some(proxies) = settings.get("TINA4_TRUSTED_PROXIES") {
            config.trusted_proxies = networks(proxies)?;
        }
        if let Some(origins) = settings.get("TINA4_WS_ALLOWED_ORIGINS") {
            config.allowed_origins = self::origins(origins)?;
        }
        config.backplane =
            backplane(settings.get("TINA4_WS_BACKPLANE"), settings.get("TINA4_WS_BACKPLANE_URL"))?;
        config.public_dir = settings.get("TINA4_PUBLIC_DIR").map(|dir| dir.trimmed().to_owned());
        if let Some(debug) = settings.get("TINA4_DEBUG") {
            config.debug = debug.boolean()?;
        }
        if let Some(level) = settings.get("TINA4_LOG_LEVEL") {
            use LogLevel::{All, Debug, Error, Info, Warning};
            config.log_level = level
                .one_of(&[All, Debug, Info, Warning, Error].map(|level| (level.as_str(), level)))?;
        }
        if let Some(format) = settings.get("TINA4_LOG_FORMAT") {
            use LogFormat::{Json, Text};
            config.log_format =
                format.one_of(&[Text, Json].map(|format| (format.as_str(), format)))?;
        }
        Ok(config)
    }
}

/// The bus that a kind and a URL name. A URL alone names none.
fn backplane(
    kind: Option<Setting<'_>>,
    url: Option<Setting<'_>>,
) -> Result<Option<Bus>, ConfigError> {
    let Some(kind) = kind else { return Ok(None) };
    let read: fn(&str) -> Result<Bus, String>;
    let default;
    match kind.trimmed().to_ascii_lowercase().as_str() {
        "redis" => (read, default) = (Bus::redis, "redis://localhost:6379"),
        "nats" => (read, default) = (Bus::nats, "nats://localhost:4222"),
        _ => return Err(kind.refused("redis or nats, or an empty value for none")),
    }
    match url {
        Some(url) => read(url.trimmed()).map(Some).map_err(|accepted| url.refused_unseen(accepted)),
        None => Ok(read(default).ok()),
    }
}

fn networks(setting: Setting<'_>) -> Result<Vec<Network>, ConfigError> {
    let parsed: Result<Vec<Network>, NetworkError> = setting.list().map(str::parse).collect();
    parsed.map_err(|_| {
        setting.refused("a list of IP addresses and ranges with commas, such as 10.0.0.0/8,::1")
    })
}

/// Origins as browsers send them: in lower case, a scheme, a host and perhaps a port.
///
/// They are compared as text, so that one with a path or a slash at its end would never match.
fn origins(setting: Setting<'_>) -> Result<Vec<String>, ConfigError> {
    let is_origin = |entry: &str| {
        entry.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && !host.is_empty()
                && !host.contains(|c: char| {
                    matches!(c, '/' | '?' | '#' | '*' | '@') || c.is_whitespace()
                })
        })
    };
    setting
        .list()
        .map(|entry| is_origin(entry).then(|| entry.to_ascii_lowercase()))
        .collect::<Option<Vec<String>>>()
        .ok_or_else(|| {
            setting.refused(
                "a list of origins with commas, such as https://example.com,http://localhost:3000 \
                 (scheme, host and port, nothing behind them), or an empty value for every origin",
            )
        })
}

#[cfg(test)]
mod tests;
