//! The link to Redis or Valkey: one connection that publishes and one that is subscribed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;
use redis::aio::{MultiplexedConnection, PubSub, PubSubStream};
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::channel::{BATCH, Channel, LinkError};
use super::socket::{self, Socket};
use crate::config::bus::RedisServer;

/// The longest string of Redis's protocol.
pub(crate) const MAX_PAYLOAD: usize = 512 * 1024 * 1024;

/// Bytes that are read from the socket before someone must take them. The library's own queue of
/// messages has no bound; not reading is what bounds it, and then Redis keeps what is waiting, up to
/// its client-output-buffer-limit.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;

/// Bytes of one message that are waited for.
const MAX_INCOMPLETE: usize = 64 * 1024 * 1024;

/// How the answers of Redis begin.
const FIRST_BYTES: &[u8] = b"+-:$*_#,(!=%~>|";

/// Connects twice and subscribes.
pub(crate) async fn connect(server: &RedisServer) -> Result<(Sender, Receiver), LinkError> {
    let receiver = Receiver::connect(server).await?;
    let sender = Sender::connect(server).await?;
    Ok((sender, receiver))
}

/// The connection that publishes.
pub(crate) struct Sender {
    connection: MultiplexedConnection,
    watch: Arc<Watch>,
    _driver: Driver,
}

impl Sender {
    async fn connect(server: &RedisServer) -> Result<Self, LinkError> {
        let (stream, watch) = open(server).await?;
        // The caller knows how long an answer may take.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&login(server), stream, config).await;
        let (mut connection, driver) = made.map_err(|error| failure(&error, &watch))?;
        let driver = Driver(tokio::spawn(driver));
        // Nothing may have been asked so far: this shows that it is Redis and that it takes us.
        match redis::cmd("PING").exec_async(&mut connection).await {
            // A user who may only publish.
            Err(error) if error.code() == Some("NOPERM") => {}
            Err(error) => return Err(failure(&error, &watch)),
            Ok(()) => {}
        }
        Ok(Self { connection, watch, _driver: driver })
    }

    pub(crate) async fn send(&mut self, messages: &[(Channel, Bytes)]) -> Result<(), LinkError> {
        let mut pipeline = redis::Pipeline::with_capacity(messages.len());
        for (channel, payload) in messages {
            pipeline.cmd("PUBLISH").arg(channel.name()).arg(&payload[..]).ignore();
        }
        let sent = pipeline.exec_async(&mut self.connection).await;
        sent.map_err(|error| failure(&error, &self.watch))
    }
}

/// The connection that is subscribed.
pub(crate) struct Receiver {
    stream: PubSubStream,
    watch: Arc<Watch>,
}

impl Receiver {
    async fn connect(server: &RedisServer) -> Result<Self, LinkError> {
        let (stream, watch) = open(server).await?;
        let failed = |error: RedisError| failure(&error, &watch);
        let mut subscriber = PubSub::new(&login(server), stream).await.map_err(failed)?;
        let names = Channel::ALL.map(Channel::name);
        subscriber.subscribe(&names[..]).await.map_err(failed)?;
        Ok(Self { stream: subscriber.into_on_message(), watch })
    }

    pub(crate) async fn receive(
        &mut self,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> Result<(), LinkError> {
        // Unconstrained: a message that is there is taken, however many were taken before it.
        let received = std::future::poll_fn(|cx| self.poll_receive(cx, into));
        tokio::task::coop::unconstrained(received).await
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> Poll<Result<(), LinkError>> {
        let before = into.len();
        self.watch.taker.register(cx.waker());
        while into.len() - before < BATCH {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(Some(message)) => {
                    let Some(channel) = Channel::of_name(message.get_channel_name().as_bytes())
                    else {
                        continue;
                    };
                    into.push((channel, Bytes::copy_from_slice(message.get_payload_bytes())));
                }
                Poll::Ready(None) if into.len() > before => break,
                Poll::Ready(None) => return Poll::Ready(Err(self.watch.end())),
                Poll::Pending => {
                    if let Err(error) = self.watch.taken(into.len() > before) {
                        return Poll::Ready(Err(error));
                    }
                    if into.len() == before {
                        return Poll::Pending;
                    }
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The task that moves the publishing connection; it ends with the sender.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn open(server: &RedisServer) -> Result<(Watched, Arc<Watch>), LinkError> {
    let socket = socket::open(&server.address).await?;
    let watch = Arc::new(Watch::default());
    Ok((Watched { socket, watch: Arc::clone(&watch) }, watch))
}

fn login(server: &RedisServer) -> RedisConnectionInfo {
    let mut login =
        RedisConnectionInfo::default().set_db(server.database.into()).set_skip_set_lib_name();
    if let Some(user) = &server.user {
        login = login.set_username(user);
    }
    if let Some(password) = &server.password {
        login = login.set_password(password);
    }
    login
}

/// What a failed command tells a person. The texts of the server are not passed on: some quote what
/// they were sent.
fn failure(error: &RedisError, watch: &Watch) -> LinkError {
    if let Some(reason) = watch.reason.get() {
        return LinkError::new(reason.as_str());
    }
    LinkError::new(match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            "the server refused the user or the password".to_owned()
        }
        (_, Some("NOAUTH")) => "the server wants a password, and the URL has none".to_owned(),
        (_, Some("NOPERM")) => {
            let [messages, control] = Channel::ALL.map(Channel::name);
            format!(
                "the server does not let this user publish and subscribe to {messages} and {control}"
            )
        }
        (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => NOT_REDIS.to_owned(),
        (ErrorKind::Io, _) => socket::CLOSED.to_owned(),
        _ if error.detail().is_some_and(|text| text.contains("DB index")) => {
            "the server has no database of that number".to_owned()
        }
        (_, Some(code)) if is_word(code) => format!("the server answered with the error {code}"),
        _ => "the server refused to serve us".to_owned(),
    })
}

fn is_word(code: &str) -> bool {
    code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

const NOT_REDIS: &str = "what answers there is no Redis server";

/// What is known about a connection that a library moves.
#[derive(Default)]
struct Watch {
    /// Something was read.
    heard: AtomicBool,
    /// Bytes that were read since everything was taken.
    backlog: AtomicUsize,
    /// Bytes of the message that is not complete.
    incomplete: AtomicUsize,
    /// The library's task, while the backlog is full.
    reader: AtomicWaker,
    /// Whoever receives: a full backlog may be one message that is not complete, of which only the
    /// socket knows.
    taker: AtomicWaker,
    /// Why the connection ended.
    reason: OnceLock<String>,
}

impl Watch {
    /// Nothing of what was read is left but the beginning of a message: the socket may be read again.
    fn taken(&self, messages: bool) -> Result<(), LinkError> {
        let backlog = self.backlog.swap(0, Ordering::AcqRel);
        // Whoever takes messages is the only one that counts here.
        let before = if messages { 0 } else { self.incomplete.load(Ordering::Relaxed) };
        self.incomplete.store(before + backlog, Ordering::Relaxed);
        if before + backlog > MAX_INCOMPLETE {
            return Err(LinkError::new(format!("a message has more than {MAX_INCOMPLETE} bytes")));
        }
        if backlog >= MAX_BACKLOG {
            self.reader.wake();
        }
        Ok(())
    }

    fn ended(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
    }

    /// The connection is over.
    fn end(&self) -> LinkError {
        LinkError::new(self.reason.get().map_or(NOT_REDIS, String::as_str))
    }
}

/// A socket that is read only as fast as messages are taken, and that remembers why it ended: the
/// library forgets it.
struct Watched {
    socket: Box<dyn Socket>,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, watch } = self.get_mut();
        if watch.backlog.load(Ordering::Acquire) >= MAX_BACKLOG {
            watch.reader.register(cx.waker());
            watch.taker.wake();
            // It may have been taken before the waker was there.
            if watch.backlog.load(Ordering::Acquire) >= MAX_BACKLOG {
                return Poll::Pending;
            }
        }
        let before = buffer.filled().len();
        let result = std::task::ready!(Pin::new(socket).poll_read(cx, buffer));
        let read = &buffer.filled()[before..];
        match &result {
            Err(error) => watch.ended(&socket::ended(error).to_string()),
            Ok(()) if read.is_empty() => watch.ended(socket::CLOSED),
            Ok(())
                if !watch.heard.swap(true, Ordering::Relaxed)
                    && !FIRST_BYTES.contains(&read[0]) =>
            {
                watch.ended(NOT_REDIS);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Ok(()) => {
                watch.backlog.fetch_add(read.len(), Ordering::AcqRel);
            }
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::super::link::test_servers::TestServer;
    use super::*;
    use crate::config::bus::Bus;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn server_at(url: &str) -> RedisServer {
        match Bus::redis(url) {
            Ok(Bus::Redis(server)) => server,
            other => panic!("{other:?}"),
        }
    }

    /// The library's queue grows no further than the bound while nobody receives, and then nothing is
    /// missing.
    #[tokio::test]
    async fn what_nobody_takes_stays_with_redis() {
        let server = TestServer::redis(&["--client-output-buffer-limit", "pubsub", "0", "0", "0"]);
        let (mut sender, mut receiver) = connect(&server_at(&server.url())).await.unwrap();
        const COUNT: usize = 40;
        let large = |number: usize| (Channel::Messages, Bytes::from(vec![number as u8; 1_000_000]));
        for number in 0..COUNT {
            sender.send(&[large(number)]).await.unwrap();
        }
        let backlog = || receiver.watch.backlog.load(Ordering::Relaxed);
        let full = async {
            while backlog() < MAX_BACKLOG {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, full).await.expect("a full backlog");
        // Time in which it would grow.
        for number in 0..20 {
            sender.send(&[large(COUNT + number)]).await.unwrap();
        }
        assert!(backlog() < MAX_BACKLOG + 2_000_000, "{}", backlog());

        let mut into = Vec::new();
        while into.len() < COUNT + 20 {
            tokio::time::timeout(PATIENCE, receiver.receive(&mut into))
                .await
                .expect("all")
                .unwrap();
        }
        let expected: Vec<_> = (0..COUNT + 20).map(large).collect();
        assert!(into == expected);
    }

    /// A subscription that is confirmed and then followed by `after`.
    fn false_redis(after: &'static [u8]) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(&stream).lines();
                    while let Some(Ok(line)) = lines.next() {
                        let _ = match &*line {
                            "PING" => (&stream).write_all(b"+PONG\r\n"),
                            "tina4:ws:ctl" => {
                                let confirmed =
                                    "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n".repeat(2);
                                let _ = (&stream).write_all(confirmed.as_bytes());
                                (&stream).write_all(after)
                            }
                            _ => Ok(()),
                        };
                    }
                });
            }
        });
        url
    }

    async fn end_of(url: &str) -> (Vec<(Channel, Bytes)>, String) {
        let (_sender, mut receiver) = connect(&server_at(url)).await.unwrap();
        let mut into = Vec::new();
        let end = async {
            loop {
                if let Err(error) = receiver.receive(&mut into).await {
                    return error.to_string();
                }
            }
        };
        let end = tokio::time::timeout(PATIENCE, end).await.expect("an end");
        (into, end)
    }

    #[tokio::test]
    async fn garbage_after_a_message_ends_the_link_behind_the_message() {
        let url = false_redis(
            b"*3\r\n$7\r\nmessage\r\n$8\r\ntina4:ws\r\n$2\r\nhi\r\nGET / HTTP/1.1\r\n\r\n",
        );
        let (heard, reason) = end_of(&url).await;
        assert_eq!(heard, [(Channel::Messages, Bytes::from_static(b"hi"))]);
        assert_eq!(reason, NOT_REDIS);
    }

    #[tokio::test]
    async fn a_message_that_never_ends_ends_the_link() {
        let mut endless = b"*3\r\n$7\r\nmessage\r\n$8\r\ntina4:ws\r\n$500000000\r\n".to_vec();
        endless.resize(MAX_INCOMPLETE + 2 * MAX_BACKLOG, b'x');
        let (heard, reason) = end_of(&false_redis(endless.leak())).await;
        assert!(heard.is_empty());
        assert_eq!(reason, format!("a message has more than {MAX_INCOMPLETE} bytes"));
    }
}
