//! A redis-server as a replica: how far it is, and its promotion.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::POLL;
use crate::redis::RedisServer;

const SYNC_BUDGET: Duration = Duration::from_secs(20);

impl RedisServer {
    /// Waits until this replica is connected to its master and has its data.
    ///
    /// # Errors
    /// When that takes more than 20 s, or the server does not answer.
    pub fn wait_synced(&self) -> io::Result<()> {
        self.wait("is not synchronised", || Ok(self.replication("master_link_status")? == "up"))
    }

    /// Waits until this replica has everything that `master` had written at the time of the call.
    ///
    /// # Errors
    /// When that takes more than 20 s, or one of the two does not answer.
    pub fn wait_caught_up(&self, master: &Self) -> io::Result<()> {
        let target = master.offset()?;
        // A replica that never met this life of the master has an offset in another history.
        let caught_up = || {
            let same = self.replication("master_replid")? == master.replication("master_replid")?;
            Ok(same && self.offset()? >= target)
        };
        self.wait("has not caught up", caught_up)
    }

    /// Makes this replica a master that keeps its data (`REPLICAOF NO ONE`); a restart makes it a replica again.
    ///
    /// # Errors
    /// When the server does not answer within a second, or with an error.
    pub fn promote(&self) -> io::Result<()> {
        match self.command(&["REPLICAOF", "NO", "ONE"])? {
            reply if reply.starts_with("+OK") => Ok(()),
            reply => Err(io::Error::other(format!("not promoted: {reply}"))),
        }
    }

    /// How many bytes of its history this server has (`master_repl_offset`): written by a master, received by a replica.
    ///
    /// # Errors
    /// When the server does not answer within a second.
    pub fn offset(&self) -> io::Result<u64> {
        self.replication("master_repl_offset")?.parse().map_err(io::Error::other)
    }

    fn replication(&self, field: &str) -> io::Result<String> {
        let info = self.command(&["INFO", "replication"])?;
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned).ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no {field}: {info}")))
    }

    fn wait(&self, complaint: &str, done: impl Fn() -> io::Result<bool>) -> io::Result<()> {
        let deadline = Instant::now() + SYNC_BUDGET;
        while !done()? {
            if Instant::now() > deadline {
                let message = format!("the replica on port {} {complaint}", self.port());
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}
