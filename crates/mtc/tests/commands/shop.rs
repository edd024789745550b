//! A server, and an instance of a service that caches in it.

use std::future::Future;
use std::sync::mpsc::{Receiver, channel};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use multi_tier_cache::backends::RedisConfig;
use multi_tier_cache::{
    Cache, CacheManager, CacheSystem, CacheSystemBuilder, CallOptions, Freshness, InvalidationConfig,
    InvalidationMessage, InvalidationSubscriber, Position,
};
use serde::{Deserialize, Serialize};
use test_servers::RedisServer;
use tokio::runtime::Runtime;

use crate::program::{Mtc, PATIENCE};

const PREFIX: &str = "shop:";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) visits: u32,
}

/// Arguments for the shop's namespace.
pub(crate) fn in_shop<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--prefix", PREFIX], arguments].concat()
}

/// A server with a namespace in it.
pub(crate) struct Shop {
    pub(crate) server: RedisServer,
    pub(crate) mtc: Mtc,
    runtime: Runtime,
}

/// An instance of the service.
pub(crate) struct Instance {
    pub(crate) system: CacheSystem,
    pub(crate) users: Cache<u64, User>,
}

impl Shop {
    pub(crate) fn open() -> Self {
        Self::of(RedisServer::start().unwrap())
    }

    pub(crate) fn of(server: RedisServer) -> Self {
        let mtc = Mtc::at(server.url());
        Self { server, mtc, runtime: Runtime::new().unwrap() }
    }

    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
    }

    pub(crate) fn instance(&self) -> Instance {
        self.instance_with(InvalidationConfig::default())
    }

    pub(crate) fn instance_with(&self, bus: InvalidationConfig) -> Instance {
        let config = RedisConfig::default().with_url(self.server.url()).with_prefix(PREFIX);
        let builder = CacheSystemBuilder::new().with_redis_config(config).with_invalidation(bus);
        let system = self.wait(builder.build()).unwrap();
        let users = system.cache_builder("users").freshness(Freshness::new(Duration::from_secs(300))).tags(["users"]);
        Instance { users: users.build().unwrap(), system }
    }

    /// One whose users 7, 8 and 9 are cached.
    pub(crate) fn stocked(&self) -> Instance {
        let instance = self.instance();
        for (id, name) in [(7, "Ada"), (8, "Grace"), (9, "Linus")] {
            let load = move || async move { Ok(User { name: name.to_owned(), visits: 3 }) };
            self.wait(instance.users.get_or_load(&id, load)).unwrap();
        }
        instance
    }

    /// What the server answers, past every cache.
    pub(crate) fn command(&self, parts: &[&str]) -> String {
        self.server.command(parts).unwrap()
    }

    /// Everything that is in the server, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let reply = self.command(&["KEYS", "*"]);
        let mut keys: Vec<_> =
            reply.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect();
        keys.retain(|key| !key.is_empty());
        keys.sort();
        keys
    }

    /// What other programs hear in the channel from now on.
    pub(crate) fn messages(&self) -> Messages {
        let listening = || self.command(&["PUBSUB", "NUMSUB", "cache:invalidate"]);
        let (sender, heard) = channel();
        let before = listening();
        let subscriber = InvalidationSubscriber::new(&self.server.url(), InvalidationConfig::default()).unwrap();
        let _in_runtime = self.runtime.enter();
        subscriber.start(move |message| {
            let _ = sender.send(message);
            async { Ok(()) }
        });
        // What is published before the subscription stands is not heard.
        let deadline = Instant::now() + PATIENCE;
        while listening() == before {
            assert!(Instant::now() < deadline, "nobody subscribes");
            yield_now();
        }
        Messages { heard, _subscriber: subscriber }
    }

    /// Whether the instance has the key, once it reflects everything up to this position of the log.
    pub(crate) fn has(&self, instance: &Instance, key: &str, position: &str) -> bool {
        let position: Position = position.parse().unwrap();
        let options = CallOptions::default().at_least(position);
        let cache: &CacheManager = &instance.system.cache_manager;
        self.wait(cache.get_with_options(key, &options)).unwrap().is_some()
    }
}

pub(crate) struct Messages {
    heard: Receiver<InvalidationMessage>,
    _subscriber: InvalidationSubscriber,
}

impl Messages {
    pub(crate) fn next(&self) -> InvalidationMessage {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }
}
