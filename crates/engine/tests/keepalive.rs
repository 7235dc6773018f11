//! What silence costs a peer, and that none of it waits for the handlers.

use std::time::{Duration, Instant};

mod common;

use common::{App, Frame, Raw, Seen, Server, answer, frame, opcode, quiet, within};

const SHORT: Duration = Duration::from_millis(60);
/// Long enough that a busy machine does not run a peer's time out while it is doing its part.
const PATIENT: Duration = Duration::from_millis(500);
/// Longer than any test waits: this timer is not the one that fires.
const NEVER: Duration = Duration::from_secs(3_600);

fn app(change: impl FnOnce(&mut engine::config::Config)) -> App {
    App::new()
        .with(|config| {
            config.ping_interval = NEVER;
            config.ping_timeout = NEVER;
            config.closing_timeout = NEVER;
            config.header_timeout = NEVER;
            config.keep_alive_timeout = NEVER;
        })
        .with(change)
        .websocket("/ws", quiet)
}

fn ping() -> Frame {
    Frame { opcode: opcode::PING, payload: Vec::new() }
}

async fn connected(server: &Server) -> (Raw, engine::Handle) {
    let raw = server.raw_websocket("/ws").await;
    let handle = server.opened("/ws", 1).await[0];
    (raw, handle)
}

#[tokio::test]
async fn a_silent_peer_is_pinged_at_every_interval_for_as_long_as_it_answers() {
    let server = app(|config| config.ping_interval = SHORT).start();
    let start = Instant::now();
    let (mut raw, _) = connected(&server).await;
    for _ in 0..4 {
        assert_eq!(raw.frame().await, ping());
        raw.write(frame(true, opcode::PONG, b"")).await;
    }
    assert!(start.elapsed() >= 4 * SHORT, "pinged before the peer was silent for that long");
    assert!(!server.seen().iter().any(|one| matches!(one, Seen::Close(..))));
}

#[tokio::test]
async fn a_peer_that_talks_is_not_pinged() {
    let server = app(|config| config.ping_interval = PATIENT).start();
    let (mut raw, _) = connected(&server).await;
    let start = Instant::now();
    while start.elapsed() < 3 * PATIENT {
        raw.write(frame(true, opcode::PING, b"mine")).await;
        assert_eq!(raw.frame().await.opcode, opcode::PONG);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_is_ended_without_a_closing_handshake() {
    let server = app(|config| {
        config.ping_interval = SHORT;
        config.ping_timeout = SHORT;
    })
    .start();
    let start = Instant::now();
    let (mut raw, handle) = connected(&server).await;
    assert_eq!(raw.frame().await, ping());
    assert_eq!(raw.next_frame().await, None);
    assert!(start.elapsed() >= 2 * SHORT, "given up before interval and timeout had passed");
    assert_eq!(server.closed(handle).await.0, 1006);
}

#[tokio::test]
async fn anything_a_pinged_peer_sends_shows_that_it_lives() {
    let server = app(|config| {
        config.ping_interval = SHORT;
        config.ping_timeout = 4 * PATIENT;
    })
    .start();
    let (mut raw, _) = connected(&server).await;
    for text in ["one", "two", "three"] {
        assert_eq!(raw.frame().await, ping());
        raw.write(frame(true, opcode::TEXT, text.as_bytes())).await;
        server.event("the message", |seen| matches!(seen, Seen::Text(_, got) if got == text)).await;
    }
    assert!(!server.seen().iter().any(|one| matches!(one, Seen::Close(..))));
}

#[tokio::test]
async fn without_an_interval_nobody_is_pinged_or_given_up() {
    let server = app(|config| {
        config.ping_interval = Duration::ZERO;
        config.ping_timeout = Duration::from_millis(20);
    })
    .start();
    let (mut raw, handle) = connected(&server).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.with(|engine| engine.publisher().send(handle, &"still here"));
    assert_eq!(raw.frame().await.payload, b"still here");
}

#[tokio::test]
async fn an_idle_peer_is_closed_with_1001_although_it_answers_pings() {
    let server = app(|config| {
        config.ping_interval = Duration::from_millis(25);
        config.idle_timeout = Duration::from_millis(150);
    })
    .start();
    let (mut raw, handle) = connected(&server).await;
    let mut pings = 0;
    let close = loop {
        match raw.frame().await {
            ping if ping.opcode == opcode::PING => {
                pings += 1;
                assert!(pings < 200, "it was idle for much longer than it may be");
                raw.write(frame(true, opcode::PONG, b"")).await;
            }
            close => break close,
        }
    };
    assert_eq!(close.close(), (1001, "idle timeout".into()));
    assert!(pings > 0);
    raw.write(frame(true, opcode::CLOSE, &close.payload)).await;
    assert_eq!(server.closed(handle).await.0, 1001);
}

#[tokio::test]
async fn a_message_keeps_a_connection_from_being_idle() {
    let server = app(|config| config.idle_timeout = PATIENT).start();
    let (mut raw, _) = connected(&server).await;
    let start = Instant::now();
    while start.elapsed() < 3 * PATIENT {
        raw.write(frame(true, opcode::TEXT, b"busy")).await;
        tokio::time::sleep(PATIENT / 20).await;
    }
    raw.write(frame(true, opcode::PING, b"open?")).await;
    assert_eq!(raw.frame().await.payload, b"open?");
}

#[tokio::test]
async fn a_peer_that_never_answers_our_close_is_ended_at_the_closing_timeout() {
    let server = app(|config| config.closing_timeout = SHORT).start();
    let (mut raw, handle) = connected(&server).await;
    let start = Instant::now();
    server.with(|engine| engine.publisher().close(handle, 4000, "bye"));
    assert_eq!(raw.frame().await.close(), (4000, "bye".into()));
    assert_eq!(raw.next_frame().await, None);
    assert!(start.elapsed() >= SHORT, "ended before the peer had its time");
    assert_eq!(server.closed(handle).await, (1006, String::new()));
}

#[tokio::test]
async fn a_peer_that_broke_the_rules_and_stays_is_ended_at_the_closing_timeout() {
    let server = app(|config| config.closing_timeout = SHORT).start();
    let (mut raw, handle) = connected(&server).await;
    raw.write([0x81, 0x00]).await;
    assert_eq!(raw.frame().await.close().0, 1002);
    assert_eq!(raw.next_frame().await, None);
    assert_eq!(server.closed(handle).await.0, 1006);
}

#[tokio::test]
async fn a_close_frame_that_cannot_be_written_does_not_hold_the_connection() {
    let server = app(|config| config.closing_timeout = SHORT).start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/ws").await;
    let handle = server.opened("/ws", 1).await[0];
    let huge = "h".repeat(16 * 1024 * 1024);
    server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    raw.write(frame(true, opcode::CLOSE, b"\x03\xe8")).await;
    // It never reads, so that our answer stays behind the message.
    assert_eq!(server.closed(handle).await.0, 1000);
}

#[tokio::test]
async fn pings_writes_and_closing_go_on_while_the_handlers_are_busy() {
    const MESSAGES: usize = 2_000;
    let server = app(|config| {
        config.ping_interval = SHORT;
        config.max_control_frames = 0;
    })
    .start();
    let (mut raw, handle) = connected(&server).await;
    let mut narrow = Raw::connect_narrow(server.address).await;
    narrow.upgrade("/ws").await;
    let narrow_handle = server.opened("/ws", 2).await[1];

    let blocked = server.block();
    for index in 0..3 {
        assert_eq!(raw.frame().await, ping(), "ping {index}");
        raw.write(frame(true, opcode::PONG, b"")).await;
    }
    // What was queued before is written as fast as the peer reads.
    let text = "w".repeat(8 * 1024 * 1024);
    server.with(|engine| engine.publisher().send(narrow_handle, &text.as_str()));
    loop {
        let frame = narrow.frame().await;
        if frame.opcode == opcode::TEXT {
            assert_eq!(frame.payload.len(), text.len());
            break;
        }
    }
    for index in 0..MESSAGES {
        raw.write(frame(true, opcode::PING, index.to_string().as_bytes())).await;
    }
    for index in 0..MESSAGES {
        let pong = loop {
            let frame = raw.frame().await;
            if frame.opcode == opcode::PONG {
                break frame;
            }
        };
        assert_eq!(pong.payload, index.to_string().as_bytes());
    }
    raw.write(frame(true, opcode::CLOSE, b"\x03\xe8")).await;
    while let Some(frame) = raw.next_frame().await {
        assert!(matches!(frame.opcode, opcode::PING | opcode::CLOSE));
    }
    assert!(!server.seen().iter().any(|one| matches!(one, Seen::Close(..))), "nobody was told yet");
    drop(blocked);
    assert_eq!(server.closed(handle).await.0, 1000);
}

#[tokio::test]
async fn a_peer_is_not_given_up_for_what_it_sent_while_nobody_read() {
    let server = app(|config| {
        config.ping_interval = SHORT;
        config.ping_timeout = PATIENT;
        config.max_pending_messages = 1;
    })
    .start();
    let (mut raw, handle) = connected(&server).await;
    let blocked = server.block();
    raw.write(frame(true, opcode::TEXT, b"waits")).await;
    // Reading has stopped; the timers of several intervals find nothing to say against the peer.
    tokio::time::sleep(3 * PATIENT).await;
    drop(blocked);
    let texts = |seen: &Seen| matches!(seen, Seen::Text(_, text) if text == "waits");
    server.event("the message", texts).await;
    assert_eq!(raw.frame().await, ping(), "pinged again, after another interval");
    raw.write(frame(true, opcode::TEXT, b"again")).await;
    let again = Seen::Text(handle, "again".into());
    server.event("the next message", |seen| *seen == again).await;
    assert!(!server.seen().iter().any(|one| matches!(one, Seen::Close(..))));
}

#[tokio::test]
async fn a_peer_that_still_takes_what_was_sent_is_not_given_up() {
    const SIZE: usize = 8 * 1024 * 1024;
    let server = app(|config| {
        config.ping_interval = PATIENT;
        config.ping_timeout = PATIENT;
    })
    .start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/ws").await;
    let handle = server.opened("/ws", 1).await[0];
    let huge = "h".repeat(SIZE);
    server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    // It reads a little at a time, for longer than interval and timeout; a ping would be behind the
    // message, so that it could not answer before it has read all of that.
    let start = Instant::now();
    while start.elapsed() < 5 * PATIENT {
        assert!(raw.more().await, "given up while it was reading");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let message = loop {
        match raw.frame().await {
            frame if frame == ping() => {}
            frame => break frame,
        }
    };
    assert_eq!(message.payload.len(), SIZE);
    assert_eq!(raw.frame().await, ping());
}

#[tokio::test]
async fn a_peer_that_takes_nothing_of_what_was_sent_is_given_up() {
    let server = app(|config| {
        config.ping_interval = SHORT;
        config.ping_timeout = SHORT;
        config.max_backlog = usize::MAX;
    })
    .start();
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("/ws").await;
    let handle = server.opened("/ws", 1).await[0];
    let huge = "h".repeat(16 * 1024 * 1024);
    server.with(|engine| engine.publisher().send(handle, &huge.as_str()));
    assert_eq!(server.closed(handle).await.0, 1006);
}

#[tokio::test]
async fn a_client_that_connects_and_says_nothing_is_disconnected() {
    let server = app(|config| config.header_timeout = SHORT).start();
    let mut silent = server.raw().await;
    assert_eq!(silent.rest().await, b"");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_disconnected() {
    let server = app(|config| config.header_timeout = SHORT).start();
    let mut slow = server.raw().await;
    slow.write("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ").await;
    slow.rest().await;
    // The same for the head of a later request.
    let server = app(|config| config.keep_alive_timeout = PATIENT)
        .request("GET", "/", |_| answer(200, "ok"))
        .start();
    let mut slow = server.raw().await;
    slow.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(slow.response().await.text(), "ok");
    slow.write("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ").await;
    slow.rest().await;
}

#[tokio::test]
async fn the_header_timeout_is_over_once_a_request_is_being_handled() {
    let server =
        app(|config| config.header_timeout = PATIENT).request("GET", "/slow", |_| None).start();
    let mut raw = server.raw().await;
    raw.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let request = server.event("the request", |seen| matches!(seen, Seen::Request(..))).await;
    let Seen::Request(handle, _) = request else { unreachable!("only that was waited for") };
    tokio::time::sleep(2 * PATIENT).await;
    server.with(|engine| {
        engine.publisher().answer(handle, answer(200, "at last").expect("an answer"));
    });
    assert_eq!(raw.response().await.text(), "at last");
}

#[tokio::test]
async fn a_socket_without_a_next_request_is_closed_at_the_keep_alive_timeout() {
    let server = app(|config| config.keep_alive_timeout = PATIENT)
        .request("GET", "/", |_| answer(200, "ok"))
        .start();
    let mut raw = server.raw().await;
    for _ in 0..2 {
        raw.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(raw.response().await.text(), "ok");
    }
    let rest = within("the end", raw.rest()).await;
    assert_eq!(rest, b"", "nothing is said on a socket without a request");
}

#[tokio::test]
async fn a_reset_is_noticed_while_reading_is_paused() {
    let server = App::new()
        .with(|config| {
            config.max_pending_messages = 4;
            // Without pings, whose failure would tell.
            config.ping_interval = Duration::ZERO;
            config.closing_timeout = Duration::from_millis(40);
        })
        .websocket("/in", quiet)
        .start();
    let mut raw = server.raw_websocket("/in").await;
    let handle = server.opened("/in", 1).await[0];
    let blocked = server.block();
    for _ in 0..8 {
        raw.write(frame(true, opcode::TEXT, b"x")).await;
    }
    within("the messages are held", async {
        while server.buffered() < 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    raw.reset();
    // The handlers' thread takes nothing, so only the sweep can see it. It says so behind the
    // messages, once they are taken.
    within("the connection has ended", async {
        while server.with(|engine| engine.open_sockets()) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(blocked);
    assert_eq!(server.closed(handle).await.0, 1006);
}
