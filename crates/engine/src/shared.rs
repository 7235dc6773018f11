//! What all shards of an engine share: the configuration and a few counters.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::config::Config;

/// What an engine has dropped and refused since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that were queued for a connection and never written.
    pub dropped_frames: AtomicU64,
    /// Connections closed with 1013 because they read too slowly.
    pub slow_consumers: AtomicU64,
    /// Upgrades that were refused, for any reason.
    pub rejected_upgrades: AtomicU64,
    /// Panics inside the engine, each of which ended one connection or one request at most.
    pub panics: AtomicU64,
    /// Turns that shards had on the thread that runs the handlers.
    pub driven: AtomicU64,
}

/// What an engine keeps places for now. None is left when all peers and handlers are done.
#[derive(Debug, Default)]
pub struct Held {
    /// Connections, from their upgrade until their `close` handler has settled.
    pub members: AtomicUsize,
    /// Requests that wait for their handlers.
    pub requests: AtomicUsize,
}

/// State of an engine that all its shards share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    pub(crate) held: Held,
    /// The thread that runs the handlers has driven a shard since it gave memory back.
    pub(crate) drove: AtomicBool,
    /// Requests that shards have answered themselves while they were lent, since they were last weighed.
    pub(crate) answered: AtomicU64,
    /// Upgraded connections.
    pub(crate) connections: AtomicUsize,
    /// Upgraded connections by address, while `TINA4_WS_MAX_CONNECTIONS_PER_IP` limits them.
    by_address: DashMap<IpAddr, usize>,
    /// Open sockets of each shard.
    loads: Box<[AtomicUsize]>,
    /// Bytes in queues and bodies, of all shards.
    pub(crate) buffered: ByteCount,
    /// Of those, what is in outboxes: for as long as peers like.
    pub(crate) outboxes: ByteCount,
    /// Of those, what belongs to messages that are not finished: for as long as peers like.
    pub(crate) unfinished: ByteCount,
}

/// A count of bytes, of all shards.
#[derive(Debug, Default)]
pub(crate) struct ByteCount(AtomicIsize);

impl ByteCount {
    /// A shard says its own only now and then.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(0) as usize
    }

    /// Counts `bytes` more, fewer if negative.
    pub(crate) fn add(&self, bytes: isize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(config: Config, shards: usize) -> Self {
        Self {
            config,
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            counters: Counters::default(),
            held: Held::default(),
            drove: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            by_address: DashMap::new(),
            buffered: ByteCount::default(),
            outboxes: ByteCount::default(),
            unfinished: ByteCount::default(),
        }
    }

    /// Open sockets of a shard.
    pub(crate) fn load(&self, shard: usize) -> usize {
        self.loads[shard].load(Ordering::Acquire)
    }

    /// The shard with the fewest sockets.
    pub(crate) fn least_loaded(&self) -> usize {
        (0..self.loads.len()).min_by_key(|shard| self.load(*shard)).unwrap_or(0)
    }

    /// Whether the process holds more than it may.
    pub(crate) fn is_over(&self) -> bool {
        self.buffered.get() > self.config.max_buffered
    }
}

/// One connection's place under the limits of connections, from before it opens to its end.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    /// Under which it is counted, if that is limited.
    address: Option<IpAddr>,
}

/// A limit of connections is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// `TINA4_WS_MAX_CONNECTIONS`
    Server,
    /// `TINA4_WS_MAX_CONNECTIONS_PER_IP`
    Address,
}

impl Place {
    /// Takes a place for a connection from `ip`.
    ///
    /// # Errors
    /// The limit that is reached; nothing is taken then.
    pub(crate) fn take(shared: &Arc<Shared>, ip: IpAddr) -> Result<Self, Full> {
        let (all, of_one) = (shared.config.max_connections, shared.config.max_connections_per_ip);
        // Given back by dropping it, whatever comes next.
        let mut place = Self { shared: Arc::clone(shared), address: None };
        let before = shared.connections.fetch_add(1, Ordering::Relaxed);
        if all > 0 && before >= all {
            return Err(Full::Server);
        }
        if of_one > 0 {
            let address = network(ip);
            let mut count = shared.by_address.entry(address).or_insert(0);
            if *count >= of_one {
                return Err(Full::Address);
            }
            *count += 1;
            place.address = Some(address);
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address
            && let Entry::Occupied(mut count) = self.shared.by_address.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What one host counts as: its address, or the first half of one that is IPv6, of which it may use
/// any second half (RFC 4291 section 2.5.4).
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// One socket in its shard's count, from being accepted to being closed. An upgrade hands over.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    pub(crate) shard: usize,
}

impl Load {
    pub(crate) fn new(shared: &Arc<Shared>, shard: usize) -> Self {
        shared.loads[shard].fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), shard }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.loads[self.shard].fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(of_one: usize) -> Arc<Shared> {
        let config =
            Config { max_connections: 4, max_connections_per_ip: of_one, ..Config::default() };
        Arc::new(Shared::new(config, 1))
    }

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let shared = limited(2);
        let take = |ip: &str| Place::take(&shared, ip.parse().expect("an address"));
        let first = take("10.0.0.1").expect("a place");
        let _second = take("10.0.0.1").expect("a place");
        assert_eq!(take("10.0.0.1").map(drop), Err(Full::Address));
        let _other = take("10.0.0.2").expect("a place");
        drop(first);
        let _again = take("10.0.0.1").expect("the place that was given back");
        let _last = take("10.0.0.3").expect("a place");
        assert_eq!(take("10.0.0.4").map(drop), Err(Full::Server));
        assert_eq!(shared.connections.load(Ordering::Relaxed), 4, "a refusal takes nothing");
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let shared = limited(1);
        let ip = "2001:db8::1".parse().expect("an address");
        drop(Place::take(&shared, ip));
        assert!(shared.by_address.is_empty());
        let unlimited = limited(0);
        let _place = Place::take(&unlimited, ip);
        assert!(unlimited.by_address.is_empty(), "nor is one counted without a limit");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let shared = limited(1);
        let take = |ip: &str| Place::take(&shared, ip.parse().expect("an address"));
        let _one = take("2001:db8:0:1::1").expect("a place");
        assert_eq!(take("2001:db8:0:1:ffff::2").map(drop), Err(Full::Address));
        assert!(take("2001:db8:0:2::1").is_ok());
    }
}
