//! What the relay does with links that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::backplane::channel::LinkError;

const PATIENCE: Duration = Duration::from_secs(30);

fn relay() -> (TempDir, Relay, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay");
    let relay = Relay::bind(&path).unwrap();
    (folder, relay, path)
}

/// A link that speaks bytes.
fn raw(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; HEADER];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, GREETING);
    stream
}

fn frame(channel: Channel, payload: &[u8]) -> Vec<u8> {
    [&header(channel, payload)[..], payload].concat()
}

async fn receive(receiver: &mut Receiver, count: usize) -> Vec<(Channel, Bytes)> {
    let mut into = Vec::new();
    while into.len() < count {
        let received = tokio::time::timeout(PATIENCE, receiver.receive(&mut into));
        received.await.expect("a message in time").expect("a message");
    }
    assert_eq!(into.len(), count);
    into
}

/// Whether the relay closed the link.
fn is_closed(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_))
}

#[tokio::test]
async fn frames_arrive_whole_however_they_are_cut() {
    let (_folder, _relay, path) = relay();
    let mut writer = raw(&path);
    let (_sender, mut receiver) = connect(&path).await.unwrap();
    let sent: Vec<_> =
        [(Channel::Messages, &b"one"[..]), (Channel::Control, b""), (Channel::Messages, b"three")]
            .map(|(channel, payload)| (channel, Bytes::from_static(payload)))
            .into();
    let bytes: Vec<u8> =
        sent.iter().flat_map(|(channel, payload)| frame(*channel, payload)).collect();
    for size in 1..=bytes.len() {
        for piece in bytes.chunks(size) {
            writer.write_all(piece).unwrap();
            // So that the relay reads them one by one.
            tokio::task::yield_now().await;
        }
        assert_eq!(receive(&mut receiver, sent.len()).await, sent, "pieces of {size}");
    }
}

#[tokio::test]
async fn a_link_that_sends_garbage_is_closed_alone() {
    let (_folder, _relay, path) = relay();
    let (mut sender, _receiver) = connect(&path).await.unwrap();
    let (_sender, mut receiver) = connect(&path).await.unwrap();
    let too_long = [&(MAX_PAYLOAD as u32 + 1).to_be_bytes()[..], &[0]].concat();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 1, 7, 0], &too_long] {
        let mut stranger = raw(&path);
        stranger.write_all(garbage).unwrap();
        assert!(is_closed(&mut stranger), "{garbage:?}");
    }
    // One that leaves in the middle of a frame.
    raw(&path).write_all(&frame(Channel::Messages, b"unfinished")[..8]).unwrap();
    sender.send(&[(Channel::Messages, Bytes::from_static(b"x"))]).await.unwrap();
    assert_eq!(receive(&mut receiver, 1).await, [(Channel::Messages, Bytes::from_static(b"x"))]);
}

/// A link that does not read is closed when too much waits for it; who reads gets everything.
#[tokio::test]
async fn a_link_that_does_not_read_is_closed_alone() {
    const COUNT: usize = 100;
    let (_folder, _relay, path) = relay();
    let mut idle = raw(&path);
    let (mut sender, _ours) = connect(&path).await.unwrap();
    let (_theirs, mut receiver) = connect(&path).await.unwrap();
    let large = Bytes::from(vec![1; 1_000_000]);
    for _ in 0..COUNT {
        // In turns: a machine without time to spare would make a slow reader of this one too.
        sender.send(&[(Channel::Messages, large.clone())]).await.unwrap();
        assert!(receive(&mut receiver, 1).await[0].1 == large);
    }
    let mut got = Vec::new();
    let _ = idle.read_to_end(&mut got);
    assert!(got.len() < 10_000_000, "{}", got.len());
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let (_folder, _relay, path) = relay();
    let (mut sender, _receiver) = connect(&path).await.unwrap();
    let refused: Result<(), LinkError> =
        sender.send(&[(Channel::Messages, Bytes::from(vec![0; MAX_PAYLOAD + 1]))]).await;
    assert!(refused.is_err());
}

#[test]
fn a_path_that_is_taken_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "mine").unwrap();
    assert!(Relay::bind(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
