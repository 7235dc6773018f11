//! The one path from the engine to JavaScript: events become numbers in a typed array, which cost
//! next to nothing, and one value each.

use engine::driving::Turn;
use engine::event::{Event, EventBatch, LogLevel, Received, Request};
use engine::message::Kind;
use engine::{Engine, Handle};
use napi::{Error, sys};

use crate::convert::checked;
use crate::watcher::Watchers;

/// Numbers an event takes in the typed array: kind, handle, place and one of its own.
pub(crate) const WORDS: usize = 4;
const OPEN: f64 = 1.0;
const MESSAGE: f64 = 2.0;
const CLOSE: f64 = 3.0;
const REQUEST: f64 = 4.0;
const DRAINED: f64 = 5.0;
const STOPPED: f64 = 6.0;
const LOG: f64 = 7.0;
const BACKPLANE: f64 = 8.0;
const COUNTED: f64 = 9.0;

/// An engine and what JavaScript has been given and not yet acknowledged.
pub(crate) struct Bridge {
    /// Gone before the engine, whose descriptors they watch.
    pub(crate) watchers: Watchers,
    pub(crate) engine: Engine,
    /// Those of the last drain, until the next commit.
    batches: Vec<EventBatch>,
    /// By event of the last drain: the connection and size of a message.
    given: Vec<Option<(Handle, usize)>>,
    /// The last count that was asked for.
    last_count: u64,
}

impl Bridge {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            watchers: Watchers::default(),
            engine,
            batches: Vec::new(),
            given: Vec::new(),
            last_count: 0,
        }
    }

    /// Acknowledges the last drain, and commits.
    pub(crate) fn commit(&mut self) {
        let publisher = self.engine.publisher();
        for (handle, bytes) in self.given.drain(..).flatten() {
            publisher.acknowledge(handle, bytes);
        }
        self.give_back();
        if self.engine.events().is_empty() {
            self.engine.publisher().commit();
        } else {
            self.engine.publisher().hand_over();
        }
    }

    /// The same at the end of a batch of handlers. True if events wait: another drain must follow, as
    /// nobody rings for them.
    pub(crate) fn finish(&mut self) -> bool {
        self.commit();
        let Self { engine, watchers, .. } = self;
        engine.driving().batch_ended(|shard| watchers.start(shard));
        engine.events().finish()
    }

    /// Is ready to watch what the engine wants watched.
    pub(crate) fn watch(&mut self) {
        let shards = self.engine.shards();
        let driving = self.engine.driving();
        self.watchers.open((0..shards).map(|shard| driving.descriptor(shard)));
    }

    /// Gives a shard a turn on this thread.
    pub(crate) fn turn(&mut self, shard: usize) -> Turn {
        let turn = self.engine.driving().turn(shard);
        if turn == Turn::Elsewhere {
            self.watchers.stop(shard);
        }
        turn
    }

    fn give_back(&mut self) {
        if !self.batches.is_empty() {
            self.engine.events().give_back(&mut self.batches);
        }
    }

    /// The message that event `index` of the last drain was, until the commit.
    fn received(batches: &[EventBatch], mut index: usize) -> Option<Received<'_>> {
        for batch in batches {
            if index < batch.events.len() {
                return batch.message(index);
            }
            index -= batch.events.len();
        }
        None
    }

    /// Sends event `index` of the last drain to one connection; false if it is no message any more.
    pub(crate) fn forward(&mut self, handle: Handle, index: usize) -> bool {
        let Some(message) = Self::received(&self.batches, index) else { return false };
        self.engine.publisher().send(handle, &message);
        true
    }

    /// Sends it to everyone on the topic, `exclude` excepted.
    pub(crate) fn forward_all(
        &mut self,
        topic: u64,
        index: usize,
        exclude: Option<Handle>,
    ) -> bool {
        let Some(message) = Self::received(&self.batches, index) else { return false };
        self.engine.publisher().broadcast(topic, &message, exclude);
        true
    }

    /// Asks all nodes; returns what the answer will be known by.
    pub(crate) fn count(&mut self, path: &str) -> u64 {
        self.last_count += 1;
        self.engine.count_all(self.last_count, path);
        self.last_count
    }

    pub(crate) fn hold(&mut self, index: usize) {
        if let Some(given) = self.given.get_mut(index) {
            *given = None;
        }
    }

    pub(crate) fn render(&self, name: &str, json: &str) -> Result<String, String> {
        let data = serde_json::from_str(json)
            .map_err(|error| format!("the data of template {name:?} is not JSON: {error}"))?;
        self.engine.templates().render(name, data).map_err(|error| error.to_string())
    }

    /// Writes waiting events: their numbers into `words`, their values, which live as long as the native
    /// call, into `values`.
    pub(crate) fn drain(
        &mut self,
        env: sys::napi_env,
        words: &mut [f64],
        values: &mut Vec<sys::napi_value>,
    ) -> napi::Result<()> {
        self.give_back();
        let mut batches = std::mem::take(&mut self.batches);
        self.engine.take(&mut batches);
        let shards = self.engine.shards();
        let mut writer = Writer { env, words, values, shards };
        for batch in &batches {
            for event in &batch.events {
                writer.event(event, &batch.buffer)?;
                self.given.push(match event {
                    Event::Message { handle, payload, .. } => Some((*handle, payload.len())),
                    _ => None,
                });
            }
        }
        self.batches = batches;
        Ok(())
    }
}

/// Appends to the two arrays.
struct Writer<'a> {
    env: sys::napi_env,
    words: &'a mut [f64],
    /// One for each event written.
    values: &'a mut Vec<sys::napi_value>,
    shards: usize,
}

impl Writer<'_> {
    fn event(&mut self, event: &Event, buffer: &[u8]) -> napi::Result<()> {
        let nobody = Handle::from_number(0);
        match event {
            Event::Open(opened) => {
                let value = self.utf8(opened.lines().as_str().as_bytes())?;
                self.put(OPEN, opened.handle, f64::from(opened.route), Some(value))
            }
            Event::Message { handle, kind, ascii, payload } => {
                let bytes = payload.bytes(buffer);
                let data = match kind {
                    Kind::Text if *ascii => self.ascii(bytes)?,
                    Kind::Text => self.not_ascii(bytes)?,
                    Kind::Binary => self.buffer(bytes)?,
                };
                self.put(MESSAGE, *handle, bytes.len() as f64, Some(data))
            }
            Event::Close { handle, code, reason } => {
                let reason = self.utf8(reason.as_bytes())?;
                self.put(CLOSE, *handle, f64::from(*code), Some(reason))
            }
            Event::Request(request) => {
                let value = self.request(request)?;
                self.put(REQUEST, request.handle, f64::from(request.route), Some(value))
            }
            Event::Drained { handle } => self.put(DRAINED, *handle, 0.0, None),
            Event::Stopped => self.put(STOPPED, nobody, 0.0, None),
            Event::Backplane { state } => {
                let state = self.utf8(state.as_str().as_bytes())?;
                self.put(BACKPLANE, nobody, 0.0, Some(state))
            }
            Event::Counted { id, sum } => {
                let sum = self.number(*sum as f64)?;
                self.put(COUNTED, nobody, *id as f64, Some(sum))
            }
            Event::Log { level, handle, message } => {
                let level = match level {
                    LogLevel::Debug => "debug",
                    LogLevel::Info => "info",
                    LogLevel::Warning => "warning",
                    LogLevel::Error => "error",
                };
                let line = [self.utf8(level.as_bytes())?, self.utf8(message.as_bytes())?];
                let line = self.list(&line)?;
                self.put(LOG, handle.unwrap_or(nobody), 0.0, Some(line))
            }
        }
    }

    /// A request's lines; with its body, if it has one, a list of both.
    fn request(&self, request: &Request) -> napi::Result<sys::napi_value> {
        let lines = self.utf8(request.lines.as_str().as_bytes())?;
        if request.body.is_empty() {
            return Ok(lines);
        }
        self.list(&[lines, self.buffer(&request.body)?])
    }

    /// The place of a connection is dense over all shards: an index into an array.
    fn put(
        &mut self,
        kind: f64,
        handle: Handle,
        number: f64,
        value: Option<sys::napi_value>,
    ) -> napi::Result<()> {
        let at = self.values.len() * WORDS;
        let Some(words) = self.words.get_mut(at..at + WORDS) else {
            return Err(Error::from_reason("the array for events is too small"));
        };
        let place = handle.slot() * self.shards + handle.shard();
        words.copy_from_slice(&[kind, handle.to_number() as f64, place as f64, number]);
        let value = match value {
            Some(value) => value,
            // SAFETY: `env` lives for the native call this writer is used in.
            None => self.make(|value| unsafe { sys::napi_get_undefined(self.env, value) })?,
        };
        self.values.push(value);
        Ok(())
    }

    fn make(
        &self,
        make: impl FnOnce(*mut sys::napi_value) -> sys::napi_status,
    ) -> napi::Result<sys::napi_value> {
        let mut value = std::ptr::null_mut();
        checked(make(&mut value))?;
        Ok(value)
    }

    /// `bytes` must be UTF-8, as everything the engine calls text is.
    fn utf8(&self, bytes: &[u8]) -> napi::Result<sys::napi_value> {
        if bytes.is_ascii() { self.ascii(bytes) } else { self.not_ascii(bytes) }
    }

    /// V8 copies these as they are, where UTF-8 is decoded first.
    fn ascii(&self, bytes: &[u8]) -> napi::Result<sys::napi_value> {
        // SAFETY: the pointer and length are those of a slice, which is copied.
        self.make(|value| unsafe {
            sys::napi_create_string_latin1(
                self.env,
                bytes.as_ptr().cast(),
                bytes.len() as isize,
                value,
            )
        })
    }

    fn not_ascii(&self, bytes: &[u8]) -> napi::Result<sys::napi_value> {
        // SAFETY: the pointer and length are those of a slice, which is copied.
        self.make(|value| unsafe {
            sys::napi_create_string_utf8(
                self.env,
                bytes.as_ptr().cast(),
                bytes.len() as isize,
                value,
            )
        })
    }

    fn buffer(&self, bytes: &[u8]) -> napi::Result<sys::napi_value> {
        // SAFETY: the pointer and length are those of a slice, which is copied.
        self.make(|value| unsafe {
            sys::napi_create_buffer_copy(
                self.env,
                bytes.len(),
                bytes.as_ptr().cast(),
                std::ptr::null_mut(),
                value,
            )
        })
    }

    fn number(&self, number: f64) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` lives for the native call this writer is used in.
        self.make(|value| unsafe { sys::napi_create_double(self.env, number, value) })
    }

    fn list(&self, values: &[sys::napi_value]) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` lives for the native call this writer is used in.
        let list = self.make(|value| unsafe {
            sys::napi_create_array_with_length(self.env, values.len(), value)
        })?;
        for (index, value) in values.iter().enumerate() {
            // SAFETY: as above, and both values were made in this call.
            checked(unsafe { sys::napi_set_element(self.env, list, index as u32, *value) })?;
        }
        Ok(list)
    }
}
