//! How the tiers fare, and how the log is followed.

use futures_util::future::join_all;

use super::{Engine, within};
use crate::defaults;
use crate::stack::Tier;
use crate::telemetry::{BusHealth, TierHealth};

impl Engine {
    /// Every tier, asked side by side.
    pub(crate) async fn health(&self) -> Vec<TierHealth> {
        join_all(self.tiers.iter().map(tier_health)).await
    }

    /// How the log is followed; `None` without a bus.
    pub(crate) fn bus_health(&self) -> Option<BusHealth> {
        let (shared, stats) = (self.shared.as_ref()?, self.coherence());
        Some(BusHealth::new(stats.proof_age?, shared.staleness_bound(), stats.lag, stats.pending_invalidations))
    }
}

async fn tier_health(tier: &Tier) -> TierHealth {
    let healthy = within(Some(defaults::TIER_BUDGET), tier.works()).await.unwrap_or(false);
    let remote = tier.remote();
    let health = TierHealth {
        tier_level: tier.level,
        backend_name: tier.backend.name().to_owned(),
        healthy,
        errors: remote.map_or(0, |remote| remote.errors()),
        owed_removals: remote.map_or(0, |remote| remote.owed()),
        left_alone: remote.is_some_and(|remote| remote.is_left_alone()),
        reasons: Vec::new(),
    };
    health.explained()
}
