//! What one connection is promised: its events in order, its messages whole, and a close frame that
//! says why when it broke the rules.

use std::collections::HashMap;
use std::time::Duration;

use engine::Handle;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

mod common;

use common::{App, Seen, Server, echo, frame, opcode, quiet, upgrade_request, within};

fn server() -> Server {
    App::new()
        .with(|config| config.max_message_size = 64 * 1024)
        .websocket("/echo", echo)
        .binary("/binary", echo)
        .start()
}

/// The events of each connection, in the order they were taken.
fn by_connection(seen: &[Seen]) -> HashMap<Handle, Vec<Seen>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for one in seen {
        if let Seen::Open(handle, _)
        | Seen::Text(handle, _)
        | Seen::Binary(handle, _)
        | Seen::Close(handle, ..) = one
        {
            all.entry(*handle).or_default().push(one.clone());
        }
    }
    all
}

async fn all_closed(server: &Server, count: usize) -> Vec<Seen> {
    let what = format!("{count} close events");
    server
        .until(&what, |seen| {
            let closed = seen.iter().filter(|one| matches!(one, Seen::Close(..)));
            (closed.count() >= count).then(|| seen.to_vec())
        })
        .await
}

#[tokio::test]
async fn what_is_sent_comes_back_as_it_was() {
    let server = server();
    let mut client = server.connect("/echo").await;
    for text in ["", "a", "grüße 🦀", &"x".repeat(125), &"y".repeat(126), &"z".repeat(65_536)] {
        client.send(text).await;
        assert_eq!(client.text().await, text);
    }
    client.close().await;
}

#[tokio::test]
async fn open_is_first_and_close_is_once_and_last_however_a_connection_ends() {
    const EACH: usize = 20;
    let server = App::new().with(|config| config.io_threads = 2).websocket("/echo", echo).start();
    for index in 0..EACH {
        let mut polite = server.connect("/echo").await;
        polite.send(&format!("polite {index}")).await;
        assert_eq!(polite.text().await, format!("polite {index}"));
        polite.close().await;

        let mut gone = server.raw_websocket("/echo").await;
        gone.write(frame(true, opcode::TEXT, b"gone")).await;
        drop(gone);

        let mut reset = server.raw_websocket("/echo").await;
        reset.write(frame(true, opcode::TEXT, b"reset")).await;
        assert_eq!(reset.frame().await.payload, b"reset");
        reset.reset();

        let mut silent = server.raw_websocket("/echo").await;
        silent.write(frame(true, opcode::CLOSE, &[])).await;
        assert_eq!(silent.frame().await.opcode, opcode::CLOSE);
    }
    let seen = all_closed(&server, 4 * EACH).await;
    let connections = by_connection(&seen);
    assert_eq!(connections.len(), 4 * EACH);
    let mut codes = HashMap::new();
    for events in connections.values() {
        assert!(matches!(events.first(), Some(Seen::Open(..))), "{events:?}");
        let (last, before) = events.split_last().expect("events");
        let Seen::Close(_, code, _) = last else {
            panic!("{events:?}");
        };
        *codes.entry(*code).or_insert(0) += 1;
        let ended_early = before.iter().any(|one| matches!(one, Seen::Close(..)));
        assert!(!ended_early, "{events:?}");
    }
    // Neither a client that hung up nor a close frame without a code says one.
    assert_eq!(codes, HashMap::from([(1005, 2 * EACH), (1006, 2 * EACH)]));
}

#[tokio::test]
async fn the_messages_of_many_connections_each_keep_their_order() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 200;
    let server = App::new().with(|config| config.io_threads = 3).websocket("/echo", echo).start();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (mut write, mut read) = server.connect("/echo").await.0.split();
        let name = move |message| format!("{client}:{message}");
        let writing = tokio::spawn(async move {
            for message in 0..MESSAGES {
                let message = Message::text(name(message));
                write.send(message).await.expect("sent");
            }
            write
        });
        let reading = tokio::spawn(async move {
            for message in 0..MESSAGES {
                let got = read.next().await.expect("open").expect("sound");
                assert_eq!(got, Message::text(name(message)));
            }
        });
        clients.push((writing, reading));
    }
    for (writing, reading) in clients {
        within("the echoes", reading).await.expect("in order");
        let mut write = writing.await.expect("written");
        write.close().await.expect("closed");
    }
    let seen = all_closed(&server, CLIENTS).await;
    for events in by_connection(&seen).into_values() {
        let heard: Vec<_> = events
            .iter()
            .filter_map(|one| match one {
                Seen::Text(_, text) => Some(text.split_once(':').expect("a name").1),
                _ => None,
            })
            .collect();
        let sent: Vec<_> = (0..MESSAGES).map(|one| one.to_string()).collect();
        assert_eq!(heard, sent);
    }
}

#[tokio::test]
async fn messages_sent_right_behind_the_upgrade_request_are_not_lost() {
    let server = server();
    let mut raw = server.raw().await;
    let mut bytes = upgrade_request("/echo").into_bytes();
    bytes.extend(frame(true, opcode::TEXT, b"early"));
    bytes.extend(frame(false, opcode::TEXT, b"half "));
    raw.write(bytes).await;
    assert_eq!(raw.response().await.status, 101);
    assert_eq!(raw.frame().await.payload, b"early");
    raw.write(frame(true, opcode::CONTINUATION, b"done")).await;
    assert_eq!(raw.frame().await.payload, b"half done");
    let handle = server.opened("/echo", 1).await[0];
    let events = by_connection(&server.seen()).remove(&handle);
    assert!(matches!(
        events.expect("events").as_slice(),
        [Seen::Open(..), Seen::Text(..), Seen::Text(..)]
    ));
}

#[tokio::test]
async fn a_connection_opened_and_closed_in_one_breath_has_both_events() {
    let server = server();
    let mut raw = server.raw().await;
    let mut bytes = upgrade_request("/echo").into_bytes();
    bytes.extend(frame(true, opcode::TEXT, b"all"));
    bytes.extend(frame(true, opcode::CLOSE, b"\x03\xe8bye"));
    raw.write(bytes).await;
    assert_eq!(raw.response().await.status, 101);
    let handle = server.opened("/echo", 1).await[0];
    assert_eq!(server.closed(handle).await, (1000, "bye".into()));
    let events = by_connection(&server.seen()).remove(&handle);
    assert!(matches!(
        events.expect("events").as_slice(),
        [Seen::Open(..), Seen::Text(_, text), Seen::Close(..)] if text == "all"
    ));
}

#[tokio::test]
async fn fragments_become_one_message_with_control_frames_in_between() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    // The crab is cut between its bytes: a fragment need not be text by itself.
    let crab = "🦀".as_bytes();
    raw.write(frame(false, opcode::TEXT, b"one ")).await;
    raw.write(frame(false, opcode::CONTINUATION, &crab[..3])).await;
    raw.write(frame(true, opcode::PING, b"are you there")).await;
    let pong = raw.frame().await;
    assert_eq!((pong.opcode, &pong.payload[..]), (opcode::PONG, &b"are you there"[..]));
    raw.write(frame(false, opcode::CONTINUATION, &[])).await;
    raw.write(frame(true, opcode::CONTINUATION, &crab[3..])).await;
    let whole = raw.frame().await;
    assert_eq!(whole.opcode, opcode::TEXT);
    assert_eq!(whole.payload, "one 🦀".as_bytes());
}

#[tokio::test]
async fn a_message_that_arrives_byte_by_byte_is_the_same_message() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    raw.stream.set_nodelay(true).expect("set");
    for byte in frame(true, opcode::TEXT, b"drop by drop") {
        raw.write([byte]).await;
    }
    assert_eq!(raw.frame().await.payload, b"drop by drop");
}

#[tokio::test]
async fn a_text_route_gets_binary_messages_as_text() {
    let server = server();
    let mut client = server.connect("/echo").await;
    client.send_binary("als Bytes 🦀".as_bytes()).await;
    assert_eq!(client.text().await, "als Bytes 🦀");
}

#[tokio::test]
async fn binary_that_is_no_text_closes_a_text_route_with_1003() {
    let server = server();
    let mut client = server.connect("/echo").await;
    client.send("before").await;
    client.send_binary(&[0xFF, 0xFE]).await;
    assert_eq!(client.text().await, "before");
    let close = client.close_frame().await.expect("a code");
    assert_eq!(u16::from(close.code), 1003);
    assert!(close.reason.contains("UTF-8"), "{}", close.reason);
}

#[tokio::test]
async fn a_binary_route_gets_bytes_as_they_are_and_text_as_text() {
    let server = server();
    let mut client = server.connect("/binary").await;
    client.send_binary(&[0xFF, 0x00, 0xFE]).await;
    client.send("text").await;
    assert_eq!(client.message().await, Message::binary(vec![0xFF, 0x00, 0xFE]));
    assert_eq!(client.text().await, "text");
    let handle = server.opened("/binary", 1).await[0];
    let events = by_connection(&server.seen()).remove(&handle);
    assert!(matches!(
        events.expect("events").as_slice(),
        [Seen::Open(..), Seen::Binary(..), Seen::Text(..)]
    ));
}

#[tokio::test]
async fn a_message_over_the_limit_is_answered_with_1009() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    raw.write(frame(true, opcode::BINARY, &vec![b'x'; 64 * 1024])).await;
    assert_eq!(raw.frame().await.payload.len(), 64 * 1024, "the limit is allowed");
    raw.write(frame(true, opcode::BINARY, &vec![b'x'; 64 * 1024 + 1])).await;
    assert_eq!(raw.frame().await.close().0, 1009);
}

#[tokio::test]
async fn fragments_are_counted_together_against_the_limit() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    raw.write(frame(false, opcode::TEXT, &vec![b'x'; 40_000])).await;
    raw.write(frame(true, opcode::CONTINUATION, &vec![b'x'; 40_000])).await;
    assert_eq!(raw.frame().await.close().0, 1009);
}

#[tokio::test]
async fn the_close_frame_arrives_even_while_the_peer_goes_on_sending() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    // Far more than the kernel holds: were it left unread, the server's hanging up would be a reset
    // that throws the close frame away.
    let huge = vec![0; 32 * 1024 * 1024];
    raw.write(frame(true, opcode::BINARY, &huge)).await;
    assert_eq!(raw.frame().await.close().0, 1009);
    let handle = server.opened("/echo", 1).await[0];
    raw.write(frame(true, opcode::TEXT, b"too late")).await;
    drop(raw);
    server.closed(handle).await;
    let heard = server.seen();
    assert!(!heard.iter().any(|one| matches!(one, Seen::Text(..))), "{heard:?}");
}

/// What the server answers to bytes that break the protocol.
async fn verdict(server: &Server, bytes: &[u8]) -> u16 {
    let mut raw = server.raw_websocket("/echo").await;
    raw.write(bytes).await;
    let code = raw.frame().await.close().0;
    // Both ends have had their say; the server must not wait for the timeout to hang up.
    raw.write(frame(true, opcode::CLOSE, &code.to_be_bytes())).await;
    drop(raw);
    code
}

#[tokio::test]
async fn breaking_the_protocol_is_answered_with_1002() {
    let server = server();
    let cases: [(&str, Vec<u8>); 9] = [
        ("unmasked", vec![0x81, 0x01, b'x']),
        ("a reserved bit", vec![0xC1, 0x80, 0, 0, 0, 0]),
        ("a reserved opcode", frame(true, 0x3, b"")),
        ("a continuation of nothing", frame(true, opcode::CONTINUATION, b"x")),
        ("a fragmented ping", frame(false, opcode::PING, b"x")),
        ("a long ping", frame(true, opcode::PING, &[b'x'; 126])),
        ("half a close code", frame(true, opcode::CLOSE, b"\x03")),
        ("a close code nobody may send", frame(true, opcode::CLOSE, b"\x03\xed")),
        ("a length in too many bytes", vec![0x81, 0xFE, 0, 1, 0, 0, 0, 0, b'x']),
    ];
    for (what, bytes) in cases {
        assert_eq!(verdict(&server, &bytes).await, 1002, "{what}");
    }
    let mut two = frame(false, opcode::TEXT, b"one");
    two.extend(frame(true, opcode::TEXT, b"another inside"));
    assert_eq!(verdict(&server, &two).await, 1002);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_answered_with_1007() {
    let server = server();
    assert_eq!(verdict(&server, &frame(true, opcode::TEXT, &[0xC0])).await, 1007);
    assert_eq!(verdict(&server, &frame(true, opcode::CLOSE, b"\x03\xe8\xff")).await, 1007);
    // Said as soon as it cannot become text any more, not when the message is whole.
    assert_eq!(verdict(&server, &frame(false, opcode::TEXT, &[0xFF])).await, 1007);
}

#[tokio::test]
async fn too_many_fragments_are_answered_with_1008() {
    let server =
        App::new().with(|config| config.max_fragments = 3).websocket("/echo", echo).start();
    let mut bytes = frame(false, opcode::TEXT, b"");
    for _ in 0..3 {
        bytes.extend(frame(false, opcode::CONTINUATION, b""));
    }
    assert_eq!(verdict(&server, &bytes).await, 1008);
}

#[tokio::test]
async fn too_many_control_frames_in_a_second_are_answered_with_1008() {
    let server =
        App::new().with(|config| config.max_control_frames = 50).websocket("/echo", echo).start();
    let mut raw = server.raw_websocket("/echo").await;
    // Data frames do not count.
    for _ in 0..100 {
        raw.write(frame(true, opcode::TEXT, b"data")).await;
        assert_eq!(raw.frame().await.payload, b"data");
    }
    raw.write(frame(true, opcode::PING, b"").repeat(500)).await;
    let mut pongs = 0;
    let closed = loop {
        let frame = raw.frame().await;
        if frame.opcode == opcode::CLOSE {
            break frame;
        }
        pongs += 1;
    };
    assert_eq!(closed.close(), (1008, "too many control frames in a second".into()));
    // The border of two seconds may lie between them.
    assert!((50..=100).contains(&pongs), "{pongs} pongs");
}

#[tokio::test]
async fn what_came_before_the_violation_is_still_delivered() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    let mut bytes = frame(true, opcode::TEXT, b"good");
    bytes.extend([0x81, 0x00]);
    bytes.extend(frame(true, opcode::TEXT, b"after"));
    raw.write(bytes).await;
    let handle = server.opened("/echo", 1).await[0];
    assert_eq!(raw.frame().await.payload, b"good");
    assert_eq!(raw.frame().await.close().0, 1002);
    drop(raw);
    assert_eq!(server.closed(handle).await.0, 1006);
    let events = by_connection(&server.seen()).remove(&handle);
    assert!(matches!(
        events.expect("events").as_slice(),
        [Seen::Open(..), Seen::Text(_, text), Seen::Close(..)] if text == "good"
    ));
}

#[tokio::test]
async fn every_ping_is_answered_with_its_payload() {
    let server = App::new().websocket("/quiet", quiet).start();
    let mut raw = server.raw_websocket("/quiet").await;
    for payload in [&b""[..], b"1", &[0xFF; 125]] {
        raw.write(frame(true, opcode::PING, payload)).await;
        let pong = raw.frame().await;
        assert_eq!((pong.opcode, &pong.payload[..]), (opcode::PONG, payload));
    }
    // An answer nobody asked for is allowed and means nothing.
    raw.write(frame(true, opcode::PONG, b"unasked")).await;
    raw.write(frame(true, opcode::PING, b"next")).await;
    assert_eq!(raw.frame().await.payload, b"next");
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_code_and_then_the_server_hangs_up() {
    let server = server();
    for (sent, answered, told) in [
        (&b"\x03\xe8thanks"[..], Some(1000), (1000, "thanks")),
        (b"\x0f\xa1", Some(4001), (4001, "")),
        (b"", None, (1005, "")),
    ] {
        let before = server.seen().len();
        let mut raw = server.raw_websocket("/echo").await;
        raw.write(frame(true, opcode::CLOSE, sent)).await;
        let close = raw.frame().await;
        let code = close.payload.first_chunk().map(|two| u16::from_be_bytes(*two));
        assert_eq!(code, answered);
        assert_eq!(raw.next_frame().await, None);
        let close = server
            .until("the close event", |seen| {
                seen[before..].iter().find_map(|one| match one {
                    Seen::Close(_, code, reason) => Some((*code, reason.clone())),
                    _ => None,
                })
            })
            .await;
        assert_eq!((close.0, close.1.as_str()), told);
    }
}

#[tokio::test]
async fn a_close_from_the_server_ends_when_the_peer_answers() {
    let server = App::new()
        .websocket("/bye", |peer, on| {
            if matches!(on, common::On::Open) {
                peer.close(4010, "not you");
                peer.send("never sent");
                peer.close(4011, "once is enough");
            }
        })
        .start();
    let mut client = server.connect("/bye").await;
    let close = client.close_frame().await;
    let expected = CloseFrame { code: CloseCode::Library(4010), reason: "not you".into() };
    assert_eq!(close, Some(expected));
    assert!(within("the end", client.0.next()).await.is_none());
    let handle = server.opened("/bye", 1).await[0];
    assert_eq!(server.closed(handle).await, (4010, "not you".into()));
}

#[tokio::test]
async fn what_came_before_a_violation_is_answered_before_the_close_frame() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    let mut bytes = frame(true, opcode::TEXT, b"one");
    bytes.extend(frame(true, opcode::TEXT, b"two"));
    bytes.extend([0xF1, 0x80, 0, 0, 0, 0]);
    bytes.extend(frame(true, opcode::TEXT, b"too late"));
    raw.write(bytes).await;
    assert_eq!(raw.frame().await.payload, b"one");
    assert_eq!(raw.frame().await.payload, b"two");
    assert_eq!(raw.frame().await.close().0, 1002);
}

#[tokio::test]
async fn what_came_before_a_close_frame_is_answered_before_ours() {
    let server = server();
    let mut raw = server.raw_websocket("/echo").await;
    let mut bytes = frame(true, opcode::TEXT, b"one");
    bytes.extend(frame(true, opcode::CLOSE, b"\x0f\xa1bye"));
    raw.write(bytes).await;
    assert_eq!(raw.frame().await.payload, b"one");
    assert_eq!(raw.frame().await.close().0, 4001);
    let handle = server.opened("/echo", 1).await[0];
    assert_eq!(server.closed(handle).await, (4001, "bye".into()));
}

#[tokio::test]
async fn a_last_word_waits_for_busy_handlers_no_longer_than_the_closing_timeout() {
    for (last, code) in [(&b"\x0b\x80"[..], 1002), (&frame(true, opcode::CLOSE, b"\x03\xe8"), 1000)]
    {
        let server = App::new()
            .with(|config| config.closing_timeout = Duration::from_millis(100))
            .websocket("/echo", echo)
            .start();
        let mut raw = server.raw_websocket("/echo").await;
        let handle = server.opened("/echo", 1).await[0];
        let blocked = server.block();
        raw.write([frame(true, opcode::TEXT, b"waits").as_slice(), last].concat()).await;
        assert_eq!(raw.frame().await.close().0, code);
        drop(raw);
        drop(blocked);
        server.closed(handle).await;
        let waits = |seen: &Seen| *seen == Seen::Text(handle, "waits".into());
        assert!(server.seen().iter().any(waits), "the handler is told all the same");
    }
}
