//! Tiers whose every operation is two awaits, one before and one after its effect.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::mem::take;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::glob::Glob;
use multi_tier_cache::entry::Entry;
use multi_tier_cache::testing::Hub;
use multi_tier_cache::traits::ValueAndTtl;
use multi_tier_cache::{Bytes, CacheBackend, CacheResult, Capabilities, InProcess, L2CacheBackend};
use parking_lot::Mutex;

use crate::explorer::{Footprint, changing, reading};

thread_local! {
    static TOUCHED: Cell<Option<Footprint>> = const { Cell::new(None) };
}

/// What the step under way touched, if it touched nothing else: it began where an operation was held before its
/// effect and ended where it was held after it.
pub(crate) fn touched() -> Option<Footprint> {
    TOUCHED.take()
}

/// Gives way once.
pub(crate) async fn pause() {
    let mut first = true;
    poll_fn(|context| {
        if take(&mut first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Says that the step under way touches this and nothing that was not said.
pub(crate) fn touch(footprint: Footprint) {
    TOUCHED.set(Some(TOUCHED.get().unwrap_or_default().and(footprint)));
}

/// Carries out `effect`, which touches what `footprint` says, between two awaits.
pub(crate) async fn apart<R>(footprint: Footprint, effect: impl FnOnce() -> R) -> R {
    pause().await;
    touch(footprint);
    let outcome = effect();
    pause().await;
    outcome
}

/// The first tier of an instance.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<BTreeMap<Arc<str>, Entry>>);

impl InProcess for Shelf {
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.0.lock().get(key).cloned()
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        self.0.lock().insert(Arc::clone(key), entry);
    }

    fn evict(&self, key: &str) {
        self.0.lock().remove(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.0.lock().retain(|key, _| !matches(key));
    }
}

/// A tier that is awaited: a shared one, or one of an instance's own.
pub(crate) struct Shelves {
    capabilities: Capabilities,
    place: u32,
    values: Mutex<BTreeMap<String, Bytes>>,
}

impl Shelves {
    pub(crate) fn new(capabilities: Capabilities, place: u32) -> Arc<Self> {
        Arc::new(Self { capabilities, place, values: Mutex::default() })
    }

    pub(crate) fn peek(&self, key: &str) -> Option<Bytes> {
        self.values.lock().get(key).cloned()
    }

    async fn apart<R>(&self, effect: impl FnOnce(&mut BTreeMap<String, Bytes>) -> R) -> R {
        apart(changing(self.place), || effect(&mut self.values.lock())).await
    }

    async fn scan(&self, doomed: Glob) -> CacheResult<()> {
        let keys: Vec<String> = self.values.lock().keys().filter(|key| doomed.matches(key)).cloned().collect();
        for key in keys {
            self.apart(|values| values.remove(&key)).await;
        }
        Ok(())
    }
}

/// The tier that coordinates: the coordinator's steps are taken apart by a stage, the tier's own here.
pub(crate) struct Apart {
    hub: Hub,
    keys: &'static [&'static str],
    place: u32,
}

impl Apart {
    /// `keys` are those that a scan finds.
    pub(crate) fn new(hub: Hub, keys: &'static [&'static str], place: u32) -> Arc<Self> {
        Arc::new(Self { hub, keys, place })
    }

    async fn scan(&self, doomed: Glob) -> CacheResult<()> {
        for key in self.keys.iter().filter(|key| doomed.matches(key)) {
            apart(changing(self.place), || self.hub.remove(key).now_or_never()).await;
        }
        Ok(())
    }
}

impl CacheBackend for Apart {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { apart(reading(self.place), || self.hub.peek(key)).await })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.hub.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.hub.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.hub.health_check()
    }

    fn name(&self) -> &'static str {
        "Apart"
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.scan(Glob::new(pattern)))
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(self.scan(Glob::new("*")))
    }

    fn capabilities(&self) -> Capabilities {
        self.hub.capabilities()
    }

    fn concrete(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(self.hub.clone()))
    }
}

impl L2CacheBackend for Apart {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        Box::pin(async move { Some((self.get(key).await?, None)) })
    }
}

impl CacheBackend for Shelf {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.lookup(key)?.into_bytes().ok() })
    }

    fn set_with_ttl<'a>(&'a self, _: &'a str, _: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
        unreachable!("an in-process tier is not awaited")
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        unreachable!("an in-process tier is not awaited")
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }

    fn name(&self) -> &'static str {
        "Shelf"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::CLEAR
    }

    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}

impl CacheBackend for Shelves {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(apart(reading(self.place), || self.peek(key)))
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.apart(|values| {
            values.insert(key.to_owned(), value);
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.apart(|values| {
            values.remove(key);
            Ok(())
        }))
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }

    fn name(&self) -> &'static str {
        "Shelves"
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.scan(Glob::new(pattern)))
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(self.scan(Glob::new("*")))
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl L2CacheBackend for Shelves {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        Box::pin(async move { Some((self.get(key).await?, None)) })
    }
}
