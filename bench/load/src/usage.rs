//! CPU time: of this process, of the server, of the whole machine.

use std::fs;
use std::io;

/// CPU seconds up to now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// This process.
    pub(crate) client: f64,
    /// All threads of the server; zero when its process is not known.
    pub(crate) server: f64,
    /// The server's main thread, which in Node runs the JavaScript.
    pub(crate) server_main: f64,
    /// All that was not idle on all cores, other processes included.
    pub(crate) machine: f64,
}

impl Usage {
    /// # Errors
    /// When the server's process is gone.
    pub(crate) fn now(server: Option<u32>) -> io::Result<Self> {
        let ticks = ticks_per_second();
        let mut usage = Self {
            client: own_seconds()?,
            // Where there is no /proc the other numbers are missing, and the report says zero.
            machine: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|text| busy_ticks(&text))
                .unwrap_or(0.0)
                / ticks,
            ..Self::default()
        };
        if let Some(pid) = server {
            usage.server = process_seconds(pid)?;
            usage.server_main = process_ticks(&format!("/proc/{pid}/task/{pid}/stat"))? / ticks;
        }
        Ok(usage)
    }

    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            client: self.client - earlier.client,
            server: self.server - earlier.server,
            server_main: self.server_main - earlier.server_main,
            machine: self.machine - earlier.machine,
        }
    }
}

/// CPU seconds of all threads of a process up to now.
///
/// # Errors
/// When the process is gone.
pub(crate) fn process_seconds(pid: u32) -> io::Result<f64> {
    Ok(process_ticks(&format!("/proc/{pid}/stat"))? / ticks_per_second())
}

fn ticks_per_second() -> f64 {
    // SAFETY: the call reads a constant of the system.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

fn own_seconds() -> io::Result<f64> {
    // SAFETY: an all-zero rusage is valid, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_SELF, &mut usage) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn process_ticks(file: &str) -> io::Result<f64> {
    let failed = |reason: String| io::Error::other(format!("cannot read {file}: {reason}"));
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    user_and_system(&text).ok_or_else(|| failed("it is not as proc(5) says".into()))
}

/// utime + stime of a `stat` file of a process or thread.
fn user_and_system(stat: &str) -> Option<f64> {
    // The name in parentheses may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Everything but idle and waiting in the first line of `/proc/stat`.
fn busy_ticks(stat: &str) -> Option<f64> {
    let fields: Vec<f64> = stat
        .lines()
        .next()?
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    Some(fields.iter().sum::<f64>() - fields.get(3)? - fields.get(4)?)
}

/// Raises the limit of open files as far as this user may: each connection is one.
pub(crate) fn allow_many_files() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid struct.
    let status = unsafe {
        match libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) {
            0 => {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
            }
            failed => failed,
        }
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_confuse_the_fields() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 1";
        assert_eq!(user_and_system(stat), Some(300.0));
        assert_eq!(user_and_system("42 (x) S 1"), None);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  10 20 30 1000 500 1 2 3 9 9\ncpu0 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(66.0));
    }
}
