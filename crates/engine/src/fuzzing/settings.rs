//! The settings: what is taken is within its bounds, what is refused says so and no secret.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

use crate::config::{Config, VARIABLES};

/// Each line is `NAME=value`.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.split('\n').filter_map(|line| line.split_once('='));
    let settings: HashMap<String, String> =
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let password = settings.get("TINA4_WS_BACKPLANE_URL").and_then(|url| password(url));
    let config = match Config::from_settings(&settings) {
        Ok(config) => config,
        Err(error) => {
            assert!(VARIABLES.iter().any(|(name, ..)| *name == error.variable));
            assert!(!error.accepted.is_empty() && error.value.chars().count() <= 101);
            let is_url = error.variable == "TINA4_WS_BACKPLANE_URL";
            assert!(!is_url || !shows(&error.value, password), "{error}");
            return;
        }
    };
    if let Some(bus) = &config.backplane {
        let shown = format!("{bus} {bus:?}");
        assert!(!shows(&shown, password), "{shown}");
    }
    assert!((1..=64).contains(&config.io_threads));
    assert!((1..=1 << 30).contains(&config.max_message_size));
    assert!((1..=1 << 30).contains(&config.max_backlog));
    assert!((1..=1 << 30).contains(&config.max_upload_size));
    assert!((64 << 10..=1 << 40).contains(&config.max_buffered));
    assert!((8 << 10..=1 << 20).contains(&config.max_header_bytes));
    assert!((1..=1_000).contains(&config.max_headers));
    assert!((64 << 10..=1 << 30).contains(&config.backplane_replay_bytes));
    assert!((1 << 10..=64 << 20).contains(&config.backplane_max_envelope));
    for time in [
        config.closing_timeout,
        config.handler_timeout,
        config.body_timeout,
        config.send_timeout,
        config.ping_timeout,
        config.header_timeout,
        config.keep_alive_timeout,
        config.backplane_heartbeat,
        config.backplane_retry_delay,
        config.backplane_replay_age,
    ] {
        assert!(time >= Duration::from_millis(1), "never zero");
        assert!(Instant::now().checked_add(time).is_some());
    }
    for origin in &config.allowed_origins {
        assert_eq!(origin, &origin.to_ascii_lowercase());
        assert!(origin.contains("://") && !origin.contains(','));
    }
    for network in &config.trusted_proxies {
        assert!(network.to_string().parse().as_ref() == Ok(network));
    }
}

/// The password in a URL, where it is long enough not to be anywhere else by chance.
fn password(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let login = rest.rsplit_once('@').filter(|_| !scheme.to_ascii_lowercase().contains("unix"));
    let in_login = login.and_then(|(login, _)| login.split_once(':'));
    let in_query =
        query.split('&').filter_map(|field| field.split_once('=')).find(|f| f.0 == "pass");
    let (_, password) = in_query.or(in_login)?;
    let decoded = percent_decode_str(url).decode_utf8_lossy().to_lowercase();
    let is_once = decoded.matches(&password.to_lowercase()).count() == 1;
    (password.len() >= 8 && is_once).then_some(password)
}

fn shows(text: &str, password: Option<&str>) -> bool {
    password.is_some_and(|password| text.contains(password))
}
