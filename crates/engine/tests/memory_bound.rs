//! What all peers together can make the process hold: at most `TINA4_MAX_BUFFERED` and a little.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

mod common;

use common::pressure::{
    Flood, KIB, MIB, SLACK, all_in_order, are_whole, frames_until_close, overfill,
};
use common::{App, Raw, Server, answer, echo, frame, opcode, quiet, within};

/// A server that may hold 256 KiB and lets a single connection have all of it.
fn small_server() -> App {
    App::new()
        .with(|config| {
            config.max_buffered = 256 * KIB;
            config.max_pending_bytes = usize::MAX;
            config.max_pending_messages = usize::MAX;
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

/// Waits until the engine holds no more than `bound`, and sees that it reads again.
async fn goes_on_below(server: &Server, bound: usize) {
    within("the rest fits", async {
        while server.buffered() > bound {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut echo = server.connect("/echo").await;
    echo.send("read like all others").await;
    assert_eq!(echo.text().await, "read like all others");
}

/// All but the last byte of a message of so many.
fn unfinished(size: usize) -> Vec<u8> {
    let mut bytes = frame(true, opcode::TEXT, &vec![b'x'; size]);
    bytes.pop();
    bytes
}

#[tokio::test]
async fn messages_that_are_never_finished_are_held_within_the_bound_of_the_process() {
    const BOUND: usize = 256 * KIB;
    for (io_threads, size) in [(1, 100 * KIB), (4, 100 * KIB), (1, 10_000), (4, 10_000)] {
        let server = small_server().with(|config| config.io_threads = io_threads).start();
        let mut raws = Vec::new();
        for _ in 0..4 * BOUND / size {
            let mut raw = server.raw_websocket("/in").await;
            raw.write(unfinished(size)).await;
            raws.push(raw);
        }
        // Those that take the most are refused until the others fit.
        let refused = raws.iter_mut().map(Raw::frame).collect::<Vec<_>>();
        let (first, _, others) =
            futures_util::future::select_all(refused.into_iter().map(Box::pin)).await;
        assert_eq!(first.close().0, 1013);
        drop(others);
        goes_on_below(&server, BOUND).await;
        drop(raws);
        nothing_held(&server).await;
    }
}

#[tokio::test]
async fn many_small_outboxes_are_held_within_the_bound_of_the_process() {
    const BOUND: usize = 64 * KIB;
    const SIZE: usize = 10_000;
    let server = small_server()
        .with(|config| {
            (config.io_threads, config.max_buffered) = (4, BOUND);
            // A frame that is half written stays for so long.
            config.closing_timeout = Duration::from_millis(200);
        })
        .start();
    let mut peers = Vec::new();
    for _ in 0..2 * BOUND / SIZE {
        let mut raw = Raw::connect_narrow(server.address).await;
        raw.upgrade("/out").await;
        peers.push(raw);
    }
    let handles = server.opened("/out", peers.len()).await;
    let text = "o".repeat(SIZE);
    // The kernel takes up to 4 MiB for each before an outbox holds any.
    within("a slow consumer to be closed", async {
        loop {
            let shed = server.with(|engine| {
                for handle in &handles {
                    let publisher = engine.publisher();
                    if publisher.buffered(*handle) == 0 {
                        publisher.send(*handle, &text.as_str());
                    }
                }
                engine.counters().slow_consumers.load(Ordering::Relaxed)
            });
            if shed > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    goes_on_below(&server, BOUND).await;
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

/// Half of a body.
const HALF: usize = 100 * KIB;
/// As `SLACK`, where one read of a shard may be half a body.
const SLACK_OF_BODIES: usize = HALF + 64 * KIB;

/// Announces a body.
async fn announced_body(server: &Server) -> Raw {
    let mut raw = server.raw().await;
    raw.write("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 204800\r\n\r\n").await;
    raw
}

#[tokio::test]
async fn bodies_that_began_while_there_was_room_are_held_within_the_bound_of_the_process() {
    const BOUND: usize = 256 * KIB;
    let server = small_server().start();
    let mut raws = Vec::new();
    for _ in 0..16 {
        raws.push(announced_body(&server).await);
    }
    let half = [b'x'; HALF];
    let mut refused = 0;
    for raw in &mut raws {
        // A socket that was refused may be reset while it still writes.
        let _ = within("a write", raw.stream.write_all(&half)).await;
    }
    for raw in &mut raws {
        let answered = within("an answer or room for the body", async {
            loop {
                let held = server.buffered();
                assert!(held <= BOUND + SLACK_OF_BODIES, "{held} bytes are held");
                match tokio::time::timeout(Duration::from_millis(20), raw.stream.readable()).await {
                    Ok(ready) => break ready.map(|()| true),
                    Err(_) if refused > 0 || held > BOUND / 2 => break Ok(false),
                    Err(_) => {}
                }
            }
        });
        if answered.await.expect("a socket") {
            refused += 1;
        }
    }
    assert!(refused >= 12, "{refused} of 16 bodies were refused");
    drop(raws);
    nothing_held(&server).await;
}

#[tokio::test]
async fn a_thousand_peers_that_stall_are_held_within_the_bound_of_the_process() {
    const BOUND: usize = 4 * MIB;
    const OF_EACH_KIND: usize = 300;
    const READERS: usize = 8;
    const MESSAGE: usize = 64 * KIB;
    // A message and a body may be read when the bound is reached; and of each reader one message stays
    // that is half written.
    const MOST: usize = BOUND + SLACK + SLACK_OF_BODIES + READERS * MESSAGE;
    // The kernel takes up to 4 MiB for each before an outbox holds any.
    const MESSAGES: usize = 5 * MIB / MESSAGE;
    // Two sockets a peer, because both ends are in this process.
    rlimit::increase_nofile_limit(8_192).expect("a limit of open files");
    let server = small_server().with(|config| config.max_buffered = BOUND).start();
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..OF_EACH_KIND {
        writers.push((server.raw_websocket("/in").await, unfinished(100 * KIB)));
        writers.push((
            server.raw_websocket("/in").await,
            frame(true, opcode::TEXT, &[b'x'; KIB]).repeat(60),
        ));
        writers.push((announced_body(&server).await, vec![b'x'; HALF]));
    }
    for _ in 0..READERS {
        let mut narrow = Raw::connect_narrow(server.address).await;
        narrow.upgrade("/out").await;
        readers.push(narrow);
    }
    server.opened("/in", 2 * OF_EACH_KIND).await;
    let handles = server.opened("/out", READERS).await;

    let blocked = server.block();
    let writers: Vec<_> = writers
        .into_iter()
        .map(|(mut raw, bytes)| {
            tokio::spawn(async move {
                // Until it is taken, never read, or the socket reset.
                let _ = raw.stream.write_all(&bytes).await;
                std::future::pending::<()>().await;
            })
        })
        .collect();
    let mut most = 0;
    let text = "o".repeat(MESSAGE);
    for handle in handles.into_iter().cycle().take(READERS * MESSAGES) {
        server.with(|engine| engine.publisher().send(handle, &text.as_str()));
        within("what is over the bound is given up", async {
            loop {
                let held = server.buffered();
                most = most.max(held);
                if held <= MOST {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        tokio::task::yield_now().await;
    }
    assert!(most > BOUND, "the bound was not reached: {most}");
    assert!(most <= MOST + MESSAGE, "{most} bytes were held");
    drop(blocked);
    server.logged("closed with 1013, the server is out of buffer memory").await;
    for writer in writers {
        writer.abort();
    }
    drop(readers);
    nothing_held(&server).await;
    let mut echo = server.connect("/echo").await;
    echo.send("hello").await;
    assert_eq!(echo.text().await, "hello");
}
