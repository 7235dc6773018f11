//! The link to NATS.

use std::error::Error;
use std::future::{poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, ServerAddr,
    ServerError, Subscriber,
};
use bytes::Bytes;
use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;

use super::channel::{BATCH, Channel, LinkError};
use super::socket;
use crate::config::bus::{Address, NatsLogin, NatsServer};

/// Messages that the library keeps for us. It reads all that the socket has before we run, and drops
/// what is more; the link ends then.
const MAX_WAITING: usize = 65_536;

/// Bytes that it may keep while we wait for something else.
const MAX_BACKLOG: u64 = 64 * 1024 * 1024;

/// How often the backlog is looked at while the server takes nothing.
const BACKLOG_CHECK: Duration = Duration::from_millis(100);

/// How long a server may say nothing before it is asked; after three questions the library closes a
/// socket that nobody uses any more.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long to wait for a server's first words: they come at once, but not from an HTTP server.
const GREETING_TIMEOUT: Duration = Duration::from_secs(4);

/// What the library reads at a time.
const READ_BLOCK: u16 = 65_535;

/// Where the library is sent when it wants to connect again, which is the caller's business. Nothing
/// ever listens on port 0; it fails at once, and the library gives up.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// Connects, subscribes and waits until the server has done it.
pub(crate) async fn connect(server: &NatsServer) -> Result<(Sender, Receiver), LinkError> {
    let state = Arc::new(State::default());
    let addresses = [server_address(&server.address)?, server_address_of(NOWHERE)?];
    let options = options(server, &addresses, &state)?;
    let connected = options.connect(&addresses[..]).await;
    let client = connected.map_err(|error| refusal(&error, server))?;

    let gone = |_| LinkError::new(socket::CLOSED);
    let [messages, control] = Channel::ALL.map(Channel::name);
    let messages = client.subscribe(messages).await.map_err(|_| gone(()))?;
    let control = client.subscribe(control).await.map_err(|_| gone(()))?;
    settle(&client, &state).await?;
    let receiver =
        Receiver { client: client.clone(), messages, control, state: Arc::clone(&state) };
    Ok((Sender { client, state }, receiver))
}

fn options(
    server: &NatsServer,
    addresses: &[ServerAddr; 2],
    state: &Arc<State>,
) -> Result<ConnectOptions, LinkError> {
    let used = AtomicBool::new(false);
    let [first, nowhere] = addresses.clone();
    let events = Arc::clone(state);
    let mut options = ConnectOptions::new()
        .connection_timeout(GREETING_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(MAX_WAITING)
        .read_buffer_capacity(READ_BLOCK)
        .ignore_discovered_servers()
        .max_reconnects(1)
        .reconnect_to_server_callback(move |_, _| {
            let address = if used.swap(true, Ordering::Relaxed) { &nowhere } else { &first };
            ready(Some(ReconnectToServer { addr: address.clone(), delay: Some(Duration::ZERO) }))
        })
        .event_callback(move |event| {
            events.note(&event);
            ready(())
        });
    if matches!(server.address, Address::Tcp { tls: true, .. }) {
        options = options.tls_client_config(socket::tls_config()?);
    }
    Ok(match &server.login {
        None => options,
        Some(NatsLogin::Token(token)) => options.token(token.clone()),
        Some(NatsLogin::User { user, password }) => {
            options.user_and_password(user.clone(), password.clone())
        }
    })
}

/// Waits for the answer to something sent after the subscriptions: a server takes what a connection
/// sends in order.
async fn settle(client: &Client, state: &State) -> Result<(), LinkError> {
    let subject = format!("{PROBE}{:016x}", rand::random::<u64>());
    let gone = || state.failure();
    let mut probe = client.subscribe(subject.clone()).await.map_err(|_| gone())?;
    client.publish(subject, Bytes::new()).await.map_err(|_| gone())?;
    client.flush().await.map_err(|_| gone())?;
    let answered = poll_fn(|cx| {
        state.waker.register(cx.waker());
        match Pin::new(&mut probe).poll_next(cx) {
            Poll::Ready(answer) => Poll::Ready(answer.is_some()),
            // Not to be allowed to do it is an answer too.
            Poll::Pending if state.probe_refused.load(Ordering::Acquire) => Poll::Ready(true),
            Poll::Pending if state.failed.get().is_some() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    });
    if !answered.await {
        return Err(gone());
    }
    // The library tells of an error in a task of its own.
    tokio::task::yield_now().await;
    state.check()
}

/// How the subjects begin that [`settle`] asks on.
const PROBE: &str = "tina4:ws:ready:";

/// The half that publishes.
pub(crate) struct Sender {
    client: Client,
    state: Arc<State>,
}

impl Sender {
    pub(crate) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub(crate) async fn send(&mut self, messages: &[(Channel, Bytes)]) -> Result<(), LinkError> {
        self.state.check()?;
        let mut sending = std::pin::pin!(self.send_all(messages));
        loop {
            match tokio::time::timeout(BACKLOG_CHECK, &mut sending).await {
                Ok(Some(())) => return self.state.check(),
                Ok(None) => return Err(self.state.failure()),
                Err(_) => self.state.check_backlog(&self.client)?,
            }
        }
    }

    async fn send_all(&self, messages: &[(Channel, Bytes)]) -> Option<()> {
        for (channel, payload) in messages {
            self.client.publish(channel.name(), payload.clone()).await.ok()?;
        }
        self.client.flush().await.ok()
    }
}

/// The half that is subscribed.
pub(crate) struct Receiver {
    client: Client,
    messages: Subscriber,
    control: Subscriber,
    state: Arc<State>,
}

impl Receiver {
    pub(crate) async fn receive(
        &mut self,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> Result<(), LinkError> {
        self.state.check()?;
        self.state.check_backlog(&self.client)?;
        // Unconstrained: a message that is there is taken, however many were taken before it.
        tokio::task::coop::unconstrained(poll_fn(|cx| self.poll_receive(cx, into))).await
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> Poll<Result<(), LinkError>> {
        self.state.waker.register(cx.waker());
        let before = into.len();
        let mut ended = false;
        for (subscriber, channel) in
            [(&mut self.control, Channel::Control), (&mut self.messages, Channel::Messages)]
        {
            while into.len() - before < BATCH {
                match Pin::new(&mut *subscriber).poll_next(cx) {
                    Poll::Ready(Some(message)) => {
                        self.state.taken.fetch_add(message.length as u64, Ordering::Relaxed);
                        into.push((channel, message.payload));
                    }
                    Poll::Ready(None) => {
                        ended = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        if into.len() - before < BATCH {
            self.state.taken.store(bytes_read(&self.client), Ordering::Relaxed);
        }
        if into.len() > before {
            Poll::Ready(Ok(()))
        } else if ended {
            Poll::Ready(Err(self.state.failure()))
        } else {
            match self.state.check() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        }
    }
}

/// What the library told about the connection.
#[derive(Default)]
struct State {
    /// Why the link is of no use any more, though the connection may stand.
    failed: OnceLock<String>,
    /// The server does not let us use the subject of [`settle`].
    probe_refused: AtomicBool,
    /// How much of what was read from the socket is known to be taken from the library.
    taken: AtomicU64,
    waker: AtomicWaker,
}

impl State {
    fn note(&self, event: &Event) {
        match event {
            Event::ServerError(ServerError::Other(text)) if text.contains(PROBE) => {
                self.probe_refused.store(true, Ordering::Release);
            }
            Event::ServerError(error) => self.fail(server_error(error)),
            Event::SlowConsumer(_) => {
                self.fail("messages came faster than they were taken".to_owned())
            }
            _ => {}
        }
        self.waker.wake();
    }

    fn fail(&self, reason: String) {
        let _ = self.failed.set(reason);
    }

    fn check(&self) -> Result<(), LinkError> {
        if self.failed.get().is_some() { Err(self.failure()) } else { Ok(()) }
    }

    /// The connection is over.
    fn failure(&self) -> LinkError {
        LinkError::new(self.failed.get().map_or(socket::CLOSED, String::as_str))
    }

    fn check_backlog(&self, client: &Client) -> Result<(), LinkError> {
        if bytes_read(client).saturating_sub(self.taken.load(Ordering::Relaxed)) > MAX_BACKLOG {
            return Err(LinkError::new("messages came faster than they were taken"));
        }
        Ok(())
    }
}

fn bytes_read(client: &Client) -> u64 {
    client.statistics().in_bytes.load(Ordering::Relaxed)
}

fn server_error(error: &ServerError) -> String {
    match error {
        ServerError::AuthorizationViolation => REFUSED.to_owned(),
        ServerError::SlowConsumer(_) => "the server found us too slow".to_owned(),
        ServerError::Other(text) => {
            let text = text.to_ascii_lowercase();
            let channel = Channel::ALL
                .into_iter()
                .find(|channel| text.contains(&format!("\"{}\"", channel.name())));
            match channel {
                Some(channel) if text.contains("publish") => {
                    format!("the server does not let us publish to {}", channel.name())
                }
                Some(channel) => {
                    format!("the server does not let us subscribe to {}", channel.name())
                }
                None if text.contains("authori") || text.contains("authenti") => REFUSED.to_owned(),
                None if text.contains("maximum connections") => {
                    "the server has as many connections as it allows".to_owned()
                }
                None if text.contains("payload") => {
                    "a message is larger than the server takes".to_owned()
                }
                None if text.contains("stale") => "the server lost patience with us".to_owned(),
                None => "the server ended with an error".to_owned(),
            }
        }
    }
}

const REFUSED: &str = "the server refused the user, the password or the token";

/// Why a connection was not made.
fn refusal(error: &ConnectError, server: &NatsServer) -> LinkError {
    let Address::Tcp { host, .. } = &server.address else {
        return LinkError::new("NATS has no Unix sockets");
    };
    // What the library knows only as "IO error" has its reason below.
    let cause = error.source();
    if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<ServerError>())
        && !matches!(error, ServerError::AuthorizationViolation)
    {
        return LinkError::new(server_error(error));
    }
    if let (ConnectErrorKind::Io, Some(cause)) =
        (error.kind(), cause.and_then(|cause| cause.downcast_ref::<io::Error>()))
    {
        let is_tls = cause.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>());
        return match cause.kind() {
            _ if is_tls => socket::tls_failure(host, cause),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                LinkError::new(not_nats(&server.address))
            }
            _ => socket::unreachable(&server.address, cause),
        };
    }
    LinkError::new(match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            match server.login {
                None => "the server wants a user or a token, and the URL has none".to_owned(),
                Some(_) => REFUSED.to_owned(),
            }
        }
        ConnectErrorKind::Dns => format!("there is no host named {host}"),
        ConnectErrorKind::Tls => format!("TLS with {host} is not possible"),
        ConnectErrorKind::TimedOut => {
            format!("{} does not answer as a NATS server does", server.address)
        }
        _ => not_nats(&server.address),
    })
}

fn not_nats(address: &Address) -> String {
    format!("what answers on {address} is no NATS server")
}

fn server_address(address: &Address) -> Result<ServerAddr, LinkError> {
    let tls = matches!(address, Address::Tcp { tls: true, .. });
    server_address_of(&format!("{}://{address}", if tls { "tls" } else { "nats" }))
}

fn server_address_of(url: &str) -> Result<ServerAddr, LinkError> {
    url.parse().map_err(|_| LinkError::new("its address is none"))
}
