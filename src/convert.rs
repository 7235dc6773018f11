//! Values across the border: messages, errors, file descriptors.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;

use bytes::{Bytes, BytesMut};
use engine::message::{self, Kind, LARGE};
use engine::outgoing::Source;
use napi::bindgen_prelude::{Env, JsValue, Unknown};
use napi::{Error, Status, sys};

pub(crate) fn checked(status: sys::napi_status) -> napi::Result<()> {
    match Status::from(status) {
        Status::Ok => Ok(()),
        other => Err(Error::new(other, "Node-API refused a call")),
    }
}

/// Leaves a TypeError pending, which Node throws when the native call returns.
pub(crate) fn throw_type_error(env: &Env, message: &str) -> napi::Result<()> {
    env.throw_type_error(message, None)
}

/// An error whose `code` is `code`.
pub(crate) fn failure(code: &str, message: &str) -> Error<String> {
    Error::new(code.to_owned(), message)
}

/// A listener's failure, with the code that Node's own servers use.
pub(crate) fn io_failure(error: &io::Error, host: &str, port: u16) -> Error<String> {
    let code = match error.kind() {
        io::ErrorKind::AddrInUse => "EADDRINUSE",
        io::ErrorKind::AddrNotAvailable => "EADDRNOTAVAIL",
        io::ErrorKind::PermissionDenied => "EACCES",
        _ => "ELISTEN",
    };
    failure(code, &format!("cannot listen on {host}:{port}: {error}"))
}

#[cfg(unix)]
pub(crate) fn into_fd(listener: TcpListener) -> i32 {
    std::os::fd::IntoRawFd::into_raw_fd(listener)
}

#[cfg(unix)]
pub(crate) fn from_fd(fd: i32) -> TcpListener {
    // SAFETY: the CLI passes a descriptor that it inherited from `bind_listener` and that nothing
    // else in this process uses.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// Strings of up to this many UTF-16 units are copied out of JavaScript in one pass, whatever they hold.
const SHORT: usize = 1_024;
/// A UTF-16 unit is at most three bytes of UTF-8, and Node-API ends what it writes with a zero.
const SHORT_BYTES: usize = SHORT * 3 + 1;
/// Strings of up to this many UTF-16 units are tried as ASCII, which is one pass too; others are measured
/// first, at a pass more and a copy less.
const TRIED: usize = 64 * 1024;
/// Bytes of the longest character of UTF-8 (RFC 3629 section 3).
const LONGEST: usize = 4;

/// Where a string of JavaScript is copied to.
pub(crate) struct Scratch {
    short: [MaybeUninit<u8>; SHORT_BYTES],
    long: BytesMut,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { short: [MaybeUninit::uninit(); SHORT_BYTES], long: BytesMut::new() }
    }
}

/// Appends a string of `length` UTF-16 units if all of them are ASCII; says whether they are.
///
/// # Safety
/// As for [`JsMessage::from_raw`].
unsafe fn append_ascii(
    env: sys::napi_env,
    value: sys::napi_value,
    length: usize,
    out: &mut BytesMut,
) -> napi::Result<bool> {
    // A character that does not fit any more leaves less than its own size free. So whatever was
    // cut off, more than `length` bytes are there; and whatever has a character of more than one
    // byte has more of them too.
    let room = length + LONGEST + 1;
    out.reserve(room);
    let start = out.len();
    let mut written = 0;
    // SAFETY: that much room is behind `start`, and what was written there is counted.
    unsafe {
        let buffer = out.as_mut_ptr().add(start).cast();
        checked(sys::napi_get_value_string_utf8(env, value, buffer, room, &mut written))?;
        if written == length {
            out.set_len(start + written);
        }
    }
    Ok(written == length)
}

/// A string or bytes of JavaScript, valid for one native call.
pub(crate) enum JsMessage<'a> {
    Copied(&'a [u8]),
    /// A large one, copied to where it can stay: behind the header of its frame, of this many bytes.
    Framed {
        frame: Bytes,
        header: usize,
    },
    Text {
        env: sys::napi_env,
        value: sys::napi_value,
        length: usize,
    },
    Binary(&'a [u8]),
}

impl<'a> JsMessage<'a> {
    pub(crate) fn new(
        env: &Env,
        value: &Unknown<'_>,
        scratch: &'a mut Scratch,
    ) -> napi::Result<Self> {
        // SAFETY: both belong to the native call that `env` stands for.
        unsafe { Self::from_raw(env.raw(), value.value().value, scratch) }
    }

    /// # Safety
    /// `env` and `value` belong to a native call that outlives `'a` and in which no JavaScript runs.
    pub(crate) unsafe fn from_raw(
        env: sys::napi_env,
        value: sys::napi_value,
        scratch: &'a mut Scratch,
    ) -> napi::Result<Self> {
        let mut length = 0;
        // SAFETY: with no buffer the call only writes the length, which V8 knows without looking at
        // the text.
        let status = unsafe {
            sys::napi_get_value_string_utf16(env, value, std::ptr::null_mut(), 0, &mut length)
        };
        if status == sys::Status::napi_ok && length <= SHORT {
            let buffer = scratch.short.as_mut_ptr();
            // SAFETY: the buffer has room for every string of that length.
            return unsafe {
                checked(sys::napi_get_value_string_utf8(
                    env,
                    value,
                    buffer.cast(),
                    SHORT_BYTES,
                    &mut length,
                ))?;
                Ok(Self::Copied(std::slice::from_raw_parts(buffer.cast(), length)))
            };
        }
        if status == sys::Status::napi_ok {
            if length <= TRIED {
                let out = &mut scratch.long;
                if length >= LARGE {
                    out.reserve(message::MAX_HEADER + length + LONGEST + 1);
                    message::put_header(out, Kind::Text, length);
                }
                let header = out.len();
                // SAFETY: what this function asks for.
                if unsafe { append_ascii(env, value, length, out) }? {
                    return Ok(if header > 0 {
                        Self::Framed { frame: out.split().freeze(), header }
                    } else {
                        Self::Copied(out)
                    });
                }
            }
            // SAFETY: as above; this length is in UTF-8.
            checked(unsafe {
                sys::napi_get_value_string_utf8(env, value, std::ptr::null_mut(), 0, &mut length)
            })?;
            return Ok(Self::Text { env, value, length });
        }
        let mut data = std::ptr::null_mut();
        // SAFETY: both out pointers are valid; the data stays where it is for this native call.
        checked(unsafe { sys::napi_get_buffer_info(env, value, &mut data, &mut length) })?;
        if length == 0 {
            return Ok(Self::Binary(&[]));
        }
        // SAFETY: an array buffer of at least `length` bytes, alive for this call.
        Ok(Self::Binary(unsafe { std::slice::from_raw_parts(data.cast(), length) }))
    }
}

impl Source for JsMessage<'_> {
    fn length(&self) -> usize {
        match self {
            JsMessage::Text { length, .. } => *length,
            JsMessage::Framed { frame, header } => frame.len() - header,
            JsMessage::Copied(bytes) | JsMessage::Binary(bytes) => bytes.len(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            JsMessage::Copied(_) | JsMessage::Framed { .. } | JsMessage::Text { .. } => Kind::Text,
            JsMessage::Binary(_) => Kind::Binary,
        }
    }

    fn append(&self, out: &mut BytesMut) {
        match self {
            JsMessage::Framed { frame, header } => out.extend_from_slice(&frame[*header..]),
            &JsMessage::Text { env, value, length } => {
                // One more byte: Node-API ends what it writes with a zero.
                out.reserve(length + 1);
                let start = out.len();
                let mut written = 0;
                // SAFETY: `length + 1` bytes are reserved behind `start`, and the value is alive
                // for this native call.
                let status = unsafe {
                    let buffer = out.as_mut_ptr().add(start).cast();
                    sys::napi_get_value_string_utf8(env, value, buffer, length + 1, &mut written)
                };
                if status != sys::Status::napi_ok || written != length {
                    // The header has promised `length` bytes; a string does not change its size
                    // between two calls, so this only keeps the frame whole.
                    written = 0;
                    out.resize(start + length, b' ');
                }
                if written > 0 {
                    // SAFETY: Node-API has written that many bytes there.
                    unsafe { out.set_len(start + written) };
                }
            }
            JsMessage::Copied(bytes) | JsMessage::Binary(bytes) => out.extend_from_slice(bytes),
        }
    }

    fn frame(&self) -> Option<Bytes> {
        match self {
            JsMessage::Framed { frame, .. } => Some(frame.clone()),
            _ => None,
        }
    }
}
