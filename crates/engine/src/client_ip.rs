//! Whose request it is, as far as the proxies in front are trusted.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::Network;

/// The peer's address, or the last one in `X-Forwarded-For` that no trusted proxy added.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_trusted(peer) {
        return peer;
    }
    let mut ip = peer;
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for value in values.iter().rev() {
        let Ok(text) = value.to_str() else { return ip };
        for entry in text.rsplit(',') {
            let Ok(next) = entry.trim().parse::<IpAddr>() else {
                return ip;
            };
            ip = next.to_canonical();
            if !is_trusted(ip) {
                return ip;
            }
        }
    }
    ip
}
