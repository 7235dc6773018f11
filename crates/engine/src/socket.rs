//! The socket of an upgraded connection, the two ways of writing to it, and how the system is to treat
//! a socket.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::config::Config;
use crate::outbox::Sink;
use crate::shared::{Load, Place};

/// A connection's socket, counted until it closes.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    /// Held, not read.
    pub(crate) _load: Load,
    /// Held, not read.
    pub(crate) _place: Place,
}

/// A socket that tokio watches: writing nothing when it is known to be full.
pub(crate) struct TcpSink<'a>(pub(crate) &'a mut TcpStream);

impl Sink for TcpSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }
}

/// A socket for the last that is written to it: [`end`] sends that, with the end of the stream in one
/// segment, which is a packet and a wake of the peer less. Without an end the system sends it after
/// 200 ms, or when the peer acknowledges something.
pub(crate) struct LastSink<'a>(pub(crate) &'a mut TcpStream);

#[cfg(target_os = "linux")]
const LAST: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const LAST: i32 = 0;

impl Sink for LastSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let socket = SockRef::from(&*self.0);
        self.0.try_io(Interest::WRITABLE, || socket.send_with_flags(bytes, LAST))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = SockRef::from(&*self.0);
        self.0.try_io(Interest::WRITABLE, || socket.send_vectored_with_flags(slices, LAST))
    }
}

/// Ends the stream behind what was written. Only closed, a socket of which not all is read would throw
/// away what a [`LastSink`] was given.
pub(crate) fn end(stream: &TcpStream) {
    // It fails on a socket that is gone already.
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
}

/// A socket of which tokio knows only that it was full.
pub(crate) struct FullSink<'a>(pub(crate) SockRef<'a>);

impl Sink for FullSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored(slices)
    }
}

/// Small messages go out at once, and the kernel gives up on a client that acknowledges nothing.
pub(crate) fn prepare(socket: SockRef<'_>, config: &Config) {
    // Either may fail on a socket that is gone already, which the next read will say.
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(config.send_timeout));
}

/// The same for a socket that has become a WebSocket, whose peer answers pings.
pub(crate) fn prepare_websocket(socket: SockRef<'_>, config: &Config) {
    #[cfg(target_os = "linux")]
    {
        let pings = !config.ping_interval.is_zero();
        let timeout = pings.then(|| config.ping_interval + config.ping_timeout);
        if timeout != Some(config.send_timeout) {
            let _ = socket.set_tcp_user_timeout(timeout);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, config);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;

    /// A socket of ours, and its peer, which does not wait.
    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let peer = std::net::TcpStream::connect(address).expect("listening");
        let (stream, _) = listener.accept().await.expect("a peer");
        prepare(SockRef::from(&stream), &Config::default());
        stream.writable().await.expect("open");
        peer.set_nonblocking(true).expect("open");
        (stream, peer)
    }

    #[tokio::test]
    async fn the_last_that_is_written_goes_out_with_the_end() {
        let (mut stream, mut peer) = pair().await;
        assert_eq!(LastSink(&mut stream).write(b"last").expect("open"), 4);
        let slices = [IoSlice::new(b" wo"), IoSlice::new(b"rds")];
        assert_eq!(LastSink(&mut stream).write_vectored(&slices).expect("open"), 6);
        let mut bytes = [0; 16];
        let early = peer.read(&mut bytes).expect_err("nothing yet");
        assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
        end(&stream);
        assert_eq!(peer.read(&mut bytes).expect("open"), 10);
        assert_eq!(&bytes[..10], b"last words");
        assert_eq!(peer.read(&mut bytes).expect("open"), 0, "the end came with it");
    }

    #[tokio::test]
    async fn the_last_reaches_a_peer_that_has_sent_what_nobody_read() {
        let (mut stream, mut peer) = pair().await;
        peer.write_all(b"in vain").expect("room");
        LastSink(&mut stream).write(b"last words").expect("open");
        end(&stream);
        drop(stream);
        let mut bytes = [0; 16];
        assert_eq!(peer.read(&mut bytes).expect("it came before the reset"), 10);
    }

    #[test]
    fn a_socket_is_prepared_as_its_listener_was() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let config = Config::default();
        prepare(SockRef::from(&listener), &config);
        let address = listener.local_addr().expect("bound");
        let _peer = std::net::TcpStream::connect(address).expect("listening");
        let (accepted, _) = listener.accept().expect("a peer");
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().expect("open"));
        assert_eq!(accepted.tcp_user_timeout().expect("open"), Some(config.send_timeout));
    }

    #[test]
    fn a_websocket_has_the_time_of_its_pings() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let timeout = |seconds| {
            let ping_interval = Duration::from_secs(seconds);
            let config = Config { ping_interval, ..Config::default() };
            prepare(SockRef::from(&listener), &config);
            prepare_websocket(SockRef::from(&listener), &config);
            SockRef::from(&listener).tcp_user_timeout().expect("open")
        };
        assert_eq!(timeout(7), Some(Duration::from_secs(7) + Config::default().ping_timeout));
        assert_eq!(timeout(0), None);
    }
}
