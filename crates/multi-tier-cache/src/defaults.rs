//! Every bound of the library, named, with its default.

use std::time::Duration;

/// What keys of the library's own begin with (leases, logs, fences): no value and no pattern of a user reaches them.
pub(crate) const RESERVED: &str = "mtc:";

/// Entries of the default L1.
pub const L1_ENTRIES: u64 = 2_000;
/// Entries of a `DashMap` tier made by [`DashMapCache::new`](crate::backends::DashMapCache::new).
pub const DASHMAP_ENTRIES: usize = 100_000;
/// TTL of [`CacheBackend::set`](crate::traits::CacheBackend::set), of
/// [`CacheStrategy::Default`](crate::CacheStrategy::Default) and of [`Freshness::default`](crate::Freshness).
pub const TTL: Duration = Duration::from_secs(300);
/// How long a key whose load failed is not loaded again, if it has a value to be answered instead.
pub const ERROR_THROTTLE: Duration = Duration::from_secs(5);
/// How long a load that has no other deadline may take.
pub const LOAD_DEADLINE: Duration = Duration::from_secs(30);
/// Tiers for which one [`Freshness`](crate::Freshness) can set a TTL.
pub const MAX_TIERS: usize = 8;
/// TTL of a promoted copy whose source cannot tell how long it still lives.
pub const PROMOTED_TTL: Duration = Duration::from_secs(300);
/// One hit in this many is promoted.
pub const PROMOTION_FREQUENCY: usize = 10;
/// Longest value a cache stores, in bytes.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// Longest value that [`inspect`](crate::inspect) takes apart, in bytes: the longest string of a Redis server.
pub const INSPECTED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Typed values longer than this are compressed on their way into an awaited tier, in bytes …
pub const COMPRESS_ABOVE: usize = 16 * 1024;
/// … if that saves at least one byte in this many.
pub const COMPRESS_SAVING: usize = 8;
/// The TTL that a store says remains may exceed the one that was written by this much, as whole seconds do; beyond, a
/// typed value counts as stale.
pub const REMAINING_TOLERANCE: Duration = Duration::from_secs(1);
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 64 * 1024;
/// Shards of the table of operations in flight.
pub const IN_FLIGHT_SHARDS: usize = 64;
/// Longest time one operation of one tier may take.
pub const TIER_BUDGET: Duration = Duration::from_secs(1);
/// Longest time a removal by pattern may take in one tier.
pub const PATTERN_BUDGET: Duration = Duration::from_secs(60);
/// How long a tier that failed is left alone before one operation tries it again.
pub const BREAKER_WINDOW: Duration = Duration::from_millis(200);
/// Longest time one attempt to connect to a server may take.
pub const CONNECT_BUDGET: Duration = Duration::from_secs(1);
/// First pause between attempts to connect; doubled and jittered up to [`RECONNECT_PAUSE_MAX`].
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between attempts to connect. There is no last attempt.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Keys asked of one SCAN: the server answers nobody else meanwhile.
pub const SCAN_BATCH: usize = 200;
/// Keys of one UNLINK, and of one round trip to Memcached.
pub const KEY_CHUNK: usize = 500;
/// Reads of single keys that may wait for a round trip together, on one connection to Redis; beyond, each has its own.
pub const READS_WAITING: usize = 16_384;
/// Round trips with several such reads that are under way at a time …
pub const READ_WRITES: usize = 8;
/// … the reads of one of them, at most …
pub const MERGED_READS: usize = 32;
/// … at first, and twice as many after each that was answered …
pub const MERGED_READS_FIRST: usize = 8;
/// … or, where more wait, one in so many of them …
pub const MERGED_SHARE: usize = 8;
/// … and fewer if the values seen lately let expect more bytes than this …
pub const MERGED_BYTES: usize = 1024 * 1024;
/// … and none while values larger than this are expected: every read is sent by its caller then.
pub const MERGED_VALUE: usize = 64 * 1024;
/// Writes that ask for each key by itself after Redis refused to answer for several at once.
pub const MERGED_SINGLY: usize = 100;
/// Keys of one MGET, and names of one question about tags.
pub const READ_CHUNK: usize = 1_000;
/// Keys that a batched read works on at a time; more come in their turn.
pub const BATCH_KEYS: usize = 10_000;
/// Steps of one batch that are under way at a time: single reads where a tier has none for many keys, questions for
/// leases, fills and puts.
pub const BATCH_WIDTH: usize = 256;
/// Longest time a blocking read of a stream may wait, in milliseconds.
pub const STREAM_BLOCK_MAX: usize = 24 * 60 * 60 * 1_000;
/// A `DashMapCache` keeps at most this many places in its queue for each entry …
pub const DASHMAP_QUEUE_FACTOR: usize = 3;
/// … but this many in any case.
pub const DASHMAP_QUEUE_MIN: usize = 1_024;
/// Most entries of a [`QuickCacheBackend`](crate::backends::QuickCacheBackend); a larger bound is lowered to it.
pub const QUICKCACHE_ENTRIES_MAX: u64 = 1 << 31;
/// A `QuickCacheBackend` bounded by entries is divided into shards of no fewer than this many.
pub const QUICKCACHE_SHARD_ENTRIES_MIN: u64 = 256;
/// A `QuickCacheBackend` bounded by bytes is divided into shards of no fewer than this many: the longest value fits.
pub const QUICKCACHE_SHARD_BYTES_MIN: u64 = 10 * 1024 * 1024;
/// A `QuickCacheBackend` remembers this share of its capacity in keys that it has evicted. Of 0.4 to 1 the value with the
/// best hits in loops that cost no other generated trace half a point (`comparison/`).
pub const QUICKCACHE_GHOSTS: f64 = 0.47;
/// What an entry weighs beside key and value in a `QuickCacheBackend` bounded by bytes: its place in tables that grow
/// by doubling, when they have just grown.
pub const QUICKCACHE_ENTRY_OVERHEAD: u64 = 224;
/// A `QuickCacheBackend` bounded by bytes sets one byte in this many aside, for what it remembers of evicted keys.
pub const QUICKCACHE_EVICTED_SHARE: u64 = 20;
/// What a value without bytes weighs in a `QuickCacheBackend` bounded by bytes.
pub const QUICKCACHE_OBJECT_BYTES: u64 = 1_024;
/// Entries of a `MokaCache`.
pub const MOKA_ENTRIES: u64 = 5_000;
/// Longest life of an entry of a `MokaCache`.
pub const MOKA_TIME_TO_LIVE: Duration = Duration::from_secs(60 * 60);
/// How long an entry of a `MokaCache` stays without being read.
pub const MOKA_TIME_TO_IDLE: Duration = Duration::from_secs(2 * 60);
/// Longest idleness that Moka accepts (1,000 years); a longer one is lowered to it.
pub const MOKA_TIME_TO_IDLE_MAX: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);
/// How long a connection to Redis may be idle before it is probed with a PING.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// A connection to a server that refuses writes as a replica is replaced, but only this long after it was made.
pub const DEMOTED_PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for the PING that decides whether a connection whose operation timed out is kept.
pub const VERIFY_BUDGET: Duration = Duration::from_millis(200);
/// Longest time an async constructor of a Redis tier waits for the first connection before it returns without.
pub const EAGER_CONNECT_WAIT: Duration = Duration::from_millis(250);
/// Idle time after which the kernel probes a TCP connection to Redis.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Pause between such probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Idle connections kept for blocking reads of streams.
pub const STREAM_IDLE_CONNECTIONS: usize = 4;
/// Connections of a `MemcachedCache` to one server, for each Tokio runtime that uses it.
pub const MEMCACHED_CONNECTIONS: usize = 32;
/// Bytes of values in one round trip of a `MemcachedCache` that writes many.
pub const MEMCACHED_CHUNK_BYTES: usize = 1024 * 1024;
/// Tokio runtimes for which a `MemcachedCache` keeps connections; beyond, it begins anew.
pub const MEMCACHED_RUNTIMES: usize = 256;
/// Keys whose removal a tier may owe and make up for in the background; beyond, by those who read them.
pub const OWED_KEYS: usize = 100_000;
/// Keys beyond those that are remembered as owed; beyond them, nothing in the tier is read until the process restarts.
pub const OWED_HASHES: usize = 1_000_000;
/// Patterns that a tier refuses are remembered one by one up to this many, then as everything.
pub const REFUSED_PATTERNS: usize = 16;
/// Patterns, and tags, whose removal a tier may owe; beyond, as for the keys.
pub const OWED_PATTERNS: usize = 1_000;
/// Longest age of what an in-process hit may fail to reflect while the bus works: the staleness bound.
pub const STALENESS_BOUND: Duration = Duration::from_secs(2);
/// Longest age of what it may fail to reflect while freshness cannot be proven, in the mode `Available`.
pub const STALENESS_LIMIT: Duration = Duration::from_secs(30);
/// Pause between polls of the invalidation log.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Entries that the invalidation log keeps.
pub const LOG_LENGTH: usize = 100_000;
/// Questions in a row that one look at the log may take, if it changes meanwhile.
pub const POLL_ATTEMPTS: usize = 8;
/// Least pause between polls.
pub const POLL_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Entries read from the log at once.
pub const LOG_PAGE: usize = 1_000;
/// How long an instance remembers its own invalidations, to replay them after a failover that lost them.
pub const JOURNAL_WINDOW: Duration = Duration::from_secs(120);
/// Most invalidations it remembers; beyond, a replay clears everything.
pub const JOURNAL_ENTRIES: usize = 100_000;
/// How long a lease on a key lasts unless it is renewed, as it is while its load runs: the time after which another
/// instance takes over when its holder dies.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long a caller waits for the load of another instance before it loads without storing.
pub const WAIT_BUDGET: Duration = Duration::from_secs(2);
/// First pause between looks at a lease that another instance holds; doubled after [`LEASE_POLL_EAGER`].
pub const LEASE_POLL_MIN: Duration = Duration::from_millis(2);
/// How long such looks come in quick succession.
pub const LEASE_POLL_EAGER: Duration = Duration::from_millis(100);
/// Longest pause between such looks.
pub const LEASE_POLL_MAX: Duration = Duration::from_millis(100);
/// How long a removal keeps readers from the shared tiers below the coordinator.
pub const TOMBSTONE: Duration = Duration::from_secs(60);
/// How long an instance watches what it wrote into such a tier, to take it back if the key is removed: longer than the
/// scans of two tiers, after which a removal by pattern is announced.
pub const TAKE_BACK_WINDOW: Duration = Duration::from_secs(180);
/// A write into such a tier that took longer than this is taken back.
pub const WRITE_BELOW_MAX: Duration = Duration::from_secs(20);
/// Writes it watches for that; beyond, values are not written below.
pub const TAKE_BACK_ENTRIES: usize = 100_000;
/// Removals of single keys that may wait to be carried out together; beyond, each is carried out by its caller.
pub const REMOVALS_WAITING: usize = 16_384;
/// The removals of one such batch, unless an eighth of those that wait is more, …
pub const MERGED_REMOVALS: usize = 50;
/// … and fewer if their keys have more bytes together than this.
pub const MERGED_REMOVAL_BYTES: usize = 64 * 1024;
/// How long a removal waits for others before it is carried out alone.
pub const REMOVAL_WAIT: Duration = Duration::from_millis(100);
/// Keys removed by one message.
pub const KEYS_PER_MESSAGE: usize = 1_000;
/// Entries of the log whose names an instance remembers, to compare them with a tail.
pub const BUS_RING: usize = 4_096;
/// Longest message that is read; a longer one counts as a gap.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Times that the handler of a subscriber of the log is given one message; then it is skipped.
pub const HANDLER_ATTEMPTS: usize = 5;
/// Most tags of one entry.
pub const TAGS_MAX: usize = 64;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 1_024;
/// Revoked tags that an instance remembers; beyond, everything in process is forgotten once.
pub const REVOKED_TAGS: usize = 100_000;
/// Revoked tags that a load of a value with tags has not looked at yet; beyond, it asks for those of its own.
pub const TAGS_WAITING: usize = 64;
/// Least time to live of a tag's token in Redis.
pub const TAG_TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How much longer than its entries a tag's token lives.
pub const TAG_TOKEN_MARGIN: Duration = Duration::from_secs(60 * 60);
/// Messages of a subscription that wait to be taken; beyond, the subscription ends, and the log tells what was missed.
pub const MESSAGES_WAITING: usize = 4_096;

/// Keys of one typed cache of which failed loads are remembered; further ones are not throttled.
pub const THROTTLED_KEYS: usize = 10_000;

/// Refreshes in the background that one typed cache runs at a time; a value that finds no room is refreshed by a later
/// read.
pub const REFRESHES: usize = 1_024;

/// A copy of a value that came back from a shared tier may look younger than the value by so much: times are kept there
/// in milliseconds, and count from when the copy arrived.
pub const COPY_TOLERANCE: Duration = Duration::from_millis(100);

/// Loads that a system runs at a time.
pub const MAX_LOADS: usize = 4_096;

/// How long a call waits for another load to end when as many run as may.
pub const LOAD_QUEUE_WAIT: Duration = Duration::from_secs(10);

/// A tier whose last operation was not answered is told of for so long, unless another is answered.
pub const TIER_FAILURE_TOLD: Duration = Duration::from_secs(60);

/// From then on a health check that is answered tells more than an operation before it that was not.
pub const TIER_FAILURE_COUNTS: Duration = Duration::from_secs(2);

/// Typed caches that metrics are told of by name; further ones are told of together.
pub const TELEMETRY_CACHES: usize = 100;

/// Typed caches that are known at all. Promotions and expired entries of further ones are told as those of the verbs on
/// bytes.
pub const TELEMETRY_CACHES_KNOWN: usize = 10_000;

/// Upper bounds of the buckets in which operations are counted by their time.
pub const DURATION_BOUNDS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// Upper bounds of the buckets in which hits are counted by the age of their values.
pub const AGE_BOUNDS: [Duration; 10] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
    Duration::from_secs(7 * 24 * 60 * 60),
];

/// The age of a hit is told if it comes in one of so many slices of time, each of some four milliseconds.
pub const AGE_SAMPLES: u64 = 64;
