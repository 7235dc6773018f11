//! What a peer that sends too much or reads too little can cost: bounded memory, and nobody else's
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

mod common;

use common::pressure::{
    Flood, KIB, MIB, SLACK, all_in_order, are_whole, frames_until_close, numbered, overfill,
};
use common::{App, Frame, Raw, Seen, echo, frame, opcode, quiet, within};

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
    // Events of two shards come in any order.
    server.opened("/room", 1).await;
    let mut quick = Vec::new();
    for _ in 0..3 {
        quick.push(server.raw_websocket("/room").await);
    }
    let handles = server.opened("/room", 4).await;
    for index in 0..MESSAGES {
        let text = numbered(index, SIZE);
        server.with(|engine| engine.publisher().push("/room", &text.as_str(), Vec::new()));
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
    let server = App::new()
        .with(|config| config.max_control_frames = 0)
        .with(|config| config.max_backlog = 64 * KIB)
        .websocket("/out", quiet)
        .start();
    let mut raw = server.raw_websocket("/out").await;
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
        publisher.push("/out", &"123", Vec::new());
        assert_eq!(publisher.buffered(handle), 12);
        publisher.drain(handle);
    });
    raw.frame().await;
    raw.frame().await;
    server.event("the drain event", |seen| *seen == Seen::Drained(handle)).await;
    assert_eq!(server.with(|engine| engine.publisher().buffered(handle)), 0);
}
