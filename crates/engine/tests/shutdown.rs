//! How a server ends, and that several in one process have nothing to do with each other.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use engine::config::Config;
use engine::event::Event;
use engine::{Answer, AnswerBody, Engine, Handle, Host};
use tokio::net::TcpStream;

mod common;

use common::{App, On, Seen, Server, answer, echo, frame, opcode, quiet, within};

async fn stopped(server: &Server) -> Vec<Seen> {
    server.event("the end", |seen| *seen == Seen::Stopped).await;
    server.seen()
}

fn shut_down(server: &Server, code: u16, reason: &str) {
    server.with(|engine| engine.shutdown(code, reason));
}

/// Waits until nobody listens at the server's address.
async fn refused(server: &Server) {
    within("the listener to be closed", async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_tells_every_peer_why_and_says_stopped_last() {
    for (code, reason) in [(1001, ""), (1012, "a new version")] {
        let server =
            App::new().with(|config| config.io_threads = 3).websocket("/ws", quiet).start();
        let mut clients = Vec::new();
        for _ in 0..9 {
            clients.push(server.connect("/ws").await);
        }
        let handles = server.opened("/ws", 9).await;
        server.with(|engine| engine.publisher().push("/ws", &"the last word", Vec::new()));
        shut_down(&server, code, reason);
        for client in &mut clients {
            assert_eq!(client.text().await, "the last word");
            let close = client.close_frame().await.expect("a code");
            assert_eq!((u16::from(close.code), close.reason.as_str()), (code, reason));
        }
        for mut client in clients {
            use futures_util::StreamExt;
            while within("the end", client.0.next()).await.is_some() {}
        }
        let seen = stopped(&server).await;
        assert_eq!(seen.last(), Some(&Seen::Stopped));
        assert_eq!(seen.iter().filter(|one| **one == Seen::Stopped).count(), 1);
        for handle in handles {
            let closed = seen
                .iter()
                .filter(|one| matches!(one, Seen::Close(which, told, _) if *which == handle && *told == code));
            assert_eq!(closed.count(), 1);
        }
        refused(&server).await;
    }
}

#[tokio::test]
async fn a_shutdown_answers_what_is_in_flight_and_takes_nothing_new() {
    let server = App::new().request("GET", "/slow", |_| None).start();
    let mut raw = server.raw().await;
    raw.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let request = server.event("the request", |seen| matches!(seen, Seen::Request(..))).await;
    let Seen::Request(handle, _) = request else { unreachable!("only that was waited for") };
    shut_down(&server, 1001, "");
    refused(&server).await;
    assert!(!server.seen().contains(&Seen::Stopped), "a request still waits");
    let answer =
        Answer { status: 200, headers: Default::default(), body: AnswerBody::Bytes("ok".into()) };
    server.with(|engine| engine.publisher().answer(handle, answer));
    let response = raw.response().await;
    assert_eq!(response.text(), "ok");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(raw.rest().await, b"");
    stopped(&server).await;
}

#[tokio::test]
async fn sockets_without_a_request_do_not_hold_up_a_shutdown() {
    let server = App::new()
        .with(|config| {
            // So that the test fails by its own patience if either were waited for.
            config.header_timeout = Duration::from_secs(3_600);
            config.shutdown_timeout = Duration::from_secs(3_600);
        })
        .request("GET", "/", |_| answer(200, "ok"))
        .start();
    let mut kept = server.raw().await;
    kept.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(kept.response().await.text(), "ok");
    // What a browser opens ahead of its next request.
    let mut silent = server.raw().await;
    let mut half = server.raw().await;
    half.write("GET / HTTP/1.1\r\nhost").await;
    assert_eq!(server.ask("GET", "/").await.text(), "ok");
    shut_down(&server, 1001, "");
    stopped(&server).await;
    for raw in [&mut kept, &mut silent, &mut half] {
        raw.rest().await;
    }
}

#[tokio::test]
async fn a_peer_that_does_not_answer_is_ended_at_the_shutdown_timeout() {
    let server = App::new()
        .with(|config| {
            config.shutdown_timeout = Duration::from_millis(100);
            config.closing_timeout = Duration::from_secs(3_600);
        })
        .websocket("/ws", quiet)
        .request("GET", "/never", |_| None)
        .start();
    let mut raw = server.raw_websocket("/ws").await;
    let handle = server.opened("/ws", 1).await[0];
    let mut request = server.raw().await;
    request.write("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.event("the request", |seen| matches!(seen, Seen::Request(..))).await;
    shut_down(&server, 1001, "");
    assert_eq!(raw.frame().await.close().0, 1001);
    assert_eq!(raw.next_frame().await, None);
    let seen = stopped(&server).await;
    let close = Seen::Close(handle, 1006, String::new());
    assert_eq!(seen.iter().filter(|one| **one == close).count(), 1);
    assert_eq!(seen.last(), Some(&Seen::Stopped));
    request.rest().await;
}

#[tokio::test]
async fn without_time_for_a_shutdown_everything_is_cut_at_once() {
    let server = App::new()
        .with(|config| config.shutdown_timeout = Duration::ZERO)
        .websocket("/ws", quiet)
        .start();
    let mut raw = server.raw_websocket("/ws").await;
    server.opened("/ws", 1).await;
    shut_down(&server, 1001, "");
    stopped(&server).await;
    raw.rest().await;
}

#[tokio::test]
async fn close_handlers_run_in_a_shutdown_and_their_broadcasts_reach_nobody_who_closes() {
    let server = App::new()
        .websocket("/room", |peer, on| {
            if matches!(on, On::Close(..)) {
                peer.broadcast("someone left");
            }
        })
        .start();
    let mut first = server.raw_websocket("/room").await;
    let mut second = server.raw_websocket("/room").await;
    server.opened("/room", 2).await;
    shut_down(&server, 1001, "");
    assert_eq!(first.frame().await.opcode, opcode::CLOSE);
    first.write(frame(true, opcode::CLOSE, b"\x03\xe9")).await;
    assert_eq!(first.next_frame().await, None);
    server.event("the close event", |seen| matches!(seen, Seen::Close(..))).await;
    assert_eq!(second.frame().await.opcode, opcode::CLOSE);
    second.write(frame(true, opcode::CLOSE, b"\x03\xe9")).await;
    assert_eq!(second.next_frame().await, None, "nothing comes behind the close frame");
    stopped(&server).await;
}

#[tokio::test]
async fn messages_that_came_before_the_shutdown_are_still_handed_over() {
    let server = App::new().websocket("/ws", quiet).start();
    let mut raw = server.raw_websocket("/ws").await;
    let handle = server.opened("/ws", 1).await[0];
    {
        let blocked = server.block();
        raw.write(frame(true, opcode::TEXT, b"in time")).await;
        // The pong shows that the message was read.
        raw.write(frame(true, opcode::PING, b"")).await;
        assert_eq!(raw.frame().await.opcode, opcode::PONG);
        shut_down(&server, 1001, "");
        assert_eq!(raw.frame().await.opcode, opcode::CLOSE);
        raw.write(frame(true, opcode::TEXT, b"too late")).await;
        raw.write(frame(true, opcode::CLOSE, b"\x03\xe9")).await;
        assert_eq!(raw.next_frame().await, None);
        drop(blocked);
    }
    let seen = stopped(&server).await;
    let mine: Vec<_> = seen.iter().skip_while(|one| !matches!(one, Seen::Text(..))).collect();
    let text = Seen::Text(handle, "in time".into());
    let close = Seen::Close(handle, 1001, String::new());
    assert_eq!(mine, [&text, &close, &Seen::Stopped]);
}

fn app(folder: &tempfile::TempDir) -> engine::App {
    engine::App {
        directory: folder.path().into(),
        package_directory: folder.path().into(),
        templates: None,
        public: None,
        development: false,
        version: "0".into(),
        relay: None,
    }
}

fn config(port: u16) -> Config {
    Config { host: "127.0.0.1".into(), port, io_threads: 2, ..Config::default() }
}

#[test]
fn a_port_in_use_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let mut engine = Engine::new(config(port), app(&folder), Host::new(|| {}));
    let error = engine.listen(None).expect_err("it is in use");
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    // Another engine's port is as taken as a stranger's.
    let mut first = Engine::new(config(0), app(&folder), Host::new(|| {}));
    let port = first.listen(None).expect("a free port").port();
    let mut second = Engine::new(config(port), app(&folder), Host::new(|| {}));
    assert!(second.listen(None).is_err());
    first.terminate();
    // Free again as soon as the threads have ended.
    assert_eq!(second.listen(None).expect("free").port(), port);
}

#[test]
fn terminate_works_twice_and_before_listening_and_a_second_listen_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = Engine::new(config(0), app(&folder), Host::new(|| {}));
    engine.listen(None).expect("a free port");
    assert!(engine.listen(None).is_err());
    engine.terminate();
    engine.terminate();
    let mut never = Engine::new(config(0), app(&folder), Host::new(|| {}));
    never.shutdown(1001, "");
    let mut events = Vec::new();
    never.take(&mut events);
    assert!(matches!(events[0].events[0], Event::Stopped), "nothing has to end");
    never.terminate();
}

#[test]
fn memory_is_tidied_every_second_on_the_thread_of_each_shard() {
    static TIDIED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
    let tidied = || TIDIED.lock().expect("no panic").clone();
    let tidy = || TIDIED.lock().expect("no panic").push(std::thread::current().id());
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = Engine::new(config(0), app(&folder), Host { tidy, ..Host::new(|| {}) });
    let began = Instant::now();
    engine.listen(None).expect("a free port");
    while tidied().iter().collect::<HashSet<_>>().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", tidied());
        std::thread::sleep(Duration::from_millis(10));
    }
    let most = 2 * began.elapsed().as_secs() as usize;
    assert!(tidied().len() <= most, "{} of at most {most}", tidied().len());
    engine.terminate();
}

#[tokio::test]
async fn dropping_an_engine_ends_its_threads_and_its_sockets() {
    static RINGS: AtomicUsize = AtomicUsize::new(0);
    let folder = tempfile::tempdir().expect("a folder");
    let ring = || {
        RINGS.fetch_add(1, Ordering::SeqCst);
    };
    let mut engine = Engine::new(config(0), app(&folder), Host::new(ring));
    engine.routes().update(|router| {
        let pattern = engine::router::Pattern::parse("/ws").expect("a pattern");
        let route = engine::router::WebSocketRoute { id: 0, binary: false, ..Default::default() };
        router.insert_websocket(pattern, route);
    });
    let address = engine.listen(None).expect("a free port");
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut raw = common::Raw::connect(address).await;
        raw.upgrade("/ws").await;
        sockets.push(raw);
    }
    sockets.push(common::Raw::connect(address).await);
    drop(engine);
    let rings = RINGS.load(Ordering::SeqCst);
    assert!(rings > 0, "the connections were opened");
    for raw in &mut sockets {
        raw.rest().await;
    }
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    assert_eq!(RINGS.load(Ordering::SeqCst), rings, "no thread is left to ring");
}

#[tokio::test]
async fn two_servers_in_one_process_have_nothing_to_do_with_each_other() {
    let serve = |name: &'static str| {
        App::new()
            .websocket("/room", move |peer, on| {
                if let On::Text(text) = on {
                    peer.broadcast(&format!("{name}: {text}"));
                }
            })
            .start()
    };
    let (one, two) = (serve("one"), serve("two"));
    let mut in_one = one.connect("/room").await;
    let mut in_two = two.connect("/room").await;
    in_one.send("hello").await;
    assert_eq!(in_one.text().await, "one: hello");
    let handle = one.opened("/room", 1).await[0];
    // The same number names a connection of the other server there, and nothing of this one here.
    assert_eq!(two.opened("/room", 1).await[0], handle);
    shut_down(&one, 1001, "");
    assert_eq!(in_one.close_frame().await.map(|frame| u16::from(frame.code)), Some(1001));
    drop(in_one);
    stopped(&one).await;
    in_two.send("still here").await;
    assert_eq!(in_two.text().await, "two: still here");
}

#[tokio::test]
async fn a_handle_kept_after_its_connection_is_gone_reaches_nobody() {
    let server = App::new()
        .with(|config| config.handler_timeout = Duration::from_secs(3_600))
        .websocket("/room", echo)
        .start();
    let client = server.connect("/room").await;
    let old = server.opened("/room", 1).await[0];
    client.close().await;
    server.closed(old).await;
    within("its place to be free", async {
        while server.with(|engine| engine.held().members.load(Ordering::Relaxed)) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // It takes the place of the old one, under another handle.
    let mut client = server.connect("/room").await;
    let new = server.opened("/room", 2).await[1];
    assert_eq!(new.slot(), old.slot());
    for stale in [old, Handle::from_number(0), Handle::from_number(u64::MAX)] {
        server.with(|engine| {
            let publisher = engine.publisher();
            publisher.send(stale, &"for nobody");
            publisher.close(stale, 4000, "nobody");
            publisher.acknowledge(stale, 1_000);
            publisher.answer(stale, answer(200, "nobody").expect("an answer"));
            assert_eq!(publisher.join(stale), None);
            publisher.leave(stale);
            publisher.release(stale);
            assert!(!publisher.drain(stale));
            assert_eq!(publisher.buffered(stale), 0);
            assert!(publisher.head(stale).is_none());
            publisher.broadcast(u64::MAX, &"nowhere", Some(stale));
            publisher.push("/nowhere", &"nobody", Vec::new());
        });
    }
    client.send("still mine").await;
    assert_eq!(client.text().await, "still mine");
    assert_eq!(server.with(|engine| engine.topics().get("/room").expect("a topic").count()), 1);
}

#[tokio::test]
async fn the_acceptor_lives_through_clients_that_are_gone_at_once() {
    let server = App::new().websocket("/echo", echo).start();
    for _ in 0..200 {
        server.raw().await.reset();
    }
    let mut client = server.connect("/echo").await;
    client.send("here").await;
    assert_eq!(client.text().await, "here");
}
