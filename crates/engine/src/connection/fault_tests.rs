//! What a panic inside one connection does to that connection, and to nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Connection;
use crate::config::Config;
use crate::event::Event;
use crate::router::{Pattern, WebSocketRoute};
use crate::{App, Engine, Host};

/// Where a connection panics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    Input,
    Output,
    Sweep,
}

impl Connection {
    /// Panics if a fault was planted here.
    pub(super) fn strike(&self, fault: Fault) {
        if self.fault.get() == Some(fault) {
            self.fault.set(None);
            panic!("a fault that a test has planted");
        }
    }

    /// Plants the fault that a message names.
    pub(super) fn plant(&self, input: &[u8]) {
        for fault in [Fault::Input, Fault::Output, Fault::Sweep] {
            let name = format!("fault {fault:?}");
            if input.windows(name.len()).any(|part| part == name.as_bytes()) {
                self.fault.set(Some(fault));
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn engine(folder: &std::path::Path) -> (Engine, SocketAddr) {
    let config = Config {
        host: "127.0.0.1".into(),
        port: 0,
        io_threads: 1,
        // The sweep looks a few times a second.
        ping_interval: Duration::from_millis(200),
        ..Config::default()
    };
    let app = App {
        directory: folder.to_owned(),
        package_directory: folder.to_owned(),
        templates: None,
        public: None,
        development: false,
        version: String::new(),
        relay: None,
    };
    let mut engine = Engine::new(config, app, Host::new(|| {}));
    engine.routes().update(|router| {
        router
            .insert_websocket(Pattern::parse("/ws").expect("a pattern"), WebSocketRoute::default())
    });
    let address = engine.listen(None).expect("a free port");
    (engine, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

/// A text frame with a mask of zeros.
fn say(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).expect("sent");
}

/// What the handlers are told, one line each; echoes messages.
fn told(engine: &mut Engine) -> Vec<String> {
    let mut batches = Vec::new();
    engine.take(&mut batches);
    let mut lines = Vec::new();
    for batch in &batches {
        for event in &batch.events {
            lines.push(match event {
                Event::Open(opened) => {
                    engine.publisher().join(opened.handle);
                    format!("open {:?}", opened.handle)
                }
                Event::Message { handle, payload, .. } => {
                    let bytes = payload.bytes(&batch.buffer);
                    let text = std::str::from_utf8(bytes).expect("text is UTF-8");
                    engine.publisher().send(*handle, &text);
                    engine.publisher().acknowledge(*handle, bytes.len());
                    format!("message {handle:?}")
                }
                Event::Close { handle, code, .. } => {
                    engine.publisher().release(*handle);
                    format!("close {handle:?} {code}")
                }
                Event::Log { handle, message, .. } => format!("log {handle:?} {message}"),
                other => format!("{other:?}"),
            });
        }
    }
    engine.publisher().commit();
    lines
}

fn until(engine: &mut Engine, lines: &mut Vec<String>, what: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !lines.iter().any(|line| wanted(line)) {
        assert!(Instant::now() < deadline, "waited in vain for {what}: {lines:?}");
        lines.extend(told(engine));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn opened(engine: &mut Engine, lines: &mut Vec<String>) -> String {
    until(engine, lines, "open", |line| line.starts_with("open "));
    let at = lines.iter().position(|line| line.starts_with("open ")).expect("it is there");
    lines.remove(at).split_off("open ".len())
}

#[test]
fn a_panic_inside_one_connection_ends_that_connection_only() {
    for fault in [Fault::Input, Fault::Output, Fault::Sweep] {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut engine, address) = engine(folder.path());
        let mut lines = Vec::new();
        let mut well = connect(address);
        let neighbour = opened(&mut engine, &mut lines);
        let mut struck = connect(address);
        let handle = opened(&mut engine, &mut lines);
        say(&mut struck, &format!("fault {fault:?}"));
        if fault == Fault::Input {
            until(&mut engine, &mut lines, "the message", |line| line.starts_with("message"));
            say(&mut struck, "and one more read");
        }
        let closed = format!("close {handle} 1006");
        until(&mut engine, &mut lines, "its close", |line| line == closed);
        until(&mut engine, &mut lines, "the log line", |line| {
            line.starts_with("log ") && line.contains(&handle) && line.contains("failed inside")
        });
        assert_eq!(lines.iter().filter(|line| **line == closed).count(), 1, "{lines:?}");
        assert_eq!(engine.counters().panics.load(Ordering::Relaxed), 1);
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = struck.read_to_end(&mut rest);

        say(&mut well, "still here");
        let about = format!("message {neighbour}");
        until(&mut engine, &mut lines, "its neighbour's message", |line| line == about);
        let mut echo = [0; 12];
        loop {
            // Pings go on as well.
            well.read_exact(&mut echo[..2]).expect("a frame");
            if echo[0] == 0x81 {
                break;
            }
        }
        well.read_exact(&mut echo[2..]).expect("the echo");
        assert_eq!(&echo[2..], b"still here");

        let mut third = connect(address);
        let newer = opened(&mut engine, &mut lines);
        assert_ne!(newer, handle, "a handle is never used again");
        say(&mut third, "hello");
        let about = format!("message {newer}");
        until(&mut engine, &mut lines, "a newcomer's message", |line| line == about);
        drop((well, third));
        until(&mut engine, &mut lines, "both ends", |line| line == format!("close {newer} 1006"));
        until(&mut engine, &mut lines, "both ends", |line| {
            line == format!("close {neighbour} 1006")
        });
        assert!(engine.topics().is_empty());
        let deadline = Instant::now() + PATIENCE;
        while engine.open_sockets() > 0 || engine.buffered() > 0 {
            assert!(Instant::now() < deadline, "{} B held", engine.buffered());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
