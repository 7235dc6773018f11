//! What to do, from the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::frame::{MARK, Wrapping};

pub(crate) const USAGE: &str = "\
usage: load echo|broadcast|relay --port P --path /PATH [options]
  --host ADDRESS      of the server (127.0.0.1)
  --connections N     1 to 60000 (64)
  --senders all|one   who sends in a broadcast (all)
  --in-flight N       messages of a sender under way at once, 1 to 1024 (1)
  --bytes N           of one message, 8 to 1048576 (64)
  --warm-up SECONDS   of the same load before anything is counted (0.5)
  --seconds SECONDS   that are counted (4)
  --pid N             process of the server, whose CPU time is reported; for a relay any number of
                      them, one --pid each
and for a relay, where the first connection sends to the server at --port and N others listen at
another one:
  --to P              port of the other server
  --rate R            messages in a second, whatever is still under way; without it as many as
                      --in-flight allows
  --speaks ws|socket.io  what both servers speak (ws)";

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

/// A broadcast that has to reach another server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Relay {
    /// Where the listeners connect; the sender connects to the plan's address.
    pub(crate) to: SocketAddr,
    /// Messages in a second. Without it the next is sent when few enough are under way.
    pub(crate) rate: Option<f64>,
    pub(crate) wrapping: Wrapping,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// One sends in a relay.
    pub(crate) work: Work,
    pub(crate) relay: Option<Relay>,
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// The processes whose CPU time is reported: at most one, but for a relay.
    pub(crate) servers: Vec<u32>,
}

impl Plan {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut work, relayed) = match words.next().as_deref() {
            Some("echo") => (Work::Echo, false),
            Some("broadcast") => (Work::BroadcastAll, false),
            Some("relay") => (Work::BroadcastOne, true),
            other => {
                return Err(format!(
                    "The first word is echo, broadcast or relay, not {:?}.",
                    other.unwrap_or("")
                ));
            }
        };
        let mut host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut port = None;
        let mut path = None;
        let (mut to, mut rate, mut wrapping) = (None, None, Wrapping::NONE);
        let mut servers = Vec::new();
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
                "--to" if relayed => to = Some(within(&name, &value, 1, u16::MAX)?),
                "--rate" if relayed => rate = Some(within(&name, &value, 1.0, 1e6)?),
                "--speaks" if relayed && value == "ws" => {}
                "--speaks" if relayed && value == "socket.io" => wrapping = Wrapping::SOCKET_IO,
                "--senders" if work == Work::BroadcastOne && relayed => {
                    return Err("--senders is not for a relay: one sends.".into());
                }
                "--senders" if work != Work::Echo && value == "all" => work = Work::BroadcastAll,
                "--senders" if work != Work::Echo && value == "one" => work = Work::BroadcastOne,
                "--in-flight" => in_flight = within(&name, &value, 1, 1024)?,
                "--bytes" => bytes = within(&name, &value, MARK, 1024 * 1024)?,
                "--warm-up" => warm_up = within(&name, &value, 0.0, 3600.0)?,
                "--seconds" => measured = within(&name, &value, 0.05, 3600.0)?,
                "--pid" if relayed || servers.is_empty() => {
                    servers.push(within(&name, &value, 1, u32::MAX)?);
                }
                "--path" | "--senders" | "--speaks" | "--to" | "--rate" | "--pid" => {
                    return Err(format!("{name} cannot be {value:?} here."));
                }
                _ => return Err(format!("There is no option {name}.")),
            }
        }
        if in_flight * bytes > MAX_PREPARED {
            return Err(format!("--in-flight times --bytes is at most {MAX_PREPARED}."));
        }
        let relay = match to {
            Some(to) => Some(Relay { to: SocketAddr::new(host, to), rate, wrapping }),
            None if relayed => return Err("--to is missing.".into()),
            None => None,
        };
        Ok(Self {
            work,
            relay,
            address: SocketAddr::new(host, port.ok_or("--port is missing.")?),
            path: path.ok_or("--path is missing.")?,
            connections,
            in_flight,
            bytes,
            warm_up: Duration::from_secs_f64(warm_up),
            measured: Duration::from_secs_f64(measured),
            servers,
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
    fn a_relay_goes_from_one_port_to_another_and_watches_several_processes() {
        let line =
            "relay --port 80 --to 81 --path /r --rate 2000 --speaks socket.io --pid 7 --pid 8";
        let plan = parse(line).unwrap();
        let relay = plan.relay.unwrap();
        assert_eq!((plan.address.port(), relay.to.port()), (80, 81));
        assert_eq!((relay.rate, relay.wrapping), (Some(2000.0), Wrapping::SOCKET_IO));
        assert_eq!(plan.servers, [7, 8]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("", "echo, broadcast or relay"),
            ("echo --path /", "--port"),
            ("echo --port 80", "--path"),
            ("echo --port 0 --path /", "--port"),
            ("echo --port 80 --path x", "--path"),
            ("echo --port 80 --path / --senders one", "--senders"),
            ("echo --port 80 --path / --bytes 7", "--bytes"),
            ("echo --port 80 --path / --seconds NaN", "--seconds"),
            ("echo --port 80 --path / --speed 9", "--speed"),
            ("echo --port 80 --path / --pid 7 --pid 8", "--pid"),
            ("echo --port 80 --path / --to 81", "--to"),
            ("relay --port 80 --path /", "--to"),
            ("relay --port 80 --to 81 --path / --speaks mqtt", "--speaks"),
            ("relay --port 80 --to 81 --path / --senders all", "--senders"),
            ("echo --port 80 --path / --bytes", "--bytes"),
            ("echo --port 80 --path / --bytes 1048576 --in-flight 65", "--in-flight"),
        ] {
            let sentence = parse(line).unwrap_err();
            assert!(sentence.contains(named), "{line}: {sentence}");
        }
    }
}
