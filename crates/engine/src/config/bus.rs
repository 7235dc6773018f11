//! Which bus carries the publishes between nodes, and how its URL is read.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

const REDIS_PORT: u16 = 6379;
const NATS_PORT: u16 = 4222;

const REDIS_ACCEPTED: &str = "a URL such as redis://localhost:6379, rediss://user:password@host:6379/0 \
     (rediss is TLS) or unix:///run/redis.sock";
const REDIS_ONE_NODE: &str = "the URL of one server, such as redis://localhost:6379: of a cluster any one node (publishes \
     reach all of them), of a Sentinel group the primary's own address";
const NATS_ACCEPTED: &str = "a URL such as nats://localhost:4222, nats://token@host, nats://user:password@host or \
     tls://host:4222 (TLS)";
const NATS_ONE_SERVER: &str = "the URL of one server, such as nats://localhost:4222; the servers of a NATS cluster pass on \
     to each other";

/// Which bus, and where. `Display` and `Debug` never show a user, a password or a token.
#[derive(Clone, PartialEq, Eq)]
pub enum Bus {
    /// A Redis or Valkey server.
    Redis(RedisServer),
    /// A NATS server.
    Nats(NatsServer),
    /// The relay between the workers of one machine: the path of its socket.
    Relay(PathBuf),
}

/// Where a Redis server is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisServer {
    pub(crate) address: Address,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Publishes of all databases share one set of channels; a server may still refuse the number.
    pub(crate) database: u32,
}

/// Where a NATS server is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsServer {
    pub(crate) address: Address,
    pub(crate) login: Option<NatsLogin>,
}

/// How a NATS server knows us.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum NatsLogin {
    Token(String),
    User { user: String, password: String },
}

/// Where a server listens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Bus {
    /// Reads the URL of a Redis or Valkey server.
    ///
    /// # Errors
    ///
    /// What is accepted, as the end of a sentence.
    pub fn redis(url: &str) -> Result<Self, String> {
        let url = url.trim();
        let scheme = scheme_of(url);
        if scheme.contains("cluster") || scheme.contains("sentinel") || lists_hosts(url) {
            return Err(REDIS_ONE_NODE.to_owned());
        }
        read_redis(url).map(Bus::Redis).ok_or_else(|| REDIS_ACCEPTED.to_owned())
    }

    /// Reads the URL of a NATS server.
    ///
    /// # Errors
    ///
    /// What is accepted, as the end of a sentence.
    pub fn nats(url: &str) -> Result<Self, String> {
        let url = url.trim();
        if lists_hosts(url) {
            return Err(NATS_ONE_SERVER.to_owned());
        }
        read_nats(url).map(Bus::Nats).ok_or_else(|| NATS_ACCEPTED.to_owned())
    }

    /// The word of its kind: `redis`, `nats` or `relay`.
    pub fn kind(&self) -> &'static str {
        match self {
            Bus::Redis(_) => "redis",
            Bus::Nats(_) => "nats",
            Bus::Relay(_) => "relay",
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bus::Redis(server) => write!(f, "Redis at {}", server.address),
            Bus::Nats(server) => write!(f, "NATS at {}", server.address),
            Bus::Relay(path) => write!(f, "the relay at {}", path.display()),
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bus({self})")
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisServer({})", self.address)
    }
}

impl fmt::Debug for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsServer({})", self.address)
    }
}

fn scheme_of(url: &str) -> String {
    url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase()
}

/// Whether several hosts stand between the scheme and the path. A password may hold a comma too.
fn lists_hosts(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().contains(',')
}

fn read_redis(text: &str) -> Option<RedisServer> {
    let url = Url::parse(text).ok()?;
    if url.fragment().is_some() {
        return None;
    }
    let tls = match url.scheme() {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        "unix" | "redis+unix" | "valkey+unix" => return read_redis_socket(&url),
        _ => return None,
    };
    let mut server = RedisServer {
        address: tcp(&url, REDIS_PORT, tls)?,
        user: decoded(url.username())?,
        password: decoded(url.password().unwrap_or_default())?,
        database: match url.path().trim_matches('/') {
            "" => 0,
            number => number.parse().ok()?,
        },
    };
    read_query(&url, &mut server)?;
    Some(server)
}

/// A socket's URL has no place for a user and a database but its query.
fn read_redis_socket(url: &Url) -> Option<RedisServer> {
    if !url.has_authority() && !url.path().starts_with('/') {
        return None;
    }
    let path = decoded(url.path())?.filter(|path| path != "/")?;
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let mut server = RedisServer {
        address: Address::Unix(path.into()),
        user: decoded(url.username())?,
        password: decoded(url.password().unwrap_or_default())?,
        database: 0,
    };
    read_query(url, &mut server)?;
    Some(server)
}

fn read_query(url: &Url, server: &mut RedisServer) -> Option<()> {
    for (name, value) in url.query_pairs() {
        match &*name {
            "db" => server.database = value.parse().ok()?,
            "user" => server.user = Some(value.into_owned()),
            "pass" => server.password = Some(value.into_owned()),
            // Both versions carry publishes alike.
            "protocol" => {}
            _ => return None,
        }
    }
    Some(())
}

fn read_nats(text: &str) -> Option<NatsServer> {
    let url = Url::parse(text).ok()?;
    let tls = match url.scheme() {
        "nats" => false,
        "tls" => true,
        _ => return None,
    };
    if url.query().is_some() || url.fragment().is_some() || !url.path().trim_matches('/').is_empty()
    {
        return None;
    }
    let login = match (decoded(url.username())?, url.password()) {
        (None, None) => None,
        (Some(token), None) => Some(NatsLogin::Token(token)),
        (user, Some(password)) => Some(NatsLogin::User {
            user: user.unwrap_or_default(),
            password: decoded(password)?.unwrap_or_default(),
        }),
    };
    Some(NatsServer { address: tcp(&url, NATS_PORT, tls)?, login })
}

fn tcp(url: &Url, default_port: u16, tls: bool) -> Option<Address> {
    let host = match url.host()? {
        Host::Domain(name) => decoded(name)??,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Some(Address::Tcp { host, port: url.port().unwrap_or(default_port), tls })
}

/// A part of a URL without its percent signs, `Some(None)` if it is empty, `None` if it is no text.
#[allow(clippy::option_option)]
fn decoded(part: &str) -> Option<Option<String>> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    Some((!text.is_empty()).then(|| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(url: &str) -> RedisServer {
        match Bus::redis(url) {
            Ok(Bus::Redis(server)) => server,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn nats(url: &str) -> NatsServer {
        match Bus::nats(url) {
            Ok(Bus::Nats(server)) => server,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn tcp(host: &str, port: u16, tls: bool) -> Address {
        Address::Tcp { host: host.to_owned(), port, tls }
    }

    #[test]
    fn a_redis_url_says_where_who_and_which_database() {
        let server = redis(" redis://ann:s%40crt@example.org:7000/3 ");
        assert!(server.address == tcp("example.org", 7000, false));
        assert_eq!(server.user.as_deref(), Some("ann"));
        assert_eq!(server.password.as_deref(), Some("s@crt"));
        assert_eq!(server.database, 3);
    }

    #[test]
    fn what_a_redis_url_leaves_out_has_a_default() {
        let server = redis("redis://localhost");
        assert!(server.address == tcp("localhost", 6379, false));
        assert_eq!((server.user, server.password, server.database), (None, None, 0));
        assert!(redis("rediss://[::1]:6380").address == tcp("::1", 6380, true));
        assert!(redis("valkeys://cache").address == tcp("cache", 6379, true));
        assert_eq!(redis("redis://:pw@h").password.as_deref(), Some("pw"));
    }

    #[test]
    fn a_redis_socket_takes_user_and_database_from_the_query() {
        let server = redis("unix:///run/redis%20a.sock?db=2&user=u&pass=p%26");
        assert!(server.address == Address::Unix("/run/redis a.sock".into()));
        assert_eq!((server.user.as_deref(), server.password.as_deref()), (Some("u"), Some("p&")));
        assert_eq!(server.database, 2);
        assert!(redis("redis+unix:///s").address == Address::Unix("/s".into()));
    }

    #[test]
    fn a_nats_url_says_where_and_who() {
        assert!(nats("nats://localhost").address == tcp("localhost", 4222, false));
        assert!(nats("tls://h:1").address == tcp("h", 1, true));
        assert!(nats("nats://t%20k@h").login == Some(NatsLogin::Token("t k".to_owned())));
        let user = NatsLogin::User { user: "u".to_owned(), password: "p".to_owned() };
        assert!(nats("nats://u:p@h").login == Some(user));
    }

    #[test]
    fn a_url_of_another_kind_is_refused_with_what_is_accepted() {
        for url in [
            "",
            "localhost:6379",
            "http://h",
            "redis://",
            "redis://h/x",
            "redis://h?x=1",
            "unix://h/s",
            "redis://h#insecure",
            "redis://h:99999",
        ] {
            assert_eq!(Bus::redis(url).err().as_deref(), Some(REDIS_ACCEPTED), "{url}");
        }
        for url in
            ["", "h:4222", "redis://h", "ws://h", "nats://", "nats://h/x", "nats://h?creds=f"]
        {
            assert_eq!(Bus::nats(url).err().as_deref(), Some(NATS_ACCEPTED), "{url}");
        }
    }

    #[test]
    fn clusters_and_sentinels_are_refused_with_what_to_name_instead() {
        for url in [
            "redis-cluster://h:1",
            "redis-sentinel://h",
            "redis+sentinel://h/0",
            "redis://a:1,b:2/0",
        ] {
            assert_eq!(Bus::redis(url).err().as_deref(), Some(REDIS_ONE_NODE), "{url}");
        }
        assert_eq!(Bus::nats("nats://a,nats://b").err().as_deref(), Some(NATS_ONE_SERVER));
        assert_eq!(redis("redis://:a,b@h").password.as_deref(), Some("a,b"));
    }

    #[test]
    fn nothing_secret_is_ever_shown() {
        let buses = [
            Bus::redis("redis://sesame:open@h:1").unwrap(),
            Bus::nats("nats://sesame@h:1").unwrap(),
        ];
        for bus in buses {
            let shown = format!("{bus} {bus:?} {bus:#?}");
            assert!(!shown.contains("sesame") && !shown.contains("open"), "{shown}");
            assert!(shown.contains("h:1"), "{shown}");
        }
    }
}
