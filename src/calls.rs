//! The calls that JavaScript makes for every message and every batch, as plain functions of Node-API:
//! what guards the methods of a class costs more than the work in them.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::rc::Rc;

use engine::Handle;
use engine::publisher::Publisher;
use napi::bindgen_prelude::{Env, JsValue, Object};
use napi::{Error, sys};

use crate::bridge::{Bridge, WORDS};
use crate::convert::{JsMessage, Scratch, checked};
use crate::handle_of;

/// An engine, `None` once terminated.
type Shared = RefCell<Option<Bridge>>;
type Callback = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;

/// An object with the functions, which share the engine.
pub(crate) fn object<'env>(env: &'env Env, shared: &Rc<Shared>) -> napi::Result<Object<'env>> {
    let calls = Object::new(env)?;
    let functions: [(&str, Callback); 14] = [
        ("drain", drain),
        ("commit", commit),
        ("finish", finish),
        ("flush", flush),
        ("send", send),
        ("broadcast", broadcast),
        ("forward", forward),
        ("forwardAll", forward_all),
        ("respond", respond),
        ("hold", hold),
        ("ack", ack),
        ("join", join),
        ("leave", leave),
        ("release", release),
    ];
    for (name, callback) in functions {
        let data = Rc::into_raw(Rc::clone(shared)).cast_mut().cast::<c_void>();
        let (env, mut function) = (env.raw(), null_mut());
        // SAFETY: `name` is a slice; `data` stays alive until `forget` is called for the function,
        // which owns it from here on.
        unsafe {
            checked(sys::napi_create_function(
                env,
                name.as_ptr().cast(),
                name.len() as isize,
                Some(callback),
                data,
                &mut function,
            ))?;
            checked(sys::napi_add_finalizer(
                env,
                function,
                data,
                Some(forget),
                null_mut(),
                null_mut(),
            ))?;
            let key = std::ffi::CString::new(name)?;
            checked(sys::napi_set_named_property(env, calls.raw(), key.as_ptr(), function))?;
        }
    }
    Ok(calls)
}

/// The function is gone.
unsafe extern "C" fn forget(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
    // SAFETY: `object` made it of an `Rc`, for this function alone.
    drop(unsafe { Rc::from_raw(data.cast::<Shared>()) });
}

/// One call: its environment, its engine and `N` arguments, `undefined` where fewer were given.
struct Call<'a, const N: usize> {
    env: sys::napi_env,
    shared: &'a Shared,
    arguments: [sys::napi_value; N],
}

impl<const N: usize> Call<'_, N> {
    fn number(&self, index: usize) -> napi::Result<f64> {
        let mut number = 0.0;
        // SAFETY: an argument of this call.
        checked(unsafe {
            sys::napi_get_value_double(self.env, self.arguments[index], &mut number)
        })?;
        Ok(number)
    }

    /// A handle, or zero for nobody.
    fn excluded(&self, index: usize) -> napi::Result<Option<Handle>> {
        let handle = self.number(index)?;
        Ok((handle != 0.0).then(|| handle_of(handle)))
    }

    fn boolean(&self, value: bool) -> napi::Result<sys::napi_value> {
        let mut result = null_mut();
        // SAFETY: the out pointer is valid.
        checked(unsafe { sys::napi_get_boolean(self.env, value, &mut result) })?;
        Ok(result)
    }

    /// `undefined`, which costs nothing, unless it is false.
    fn falsehood(&self, done: Option<bool>) -> napi::Result<sys::napi_value> {
        if done == Some(false) { self.boolean(false) } else { Ok(null_mut()) }
    }

    fn with<T>(&self, call: impl FnOnce(&mut Bridge) -> T) -> Option<T> {
        self.shared.borrow_mut().as_mut().map(call)
    }
}

/// Runs `work` with what was called; its error, or that it panicked, is thrown to JavaScript.
///
/// # Safety
/// To be called by Node-API alone, for a function that `object` made.
unsafe fn answer<const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    work: impl FnOnce(&Call<'_, N>) -> napi::Result<sys::napi_value>,
) -> sys::napi_value {
    let mut arguments = [null_mut(); N];
    let (mut count, mut data) = (N, null_mut());
    // SAFETY: the out pointers are valid, and `arguments` has room for the count.
    let status = unsafe {
        sys::napi_get_cb_info(env, info, &mut count, arguments.as_mut_ptr(), null_mut(), &mut data)
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        checked(status)?;
        // SAFETY: the function that runs keeps its engine alive.
        let shared = unsafe { &*data.cast::<Shared>() };
        work(&Call { env, shared, arguments })
    }));
    result
        .unwrap_or_else(|_| Err(Error::from_reason("this call failed inside the addon")))
        .unwrap_or_else(|error| {
            let reason = std::ffi::CString::new(error.reason.to_string()).unwrap_or_default();
            // SAFETY: both texts end with a zero, and are copied. A failure leaves nothing to do.
            unsafe { sys::napi_throw_type_error(env, null_mut(), reason.as_ptr()) };
            null_mut()
        })
}

/// `drain(words: Float64Array, list: (...values: unknown[]) => unknown[]): unknown[] | undefined`
///
/// What `list` makes of the values of the events; `undefined` if there are none. One call with all of
/// them costs less than to store each in an array.
unsafe extern "C" fn drain(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<2>(env, info, |call| {
            let (mut kind, mut length, mut data) = (0, 0, null_mut());
            checked(sys::napi_get_typedarray_info(
                env,
                call.arguments[0],
                &mut kind,
                &mut length,
                &mut data,
                null_mut(),
                null_mut(),
            ))?;
            if kind != sys::TypedarrayType::float64_array || data.is_null() {
                return Err(Error::from_reason("drain takes a Float64Array and a function"));
            }
            let mut values = Vec::with_capacity(length / WORDS);
            // The memory of a typed array does not move, and no JavaScript runs while this is used.
            let words = std::slice::from_raw_parts_mut(data.cast::<f64>(), length);
            call.with(|bridge| bridge.drain(env, words, &mut values)).unwrap_or(Ok(()))?;
            let mut result = null_mut();
            if !values.is_empty() {
                let mut receiver = null_mut();
                checked(sys::napi_get_undefined(env, &mut receiver))?;
                let (list, count) = (call.arguments[1], values.len());
                let status = sys::napi_call_function(
                    env,
                    receiver,
                    list,
                    count,
                    values.as_ptr(),
                    &mut result,
                );
                checked(status)?;
            }
            Ok(result)
        })
    }
}

/// `commit(): void`
///
/// Acknowledges the last drain, and hands all commands to the shards.
unsafe extern "C" fn commit(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<0>(env, info, |call| {
            call.with(Bridge::commit);
            Ok(null_mut())
        })
    }
}

/// `finish(): boolean`
///
/// `commit` at the end of a batch of handlers: true if events wait, for which nobody rings.
unsafe extern "C" fn finish(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<0>(env, info, |call| call.boolean(call.with(Bridge::finish).unwrap_or(false)))
    }
}

/// `flush(): void`
///
/// Hands over what was sent in the middle of a batch: nothing is acknowledged.
unsafe extern "C" fn flush(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<0>(env, info, |call| {
            call.with(|bridge| bridge.engine.publisher().flush());
            Ok(null_mut())
        })
    }
}

/// `send(handle: number, data: string | Uint8Array): void`
unsafe extern "C" fn send(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls, and no JavaScript runs before the message was copied.
    unsafe {
        answer::<2>(env, info, |call| {
            let handle = handle_of(call.number(0)?);
            let mut scratch = Scratch::new();
            let message = JsMessage::from_raw(env, call.arguments[1], &mut scratch)?;
            call.with(|bridge| bridge.engine.publisher().send(handle, &message));
            Ok(null_mut())
        })
    }
}

/// `broadcast(topic: number, data: string | Uint8Array, exclude: number): void`
unsafe extern "C" fn broadcast(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    // SAFETY: as for `send`.
    unsafe {
        answer::<3>(env, info, |call| {
            let (topic, exclude) = (call.number(0)? as u64, call.excluded(2)?);
            let mut scratch = Scratch::new();
            let message = JsMessage::from_raw(env, call.arguments[1], &mut scratch)?;
            call.with(|bridge| bridge.engine.publisher().broadcast(topic, &message, exclude));
            Ok(null_mut())
        })
    }
}

/// `forward(handle: number, index: number): false | undefined`
///
/// Sends event `index` of the last drain, a message, as it came; `false` if it is not at hand any more.
unsafe extern "C" fn forward(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<2>(env, info, |call| {
            let (handle, index) = (handle_of(call.number(0)?), call.number(1)? as usize);
            call.falsehood(call.with(|bridge| bridge.forward(handle, index)))
        })
    }
}

/// `forwardAll(topic: number, index: number, exclude: number): false | undefined`
///
/// As `forward`, to a topic.
unsafe extern "C" fn forward_all(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<3>(env, info, |call| {
            let (topic, index) = (call.number(0)? as u64, call.number(1)? as usize);
            let exclude = call.excluded(2)?;
            call.falsehood(call.with(|bridge| bridge.forward_all(topic, index, exclude)))
        })
    }
}

/// `respond(handle: number, status: number, headers: string, body: string | Uint8Array): void`
///
/// Answers an HTTP request; `headers` are lines `name:value`.
unsafe extern "C" fn respond(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: as for `send`.
    unsafe {
        answer::<4>(env, info, |call| {
            let (handle, status) = (handle_of(call.number(0)?), call.number(1)? as u16);
            let (mut lines, mut bytes) = (Scratch::new(), Scratch::new());
            let headers = JsMessage::from_raw(env, call.arguments[2], &mut lines)?;
            let body = JsMessage::from_raw(env, call.arguments[3], &mut bytes)?;
            call.with(|bridge| bridge.engine.publisher().respond(handle, status, &headers, &body));
            Ok(null_mut())
        })
    }
}

/// `hold(index: number): void`
///
/// Event `index` of the last drain waits in JavaScript: its connection's shard goes on counting it.
unsafe extern "C" fn hold(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<1>(env, info, |call| {
            let index = call.number(0)? as usize;
            call.with(|bridge| bridge.hold(index));
            Ok(null_mut())
        })
    }
}

/// `ack(handle: number, bytes: number): void`
///
/// A held message is dispatched.
unsafe extern "C" fn ack(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe {
        answer::<2>(env, info, |call| {
            let (handle, bytes) = (handle_of(call.number(0)?), call.number(1)? as usize);
            call.with(|bridge| bridge.engine.publisher().acknowledge(handle, bytes));
            Ok(null_mut())
        })
    }
}

/// `join(handle: number): number`
///
/// An `open` is dispatched: the connection joins its path. Returns its topic.
unsafe extern "C" fn join(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls, and the out pointer is valid.
    unsafe {
        answer::<1>(env, info, |call| {
            let handle = handle_of(call.number(0)?);
            let topic = call.with(|bridge| bridge.engine.publisher().join(handle)).flatten();
            let mut result = null_mut();
            checked(sys::napi_create_double(env, topic.unwrap_or(0) as f64, &mut result))?;
            Ok(result)
        })
    }
}

/// Does `work` for the connection whose handle is the one argument.
///
/// # Safety
/// As for [`answer`].
unsafe fn of_connection(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    work: impl FnOnce(&mut Publisher, Handle),
) -> sys::napi_value {
    // SAFETY: what this function asks for.
    unsafe {
        answer::<1>(env, info, |call| {
            let handle = handle_of(call.number(0)?);
            call.with(|bridge| work(bridge.engine.publisher(), handle));
            Ok(null_mut())
        })
    }
}

/// `leave(handle: number): void`
///
/// A `close` is dispatched: the connection leaves its path.
unsafe extern "C" fn leave(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe { of_connection(env, info, Publisher::leave) }
}

/// `release(handle: number): void`
///
/// The `close` handler has settled: the connection is forgotten.
unsafe extern "C" fn release(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls.
    unsafe { of_connection(env, info, Publisher::release) }
}
