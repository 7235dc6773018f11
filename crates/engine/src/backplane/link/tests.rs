//! What every link promises, over real servers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use crate::backplane::channel::BATCH;
use crate::backplane::socket;

use super::super::relay::Relay;
use super::test_servers::{TestServer, free_port};
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough for what is there to arrive, short enough to wait for what must not.
const MOMENT: Duration = Duration::from_millis(300);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

async fn link(bus: &Bus) -> (Sender, Receiver) {
    within("a link", connect(bus)).await.expect("a link")
}

async fn refusal(bus: &Bus) -> String {
    match within("a refusal", connect(bus)).await {
        Ok(_) => panic!("{bus} took us"),
        Err(error) => error.to_string(),
    }
}

/// The next `count` messages, those of the control channel last.
async fn next(receiver: &mut Receiver, count: usize) -> Vec<(Channel, Bytes)> {
    let mut into = Vec::new();
    while into.len() < count {
        within("a message", receiver.receive(&mut into)).await.expect("a message");
    }
    assert_eq!(into.len(), count);
    into.sort_by_key(|(channel, _)| *channel as u8);
    into
}

/// The next message.
async fn one(receiver: &mut Receiver) -> (Channel, Bytes) {
    next(receiver, 1).await.remove(0)
}

/// Receives until the link ends.
async fn end_of(receiver: &mut Receiver) -> String {
    let mut into = Vec::new();
    let end = async {
        loop {
            if let Err(error) = receiver.receive(&mut into).await {
                return error.to_string();
            }
        }
    };
    within("the end of the receiver", end).await
}

/// Sends until the link ends.
async fn end_of_sending(sender: &mut Sender) -> String {
    let end = async {
        loop {
            if let Err(error) = sender.send(&[(Channel::Control, Bytes::from_static(b"x"))]).await {
                return error.to_string();
            }
            tokio::task::yield_now().await;
        }
    };
    within("the end of the sender", end).await
}

fn redis(server: &TestServer) -> Bus {
    Bus::redis(&server.url()).unwrap()
}

fn nats(server: &TestServer) -> Bus {
    Bus::nats(&server.url()).unwrap()
}

fn relay() -> (TempDir, Relay, Bus) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay");
    let relay = Relay::bind(&path).unwrap();
    (folder, relay, Bus::Relay(path))
}

/// The `number`th of a long run: its number, and as many bytes more as a mix of sizes has.
fn numbered(number: u32) -> (Channel, Bytes) {
    let size = match number {
        _ if number % 2500 == 7 => 500_000,
        _ if number % 100 == 3 => 20_000,
        _ => (number * 37 % 300) as usize,
    };
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4 + size, number.to_le_bytes()[0]);
    let channel = if number.is_multiple_of(3) { Channel::Control } else { Channel::Messages };
    (channel, payload.into())
}

/// Everything that another link sends arrives, each channel in order, and nothing is lost when a
/// receive is given up now and then.
async fn arrives_in_order(bus: &Bus) {
    const COUNT: u32 = 10_000;
    let (mut sender, _ours) = link(bus).await;
    let (_theirs, mut receiver) = link(bus).await;
    let all: Vec<_> = (0..COUNT).map(numbered).collect();
    let sending = async {
        for batch in all.chunks(150) {
            sender.send(batch).await.unwrap();
        }
    };
    let receiving = async {
        let mut into = Vec::new();
        while into.len() < all.len() {
            let gathered = into.len();
            tokio::select! {
                biased;
                received = receiver.receive(&mut into) => received.unwrap(),
                () = tokio::task::yield_now() => {}
            }
            assert!(into.len() - gathered <= BATCH);
        }
        into
    };
    let received = within("all messages", async { tokio::join!(sending, receiving).1 }).await;
    for channel in Channel::ALL {
        let of = |list: &[(Channel, Bytes)]| -> Vec<Bytes> {
            list.iter()
                .filter(|(of, _)| *of == channel)
                .map(|(_, payload)| payload.clone())
                .collect()
        };
        assert!(of(&received) == of(&all), "{channel:?}");
    }
}

/// What is published after connecting is heard; our own control messages come back.
async fn hears_from_the_start(bus: &Bus, echoes: bool) {
    let (mut first, mut first_receiver) = link(bus).await;
    for round in 0..20_u8 {
        let (mut second, mut receiver) = link(bus).await;
        first.send(&[(Channel::Messages, Bytes::from(vec![round]))]).await.unwrap();
        assert_eq!(one(&mut receiver).await, (Channel::Messages, Bytes::from(vec![round])));
        second.send(&[(Channel::Control, Bytes::new())]).await.unwrap();
        assert_eq!(one(&mut receiver).await, (Channel::Control, Bytes::new()));
        let heard = next(&mut first_receiver, 1 + usize::from(echoes)).await;
        assert_eq!(heard.last().map(|(channel, _)| *channel), Some(Channel::Control));
    }
}

/// A large message passes if it is not above the limit.
async fn takes_large_messages(bus: &Bus) {
    let (mut sender, _ours) = link(bus).await;
    let (_theirs, mut receiver) = link(bus).await;
    let size = sender.max_payload().min(9_000_000);
    let large = Bytes::from(vec![7; size]);
    let mut into = Vec::new();
    let messages =
        [(Channel::Messages, large.clone()), (Channel::Control, Bytes::from_static(b"next"))];
    let sending = async { sender.send(&messages).await.unwrap() };
    let receiving = async {
        while into.len() < 2 {
            receiver.receive(&mut into).await.unwrap();
        }
    };
    within("a large message", async { tokio::join!(sending, receiving) }).await;
    into.sort_by_key(|(channel, _)| *channel as u8);
    assert!(into == messages);
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let server = TestServer::redis(&[]);
    let bus = redis(&server);
    arrives_in_order(&bus).await;
    hears_from_the_start(&bus, true).await;
    takes_large_messages(&bus).await;
}

#[tokio::test]
async fn nats_keeps_the_contract() {
    let server = TestServer::nats(&[]);
    let bus = nats(&server);
    arrives_in_order(&bus).await;
    hears_from_the_start(&bus, true).await;
    takes_large_messages(&bus).await;
    let (sender, _receiver) = link(&bus).await;
    assert_eq!(sender.max_payload(), 1024 * 1024);
}

#[tokio::test]
async fn the_relay_keeps_the_contract() {
    let (_folder, _relay, bus) = relay();
    arrives_in_order(&bus).await;
    hears_from_the_start(&bus, false).await;
    takes_large_messages(&bus).await;
}

#[tokio::test]
async fn a_killed_server_ends_both_halves_and_is_refused_by_name_and_port() {
    let mut servers = [TestServer::redis(&[]), TestServer::nats(&[])];
    let buses = [redis(&servers[0]), nats(&servers[1])];
    for (server, bus) in servers.iter_mut().zip(buses) {
        let (mut sender, mut receiver) = link(&bus).await;
        server.kill();
        assert_eq!(end_of(&mut receiver).await, socket::CLOSED);
        assert_eq!(end_of_sending(&mut sender).await, socket::CLOSED);
        assert_eq!(refusal(&bus).await, format!("nothing listens on localhost:{}", server.port()));
        server.restart();
        link(&bus).await;
        assert_eq!(end_of(&mut receiver).await, socket::CLOSED, "no link comes back by itself");
    }
}

#[tokio::test]
async fn a_closed_relay_ends_both_halves() {
    let (_folder, relay, bus) = relay();
    let (mut sender, mut receiver) = link(&bus).await;
    drop(relay);
    end_of(&mut receiver).await;
    end_of_sending(&mut sender).await;
    let Bus::Relay(path) = &bus else { unreachable!() };
    assert!(!path.exists());
    assert_eq!(refusal(&bus).await, format!("there is no {}", path.display()));
}

#[tokio::test]
async fn cutting_the_subscriber_leaves_the_publisher() {
    let server = TestServer::redis(&[]);
    let (mut sender, mut receiver) = link(&redis(&server)).await;
    let (_other, mut other) = link(&redis(&server)).await;
    assert_eq!(server.redis_command("CLIENT KILL TYPE pubsub"), ":2");
    assert_eq!(end_of(&mut receiver).await, socket::CLOSED);
    assert_eq!(end_of(&mut other).await, socket::CLOSED);
    let (_third, mut third) = link(&redis(&server)).await;
    sender.send(&[(Channel::Messages, Bytes::from_static(b"still"))]).await.unwrap();
    assert_eq!(one(&mut third).await.1, "still");
}

#[tokio::test]
async fn cutting_the_publisher_leaves_the_subscriber() {
    let server = TestServer::redis(&[]);
    let (mut sender, mut receiver) = link(&redis(&server)).await;
    server.cut_publishers();
    assert_eq!(end_of_sending(&mut sender).await, socket::CLOSED);
    assert_eq!(server.redis_command("PUBLISH tina4:ws still"), ":1");
    assert_eq!(one(&mut receiver).await, (Channel::Messages, Bytes::from_static(b"still")));
}

/// How many connections this machine has established to a port.
#[cfg(target_os = "linux")]
fn established(port: u16) -> usize {
    let remote = format!(":{port:04X}");
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let lines = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default()).concat();
    lines
        .lines()
        .filter(|line| {
            let mut words = line.split_whitespace().skip(2);
            words.next().is_some_and(|address| address.ends_with(&remote))
                && words.next() == Some("01")
        })
        .count()
}

/// The server does nothing: sending does not end, and dropping the link closes its sockets all the
/// same.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_paused_server_lets_a_timeout_work_and_the_sockets_close() {
    for (server, is_redis) in [(TestServer::redis(&[]), true), (TestServer::nats(&[]), false)] {
        let bus = if is_redis { redis(&server) } else { nats(&server) };
        let (mut sender, receiver) = link(&bus).await;
        let count = if is_redis { 2 } else { 1 };
        // That with which the server was waited for may be ending still.
        let alone = async {
            while established(server.port()) != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the connections of the link alone", alone).await;
        server.pause();
        let large = vec![(Channel::Messages, Bytes::from(vec![0; 900_000])); 30];
        assert!(tokio::time::timeout(MOMENT, sender.send(&large)).await.is_err());
        drop((sender, receiver));
        let closed = async {
            while established(server.port()) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("closed sockets", closed).await;
        server.resume();
    }
}

#[tokio::test]
async fn redis_takes_the_right_password_and_database_only() {
    let server = TestServer::redis(&["--requirepass", "s@same", "--databases", "4"]);
    let url =
        |login: &str, path: &str| Bus::redis(&format!("{}{path}", server.url_for(login))).unwrap();
    link(&url(":s%40same", "")).await;
    let (mut sender, _) = link(&url("default:s%40same", "/3")).await;
    let (_other, mut receiver) = link(&url(":s%40same", "/0")).await;
    sender.send(&[(Channel::Messages, Bytes::from_static(b"all databases"))]).await.unwrap();
    assert_eq!(one(&mut receiver).await.1, "all databases");
    assert_eq!(refusal(&url(":wrong", "")).await, "the server refused the user or the password");
    assert_eq!(refusal(&url("", "")).await, "the server wants a password, and the URL has none");
    assert_eq!(refusal(&url(":s%40same", "/4")).await, "the server has no database of that number");
}

#[tokio::test]
async fn redis_says_which_permission_is_missing() {
    let user = |name, channels| ["--user", name, "on", ">pw", "+@all", channels];
    let users = [user("ann", "allchannels"), user("ben", "resetchannels")].concat();
    let server = TestServer::redis(&users);
    let bus = |user: &str| Bus::redis(&server.url_for(&format!("{user}:pw"))).unwrap();
    link(&bus("ann")).await;
    let missing =
        "the server does not let this user publish and subscribe to tina4:ws and tina4:ws:ctl";
    assert_eq!(refusal(&bus("ben")).await, missing);
}

#[cfg(unix)]
#[tokio::test]
async fn redis_is_reached_through_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let _server =
        TestServer::redis(&["--unixsocket", path.to_str().unwrap(), "--requirepass", "pw"]);
    let bus = Bus::redis(&format!("unix://{}?pass=pw&db=1", path.display())).unwrap();
    hears_from_the_start(&bus, true).await;
}

#[tokio::test]
async fn nats_takes_the_right_login_only() {
    let server = TestServer::nats(&["--user", "ann", "--pass", "p w"]);
    let bus = |login: &str| Bus::nats(&server.url_for(login)).unwrap();
    link(&bus("ann:p%20w")).await;
    assert_eq!(
        refusal(&bus("ann:wrong")).await,
        "the server refused the user, the password or the token"
    );
    assert_eq!(refusal(&bus("")).await, "the server wants a user or a token, and the URL has none");
    let server = TestServer::nats(&["--auth", "t0ken"]);
    link(&Bus::nats(&server.url_for("t0ken")).unwrap()).await;
    assert_eq!(
        refusal(&Bus::nats(&server.url_for("other")).unwrap()).await,
        "the server refused the user, the password or the token"
    );
}

#[tokio::test]
async fn nats_says_which_permission_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    let user = |name: &str, publish: &str, subscribe: &str| {
        format!(
            r#"{{ user: {name}, password: pw, permissions: {{ publish: [{publish}], subscribe: [{subscribe}] }} }}"#
        )
    };
    let both = r#""tina4:ws", "tina4:ws:ctl""#;
    let users = [
        user("ann", both, both),
        user("ben", both, r#""tina4:ws""#),
        user("cat", r#""tina4:ws:ctl""#, both),
    ];
    std::fs::write(&config, format!("authorization {{ users: [{}] }}", users.join(","))).unwrap();
    let server = TestServer::nats(&["--config", config.to_str().unwrap()]);
    let bus = |user: &str| Bus::nats(&server.url_for(&format!("{user}:pw"))).unwrap();
    hears_from_the_start(&bus("ann"), true).await;
    assert_eq!(refusal(&bus("ben")).await, "the server does not let us subscribe to tina4:ws:ctl");
    let (mut sender, mut receiver) = link(&bus("cat")).await;
    let _ = sender.send(&[(Channel::Messages, Bytes::from_static(b"x"))]).await;
    assert_eq!(end_of(&mut receiver).await, "the server does not let us publish to tina4:ws");
}

/// Answers whatever it is sent with the same words, until the test is over.
fn stranger(words: &'static [u8]) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut heard = [0; 4096];
                while stream.read(&mut heard).is_ok_and(|heard| heard > 0) {
                    if stream.write_all(words).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_of_another_kind_is_named_so() {
    let http = stranger(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let bus = Bus::redis(&format!("redis://127.0.0.1:{http}")).unwrap();
    assert_eq!(refusal(&bus).await, "what answers there is no Redis server");
    let bus = Bus::redis(&format!("redis://:pw@127.0.0.1:{http}/2")).unwrap();
    assert_eq!(refusal(&bus).await, "what answers there is no Redis server");
    let bus = Bus::nats(&format!("nats://127.0.0.1:{http}")).unwrap();
    assert_eq!(
        refusal(&bus).await,
        format!("127.0.0.1:{http} does not answer as a NATS server does")
    );
    let bus = Bus::redis(&format!("rediss://127.0.0.1:{http}")).unwrap();
    assert_eq!(refusal(&bus).await, "127.0.0.1 does not speak TLS on that port");

    let (redis, nats) = (TestServer::redis(&[]), TestServer::nats(&[]));
    let bus = Bus::redis(&format!("redis://127.0.0.1:{}", nats.port())).unwrap();
    assert_eq!(refusal(&bus).await, "what answers there is no Redis server");
    let bus = Bus::nats(&format!("tls://127.0.0.1:{}", redis.port())).unwrap();
    assert!(refusal(&bus).await.contains(&redis.port().to_string()));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = free_port();
    for bus in [
        Bus::redis(&format!("redis://:secret@127.0.0.1:{port}")),
        Bus::nats(&format!("nats://secret@127.0.0.1:{port}")),
    ] {
        assert_eq!(refusal(&bus.unwrap()).await, format!("nothing listens on 127.0.0.1:{port}"));
    }
    for bus in
        [Bus::redis("redis://no-such-host.invalid"), Bus::nats("nats://no-such-host.invalid")]
    {
        assert_eq!(refusal(&bus.unwrap()).await, "there is no host named no-such-host.invalid");
    }
}

const TLS_TEST: &str = "backplane::link::tests::tls_trusts_the_authority_of_ssl_cert_file_alone";

/// The variable counts for a whole process, so the test runs itself again with it.
#[tokio::test]
async fn tls_trusts_the_authority_of_ssl_cert_file_alone() {
    if let Ok(urls) = std::env::var("TINA4_TEST_TLS_URLS") {
        let (redis, nats) = urls.split_once(' ').unwrap();
        arrives_in_order(&Bus::redis(redis).unwrap()).await;
        hears_from_the_start(&Bus::nats(nats).unwrap(), true).await;
        hears_from_the_start(&Bus::nats(&nats.replace("tls:", "nats:")).unwrap(), true).await;
        let by_address = redis.replace("localhost", "127.0.0.1");
        assert!(
            refusal(&Bus::redis(&by_address).unwrap()).await.contains("certificate of 127.0.0.1")
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    write_certificate(&certificate, &key);
    let redis = TestServer::redis_tls(&certificate, &key);
    let [cert, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let nats = TestServer::nats(&["--tls", "--tlscert", cert, "--tlskey", key]);
    let nats_url = nats.url().replace("nats:", "tls:");

    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TLS_TEST])
        .env("SSL_CERT_FILE", cert)
        .env("TINA4_TEST_TLS_URLS", format!("{} {nats_url}", redis.url()))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"));

    for bus in [Bus::redis(&redis.url()).unwrap(), Bus::nats(&nats_url).unwrap()] {
        let refusal = refusal(&bus).await;
        assert!(refusal.contains("certificate"), "{refusal}");
    }
}

fn write_certificate(certificate: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
}

/// Passes connections on to a port and can cut them.
struct Proxy {
    port: u16,
    taken: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(near), Ok(far)) = (stream, TcpStream::connect(("127.0.0.1", target)))
                else {
                    return;
                };
                all.lock().unwrap().push(near.try_clone().unwrap());
                for (mut from, mut to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))]
                    .map(|(from, to)| (from.unwrap(), to.unwrap()))
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, taken }
    }

    /// Ends all connections; says how many there were so far.
    fn cut(&self) -> usize {
        let taken = self.taken.lock().unwrap();
        taken.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        taken.len()
    }
}

#[tokio::test]
async fn a_cut_connection_to_nats_ends_the_link_and_is_not_made_again() {
    let server = TestServer::nats(&[]);
    let proxy = Proxy::to(server.port());
    let bus = Bus::nats(&format!("nats://127.0.0.1:{}", proxy.port)).unwrap();
    let (mut sender, mut receiver) = link(&bus).await;
    assert_eq!(proxy.cut(), 1);
    assert_eq!(end_of(&mut receiver).await, socket::CLOSED);
    assert_eq!(end_of_sending(&mut sender).await, socket::CLOSED);
    assert_eq!(proxy.cut(), 1);
}
