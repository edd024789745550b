//! How a cache fares, for people and for probes.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// How a cache, or a part of it, fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Every tier works, and the bus is followed.
    Ok,
    /// Requests are answered, but something is amiss: an outage below, removals to be made up for, doubtful freshness.
    Degraded,
    /// The first tier does not work.
    Failed,
}

/// How a cache fares: what [`CacheManager::health_report`](crate::CacheManager::health_report) answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// How it fares as a whole.
    pub status: HealthStatus,
    /// Whether requests should be sent here: true unless the status is `Failed`. An outage of a shared tier does not
    /// make an instance unready, for it would take all of them out at once.
    pub ready: bool,
    /// Every tier, in their order.
    pub tiers: Vec<TierHealth>,
    /// The invalidation bus; `None` for a cache that has joined none.
    pub bus: Option<BusHealth>,
}

/// Whether a tier works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TierHealth {
    /// The tier's level.
    pub tier_level: usize,
    /// The backend's name.
    pub backend_name: String,
    /// Whether the backend answers.
    pub healthy: bool,
    /// Operations of this tier that failed since the cache was made.
    pub errors: u64,
    /// Removals that failed here and are still to be made up for; the keys concerned are not read from this tier.
    pub owed_removals: usize,
    /// Whether it is left alone because it did not answer an operation a moment ago.
    pub left_alone: bool,
    /// What is amiss, in words; empty if nothing is.
    pub reasons: Vec<String>,
}

/// How an instance follows the log of invalidations.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BusHealth {
    /// Whether what is stored in process was known to reflect the log within the staleness bound.
    pub healthy: bool,
    /// Time since that was last known; in JSON in seconds.
    #[serde(rename = "proof_age_seconds", serialize_with = "seconds")]
    pub proof_age: Duration,
    /// Entries of the log that the latest poll found not yet followed.
    pub lag: u64,
    /// Invalidations that failed and are still to be made up for.
    pub pending_invalidations: usize,
    /// What is amiss, in words; empty if nothing is.
    pub reasons: Vec<String>,
}

impl HealthReport {
    pub(crate) fn new(tiers: Vec<TierHealth>, bus: Option<BusHealth>) -> Self {
        let amiss = |reasons: &Vec<String>| !reasons.is_empty();
        let fine = !tiers.iter().any(|tier| amiss(&tier.reasons)) && !bus.iter().any(|bus| amiss(&bus.reasons));
        let ready = tiers.first().is_some_and(|first| first.healthy);
        let status = match (ready, fine) {
            (false, _) => HealthStatus::Failed,
            (true, false) => HealthStatus::Degraded,
            (true, true) => HealthStatus::Ok,
        };
        Self { status, ready, tiers, bus }
    }

    /// The report as a JSON object, for the body of a probe's answer. It names no key, no address and no secret.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// # use multi_tier_cache::{Arc, CacheSystemBuilder, DashMapCache};
    /// # let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
    /// let report = system.health_report().await;
    /// let status = if report.ready { 200 } else { 503 };
    /// assert!(report.to_json().starts_with(r#"{"status":"ok","ready":true,"tiers":[{"tier_level":1"#));
    /// # assert_eq!(status, 200);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        // Numbers, words and lists of them have a form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl TierHealth {
    /// Says what is amiss.
    pub(crate) fn explained(mut self) -> Self {
        let reasons = &mut self.reasons;
        if !self.healthy {
            reasons.push("it does not answer its health check".to_owned());
        }
        if self.left_alone {
            reasons.push("it did not answer an operation a moment ago, and is left alone".to_owned());
        }
        if self.owed_removals > 0 {
            let owed = self.owed_removals;
            reasons.push(format!("it owes {owed} removals; what they concern is not read from it"));
        }
        self
    }
}

impl BusHealth {
    /// Of an instance whose entries are proven to be fresh for so long.
    pub(crate) fn new(proof_age: Duration, bound: Duration, lag: u64, pending_invalidations: usize) -> Self {
        let healthy = proof_age <= bound;
        let mut reasons = Vec::new();
        if !healthy {
            reasons.push(format!(
                "the log of invalidations was last followed {:.1} s ago, beyond the bound of {:.1} s",
                proof_age.as_secs_f64(),
                bound.as_secs_f64()
            ));
        }
        if pending_invalidations > 0 {
            reasons.push(format!("{pending_invalidations} invalidations are still to be made up for"));
        }
        Self { healthy, proof_age, lag, pending_invalidations, reasons }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
