//! A hit in the first tier, bytes.

use anyhow::Result;

use crate::contenders::{QUICK_CACHE, amalgam, cachet, established, foyer, ours, raw};
use crate::rounds::{Bar, Contender, Role, Row};
use crate::stage::Stage;
use crate::unit::Unit;
use crate::workload::{RESIDENT, SMALL_VALUE, keys, value};

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    stage.empty_redis()?;
    let keys: &[String] = Vec::leak(keys(RESIDENT));
    let value = value(SMALL_VALUE);
    let mut contenders = Vec::new();

    let cache = raw::quick_cache(keys, |_| value.clone());
    contenders.push(Contender::call(QUICK_CACHE, Role::Raw, keys, move |key| cache.get(key)));
    let cache = raw::moka(keys, &value);
    contenders.push(Contender::call("moka sync", Role::Raw, keys, move |key| cache.get(key)));
    let cache = foyer::cache(keys, |_| value.clone());
    let get = move |key: &str| cache.get(key).map(|entry| entry.value().clone());
    contenders.push(Contender::call(foyer::NAME, Role::Raw, keys, get));

    let by_dash_map = ours::quick_cache_and(ours::dash_map())?;
    let with_moka = ours::moka_and(ours::dash_map())?;
    let system = stage.prepare(ours::default_system(&stage.redis_url()))?;
    let old_moka = established::moka_and(established::dash_map())?;
    let old_quick_cache = established::quick_cache_and(established::dash_map())?;
    stage.prepare(async {
        ours::fill(&by_dash_map, keys, &value).await?;
        ours::fill(&with_moka, keys, &value).await?;
        ours::fill(&system.cache_manager, keys, &value).await?;
        established::fill(&old_moka, keys, &value).await?;
        established::fill(&old_quick_cache, keys, &value).await
    })?;
    let narrow = &stage.narrow;
    let bar = Bar::at_most(1.6, QUICK_CACHE);
    let get = async move |key: &str| by_dash_map.get(key).await;
    contenders.push(Contender::verb("ours, L2 DashMap", Role::Ours, narrow, keys, get).bar(bar.clone()));
    let get = async move |key: &str| system.cache_manager.get(key).await;
    contenders.push(Contender::verb("ours, default system, L2 Redis", Role::Ours, narrow, keys, get).bar(bar));
    let get = async move |key: &str| with_moka.get(key).await;
    contenders.push(Contender::verb("ours, Moka", Role::Ours, narrow, keys, get).against(established::MOKA));
    let get = async move |key: &str| old_moka.get(key).await;
    contenders.push(Contender::verb(established::MOKA, Role::Established, narrow, keys, get));
    let get = async move |key: &str| old_quick_cache.get(key).await;
    contenders.push(Contender::verb(established::QUICK_CACHE, Role::Established, narrow, keys, get));

    let cache = amalgam::cache()?;
    let oxidizer = stage.prepare(async {
        let oxidizer = cachet::cache();
        for key in keys {
            cache.set(key, value.clone()).await?;
            oxidizer.insert(key.clone(), value.clone()).await?;
        }
        anyhow::Ok(oxidizer)
    })?;
    let get = async move |key: &str| cache.try_get(key).await;
    contenders.push(Contender::verb(amalgam::NAME, Role::Neighbour, narrow, keys, get));
    let get = async move |key: &str| oxidizer.get(key).await;
    contenders.push(Contender::verb(cachet::NAME, Role::Neighbour, narrow, keys, get));

    let title = format!("L1 hit, {SMALL_VALUE} bytes");
    let operations = stage.operations(40_000);
    Ok(vec![Row { id: "l1-bytes", title, unit: Unit::Nanoseconds, operations, contenders }])
}
