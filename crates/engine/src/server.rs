//! The engine: shards, routes, templates and the sending side, started and ended together.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::backplane::{Backplane, Status};
use crate::command::{Command, CommandBatch, CommandQueue};
use crate::config::{Bus, Config};
use crate::driving::Driving;
use crate::event::{Event, EventBatch};
use crate::event_queue::EventQueue;
use crate::http::Served;
use crate::publisher::Publisher;
use crate::routes::Routes;
use crate::shard::{self, Common};
use crate::shared::{Counters, Held, Shared};
use crate::slots::MAX_SHARDS;
use crate::template::Templates;
use crate::topics::Topics;

/// Sockets the kernel queues while the acceptor is busy.
const BACKLOG: i32 = 4_096;

/// Where the app and the package keep their files.
#[derive(Clone, Debug)]
pub struct App {
    /// The app's folder; `res.file` reaches nothing outside it.
    pub directory: PathBuf,
    /// The package's folder, with the built-in `public` and `templates`.
    pub package_directory: PathBuf,
    /// Templates, if not in `src/templates`.
    pub templates: Option<PathBuf>,
    /// Static files, if not in `src/public` and `public`.
    pub public: Option<PathBuf>,
    /// Whether edited templates are seen without a restart.
    pub development: bool,
    /// What `/health` reports.
    pub version: String,
    /// The socket of the relay between the workers of one machine, for a server whose configuration
    /// names no backplane.
    pub relay: Option<PathBuf>,
}

/// What an engine needs of the process it runs in.
pub struct Host {
    /// Called from any thread when events wait for [`Engine::take`]; must not block.
    pub doorbell: Box<dyn Fn() + Send + Sync>,
    /// Called about once a second on each shard's thread, and once on that which calls
    /// [`Engine::take`] when it has ceased to drive shards, to give memory that is free back to the
    /// system; must not block.
    pub tidy: fn(),
}

impl Host {
    /// One that gives back nothing.
    pub fn new(doorbell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { doorbell: Box::new(doorbell), tidy: || {} }
    }
}

/// Why an engine does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// Host and port.
    pub address: String,
    /// What the system says.
    pub source: io::Error,
}

/// One server: its threads, its connections, its templates. Several can live in one process.
pub struct Engine {
    common: Arc<Common>,
    publisher: Publisher,
    topics: Topics,
    templates: Templates,
    backplane: Option<Backplane>,
    driving: Driving,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Prepares an engine; no thread runs before [`Self::listen`].
    pub fn new(config: Config, app: App, host: Host) -> Self {
        let shards = config.io_threads.clamp(1, MAX_SHARDS);
        let topics = Topics::new(shards);
        let commands: Vec<_> = (0..shards).map(|_| Arc::<CommandQueue>::default()).collect();
        let templates = Templates::new(
            &app.templates.clone().unwrap_or_else(|| app.directory.join("src/templates")),
            &app.package_directory.join("templates"),
            app.development,
        );
        let bus = config.backplane.clone().or_else(|| app.relay.clone().map(Bus::Relay));
        let backplane = bus.map(Backplane::new);
        let shared = Arc::new(Shared::new(config, shards));
        let publishes = backplane.as_ref().map(Backplane::publishes);
        let publisher =
            Publisher::new(commands.clone(), topics.clone(), Arc::clone(&shared), publishes);
        let common = Arc::new(Common {
            events: Arc::new(EventQueue::new(host.doorbell)),
            routes: Arc::default(),
            served: Served {
                directory: app.directory.clone(),
                version: app.version.clone(),
                started: Instant::now(),
            },
            static_roots: static_roots(&app, &shared.config),
            undrained: AtomicUsize::new(shards),
            tidy: host.tidy,
            ways: (0..shards).filter_map(|shard| publisher.to_shard(shard)).collect(),
            commands,
            shared,
        });
        let driving =
            Driving::new(&common.ways, Arc::clone(&common.events), Arc::clone(&common.shared));
        Self { common, publisher, topics, templates, backplane, driving, threads: Vec::new() }
    }

    /// For tests of a shard.
    #[cfg(test)]
    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// The limits and timers in force.
    pub fn config(&self) -> &Config {
        &self.common.shared.config
    }

    /// The route table; what is added counts from the next request on.
    pub fn routes(&self) -> &Routes {
        &self.common.routes
    }

    /// The sending side.
    pub fn publisher(&mut self) -> &mut Publisher {
        &mut self.publisher
    }

    /// The paths that have connections.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The templates.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// How many shards it has.
    pub fn shards(&self) -> usize {
        self.common.commands.len()
    }

    /// The events that wait.
    pub fn events(&self) -> &Arc<EventQueue> {
        &self.common.events
    }

    /// What was dropped and refused.
    pub fn counters(&self) -> &Counters {
        &self.common.shared.counters
    }

    /// What places are kept for.
    pub fn held(&self) -> &Held {
        &self.common.shared.held
    }

    /// WebSocket connections that are open or about to be.
    pub fn connections(&self) -> usize {
        self.common.shared.connections.load(Ordering::Relaxed)
    }

    /// Sockets that are open, upgraded or not.
    pub fn open_sockets(&self) -> usize {
        (0..self.common.commands.len()).map(|shard| self.common.shared.load(shard)).sum()
    }

    /// Bytes in queues and bodies.
    pub fn buffered(&self) -> usize {
        self.common.shared.buffered.get()
    }

    /// The backplane, if there is one.
    pub fn backplane(&self) -> Option<&Status> {
        Some(self.backplane.as_ref()?.status())
    }

    /// Asks all reachable nodes how many connections a canonical path has; an
    /// [`crate::event::Event::Counted`] with `id` follows.
    pub fn count_all(&mut self, id: u64, path: &str) {
        self.publisher.commit();
        match &self.backplane {
            Some(backplane) if backplane.is_running() => backplane.count(id, path.to_owned()),
            _ => {
                let sum = self.topics.get(path).map_or(0, |topic| u64::from(topic.count()));
                self.common.events.push_one(Event::Counted { id, sum });
            }
        }
    }

    /// Publishes what waits, tells the other nodes and ends the backplane; an
    /// [`crate::event::Event::Backplane`] follows. False if there is none that runs.
    pub fn finish_backplane(&mut self) -> bool {
        self.publisher.commit();
        self.backplane.as_ref().is_some_and(Backplane::finish)
    }

    /// Takes waiting events and makes their connections known to the publisher.
    pub fn take(&mut self, into: &mut Vec<EventBatch>) {
        let first = into.len();
        self.common.events.take(into);
        if self.driving.has_rested(Instant::now) {
            (self.common.tidy)();
        }
        for batch in &mut into[first..] {
            let mut requests = 0;
            for event in &mut batch.events {
                match event {
                    Event::Open(opened) => self.publisher.register(opened),
                    Event::Request(_) => requests += 1,
                    _ => {}
                }
            }
            if let Some(shard) = batch.shard {
                self.driving.heard(shard, batch.events.len(), requests);
            }
        }
    }

    /// The driving side.
    pub fn driving(&mut self) -> &mut Driving {
        &mut self.driving
    }

    /// Starts the shards. Without a `listener` of the caller's, binds the configured host and port.
    ///
    /// # Errors
    /// What the system says of the address or of the threads.
    pub fn listen(&mut self, listener: Option<TcpListener>) -> Result<SocketAddr, ListenError> {
        let config = self.config();
        let failed =
            |source| ListenError { address: format!("{}:{}", config.host, config.port), source };
        if !self.threads.is_empty() {
            return Err(failed(io::Error::other("this engine listens already")));
        }
        let listener = match listener {
            Some(listener) => listener,
            None => bind(&config.host, config.port).map_err(failed)?,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut listener = Some(listener);
        let mut threads = Vec::new();
        let mut descriptors = Vec::new();
        for index in 0..self.common.commands.len() {
            let common = Arc::clone(&self.common);
            let listener = listener.take();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("tina4-shard-{index}"))
                .spawn(move || match shard::runtime() {
                    Ok(runtime) => {
                        let can_be_lent = common.ways[index].lease().can_be_lent();
                        let descriptor = can_be_lent.then(|| shard::descriptor_of(&runtime));
                        let _ = ready.send(Ok(descriptor.flatten()));
                        shard::run(runtime, index, common, listener);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                })
                .map_err(failed)?;
            threads.push(thread);
            let started = is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("a shard died")));
            let descriptor = match started {
                Ok(descriptor) => descriptor,
                Err(error) => {
                    self.threads = threads;
                    self.terminate();
                    let config = self.config();
                    let address = format!("{}:{}", config.host, config.port);
                    return Err(ListenError { address, source: error });
                }
            };
            descriptors.push(descriptor);
        }
        self.threads = threads;
        self.driving.set_descriptors(descriptors);
        if let Some(backplane) = &mut self.backplane {
            let common = &self.common;
            let started = backplane.start(
                &common.shared.config,
                self.topics.clone(),
                common.commands.clone(),
                Arc::clone(&common.shared),
                Arc::clone(&common.events),
            );
            if let Err(source) = started {
                self.terminate();
                return Err(ListenError { address: address.to_string(), source });
            }
        }
        Ok(address)
    }

    /// Stops accepting, answers what is in flight and closes every connection with `code`. An
    /// [`crate::event::Event::Stopped`] follows when all are gone or the shutdown timeout has
    /// passed.
    pub fn shutdown(&mut self, code: u16, reason: &str) {
        self.publisher.commit();
        for commands in &self.common.commands {
            let reason = crate::close::cut_reason(reason).into();
            commands.push(CommandBatch::one(Command::Shutdown { code, reason }));
        }
        if self.threads.is_empty() {
            self.common.events.push_one(Event::Stopped);
        }
    }

    /// Ends the shards at once and waits for their threads. Does nothing the second time.
    pub fn terminate(&mut self) {
        if let Some(backplane) = &mut self.backplane {
            backplane.stop();
        }
        for commands in &self.common.commands {
            commands.push(CommandBatch::one(Command::Terminate));
        }
        for way in &self.common.ways {
            way.lease().give_back();
        }
        for thread in self.threads.drain(..) {
            // A shard that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// The folders static files come from, the first that has a file wins.
fn static_roots(app: &App, config: &Config) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    if let Some(directory) = &config.public_dir {
        roots.push(app.directory.join(directory));
    }
    match &app.public {
        Some(directory) => roots.push(directory.clone()),
        None => roots.extend([app.directory.join("src/public"), app.directory.join("public")]),
    }
    roots.push(app.package_directory.join("public"));
    roots
}

/// Binds `host` and `port` for this process alone: a port in use is an error.
///
/// # Errors
/// What the system says, or that the host has no address.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Unix this only skips the wait after a restart; two listeners still exclude each other.
    // On Windows it would let a second process take the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    #[test]
    fn nothing_of_an_engine_is_left_when_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().to_path_buf();
        let app = App {
            package_directory: directory.clone(),
            directory,
            templates: None,
            public: None,
            development: false,
            version: String::new(),
            relay: None,
        };
        let config =
            Config { host: "127.0.0.1".into(), port: 0, io_threads: 2, ..Config::default() };
        let mut engine = Engine::new(config, app, Host::new(|| {}));
        engine.listen(None).expect("a free port");
        let common = Arc::downgrade(&engine.common);
        let commands: Vec<Weak<_>> = engine.common.commands.iter().map(Arc::downgrade).collect();
        drop(engine);
        assert_eq!(common.strong_count(), 0);
        for queue in commands {
            // A socket on its way to the shard would stay open in it, and its peer wait.
            assert_eq!(queue.strong_count(), 0);
        }
    }
}
