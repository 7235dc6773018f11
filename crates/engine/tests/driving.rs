//! Shards that the handlers' thread drives: nobody outside can tell.
#![cfg(target_os = "linux")]

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

mod common;

use common::{App, Client, PATIENCE, Seen, Server, answer, echo, within};

fn driven(server: &Server) -> u64 {
    server.with(|engine| engine.counters().driven.load(Ordering::Relaxed))
}

/// Talks until the shard of `client` has had 20 more turns on the handlers' thread.
async fn until_driven(server: &Server, client: &mut Client) {
    let before = driven(server);
    within("turns on the handlers' thread", async {
        for number in 0.. {
            let text = number.to_string();
            client.send(&text).await;
            assert_eq!(client.text().await, text);
            if driven(server) >= before + 20 {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_driven_shard_is_sent_is_answered() {
    let server = App::new()
        .websocket("/echo", echo)
        .websocket("/room", |peer, on| {
            if let common::On::Text(text) = on {
                peer.broadcast(text);
            }
        })
        .request("GET", "/hello", |_| answer(200, "hello"))
        .start();
    let mut client = server.connect("/echo").await;
    until_driven(&server, &mut client).await;
    // Accepting, upgrading, requests, broadcasts and closing are its work as well.
    let mut members = Vec::new();
    for _ in 0..3 {
        until_driven(&server, &mut client).await;
        members.push(server.connect("/room").await);
    }
    server.opened("/room", 3).await;
    until_driven(&server, &mut client).await;
    members[0].send("to all").await;
    for member in &mut members {
        assert_eq!(member.text().await, "to all");
    }
    until_driven(&server, &mut client).await;
    let response = server.ask("GET", "/hello").await;
    assert_eq!((response.status, response.text()), (200, "hello"));
    until_driven(&server, &mut client).await;
    for member in members {
        member.close().await;
    }
    until_driven(&server, &mut client).await;
    let large = "x".repeat(900_000);
    client.send(&large).await;
    assert_eq!(client.text().await, large);
}

#[tokio::test]
async fn a_shard_that_broadcasts_to_many_is_left_to_its_own_thread_for_a_while() {
    /// More than the thread that runs the handlers writes to.
    const MANY: usize = 70;
    /// Less than such a shard is left alone for.
    const WHILE: Duration = Duration::from_millis(100);
    let server = App::new()
        .websocket("/echo", echo)
        .websocket("/room", |peer, on| {
            if let common::On::Text(text) = on {
                peer.broadcast(text);
            }
        })
        .start();
    let mut client = server.connect("/echo").await;
    let mut members = Vec::new();
    for _ in 0..MANY {
        members.push(server.connect("/room").await);
    }
    server.opened("/room", MANY).await;
    within("a machine that is quick enough to tell", async {
        loop {
            until_driven(&server, &mut client).await;
            members[0].send("to all").await;
            for member in &mut members {
                assert_eq!(member.text().await, "to all");
            }
            let (begun, before) = (Instant::now(), driven(&server));
            for _ in 0..100 {
                client.send("and on").await;
                client.text().await;
            }
            let turns = driven(&server) - before;
            if begun.elapsed() < WHILE {
                return assert_eq!(turns, 0);
            }
        }
    })
    .await;
    until_driven(&server, &mut client).await;
}

#[tokio::test]
async fn a_handler_that_blocks_holds_up_no_pings_of_a_shard_it_drove() {
    let server = App::new().websocket("/echo", echo).start();
    let mut client = server.connect("/echo").await;
    for _ in 0..5 {
        until_driven(&server, &mut client).await;
        let blocked = server.block();
        client.0.send(Message::Ping("still there?".into())).await.expect("sent");
        let pong = within("a pong", client.0.next()).await;
        assert!(matches!(pong, Some(Ok(Message::Pong(_)))), "{pong:?}");
        drop(blocked);
    }
}

#[tokio::test]
async fn a_shard_that_nobody_talks_to_drives_itself() {
    let server = App::new().websocket("/echo", echo).start();
    let mut client = server.connect("/echo").await;
    until_driven(&server, &mut client).await;
    within("a shard on its own thread", async {
        loop {
            let before = driven(&server);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if driven(&server) == before {
                return;
            }
        }
    })
    .await;
    until_driven(&server, &mut client).await;
}

#[tokio::test]
async fn an_engine_whose_shards_are_driven_ends_and_shuts_down() {
    for _ in 0..5 {
        let server =
            App::new().with(|config| config.io_threads = 2).websocket("/echo", echo).start();
        let mut client = server.connect("/echo").await;
        until_driven(&server, &mut client).await;
        let begun = Instant::now();
        server.with(|engine| engine.shutdown(1001, "over"));
        until_closed(&mut client).await;
        server.event("the end", |seen| *seen == Seen::Stopped).await;
        drop(server);
        assert!(begun.elapsed() < PATIENCE);
        let server = App::new().websocket("/echo", echo).start();
        let mut client = server.connect("/echo").await;
        until_driven(&server, &mut client).await;
        drop(server);
        until_closed(&mut client).await;
    }
}

async fn until_closed(client: &mut Client) {
    within("the end of a connection", async { while let Some(Ok(_)) = client.0.next().await {} })
        .await;
}

#[tokio::test]
async fn the_thread_that_drove_a_shard_gives_its_memory_back() {
    static TIDIED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
    let tidy = || TIDIED.lock().expect("no panic").push(std::thread::current().id());
    let server = App::new().tidy(tidy).websocket("/echo", echo).start();
    let mut client = server.connect("/echo").await;
    until_driven(&server, &mut client).await;
    let driver = server.handlers_thread();
    TIDIED.lock().expect("no panic").clear();
    within("memory given back", async {
        while !TIDIED.lock().expect("no panic").contains(&driver) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let times = TIDIED.lock().expect("no panic").iter().filter(|one| **one == driver).count();
    // A sweep while it was driven is another.
    assert!((1..=2).contains(&times), "{times}: nothing was driven since");
}
