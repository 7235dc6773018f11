//! The table of the variables, for the documentation.

/// The variables that [`Config::from_settings`](super::Config::from_settings) reads: name, default and meaning.
pub const VARIABLES: &[(&str, &str, &str)] = &[
    ("TINA4_HOST", "0.0.0.0", "address or host name to listen on"),
    ("HOST", "", "the same; TINA4_HOST goes first"),
    ("TINA4_PORT", "7148", "port to listen on, 0 for any free one"),
    ("PORT", "", "the same; TINA4_PORT goes first"),
    ("TINA4_IO_THREADS", "cores - 1, 1 to 8", "threads that own sockets"),
    (
        "TINA4_WS_MAX_MESSAGE_SIZE",
        "1048576",
        "bytes of a WebSocket message; a larger one closes with 1009",
    ),
    ("TINA4_WS_MAX_FRAME_SIZE", "", "the same; TINA4_WS_MAX_MESSAGE_SIZE goes first"),
    ("TINA4_WS_MAX_FRAGMENTS", "4096", "frames of one message; more closes with 1008"),
    (
        "TINA4_WS_MAX_CONTROL_FRAMES",
        "1000",
        "pings, pongs and close frames of a peer in a second; more closes with 1008, 0 for no limit",
    ),
    (
        "TINA4_WS_MAX_PENDING_MESSAGES",
        "64",
        "messages of a connection that wait for its handler; then its socket is not read",
    ),
    ("TINA4_WS_MAX_PENDING_SIZE", "262144", "bytes of them; then its socket is not read"),
    ("TINA4_WS_COMPRESSION", "false", "compressed messages for peers that can inflate them"),
    (
        "TINA4_WS_COMPRESSION_THRESHOLD",
        "1024",
        "bytes of a message below which it is not compressed",
    ),
    (
        "TINA4_WS_MAX_BACKLOG",
        "1048576",
        "unsent bytes of a WebSocket connection; more closes it with 1013",
    ),
    (
        "TINA4_MAX_BUFFERED",
        "268435456",
        "bytes that all queues and bodies of a server may hold together",
    ),
    ("TINA4_WS_CLOSE_GRACE", "5", "seconds that close waits for a handler that is still pending"),
    ("TINA4_WS_CLOSING_TIMEOUT", "5", "seconds that a peer has to answer a close frame"),
    (
        "TINA4_HANDLER_TIMEOUT",
        "60",
        "seconds that an HTTP handler has to begin its answer; then 503",
    ),
    ("TINA4_SECRET", "", "the key of JSON web tokens"),
    (
        "TINA4_TRUSTED_PROXIES",
        "",
        "addresses and ranges, with commas, whose X-Forwarded-For counts",
    ),
    (
        "TINA4_WS_MAX_CONNECTIONS",
        "0",
        "WebSocket connections at a time, 0 for no limit; above it 503",
    ),
    (
        "TINA4_WS_MAX_CONNECTIONS_PER_IP",
        "0",
        "the same for one address, or one IPv6 network of /64, 0 for no limit; above it 503",
    ),
    ("TINA4_WS_PING_INTERVAL", "30", "seconds between pings, 0 for none"),
    ("TINA4_WS_PING_TIMEOUT", "10", "seconds that a peer has to answer a ping"),
    (
        "TINA4_WS_IDLE_TIMEOUT",
        "0",
        "seconds without a message until a connection closes with 1001, 0 for never",
    ),
    (
        "TINA4_WS_ALLOWED_ORIGINS",
        "",
        "origins, with commas, whose pages may connect; empty for all, else 403",
    ),
    (
        "TINA4_WS_BACKPLANE",
        "",
        "redis or nats: broadcasts reach all processes on it; empty for none",
    ),
    (
        "TINA4_WS_BACKPLANE_URL",
        "",
        "where it is; redis://localhost:6379 or nats://localhost:4222 when empty",
    ),
    (
        "TINA4_WS_BACKPLANE_HEARTBEAT",
        "2",
        "seconds between two signs of life to the other processes",
    ),
    (
        "TINA4_WS_BACKPLANE_RETRY_DELAY",
        "5",
        "seconds of the longest pause between two attempts to reach it",
    ),
    (
        "TINA4_WS_BACKPLANE_REPLAY_SIZE",
        "16777216",
        "bytes kept for processes that missed something, and while it cannot be reached",
    ),
    ("TINA4_WS_BACKPLANE_REPLAY_AGE", "60", "seconds that they are kept"),
    (
        "TINA4_WS_BACKPLANE_MAX_ENVELOPE",
        "8388608",
        "bytes of a broadcast on the backplane; a larger one stays in its process",
    ),
    ("TINA4_MAX_UPLOAD_SIZE", "10485760", "bytes of a request body; more is answered with 413"),
    ("TINA4_SHUTDOWN_TIMEOUT", "30", "seconds that a shutdown may take"),
    ("TINA4_HEADER_TIMEOUT", "10", "seconds that a peer has to send a request's head"),
    (
        "TINA4_KEEP_ALIVE_TIMEOUT",
        "65",
        "seconds that an HTTP connection may wait for its next request",
    ),
    ("TINA4_MAX_HEADER_SIZE", "16384", "bytes of a request's head"),
    ("TINA4_MAX_HEADERS", "100", "headers of a request"),
    ("TINA4_PUBLIC_DIR", "", "folder of static files that goes before the app's own"),
    ("TINA4_DEBUG", "false", "error pages with details"),
    ("TINA4_LOG_LEVEL", "INFO", "the least that is logged: ALL, DEBUG, INFO, WARNING or ERROR"),
    ("TINA4_LOG_FORMAT", "text", "text or json"),
];
