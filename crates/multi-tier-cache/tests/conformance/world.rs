//! What the instances share: a coordinator, which can be troubled, and a database.

use std::sync::Arc;

use multi_tier_cache::backends::RedisConfig;
use multi_tier_cache::clock::Clock;
use multi_tier_cache::testing::{Hub, Protection, Replica, Stage};
use multi_tier_cache::{CacheSystemBuilder, DashMapCache, L2CacheBackend, RedisCache, TierConfig};
use parking_lot::Mutex;
use test_servers::{Direction, FaultProxy, RedisServer};

use crate::harness::{Outcome, fresh, is_off};
use crate::instance::{Database, Instance, Setup, version};
use crate::tier::Tier;

/// What coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Memory,
}

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) store: Store,
}

pub(crate) enum Store {
    Redis(RedisServer),
    /// Clients go through the first proxy, replication through the second.
    Replicated {
        master: RedisServer,
        replica: RedisServer,
        clients: FaultProxy,
        link: FaultProxy,
        failed_over: Mutex<bool>,
    },
    Memory {
        hub: Hub,
        replica: Mutex<Option<Replica>>,
    },
}

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::of(match kind {
            Kind::Redis => Store::Redis(RedisServer::start().unwrap()),
            Kind::Memory => Store::Memory { hub: Hub::new(), replica: Mutex::default() },
        })
    }

    /// One that can fail over.
    pub(crate) fn replicated(kind: Kind) -> Self {
        if kind == Kind::Memory {
            return Self::new(kind);
        }
        let master = RedisServer::start().unwrap();
        let (clients, link) = (FaultProxy::start(master.port()).unwrap(), FaultProxy::start(master.port()).unwrap());
        let replica = RedisServer::builder().replica_of(link.port()).start().unwrap();
        replica.wait_synced().unwrap();
        Self::of(Store::Replicated { master, replica, clients, link, failed_over: Mutex::new(false) })
    }

    /// One whose log keeps next to nothing, with [`trim_log`](Self::trim_log).
    pub(crate) fn with_short_log(kind: Kind) -> Self {
        match kind {
            Kind::Redis => Self::new(kind),
            Kind::Memory => {
                let hub = Hub::with_log_length(Clock::system(), 1);
                Self::of(Store::Memory { hub, replica: Mutex::default() })
            }
        }
    }

    pub(crate) fn of(store: Store) -> Self {
        Self { database: Database::default(), store }
    }

    /// An instance that polls by hand, and has joined.
    pub(crate) async fn join(&self) -> Instance {
        self.join_as(Setup::quiet()).await
    }

    pub(crate) async fn join_as(&self, setup: Setup) -> Instance {
        let instance = self.build(setup, &Stage::new()).await;
        instance.settle().await;
        instance
    }

    /// An instance that need not have joined.
    pub(crate) async fn build(&self, setup: Setup, stage: &Stage) -> Instance {
        let tier = Tier::around(self.backend(&setup));
        let every = |level| TierConfig::new(level).with_promotion_frequency(1);
        let first = Arc::new(DashMapCache::new());
        let mut builder = CacheSystemBuilder::new()
            .with_tier(Arc::clone(&first) as _, TierConfig::as_l1())
            .with_tier(Arc::clone(&tier) as _, every(3))
            .with_coherence(setup.coherence)
            .with_stage(stage);
        if let Some(l3) = setup.l3 {
            builder = builder.with_tier(l3, every(4));
        }
        if let Some(disk) = setup.disk {
            builder = builder.with_tier(disk, every(2));
        }
        let system = builder.build().await.unwrap();
        let (cache, database) = (system.cache_manager, self.database.clone());
        Instance { cache, stage: stage.clone(), tier, database, first }
    }

    fn backend(&self, setup: &Setup) -> Arc<dyn L2CacheBackend> {
        if let Store::Memory { hub, .. } = &self.store {
            return Arc::new(hub.clone());
        }
        let url = setup.url.clone().unwrap_or_else(|| self.url());
        let url = if setup.database == 0 { url } else { format!("{url}/{}", setup.database) };
        let config = RedisConfig::default().with_url(url).with_prefix(setup.prefix).with_budget(setup.budget);
        Arc::new(RedisCache::with_config(config.with_eager(true)).unwrap())
    }

    fn url(&self) -> String {
        match &self.store {
            Store::Redis(server) => server.url(),
            Store::Replicated { clients, .. } => clients.url(),
            Store::Memory { .. } => unreachable!("there is no server"),
        }
    }

    /// The server that has the values now.
    pub(crate) fn server(&self) -> &RedisServer {
        match &self.store {
            Store::Redis(server) => server,
            Store::Replicated { master, replica, failed_over, .. } => {
                if *failed_over.lock() {
                    replica
                } else {
                    master
                }
            }
            Store::Memory { .. } => panic!("there is no server"),
        }
    }

    pub(crate) fn hub(&self) -> Option<&Hub> {
        if let Store::Memory { hub, .. } = &self.store { Some(hub) } else { None }
    }

    pub(crate) fn command(&self, parts: &[&str]) -> String {
        self.server().command(parts).unwrap()
    }

    /// The version that the shared tier holds, past the caches.
    pub(crate) fn stored(&self, key: &str) -> Option<u64> {
        if let Some(hub) = self.hub() {
            return hub.peek(key).map(|stored| version(&stored));
        }
        let reply = self.command(&["GET", key]);
        (!reply.starts_with("$-1")).then(|| version(reply.trim_end().as_bytes()))
    }

    /// Ends every subscription.
    pub(crate) fn cut_subscriptions(&self) {
        match self.hub() {
            Some(hub) => hub.cut_subscriptions(),
            None => drop(self.command(&["CLIENT", "KILL", "TYPE", "pubsub"])),
        }
    }

    /// Loses everything, the server staying up.
    pub(crate) fn flush(&self) {
        match self.hub() {
            Some(hub) => hub.restart_empty(),
            None => drop(self.command(&["FLUSHALL"])),
        }
    }

    pub(crate) fn publish(&self, payload: &str) {
        match self.hub() {
            Some(hub) => hub.publish_raw(payload.as_bytes()),
            None => drop(self.command(&["PUBLISH", CHANNEL, payload])),
        }
    }

    pub(crate) fn evict_leases(&self) {
        match self.hub() {
            Some(hub) => hub.evict_leases(),
            None => self.evict("mtc:l:*"),
        }
    }

    pub(crate) fn evict_tags(&self) {
        match self.hub() {
            Some(hub) => hub.evict_tags(),
            None => self.evict("mtc:*:tag:*"),
        }
    }

    pub(crate) fn evict_bus(&self) {
        match self.hub() {
            Some(hub) => hub.evict_bus(),
            None => self.evict("mtc:*:bus"),
        }
    }

    /// Ends the server at once.
    pub(crate) fn kill(&mut self) {
        self.server_mut().kill().unwrap();
    }

    /// Starts it again, empty.
    pub(crate) fn restart(&mut self) {
        self.server_mut().restart().unwrap();
    }

    fn server_mut(&mut self) -> &mut RedisServer {
        if let Store::Redis(server) = &mut self.store { server } else { panic!("not a server of its own") }
    }

    /// Keeps the last entry of the log only: a server trims in larger pieces.
    pub(crate) fn trim_log(&self) {
        if self.hub().is_none() {
            for log in self.names("mtc:*:log") {
                self.command(&["XTRIM", &log, "MAXLEN", "1"]);
            }
        }
    }

    /// Removes the matching keys behind everybody's back.
    pub(crate) fn evict(&self, pattern: &str) {
        for key in self.names(pattern) {
            self.command(&["DEL", &key]);
        }
    }

    pub(crate) fn names(&self, pattern: &str) -> Vec<String> {
        let reply = self.command(&["KEYS", pattern]);
        reply.split("\r\n").filter(|part| !part.starts_with(['*', '$']) && !part.is_empty()).map(Into::into).collect()
    }

    /// From now on the replica gets nothing any more.
    pub(crate) fn detach_replica(&self) {
        match &self.store {
            Store::Replicated { master, replica, link, .. } => {
                replica.wait_caught_up(master).unwrap();
                link.hold(Direction::Both);
            }
            Store::Memory { hub, replica } => *replica.lock() = Some(hub.replica()),
            Store::Redis(_) => panic!("there is no replica"),
        }
    }

    /// The replica takes over, with what it has.
    pub(crate) fn fail_over(&self) {
        match &self.store {
            Store::Replicated { replica, clients, failed_over, .. } => {
                replica.promote().unwrap();
                *failed_over.lock() = true;
                clients.retarget(replica.port());
                clients.reset();
            }
            Store::Memory { hub, replica } => hub.fail_over(replica.lock().take().unwrap()),
            Store::Redis(_) => panic!("there is no replica"),
        }
    }

    /// At rest neither the shared tier nor an instance has an older version than `floor`.
    pub(crate) async fn is_clean(&self, instances: &[&Instance], key: &'static str, floor: u64) -> Outcome {
        fresh("the shared tier", self.stored(key), floor)?;
        for (n, instance) in instances.iter().enumerate() {
            fresh(&format!("instance {n} reads"), instance.get(key).await, floor)?;
        }
        for (n, instance) in instances.iter().enumerate() {
            fresh(&format!("instance {n} loads"), instance.load(key).await, floor)?;
        }
        fresh("the shared tier, at rest", self.stored(key), floor)
    }
}

/// Protections that are part of a script in Redis have no switch there: without them, a test undoes by hand what they
/// rely on.
impl World {
    /// A tombstone is as if it were not there.
    pub(crate) fn undo_tombstones(&self) {
        if self.hub().is_none() && is_off(Protection::Tombstone) {
            self.evict("mtc:x:*");
        }
    }

    /// The leases of now, to be there again later whatever ended them.
    pub(crate) fn leases(&self) -> Vec<(String, String)> {
        if self.hub().is_some() || !is_off(Protection::AbsenceRefuses) {
            return Vec::new();
        }
        let content = |name: &String| self.command(&["GET", name]).split("\r\n").nth(1).unwrap().to_owned();
        self.names("mtc:l:*").into_iter().map(|name| (name.clone(), content(&name))).collect()
    }

    /// Absence refuses nothing: these leases are there again.
    pub(crate) fn undo_absence(&self, leases: &[(String, String)]) {
        for (name, content) in leases {
            self.command(&["SET", name, content, "PX", "10000"]);
        }
    }

    /// The tokens of tags are as if nothing had been revoked.
    pub(crate) fn undo_revoked_tags(&self) {
        if self.hub().is_some() || !is_off(Protection::TagCheck) {
            return;
        }
        let bus = self.names("mtc:*:bus").remove(0);
        let epoch = self.command(&["HGET", &bus, "epoch"]).split("\r\n").nth(1).unwrap().to_owned();
        for name in self.names("mtc:*:tag:*") {
            self.command(&["SET", &name, &format!("{epoch}-0")]);
        }
    }
}

/// The default channel.
pub(crate) const CHANNEL: &str = "cache:invalidate";
