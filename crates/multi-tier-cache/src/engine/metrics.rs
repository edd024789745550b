//! Everything that an engine counts, at one moment.

use super::Engine;
use crate::stack::{Store, Tier};
use crate::telemetry::{Collector, Metrics, names};

impl Engine {
    pub(crate) fn metrics(&self) -> Metrics {
        let mut into = Collector::default();
        self.telemetry.collect(&mut into);
        for (position, tier) in self.tiers.iter().enumerate() {
            self.collect_tier(position, tier, &mut into);
        }
        let stats = self.stats();
        into.count(&names::MISSES, &[], stats.misses);
        into.count(&names::COALESCED, &[], self.stats.coalesced_so_far());
        into.count(&names::PROMOTIONS, &[], self.telemetry.promotions());
        into.amount(&names::IN_FLIGHT, &[], stats.in_flight_requests);
        let (limit, free) = (self.options.max_loads, self.loads.available_permits());
        into.amount(&names::LOADS_RUNNING, &[], limit.saturating_sub(free));
        into.amount(&names::LOADS_LIMIT, &[], limit);
        self.collect_bus(&mut into);
        self.collect_coherence(&mut into);
        into.finish()
    }

    fn collect_tier(&self, position: usize, tier: &Tier, into: &mut Collector) {
        let (level, backend) = (format!("L{}", tier.level), tier.backend.name());
        let labels: &[&str] = &[&level, backend];
        into.count(&names::TIER_HITS, labels, self.stats.hits_of(position));
        let usage = match &tier.store {
            Store::Local(face) => face.usage(),
            Store::Remote(remote) => {
                remote.latencies().collect(&level, backend, into);
                into.count(&names::TIER_ERRORS, labels, remote.errors());
                into.level(&names::TIER_BREAKER, labels, f64::from(u8::from(remote.is_left_alone())));
                into.amount(&names::TIER_PENDING, labels, remote.owed());
                return;
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "every format has floating-point numbers")]
        let amount = |amount: u64| amount as f64;
        if let Some(entries) = usage.entries {
            into.level(&names::TIER_ENTRIES, labels, amount(entries));
        }
        if let Some(bytes) = usage.bytes {
            into.level(&names::TIER_BYTES, labels, amount(bytes));
        }
        if let Some(evictions) = usage.evictions {
            into.count(&names::TIER_EVICTIONS, labels, evictions);
        }
    }

    fn collect_bus(&self, into: &mut Collector) {
        let Some(messages) = self.messages() else { return };
        let stats = self.coherence();
        #[expect(clippy::cast_precision_loss, reason = "every format has floating-point numbers")]
        into.level(&names::BUS_LAG, &[], stats.lag as f64);
        if let Some(age) = stats.proof_age {
            into.level(&names::BUS_PROOF_AGE, &[], age.as_secs_f64());
        }
        for (metric, count) in [
            (&names::BUS_SENT, messages.messages_sent),
            (&names::BUS_RECEIVED, messages.messages_received),
            (&names::BUS_ERRORS, messages.processing_errors),
            (&names::BUS_GAPS, stats.gaps),
            (&names::BUS_RESYNCS, stats.resyncs),
            (&names::BUS_FLUSHES, stats.flushes),
            (&names::BUS_JOINS, stats.joins),
            (&names::BUS_FORKS, stats.forks),
            (&names::BUS_REPLAYED, stats.replayed),
            (&names::BUS_FAILED_POLLS, stats.failed_polls),
            (&names::BUS_SUBSCRIPTIONS, stats.subscriptions),
            (&names::UNPROVEN_HITS, stats.unproven_hits),
        ] {
            into.count(metric, &[], count);
        }
        for (kind, count) in [
            ("remove", messages.removes_received),
            ("update", messages.updates_received),
            ("pattern", messages.patterns_received),
            ("bulk", messages.bulk_removes_received),
        ] {
            into.count(&names::BUS_CHANGES, &[kind], count);
        }
    }

    fn collect_coherence(&self, into: &mut Collector) {
        let stats = self.coherence();
        into.count(&names::REFUSED_JOINS, &[], stats.refused_joins);
        into.count(&names::REFUSED_FILLS, &["process"], stats.refused_local_fills);
        if self.shared.is_none() {
            return;
        }
        into.count(&names::REFUSED_FILLS, &["coordinator"], stats.refused_fills);
        into.count(&names::LEASE_WAITS, &[], stats.lease_waits);
        into.count(&names::TAKEOVERS, &[], stats.takeovers);
        into.count(&names::UNLEASED_LOADS, &[], stats.unleased_loads);
        into.amount(&names::PENDING_INVALIDATIONS, &[], stats.pending_invalidations);
        into.count(&names::TAKEN_BACK, &[], stats.taken_back);
    }
}
