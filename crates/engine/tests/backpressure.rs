//! What a peer that sends too much or reads too little can cost: bounded memory, and nobody else's
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::Handle;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

mod common;

use common::{App, Frame, Raw, Seen, Server, answer, echo, frame, opcode, quiet, within};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One read of a shard plus what its meter may not have said yet.
const SLACK: usize = 128 * KIB;

/// Writes numbered messages of `size` bytes for as long as the server takes them.
struct Flood {
    written: Arc<AtomicUsize>,
    task: JoinHandle<TcpStream>,
}

impl Flood {
    fn start(raw: Raw, messages: usize, size: usize) -> Self {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let mut stream = raw.stream;
        let task = tokio::spawn(async move {
            for index in 0..messages {
                let bytes = frame(true, opcode::TEXT, numbered(index, size).as_bytes());
                stream.write_all(&bytes).await.expect("open");
                counter.fetch_add(bytes.len(), Ordering::Relaxed);
            }
            stream
        });
        Self { written, task }
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until the server takes no more: until nothing was written for a while.
    async fn stalls(&self) -> usize {
        let still = Duration::from_millis(200);
        within("the flood to be stopped", async {
            loop {
                let before = self.written();
                tokio::time::sleep(still).await;
                if self.written() == before && before > 0 {
                    return before;
                }
            }
        })
        .await
    }
}

fn numbered(index: usize, size: usize) -> String {
    format!("{index:<size$}")
}

fn texts(seen: &[Seen], handle: Handle) -> Vec<&str> {
    seen.iter()
        .filter_map(|one| match one {
            Seen::Text(which, text) if *which == handle => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// Waits for `count` messages and checks that none is missing and all are in order.
async fn all_in_order(server: &Server, handle: Handle, count: usize, size: usize) {
    let what = format!("{count} messages");
    server.until(&what, |seen| (texts(seen, handle).len() >= count).then_some(())).await;
    let seen = server.seen();
    for (index, text) in texts(&seen, handle).into_iter().enumerate() {
        assert_eq!(text, numbered(index, size));
    }
}

#[tokio::test]
async fn a_flood_is_stopped_while_the_handlers_take_nothing_and_goes_on_afterwards() {
    const MESSAGES: usize = 20_000;
    const SIZE: usize = KIB;
    let server = App::new().websocket("/in", quiet).start();
    let raw = server.raw_websocket("/in").await;
    let handle = server.opened("/in", 1).await[0];
    let blocked = server.block();
    let flood = Flood::start(raw, MESSAGES, SIZE);
    let taken = flood.stalls().await;
    assert!(taken < MESSAGES * SIZE, "everything was taken in");
    let held = server.buffered();
    assert!(held > 0 && held <= 256 * KIB + SLACK, "{held} bytes are held");
    drop(blocked);
    all_in_order(&server, handle, MESSAGES, SIZE).await;
    within("the flood", flood.task).await.expect("written");
}

#[tokio::test]
async fn a_flood_of_empty_messages_is_stopped_by_their_number() {
    const MESSAGES: usize = 2_000_000;
    let server = App::new().websocket("/in", quiet).start();
    let raw = server.raw_websocket("/in").await;
    server.opened("/in", 1).await;
    let blocked = server.block();
    let mut stream = raw.stream;
    let empty = frame(true, opcode::TEXT, b"").repeat(1_000);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let task = tokio::spawn(async move {
        for _ in 0..MESSAGES / 1_000 {
            if stream.write_all(&empty).await.is_err() {
                return;
            }
            counter.fetch_add(1_000, Ordering::Relaxed);
        }
    });
    let flood = Flood { written: sent, task: tokio::spawn(async { std::future::pending().await }) };
    let taken = flood.stalls().await;
    assert!(taken < MESSAGES, "everything was taken in");
    // What the engine holds: at most the limit of 64 events and one read more.
    let mut held = Vec::new();
    server.with(|engine| {
        loop {
            let before = held.len();
            engine.take(&mut held);
            if held.len() == before {
                return;
            }
        }
    });
    let events: usize = held.iter().map(|batch| batch.events.len()).sum();
    assert!(events <= 64 + 64 * KIB / 6, "{events} events are held");
    flood.task.abort();
    task.abort();
    drop(blocked);
}

#[tokio::test]
async fn a_flood_does_not_keep_others_from_being_heard() {
    let server = App::new().websocket("/in", quiet).websocket("/echo", echo).start();
    let raw = server.raw_websocket("/in").await;
    server.opened("/in", 1).await;
    let flood = {
        let blocked = server.block();
        let flood = Flood::start(raw, 20_000, KIB);
        flood.stalls().await;
        let mut other = server.connect("/echo").await;
        other.send("me too").await;
        drop(blocked);
        assert_eq!(other.text().await, "me too");
        flood
    };
    within("the flood", flood.task).await.expect("written");
}

/// Sends numbered messages to `handle` until its connection is closed with 1013; returns how many
/// that took and how many the log says were dropped.
async fn overfill(server: &Server, handle: Handle, size: usize) -> (usize, usize) {
    for sent in 0..64 * MIB / size {
        let dropped = server.seen().iter().find_map(|one| match one {
            Seen::Log(_, line) => dropped_by(line),
            _ => None,
        });
        if let Some(dropped) = dropped {
            return (sent, dropped);
        }
        let text = numbered(sent, size);
        server.with(|engine| engine.publisher().send(handle, &text.as_str()));
        // The shard writes while this thread waits its turn.
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    panic!("64 MiB were queued for a peer that does not read");
}

/// What a log line says of the frames a slow consumer missed.
fn dropped_by(line: &str) -> Option<usize> {
    let (_, why) = line.split_once("closed with 1013, ")?;
    let count = why.strip_suffix(" frames dropped")?.rsplit(' ').next()?;
    Some(count.parse().expect("a number"))
}

/// Reads the whole frames up to and with the close frame.
async fn frames_until_close(raw: &mut Raw) -> (Vec<Frame>, Frame) {
    let mut data = Vec::new();
    loop {
        let frame = raw.frame().await;
        match frame.opcode {
            opcode::CLOSE => return (data, frame),
            _ => data.push(frame),
        }
    }
}

/// Whether these are the first messages, whole and in order.
fn are_whole(data: &[Frame], size: usize) -> bool {
    data.iter().enumerate().all(|(index, frame)| frame.payload == numbered(index, size).as_bytes())
}

#[tokio::test]
async fn a_slow_consumer_gets_1013_behind_whole_frames_and_what_it_missed_is_counted() {
    const SIZE: usize = 10_000;
    let server =
        App::new().with(|config| config.max_backlog = 64 * KIB).websocket("/out", quiet).start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/out").await;
    let handle = server.opened("/out", 1).await[0];
    let (sent, dropped) = overfill(&server, handle, SIZE).await;
    let (data, close) = frames_until_close(&mut raw).await;
    assert_eq!(close.close(), (1013, "reading too slowly".into()));
    assert!(are_whole(&data, SIZE));
    assert!(dropped > 0);
    assert_eq!(server.dropped_frames() as usize, dropped);
    // What is sent to a connection that is closing is not queued, and so not dropped either.
    assert!(data.len() + dropped <= sent, "{} + {dropped} of {sent}", data.len());
    raw.write(frame(true, opcode::CLOSE, b"\x03\xf5")).await;
    assert_eq!(raw.next_frame().await, None);
    assert_eq!(server.closed(handle).await.0, 1013);
    let slow = server.with(|engine| engine.counters().slow_consumers.load(Ordering::Relaxed));
    assert_eq!(slow, 1);
}

#[tokio::test]
async fn a_slow_consumer_costs_the_others_in_its_room_nothing() {
    const MESSAGES: usize = 3_000;
    const SIZE: usize = 10_000;
    let server = App::new()
        .with(|config| {
            config.max_backlog = 64 * KIB;
            config.io_threads = 2;
        })
        .websocket("/room", quiet)
        .start();
    let mut slow = Raw::connect_narrow(server.address).await;
    slow.upgrade("/room").await;
    let mut quick = Vec::new();
    for _ in 0..3 {
        quick.push(server.raw_websocket("/room").await);
    }
    let handles = server.opened("/room", 4).await;
    for index in 0..MESSAGES {
        let text = numbered(index, SIZE);
        server.with(|engine| engine.publisher().push("/room", &text.as_str()));
        for peer in &mut quick {
            assert!(peer.frame().await.payload == text.as_bytes(), "message {index}");
        }
    }
    server.logged("closed with 1013").await;
    let (data, close) = frames_until_close(&mut slow).await;
    assert_eq!(close.close().0, 1013);
    assert!(are_whole(&data, SIZE));
    drop(slow);
    server.closed(handles[0]).await;
    let closed = server.seen().iter().filter(|one| matches!(one, Seen::Close(..))).count();
    assert_eq!(closed, 1, "nobody else was closed");
}

#[tokio::test]
async fn one_message_over_the_backlog_fits_an_empty_outbox() {
    const SIZE: usize = 8 * MIB;
    let server =
        App::new().with(|config| config.max_backlog = 64 * KIB).websocket("/out", quiet).start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/out").await;
    let handle = server.opened("/out", 1).await[0];
    let huge = "h".repeat(SIZE);
    server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    assert_eq!(raw.frame().await.payload.len(), SIZE);
    // The outbox is empty again, so that another one fits.
    server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    assert_eq!(raw.frame().await.payload.len(), SIZE);
    assert_eq!(server.dropped_frames(), 0);
}

#[tokio::test]
async fn a_ping_while_a_message_over_the_backlog_is_written_makes_no_slow_consumer() {
    const SIZE: usize = 8 * MIB;
    let server =
        App::new().with(|config| config.max_backlog = 64 * KIB).websocket("/out", quiet).start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/out").await;
    let handle = server.opened("/out", 1).await[0];
    let huge = "h".repeat(SIZE);
    server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    for ping in [b"1", b"2", b"3"] {
        raw.write(frame(true, opcode::PING, ping)).await;
    }
    raw.write(frame(true, opcode::TEXT, b"read")).await;
    server.event("the pings to be read", |seen| matches!(seen, Seen::Text(..))).await;
    assert_eq!(raw.frame().await.payload.len(), SIZE);
    assert_eq!(raw.frame().await, Frame { opcode: opcode::PONG, payload: b"3".to_vec() });
}

#[tokio::test]
async fn of_the_pings_a_peer_piles_up_without_reading_the_last_is_answered() {
    const PINGS: u32 = 100_000;
    let server =
        App::new().with(|config| config.max_backlog = 64 * KIB).websocket("/out", quiet).start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/out").await;
    let handle = server.opened("/out", 1).await[0];
    for ping in 0..PINGS {
        let mut payload = [b'p'; 125];
        payload[..4].copy_from_slice(&ping.to_be_bytes());
        raw.write(frame(true, opcode::PING, &payload)).await;
    }
    raw.write(frame(true, opcode::TEXT, b"all said")).await;
    server.event("the message", |seen| matches!(seen, Seen::Text(..))).await;
    let held = server.with(|engine| engine.publisher().buffered(handle)) as usize;
    assert!(held <= 128 * KIB, "{held} bytes of pongs are held");
    let (mut count, mut next) = (0, 0);
    while next < PINGS {
        let pong = raw.frame().await;
        assert_eq!(pong.opcode, opcode::PONG);
        let ping = u32::from_be_bytes(*pong.payload.first_chunk().expect("its payload"));
        assert!(ping >= next, "{ping} came after {next}");
        next = ping + 1;
        count += 1;
    }
    assert!(count < PINGS, "the peer was slow enough for this test to mean something");
}

#[tokio::test]
async fn what_the_socket_takes_at_once_is_no_backlog() {
    // The cap is checked after a write was tried, so that a burst to a peer that reads is no reason.
    let server =
        App::new().with(|config| config.max_backlog = KIB).websocket("/out", quiet).start();
    let mut raw = server.raw_websocket("/out").await;
    let handle = server.opened("/out", 1).await[0];
    server.with(|engine| {
        for index in 0..40 {
            engine.publisher().send(handle, &numbered(index, KIB).as_str());
        }
    });
    for index in 0..40 {
        assert_eq!(raw.frame().await.payload, numbered(index, KIB).as_bytes());
    }
}

#[tokio::test]
async fn a_drain_is_told_when_everything_before_it_is_written() {
    const SIZE: usize = 16 * MIB;
    let server = App::new().websocket("/out", quiet).start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/out").await;
    let handle = server.opened("/out", 1).await[0];
    let huge = "h".repeat(SIZE);
    server.with(|engine| {
        engine.publisher().send(handle, &huge.as_str());
        assert!(engine.publisher().drain(handle));
    });
    while raw.buffer.len() < SIZE / 2 {
        assert!(raw.more().await);
    }
    // A message that was read after those writes comes behind whatever they led to.
    let mut other = server.raw_websocket("/out").await;
    other.write(frame(true, opcode::TEXT, b"")).await;
    server.event("the message", |seen| matches!(seen, Seen::Text(..))).await;
    let buffered = server.with(|engine| engine.publisher().buffered(handle)) as usize;
    assert!(buffered > 0 && buffered <= SIZE + 10, "{buffered}");
    let drained = |seen: &Seen| *seen == Seen::Drained(handle);
    assert!(!server.seen().iter().any(drained), "much of it is not written yet");
    assert_eq!(raw.frame().await.payload.len(), SIZE);
    server.event("the drain event", drained).await;
    assert_eq!(server.with(|engine| engine.publisher().buffered(handle)), 0);
}

#[tokio::test]
async fn a_drain_is_told_when_there_was_nothing_to_write_or_nobody_left() {
    let server = App::new().websocket("/out", quiet).start();
    let raw = server.raw_websocket("/out").await;
    let handle = server.opened("/out", 1).await[0];
    server.with(|engine| assert!(engine.publisher().drain(handle)));
    let count = |seen: &[Seen]| seen.iter().filter(|one| **one == Seen::Drained(handle)).count();
    server.until("the drain event", |seen| (count(seen) == 1).then_some(())).await;
    {
        let blocked = server.block();
        let huge = "h".repeat(16 * MIB);
        server.with(|engine| {
            engine.publisher().send(handle, &huge.as_str());
            engine.publisher().drain(handle);
        });
        drop(raw);
        drop(blocked);
    }
    server.until("the other drain event", |seen| (count(seen) == 2).then_some(())).await;
    server.closed(handle).await;
    assert!(!server.with(|engine| engine.publisher().drain(handle)), "no event will come");
}

#[tokio::test]
async fn the_gauge_counts_what_is_not_yet_committed_and_falls_to_nothing() {
    let server = App::new().websocket("/out", quiet).start();
    let mut raw = server.raw_websocket("/out").await;
    let handle = server.opened("/out", 1).await[0];
    server.with(|engine| {
        let publisher = engine.publisher();
        assert_eq!(publisher.buffered(handle), 0);
        publisher.send(handle, &"12345");
        assert_eq!(publisher.buffered(handle), 7, "header and payload");
        publisher.push("/out", &"123");
        assert_eq!(publisher.buffered(handle), 12);
        publisher.drain(handle);
    });
    raw.frame().await;
    raw.frame().await;
    server.event("the drain event", |seen| *seen == Seen::Drained(handle)).await;
    assert_eq!(server.with(|engine| engine.publisher().buffered(handle)), 0);
}

/// A server that may hold 256 KiB and lets a single connection have all of it.
fn small_server() -> App {
    App::new()
        .with(|config| {
            config.max_buffered = 256 * KIB;
            config.inbound_max_bytes = usize::MAX;
            config.inbound_max_events = usize::MAX;
            config.max_backlog = usize::MAX;
        })
        .websocket("/in", quiet)
        .websocket("/out", quiet)
        .websocket("/echo", echo)
        .request("POST", "/body", |request| answer(200, &request.body.len().to_string()))
}

const POST: &str = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn over_the_bound_of_the_process_reading_pauses_and_new_bodies_get_503() {
    const MESSAGES: usize = 20_000;
    const SIZE: usize = KIB;
    for io_threads in [1, 2] {
        let server = small_server().with(|config| config.io_threads = io_threads).start();
        let raw = server.raw_websocket("/in").await;
        let handle = server.opened("/in", 1).await[0];
        let mut others = Vec::new();
        for _ in 0..io_threads {
            others.push(server.connect("/echo").await);
        }
        server.opened("/echo", io_threads).await;

        let blocked = server.block();
        let flood = Flood::start(raw, MESSAGES, SIZE);
        flood.stalls().await;
        let held = server.buffered();
        assert!(held > 256 * KIB && held <= 256 * KIB + SLACK, "{held} bytes are held");
        // Nobody is read now, not even those who have sent nothing yet.
        for other in &mut others {
            other.send("later").await;
        }
        let mut post = server.raw().await;
        post.write(POST).await;
        assert_eq!(post.response().await.status, 503);

        drop(blocked);
        all_in_order(&server, handle, MESSAGES, SIZE).await;
        within("the flood", flood.task).await.expect("written");
        for other in &mut others {
            assert_eq!(other.text().await, "later", "reading goes on for everyone");
        }
        let mut post = server.raw().await;
        post.write(POST).await;
        assert_eq!(post.response().await.text(), "5");
    }
}

#[tokio::test]
async fn over_the_bound_of_the_process_the_largest_outbox_is_closed_with_1013() {
    let server = small_server().start();
    let mut small = Raw::connect_narrow(server.address).await;
    small.upgrade("/out").await;
    let mut large = Raw::connect_narrow(server.address).await;
    large.upgrade("/out").await;
    let handles = server.opened("/out", 2).await;
    let (sent, _) = overfill(&server, handles[1], 10_000).await;
    server.with(|engine| engine.publisher().send(handles[0], &"still here"));
    assert_eq!(small.frame().await.payload, b"still here");
    let (data, close) = frames_until_close(&mut large).await;
    assert_eq!(close.close(), (1013, "the server is out of buffer memory".into()));
    assert!(are_whole(&data, 10_000));
    assert!(data.len() < sent);
    large.write(frame(true, opcode::CLOSE, b"\x03\xf5")).await;
    assert_eq!(server.closed(handles[1]).await.0, 1013);
    // Served as before once there is room.
    let mut echo = server.connect("/echo").await;
    echo.send("hello").await;
    assert_eq!(echo.text().await, "hello");
    nothing_held(&server).await;
}

/// Waits until the engine holds no byte.
async fn nothing_held(server: &Server) {
    within("nothing is held any more", async {
        while server.buffered() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_must_be_finished_does_not_shield_the_other_outboxes() {
    let server = small_server().start();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect_narrow(server.address).await;
        raw.upgrade("/out").await;
        peers.push(raw);
    }
    let handles = server.opened("/out", 3).await;
    let huge = "h".repeat(16 * MIB);
    for handle in handles {
        // The first frame is partly written and stays; what is behind it is dropped.
        server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    }
    for raw in &mut peers {
        let (data, close) = frames_until_close(raw).await;
        assert_eq!(data.len(), 1);
        assert_eq!(data[0].payload.len(), huge.len());
        assert_eq!(close.close().0, 1013);
    }
    drop(peers);
    nothing_held(&server).await;
}

#[tokio::test]
async fn messages_that_are_never_finished_are_held_within_the_bound_of_the_process() {
    let server = small_server().start();
    let unfinished = &frame(true, opcode::TEXT, &[b'x'; 100 * KIB])[..99 * KIB];
    let mut raws = Vec::new();
    for _ in 0..8 {
        let mut raw = server.raw_websocket("/in").await;
        raw.write(unfinished).await;
        raws.push(raw);
    }
    // Those that take the most are refused until the others fit.
    let refused = raws.iter_mut().map(Raw::frame).collect::<Vec<_>>();
    let (first, _, others) =
        futures_util::future::select_all(refused.into_iter().map(Box::pin)).await;
    assert_eq!(first.close().0, 1013);
    drop(others);
    within("the rest fits", async {
        while server.buffered() > 256 * KIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(raws);
    nothing_held(&server).await;
}

#[tokio::test]
async fn what_a_released_connection_never_acknowledged_is_no_longer_held() {
    let server = App::new().websocket("/in", quiet).start();
    let mut raw = server.raw_websocket("/in").await;
    let handle = server.opened("/in", 1).await[0];
    let blocked = server.block();
    raw.write(frame(true, opcode::TEXT, &[b'x'; 100 * KIB])).await;
    within("the message is held", async {
        while server.buffered() < 100 * KIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // As when the handler of an earlier event never settles and the close grace has passed.
    server.with(|engine| {
        engine.take(&mut Vec::new());
        engine.publisher().release(handle);
    });
    nothing_held(&server).await;
    drop(blocked);
}
