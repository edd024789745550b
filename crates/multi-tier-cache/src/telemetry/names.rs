//! Every name under which something is told: metrics, labels, events and spans.

use super::metric::{Metric, MetricKind};

/// The name of a cache, or [`BYTES`], or [`OTHER`].
pub const CACHE: &str = "cache";
/// What was asked; see [`Operation`](super::Operation), and for tiers the verb of the backend.
pub const OPERATION: &str = "operation";
/// How it went; see [`Activity`](super::Activity).
pub const ACTIVITY: &str = "activity";
/// Why a stale value was answered: `revalidating` (within its window; a call with a loader refreshes it in the background),
/// `load_failed` (or too many loads ran), `load_slow` (at the soft deadline), `throttled` (its load failed a moment ago and
/// is not repeated yet).
pub const REASON: &str = "reason";
/// The level of a tier: `L1` for the first.
pub const TIER: &str = "tier";
/// The name of its backend.
pub const BACKEND: &str = "backend";
/// What a message tells: `remove`, `update`, `pattern` or `bulk`.
pub const KIND: &str = "kind";
/// Who refused: `process` or `coordinator`.
pub const BY: &str = "by";

/// The name under which the verbs on bytes are told.
pub const BYTES: &str = "bytes";
/// The name under which all caches are told beyond the first
/// [`TELEMETRY_CACHES`](crate::defaults::TELEMETRY_CACHES).
pub const OTHER: &str = "other";

/// The name of every event of `tracing`. Its fields: `cache.name`, `cache.operation`, `cache.activity`, `cache.count`,
/// and `cache.duration_ns` where the time is known; see [`CacheEvent`](super::CacheEvent).
///
/// | level | activities |
/// |---|---|
/// | `ERROR` | `error` |
/// | `INFO` | `expired` `refresh_miss` `inserted` `invalidated` `fallback` `promotion` |
/// | `DEBUG` | `hit` `miss` `refresh_hit` `ok` |
///
/// Hits are told if `DEBUG` was enabled for [`EVENT_TARGET`] when the cache was built, or a listener hears of them.
pub const EVENT: &str = "cache.event";
/// The target of events, for filters: `multi_tier_cache::event=info`.
pub const EVENT_TARGET: &str = "multi_tier_cache::event";
/// The target of spans, all of them of the level `DEBUG` and with the field `cache.name`.
pub const SPAN_TARGET: &str = "multi_tier_cache::span";
/// The span of a read below the first tiers in process.
pub const SPAN_READ: &str = "cache.read";
/// The span of a run of a loader.
pub const SPAN_LOAD: &str = "cache.load";
/// The span of a put.
pub const SPAN_PUT: &str = "cache.put";
/// The span of a removal.
pub const SPAN_INVALIDATE: &str = "cache.invalidate";

/// The content type of Prometheus' text format.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

macro_rules! catalogue {
    ($($name:ident $kind:ident $metric:literal $instrument:literal $unit:literal [$($label:ident),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $name: Metric = Metric {
                name: $metric,
                instrument: $instrument,
                kind: MetricKind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// Every metric, in the order in which they are written.
        pub const CATALOGUE: &[Metric] = &[$($name),+];
    };
}

catalogue! {
    EVENTS Counter "mtc_events_total" "cache.event.count" "{event}" [CACHE, OPERATION, ACTIVITY]
        "What happened in each cache.";
    OPERATION_DURATION Histogram "mtc_operation_duration_seconds" "cache.operation.duration" "s" [CACHE, OPERATION]
        "Time that calls took which waited for more than a lookup in process: reads below the first tiers, loads, puts and removals.";
    STALE_ANSWERS Counter "mtc_stale_answers_total" "cache.stale.answers" "{answer}" [CACHE, REASON]
        "Reads answered with a stale value.";
    HIT_AGE Histogram "mtc_hit_age_seconds" "cache.hit.age" "s" [CACHE]
        "Time since the load began that made the value of a hit; of a few hits of typed caches in one of 64 slices of time.";
    LOADS Counter "mtc_loads_started_total" "cache.load.started" "{load}" [CACHE]
        "Loads of typed caches that began.";
    NOT_MODIFIED Counter "mtc_loads_not_modified_total" "cache.load.not_modified" "{load}" [CACHE]
        "Loads that found the previous value unchanged.";
    REFRESHES Counter "mtc_refreshes_started_total" "cache.refresh.started" "{refresh}" [CACHE]
        "Refreshes from the source that began in the background.";
    REJECTED Counter "mtc_entries_rejected_total" "cache.entry.rejected" "{entry}" [CACHE]
        "Stored entries of another type, schema or format, each a miss.";
    TIER_HITS Counter "mtc_tier_hits_total" "cache.tier.hits" "{hit}" [TIER, BACKEND]
        "Requests that a tier answered.";
    MISSES Counter "mtc_misses_total" "cache.misses" "{request}" []
        "Requests that no tier had a value for, refreshes in the background included.";
    COALESCED Counter "mtc_coalesced_total" "cache.coalesced" "{request}" []
        "Requests that waited for the read or load of another and took its answer.";
    PROMOTIONS Counter "mtc_promotions_total" "cache.promotions" "{copy}" []
        "Copies made in a tier above the one that was hit.";
    IN_FLIGHT Gauge "mtc_in_flight_keys" "cache.in_flight" "{key}" []
        "Keys being read below the first tier, loaded or written.";
    LOADS_RUNNING Gauge "mtc_loads_running" "cache.load.running" "{load}" []
        "Loads that run; a load of many keys is one.";
    LOADS_LIMIT Gauge "mtc_loads_limit" "cache.load.limit" "{load}" []
        "Loads that may run at a time.";
    TIER_DURATION Histogram "mtc_tier_operation_duration_seconds" "cache.tier.operation.duration" "s" [TIER, BACKEND, OPERATION]
        "Time that an awaited tier took, failures included.";
    TIER_ERRORS Counter "mtc_tier_errors_total" "cache.tier.errors" "{error}" [TIER, BACKEND]
        "Operations of a tier that failed, those included that were not tried because the one before had failed.";
    TIER_BREAKER Gauge "mtc_tier_breaker_open" "cache.tier.breaker_open" "{tier}" [TIER, BACKEND]
        "1 for a minute after an awaited tier did not answer an operation, unless it answers another, else 0.";
    TIER_PENDING Gauge "mtc_tier_pending_removals" "cache.tier.pending_removals" "{removal}" [TIER, BACKEND]
        "Removals that failed in a tier and are still to be made up for.";
    TIER_ENTRIES Gauge "mtc_tier_entries" "cache.size" "{entry}" [TIER, BACKEND]
        "Entries of a tier in process, expired ones included that were not looked up since.";
    TIER_BYTES Gauge "mtc_tier_bytes" "cache.tier.bytes" "By" [TIER, BACKEND]
        "Bytes that the entries of a tier count for, where it is bounded by bytes.";
    TIER_EVICTIONS Counter "mtc_tier_evictions_total" "cache.tier.evictions" "{entry}" [TIER, BACKEND]
        "Entries that a tier in process dropped or declined to stay within its bound; Moka does not tell.";
    BUS_SENT Counter "mtc_bus_sent_total" "cache.bus.sent" "{message}" []
        "Invalidations announced.";
    BUS_RECEIVED Counter "mtc_bus_received_total" "cache.bus.received" "{message}" []
        "Messages received.";
    BUS_CHANGES Counter "mtc_bus_changes_total" "cache.bus.changes" "{message}" [KIND]
        "Messages received, by what they tell.";
    BUS_ERRORS Counter "mtc_bus_errors_total" "cache.bus.errors" "{message}" []
        "Messages that could not be understood or applied.";
    BUS_LAG Gauge "mtc_bus_lag_entries" "cache.bus.lag" "{entry}" []
        "Entries of the log that the latest poll found not yet followed.";
    BUS_PROOF_AGE Gauge "mtc_bus_proof_age_seconds" "cache.bus.proof_age" "s" []
        "Time since everything in process was last known to reflect the log.";
    BUS_GAPS Counter "mtc_bus_gaps_total" "cache.bus.gaps" "{message}" []
        "Messages that did not follow the one before.";
    BUS_RESYNCS Counter "mtc_bus_resyncs_total" "cache.bus.resyncs" "{resync}" []
        "Times that the log was read to catch up.";
    BUS_FLUSHES Counter "mtc_bus_flushes_total" "cache.bus.flushes" "{flush}" []
        "Times that everything in process was forgotten because the log could not tell what was missed.";
    BUS_JOINS Counter "mtc_bus_joins_total" "cache.bus.joins" "{join}" []
        "Times that the bus was joined.";
    BUS_FORKS Counter "mtc_bus_forks_total" "cache.bus.forks" "{failover}" []
        "Failovers that had lost entries of the log.";
    BUS_REPLAYED Counter "mtc_bus_replayed_total" "cache.bus.replayed" "{invalidation}" []
        "Invalidations done again because a failover may have lost them.";
    BUS_FAILED_POLLS Counter "mtc_bus_failed_polls_total" "cache.bus.failed_polls" "{poll}" []
        "Polls of the log that were not answered.";
    BUS_SUBSCRIPTIONS Counter "mtc_bus_subscriptions_total" "cache.bus.subscriptions" "{subscription}" []
        "Subscriptions opened; more than one means that one was lost.";
    UNPROVEN_HITS Counter "mtc_unproven_hits_total" "cache.unproven_hits" "{hit}" []
        "Hits served although their freshness was not proven within the bound.";
    REFUSED_FILLS Counter "mtc_refused_fills_total" "cache.refused_fills" "{fill}" [BY]
        "Loads and copies not stored because their key was invalidated meanwhile.";
    REFUSED_JOINS Counter "mtc_refused_joins_total" "cache.refused_joins" "{flight}" []
        "Loads under way that were closed to further callers because their key was invalidated.";
    LEASE_WAITS Counter "mtc_lease_waits_total" "cache.lease.waits" "{read}" []
        "Reads that waited for the load of another instance.";
    TAKEOVERS Counter "mtc_lease_takeovers_total" "cache.lease.takeovers" "{lease}" []
        "Leases got after waiting for one that ended without a value.";
    UNLEASED_LOADS Counter "mtc_unleased_loads_total" "cache.lease.unleased_loads" "{load}" []
        "Loads begun without a lease because another instance's took longer than the wait budget.";
    PENDING_INVALIDATIONS Gauge "mtc_pending_invalidations" "cache.pending_invalidations" "{invalidation}" []
        "Invalidations that failed at the coordinator and are still to be made up for.";
    TAKEN_BACK Counter "mtc_taken_back_total" "cache.taken_back" "{value}" []
        "Values taken back from a tier below the coordinator because their key was invalidated meanwhile.";
}
