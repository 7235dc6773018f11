//! The route table that shards read while handlers are still being registered.

use std::sync::{Arc, PoisonError, RwLock};

use crate::router::Router;

/// A router that can grow while it is used. Reading costs one uncontended lock and one refcount.
#[derive(Default)]
pub struct Routes(RwLock<Arc<Router>>);

impl Routes {
    /// The table as it is now.
    pub(crate) fn current(&self) -> Arc<Router> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the table for the next request. It is copied only if a request is being matched at
    /// this very moment.
    pub fn update<T>(&self, change: impl FnOnce(&mut Router) -> T) -> T {
        let mut router = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut router))
    }
}
