//! The other end of a socket: a WebSocket client, and one that speaks in bytes.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::Response;
use super::within;

/// A WebSocket client that keeps the protocol.
pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let url = format!("ws://{address}{path}");
        let opening = tokio_tungstenite::client_async(url, stream);
        let (stream, _) = within("the upgrade", opening).await.expect("upgraded");
        Self(stream)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        let message = Message::text(text);
        within("a write", self.0.send(message)).await.expect("sent");
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        let message = Message::binary(bytes.to_vec());
        within("a write", self.0.send(message)).await.expect("sent");
    }

    /// The next data message; pings are answered on the way.
    pub(crate) async fn message(&mut self) -> Message {
        loop {
            let message = within("a message", self.0.next()).await;
            match message.expect("open").expect("sound") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The text of the next message, which must be one.
    pub(crate) async fn text(&mut self) -> String {
        match self.message().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("wanted text, got {other:?}"),
        }
    }

    /// The close frame, which must come next.
    pub(crate) async fn close_frame(&mut self) -> Option<CloseFrame> {
        match self.message().await {
            Message::Close(frame) => frame,
            other => panic!("wanted a close frame, got {other:?}"),
        }
    }

    /// Closes and waits until the server has hung up.
    pub(crate) async fn close(mut self) {
        match within("the close frame", self.0.close(None)).await {
            Ok(()) | Err(Error::ConnectionClosed) => {}
            Err(error) => panic!("closing failed: {error}"),
        }
        while let Some(Ok(_)) = within("the end", self.0.next()).await {}
    }
}

/// Opcodes of RFC 6455 section 5.2.
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// A masked frame, as a client writes it.
pub(crate) fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x9A, 0x01, 0xF7, 0x3C];
    let mut out = vec![if fin { 0x80 } else { 0 } | opcode];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

/// An upgrade request with every header it needs.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A frame the server wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Code and reason of a close frame.
    pub(crate) fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, opcode::CLOSE, "{self:?}");
        let code = u16::from_be_bytes([self.payload[0], self.payload[1]]);
        (code, text_of(&self.payload[2..]))
    }
}

pub(crate) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A socket whose bytes the test writes and reads itself.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        Self { stream, buffer: Vec::new() }
    }

    /// A socket that takes few bytes before the server's writes must wait.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("set");
        Self { stream: socket.connect(address).await.expect("it listens"), buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let writing = self.stream.write_all(bytes.as_ref());
        within("a write", writing).await.expect("written");
    }

    pub(crate) async fn upgrade(&mut self, path: &str) {
        self.write(upgrade_request(path)).await;
        let response = self.response().await;
        assert_eq!(response.status, 101, "{response:?}");
    }

    /// Reads some more; false at the end of the stream. A reset counts as the end.
    pub(crate) async fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = within("bytes or the end", self.stream.read(&mut bytes)).await;
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..count]);
        count > 0
    }

    /// Reads to the end of the stream; returns everything that was not taken before.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Takes a frame out of what was read already.
    pub(crate) fn buffered_frame(&mut self) -> Option<Frame> {
        let (reserved, frame) = self.buffered_frame_with_bits()?;
        assert_eq!(reserved, 0, "no extension was agreed");
        Some(frame)
    }

    /// The same, with its reserved bits.
    pub(crate) fn buffered_frame_with_bits(&mut self) -> Option<(u8, Frame)> {
        let [first, second, ..] = *self.buffer.as_slice() else {
            return None;
        };
        assert!(first & 0x80 != 0, "the server never fragments");
        assert!(second & 0x80 == 0, "the server never masks");
        let (length, at) = match second {
            126 => {
                let bytes = self.buffer[2..].first_chunk::<2>()?;
                (u16::from_be_bytes(*bytes) as usize, 4)
            }
            127 => {
                let bytes = self.buffer[2..].first_chunk::<8>()?;
                (u64::from_be_bytes(*bytes) as usize, 10)
            }
            short => (short as usize, 2),
        };
        let payload = self.buffer.get(at..at + length)?.to_vec();
        self.buffer.drain(..at + length);
        Some((first & 0x70, Frame { opcode: first & 0x0F, payload }))
    }

    /// The next frame; `None` at the end of the stream, which must not be inside one.
    pub(crate) async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.buffered_frame() {
                return Some(frame);
            }
            if !self.more().await {
                assert!(self.buffer.is_empty(), "the stream ended inside a frame");
                return None;
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        self.next_frame().await.expect("a frame")
    }

    /// The next response, whose body ends where its headers say.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// The next response to a request with `method`: one to HEAD has no body.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        loop {
            if let Some((response, used)) = Response::parse(&self.buffer, method, false) {
                self.buffer.drain(..used);
                return response;
            }
            if !self.more().await {
                let ended = Response::parse(&self.buffer, method, true);
                let (response, used) = ended.unwrap_or_else(|| {
                    let got = String::from_utf8_lossy(&self.buffer);
                    panic!("the stream ended without a response: {got:?}")
                });
                self.buffer.drain(..used);
                return response;
            }
        }
    }

    /// Hangs up with a reset: what the server sent and nobody read is thrown away.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("set");
    }
}
