//! Setting up a typed cache.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::core::Core;
use crate::defaults::RESERVED;
use crate::engine::Engine;
use crate::entry::Tag;
use crate::error::{CacheError, CacheResult};
use crate::policy::Freshness;
use crate::serialization::{Codec, JsonSerializer};

/// Sets up a [`Cache`]; from [`CacheSystem::cache_builder`](crate::CacheSystem::cache_builder).
#[must_use]
pub struct CacheBuilder<K, V> {
    engine: Arc<Engine>,
    name: String,
    freshness: Freshness,
    tags: Arc<[Tag]>,
    codec: Option<Arc<dyn Codec<V>>>,
    type_name: Option<String>,
    schema_version: u32,
    keys: PhantomData<fn(K)>,
}

impl<K, V> CacheBuilder<K, V> {
    pub(crate) fn new(engine: Arc<Engine>, name: &str) -> Self {
        Self {
            engine,
            name: name.to_owned(),
            freshness: Freshness::default(),
            tags: Arc::default(),
            codec: None,
            type_name: None,
            schema_version: 0,
            keys: PhantomData,
        }
    }

    /// How old values may be. Five minutes, and nothing stale, unless set.
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// Names under which all values of this cache can be removed with [`Cache::remove_tag`], unless a call or a load
    /// gives others.
    pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(|tag| Tag::from(tag.as_ref())).collect();
        self
    }

    /// The format of values in tiers outside this process. JSON unless set. Every instance must use the same one:
    /// values in another are a miss.
    pub fn codec(mut self, codec: impl Codec<V>) -> Self {
        self.codec = Some(Arc::new(codec));
        self
    }

    /// What values are called in tiers outside this process, and the version of their fields. Values stored under
    /// another name or version are a miss: raise the version when old and new programs must not read each other's
    /// values. Rust's name of the type and 0 unless set; programs that share values and name the type differently must
    /// set it.
    pub fn schema(mut self, type_name: impl Into<String>, version: u32) -> Self {
        (self.type_name, self.schema_version) = (Some(type_name.into()), version);
        self
    }
}

impl<K, V> CacheBuilder<K, V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// The cache.
    ///
    /// # Errors
    /// `ConfigError` for an empty name, the name `mtc` or one that begins with `mtc:`, which keys of the library begin
    /// with, for freshness rules that cannot be followed ([`Freshness::check`]), or tags on a stack that has no way to
    /// revoke them.
    pub fn build(self) -> CacheResult<Cache<K, V>> {
        let codec = self.codec.clone().unwrap_or_else(|| Arc::new(JsonSerializer));
        self.build_with(codec)
    }
}

impl<K, V: Send + Sync + 'static> CacheBuilder<K, V> {
    /// The cache with values in this format, which need not implement serde's traits.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with_codec(self, codec: impl Codec<V>) -> CacheResult<Cache<K, V>> {
        self.build_with(Arc::new(codec))
    }

    fn build_with(self, codec: Arc<dyn Codec<V>>) -> CacheResult<Cache<K, V>> {
        check_name(&self.name)?;
        self.freshness.check()?;
        self.engine.check_tags(&self.tags)?;
        let schema = (self.type_name.as_deref(), self.schema_version);
        let core = Core::new(self.engine, &self.name, Arc::new(self.freshness), self.tags, codec, schema);
        Ok(Cache { core: Arc::new(core), keys: PhantomData })
    }
}

/// Keys begin with the name and a colon.
fn check_name(name: &str) -> CacheResult<()> {
    if name.is_empty() {
        return Err(CacheError::ConfigError("a cache needs a name that is not empty: its keys begin with it".into()));
    }
    if name.starts_with(RESERVED) || Some(name) == RESERVED.strip_suffix(':') {
        return Err(CacheError::ConfigError(format!(
            "no cache can be named `{name}`: keys that begin with `{RESERVED}` are the library's own; choose another name"
        )));
    }
    Ok(())
}

impl<K, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("name", &self.name)
            .field("freshness", &self.freshness)
            .finish_non_exhaustive()
    }
}
