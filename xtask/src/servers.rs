//! The private servers that tests and examples share; they end with their handle, on success and on failure.

use std::io;
use std::process::Command;

use anyhow::{Context, Result};
use test_servers::{MemcachedServer, RedisServer};

use crate::tools::Tools;

/// One redis-server and one memcached on free ports.
#[derive(Debug)]
pub(crate) struct Servers<'a> {
    redis: RedisServer,
    memcached: MemcachedServer,
    tools: &'a Tools,
}

impl<'a> Servers<'a> {
    pub(crate) fn start(tools: &'a Tools) -> Result<Self> {
        let redis = RedisServer::builder().binary(&tools.redis_server).start().context("redis-server")?;
        let memcached = MemcachedServer::start_binary(&tools.memcached).context("memcached")?;
        Ok(Self { redis, memcached, tools })
    }

    /// Tells tests where the servers are, and where the binaries are for tests that start their own. What the
    /// caller's environment says about servers is kept from them.
    pub(crate) fn tell_tests(&self, command: &mut Command) {
        command
            .env_remove("REDIS_URL")
            .env_remove("MEMCACHED_URL")
            .env("MTC_TEST_REDIS_URL", self.redis.url())
            .env("MTC_TEST_MEMCACHED_ADDRESS", self.memcached.address())
            .env("MTC_REDIS_SERVER", &self.tools.redis_server)
            .env("MTC_MEMCACHED", &self.tools.memcached);
    }

    /// Makes programs that use the established variables use the servers.
    pub(crate) fn tell_programs(&self, command: &mut Command) {
        command.env("REDIS_URL", self.redis.url()).env("MEMCACHED_URL", self.memcached.address());
    }
}

/// Keeps the servers until Enter (or the end of standard input).
pub(crate) fn hold(tools: &Tools) -> Result<()> {
    let servers = Servers::start(tools)?;
    println!("export REDIS_URL={} MEMCACHED_URL={}", servers.redis.url(), servers.memcached.address());
    println!("export MTC_TEST_REDIS_URL={}", servers.redis.url());
    println!("export MTC_TEST_MEMCACHED_ADDRESS={}", servers.memcached.address());
    println!("redis-server is {}, memcached is {}; Enter ends both", servers.redis.pid(), servers.memcached.pid());
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
