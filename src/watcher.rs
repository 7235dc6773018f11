//! Has the loop of the JS thread look at the sockets of a shard that the engine wants driven there, and
//! calls the doorbell for what they bring. On Linux; elsewhere shards run on their own threads only.
//!
//! Node's libuv is asked for by name when the addon runs, so that it also loads where there is none.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::rc::{Rc, Weak};
use std::sync::OnceLock;

use engine::driving::Turn;
use napi::sys;

use crate::bridge::Bridge;

/// From uv.h: the kind of a handle that watches a descriptor, and what it watches for.
const UV_POLL: c_int = 8;
const UV_READABLE: c_int = 1;

type Handle = *mut c_void;

type HandleSize = unsafe extern "C" fn(kind: c_int) -> usize;
type PollInit = unsafe extern "C" fn(*mut sys::uv_loop_s, Handle, fd: c_int) -> c_int;
type Readable = unsafe extern "C" fn(Handle, status: c_int, events: c_int);
type PollStart = unsafe extern "C" fn(Handle, events: c_int, Readable) -> c_int;
type PollStop = unsafe extern "C" fn(Handle) -> c_int;
type Unref = unsafe extern "C" fn(Handle);
type Closed = unsafe extern "C" fn(Handle);
type Close = unsafe extern "C" fn(Handle, Closed);

/// The functions of libuv that are used.
#[derive(Clone, Copy)]
struct Uv {
    handle_size: HandleSize,
    poll_init: PollInit,
    poll_start: PollStart,
    poll_stop: PollStop,
    unref: Unref,
    close: Close,
}

/// What this process exports as `name`.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a string that ends with a zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

impl Uv {
    fn get() -> Option<Self> {
        static UV: OnceLock<Option<Uv>> = OnceLock::new();
        *UV.get_or_init(|| {
            // SAFETY: the types are those of uv.h, which has not changed them since libuv 1.0.
            unsafe {
                Some(Self {
                    handle_size: transmute::<Handle, HandleSize>(symbol(c"uv_handle_size")?),
                    poll_init: transmute::<Handle, PollInit>(symbol(c"uv_poll_init")?),
                    poll_start: transmute::<Handle, PollStart>(symbol(c"uv_poll_start")?),
                    poll_stop: transmute::<Handle, PollStop>(symbol(c"uv_poll_stop")?),
                    unref: transmute::<Handle, Unref>(symbol(c"uv_unref")?),
                    close: transmute::<Handle, Close>(symbol(c"uv_close")?),
                })
            }
        })
    }
}

/// What is called when events wait, and where.
pub(crate) struct Doorbell {
    env: sys::napi_env,
    /// Of the JavaScript function; null when nobody is to hear it any more.
    function: Cell<sys::napi_ref>,
    bridge: Weak<RefCell<Option<Bridge>>>,
}

impl Doorbell {
    /// `function` is a function, and all calls of this are on the thread of `env`.
    pub(crate) fn new(
        env: sys::napi_env,
        function: sys::napi_value,
        bridge: &Rc<RefCell<Option<Bridge>>>,
    ) -> napi::Result<Rc<Self>> {
        let mut reference = null_mut();
        // SAFETY: a live environment and value.
        crate::convert::checked(unsafe {
            sys::napi_create_reference(env, function, 1, &mut reference)
        })?;
        let function = Cell::new(reference);
        Ok(Rc::new(Self { env, function, bridge: Rc::downgrade(bridge) }))
    }

    /// Lets go of the function.
    fn fall_silent(&self) {
        let function = self.function.replace(null_mut());
        if !function.is_null() {
            // SAFETY: it was created in this environment, which lives, and is deleted once.
            unsafe { sys::napi_delete_reference(self.env, function) };
        }
    }

    /// Calls it, as an event of the loop: with its own ticks and microtasks after it.
    fn ring(&self) {
        let (env, mut scope) = (self.env, null_mut());
        let (mut function, mut global, mut result) = (null_mut(), null_mut(), null_mut());
        // SAFETY: on the thread of the environment, which lives as long as its loop runs; the values
        // live in the scope.
        unsafe {
            if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
                return;
            }
            sys::napi_get_reference_value(env, self.function.get(), &mut function);
            sys::napi_get_global(env, &mut global);
            let status = sys::napi_make_callback(
                env,
                null_mut(),
                global,
                function,
                0,
                std::ptr::null(),
                &mut result,
            );
            if status == sys::Status::napi_pending_exception {
                let mut error = null_mut();
                sys::napi_get_and_clear_last_exception(env, &mut error);
                sys::napi_fatal_exception(env, error);
            }
            sys::napi_close_handle_scope(env, scope);
        }
    }
}

/// Watches the descriptor of one shard. Keeps nothing alive but itself, and not the loop.
pub(crate) struct Watcher {
    uv: Uv,
    handle: Handle,
    watches: Cell<bool>,
}

/// What the handle of a watcher leads to.
struct Watched {
    doorbell: Rc<Doorbell>,
    shard: usize,
    /// The memory of the handle.
    _handle: Box<[u64]>,
    /// What it watches: a copy, which stays open as long as libuv knows it, whatever becomes of the shard.
    _descriptor: OwnedFd,
}

impl Watcher {
    /// `None` where there is no libuv, or it refuses.
    pub(crate) fn new(doorbell: &Rc<Doorbell>, shard: usize, descriptor: i32) -> Option<Self> {
        let uv = Uv::get()?;
        let mut event_loop = null_mut();
        // SAFETY: a live environment; the descriptor is that of a shard that runs; the memory is of the
        // size that libuv says, and lives until `closed`. The first field of a handle is its user's (uv.h: `void* data`).
        unsafe {
            let status = sys::napi_get_uv_event_loop(doorbell.env, &mut event_loop);
            crate::convert::checked(status).ok()?;
            let words = (uv.handle_size)(UV_POLL).div_ceil(size_of::<u64>());
            let mut memory = vec![0; words].into_boxed_slice();
            let handle: Handle = memory.as_mut_ptr().cast();
            let descriptor = BorrowedFd::borrow_raw(descriptor).try_clone_to_owned().ok()?;
            if (uv.poll_init)(event_loop, handle, descriptor.as_raw_fd()) != 0 {
                return None;
            }
            let doorbell = Rc::clone(doorbell);
            let watched = Watched { doorbell, shard, _handle: memory, _descriptor: descriptor };
            handle.cast::<*mut Watched>().write(Box::into_raw(Box::new(watched)));
            (uv.unref)(handle);
            Some(Self { uv, handle, watches: Cell::new(false) })
        }
    }

    /// Watches from now on.
    pub(crate) fn start(&self) {
        if !self.watches.replace(true) {
            // SAFETY: the handle is open. It fails for a closing one only.
            unsafe { (self.uv.poll_start)(self.handle, UV_READABLE, readable) };
        }
    }

    fn stop(&self) {
        if self.watches.replace(false) {
            // SAFETY: the handle is open.
            unsafe { (self.uv.poll_stop)(self.handle) };
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and closed once; `closed` follows in a later turn of the loop.
        unsafe { (self.uv.close)(self.handle, closed) };
    }
}

/// The loop is done with a handle.
unsafe extern "C" fn closed(handle: Handle) {
    // SAFETY: what `Watcher::new` wrote there, and nobody reads it after this.
    drop(unsafe { Box::from_raw(handle.cast::<*mut Watched>().read()) });
}

/// The shard has something to do: it has a turn, and its events are handled.
unsafe extern "C" fn readable(handle: Handle, _: c_int, _: c_int) {
    // SAFETY: what `Watcher::new` wrote there; it lives until `closed`, which cannot come before this
    // has returned.
    let watched = unsafe { &**handle.cast::<*mut Watched>() };
    // The engine contains panics; one that it does not must not reach libuv.
    let _ = catch_unwind(AssertUnwindSafe(|| watched.turn()));
}

impl Watched {
    fn turn(&self) {
        let Some(bridge) = self.doorbell.bridge.upgrade() else { return };
        let turn = match bridge.borrow_mut().as_mut() {
            Some(bridge) => bridge.turn(self.shard),
            None => return,
        };
        if turn == Turn::Events {
            self.doorbell.ring();
        }
    }
}

/// Those of a [`Bridge`], and its doorbell, which falls silent with them.
#[derive(Default)]
pub(crate) struct Watchers {
    doorbell: Option<Rc<Doorbell>>,
    shards: Vec<Option<Watcher>>,
}

impl Watchers {
    /// They will ring `doorbell`.
    pub(crate) fn set_doorbell(&mut self, doorbell: Rc<Doorbell>) {
        self.doorbell = Some(doorbell);
    }

    /// One for each shard that has something to watch.
    pub(crate) fn open(&mut self, descriptors: impl Iterator<Item = Option<i32>>) {
        let Some(doorbell) = &self.doorbell else { return };
        let watcher =
            |(shard, descriptor): (usize, Option<i32>)| Watcher::new(doorbell, shard, descriptor?);
        self.shards = descriptors.enumerate().map(watcher).collect();
    }

    /// Watches the descriptor of `shard`; false if it has none.
    pub(crate) fn start(&self, shard: usize) -> bool {
        let watcher = self.shards.get(shard).and_then(Option::as_ref);
        watcher.inspect(|watcher| watcher.start()).is_some()
    }

    pub(crate) fn stop(&self, shard: usize) {
        if let Some(Some(watcher)) = self.shards.get(shard) {
            watcher.stop();
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        if let Some(doorbell) = &self.doorbell {
            doorbell.fall_silent();
        }
    }
}
