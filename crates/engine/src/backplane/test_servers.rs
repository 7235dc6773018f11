//! Redis and NATS servers for tests, each on a free port of its own and gone when it is dropped.
#![allow(dead_code)] // each test uses its own part of it

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many ports are tried: another process may take a free one before the server does.
const ATTEMPTS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis,
    Nats,
}

/// A server that tests own.
pub(crate) struct TestServer {
    kind: Kind,
    arguments: Vec<String>,
    tls: bool,
    child: Child,
    port: u16,
    folder: TempDir,
}

impl TestServer {
    /// A Redis that keeps nothing on disk; `arguments` go to it as they are.
    pub(crate) fn redis(arguments: &[&str]) -> Self {
        Self::start(Kind::Redis, arguments, false)
    }

    /// A Redis that speaks TLS only, with a certificate and its key (PEM files).
    pub(crate) fn redis_tls(certificate: &Path, key: &Path) -> Self {
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        let authority = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
        Self::start(Kind::Redis, &[&files[..], &authority[..]].concat(), true)
    }

    /// A NATS; `arguments` go to it as they are.
    pub(crate) fn nats(arguments: &[&str]) -> Self {
        Self::start(Kind::Nats, arguments, false)
    }

    fn start(kind: Kind, arguments: &[&str], tls: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a server");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for _ in 0..ATTEMPTS {
            let port = free_port();
            let mut child = spawn(kind, port, tls, &arguments, folder.path());
            if wait_until_ready(&mut child, kind, &log_file(folder.path())) {
                return Self { kind, arguments, tls, child, port, folder };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = fs::read_to_string(log_file(folder.path())).unwrap_or_default();
        panic!("{} does not start: {log}", program(kind));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its URL without a user.
    pub(crate) fn url(&self) -> String {
        self.url_for("")
    }

    /// Its URL with what stands before the `@`.
    pub(crate) fn url_for(&self, login: &str) -> String {
        let scheme = match (self.kind, self.tls) {
            (Kind::Redis, false) => "redis",
            (Kind::Redis, true) => "rediss",
            (Kind::Nats, _) => "nats",
        };
        let at = if login.is_empty() { "" } else { "@" };
        format!("{scheme}://{login}{at}localhost:{}", self.port)
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it on the same port, after [`Self::kill`].
    pub(crate) fn restart(&mut self) {
        self.kill();
        let begun = Instant::now();
        // What its clients had on the port may take a moment to go.
        while begun.elapsed() < PATIENCE {
            self.child = spawn(self.kind, self.port, self.tls, &self.arguments, self.folder.path());
            if wait_until_ready(&mut self.child, self.kind, &log_file(self.folder.path())) {
                return;
            }
            self.kill();
        }
        panic!("{} does not start again", program(self.kind));
    }

    /// Stops it from doing anything: its sockets stay open.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill {name}");
    }

    /// Ends the connections of a Redis that are subscribed.
    pub(crate) fn cut_subscribers(&self) {
        let cut = self.redis_command("CLIENT KILL TYPE pubsub");
        assert!(cut.starts_with(':') && cut != ":0", "{cut}");
    }

    /// Ends the connections of a Redis that are not subscribed.
    pub(crate) fn cut_publishers(&self) {
        let cut = self.redis_command("CLIENT KILL TYPE normal SKIPME yes");
        assert!(cut.starts_with(':') && cut != ":0", "{cut}");
    }

    /// The first line that a Redis answers to a command.
    pub(crate) fn redis_command(&self, command: &str) -> String {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).expect("a connection to Redis");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("a command to Redis");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer of Redis");
        line.trim_end().to_owned()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

fn program(kind: Kind) -> &'static str {
    match kind {
        Kind::Redis => "redis-server",
        Kind::Nats => "nats-server",
    }
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn spawn(kind: Kind, port: u16, tls: bool, arguments: &[String], folder: &Path) -> Child {
    let port = port.to_string();
    let log = log_file(folder);
    // What an earlier run of this server wrote must not pass for this one's.
    let _ = fs::remove_file(&log);
    let log = log.display().to_string();
    let folder = folder.display().to_string();
    let mut command = Command::new(program(kind));
    match kind {
        Kind::Redis => {
            let ports = if tls {
                ["--port", "0", "--tls-port", &port]
            } else {
                ["--port", &port, "--tcp-backlog", "128"]
            };
            command.args(ports).args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.args(["--dir", &folder, "--logfile", &log]);
        }
        Kind::Nats => {
            command.args(["--addr", "127.0.0.1", "--port", &port, "--log", &log]);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!(
            "these tests need {} ({error}): `npm test` installs it as root on Debian; elsewhere install it so that it is \
             in PATH",
            program(kind)
        ),
    }
}

/// False if it ended.
///
/// Its own log says that it is ready. That its port answers would not: another test's server may
/// have taken the port first, and this one ends a moment later.
fn wait_until_ready(child: &mut Child, kind: Kind, log: &Path) -> bool {
    let ready = match kind {
        Kind::Redis => "Ready to accept connections",
        Kind::Nats => "Server is ready",
    };
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if fs::read_to_string(log).is_ok_and(|log| log.contains(ready)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
