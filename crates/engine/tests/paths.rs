//! What a path is: a room of its own, under every spelling of the same concrete path, and whose
//! members are those whose `open` was dispatched and whose `close` was not.

use std::sync::mpsc::channel;

use engine::Handle;
use engine::router::ParamValue;

mod common;

use common::{App, Client, On, Seen, Server, echo, opcode, quiet, upgrade_request};

/// Sends a marker to one connection, behind everything that was sent to it before, and returns what
/// arrived ahead of it.
async fn received(server: &Server, handle: Handle, client: &mut Client) -> Vec<String> {
    server.with(|engine| engine.publisher().send(handle, &"marker"));
    let mut all = Vec::new();
    loop {
        match client.text().await {
            text if text == "marker" => return all,
            text => all.push(text),
        }
    }
}

#[tokio::test]
async fn a_broadcast_reaches_everyone_on_the_same_concrete_path_and_nobody_else() {
    for io_threads in [1, 4] {
        let server = App::new()
            .with(|config| config.io_threads = io_threads)
            .websocket("/room/{name}", |peer, on| {
                if let On::Text(text) = on {
                    peer.broadcast(text);
                }
            })
            .start();
        let mut here = Vec::new();
        for _ in 0..8 {
            here.push(server.connect("/room/here").await);
        }
        let mut there = server.connect("/room/there").await;
        let here_handles = server.opened("/room/here", 8).await;
        let there_handle = server.opened("/room/there", 1).await[0];
        let shards: std::collections::HashSet<_> =
            here_handles.iter().map(|handle| handle.shard()).collect();
        assert_eq!(shards.len(), io_threads, "the members are spread over all shards");

        here[3].send("hello").await;
        for client in &mut here {
            assert_eq!(client.text().await, "hello");
        }
        assert_eq!(received(&server, there_handle, &mut there).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_broadcast_to_the_others_leaves_its_sender_out() {
    for io_threads in [1, 4] {
        let server = App::new()
            .with(|config| config.io_threads = io_threads)
            .websocket("/room", |peer, on| {
                if let On::Text(text) = on {
                    peer.broadcast_to_others(text);
                    peer.send("sent");
                }
            })
            .start();
        let mut sender = server.connect("/room").await;
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(server.connect("/room").await);
        }
        server.opened("/room", 5).await;
        sender.send("one").await;
        sender.send("two").await;
        assert_eq!(sender.text().await, "sent");
        assert_eq!(sender.text().await, "sent");
        for other in &mut others {
            assert_eq!(other.text().await, "one");
            assert_eq!(other.text().await, "two");
        }
    }
}

#[tokio::test]
async fn what_one_handler_sends_broadcasts_and_closes_arrives_in_that_order() {
    let server = App::new()
        .with(|config| config.io_threads = 2)
        .websocket("/last", |peer, on| {
            if let On::Text(_) = on {
                peer.send("first");
                peer.broadcast("second");
                peer.send("third");
                peer.broadcast("fourth");
                peer.close(4000, "fifth");
                peer.broadcast("too late");
            }
        })
        .start();
    let mut other = server.connect("/last").await;
    // Events of two shards come in any order.
    server.opened("/last", 1).await;
    let mut client = server.connect("/last").await;
    let handles = server.opened("/last", 2).await;
    client.send("go").await;
    for expected in ["first", "second", "third", "fourth"] {
        assert_eq!(client.text().await, expected);
    }
    assert_eq!(client.close_frame().await.expect("a code").reason.as_str(), "fifth");
    let heard = received(&server, handles[0], &mut other).await;
    assert_eq!(heard, ["second", "fourth", "too late"]);
}

#[tokio::test]
async fn what_is_broadcast_before_an_open_is_dispatched_does_not_reach_it() {
    let server = App::new().websocket("/room", quiet).start();
    let mut early = server.connect("/room").await;
    let topic = match server.event("the open event", |seen| matches!(seen, Seen::Open(..))).await {
        Seen::Open(_, info) => info.topic,
        _ => unreachable!("only an open was waited for"),
    };
    let mut late = {
        let blocked = server.block();
        // Upgraded, but its `open` waits: it has joined nothing yet.
        let late = server.connect("/room").await;
        assert_eq!(server.with(|engine| engine.publisher().count(topic)), 1);
        server.with(|engine| engine.publisher().broadcast(topic, &"before", None));
        assert_eq!(early.text().await, "before");
        drop(blocked);
        late
    };
    let handle = server.opened("/room", 2).await[1];
    server.with(|engine| engine.publisher().broadcast(topic, &"after", None));
    assert_eq!(received(&server, handle, &mut late).await, ["after"]);
}

#[tokio::test]
async fn a_handler_counts_itself_and_hears_its_own_broadcast_from_open() {
    let (counts, counted) = channel();
    let server = App::new()
        .websocket("/room", move |peer, on| match on {
            On::Open => {
                counts.send(("open", peer.count())).expect("listening");
                peer.broadcast("joined");
            }
            On::Close(..) => {
                counts.send(("close", peer.count())).expect("listening");
                peer.broadcast("left");
            }
            _ => {}
        })
        .start();
    let mut first = server.connect("/room").await;
    assert_eq!(first.text().await, "joined");
    let mut second = server.connect("/room").await;
    assert_eq!(second.text().await, "joined");
    assert_eq!(first.text().await, "joined");
    second.close().await;
    // It is no longer counted in its own `close`, whose broadcast reaches the ones who stay.
    assert_eq!(first.text().await, "left");
    let all: Vec<_> = counted.try_iter().collect();
    assert_eq!(all, [("open", 1), ("open", 2), ("close", 1)]);
}

#[tokio::test]
async fn a_dead_connection_counts_until_its_close_is_dispatched() {
    let server = App::new().websocket("/room", quiet).start();
    let client = server.connect("/room").await;
    let info = server
        .until("the open event", |seen| match seen.first() {
            Some(Seen::Open(_, info)) => Some(info.clone()),
            _ => None,
        })
        .await;
    let count = || server.with(|engine| engine.publisher().count(info.topic));
    let blocked = server.block();
    // The server has answered and hung up, so that its connection has ended.
    client.close().await;
    assert_eq!(count(), 1);
    assert!(server.with(|engine| engine.topics().get("/room").is_some()));
    drop(blocked);
    server.event("the close event", |seen| matches!(seen, Seen::Close(..))).await;
    assert_eq!(count(), 0);
    assert!(server.with(|engine| engine.topics().is_empty()), "an empty path is forgotten");
}

#[tokio::test]
async fn a_connection_that_has_left_hears_nothing_more() {
    for io_threads in [1, 2] {
        let server =
            App::new().with(|config| config.io_threads = io_threads).websocket("/room", quiet);
        let server = server.start();
        let mut stays = server.connect("/room").await;
        // Events of two shards come in any order.
        server.opened("/room", 1).await;
        let mut leaves = server.connect("/room").await;
        let handles = server.opened("/room", 2).await;
        server.with(|engine| {
            let publisher = engine.publisher();
            publisher.push("/room", &"both", Vec::new());
            publisher.leave(handles[1]);
            publisher.push("/room", &"one", Vec::new());
        });
        assert_eq!(received(&server, handles[0], &mut stays).await, ["both", "one"]);
        assert_eq!(received(&server, handles[1], &mut leaves).await, ["both"]);
    }
}

#[tokio::test]
async fn a_room_stays_whole_while_members_come_and_go_in_any_order() {
    let server = App::new().websocket("/room", quiet).start();
    let mut members = Vec::new();
    for opened in 1..=9 {
        let client = server.connect("/room").await;
        members.push((server.opened("/room", opened).await[opened - 1], client));
    }
    for (round, leaver) in [0, 7, 3, 3, 0, 3, 1, 0].into_iter().enumerate() {
        let (handle, client) = members.remove(leaver);
        client.close().await;
        server.closed(handle).await;
        let text = format!("after {round}");
        server.with(|engine| engine.publisher().push("/room", &text.as_str(), Vec::new()));
        for (handle, client) in &mut members {
            assert_eq!(received(&server, *handle, client).await, [text.as_str()]);
        }
        let client = server.connect("/room").await;
        let opened = 10 + round;
        members.push((server.opened("/room", opened).await[opened - 1], client));
        assert_eq!(server.with(|engine| engine.topics().get("/room").expect("one").count()), 9);
    }
}

#[tokio::test]
async fn every_spelling_of_a_path_is_the_same_room() {
    let server = App::new().websocket("/u/{name}", quiet).start();
    let spellings = ["/u/jos%C3%A9", "/u/jos%c3%a9", "/%75/%6Aos%c3%A9?token=1"];
    let mut clients = Vec::new();
    for path in spellings {
        clients.push(server.connect(path).await);
    }
    server.opened("/u/jos%C3%A9", 3).await;
    let path = engine::path::canonical("/u/josé").expect("a path");
    server.with(|engine| {
        assert_eq!(engine.topics().get(&path).expect("a topic").count(), 3);
        engine.publisher().push(&path, &"hola", Vec::new());
        engine.publisher().push("/u/jose", &"nobody", Vec::new());
    });
    for client in &mut clients {
        assert_eq!(client.text().await, "hola");
    }
    let params: Vec<_> = server
        .seen()
        .into_iter()
        .filter_map(|one| match one {
            Seen::Open(_, info) => Some(info),
            _ => None,
        })
        .map(|info| (info.params[0].1.clone(), info.query))
        .collect();
    let name = ParamValue::Text("josé".into());
    let expected = ["", "", "token=1"].map(|query| (name.clone(), query.to_owned()));
    assert_eq!(params, expected);
}

#[tokio::test]
async fn an_escaped_slash_does_not_split_a_segment() {
    let server = App::new().websocket("/u/{name}", quiet).start();
    let _client = server.connect("/u/a%2fb").await;
    server.opened("/u/a%2Fb", 1).await;
    let Seen::Open(_, info) = server.seen().remove(0) else { panic!("open comes first") };
    assert_eq!(info.params[0].1, ParamValue::Text("a/b".into()));
}

#[tokio::test]
async fn where_patterns_overlap_the_more_specific_one_answers() {
    let name = |name: &'static str| {
        move |peer: &mut common::Peer<'_>, on: On<'_>| {
            if matches!(on, On::Open) {
                peer.send(name);
            }
        }
    };
    let server = App::new()
        .websocket("/x/{rest:path}", name("rest"))
        .websocket("/x/{text}", name("text"))
        .websocket("/x/{n:float}", name("float"))
        .websocket("/x/{n:int}", name("int"))
        .websocket("/x/literal", name("literal"))
        .websocket("/x/literal/{n:int}/end", name("deep"))
        .websocket("/:name", name("colon"))
        .start();
    for (path, expected) in [
        ("/x/literal", "literal"),
        ("/x/7", "int"),
        ("/x/-7", "int"),
        ("/x/7.5", "float"),
        ("/x/seven", "text"),
        ("/x/a/b", "rest"),
        ("/x/literal/1/end", "deep"),
        ("/x/literal/one/end", "rest"),
        ("/:name", "colon"),
    ] {
        assert_eq!(server.connect(path).await.text().await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_path_without_a_route_is_404_and_one_with_a_bad_escape_400() {
    let server = App::new().websocket("/u/{name}", echo).start();
    for (path, status) in [
        ("/", 404),
        ("/u", 404),
        ("/u/", 404),
        ("/u/a/b", 404),
        ("/U/a", 404),
        ("/:name", 404),
        ("/u/%", 400),
        ("/u/%zz", 400),
        ("/u/%ff", 400),
    ] {
        let mut raw = server.raw().await;
        raw.write(upgrade_request(path)).await;
        assert_eq!(raw.response().await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_route_added_while_the_server_runs_takes_the_next_upgrade() {
    let server = App::new().websocket("/old", echo).start();
    let mut raw = server.raw().await;
    raw.write(upgrade_request("/new")).await;
    assert_eq!(raw.response().await.status, 404);
    server.with(|engine| {
        let pattern = engine::router::Pattern::parse("/new").expect("a pattern");
        let route = engine::router::WebSocketRoute { id: 0, binary: false, ..Default::default() };
        engine.routes().update(|router| router.insert_websocket(pattern, route));
    });
    let mut client = server.connect("/new").await;
    client.send("hi").await;
    assert_eq!(client.text().await, "hi");
}

#[tokio::test]
async fn messages_of_every_size_broadcast_in_one_batch_keep_their_order() {
    // Small ones are joined, large ones travel apart, and a batch this big is committed in pieces.
    let sizes = [1, 200, 16_383, 16_384, 70_000, 3, 300_000, 10, 10, 10, 65_536, 1];
    for io_threads in [1, 2] {
        let server = App::new()
            .with(|config| config.io_threads = io_threads)
            .websocket("/room", quiet)
            .start();
        let mut raw = server.raw_websocket("/room").await;
        let mut other = server.raw_websocket("/room").await;
        let handles = server.opened("/room", 2).await;
        let text =
            |index: usize, size: usize| char::from(b'a' + index as u8).to_string().repeat(size);
        server.with(|engine| {
            for (index, size) in sizes.iter().enumerate() {
                let text = text(index, *size);
                match index % 3 {
                    0 => {
                        handles.iter().for_each(|one| engine.publisher().send(*one, &text.as_str()))
                    }
                    _ => engine.publisher().push("/room", &text.as_str(), Vec::new()),
                }
            }
        });
        for peer in [&mut raw, &mut other] {
            for (index, size) in sizes.iter().enumerate() {
                let frame = peer.frame().await;
                assert_eq!(frame.opcode, opcode::TEXT);
                assert!(frame.payload == text(index, *size).as_bytes(), "message {index}");
            }
        }
    }
}

#[tokio::test]
async fn what_one_batch_sends_to_different_places_is_not_mixed_up() {
    let server = App::new().websocket("/room/{name}", quiet).start();
    let mut peers = Vec::new();
    for (path, opened) in [("/room/a", 1), ("/room/a", 2), ("/room/b", 1)] {
        let client = server.connect(path).await;
        let handle = server.opened(path, opened).await[opened - 1];
        peers.push((handle, client, Vec::new()));
    }
    let topic = |engine: &engine::Engine, path| engine.topics().get(path).expect("a topic").id;
    // All pairs of neighbours: whatever can be joined wrongly is next to each other once.
    server.with(|engine| {
        let topics = [topic(engine, "/room/a"), topic(engine, "/room/b")];
        for number in 0..6 * 6 * 2 {
            let place = if number % 2 == 0 { number / 2 % 6 } else { number / 12 };
            let text = number.to_string();
            let text = &text.as_str();
            let publisher = engine.publisher();
            let to: &[usize] = match place {
                0..3 => {
                    publisher.send(peers[place].0, text);
                    &[place]
                }
                3 => {
                    publisher.broadcast(topics[0], text, None);
                    &[0, 1]
                }
                4 => {
                    publisher.broadcast(topics[0], text, Some(peers[0].0));
                    &[1]
                }
                _ => {
                    publisher.broadcast(topics[1], text, None);
                    &[2]
                }
            };
            to.iter().for_each(|peer| peers[*peer].2.push(number.to_string()));
        }
    });
    for (handle, mut client, expected) in peers {
        assert_eq!(received(&server, handle, &mut client).await, expected);
    }
}

#[tokio::test]
async fn what_was_sent_before_a_handler_blocks_arrives_while_it_blocks() {
    let (release, released) = std::sync::mpsc::channel();
    let server = App::new()
        .websocket("/room", move |peer, on| {
            if let On::Text(_) = on {
                peer.send("sent");
                peer.broadcast("broadcast");
                // An error says that the test let go.
                let _ = released.recv();
                peer.send("after");
            }
        })
        .start();
    // Dropped before the server, which waits for its handler.
    let release = release;
    let mut client = server.connect("/room").await;
    let mut other = server.connect("/room").await;
    server.opened("/room", 2).await;
    client.send("go").await;
    assert_eq!(client.text().await, "sent");
    assert_eq!(client.text().await, "broadcast");
    assert_eq!(other.text().await, "broadcast");
    release.send(()).expect("the handler waits");
    assert_eq!(client.text().await, "after");
    client.close().await;
}
