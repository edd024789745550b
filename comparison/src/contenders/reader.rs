//! Who reads from Redis: with a first tier of one entry, or none.

use std::sync::Arc;

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

use super::{established, ours, raw};
use crate::rounds::{Outcome, Role, throughput};

pub(crate) const RAW_GET: &str = "redis-rs GET";

#[derive(Clone)]
pub(crate) enum Reader {
    Raw(MultiplexedConnection),
    Ours(Arc<::ours::CacheManager>),
    Established(Arc<::established::CacheManager>),
}

impl Reader {
    /// One of each.
    pub(crate) async fn each(url: &str) -> Result<[Self; 3]> {
        Ok([
            Self::Raw(raw::redis(url).await?),
            Self::Ours(ours::one_entry_and(ours::redis(url).await?)?),
            Self::Established(established::one_entry_and(established::redis(url).await?)?),
        ])
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Raw(_) => RAW_GET,
            Self::Ours(_) => "ours",
            Self::Established(_) => "0.6.5",
        }
    }

    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Raw(_) => Role::Raw,
            Self::Ours(_) => Role::Ours,
            Self::Established(_) => Role::Established,
        }
    }

    pub(crate) async fn has(&self, key: &str) -> bool {
        match self {
            Self::Raw(connection) => raw::get(&mut connection.clone(), key).await.is_some(),
            Self::Ours(manager) => manager.get(key).await.is_ok_and(|value| value.is_some()),
            Self::Established(manager) => manager.get(key).await.is_ok_and(|value| value.is_some()),
        }
    }

    /// Reads in a second by `in_flight` callers, each with keys that no other reads.
    pub(crate) fn together(
        &self,
        runtime: &Runtime,
        keys: &'static [String],
        in_flight: usize,
        operations: usize,
    ) -> Outcome {
        let caller = |share| {
            let reader = self.clone();
            async move {
                let keys = keys.iter().skip(share).step_by(in_flight).cycle();
                for key in keys.take(operations / in_flight) {
                    assert!(reader.has(key).await);
                }
            }
        };
        throughput(self.name(), runtime, operations / in_flight * in_flight, (0..in_flight).map(caller))
    }
}
