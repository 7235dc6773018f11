//! The addon: `#[napi]` lines and conversions, no decisions. Everything it is asked it asks the
//! engine; events and messages cross in `bridge`.

mod bridge;
mod calls;
mod convert;
mod objects;
mod watcher;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use engine::config::Config as EngineConfig;
use engine::router::{Method, Pattern, WebSocketRoute};
use engine::{AnswerBody, Handle};
use napi::bindgen_prelude::{Env, Function, JsValue, Object, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use crate::bridge::Bridge;
use crate::convert::{JsMessage, Scratch, failure, io_failure, throw_type_error};
use crate::objects::{
    Address, AppFolders, BoundListener, NativeBackplane, NativeConfig, Statistics, WebSocketOptions,
};
use crate::watcher::Doorbell;

/// Many small blocks are made on one thread and freed on another, which the system's allocator is slow
/// at and keeps room for. Only of this addon: Node keeps its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Frees what other threads have returned to this one's part of the allocator, and gives the system
/// what is free.
fn tidy_memory() {
    // SAFETY: takes no memory of ours, and may be called on any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Doorbell calls that may wait for the JS thread. The engine rings once per turn; the rest is
/// slack for `ring()` and for a bell that was rung while it was being answered.
const DOORBELL_QUEUE: usize = 8;

/// Throws a TypeError that says what is wrong with a route pattern.
#[napi]
pub fn check_pattern(env: Env, pattern: String) -> napi::Result<()> {
    match Pattern::parse(&pattern) {
        Ok(_) => Ok(()),
        Err(error) => throw_type_error(&env, &error.to_string()),
    }
}

/// The canonical form of a concrete path; throws a TypeError if it has none.
#[napi]
pub fn canonical_path(env: Env, path: String) -> napi::Result<String> {
    match engine::path::canonical(&path) {
        Ok(canonical) => Ok(canonical.into_owned()),
        Err(error) => {
            throw_type_error(&env, &error.to_string())?;
            Ok(String::new())
        }
    }
}

/// Binds a port for this process and its children alone. The error's `code` is the system's.
#[napi]
pub fn bind_listener(host: String, port: u32) -> napi::Result<BoundListener, String> {
    let port = u16::try_from(port).map_err(|_| failure("ERANGE", "the port is not below 65536"))?;
    let listener =
        engine::server::bind(&host, port).map_err(|error| io_failure(&error, &host, port))?;
    let address = listener.local_addr().map_err(|error| io_failure(&error, &host, port))?;
    Ok(BoundListener { fd: convert::into_fd(listener), port: u32::from(address.port()) })
}

/// What carries broadcasts between the workers of one machine, on a Unix socket.
#[napi]
pub struct Relay {
    relay: RefCell<Option<engine::backplane::Relay>>,
}

#[napi]
impl Relay {
    /// Opens the socket.
    #[napi(constructor)]
    pub fn new(path: String) -> napi::Result<Self> {
        let relay = engine::backplane::Relay::bind(path.as_ref()).map_err(|error| {
            napi::Error::from_reason(format!("no relay can be opened at {path}: {error}"))
        })?;
        Ok(Self { relay: RefCell::new(Some(relay)) })
    }

    /// Ends it and removes the socket.
    #[napi]
    pub fn close(&self) {
        self.relay.borrow_mut().take();
    }
}

/// One server. All calls on the thread that made it.
#[napi]
pub struct Engine {
    /// Shared with the environment's clean-up hook; `None` once terminated.
    bridge: Rc<RefCell<Option<Bridge>>>,
    config: EngineConfig,
}

#[napi]
impl Engine {
    /// Reads the settings, an environment-style map. `doorbell` is called on this thread when
    /// `drain` has something to give.
    #[napi(constructor)]
    pub fn new(
        env: Env,
        settings: HashMap<String, String>,
        app: AppFolders,
        doorbell: Function<'_, (), ()>,
    ) -> napi::Result<Self> {
        let config = EngineConfig::from_settings(&settings)
            .map_err(|error| napi::Error::from_reason(error.to_string()))?;
        let function = doorbell.raw();
        let bell = doorbell
            .build_threadsafe_function::<()>()
            .callee_handled::<false>()
            .max_queue_size::<DOORBELL_QUEUE>()
            .build()?;
        // A full queue means that the bell is rung already; a closing environment hears nothing.
        let ring = move || {
            bell.call((), ThreadsafeFunctionCallMode::NonBlocking);
        };
        let host = engine::Host { doorbell: Box::new(ring), tidy: tidy_memory };
        let app = engine::App {
            directory: app.directory.into(),
            package_directory: app.package_directory.into(),
            templates: app.templates.map(Into::into),
            public: app.public.map(Into::into),
            development: app.development,
            version: app.version,
            relay: app.relay.map(Into::into),
        };
        let engine = engine::Engine::new(config.clone(), app, host);
        let bridge = Rc::new(RefCell::new(Some(Bridge::new(engine))));
        let doorbell = Doorbell::new(env.raw(), function, &bridge)?;
        if let Some(open) = bridge.borrow_mut().as_mut() {
            open.watchers.set_doorbell(doorbell);
        }
        // A worker thread or a process that ends first ends the shards, which would otherwise ring
        // for an environment that is gone.
        env.add_env_cleanup_hook(Rc::clone(&bridge), |bridge| {
            bridge.borrow_mut().take();
        })?;
        Ok(Self { bridge, config })
    }

    /// The configuration that JavaScript acts on.
    #[napi(getter)]
    pub fn config(&self) -> NativeConfig {
        let config = &self.config;
        NativeConfig {
            host: config.host.clone(),
            port: u32::from(config.port),
            ws_close_grace: config.close_grace.as_secs_f64() * 1e3,
            handler_timeout: config.handler_timeout.as_secs_f64() * 1e3,
            shutdown_timeout: config.shutdown_timeout.as_secs_f64() * 1e3,
            secret: config.secret.clone(),
            log_level: config.log_level.as_str().into(),
            log_format: config.log_format.as_str().into(),
            debug: config.debug,
            ws_allowed_origins: config.allowed_origins.clone(),
        }
    }

    /// What was dropped, refused and is held.
    #[napi]
    pub fn statistics(&self) -> Option<Statistics> {
        use std::sync::atomic::Ordering::Relaxed;
        self.with(|bridge| {
            let registered = bridge.engine.publisher().registered();
            let engine = &bridge.engine;
            let counters = engine.counters();
            Statistics {
                dropped_frames: counters.dropped_frames.load(Relaxed) as f64,
                slow_consumers: counters.slow_consumers.load(Relaxed) as f64,
                rejected_upgrades: counters.rejected_upgrades.load(Relaxed) as f64,
                panics: counters.panics.load(Relaxed) as f64,
                driven: counters.driven.load(Relaxed) as f64,
                buffered: engine.buffered() as f64,
                topics: engine.topics().len() as f64,
                sockets: engine.open_sockets() as f64,
                connections: engine.connections() as f64,
                members: engine.held().members.load(Relaxed) as f64,
                registered: registered as f64,
                requests: engine.held().requests.load(Relaxed) as f64,
            }
        })
    }

    /// Adds or replaces a route: `method` is a verb, "ANY" or, with `options`, "WEBSOCKET". Returns
    /// the id that was replaced.
    #[napi]
    pub fn route(
        &self,
        env: Env,
        method: String,
        pattern: String,
        id: u32,
        options: Option<WebSocketOptions>,
    ) -> napi::Result<Option<u32>> {
        let parsed = match Pattern::parse(&pattern) {
            Ok(parsed) => parsed,
            Err(error) => {
                throw_type_error(&env, &error.to_string())?;
                return Ok(None);
            }
        };
        if method == "WEBSOCKET" {
            let WebSocketOptions { binary, compress, protocols } = options.unwrap_or_default();
            let protocols = protocols.into_iter().map(String::into_boxed_str).collect();
            let route = WebSocketRoute { id, binary, compress, protocols };
            return Ok(self
                .with(|bridge| bridge.engine.routes().update(|r| r.insert_websocket(parsed, route)))
                .flatten());
        }
        let method: Method = method.parse().map_err(|_| {
            napi::Error::from_reason(format!("{method:?} is not the name of a method"))
        })?;
        Ok(self
            .with(|bridge| bridge.engine.routes().update(|r| r.insert_http(method, parsed, id)))
            .flatten())
    }

    /// Starts the shards, on an inherited listener if `fd` names one. The error's `code` is the
    /// system's.
    #[napi]
    pub fn listen(&self, fd: Option<i32>) -> napi::Result<Address, String> {
        let mut bridge = self.bridge.borrow_mut();
        let Some(open) = bridge.as_mut() else {
            return Err(failure("ERR_CLOSED", "this engine has been terminated"));
        };
        let (host, port) = (&self.config.host, self.config.port);
        match open.engine.listen(fd.map(convert::from_fd)) {
            Ok(address) => {
                open.watch();
                Ok(Address { host: address.ip().to_string(), port: u32::from(address.port()) })
            }
            Err(error) => {
                // The doorbell would keep the process alive.
                bridge.take();
                Err(io_failure(&error.source, host, port))
            }
        }
    }

    /// What is called for every message and every batch. `drain` writes waiting events, four numbers
    /// each into `words`, and returns what `list` makes of one value each, `undefined` if there are no
    /// events; `commit` acknowledges what was drained and hands all commands to the shards; `finish`
    /// does so at the end of a batch, and is true if another drain must follow; `flush` hands them over
    /// in the middle of a batch;
    /// `send` sends to one connection; `broadcast` to everyone on a topic but `exclude`, 0 for none;
    /// `forward` and `forwardAll` do the same with the message that event `index` of the last drain
    /// was, and say false if it is not at hand any more; `respond` answers a request, `headers` being
    /// lines `name:value`. Event `index` of the last drain that must `hold` waits in JavaScript and is
    /// counted until its `ack`. A connection is told to `join` its path, which returns its topic, when
    /// its `open` is dispatched, to `leave` it for its `close`, and `release` forgets it.
    #[napi(
        getter,
        ts_return_type = "{ drain(words: Float64Array, list: (...values: unknown[]) => unknown[]): unknown[] | undefined; commit(): void; finish(): boolean; flush(): void; send(handle: number, data: string | Uint8Array): void; broadcast(topic: number, data: string | Uint8Array, exclude: number): void; forward(handle: number, index: number): false | undefined; forwardAll(topic: number, index: number, exclude: number): false | undefined; respond(handle: number, status: number, headers: string, body: string | Uint8Array): void; hold(index: number): void; ack(handle: number, bytes: number): void; join(handle: number): number; leave(handle: number): void; release(handle: number): void }"
    )]
    pub fn calls<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        calls::object(env, &self.bridge)
    }

    /// The headers of the upgrade request, a line `name:value` each.
    #[napi]
    pub fn head(&self, handle: f64) -> String {
        self.publish(|publisher| publisher.head(handle_of(handle)).map(str::to_owned))
            .flatten()
            .unwrap_or_default()
    }

    /// Sends to everyone on a concrete path, and if `publish` on the other nodes, but for those in
    /// `delivered`; throws a TypeError if it is none.
    #[napi(
        ts_args_type = "path: string, data: string | Uint8Array, publish: boolean, delivered: string[]"
    )]
    pub fn push(
        &self,
        env: Env,
        path: String,
        data: Unknown<'_>,
        publish: bool,
        delivered: Vec<String>,
    ) -> napi::Result<()> {
        let mut scratch = Scratch::new();
        let message = JsMessage::new(&env, &data, &mut scratch)?;
        match engine::path::canonical(&path) {
            Ok(path) => {
                self.publish(|publisher| {
                    if publish {
                        publisher.push(&path, &message, delivered);
                    } else {
                        publisher.push_here(&path, &message);
                    }
                });
                Ok(())
            }
            Err(error) => throw_type_error(&env, &error.to_string()),
        }
    }

    /// How this node stands to its bus; null without a backplane.
    #[napi]
    pub fn backplane(&self) -> Option<NativeBackplane> {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        let read = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        self.with(|bridge| {
            let status = bridge.engine.backplane()?;
            let counters = &status.counters;
            Some(NativeBackplane {
                kind: status.kind.into(),
                state: status.state().as_str().into(),
                src: status.source.clone(),
                nodes: status.nodes() as f64,
                published: read(&counters.published),
                received: read(&counters.received),
                duplicates: read(&counters.duplicates),
                ignored: read(&counters.ignored),
                recovered: read(&counters.recovered),
                lost: read(&counters.lost),
                dropped: read(&counters.dropped),
                resent: read(&counters.resent),
                forgotten: read(&counters.forgotten),
                connects: read(&counters.connects),
            })
        })
        .flatten()
    }

    /// Publishes what waits and ends the backplane: a BACKPLANE event follows. False if there is none
    /// that runs.
    #[napi]
    pub fn finish(&self) -> bool {
        self.with(|bridge| bridge.engine.finish_backplane()).unwrap_or(false)
    }

    /// Connections on a concrete path, in this process; throws a TypeError if it is none.
    #[napi]
    pub fn count_path(&self, env: Env, path: String) -> napi::Result<u32> {
        match engine::path::canonical(&path) {
            Ok(path) => Ok(self
                .with(|bridge| bridge.engine.topics().get(&path).map(|topic| topic.count()))
                .flatten()
                .unwrap_or(0)),
            Err(error) => {
                throw_type_error(&env, &error.to_string())?;
                Ok(0)
            }
        }
    }

    /// Asks all reachable nodes for their connections on a concrete path; a COUNTED event with the id
    /// that is returned follows. Throws a TypeError if it is no path.
    #[napi]
    pub fn count_cluster(&self, env: Env, path: String) -> napi::Result<f64> {
        match engine::path::canonical(&path) {
            Ok(path) => Ok(self.with(|bridge| bridge.count(&path)).unwrap_or(0) as f64),
            Err(error) => {
                throw_type_error(&env, &error.to_string())?;
                Ok(0.0)
            }
        }
    }

    /// Begins the closing handshake.
    #[napi]
    pub fn close(&self, handle: f64, code: u16, reason: String) {
        self.publish(|publisher| publisher.close(handle_of(handle), code, &reason));
    }

    /// Asks for one DRAINED event; false if the connection is gone and none will come.
    #[napi]
    pub fn drained(&self, handle: f64) -> bool {
        self.publish(|publisher| publisher.drain(handle_of(handle))).unwrap_or(false)
    }

    /// Bytes queued for a connection and not yet written.
    #[napi]
    pub fn buffered(&self, handle: f64) -> f64 {
        self.publish(|publisher| publisher.buffered(handle_of(handle))).unwrap_or(0) as f64
    }

    /// Connections on a topic, in this process.
    #[napi]
    pub fn count(&self, topic: f64) -> u32 {
        self.publish(|publisher| publisher.count(topic as u64)).unwrap_or(0)
    }

    /// Answers with a file below the app's folder, or 404. `headers` are lines `name:value`.
    #[napi]
    pub fn respond_file(&self, handle: f64, status: u16, headers: String, path: String) {
        let body = AnswerBody::File(path.into());
        let answer = engine::Answer { status, headers: headers.into(), body };
        self.publish(|publisher| publisher.answer(handle_of(handle), answer));
    }

    /// Renders a template with data given as JSON. The error names file and line.
    #[napi]
    pub fn render(&self, name: String, json: String) -> napi::Result<String> {
        let rendered = self.with(|bridge| bridge.render(&name, &json));
        rendered
            .unwrap_or_else(|| Err("this engine has been terminated".into()))
            .map_err(napi::Error::from_reason)
    }

    /// Begins the shutdown; a STOPPED event ends it.
    #[napi]
    pub fn shutdown(&self, code: u16, reason: String) {
        self.with(|bridge| bridge.engine.shutdown(code, &reason));
    }

    /// Ends the threads at once. Every later call does nothing.
    #[napi]
    pub fn terminate(&self) {
        let bridge = self.bridge.borrow_mut().take();
        drop(bridge);
    }
}

impl Engine {
    fn with<T>(&self, call: impl FnOnce(&mut Bridge) -> T) -> Option<T> {
        self.bridge.borrow_mut().as_mut().map(call)
    }

    fn publish<T>(&self, call: impl FnOnce(&mut engine::publisher::Publisher) -> T) -> Option<T> {
        self.with(|bridge| call(bridge.engine.publisher()))
    }
}

/// A number that was no handle becomes a handle to nothing.
fn handle_of(number: f64) -> Handle {
    Handle::from_number(number as u64)
}
