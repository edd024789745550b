//! Puts a manager together: which tier coordinates, and where the log of invalidations is kept.

use std::any::Any;
use std::sync::Arc;

use super::CacheManager;
#[cfg(feature = "memcached")]
use crate::backends::MemcachedCache;
#[cfg(feature = "redis")]
use crate::backends::RedisCache;
#[cfg(feature = "redis")]
use crate::backends::redis::address::RedisAddress;
#[cfg(feature = "redis")]
use crate::backends::redis::connection::Supervisor;
#[cfg(feature = "memcached")]
use crate::coordinator::memcached::MemcachedCoordinator;
use crate::coordinator::memory::Hub;
#[cfg(feature = "redis")]
use crate::coordinator::redis::{Audit, RedisCoordinator};
use crate::coordinator::{SharedCoordinator, check_channel};
#[cfg(feature = "redis")]
use crate::defaults;
use crate::engine::{Announce, Coordination, Engine, Options};
use crate::error::{CacheError, CacheResult};
use crate::invalidation::{CoherenceConfig, InvalidationConfig};
use crate::serialization::CacheSerializer;
use crate::stack::CacheTier;
use crate::traits::{Capabilities, L2CacheBackend, StreamingBackend};

/// Whether a manager joins the invalidation bus, and how it is kept coherent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joining {
    pub(crate) bus: BusChoice,
    pub(crate) coherence: CoherenceConfig,
    /// What a test puts between the instance and its coordinator.
    #[cfg(feature = "test-util")]
    pub(crate) stage: Option<crate::testing::Stage>,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum BusChoice {
    /// No bus. Shared tiers are still filled under leases where they can be.
    #[default]
    Alone,
    /// The bus, if a tier can carry it.
    IfPossible,
    /// The bus, or a configuration error.
    Join(InvalidationConfig),
    /// The bus at another address than the values', unless it is the same.
    #[cfg(feature = "redis")]
    #[cfg_attr(not(feature = "moka"), expect(dead_code, reason = "asked for by the pair of Moka and Redis only"))]
    JoinAt(String, InvalidationConfig),
}

impl CacheManager {
    pub(crate) fn assemble(
        tiers: Vec<CacheTier>,
        streams: Option<Arc<dyn StreamingBackend>>,
        options: Options,
        joining: &Joining,
    ) -> CacheResult<Self> {
        joining.coherence.validate()?;
        let coordination = coordination(&tiers, joining)?;
        let engine = Engine::new(tiers, options, coordination)?;
        Ok(Self { engine, serializer: CacheSerializer::default(), streams })
    }
}

/// The nearest shared tier coordinates, if it can.
fn coordination(tiers: &[CacheTier], joining: &Joining) -> CacheResult<Option<Coordination>> {
    let shared = tiers.iter().position(|tier| tier.backend.capabilities().has(Capabilities::SHARED));
    let (config, wanted) = match &joining.bus {
        BusChoice::Alone => (InvalidationConfig::default(), None),
        BusChoice::IfPossible => (InvalidationConfig::default(), Some(false)),
        BusChoice::Join(config) => (config.clone(), Some(true)),
        #[cfg(feature = "redis")]
        BusChoice::JoinAt(_, config) => (config.clone(), Some(true)),
    };
    check_channel(&config.channel)?;
    let log = match shared {
        Some(position) => elsewhere(tiers, position, joining)?,
        None => None,
    };
    // Who keeps the log writes the audit stream.
    let audits = wanted.is_some() && log.is_none();
    let offered = shared.and_then(|position| {
        let backend = Arc::clone(&tiers.get(position)?.backend);
        let keeper = Keeper { config: &config, coherence: &joining.coherence, audits };
        Some((position, keeper.offered_by(backend)?))
    });
    let Some((position, coordinator)) = offered else {
        return match wanted {
            Some(true) => Err(no_coordinator()),
            _ => Ok(None),
        };
    };
    let wanted = if coordinator.keeps_log() { wanted } else { without_log(wanted)? };
    #[cfg(feature = "test-util")]
    let coordinator = match &joining.stage {
        Some(stage) => stage.around(coordinator),
        None => coordinator,
    };
    let announce = match wanted {
        None => None,
        Some(_) => Some(Announce { log, writes: config.auto_broadcast_on_write }),
    };
    Ok(Some(Coordination { position, coordinator, coherence: joining.coherence.clone(), announce }))
}

/// There is no bus where nobody keeps a log.
fn without_log(wanted: Option<bool>) -> CacheResult<Option<bool>> {
    if wanted == Some(true) { Err(no_coordinator()) } else { Ok(None) }
}

fn no_coordinator() -> CacheError {
    CacheError::ConfigError(
        "the invalidation bus needs a coordinator: the nearest shared tier must be Redis, with no other shared tier \
         above it"
            .into(),
    )
}

/// What a coordinator is made with.
struct Keeper<'a> {
    config: &'a InvalidationConfig,
    coherence: &'a CoherenceConfig,
    audits: bool,
}

impl Keeper<'_> {
    fn offered_by(&self, backend: Arc<dyn L2CacheBackend>) -> Option<SharedCoordinator> {
        let concrete: Arc<dyn Any + Send + Sync> = backend.concrete()?;
        let concrete = match concrete.downcast::<Hub>() {
            Ok(hub) => return Some(hub),
            Err(concrete) => concrete,
        };
        #[cfg(feature = "memcached")]
        let concrete = match concrete.downcast::<MemcachedCache>() {
            Ok(memcached) => return Some(Arc::new(MemcachedCoordinator::new(MemcachedCache::clone(&memcached)))),
            Err(concrete) => concrete,
        };
        #[cfg(feature = "redis")]
        if let Ok(redis) = concrete.downcast::<RedisCache>() {
            return Some(self.in_redis(redis.server().clone(), redis.prefix()));
        }
        #[cfg(not(feature = "redis"))]
        let _ = (concrete, self.config, self.coherence, self.audits);
        None
    }

    #[cfg(feature = "redis")]
    fn in_redis(&self, server: Supervisor, prefix: &str) -> SharedCoordinator {
        let audit = (self.audits && self.config.enable_audit_stream)
            .then(|| Audit { stream: self.config.audit_stream.clone(), maxlen: self.config.audit_stream_maxlen });
        Arc::new(RedisCoordinator::new(server, prefix, &self.config.channel, self.coherence.log_length, audit))
    }
}

/// The keeper of the log, if that is not the server of the values.
#[cfg(feature = "redis")]
fn elsewhere(tiers: &[CacheTier], position: usize, joining: &Joining) -> CacheResult<Option<SharedCoordinator>> {
    let BusChoice::JoinAt(url, config) = &joining.bus else { return Ok(None) };
    let address = RedisAddress::resolve(Some(url))?;
    let values = tiers.get(position).and_then(|tier| Arc::clone(&tier.backend).concrete());
    let Some(values) = values.and_then(|values| values.downcast::<RedisCache>().ok()) else {
        return Err(no_coordinator());
    };
    if values.server().is_at(&address) {
        return Ok(None);
    }
    let server = Supervisor::new(&address, defaults::TIER_BUDGET, None)?;
    let keeper = Keeper { config, coherence: &joining.coherence, audits: true };
    Ok(Some(keeper.in_redis(server, values.prefix())))
}

#[cfg(not(feature = "redis"))]
#[expect(clippy::unnecessary_wraps, reason = "with Redis it may fail")]
fn elsewhere(_: &[CacheTier], _: usize, _: &Joining) -> CacheResult<Option<SharedCoordinator>> {
    Ok(None)
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;
    use crate::backends::redis::config::RedisConfig;
    use crate::stack::TierConfig;

    const URL: &str = "redis://127.0.0.1:1";

    fn joins(backend: Arc<dyn L2CacheBackend>, bus: BusChoice) -> CacheResult<CacheManager> {
        let tiers = vec![CacheTier::with_config(backend, &TierConfig::as_l2())];
        CacheManager::assemble(tiers, None, Options::default(), &Joining { bus, ..Joining::default() })
    }

    /// In a name like `mtc:{CHANNEL}:1:p:bus` it would end the hash tag early: an empty one, for a channel that begins
    /// with it, leaves the bus and the log in two cluster slots; any other gives two namespaces one name.
    #[tokio::test]
    async fn a_channel_that_would_end_the_hash_tag_is_refused() {
        for (channel, valid) in
            [("cache:invalidate", true), ("a{b", true), ("", true), ("}", false), ("a}", false), ("{a}:b", false)]
        {
            let config = || InvalidationConfig { channel: channel.to_owned(), ..InvalidationConfig::default() };
            let redis = || Arc::new(RedisCache::with_config(RedisConfig::default().with_url(URL)).unwrap());
            let hub = Arc::new(Hub::with_log(crate::clock::Clock::system(), 10));
            let outcomes = [
                joins(redis(), BusChoice::Join(config())),
                joins(redis(), BusChoice::JoinAt(URL.to_owned(), config())),
                joins(redis(), BusChoice::JoinAt("redis://127.0.0.1:2".to_owned(), config())),
                joins(hub, BusChoice::Join(config())),
            ];
            for outcome in outcomes {
                match outcome {
                    Ok(_) => assert!(valid, "{channel}"),
                    Err(CacheError::ConfigError(message)) => assert!(!valid && message.contains(channel), "{message}"),
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    }
}
