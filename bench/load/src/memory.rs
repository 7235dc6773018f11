//! What a process and the kernel hold.

use std::fs;
use std::io;

/// Bytes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident memory of the process, from `smaps_rollup`: it walks the page tables, where `status`
    /// adds up counters that each core updates only now and then.
    pub(crate) rss: i64,
    /// All the kernel's small objects: sockets, files, epoll's entries, packets' heads. Not those of
    /// `/proc`, which has two for each open file that some program has looked at, and lets go of
    /// them when memory is short; only root can tell how many there are.
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
            slab: read("/proc/meminfo", |text| kilobytes(text, "Slab:"))? - looked_at(),
            tcp: read("/proc/net/sockstat", tcp_pages)? * page_size(),
        })
    }
}

fn read(file: &str, pick: fn(&str) -> Option<i64>) -> io::Result<i64> {
    let failed = |reason: String| io::Error::other(format!("cannot read {file}: {reason}"));
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    pick(&text).ok_or_else(|| failed("it is not as proc(5) says".into()))
}

/// What `/proc` keeps, or zero where that is not to be seen.
fn looked_at() -> i64 {
    fs::read_to_string("/proc/slabinfo").map_or(0, |text| proc_inodes(&text).unwrap_or(0))
}

/// The inodes of `/proc`, with a directory entry for each.
fn proc_inodes(slabinfo: &str) -> Option<i64> {
    let numbers = |name: &str| -> Option<(i64, i64)> {
        let mut fields = slabinfo
            .lines()
            .map(str::split_ascii_whitespace)
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let count = fields.nth(1)?.parse().ok()?;
        Some((count, fields.next()?.parse().ok()?))
    };
    let (count, size) = numbers("proc_inode_cache")?;
    let (_, entry) = numbers("dentry")?;
    Some(count * (size + entry))
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
    fn what_proc_keeps_is_its_inodes_and_an_entry_for_each() {
        let text = "# name <active_objs> <num_objs> <objsize>\n\
                    proc_inode_cache  90 100 696 23 4 : tunables 0 0 0\n\
                    dentry 500 600 192 21 1 : tunables 0 0 0\n";
        assert_eq!(proc_inodes(text), Some(100 * (696 + 192)));
        assert_eq!(proc_inodes("dentry 500 600 192"), None);
    }

    #[test]
    fn pages_of_tcp_are_not_those_of_udp() {
        let text =
            "sockets: used 9\nTCP: inuse 3 orphan 0 tw 1 alloc 4 mem 17\nUDP: inuse 1 mem 2\n";
        assert_eq!(tcp_pages(text), Some(17));
    }
}
