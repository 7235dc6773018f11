//! The relay itself.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot};

use super::{GREETING, HEADER, Parsed, make_room, parse};
use crate::backplane::channel::Channel;

/// Bytes that wait for one link. One that is over is closed: it connects again and asks for what it
/// missed.
const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// Pieces of one write.
const SLICES: usize = 64;

/// How long to wait when the process has no file descriptor left for another link.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Passes the publishes of one machine's workers on to each other, on a thread of its own. Dropping
/// it closes all links and removes the socket.
#[derive(Debug)]
pub struct Relay {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on a socket at `path`. Who may write into its folder may open it.
    ///
    /// # Errors
    ///
    /// There is something at `path`, or a socket cannot be made there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = StdUnixListener::bind(path)?;
        let started = start(listener);
        if started.is_err() {
            let _ = std::fs::remove_file(path);
        }
        let (stop, thread) = started?;
        Ok(Self { path: path.to_owned(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn start(listener: StdUnixListener) -> io::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        UnixListener::from_std(listener)?
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("tina4-relay".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(&listener) => {}
                _ = stopped => {}
            }
        });
    })?;
    Ok((stop, thread))
}

async fn accept(listener: &UnixListener) {
    let links = Links::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let link = links.add(stream);
                tokio::spawn(serve(links.clone(), link));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// All links, by a cheap handle.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<Arc<Link>>>>);

impl Links {
    fn add(&self, stream: UnixStream) -> Arc<Link> {
        let link = Arc::new(Link { stream, queue: Mutex::default(), changed: Notify::new() });
        // First in the queue, so that the link hears it before anything that is passed on.
        link.push(Bytes::from_static(&GREETING));
        self.all().push(Arc::clone(&link));
        link
    }

    fn remove(&self, link: &Arc<Link>) {
        self.all().retain(|other| !Arc::ptr_eq(other, link));
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes whole frames on. `control` are those of them that the sender gets too.
    fn pass_on(&self, from: &Arc<Link>, frames: &Bytes, control: &[Bytes]) {
        for link in self.all().iter() {
            if Arc::ptr_eq(link, from) {
                control.iter().for_each(|frame| link.push(frame.clone()));
            } else {
                link.push(frames.clone());
            }
        }
    }
}

/// One worker's connection.
struct Link {
    stream: UnixStream,
    queue: Mutex<Queue>,
    /// The queue is not empty any more, or over.
    changed: Notify,
}

/// What the socket did not take at once.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    over: bool,
}

impl Link {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the socket if it takes it, else to the queue.
    fn push(&self, mut frames: Bytes) {
        let mut queue = self.queue();
        if queue.over {
            return;
        }
        if queue.frames.is_empty() {
            // An error is seen by whoever serves the link.
            let written = self.stream.try_write(&frames).unwrap_or(0);
            frames.advance(written);
            if frames.is_empty() {
                return;
            }
            self.changed.notify_one();
        } else if queue.bytes + frames.len() > MAX_QUEUED {
            queue.over = true;
            queue.frames.clear();
            self.changed.notify_one();
            return;
        }
        queue.bytes += frames.len();
        queue.frames.push_back(frames);
    }

    /// Writes what the socket takes of the queue.
    fn flush(&self) -> io::Result<()> {
        let mut queue = self.queue();
        while !queue.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, frames) in slices.iter_mut().zip(&queue.frames) {
                *slice = IoSlice::new(frames);
                count += 1;
            }
            let mut written = match self.stream.try_write_vectored(&slices[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            queue.bytes -= written;
            while let Some(first) = queue.frames.front_mut() {
                if written < first.len() {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                queue.frames.pop_front();
            }
        }
        Ok(())
    }
}

/// Serves a link until it ends.
async fn serve(links: Links, link: Arc<Link>) {
    let _ = pass(&links, &link).await;
    links.remove(&link);
}

/// Reads frames and passes them on. An error means that the link is over.
async fn pass(links: &Links, link: &Arc<Link>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut control = Vec::new();
    let mut room = HEADER;
    loop {
        let interest = {
            let queue = link.queue();
            if queue.over {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            if queue.frames.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            }
        };
        let ready = tokio::select! {
            ready = link.stream.ready(interest) => ready?,
            () = link.changed.notified() => continue,
        };
        if ready.is_writable() {
            link.flush()?;
        }
        if !ready.is_readable() {
            continue;
        }
        make_room(&mut buffer, room);
        match link.stream.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut whole = 0;
        let mut control_ranges = Vec::new();
        room = loop {
            match parse(&buffer[whole..]) {
                Parsed::Frame(channel, length) => {
                    let end = whole + HEADER + length;
                    if channel == Channel::Control {
                        control_ranges.push(whole..end);
                    }
                    whole = end;
                }
                Parsed::Incomplete(bytes) => break bytes,
                Parsed::Garbage => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        if whole > 0 {
            let frames = buffer.split_to(whole).freeze();
            control.extend(control_ranges.into_iter().map(|range| frames.slice(range)));
            links.pass_on(link, &frames, &control);
            control.clear();
        }
    }
}
