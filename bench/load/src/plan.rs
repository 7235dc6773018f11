//! What to do, from the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::frame::MARK;

pub(crate) const USAGE: &str = "\
usage: load echo|broadcast --port P --path /PATH [options]
  --host ADDRESS      of the server (127.0.0.1)
  --connections N     1 to 60000 (64)
  --senders all|one   who sends in a broadcast (all)
  --in-flight N       messages of a sender under way at once, 1 to 1024 (1)
  --bytes N           of one message, 8 to 1048576 (64)
  --warm-up SECONDS   of the same load before anything is counted (0.5)
  --seconds SECONDS   that are counted (4)
  --pid N             process of the server, whose CPU time is reported";

/// Frames a connection keeps prepared, in bytes: more in flight than fit are refused.
const MAX_PREPARED: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Every connection sends and gets its own messages back.
    Echo,
    /// Every connection sends, everyone gets everything. A sender goes on when its own message is
    /// back.
    BroadcastAll,
    /// The first connection sends, everyone gets everything. It goes on when all have the message.
    BroadcastOne,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) work: Work,
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) server: Option<u32>,
}

impl Plan {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut work = match words.next().as_deref() {
            Some("echo") => Work::Echo,
            Some("broadcast") => Work::BroadcastAll,
            other => {
                return Err(format!(
                    "The first word is echo or broadcast, not {:?}.",
                    other.unwrap_or("")
                ));
            }
        };
        let mut host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut port = None;
        let mut path = None;
        let mut server = None;
        let (mut connections, mut in_flight, mut bytes) = (64, 1, 64);
        let (mut warm_up, mut measured) = (0.5, 4.0);
        while let Some(name) = words.next() {
            let value = words.next().ok_or(format!("{name} needs a value."))?;
            match name.as_str() {
                "--host" => host = parsed(&name, &value)?,
                "--port" => port = Some(within(&name, &value, 1, u16::MAX)?),
                "--path" if value.starts_with('/') && !value.contains([' ', '\r', '\n']) => {
                    path = Some(value);
                }
                "--connections" => connections = within(&name, &value, 1, 60_000)?,
                "--senders" if work != Work::Echo && value == "all" => work = Work::BroadcastAll,
                "--senders" if work != Work::Echo && value == "one" => work = Work::BroadcastOne,
                "--in-flight" => in_flight = within(&name, &value, 1, 1024)?,
                "--bytes" => bytes = within(&name, &value, MARK, 1024 * 1024)?,
                "--warm-up" => warm_up = within(&name, &value, 0.0, 3600.0)?,
                "--seconds" => measured = within(&name, &value, 0.05, 3600.0)?,
                "--pid" => server = Some(within(&name, &value, 1, u32::MAX)?),
                "--path" | "--senders" => {
                    return Err(format!("{name} cannot be {value:?} here."));
                }
                _ => return Err(format!("There is no option {name}.")),
            }
        }
        if in_flight * bytes > MAX_PREPARED {
            return Err(format!("--in-flight times --bytes is at most {MAX_PREPARED}."));
        }
        Ok(Self {
            work,
            address: SocketAddr::new(host, port.ok_or("--port is missing.")?),
            path: path.ok_or("--path is missing.")?,
            connections,
            in_flight,
            bytes,
            warm_up: Duration::from_secs_f64(warm_up),
            measured: Duration::from_secs_f64(measured),
            server,
        })
    }
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} cannot be {value:?}."))
}

fn within<T>(name: &str, value: &str, least: T, most: T) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number: T = parsed(name, value)?;
    // Written so that NaN is refused too.
    if number >= least && number <= most {
        Ok(number)
    } else {
        Err(format!("{name} is {least} to {most}, not {value}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan, String> {
        Plan::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let plan = parse(
            "broadcast --port 80 --path /r --connections 9 --senders one --in-flight 2 --bytes 8",
        )
        .unwrap();
        assert_eq!(plan.work, Work::BroadcastOne);
        assert_eq!((plan.connections, plan.in_flight, plan.bytes), (9, 2, 8));
        assert_eq!(plan.measured, Duration::from_secs(4));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("", "echo or broadcast"),
            ("echo --path /", "--port"),
            ("echo --port 80", "--path"),
            ("echo --port 0 --path /", "--port"),
            ("echo --port 80 --path x", "--path"),
            ("echo --port 80 --path / --senders one", "--senders"),
            ("echo --port 80 --path / --bytes 7", "--bytes"),
            ("echo --port 80 --path / --seconds NaN", "--seconds"),
            ("echo --port 80 --path / --speed 9", "--speed"),
            ("echo --port 80 --path / --bytes", "--bytes"),
            ("echo --port 80 --path / --bytes 1048576 --in-flight 65", "--in-flight"),
        ] {
            let sentence = parse(line).unwrap_err();
            assert!(sentence.contains(named), "{line}: {sentence}");
        }
    }
}
