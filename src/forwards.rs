//! Messages that handlers send on as they came. JavaScript writes down which, in memory that the addon
//! reads before it does anything else: a call for each would cost more than the work in it.

use std::ptr::null_mut;

use engine::Handle;
use napi::{Error, sys};

use crate::convert::checked;
use crate::handle_of;

/// Numbers of one: a handle or a topic, the event of the last drain, and who is left out.
const WORDS: usize = 3;
/// In the last place: it goes to one connection.
const TO_ONE: f64 = -1.0;

/// Where one goes to.
#[derive(Clone, Copy)]
pub(crate) enum To {
    One(Handle),
    /// Everyone on a topic but perhaps one.
    All(u64, Option<Handle>),
}

/// A Float64Array of JavaScript: how many there are, and each of them.
pub(crate) struct Forwards {
    env: sys::napi_env,
    array: sys::napi_ref,
    memory: *mut f64,
    length: usize,
}

impl Forwards {
    /// Reads `array` from now on, which lives as long as this.
    ///
    /// # Safety
    /// `env` and `array` belong to a native call.
    pub(crate) unsafe fn new(env: sys::napi_env, array: sys::napi_value) -> napi::Result<Self> {
        let (mut kind, mut length, mut data, mut reference) = (0, 0, null_mut(), null_mut());
        // SAFETY: what this function asks for, and the out pointers are valid.
        unsafe {
            checked(sys::napi_get_typedarray_info(
                env,
                array,
                &mut kind,
                &mut length,
                &mut data,
                null_mut(),
                null_mut(),
            ))?;
            if kind != sys::TypedarrayType::float64_array || length == 0 {
                return Err(Error::from_reason("what is sent on is written to a Float64Array"));
            }
            checked(sys::napi_create_reference(env, array, 1, &mut reference))?;
        }
        Ok(Self { env, array: reference, memory: data.cast(), length })
    }

    /// What is written there, from the first on, with the event; nothing is afterwards.
    pub(crate) fn take(&mut self, mut each: impl FnMut(To, usize)) {
        // SAFETY: the memory of a typed array does not move and lives as long as the array, which the
        // reference keeps; JavaScript runs on this thread alone, and not while this does.
        let words = unsafe { std::slice::from_raw_parts_mut(self.memory, self.length) };
        let [count, forwards @ ..] = words else { return };
        if *count == 0.0 {
            return;
        }
        let taken = std::mem::take(count) as usize;
        for forward in forwards.chunks_exact(WORDS).take(taken) {
            let &[target, index, exclude] = forward else { continue };
            let to = if exclude == TO_ONE {
                To::One(handle_of(target))
            } else {
                To::All(target as u64, (exclude != 0.0).then(|| handle_of(exclude)))
            };
            each(to, index as usize);
        }
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        // SAFETY: it was created in this environment, which lives, and is deleted once.
        unsafe { sys::napi_delete_reference(self.env, self.array) };
    }
}
