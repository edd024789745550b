//! A loader of many keys, as the loads of single keys see it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::HashMap;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::fetch::{Loader, Progress};
use super::loaded::{LoadError, Loaded};
use crate::engine::panicked;
use crate::error::CacheError;

/// Loads the keys at these places; what it has no value for is left out.
pub(super) type BulkLoader<V, E> =
    Arc<dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<HashMap<usize, V>, E>> + Send + Sync>;

/// A loader of many keys. Each key has a share in the call that it is part of.
pub(super) struct Bulk<V, E> {
    load: BulkLoader<V, E>,
    /// The call under way, and how many have not taken their share of it yet.
    call: Mutex<Option<(Call<V, E>, usize)>>,
    progress: Arc<Progress>,
}

/// A call, polled by whoever waits for it; it ends with the last of them. Values are taken out of what it made.
type Call<V, E> = Shared<BoxFuture<'static, Result<Values<V>, LoadError<E>>>>;
type Values<V> = Arc<Mutex<HashMap<usize, V>>>;

impl<V: Send + 'static, E: Send + Sync + 'static> Bulk<V, E> {
    pub(super) fn new(load: BulkLoader<V, E>) -> Arc<Self> {
        Arc::new(Self { load, call: Mutex::default(), progress: Arc::default() })
    }

    /// Whether a call was begun.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Begins a call for these places.
    pub(super) fn begin(&self, places: &[usize]) {
        self.progress.loading.store(true, Ordering::Release);
        let (load, asked) = (Arc::clone(&self.load), places.to_vec());
        let call = AssertUnwindSafe(async move { load(asked).await }).catch_unwind().map(|ended| match ended {
            Ok(Ok(values)) => Ok(Arc::new(Mutex::new(values))),
            Ok(Err(error)) => Err(LoadError::own(error)),
            Err(panic) => Err(LoadError::Cache(panicked(panic.as_ref()))),
        });
        *self.call.lock() = Some((call.boxed().shared(), places.len()));
    }

    /// The loader of the key at `place`: its share in the call that is under way then.
    pub(super) fn share(self: &Arc<Self>, place: usize) -> Loader<'static, V, E> {
        let bulk = Arc::clone(self);
        Box::new(move |_| {
            let call = bulk.take_part();
            drop(bulk);
            Box::pin(async move {
                let values = call.ok_or_else(unbegun)?.await?;
                let value = values.lock().remove(&place);
                Ok(Loaded::from(value))
            })
        })
    }

    /// The call under way; it is not kept here once all have it.
    fn take_part(&self) -> Option<Call<V, E>> {
        let mut call = self.call.lock();
        let (under_way, left) = call.as_mut()?;
        *left -= 1;
        let under_way = under_way.clone();
        if *left == 0 {
            *call = None;
        }
        Some(under_way)
    }
}

fn unbegun<E>() -> LoadError<E> {
    LoadError::Cache(CacheError::InternalError("a share was asked for in a call that did not begin".into()))
}
