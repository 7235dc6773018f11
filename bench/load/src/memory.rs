//! What a process and the kernel hold.

use std::fs;
use std::io;

/// Bytes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident memory of the process, from `smaps_rollup`: it walks the page tables, where `status`
    /// adds up counters that each core updates only now and then.
    pub(crate) rss: i64,
    /// All the kernel's small objects: sockets, files, epoll's entries, packets' heads.
    pub(crate) slab: i64,
    /// Charged to TCP sockets for data that they hold, in whole pages.
    pub(crate) tcp: i64,
}

impl Memory {
    /// # Errors
    /// When the process is gone or belongs to somebody else.
    pub(crate) fn now(pid: u32) -> io::Result<Self> {
        let rollup = format!("/proc/{pid}/smaps_rollup");
        Ok(Self {
            rss: read(&rollup, |text| kilobytes(text, "Rss:"))?,
            slab: read("/proc/meminfo", |text| kilobytes(text, "Slab:"))?,
            tcp: read("/proc/net/sockstat", tcp_pages)? * page_size(),
        })
    }
}

fn read(file: &str, pick: fn(&str) -> Option<i64>) -> io::Result<i64> {
    let failed = |reason: String| io::Error::other(format!("cannot read {file}: {reason}"));
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    pick(&text).ok_or_else(|| failed("it is not as proc(5) says".into()))
}

/// Bytes of a line like `Rss:  123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(number * 1024)
}

/// The last number of a line like `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0`.
fn tcp_pages(sockstat: &str) -> Option<i64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_once(" mem ")?.1.trim().parse().ok()
}

fn page_size() -> i64 {
    // SAFETY: the call reads a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_are_found_by_their_whole_name() {
        let text = "Pss_Rss:  7 kB\nRss:    5 kB\nSlab:  9 kB\n";
        assert_eq!(kilobytes(text, "Rss:"), Some(5120));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }

    #[test]
    fn pages_of_tcp_are_not_those_of_udp() {
        let text =
            "sockets: used 9\nTCP: inuse 3 orphan 0 tw 1 alloc 4 mem 17\nUDP: inuse 1 mem 2\n";
        assert_eq!(tcp_pages(text), Some(17));
    }
}
