//! What to do, from the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::frame::{self, Expected, MARK, Wrapping};
use crate::peer::Opening;

pub(crate) const USAGE: &str = "\
usage: load echo|broadcast|relay|rate|idle|last|http|churn --port P --path /PATH [options]
  --host ADDRESS      of the server (127.0.0.1)
  --connections N     1 to 60000 (64)
  --senders all|one   who sends in a broadcast (all)
  --rooms N           of a broadcast: connection i opens /PATH/(i mod N). Where one sends, the rooms
                      take turns, and --in-flight is of all together
  --under-way N       of an echo: messages of all connections together, which take turns, instead of
                      --in-flight of each
  --speakers N        of an echo: how many connections send; the others are at rest
  --in-flight N       messages of a sender under way at once, 1 to 1024 (1)
  --bytes N           of one message, 8 to 1048576 (64)
  --warm-up SECONDS   of the same load before anything is counted (0.5)
  --seconds SECONDS   that are counted (4)
  --speaks ws|socket.io  the protocol of the messages (ws)
  --pid N             process of the server, whose CPU time is reported; for a relay any number of
                      them, one --pid each
and for a relay, where the first connection sends to the server at --port and N others listen at
another one:
  --to P              port of the other server
  --rate R            messages in a second, whatever is still under way; without it as many as
                      --in-flight allows
  --block MS          ask GET /block?ms=MS of the other server when the seconds begin, which last at
                      least as long
and for a rate, an open loop over all connections in turn:
  --rate R            messages in a second, each answered with itself
  --with messages|pings  what is sent; pings have 8 to 125 bytes (messages)
  --block MS          ask GET /block?ms=MS when the seconds begin, 1 to 4000; they last as long at
                      least
An idle opens its connections, sends and receives one message on each, and needs --pid: memory is
what it measures, when it is steady or after --settling SECONDS (18) as it is. A last needs --block: five times it sends one message to a room, asks for the block
after --gap MS (0), and measures when each member has the message. An http sends GET requests for --path and needs --expect
TEXT, the body of each answer. A churn opens and closes each connection again and again.";

/// Frames a connection keeps prepared, in bytes: more in flight than fit are refused.
const MAX_PREPARED: usize = 64 * 1024 * 1024;

/// Payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;

/// Seconds. Later, servers ask who does not answer pings.
const MAX_SETTLING: f64 = 18.0;

/// Milliseconds; what is measured then still fits into a sample of latency.
const MAX_BLOCK: u64 = 4000;

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
    /// How long the JavaScript thread of the listeners' server is kept busy.
    pub(crate) block: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Messages,
    Pings,
}

/// Messages that are sent when they are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Open {
    /// Messages in a second, over all connections.
    pub(crate) rate: f64,
    pub(crate) with: With,
    /// How long the server's JavaScript thread is kept busy.
    pub(crate) block: Option<Duration>,
}

/// A broadcast with a block behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) block: Duration,
    /// From sending the message until the block is asked for.
    pub(crate) gap: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// One sends in a relay.
    pub(crate) work: Work,
    pub(crate) relay: Option<Relay>,
    pub(crate) open: Option<Open>,
    pub(crate) last: Option<Last>,
    /// Memory is measured, not time.
    pub(crate) idle: bool,
    /// Requests without a WebSocket, and the body of each answer.
    pub(crate) expect: Option<String>,
    /// A message is a connection: opened and closed.
    pub(crate) churn: bool,
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// What is around each text; that of Socket.IO goes with its opening.
    pub(crate) wrapping: Wrapping,
    pub(crate) connections: usize,
    /// Of a broadcast, each on a path of its own below the plan's; without a number everyone is on
    /// that one.
    pub(crate) rooms: Option<usize>,
    /// Of an echo: messages of all connections together, which take turns.
    pub(crate) under_way: Option<usize>,
    /// Of an echo: those that send. The others are at rest.
    pub(crate) speakers: Option<usize>,
    pub(crate) in_flight: usize,
    pub(crate) bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Of an idle: memory is taken as it is after this long.
    pub(crate) settling: Duration,
    /// The processes whose CPU time is reported: at most one, but for a relay.
    pub(crate) servers: Vec<u32>,
}

impl Plan {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mode = words.next().unwrap_or_default();
        let mut work = match mode.as_str() {
            "echo" | "rate" | "idle" | "http" | "churn" => Work::Echo,
            "broadcast" => Work::BroadcastAll,
            "relay" | "last" => Work::BroadcastOne,
            other => {
                return Err(format!(
                    "The first word is echo, broadcast, relay, rate, idle, last, http or churn, \
                     not {other:?}."
                ));
            }
        };
        let (relayed, open, idle) = (mode == "relay", mode == "rate", mode == "idle");
        let mut host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (mut port, mut rooms, mut under_way, mut speakers) = (None, None, None, None);
        let mut path: Option<String> = None;
        let mut expect = None;
        let (mut to, mut rate, mut wrapping) = (None, None, Wrapping::NONE);
        let (mut with, mut block) = (With::Messages, None);
        let mut gap = Duration::ZERO;
        let mut servers = Vec::new();
        let (mut connections, mut in_flight, mut bytes) = (64, 1, 64);
        let (mut warm_up, mut measured, mut settling) = (0.5, 4.0, MAX_SETTLING);
        while let Some(name) = words.next() {
            let value = words.next().ok_or(format!("{name} needs a value."))?;
            match name.as_str() {
                "--host" => host = parsed(&name, &value)?,
                "--port" => port = Some(within(&name, &value, 1, u16::MAX)?),
                "--path" if value.starts_with('/') && !value.contains([' ', '\r', '\n']) => {
                    path = Some(value);
                }
                "--connections" => connections = within(&name, &value, 1, 60_000)?,
                "--rooms" if mode == "broadcast" => {
                    rooms = Some(within(&name, &value, 1, 60_000)?);
                }
                "--under-way" if mode == "echo" => {
                    under_way = Some(within(&name, &value, 1, 60_000)?);
                }
                "--speakers" if mode == "echo" => {
                    speakers = Some(within(&name, &value, 1, 60_000)?);
                }
                "--to" if relayed => to = Some(within(&name, &value, 1, u16::MAX)?),
                "--rate" if relayed || open => rate = Some(within(&name, &value, 1.0, 1e6)?),
                "--with" if open && value == "messages" => with = With::Messages,
                "--with" if open && value == "pings" => with = With::Pings,
                "--gap" if mode == "last" => {
                    gap = Duration::from_millis(within(&name, &value, 0, MAX_BLOCK)?);
                }
                "--block" if open || relayed || mode == "last" => {
                    block = Some(Duration::from_millis(within(&name, &value, 1, MAX_BLOCK)?));
                }
                "--expect" if mode == "http" => expect = Some(value),
                "--speaks" if value == "ws" => {}
                "--speaks" if value == "socket.io" => wrapping = Wrapping::SOCKET_IO,
                "--senders" if work == Work::BroadcastOne && relayed => {
                    return Err("--senders is not for a relay: one sends.".into());
                }
                "--senders" if mode == "broadcast" && value == "all" => work = Work::BroadcastAll,
                "--senders" if mode == "broadcast" && value == "one" => work = Work::BroadcastOne,
                "--in-flight" => in_flight = within(&name, &value, 1, 1024)?,
                "--bytes" => bytes = within(&name, &value, MARK, 1024 * 1024)?,
                "--warm-up" => warm_up = within(&name, &value, 0.0, 3600.0)?,
                "--seconds" => measured = within(&name, &value, 0.05, 3600.0)?,
                "--settling" if mode == "idle" => settling = within(&name, &value, 0.0, 3600.0)?,
                "--pid" if relayed || servers.is_empty() => {
                    servers.push(within(&name, &value, 1, u32::MAX)?);
                }
                "--path" | "--senders" | "--speaks" | "--to" | "--rate" | "--pid" | "--with"
                | "--block" | "--rooms" | "--under-way" | "--speakers" | "--gap" | "--expect"
                | "--settling" => {
                    return Err(format!("{name} cannot be {value:?} here."));
                }
                _ => return Err(format!("There is no option {name}.")),
            }
        }
        if in_flight * bytes > MAX_PREPARED {
            return Err(format!("--in-flight times --bytes is at most {MAX_PREPARED}."));
        }
        for (name, number) in
            [("--rooms", rooms), ("--under-way", under_way), ("--speakers", speakers)]
        {
            if number.is_some_and(|number| number > connections) {
                return Err(format!("{name} is at most --connections."));
            }
        }
        if speakers.is_some() && under_way.is_some() {
            return Err("--speakers is not for --under-way: all take turns.".into());
        }
        if with == With::Pings && bytes > MAX_CONTROL {
            return Err(format!("--bytes of a ping is at most {MAX_CONTROL}."));
        }
        if idle && servers.is_empty() {
            return Err("--pid is missing.".into());
        }
        if mode == "http" && expect.is_none() {
            return Err("--expect is missing.".into());
        }
        let open = match rate {
            Some(rate) if open => Some(Open { rate, with, block }),
            None if open => return Err("--rate is missing.".into()),
            _ => None,
        };
        let last = match block {
            Some(block) if mode == "last" => Some(Last { block, gap }),
            None if mode == "last" => return Err("--block is missing.".into()),
            _ => None,
        };
        let relay = match to {
            Some(to) => Some(Relay { to: SocketAddr::new(host, to), rate, block }),
            None if relayed => return Err("--to is missing.".into()),
            None => None,
        };
        Ok(Self {
            work,
            relay,
            open,
            last,
            idle,
            expect,
            churn: mode == "churn",
            address: SocketAddr::new(host, port.ok_or("--port is missing.")?),
            path: path.ok_or("--path is missing.")?,
            wrapping,
            connections,
            rooms,
            under_way,
            speakers,
            in_flight,
            bytes,
            warm_up: Duration::from_secs_f64(warm_up),
            measured: Duration::from_secs_f64(measured),
            settling: Duration::from_secs_f64(settling),
            servers,
        })
    }
}

impl Plan {
    /// What the connection with this number opens.
    pub(crate) fn path_of(&self, index: usize) -> String {
        match self.rooms {
            Some(rooms) => format!("{}/{}", self.path, index % rooms),
            None => self.path.clone(),
        }
    }

    /// What comes before the first message, from a server that greets as `plain` where nothing is
    /// above WebSocket.
    pub(crate) fn opening(&self, plain: Opening) -> Opening {
        if self.wrapping == Wrapping::SOCKET_IO { Opening::SocketIo } else { plain }
    }

    /// The message of the connection with this number, as it is sent.
    pub(crate) fn frame_of(&self, index: usize) -> Vec<u8> {
        frame::masked(&self.wrapping.around(&frame::message(index, self.bytes)))
    }

    /// The messages of all connections, as they come back.
    pub(crate) fn expected(&self) -> Expected {
        Expected::new(self.wrapping, self.bytes)
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
        assert_eq!((relay.rate, plan.wrapping), (Some(2000.0), Wrapping::SOCKET_IO));
        assert_eq!(plan.servers, [7, 8]);
    }

    #[test]
    fn a_rate_may_send_pings_and_ask_for_a_block() {
        let plan = parse("rate --port 80 --path /e --rate 5000 --with pings --block 2000").unwrap();
        let block = Some(Duration::from_secs(2));
        assert_eq!(plan.open, Some(Open { rate: 5000.0, with: With::Pings, block }));
        assert_eq!(plan.relay, None);
    }

    #[test]
    fn requests_and_churn_are_no_messages() {
        let plan = parse("http --port 80 --path /users/42 --expect 42 --in-flight 4").unwrap();
        assert_eq!((plan.expect.as_deref(), plan.in_flight, plan.churn), (Some("42"), 4, false));
        assert!(parse("churn --port 80 --path /echo").unwrap().churn);
    }

    #[test]
    fn an_idle_watches_one_process() {
        let plan = parse("idle --port 80 --path /e --connections 60000 --pid 7").unwrap();
        assert_eq!((plan.idle, plan.connections, plan.servers), (true, 60_000, vec![7]));
        assert_eq!(plan.settling, Duration::from_secs(18));
        let plan = parse("idle --port 80 --path /e --pid 7 --settling 0.5").unwrap();
        assert_eq!(plan.settling, Duration::from_millis(500));
        assert!(parse("echo --port 80 --path /e --settling 1").is_err());
    }

    #[test]
    fn connections_take_turns_to_enter_the_rooms() {
        let plan = parse("broadcast --port 80 --path /r --connections 7 --rooms 3").unwrap();
        assert_eq!((plan.path_of(2), plan.path_of(3)), ("/r/2".to_owned(), "/r/0".to_owned()));
        let plan = parse("broadcast --port 80 --path /r --connections 7").unwrap();
        assert_eq!(plan.path_of(3), "/r");
    }

    #[test]
    fn a_block_may_come_after_a_relay_began_or_right_behind_a_message() {
        let length = Duration::from_secs(2);
        let plan = parse("relay --port 80 --to 81 --path /r --rate 9 --block 2000").unwrap();
        assert_eq!(plan.relay.unwrap().block, Some(length));
        let plan = parse("last --port 80 --path /r --block 2000 --gap 5").unwrap();
        assert_eq!(plan.last, Some(Last { block: length, gap: Duration::from_millis(5) }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("", "idle, last, http or churn"),
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
            ("echo --port 80 --path / --with pings", "--with"),
            ("echo --port 80 --path / --block 9", "--block"),
            ("last --port 80 --path /", "--block"),
            ("rate --port 80 --path / --gap 9", "--gap"),
            ("rate --port 80 --path /", "--rate"),
            ("rate --port 80 --path / --rate 9 --with pings --bytes 126", "--bytes"),
            ("rate --port 80 --path / --rate 9 --block 4001", "--block"),
            ("idle --port 80 --path /", "--pid"),
            ("http --port 80 --path /", "--expect"),
            ("echo --port 80 --path / --expect x", "--expect"),
            ("churn --port 80 --path / --senders one", "--senders"),
            ("echo --port 80 --path / --rooms 2", "--rooms"),
            ("echo --port 80 --path / --connections 2 --speakers 3", "--speakers"),
            ("echo --port 80 --path / --under-way 9 --speakers 3", "--speakers"),
            ("broadcast --port 80 --path / --under-way 9", "--under-way"),
            ("broadcast --port 80 --path / --connections 2 --rooms 3", "--rooms"),
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
