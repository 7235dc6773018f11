use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;

fn read(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_settings(&settings.collect())
}

fn sentence(name: &str, value: &str) -> String {
    match read(&[(name, value)]) {
        Ok(_) => panic!("{name}={value} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

#[test]
fn the_documented_variables_are_the_ones_that_are_read() {
    let read = RefCell::new(BTreeSet::new());
    let settings = Settings::new(|name| {
        read.borrow_mut().insert(name);
        None
    });
    assert!(Config::read(&settings).unwrap() == Config::default());
    let documented: BTreeSet<&str> = VARIABLES.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(*read.borrow(), documented);
    assert_eq!(documented.len(), VARIABLES.len(), "no name twice");
    assert!(VARIABLES.iter().all(|(_, _, meaning)| !meaning.is_empty()));
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    for (name, default, _) in VARIABLES {
        if *name == "TINA4_IO_THREADS" {
            continue; // depends on the machine
        }
        assert!(read(&[(name, default)]).unwrap() == Config::default(), "{name}={default}");
    }
    assert!((1..=8).contains(&Config::default().io_threads));
}

#[test]
fn every_variable_changes_its_own_field() {
    let default = Config::default();
    let cases: Vec<(&str, &str, Config)> = vec![
        ("TINA4_HOST", " ::1 ", Config { host: "::1".into(), ..default.clone() }),
        ("HOST", "localhost", Config { host: "localhost".into(), ..default.clone() }),
        ("TINA4_PORT", "0", Config { port: 0, ..default.clone() }),
        ("PORT", " 65535 ", Config { port: 65535, ..default.clone() }),
        ("TINA4_IO_THREADS", "64", Config { io_threads: 64, ..default.clone() }),
        (
            "TINA4_WS_MAX_MESSAGE_SIZE",
            "536870888",
            Config { max_message_size: (1 << 29) - 24, ..default.clone() },
        ),
        ("TINA4_WS_MAX_FRAME_SIZE", "1", Config { max_message_size: 1, ..default.clone() }),
        ("TINA4_WS_MAX_FRAGMENTS", "1", Config { max_fragments: 1, ..default.clone() }),
        ("TINA4_WS_MAX_CONTROL_FRAMES", "0", Config { max_control_frames: 0, ..default.clone() }),
        (
            "TINA4_WS_MAX_PENDING_MESSAGES",
            "1",
            Config { max_pending_messages: 1, ..default.clone() },
        ),
        ("TINA4_WS_MAX_PENDING_SIZE", "1", Config { max_pending_bytes: 1, ..default.clone() }),
        (
            "TINA4_WS_MAX_CONNECTIONS_PER_IP",
            "5",
            Config { max_connections_per_ip: 5, ..default.clone() },
        ),
        ("TINA4_WS_COMPRESSION", "true", Config { compression: true, ..default.clone() }),
        (
            "TINA4_WS_COMPRESSION_THRESHOLD",
            "1",
            Config { compression_threshold: 1, ..default.clone() },
        ),
        ("TINA4_WS_MAX_BACKLOG", "4096", Config { max_backlog: 4096, ..default.clone() }),
        ("TINA4_MAX_BUFFERED", "65536", Config { max_buffered: 65536, ..default.clone() }),
        ("TINA4_WS_CLOSE_GRACE", "0", Config { close_grace: Duration::ZERO, ..default.clone() }),
        (
            "TINA4_WS_CLOSING_TIMEOUT",
            "0.25",
            Config { closing_timeout: seconds(0.25), ..default.clone() },
        ),
        (
            "TINA4_HANDLER_TIMEOUT",
            "0.001",
            Config { handler_timeout: seconds(0.001), ..default.clone() },
        ),
        ("TINA4_SECRET", " k e y ", Config { secret: Some(" k e y ".into()), ..default.clone() }),
        (
            "TINA4_TRUSTED_PROXIES",
            "10.0.0.0/8, ::1,,",
            Config {
                trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
                ..default.clone()
            },
        ),
        (
            "TINA4_WS_MAX_CONNECTIONS",
            "10000",
            Config { max_connections: 10_000, ..default.clone() },
        ),
        (
            "TINA4_WS_PING_INTERVAL",
            "0",
            Config { ping_interval: Duration::ZERO, ..default.clone() },
        ),
        (
            "TINA4_WS_PING_TIMEOUT",
            "31536000",
            Config { ping_timeout: seconds(31_536_000.0), ..default.clone() },
        ),
        (
            "TINA4_WS_IDLE_TIMEOUT",
            " 1.5 ",
            Config { idle_timeout: seconds(1.5), ..default.clone() },
        ),
        (
            "TINA4_WS_ALLOWED_ORIGINS",
            "https://Example.com , http://localhost:3000",
            Config {
                allowed_origins: vec!["https://example.com".into(), "http://localhost:3000".into()],
                ..default.clone()
            },
        ),
        (
            "TINA4_WS_BACKPLANE",
            " Redis ",
            Config { backplane: Bus::redis("redis://localhost:6379").ok(), ..default.clone() },
        ),
        (
            "TINA4_WS_BACKPLANE_HEARTBEAT",
            "0.2",
            Config { backplane_heartbeat: seconds(0.2), ..default.clone() },
        ),
        (
            "TINA4_WS_BACKPLANE_RETRY_DELAY",
            "1",
            Config { backplane_retry_delay: seconds(1.0), ..default.clone() },
        ),
        (
            "TINA4_WS_BACKPLANE_REPLAY_SIZE",
            "65536",
            Config { backplane_replay_bytes: 65_536, ..default.clone() },
        ),
        (
            "TINA4_WS_BACKPLANE_REPLAY_AGE",
            "5",
            Config { backplane_replay_age: seconds(5.0), ..default.clone() },
        ),
        (
            "TINA4_WS_BACKPLANE_MAX_ENVELOPE",
            "1024",
            Config { backplane_max_envelope: 1024, ..default.clone() },
        ),
        ("TINA4_MAX_UPLOAD_SIZE", "1", Config { max_upload_size: 1, ..default.clone() }),
        (
            "TINA4_SHUTDOWN_TIMEOUT",
            "0.0",
            Config { shutdown_timeout: Duration::ZERO, ..default.clone() },
        ),
        ("TINA4_HEADER_TIMEOUT", "2", Config { header_timeout: seconds(2.0), ..default.clone() }),
        ("TINA4_BODY_TIMEOUT", "4", Config { body_timeout: seconds(4.0), ..default.clone() }),
        ("TINA4_SEND_TIMEOUT", "5", Config { send_timeout: seconds(5.0), ..default.clone() }),
        (
            "TINA4_KEEP_ALIVE_TIMEOUT",
            "3",
            Config { keep_alive_timeout: seconds(3.0), ..default.clone() },
        ),
        ("TINA4_MAX_HEADER_SIZE", "8192", Config { max_header_bytes: 8192, ..default.clone() }),
        ("TINA4_MAX_HEADERS", "1000", Config { max_headers: 1000, ..default.clone() }),
        (
            "TINA4_PUBLIC_DIR",
            "web/assets",
            Config { public_dir: Some("web/assets".into()), ..default.clone() },
        ),
        ("TINA4_DEBUG", "YES", Config { debug: true, ..default.clone() }),
        ("TINA4_LOG_LEVEL", "warning", Config { log_level: LogLevel::Warning, ..default.clone() }),
        ("TINA4_LOG_FORMAT", "JSON", Config { log_format: LogFormat::Json, ..default.clone() }),
    ];
    for (name, value, expected) in &cases {
        assert!(read(&[(name, value)]).unwrap() == *expected, "{name}={value}");
    }
    let tried: BTreeSet<&str> = cases.iter().map(|(name, _, _)| *name).collect();
    let missing: Vec<&str> =
        VARIABLES.iter().map(|(name, _, _)| *name).filter(|name| !tried.contains(name)).collect();
    assert_eq!(missing, ["TINA4_WS_BACKPLANE_URL"], "alone it changes nothing");
}

#[test]
fn the_backplane_is_named_by_a_kind_and_a_url() {
    let bus = |kind, url| {
        read(&[("TINA4_WS_BACKPLANE", kind), ("TINA4_WS_BACKPLANE_URL", url)])
            .map(|config| config.backplane.map(|bus| bus.to_string()))
            .map_err(|error| error.to_string())
    };
    assert_eq!(bus("", "redis://h"), Ok(None), "a URL alone");
    assert_eq!(bus("redis", ""), Ok(Some("Redis at localhost:6379".into())));
    assert_eq!(bus("NATS", " "), Ok(Some("NATS at localhost:4222".into())));
    assert_eq!(bus("redis", "rediss://u:p@h:1"), Ok(Some("Redis at h:1".into())));
    assert_eq!(bus("nats", "tls://h"), Ok(Some("NATS at h:4222".into())));
    let error = bus("redis", "amqp://u:sesame@h:1").expect_err("another protocol");
    assert!(
        error.starts_with("TINA4_WS_BACKPLANE_URL is \"…@h:1\", accepted is a URL such as redis")
    );
    assert!(!error.contains("sesame"));
    for url in [
        "redis://u@h?pass=sesame&x=1",
        "unix:///run/s?pass=sesame&x=1",
        "unix:///run/s?pass=open@sesame&x=1",
        "amqp://u:open?sesame@h",
        "amqp://u:open?a@sesame@h",
    ] {
        let error = bus("redis", url).expect_err("refused");
        assert!(!error.contains("sesame") && !error.contains("open"), "{error}");
    }
}

#[test]
fn the_own_name_goes_before_the_other_one() {
    let config = read(&[
        ("HOST", "a"),
        ("TINA4_HOST", "b"),
        ("PORT", "not looked at"),
        ("TINA4_PORT", "2"),
        ("TINA4_WS_MAX_FRAME_SIZE", "1"),
        ("TINA4_WS_MAX_MESSAGE_SIZE", "2"),
    ])
    .unwrap();
    assert_eq!((config.host.as_str(), config.port, config.max_message_size), ("b", 2, 2));
    let config = read(&[("TINA4_PORT", " "), ("PORT", "3")]).unwrap();
    assert_eq!(config.port, 3, "a blank value is not set");
}

#[test]
fn a_blank_value_counts_as_not_set() {
    for (name, _, _) in VARIABLES {
        for blank in ["", "  ", "\t"] {
            assert!(read(&[(name, blank)]).unwrap() == Config::default(), "{name}");
        }
    }
}

#[test]
fn other_names_are_not_looked_at() {
    let config = read(&[("TINA4_SOMETHING", "x"), ("tina4_port", "x"), ("PATH", "/bin")]).unwrap();
    assert!(config == Config::default());
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_what_is_accepted() {
    for (name, value, expected) in [
        (
            "TINA4_WS_PING_INTERVAL",
            "soon",
            r#"TINA4_WS_PING_INTERVAL is "soon", accepted is a number of seconds, 0 or more (0 switches it off)"#,
        ),
        (
            "TINA4_WS_IDLE_TIMEOUT",
            "31536001",
            r#"TINA4_WS_IDLE_TIMEOUT is "31536001", accepted is a number of seconds from 0.001 to 31536000 (a year), or 0 to switch it off"#,
        ),
        (
            "TINA4_WS_CLOSE_GRACE",
            "-1",
            r#"TINA4_WS_CLOSE_GRACE is "-1", accepted is a number of seconds, 0 or more"#,
        ),
        (
            "TINA4_SHUTDOWN_TIMEOUT",
            "0.0001",
            r#"TINA4_SHUTDOWN_TIMEOUT is "0.0001", accepted is a number of seconds from 0.001 to 31536000 (a year), or 0 not to wait"#,
        ),
        (
            "TINA4_HANDLER_TIMEOUT",
            "0",
            r#"TINA4_HANDLER_TIMEOUT is "0", accepted is a number of seconds from 0.001 to 31536000 (a year)"#,
        ),
        (
            "TINA4_HEADER_TIMEOUT",
            "10s",
            r#"TINA4_HEADER_TIMEOUT is "10s", accepted is a number of seconds, more than 0"#,
        ),
        (
            "TINA4_PORT",
            "65536",
            r#"TINA4_PORT is "65536", accepted is a whole number from 0 to 65535"#,
        ),
        ("PORT", "http", r#"PORT is "http", accepted is a whole number from 0 to 65535"#),
        (
            "TINA4_IO_THREADS",
            "0",
            r#"TINA4_IO_THREADS is "0", accepted is a whole number from 1 to 64"#,
        ),
        (
            "TINA4_WS_MAX_FRAME_SIZE",
            "1MB",
            r#"TINA4_WS_MAX_FRAME_SIZE is "1MB", accepted is a whole number of bytes from 1 to 536870888"#,
        ),
        (
            "TINA4_MAX_HEADER_SIZE",
            "8191",
            r#"TINA4_MAX_HEADER_SIZE is "8191", accepted is a whole number of bytes from 8192 to 1048576"#,
        ),
        (
            "TINA4_WS_MAX_CONNECTIONS",
            "all",
            r#"TINA4_WS_MAX_CONNECTIONS is "all", accepted is a whole number (0 is no limit) from 0 to 4294967295"#,
        ),
        (
            "TINA4_TRUSTED_PROXIES",
            "10.0.0.0/8,proxy",
            r#"TINA4_TRUSTED_PROXIES is "10.0.0.0/8,proxy", accepted is a list of IP addresses and ranges with commas, such as 10.0.0.0/8,::1"#,
        ),
        (
            "TINA4_WS_ALLOWED_ORIGINS",
            "*",
            r#"TINA4_WS_ALLOWED_ORIGINS is "*", accepted is a list of origins with commas, such as https://example.com,http://localhost:3000 (scheme, host and port, nothing behind them), or an empty value for every origin"#,
        ),
        (
            "TINA4_WS_BACKPLANE",
            "kafka",
            r#"TINA4_WS_BACKPLANE is "kafka", accepted is redis or nats, or an empty value for none"#,
        ),
        (
            "TINA4_WS_BACKPLANE_HEARTBEAT",
            "0",
            r#"TINA4_WS_BACKPLANE_HEARTBEAT is "0", accepted is a number of seconds from 0.001 to 31536000 (a year)"#,
        ),
        (
            "TINA4_WS_BACKPLANE_REPLAY_SIZE",
            "1",
            r#"TINA4_WS_BACKPLANE_REPLAY_SIZE is "1", accepted is a whole number of bytes from 65536 to 1073741824"#,
        ),
        (
            "TINA4_DEBUG",
            "maybe",
            r#"TINA4_DEBUG is "maybe", accepted is true, 1, yes, on, false, 0, no or off"#,
        ),
        (
            "TINA4_LOG_LEVEL",
            "loud",
            r#"TINA4_LOG_LEVEL is "loud", accepted is ALL, DEBUG, INFO, WARNING or ERROR"#,
        ),
        ("TINA4_LOG_FORMAT", "xml", r#"TINA4_LOG_FORMAT is "xml", accepted is text or json"#),
    ] {
        assert_eq!(sentence(name, value), expected);
    }
}

#[test]
fn a_number_is_plain_digits() {
    for value in
        ["+1", "-1", "1.0", "1e3", "0x10", "1_000", "1 000", "٣", "99999999999999999999999"]
    {
        sentence("TINA4_WS_MAX_BACKLOG", value);
        sentence("TINA4_PORT", value);
    }
    for value in
        ["1e3", "inf", "nan", "+1", "-0", ".", "1.2.3", "1,5", "0x1", "5s", &"9".repeat(400)]
    {
        sentence("TINA4_WS_PING_INTERVAL", value);
    }
}

#[test]
fn a_yes_or_no_is_read_in_any_case() {
    for (words, expected) in
        [(["true", "1", "Yes", "ON"], true), (["False", "0", "no", "oFF"], false)]
    {
        for word in words {
            assert_eq!(read(&[("TINA4_DEBUG", word)]).unwrap().debug, expected, "{word}");
        }
    }
}

#[test]
fn an_origin_that_could_never_match_is_refused() {
    for origin in [
        "example.com",
        "https://",
        "://x",
        "https://example.com/",
        "https://example.com/app",
        "https://*.example.com",
        "https://a b",
        "https://ok.example, nope",
    ] {
        sentence("TINA4_WS_ALLOWED_ORIGINS", origin);
    }
}

#[test]
fn an_error_quotes_a_long_value_only_in_part() {
    assert!(sentence("TINA4_PORT", &"é".repeat(10_000)).len() < 400);
}

#[test]
fn the_secret_is_not_in_the_debug_text() {
    let config = read(&[("TINA4_SECRET", "open sesame")]).unwrap();
    assert!(!format!("{config:?}").contains("sesame"));
}
