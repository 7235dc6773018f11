//! One WebSocket. What is ready together goes out in one write: frames are fed, and flushed when
//! there is nothing more to feed.

use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::room::Room;

pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

const MAX_BATCH: usize = 128;

pub(crate) async fn echo(mut socket: Socket) {
    while let Some(Ok(mut message)) = socket.next().await {
        loop {
            if is_data(&message) && socket.feed(message).await.is_err() {
                return;
            }
            match socket.next().now_or_never() {
                Some(Some(Ok(next))) => message = next,
                Some(_) => return end(socket).await,
                None => break,
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
    end(socket).await;
}

pub(crate) async fn join(socket: Socket, room: &Room) {
    let (mut sink, mut stream) = socket.split();
    let (number, mut messages) = room.enter();
    let write = async {
        sink.send(Message::text("ready")).await?;
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while messages.recv_many(&mut batch, MAX_BATCH).await > 0 {
            for message in batch.drain(..) {
                sink.feed(message).await?;
            }
            sink.flush().await?;
        }
        Ok::<_, Error>(())
    };
    let read = async {
        while let Some(Ok(message)) = stream.next().await {
            if is_data(&message) {
                room.send(&message);
            }
        }
    };
    tokio::select! {
        _ = write => {}
        () = read => {}
    }
    room.leave(number);
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

/// The answer to a close frame is out before the stream ends.
async fn end(mut socket: Socket) {
    let _ = socket.close(None).await;
}
