//! The bench's work without JavaScript: hyper and tokio-tungstenite on one thread, as the other
//! servers of the bench have one thread. Prints `port N`; ends with its standard input.

mod room;
mod socket;

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::room::Room;

/// Bytes that each connection keeps: the crate's 128 KiB are for few of them.
const READ_BUFFER: usize = 8 * 1024;

type Answer = Response<Full<Bytes>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("port {}", listener.local_addr()?.port());
    let room = Room::default();
    let mut input = tokio::io::stdin();
    tokio::select! {
        ended = input.read_u8() => ended.map(drop).or(Ok(())),
        failed = accept(listener, room) => failed,
    }
}

async fn accept(listener: TcpListener, room: Room) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, room.clone()));
    }
}

async fn serve(stream: TcpStream, room: Room) {
    let service = service_fn(move |request| {
        let answer = answer(request, &room);
        async { Ok::<_, Infallible>(answer) }
    });
    let served =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    // A client that goes away is no news to a bench.
    let _ = served.await;
}

fn answer(request: Request<Incoming>, room: &Room) -> Answer {
    match request.uri().path() {
        "/echo" => upgrade(request, None),
        "/room" => upgrade(request, Some(room.clone())),
        "/json" => json(),
        path => match path.strip_prefix("/users/") {
            Some(id) => body("text/plain", Bytes::copy_from_slice(id.as_bytes())),
            None => status(StatusCode::NOT_FOUND),
        },
    }
}

#[derive(Serialize)]
struct Greeting {
    message: &'static str,
}

fn json() -> Answer {
    match serde_json::to_vec(&Greeting { message: "Hello, World!" }) {
        Ok(text) => body("application/json", text.into()),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn body(content_type: &'static str, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn upgrade(mut request: Request<Incoming>, room: Option<Room>) -> Answer {
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let accept = key.and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok());
    let Some(accept) = accept else { return status(StatusCode::BAD_REQUEST) };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        // The request is not needed any more, and its connection lasts.
        drop(request);
        let stream = TokioIo::new(upgraded);
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        match room {
            None => socket::echo(socket).await,
            Some(room) => socket::join(socket, &room).await,
        }
    });
    let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}
