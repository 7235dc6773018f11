//! The one path from the engine to JavaScript: events become values of an array.

use engine::event::{Event, EventBatch, LogLevel, Opened, Request};
use engine::message::Kind;
use engine::router::{ParamValue, Params};
use engine::{Engine, Handle};
use napi::bindgen_prelude::{Array, Env, JsValue};
use napi::sys;

use crate::convert::{checked, flat_head};

/// Slots an event takes in the array: kind, handle and two of its own.
const STRIDE: u32 = 4;
const OPEN: u32 = 1;
const MESSAGE: u32 = 2;
const CLOSE: u32 = 3;
const REQUEST: u32 = 4;
const DRAINED: u32 = 5;
const STOPPED: u32 = 6;
const LOG: u32 = 7;
const BACKPLANE: u32 = 8;
const COUNTED: u32 = 9;

/// An engine and what JavaScript has been given and not yet acknowledged.
pub(crate) struct Bridge {
    pub(crate) engine: Engine,
    batches: Vec<EventBatch>,
    /// By event of the last drain: the connection and size of a message.
    given: Vec<Option<(Handle, usize)>>,
    /// The last count that was asked for.
    last_count: u64,
}

impl Bridge {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, batches: Vec::new(), given: Vec::new(), last_count: 0 }
    }

    /// Acknowledges the last drain, commits, and rings if more events wait.
    pub(crate) fn commit(&mut self) {
        let publisher = self.engine.publisher();
        for (handle, bytes) in self.given.drain(..).flatten() {
            publisher.acknowledge(handle, bytes);
        }
        publisher.commit();
        if self.engine.events().finish() {
            self.engine.events().ring_again();
        }
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

    /// Writes waiting events into `out`.
    pub(crate) fn drain(&mut self, env: &Env, out: &Array<'_>) -> napi::Result<u32> {
        let mut batches = std::mem::take(&mut self.batches);
        self.engine.take(&mut batches);
        let mut writer = Writer { env: env.raw(), out: out.value().value, at: 0 };
        for batch in &batches {
            for event in &batch.events {
                writer.event(event, &batch.buffer)?;
                self.given.push(match event {
                    Event::Message { handle, payload, .. } => Some((*handle, payload.len())),
                    _ => None,
                });
            }
        }
        self.engine.events().give_back(&mut batches);
        self.batches = batches;
        Ok(writer.at / STRIDE)
    }
}

/// Appends values to a JavaScript array.
struct Writer {
    env: sys::napi_env,
    out: sys::napi_value,
    at: u32,
}

impl Writer {
    fn event(&mut self, event: &Event, buffer: &[u8]) -> napi::Result<()> {
        match event {
            Event::Open(opened) => {
                let (route, details) = (opened.route, self.opened(opened)?);
                self.four(OPEN, opened.handle, self.integer(route)?, details)
            }
            Event::Message { handle, kind, payload } => {
                let bytes = payload.bytes(buffer);
                let data = match kind {
                    Kind::Text => self.utf8(bytes)?,
                    Kind::Binary => self.buffer(bytes)?,
                };
                let length = self.number(bytes.len() as f64)?;
                self.four(MESSAGE, *handle, data, length)
            }
            Event::Close { handle, code, reason } => {
                let reason = self.utf8(reason.as_bytes())?;
                self.four(CLOSE, *handle, self.integer(u32::from(*code))?, reason)
            }
            Event::Request(request) => {
                let details = self.request(request)?;
                self.four(REQUEST, request.handle, self.integer(request.route)?, details)
            }
            Event::Drained { handle } => {
                self.four(DRAINED, *handle, self.undefined()?, self.undefined()?)
            }
            Event::Stopped => {
                let nobody = Handle::from_number(0);
                self.four(STOPPED, nobody, self.undefined()?, self.undefined()?)
            }
            Event::Backplane { state } => {
                let nobody = Handle::from_number(0);
                self.four(
                    BACKPLANE,
                    nobody,
                    self.utf8(state.as_str().as_bytes())?,
                    self.undefined()?,
                )
            }
            Event::Counted { id, sum } => {
                let nobody = Handle::from_number(0);
                self.four(COUNTED, nobody, self.number(*id as f64)?, self.number(*sum as f64)?)
            }
            Event::Log { level, handle, message } => {
                let level = match level {
                    LogLevel::Debug => "debug",
                    LogLevel::Info => "info",
                    LogLevel::Warning => "warning",
                    LogLevel::Error => "error",
                };
                let message = self.utf8(message.as_bytes())?;
                let about = handle.unwrap_or(Handle::from_number(0));
                self.four(LOG, about, self.utf8(level.as_bytes())?, message)
            }
        }
    }

    fn opened(&self, opened: &Opened) -> napi::Result<sys::napi_value> {
        self.list(&[
            self.utf8(engine::event::id_text(opened.id).as_bytes())?,
            self.utf8(opened.path.as_bytes())?,
            self.utf8(opened.ip.to_string().as_bytes())?,
            self.params(&opened.params)?,
            self.utf8(opened.query.as_bytes())?,
            self.utf8(opened.protocol.as_bytes())?,
        ])
    }

    fn request(&self, request: &Request) -> napi::Result<sys::napi_value> {
        let head = flat_head(&request.head);
        let head: Vec<_> =
            head.iter().map(|text| self.utf8(text.as_bytes())).collect::<napi::Result<_>>()?;
        self.list(&[
            self.utf8(request.method.as_bytes())?,
            self.utf8(request.target.as_bytes())?,
            self.utf8(request.path.as_bytes())?,
            self.utf8(request.ip.to_string().as_bytes())?,
            self.params(&request.params)?,
            self.list(&head)?,
            if request.body.is_empty() { self.null()? } else { self.buffer(&request.body)? },
        ])
    }

    fn params(&self, params: &Params) -> napi::Result<sys::napi_value> {
        let mut flat = Vec::with_capacity(params.len() * 2);
        for (name, value) in params {
            flat.push(self.utf8(name.as_bytes())?);
            flat.push(match value {
                ParamValue::Text(text) => self.utf8(text.as_bytes())?,
                ParamValue::Number(number) => self.number(*number)?,
            });
        }
        self.list(&flat)
    }

    fn four(
        &mut self,
        kind: u32,
        handle: Handle,
        a: sys::napi_value,
        b: sys::napi_value,
    ) -> napi::Result<()> {
        let kind = self.integer(kind)?;
        let handle = self.number(handle.to_number() as f64)?;
        for value in [kind, handle, a, b] {
            // SAFETY: `env` and `out` live for the native call this writer is used in.
            checked(unsafe { sys::napi_set_element(self.env, self.out, self.at, value) })?;
            self.at += 1;
        }
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

    fn integer(&self, number: u32) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` lives for the native call this writer is used in.
        self.make(|value| unsafe { sys::napi_create_uint32(self.env, number, value) })
    }

    fn number(&self, number: f64) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` lives for the native call this writer is used in.
        self.make(|value| unsafe { sys::napi_create_double(self.env, number, value) })
    }

    fn undefined(&self) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` lives for the native call this writer is used in.
        self.make(|value| unsafe { sys::napi_get_undefined(self.env, value) })
    }

    fn null(&self) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` lives for the native call this writer is used in.
        self.make(|value| unsafe { sys::napi_get_null(self.env, value) })
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
