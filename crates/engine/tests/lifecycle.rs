//! The life of connections against a model: random peers open, talk, hang up and are hung up on, in
//! any interleaving, and whatever happens keeps the promises.
//!
//! The handlers write down what they do in the order they do it. From that the model knows what
//! each peer must have received. `PROPTEST_CASES` runs more cases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::Handle;
use proptest::prelude::*;
use proptest::test_runner::Config as ProptestConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod common;

use common::{
    App, Blocked, On, PATIENCE, Peer, Raw, Seen, Server, frame, opcode, upgrade_request, within,
};

const CASES: u32 = 32;
const PEERS: usize = 5;
const ROOMS: [&str; 2] = ["/room/a", "/room/b"];
/// Copied, framed alone, and larger than one read.
const SIZES: [usize; 4] = [0, 300, 17_000, 70_000];

/// What a peer asks of the handler, in its message.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Echo,
    Everyone,
    Others,
    OtherRoom,
    /// Send, broadcast, close: all three must arrive, in this order.
    Close,
}

const ASKS: [(Ask, &str); 5] = [
    (Ask::Echo, "echo"),
    (Ask::Everyone, "everyone"),
    (Ask::Others, "others"),
    (Ask::OtherRoom, "other room"),
    (Ask::Close, "close"),
];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A peer connects, and may send right behind its request.
    Connect { peer: usize, room: usize, early: Option<Ask> },
    /// A peer sends a message, in so many fragments, written in pieces.
    Say { peer: usize, ask: Ask, size: usize, fragments: usize, pieces: usize, binary: bool },
    /// A peer begins the closing handshake.
    Close { peer: usize },
    /// A peer ends its half of TCP.
    Finish { peer: usize },
    /// A peer is gone.
    Reset { peer: usize },
    /// The program pushes to a room.
    Push { room: usize },
    /// The program sends to everyone whose close it was told.
    SendToTheDead,
    /// The handlers take no events until the next of these.
    Block,
    /// Some time passes.
    Wait { milliseconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    let room = 0..ROOMS.len();
    let ask = || (0..ASKS.len() * 4).prop_map(|n| ASKS[if n < 4 { n + 1 } else { n % 4 }].0);
    let size = (0..SIZES.len() * 3).prop_map(|n| SIZES[n.saturating_sub(8)]);
    prop_oneof![
        6 => (peer.clone(), room.clone(), proptest::option::of(ask()))
            .prop_map(|(peer, room, early)| Step::Connect { peer, room, early }),
        16 => (peer.clone(), ask(), size, 1..4_usize, 1..4_usize, any::<bool>()).prop_map(
            |(peer, ask, size, fragments, pieces, binary)| {
                Step::Say { peer, ask, size, fragments, pieces, binary }
            }
        ),
        2 => peer.clone().prop_map(|peer| Step::Close { peer }),
        1 => peer.clone().prop_map(|peer| Step::Finish { peer }),
        1 => peer.prop_map(|peer| Step::Reset { peer }),
        2 => room.prop_map(|room| Step::Push { room }),
        1 => Just(Step::SendToTheDead),
        1 => Just(Step::Block),
        2 => (0..4_u64).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

fn scenario() -> impl Strategy<Value = (usize, Vec<Step>, bool)> {
    let steps = proptest::collection::vec(step(), 1..60);
    (1..3_usize, steps, any::<bool>())
}

/// What the handlers did, in their order.
#[derive(Clone, Debug, PartialEq)]
enum Act {
    Opened { handle: Handle, client: usize, room: String },
    Told { handle: Handle, text: String },
    Sent { handle: Handle, text: String },
    Broadcast { room: String, except: Option<Handle>, text: String },
    Closed { handle: Handle },
    Ended { handle: Handle, code: u16 },
    Shutdown,
}

type Acts = Arc<Mutex<Vec<Act>>>;

fn note(acts: &Acts, act: Act) {
    acts.lock().unwrap_or_else(PoisonError::into_inner).push(act);
}

/// The handler of the rooms: does what it is asked and writes it down.
fn handle(acts: &Acts, peer: &mut Peer<'_>, on: On<'_>) {
    let handle = peer.handle;
    let room = peer.info.path.clone();
    let sent = |text: String| Act::Sent { handle, text };
    match on {
        On::Open => {
            let client = peer.info.query.strip_prefix("client=").and_then(|n| n.parse().ok());
            let client = client.expect("every client says its number");
            note(acts, Act::Opened { handle, client, room: room.clone() });
            let text = format!("{client} joined");
            peer.broadcast(&text);
            note(acts, Act::Broadcast { room, except: None, text });
        }
        On::Text(text) => {
            note(acts, Act::Told { handle, text: text.to_owned() });
            let (wanted, rest) = text.split_once('|').expect("a message says what it asks");
            let ask = ASKS.iter().find(|(_, name)| *name == wanted).expect("a known ask").0;
            let to_all = |except| Act::Broadcast { room: room.clone(), except, text: rest.into() };
            match ask {
                Ask::Echo => {
                    peer.send(rest);
                    note(acts, sent(rest.into()));
                }
                Ask::Everyone => {
                    peer.broadcast(rest);
                    note(acts, to_all(None));
                }
                Ask::Others => {
                    peer.broadcast_to_others(rest);
                    note(acts, to_all(Some(handle)));
                }
                Ask::OtherRoom => {
                    let room = ROOMS.iter().find(|other| **other != room).expect("two rooms");
                    peer.engine.publisher().push(room, &rest, Vec::new());
                    let (room, text) = ((*room).to_owned(), rest.to_owned());
                    note(acts, Act::Broadcast { room, except: None, text });
                }
                Ask::Close => {
                    peer.send(rest);
                    note(acts, sent(rest.into()));
                    peer.broadcast(rest);
                    note(acts, to_all(None));
                    peer.close(4000, "asked for");
                    note(acts, Act::Closed { handle });
                    peer.send("nobody gets this");
                }
            }
        }
        On::Binary(_) => panic!("this route takes text"),
        On::Close(code, _) => {
            note(acts, Act::Ended { handle, code });
            let text = "somebody left".to_owned();
            peer.broadcast(&text);
            note(acts, Act::Broadcast { room, except: None, text });
        }
    }
}

/// How a client ended its connection, if it did.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Stayed,
    /// With a close frame behind everything it sent.
    Closed,
    /// With the end of its half of TCP behind everything it sent.
    Finished,
    /// With a reset, which may lose what it sent.
    Reset,
}

/// One connection as its client sees it.
struct Client {
    number: usize,
    /// Gone after a reset.
    write: Option<OwnedWriteHalf>,
    reading: JoinHandle<Vec<String>>,
    /// How many texts and close frames have come.
    came: watch::Receiver<usize>,
    /// The messages it has sent.
    said: Vec<String>,
    left: Left,
}

impl Client {
    async fn connect(server: &Server, number: usize, room: &str, early: Option<&str>) -> Self {
        let mut raw = server.raw().await;
        let path = format!("{room}?client={number}");
        let mut bytes = upgrade_request(&path).into_bytes();
        if let Some(early) = early {
            bytes.extend(frame(true, opcode::TEXT, early.as_bytes()));
        }
        raw.write(bytes).await;
        let response = raw.response().await;
        assert_eq!(response.status, 101, "{response:?}");
        let Raw { stream, mut buffer } = raw;
        stream.set_nodelay(true).expect("set");
        let (mut read, write) = stream.into_split();
        let (tell, came) = watch::channel(0);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                while let Some(text) = take_frame(&mut buffer) {
                    let is_last = text.starts_with("close ");
                    got.push(text);
                    tell.send_replace(got.len());
                    if is_last {
                        return got;
                    }
                }
                if read.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return got;
                }
            }
        });
        let said = early.map(str::to_owned).into_iter().collect();
        Self { number, write: Some(write), reading, came, said, left: Left::Stayed }
    }

    async fn write(&mut self, bytes: &[u8], pieces: usize) {
        let Some(write) = &mut self.write else { return };
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            // It fails once the server has hung up, which the model finds out by itself.
            let _ = within("a write", write.write_all(piece)).await;
            tokio::task::yield_now().await;
        }
    }
}

/// Takes a text out of what was read; a close frame as its code.
fn take_frame(buffer: &mut Vec<u8>) -> Option<String> {
    let (length, at) = match *buffer.get(1)? {
        126 => (u16::from_be_bytes(*buffer.get(2..)?.first_chunk()?) as usize, 4),
        127 => (u64::from_be_bytes(*buffer.get(2..)?.first_chunk()?) as usize, 10),
        short => (short as usize, 2),
    };
    let payload = buffer.get(at..at + length)?.to_vec();
    let text = match buffer[0] {
        0x81 => String::from_utf8(payload).expect("UTF-8"),
        0x88 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
        other => panic!("an unexpected frame {other:#x}"),
    };
    buffer.drain(..at + length);
    Some(text)
}

/// What the model knows of one connection.
struct Modelled {
    client: usize,
    room: String,
    /// What it is sent, in order.
    expected: Vec<String>,
    told: Vec<String>,
    /// Nothing more reaches it: its handler closed it, or the server shut down.
    closing: Option<u16>,
    ended: Option<u16>,
}

/// Replays what the handlers did.
fn model(acts: &[Act]) -> HashMap<Handle, Modelled> {
    let mut all: HashMap<Handle, Modelled> = HashMap::new();
    let mut is_down = false;
    for act in acts {
        match act.clone() {
            Act::Opened { handle, client, room } => {
                let closing = is_down.then_some(1001);
                let (expected, told, ended) = (Vec::new(), Vec::new(), None);
                let new = Modelled { client, room, expected, told, closing, ended };
                assert!(all.insert(handle, new).is_none(), "a handle was used twice");
            }
            Act::Told { handle, text } => {
                let one = all.get_mut(&handle).expect("open comes first");
                assert_eq!(one.ended, None, "close comes last");
                one.told.push(text);
            }
            Act::Sent { handle, text } => {
                let one = all.get_mut(&handle).expect("open comes first");
                if one.closing.is_none() {
                    one.expected.push(text);
                }
            }
            Act::Broadcast { room, except, text } => {
                for (handle, one) in &mut all {
                    let is_member = one.room == room && one.ended.is_none();
                    if is_member && Some(*handle) != except && one.closing.is_none() {
                        one.expected.push(text.clone());
                    }
                }
            }
            Act::Closed { handle } => {
                let one = all.get_mut(&handle).expect("open comes first");
                one.closing.get_or_insert(4000);
            }
            Act::Ended { handle, code } => {
                let one = all.get_mut(&handle).expect("open comes first");
                assert_eq!(one.ended.replace(code), None, "close comes once");
            }
            Act::Shutdown => {
                is_down = true;
                for one in all.values_mut() {
                    one.closing.get_or_insert(1001);
                }
            }
        }
    }
    all
}

/// Plays a scenario and compares.
async fn play(io_threads: usize, steps: Vec<Step>, ends_by_shutdown: bool) {
    let acts = Acts::default();
    let handlers = Arc::clone(&acts);
    let server = App::new()
        .with(|config| {
            config.io_threads = io_threads;
            config.max_backlog = 64 << 20;
            config.closing_timeout = PATIENCE;
        })
        .websocket("/room/{name}", move |peer, on| handle(&handlers, peer, on))
        .start();
    let mut peers: [Option<Client>; PEERS] = Default::default();
    let mut past: Vec<Client> = Vec::new();
    let mut blocked: Option<Blocked> = None;
    let mut numbers = 0..;
    let mut number = || numbers.next().unwrap_or_default();
    for step in steps {
        match step {
            Step::Connect { peer, room, early } => {
                let early = early.map(|ask| message(ask, number(), 0));
                let (client, room) = (number(), ROOMS[room]);
                let new = Client::connect(&server, client, room, early.as_deref()).await;
                past.extend(peers[peer].replace(new));
            }
            Step::Say { peer, ask, size, fragments, pieces, binary } => {
                let Some(client) = peers[peer].as_mut().filter(|one| one.left == Left::Stayed)
                else {
                    continue;
                };
                let text = message(ask, number(), size);
                let kind = if binary { opcode::BINARY } else { opcode::TEXT };
                client.write(&fragmented(kind, text.as_bytes(), fragments), pieces).await;
                client.said.push(text);
            }
            Step::Close { peer } => {
                if let Some(client) = peers[peer].as_mut().filter(|one| one.left == Left::Stayed) {
                    client.write(&frame(true, opcode::CLOSE, b"\x03\xe8"), 1).await;
                    client.left = Left::Closed;
                }
            }
            Step::Finish { peer } => {
                if let Some(client) = peers[peer].as_mut().filter(|one| one.left == Left::Stayed) {
                    if let Some(write) = &mut client.write {
                        let _ = write.shutdown().await;
                    }
                    client.left = Left::Finished;
                }
            }
            Step::Reset { peer } => {
                if let Some(client) = peers[peer].as_mut().filter(|one| one.left == Left::Stayed) {
                    let socket =
                        socket2::SockRef::from(client.write.as_ref().expect("not reset").as_ref());
                    socket.set_linger(Some(Duration::ZERO)).expect("set");
                    // It resets when both halves are gone.
                    client.reading.abort();
                    client.write = None;
                    client.left = Left::Reset;
                }
            }
            Step::Push { room } => {
                let text = format!("pushed {}", number());
                server.with(|engine| {
                    engine.publisher().push(ROOMS[room], &text.as_str(), Vec::new());
                    let room = ROOMS[room].to_owned();
                    note(&acts, Act::Broadcast { room, except: None, text });
                });
            }
            Step::SendToTheDead => server.with(|engine| {
                let known = model(&acts.lock().unwrap_or_else(PoisonError::into_inner));
                for handle in known.iter().filter(|one| one.1.ended.is_some()).map(|one| one.0) {
                    engine.publisher().send(*handle, &"a ghost");
                    engine.publisher().close(*handle, 4999, "a ghost");
                }
            }),
            Step::Block => {
                blocked = match blocked.take() {
                    Some(_) => None,
                    None => Some(server.block()),
                }
            }
            Step::Wait { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
        }
    }
    drop(blocked);
    let everyone: Vec<Client> = past.into_iter().chain(peers.into_iter().flatten()).collect();
    if !ends_by_shutdown {
        everything_has_arrived(&server, &acts, &everyone).await;
    }
    shut_down(&server, &acts);
    let mut received = HashMap::new();
    for client in everyone {
        // Who was reset has stopped reading.
        let got = within("the end of a stream", client.reading).await.unwrap_or_default();
        // Hanging up is the answer to a close frame.
        drop(client.write);
        received.insert(client.number, (got, client.said, client.left));
    }
    server.event("the end", |seen| *seen == Seen::Stopped).await;
    server.with(|engine| {
        assert!(engine.topics().is_empty(), "no path has connections");
        assert_eq!(engine.open_sockets(), 0);
    });
    within("nothing buffered", async {
        while server.buffered() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let acts = acts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for modelled in model(&acts).values() {
        let (got, said, left) = received.remove(&modelled.client).expect("a client");
        compare(modelled, got, &said, left, !ends_by_shutdown);
    }
}

fn message(ask: Ask, number: usize, size: usize) -> String {
    let wanted = ASKS[ask as usize].1;
    format!("{wanted}|{number} {}", "x".repeat(size))
}

fn fragmented(kind: u8, payload: &[u8], fragments: usize) -> Vec<u8> {
    let parts: Vec<_> = payload.chunks(payload.len().div_ceil(fragments)).collect();
    let mut out = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let opcode = if index == 0 { kind } else { opcode::CONTINUATION };
        out.extend(frame(index + 1 == parts.len(), opcode, part));
    }
    out
}

fn shut_down(server: &Server, acts: &Acts) {
    server.with(|engine| {
        engine.shutdown(1001, "the end");
        note(acts, Act::Shutdown);
    });
}

/// Waits until the handlers were told what was said, and the peers have what they were sent.
async fn everything_has_arrived(server: &Server, acts: &Acts, clients: &[Client]) {
    let has_arrived = |client: &Client| {
        let known = server.with(|_| model(&acts.lock().unwrap_or_else(PoisonError::into_inner)));
        let Some(one) = known.values().find(|one| one.client == client.number) else {
            return client.left == Left::Reset;
        };
        let all_told = one.closing.is_some() || one.told.len() == client.said.len();
        match client.left {
            Left::Stayed if one.closing.is_none() => {
                all_told && *client.came.borrow() == one.expected.len()
            }
            Left::Stayed => client.reading.is_finished(),
            Left::Closed => all_told && client.reading.is_finished(),
            Left::Finished => all_told && one.ended.is_some(),
            Left::Reset => one.ended.is_some(),
        }
    };
    let mut waiting = 0;
    let everybody = async {
        for client in clients {
            while !has_arrived(client) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            waiting += 1;
        }
    };
    if tokio::time::timeout(PATIENCE, everybody).await.is_err() {
        let client = &clients[waiting];
        let known = model(&acts.lock().unwrap_or_else(PoisonError::into_inner));
        let one = known.values().find(|one| one.client == client.number);
        panic!(
            "client {} ({:?}) said {:?}, got {} frames; the model has {:?}",
            client.number,
            client.left,
            shown(&client.said),
            client.came.borrow().clone(),
            one.map(|one| (shown(&one.told), shown(&one.expected), one.closing, one.ended)),
        );
    }
}

/// Texts without their padding.
fn shown(texts: &[String]) -> Vec<&str> {
    texts.iter().map(|text| text.trim_end_matches('x')).collect()
}

fn compare(one: &Modelled, mut got: Vec<String>, said: &[String], left: Left, all_arrived: bool) {
    let name = one.client;
    assert!(one.ended.is_some(), "client {name} was never closed");
    assert!(said.starts_with(&one.told), "client {name}: {:?}", shown(&one.told));
    let close = got.pop_if(|last| last.starts_with("close "));
    let (texts, expected) = (shown(&got), shown(&one.expected));
    assert!(one.expected.starts_with(&got), "client {name} got {texts:?} and not {expected:?}");
    match left {
        Left::Stayed => {
            assert_eq!(texts, expected, "client {name} got everything");
            let code = one.closing.map(|code| format!("close {code}"));
            assert_eq!(close, code, "client {name}");
        }
        // It had said its last before the handler did.
        Left::Closed if all_arrived && one.closing != Some(4000) => {
            for told in one.told.iter().filter_map(|told| told.strip_prefix("echo|")) {
                assert!(got.iter().any(|text| text == told), "client {name} misses an echo");
            }
            assert!(close.is_some(), "client {name} got no close frame");
        }
        Left::Closed | Left::Finished | Left::Reset => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_keeps_every_promise((threads, steps, ends_by_shutdown) in scenario()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(play(threads, steps, ends_by_shutdown));
    }
}
