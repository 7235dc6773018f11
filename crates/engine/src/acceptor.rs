//! The acceptor: one shard takes what comes to the listener.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::connection::Connection;
use crate::context::Context;
use crate::event::LogLevel;
use crate::socket::prepare;

/// Pause of the acceptor when no socket can be opened, for want of file descriptors above all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Whether a socket has what was set for its listener, so that it need not be set for each.
const INHERITED: bool = cfg!(target_os = "linux");
/// The acceptor complains at most this often.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts sockets until the stage changes, and closes the listener.
pub(crate) async fn accept(
    context: &Context<Connection>,
    listener: std::net::TcpListener,
    place: impl Fn(TcpStream, SocketAddr),
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            context.log(LogLevel::Error, format!("the listener failed: {error}"));
            return;
        }
    };
    if INHERITED {
        prepare(SockRef::from(&listener), context.config());
    }
    let mut stage = context.stage.subscribe();
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            // The listener is closed by leaving.
            _ = stage.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if !INHERITED {
                    prepare(SockRef::from(&stream), context.config());
                }
                place(stream, peer);
            }
            Err(error) => {
                if complained.is_none_or(|last| last.elapsed() >= ACCEPT_LOG_INTERVAL) {
                    complained = Some(Instant::now());
                    let message = format!("no socket could be accepted: {error}");
                    context.log(LogLevel::Warning, message);
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
