//! The descriptor of a runtime's epoll instance, which tokio does not tell: readable when the runtime
//! has something to do.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::runtime::Runtime;

const OPEN: &str = "/proc/self/fd";
/// Of an epoll instance, a line `tfd: NUMBER …` for each descriptor it watches (proc_pid_fdinfo(5)).
const INFO: &str = "/proc/self/fdinfo";

/// That of `runtime`: it is the one instance that watches a socket which only this runtime does. None
/// without `/proc`.
pub(crate) fn descriptor_of(runtime: &Runtime) -> Option<RawFd> {
    let (known, _other) = UnixStream::pair().ok()?;
    known.set_nonblocking(true).ok()?;
    let number = known.as_raw_fd();
    let _entered = runtime.enter();
    let _watched = tokio::net::UnixStream::from_std(known).ok()?;
    let open = std::fs::read_dir(OPEN).ok()?;
    open.flatten().find_map(|entry| {
        let kind = std::fs::read_link(entry.path()).ok()?;
        let info = Path::new(INFO).join(entry.file_name());
        let epoll = kind.as_os_str() == "anon_inode:[eventpoll]";
        let info = epoll.then(|| std::fs::read_to_string(info).ok()).flatten()?;
        info.lines().any(|line| watches(line, number)).then_some(())?;
        entry.file_name().to_str()?.parse().ok()
    })
}

fn watches(line: &str, number: RawFd) -> bool {
    let target = line.strip_prefix("tfd:").and_then(|rest| rest.split_whitespace().next());
    target.is_some_and(|target| target.parse() == Ok(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::runtime;

    #[test]
    fn each_runtime_has_its_own() {
        let (one, other) = (runtime().expect("a runtime"), runtime().expect("a runtime"));
        let (first, second) = (descriptor_of(&one), descriptor_of(&other));
        assert!(first.is_some() && second.is_some());
        assert_ne!(first, second);
        assert_eq!(descriptor_of(&one), first);
    }

    #[test]
    fn a_line_names_what_is_watched() {
        let line = "tfd:       12 events: 8000201d data: 55d5c7b0a2c0  pos:0 ino:2cf3 sdev:8";
        assert!(watches(line, 12));
        assert!(!watches(line, 1));
        assert!(!watches("pos:\t0", 0));
    }
}
