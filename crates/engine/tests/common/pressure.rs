//! Peers that send too much or read too little, and what to check of what they got.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::Handle;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Frame, Raw, Seen, Server, frame, opcode, within};

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// One read of a shard plus what its meter may not have said yet.
pub(crate) const SLACK: usize = 128 * KIB;

/// Writes numbered messages of `size` bytes for as long as the server takes them.
pub(crate) struct Flood {
    pub(crate) written: Arc<AtomicUsize>,
    pub(crate) task: JoinHandle<TcpStream>,
}

impl Flood {
    pub(crate) fn start(raw: Raw, messages: usize, size: usize) -> Self {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let mut stream = raw.stream;
        let task = tokio::spawn(async move {
            for index in 0..messages {
                let bytes = frame(true, opcode::TEXT, numbered(index, size).as_bytes());
                stream.write_all(&bytes).await.expect("open");
                counter.fetch_add(bytes.len(), Ordering::Relaxed);
            }
            stream
        });
        Self { written, task }
    }

    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until the server takes no more: until nothing was written for a while.
    pub(crate) async fn stalls(&self) -> usize {
        let still = Duration::from_millis(200);
        within("the flood to be stopped", async {
            loop {
                let before = self.written();
                tokio::time::sleep(still).await;
                if self.written() == before && before > 0 {
                    return before;
                }
            }
        })
        .await
    }
}

pub(crate) fn numbered(index: usize, size: usize) -> String {
    format!("{index:<size$}")
}

fn texts(seen: &[Seen], handle: Handle) -> Vec<&str> {
    seen.iter()
        .filter_map(|one| match one {
            Seen::Text(which, text) if *which == handle => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// Waits for `count` messages and checks that none is missing and all are in order.
pub(crate) async fn all_in_order(server: &Server, handle: Handle, count: usize, size: usize) {
    let what = format!("{count} messages");
    server.until(&what, |seen| (texts(seen, handle).len() >= count).then_some(())).await;
    let seen = server.seen();
    for (index, text) in texts(&seen, handle).into_iter().enumerate() {
        assert_eq!(text, numbered(index, size));
    }
}

/// Sends numbered messages to `handle` until its connection is closed with 1013; returns how many
/// that took and how many the log says were dropped.
pub(crate) async fn overfill(server: &Server, handle: Handle, size: usize) -> (usize, usize) {
    for sent in 0..64 * MIB / size {
        let dropped = server.seen().iter().find_map(|one| match one {
            Seen::Log(_, line) => dropped_by(line),
            _ => None,
        });
        if let Some(dropped) = dropped {
            return (sent, dropped);
        }
        let text = numbered(sent, size);
        server.with(|engine| engine.publisher().send(handle, &text.as_str()));
        // The shard writes while this thread waits its turn.
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    panic!("64 MiB were queued for a peer that does not read");
}

/// What a log line says of the frames a slow consumer missed.
fn dropped_by(line: &str) -> Option<usize> {
    let (_, why) = line.split_once("closed with 1013, ")?;
    let count = why.strip_suffix(" frames dropped")?.rsplit(' ').next()?;
    Some(count.parse().expect("a number"))
}

/// Reads the whole frames up to and with the close frame.
pub(crate) async fn frames_until_close(raw: &mut Raw) -> (Vec<Frame>, Frame) {
    let mut data = Vec::new();
    loop {
        let frame = raw.frame().await;
        match frame.opcode {
            opcode::CLOSE => return (data, frame),
            _ => data.push(frame),
        }
    }
}

/// Whether these are the first messages, whole and in order.
pub(crate) fn are_whole(data: &[Frame], size: usize) -> bool {
    data.iter().enumerate().all(|(index, frame)| frame.payload == numbered(index, size).as_bytes())
}
