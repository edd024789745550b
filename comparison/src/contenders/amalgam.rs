//! amalgam-cache, in memory only.

use std::time::Duration;

use ::amalgam::{Cache, EntryOptions};
use anyhow::Result;

pub(crate) const NAME: &str = "amalgam 0.4.2, memory only";

pub(crate) fn cache<V: Clone + Send + Sync + 'static>() -> Result<Cache<V>> {
    Ok(Cache::builder().default_options(EntryOptions::new(Duration::from_secs(3600))).try_build()?)
}
