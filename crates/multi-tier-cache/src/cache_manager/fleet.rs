//! Verbs that say where an invalidation stands in the log, and reads that are at least as new.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CacheManager, unaccepted};
use crate::cache::CallOptions;
use crate::coordinator::Position;
use crate::engine::{BytesLoad, Fresh, Keep, Load, Removal, SharedLoad, TypedLoad, Wanted};
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult, Failure};
use crate::invalidation::CoherenceStats;

impl CacheManager {
    /// Like [`get`](Self::get), under these options.
    ///
    /// # Errors
    /// As [`get`](Self::get). For a read `at_least` a position: `InvalidationError`, retryable, if neither this
    /// instance nor the log can tell that the position is reflected (after a failover, or with Redis away);
    /// `ConfigError` without a bus.
    pub async fn get_with_options(&self, key: &str, options: &CallOptions) -> CacheResult<Option<Bytes>> {
        options.check_untyped()?;
        if self.is_reached(options).await? { self.get(key).await } else { Err(unreached()) }
    }

    /// Like [`get_or_compute_with`](Self::get_or_compute_with), under these options. If it cannot be told that a
    /// position is reflected, every cache is bypassed: the value is computed, and not stored.
    ///
    /// # Errors
    /// As [`get_or_compute_with`](Self::get_or_compute_with); `ConfigError` for tags on a stack that has no way to
    /// revoke them, or a position without a bus.
    pub async fn get_or_compute_with_options<F, Fut>(
        &self,
        key: &str,
        options: &CallOptions,
        compute: F,
    ) -> CacheResult<Bytes>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = CacheResult<Bytes>> + Send,
    {
        let cached = self.may_be_cached(options).await?;
        if cached && let Some(bytes) = self.engine.fresh_bytes(key, Some) {
            return Ok(bytes);
        }
        self.compute(key, options, cached, &mut BytesLoad::new(compute)).await?.into_bytes()
    }

    /// Like [`get_or_compute_typed`](Self::get_or_compute_typed), under these options.
    ///
    /// # Errors
    /// As [`get_or_compute_with_options`](Self::get_or_compute_with_options) and
    /// [`get_or_compute_typed`](Self::get_or_compute_typed).
    pub async fn get_or_compute_typed_with_options<T, F, Fut>(
        &self,
        key: &str,
        options: &CallOptions,
        compute: F,
    ) -> CacheResult<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = CacheResult<T>> + Send,
    {
        let cached = self.may_be_cached(options).await?;
        let decode = |bytes: Bytes| self.serializer.deserialize(&bytes).ok();
        if cached && let Some(value) = self.engine.fresh_bytes(key, decode) {
            return Ok(value);
        }
        let mut load = TypedLoad::new(self.serializer.clone(), compute);
        self.compute(key, options, cached, &mut load).await?;
        load.value.ok_or_else(unaccepted)
    }

    /// Like [`get_or_compute_shared`](Self::get_or_compute_shared), under these options.
    ///
    /// # Errors
    /// As [`get_or_compute_typed_with_options`](Self::get_or_compute_typed_with_options).
    pub async fn get_or_compute_shared_with_options<T, F, Fut>(
        &self,
        key: &str,
        options: &CallOptions,
        compute: F,
    ) -> CacheResult<Arc<T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = CacheResult<T>> + Send,
    {
        let cached = self.may_be_cached(options).await?;
        if cached && let Some(value) = self.engine.fresh_object(key) {
            return Ok(value);
        }
        let mut load = SharedLoad::new(self.serializer.clone(), compute);
        self.compute(key, options, cached, &mut load).await?;
        load.value.ok_or_else(unaccepted)
    }

    /// Replaces `key` in every tier, and drops it on every other instance. Answers its place in the log; `None`
    /// without a bus.
    ///
    /// # Errors
    /// As [`update_cache`](Self::update_cache); `ConfigError` for tags on a stack that has no way to revoke them, and
    /// for options of typed caches or of reads.
    pub async fn put(&self, key: &str, value: Bytes, options: &CallOptions) -> CacheResult<Option<Position>> {
        options.check_untyped()?;
        options.check_insert()?;
        self.put_value(key, value, options.ttl_or_default(), &options.tags, true).await
    }

    /// [`invalidate`](Self::invalidate), answering its place in the log; `None` without a bus.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn remove(&self, key: &str) -> CacheResult<Option<Position>> {
        self.remove_told(Removal::Key(key.into())).await
    }

    /// Removes several keys, with one message and at the coordinator in one step.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate); some keys may be gone then and others not.
    pub async fn remove_many(&self, keys: &[&str]) -> CacheResult<Option<Position>> {
        if keys.is_empty() {
            return Ok(None);
        }
        self.remove_told(Removal::keys(keys.iter().copied())).await
    }

    /// [`invalidate_pattern`](Self::invalidate_pattern), answering its place in the log.
    ///
    /// # Errors
    /// As [`invalidate_pattern`](Self::invalidate_pattern).
    pub async fn remove_pattern(&self, pattern: &str) -> CacheResult<Option<Position>> {
        self.remove_told(Removal::Pattern(pattern.into())).await
    }

    /// Removes every entry with this tag, on every instance: one step, however many entries there are.
    ///
    /// # Errors
    /// `InvalidationError` if the coordinator could not be reached; entries with the tag are not served here until it
    /// was made up for. `ConfigError` on a stack that has no way to revoke tags.
    pub async fn remove_tag(&self, tag: &str) -> CacheResult<Option<Position>> {
        self.remove_told(Removal::Tag(tag.into())).await
    }

    /// Removes everything this cache stored. One step in process, on every instance; shared tiers are scanned.
    ///
    /// # Errors
    /// `ConfigError`, with nothing removed, if a tier cannot tell this cache's keys from others (Redis without a
    /// prefix); `InvalidationError` if a tier could not be reached.
    pub async fn clear(&self) -> CacheResult<Option<Position>> {
        self.remove_told(Removal::Everything).await
    }

    /// How coherent this instance is with the others, and what it took.
    #[must_use]
    pub fn coherence_stats(&self) -> CoherenceStats {
        self.engine.coherence()
    }

    fn remove_told<'a>(&'a self, what: Removal<'a>) -> impl Future<Output = CacheResult<Option<Position>>> + 'a {
        self.engine.remove(self.engine.telemetry().bytes(), what)
    }

    /// Whether any cache may answer a call with these options.
    async fn may_be_cached(&self, options: &CallOptions) -> CacheResult<bool> {
        options.check_untyped()?;
        self.engine.check_tags(&options.tags)?;
        self.is_reached(options).await
    }

    async fn compute(&self, key: &str, options: &CallOptions, cached: bool, load: &mut dyn Load) -> CacheResult<Entry> {
        let mut load = Fresh { load, clock: self.engine.clock(), telemetry: self.engine.telemetry() };
        if !cached {
            return self.engine.load_alone(&mut load).await;
        }
        let keep = Keep { span: options.ttl_or_default().into(), tags: &options.tags };
        let hit = self.engine.read(key, Wanted::Loaded(&mut load, keep)).await?;
        hit.map(|hit| hit.entry).ok_or_else(unaccepted)
    }

    async fn is_reached(&self, options: &CallOptions) -> CacheResult<bool> {
        match options.at_least {
            Some(position) => self.engine.reach(position).await,
            None => Ok(true),
        }
    }
}

fn unreached() -> CacheError {
    let message = "it cannot be told whether the position is reflected here: the log has lost it, or cannot be read";
    CacheError::InvalidationError(Failure::new(message).during("get").retryable())
}
