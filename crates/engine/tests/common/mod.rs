//! A server whose handlers are Rust closures, on a port of its own.
//!
//! It plays the part of JavaScript: the doorbell wakes one thread, which takes events, runs the
//! handlers in order, acknowledges and commits; and it drives the shards that the engine wants driven.
//! [`Server::block`] keeps that thread from doing anything, as a busy handler would.
#![allow(dead_code)] // each test file uses its own part of it

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use bytes::Bytes;
use engine::config::Config;
use engine::event::{LogLevel, Request};
use engine::router::{Method, Params, Pattern, WebSocketRoute};
use engine::{Answer, AnswerBody, Engine, Handle, Host};
use tempfile::TempDir;

pub(crate) mod asking;
mod handlers;
mod http;
mod peer;
pub(crate) mod pressure;

use handlers::{Handlers, Record, Wake};
pub(crate) use http::Response;
#[allow(unused_imports)]
pub(crate) use peer::{Client, Frame, Raw, frame, opcode, text_of, upgrade_request};

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`; fails the test with `what` when it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// What a WebSocket handler is told.
#[derive(Debug)]
pub(crate) enum On<'a> {
    Open,
    Text(&'a str),
    Binary(&'a [u8]),
    Close(u16, &'a str),
}

/// The connection a handler runs for.
pub(crate) struct Peer<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) handle: Handle,
    pub(crate) topic: u64,
    pub(crate) info: &'a Info,
}

impl Peer<'_> {
    pub(crate) fn send(&mut self, text: &str) {
        self.engine.publisher().send(self.handle, &text);
    }

    pub(crate) fn send_binary(&mut self, bytes: &[u8]) {
        self.engine.publisher().send(self.handle, &bytes);
    }

    pub(crate) fn broadcast(&mut self, text: &str) {
        self.engine.publisher().broadcast(self.topic, &text, None);
    }

    pub(crate) fn broadcast_to_others(&mut self, text: &str) {
        let but = Some(self.handle);
        self.engine.publisher().broadcast(self.topic, &text, but);
    }

    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        self.engine.publisher().close(self.handle, code, reason);
    }

    pub(crate) fn count(&mut self) -> u32 {
        self.engine.publisher().count(self.topic)
    }
}

/// What `open` said of a connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Info {
    pub(crate) route: u32,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) params: Params,
    pub(crate) query: String,
    pub(crate) ip: String,
    pub(crate) protocol: String,
    pub(crate) topic: u64,
}

/// An event in the order the handlers' thread took it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Open(Handle, Info),
    Text(Handle, String),
    Binary(Handle, Vec<u8>),
    Close(Handle, u16, String),
    Request(Handle, String),
    Drained(Handle),
    Stopped,
    Log(LogLevel, String),
}

type WebSocketHandler = Box<dyn FnMut(&mut Peer<'_>, On<'_>) + Send>;
type RequestHandler = Box<dyn FnMut(&Request) -> Option<Answer> + Send>;

/// A server that is being put together.
pub(crate) struct App {
    config: Config,
    websockets: Vec<(String, WebSocketRoute, WebSocketHandler)>,
    requests: Vec<(String, String, RequestHandler)>,
    directory: TempDir,
    tidy: fn(),
}

impl App {
    pub(crate) fn new() -> Self {
        Self {
            config: Config {
                host: "127.0.0.1".into(),
                port: 0,
                io_threads: 1,
                ..Config::default()
            },
            websockets: Vec::new(),
            requests: Vec::new(),
            directory: tempfile::tempdir().expect("a folder"),
            tidy: || {},
        }
    }

    /// Has `tidy` give memory back.
    pub(crate) fn tidy(mut self, tidy: fn()) -> Self {
        self.tidy = tidy;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Writes a file below the app's folder.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, content).expect("written");
        self
    }

    pub(crate) fn websocket(
        mut self,
        pattern: &str,
        handler: impl FnMut(&mut Peer<'_>, On<'_>) + Send + 'static,
    ) -> Self {
        self.websockets.push((pattern.into(), WebSocketRoute::default(), Box::new(handler)));
        self
    }

    pub(crate) fn binary(
        mut self,
        pattern: &str,
        handler: impl FnMut(&mut Peer<'_>, On<'_>) + Send + 'static,
    ) -> Self {
        let route = WebSocketRoute { binary: true, ..WebSocketRoute::default() };
        self.websockets.push((pattern.into(), route, Box::new(handler)));
        self
    }

    /// Changes the options of the WebSocket route that was added last.
    pub(crate) fn options(mut self, change: impl FnOnce(&mut WebSocketRoute)) -> Self {
        change(&mut self.websockets.last_mut().expect("a route").1);
        self
    }

    /// A handler that returns `None` leaves its request waiting.
    pub(crate) fn request(
        mut self,
        method: &str,
        pattern: &str,
        handler: impl FnMut(&Request) -> Option<Answer> + Send + 'static,
    ) -> Self {
        self.requests.push((method.into(), pattern.into(), Box::new(handler)));
        self
    }

    pub(crate) fn start(self) -> Server {
        let (inbox, wakes) = channel();
        let doorbell = inbox.clone();
        let app = engine::App {
            directory: self.directory.path().join("app"),
            package_directory: self.directory.path().join("package"),
            templates: None,
            public: None,
            development: false,
            version: "1.2.3".into(),
            relay: None,
        };
        std::fs::create_dir_all(&app.directory).expect("created");
        let host = Host::new(move || {
            let _ = doorbell.send(Wake::Doorbell);
        });
        let host = Host { tidy: self.tidy, ..host };
        let mut engine = Engine::new(self.config, app, host);
        engine.routes().update(|router| {
            for (id, (pattern, route, _)) in self.websockets.iter().enumerate() {
                let pattern = Pattern::parse(pattern).expect("a pattern");
                let route = WebSocketRoute { id: id as u32, ..route.clone() };
                router.insert_websocket(pattern, route);
            }
            for (id, (method, pattern, _)) in self.requests.iter().enumerate() {
                let method: Method = method.parse().expect("a method");
                let pattern = Pattern::parse(pattern).expect("a pattern");
                router.insert_http(method, pattern, id as u32);
            }
        });
        let address = engine.listen(None).expect("a free port");
        let engine = Arc::new(Mutex::new(engine));
        let record = Arc::new(Record::default());
        let mut handlers = Handlers {
            engine: Arc::clone(&engine),
            websockets: self.websockets.into_iter().map(|one| one.2).collect(),
            requests: self.requests.into_iter().map(|one| one.2).collect(),
            connections: HashMap::new(),
            record: Arc::clone(&record),
            driven: Vec::new(),
        };
        let thread = std::thread::spawn(move || handlers.run(&wakes));
        Server {
            address,
            inbox,
            engine: Some(engine),
            record,
            thread: Some(thread),
            directory: self.directory,
        }
    }
}

/// Messages in, the same messages out.
pub(crate) fn echo(peer: &mut Peer<'_>, on: On<'_>) {
    match on {
        On::Text(text) => peer.send(text),
        On::Binary(bytes) => peer.send_binary(bytes),
        On::Open | On::Close(..) => {}
    }
}

/// Leaves everything to the test.
pub(crate) fn quiet(_: &mut Peer<'_>, _: On<'_>) {}

/// An answer with a body and no headers.
pub(crate) fn answer(status: u16, body: &str) -> Option<Answer> {
    Some(Answer { status, headers: Bytes::new(), body: AnswerBody::Bytes(body.to_owned().into()) })
}

/// A running server. Dropping it ends its engine.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    inbox: Sender<Wake>,
    engine: Option<Arc<Mutex<Engine>>>,
    record: Arc<Record>,
    thread: Option<JoinHandle<()>>,
    pub(crate) directory: TempDir,
}

/// Keeps the handlers' thread from taking events until it is dropped.
pub(crate) struct Blocked {
    _release: Sender<()>,
}

impl Server {
    /// Uses the engine as a handler would, then commits. Works while the handlers are blocked. On a
    /// thread of its own, as a thread of this test's runtime could not run another one's.
    pub(crate) fn with<T: Send>(&self, job: impl FnOnce(&mut Engine) -> T + Send) -> T {
        let engine = self.engine.as_ref().expect("running");
        let work = || {
            let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
            let done = job(&mut engine);
            engine.publisher().commit();
            done
        };
        std::thread::scope(|scope| match scope.spawn(work).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Blocks the handlers' thread; it has stopped taking events when this returns.
    pub(crate) fn block(&self) -> Blocked {
        let (blocked, is_blocked) = channel();
        let (release, released) = channel();
        let wake = Wake::Block(blocked, released);
        self.inbox.send(wake).expect("the handlers' thread runs");
        is_blocked.recv().expect("the handlers' thread runs");
        Blocked { _release: release }
    }

    /// The thread that runs the handlers.
    pub(crate) fn handlers_thread(&self) -> ThreadId {
        self.thread.as_ref().expect("running").thread().id()
    }

    /// Everything taken so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.record.lock().clone()
    }

    /// Waits until `found` finds what it looks for among everything taken so far.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&[Seen]) -> Option<T>,
    ) -> T {
        within(what, async {
            loop {
                let mut changed = std::pin::pin!(self.record.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = found(&self.record.lock()) {
                    return found;
                }
                changed.await;
            }
        })
        .await
    }

    /// Waits for the first event that is `wanted`.
    pub(crate) async fn event(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        self.until(what, |seen| seen.iter().find(|one| wanted(one)).cloned()).await
    }

    /// Waits for `count` connections to have opened on `path`; returns their handles in order.
    pub(crate) async fn opened(&self, path: &str, count: usize) -> Vec<Handle> {
        let what = format!("{count} connections on {path}");
        self.until(&what, |seen| {
            let handles: Vec<_> = seen
                .iter()
                .filter_map(|one| match one {
                    Seen::Open(handle, info) if info.path == path => Some(*handle),
                    _ => None,
                })
                .collect();
            (handles.len() >= count).then_some(handles)
        })
        .await
    }

    /// Waits for the close of a connection; returns code and reason.
    pub(crate) async fn closed(&self, handle: Handle) -> (u16, String) {
        let closed = self.event(
            "the close event",
            |seen| matches!(seen, Seen::Close(which, ..) if *which == handle),
        );
        match closed.await {
            Seen::Close(_, code, reason) => (code, reason),
            _ => unreachable!("only a close was waited for"),
        }
    }

    /// Waits for a log line that contains `part`.
    pub(crate) async fn logged(&self, part: &str) -> String {
        let what = format!("a log line with {part:?}");
        self.until(&what, |seen| {
            seen.iter().find_map(|one| match one {
                Seen::Log(_, line) if line.contains(part) => Some(line.clone()),
                _ => None,
            })
        })
        .await
    }

    pub(crate) fn dropped_frames(&self) -> u64 {
        self.with(|engine| engine.counters().dropped_frames.load(Ordering::Relaxed))
    }

    pub(crate) fn buffered(&self) -> usize {
        self.with(|engine| engine.buffered())
    }

    /// Opens a WebSocket.
    pub(crate) async fn connect(&self, path: &str) -> Client {
        Client::connect(self.address, path).await
    }

    /// Opens a socket that has said nothing yet.
    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Opens a WebSocket whose frames the test writes and reads as bytes.
    pub(crate) async fn raw_websocket(&self, path: &str) -> Raw {
        let mut raw = self.raw().await;
        raw.upgrade(path).await;
        raw
    }

    /// Sends one request on a socket of its own.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Response {
        let mut raw = self.raw().await;
        raw.write(format!("{method} {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        raw.response_to(method).await
    }

    /// Ends the engine and waits for its threads.
    pub(crate) fn stop(&mut self) {
        let _ = self.inbox.send(Wake::Stop);
        let ended = self.thread.take().map(JoinHandle::join);
        drop(self.engine.take());
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
