//! The thread that runs the handlers, as the addon's does.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::driving::Turn;
use engine::event::Event;
use engine::message::Kind;
use engine::{Answer, AnswerBody, Engine, Handle};
use tokio::sync::Notify;

use super::{Info, On, Peer, RequestHandler, Seen, WebSocketHandler};

/// How often the handlers' thread gives a shard a turn that it drives: it does not watch its descriptor.
const TURNS_APART: Duration = Duration::from_micros(200);
/// After so many turns that brought nothing it gives no more: a descriptor would not be readable.
const QUIET_TURNS: u32 = 5;

pub(super) enum Wake {
    Doorbell,
    Block(Sender<()>, Receiver<()>),
    Stop,
}

#[derive(Default)]
pub(super) struct Record {
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) changed: Notify,
}

impl Record {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, seen: Seen) {
        self.lock().push(seen);
        self.changed.notify_waiters();
    }
}

pub(super) struct Handlers {
    pub(super) engine: Arc<Mutex<Engine>>,
    pub(super) websockets: Vec<WebSocketHandler>,
    pub(super) requests: Vec<RequestHandler>,
    pub(super) connections: HashMap<Handle, Info>,
    pub(super) record: Arc<Record>,
    /// The shards that are driven, and how many turns of each have brought nothing.
    pub(super) driven: Vec<(usize, u32)>,
}

impl Handlers {
    pub(super) fn run(&mut self, wakes: &Receiver<Wake>) {
        loop {
            let wake = match self.driven[..] {
                [] => wakes.recv().unwrap_or(Wake::Stop),
                _ => match wakes.recv_timeout(TURNS_APART) {
                    Ok(wake) => wake,
                    Err(RecvTimeoutError::Timeout) => {
                        self.drive();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => Wake::Stop,
                },
            };
            match wake {
                Wake::Doorbell => self.turn(),
                Wake::Block(blocked, released) => {
                    let _ = blocked.send(());
                    // An error says that the test let go.
                    let _ = released.recv();
                }
                Wake::Stop => return,
            }
        }
    }

    fn drive(&mut self) {
        for (shard, quiet) in std::mem::take(&mut self.driven) {
            let turn = {
                let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
                engine.driving().turn(shard)
            };
            match turn {
                Turn::Events => {
                    self.turn();
                    self.watch(shard);
                }
                Turn::Quiet if quiet < QUIET_TURNS => self.driven.push((shard, quiet + 1)),
                Turn::Quiet | Turn::Elsewhere => {}
            }
        }
    }

    fn watch(&mut self, shard: usize) {
        self.driven.retain(|(driven, _)| *driven != shard);
        self.driven.push((shard, 0));
    }

    fn turn(&mut self) {
        let engine = Arc::clone(&self.engine);
        let engine = &mut *engine.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batches = Vec::new();
        loop {
            engine.take(&mut batches);
            for batch in &batches {
                for event in &batch.events {
                    self.dispatch(engine, event, &batch.buffer);
                }
            }
            engine.publisher().commit();
            engine.events().give_back(&mut batches);
            if !engine.events().finish() {
                break;
            }
        }
        engine.driving().batch_ended(|shard| {
            self.watch(shard);
            true
        });
    }

    fn dispatch(&mut self, engine: &mut Engine, event: &Event, buffer: &[u8]) {
        match event {
            Event::Open(opened) => {
                let handle = opened.handle;
                let info = Info {
                    route: opened.route,
                    id: engine::event::id_text(opened.id),
                    path: opened.path.clone(),
                    params: opened.params.clone(),
                    query: opened.query.clone(),
                    ip: opened.ip.to_string(),
                    protocol: opened.protocol.to_string(),
                    topic: engine.publisher().join(handle).expect("registered"),
                };
                self.connections.insert(handle, info.clone());
                self.handle(engine, handle, On::Open);
                self.record.add(Seen::Open(handle, info));
            }
            Event::Message { handle, kind, payload, .. } => {
                let bytes = payload.bytes(buffer);
                let seen = match kind {
                    Kind::Text => {
                        let text = std::str::from_utf8(bytes).expect("text is UTF-8");
                        self.handle(engine, *handle, On::Text(text));
                        Seen::Text(*handle, text.to_owned())
                    }
                    Kind::Binary => {
                        self.handle(engine, *handle, On::Binary(bytes));
                        Seen::Binary(*handle, bytes.to_vec())
                    }
                };
                engine.publisher().acknowledge(*handle, payload.len());
                self.record.add(seen);
            }
            Event::Close { handle, code, reason } => {
                engine.publisher().leave(*handle);
                self.handle(engine, *handle, On::Close(*code, reason));
                engine.publisher().release(*handle);
                self.connections.remove(handle);
                self.record.add(Seen::Close(*handle, *code, reason.to_string()));
            }
            Event::Request(request) => {
                let handler = &mut self.requests[request.route as usize];
                let (handle, publisher) = (request.handle, engine.publisher());
                match handler(request) {
                    Some(Answer { status, headers, body: AnswerBody::Bytes(body) }) => {
                        publisher.respond(handle, status, &&headers[..], &&body[..]);
                    }
                    Some(answer) => publisher.answer(handle, answer),
                    None => {}
                }
                self.record.add(Seen::Request(request.handle, request.target().to_owned()));
            }
            Event::Drained { handle } => self.record.add(Seen::Drained(*handle)),
            Event::Stopped => self.record.add(Seen::Stopped),
            // No test of this crate has a server on a bus; those of the addon do.
            Event::Backplane { .. } | Event::Counted { .. } => {}
            Event::Log { level, message, .. } => {
                self.record.add(Seen::Log(*level, message.clone()))
            }
        }
    }

    fn handle(&mut self, engine: &mut Engine, handle: Handle, on: On<'_>) {
        let info = self.connections.get(&handle).expect("open comes first");
        let mut peer = Peer { engine, handle, topic: info.topic, info };
        self.websockets[info.route as usize](&mut peer, on);
    }
}
