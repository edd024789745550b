//! The contract on real servers, and what only a server can do to it.

use test_servers::RedisServer;

use super::*;
use crate::backends::redis::address::RedisAddress;
use crate::coordinator::contract::{self, contract, *};

contract!(keeps_the_contract, subject().await);

const CHANNEL: &str = "cache:invalidate";
const PREFIX: &str = "app:";

async fn subject() -> (RedisServer, RedisCoordinator) {
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
