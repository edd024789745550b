//! The contract on real servers, and what only a server can do to it.

mod listening;
mod namespaces;
mod others;
mod rules;
mod scripts;
mod trouble;

use futures_util::StreamExt;
use test_servers::RedisServer;

use super::*;
use crate::backends::redis::address::RedisAddress;
use crate::coordinator::contract::{self, contract, *};
use crate::error::CacheError;

contract!(keeps_the_contract, subject());

const CHANNEL: &str = "cache:invalidate";
const PREFIX: &str = "app:";

fn subject() -> (RedisServer, RedisCoordinator) {
    let server = RedisServer::start().unwrap();
    let coordinator = at(&server.url(), PREFIX);
    (server, coordinator)
}

fn supervisor(url: &str) -> Supervisor {
    Supervisor::new(&RedisAddress::resolve(Some(url)).unwrap(), defaults::TIER_BUDGET, None).unwrap()
}

fn at(url: &str, prefix: &str) -> RedisCoordinator {
    RedisCoordinator::new(supervisor(url), prefix, CHANNEL, contract::LOG_LENGTH, None)
}

/// What the server counts of one command: its calls, from outside and from scripts.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let line =
        stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")).map(str::to_owned));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Only clients call these.
fn requests(server: &RedisServer) -> (u64, u64) {
    (calls(server, "evalsha"), calls(server, "eval"))
}

async fn every_operation(on: &RedisCoordinator) {
    let names = tags(&["t"]);
    let grant = granted(on, Acquire { tags: &names, ..ask("k") }).await;
    assert!(on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
    on.renew("k", grant.token, LEASE).await.unwrap();
    on.release("k", grant.token).await.unwrap();
    on.replace("k", Bytes::from_static(b"v"), TTL).await.unwrap();
    on.revoke(Revocation { tombstone: LEASE, ..revocation(&keys(&["k"])) }).await.unwrap();
    on.fence(Duration::ZERO).await.unwrap();
    on.open_below("k").await.unwrap();
    on.poll(None).await.unwrap();
    on.tag_tokens(&names).await.unwrap();
}
const SCRIPTED: u64 = 10;

fn backend_failure(error: &CacheError) -> &crate::error::Failure {
    match error {
        CacheError::BackendError(failure) => failure,
        other => panic!("{other:?}"),
    }
}
