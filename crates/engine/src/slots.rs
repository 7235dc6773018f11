//! Slots with generations, and the handles that name what is in them.
//!
//! A handle is shard, slot and generation in one number below 2^53, so that it passes through
//! JavaScript exactly. The generation grows with each use of a slot and a slot that has used them
//! all up is retired: a handle never comes to mean something else.

/// Names a connection or a request of one engine. Zero is never a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(u64);

const SHARD_BITS: u32 = 6;
const SLOT_BITS: u32 = 20;
const GENERATION_BITS: u32 = 27;

/// Most shards an engine can have: what the handle has room for.
pub(crate) const MAX_SHARDS: usize = 1 << SHARD_BITS;
/// Most connections, and most waiting requests, of one shard.
pub(crate) const MAX_SLOTS: usize = 1 << SLOT_BITS;
const MAX_GENERATION: u32 = (1 << GENERATION_BITS) - 1;

impl Handle {
    pub(crate) fn new(shard: usize, slot: usize, generation: u32) -> Self {
        Self(
            u64::from(generation) << (SHARD_BITS + SLOT_BITS)
                | (slot as u64) << SHARD_BITS
                | shard as u64,
        )
    }

    /// The number that stands for this handle outside the engine, below 2^53.
    pub fn to_number(self) -> u64 {
        self.0
    }

    /// Takes any number; one that was never a handle is a handle to nothing.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The shard that owns it.
    pub fn shard(self) -> usize {
        (self.0 & ((1 << SHARD_BITS) - 1)) as usize
    }

    /// Its place in the shard's table.
    pub fn slot(self) -> usize {
        ((self.0 >> SHARD_BITS) & ((1 << SLOT_BITS) - 1)) as usize
    }

    fn generation(self) -> u64 {
        self.0 >> (SHARD_BITS + SLOT_BITS)
    }
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A shard's table of connections or of requests.
pub(crate) struct Slots<T> {
    shard: usize,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new(shard: usize) -> Self {
        Self { shard, entries: Vec::new(), free: Vec::new() }
    }

    /// Puts what `make` makes of its handle into a free slot; `None` when there is none.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Handle) -> T) -> Option<Handle> {
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None if self.entries.len() < MAX_SLOTS => {
                self.entries.push(Entry { generation: 0, value: None });
                self.entries.len() - 1
            }
            None => return None,
        };
        let entry = &mut self.entries[slot];
        entry.generation += 1;
        let handle = Handle::new(self.shard, slot, entry.generation);
        entry.value = Some(make(handle));
        Some(handle)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&T> {
        let entry = self.entries.get(handle.slot())?;
        if u64::from(entry.generation) != handle.generation() || handle.shard() != self.shard {
            return None;
        }
        entry.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        self.get(handle)?;
        self.entries[handle.slot()].value.as_mut()
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        let entry = &mut self.entries[handle.slot()];
        let value = entry.value.take();
        if entry.generation < MAX_GENERATION {
            self.free.push(handle.slot() as u32);
        }
        value
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_never_reused() {
        let mut slots = Slots::new(3);
        let first = slots.insert_with(|_| "a").expect("room");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert_with(|_| "b").expect("room");
        assert_eq!(second.slot(), first.slot());
        assert_ne!(second, first);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"b"));
    }

    #[test]
    fn a_slot_that_ran_out_of_generations_is_retired() {
        let mut slots = Slots::new(0);
        let first = slots.insert_with(|_| ()).expect("room");
        slots.entries[first.slot()].generation = MAX_GENERATION;
        let last = Handle::new(0, first.slot(), MAX_GENERATION);
        assert!(slots.remove(last).is_some());
        let next = slots.insert_with(|_| ()).expect("room");
        assert_ne!(next.slot(), first.slot());
    }

    #[test]
    fn the_largest_handle_is_exact_in_javascript() {
        let handle = Handle::new(MAX_SHARDS - 1, MAX_SLOTS - 1, MAX_GENERATION);
        assert!(handle.to_number() < 1 << 53);
        assert_eq!(handle.to_number() as f64 as u64, handle.to_number());
        assert_eq!(handle.shard(), MAX_SHARDS - 1);
        assert_eq!(handle.slot(), MAX_SLOTS - 1);
    }

    #[test]
    fn a_made_up_handle_names_nothing() {
        let mut slots = Slots::new(1);
        slots.insert_with(|_| ());
        for number in [0, 1, 2, u64::MAX, 1 << 26] {
            assert!(slots.get(Handle::from_number(number)).is_none());
        }
    }
}
