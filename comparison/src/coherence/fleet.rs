//! Instances in this process that share a Redis of their own.

use std::sync::Arc;

use anyhow::{Context, Result};
use test_servers::RedisServer;
use tokio::runtime::Runtime;

use crate::contenders::instance::{Instance, Kind};
use crate::stage::wide_runtime;

pub(crate) struct Fleet {
    pub(crate) instances: Arc<[Instance]>,
    pub(crate) runtime: Runtime,
    pub(crate) redis: RedisServer,
}

impl Fleet {
    pub(crate) fn start(kind: Kind, count: usize) -> Result<Self> {
        let (runtime, redis) = (wide_runtime()?, RedisServer::start().context("redis-server")?);
        let url = redis.url();
        let instances = runtime.block_on(async {
            let mut instances = Vec::with_capacity(count);
            for _ in 0..count {
                instances.push(kind.join(&url).await?);
            }
            anyhow::Ok(instances)
        })?;
        Ok(Self { instances: instances.into(), runtime, redis })
    }
}
