//! The servers, the ways to them, and what is done to both.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use test_servers::{Direction, FaultProxy, RedisServer};

use super::board::Board;
use super::fleet::Fleet;
use super::plan::{Event, Hazard};

const LEASES: &str = "mtc:l:*";
const TAG_TOKENS: &str = "mtc:{cache:invalidate}:*:tag:*";
const LOGS: &str = "mtc:{cache:invalidate}:*:log";
const DELETE: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 1";
const TRIM: &str =
    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('XTRIM', key, 'MAXLEN', 0) end return 1";

/// Everything between the instances and their values.
pub(crate) struct Stage {
    pub(crate) master: RedisServer,
    pub(crate) cold: RedisServer,
    replica: RedisServer,
    /// Between master and replica.
    link: FaultProxy,
    warm_ways: Vec<FaultProxy>,
    cold_ways: Vec<FaultProxy>,
}

impl Stage {
    pub(crate) fn new(instances: usize) -> Result<Self> {
        let (master, cold) = (RedisServer::start()?, RedisServer::start()?);
        let (link, replica) = replica_of(&master)?;
        let ways = |port: u16| (0..instances).map(|_| FaultProxy::start(port)).collect::<io::Result<Vec<_>>>();
        let (warm_ways, cold_ways) = (ways(master.port())?, ways(cold.port())?);
        Ok(Self { master, cold, replica, link, warm_ways, cold_ways })
    }

    /// Where an instance finds the coordinator and the tier below it.
    pub(crate) fn addresses(&self, instance: usize) -> (String, String) {
        (self.warm(instance).url(), self.cold_way(instance).url())
    }

    pub(crate) fn kill_subscriptions(&self) -> usize {
        self.warm_ways.iter().map(FaultProxy::reset_subscriptions).sum()
    }

    pub(crate) fn begin(&mut self, event: Event, fleet: &Fleet, board: &Board) -> Result<()> {
        let (warm, cold) = (self.warm(event.instance), self.cold_way(event.instance));
        // The same every time, as far as the seed goes.
        let amount = event.at.wrapping_mul(7_919) % 200;
        match event.hazard {
            Hazard::RestartEmpty => {
                board.loss_begins()?;
                self.master.kill()?;
            }
            Hazard::FlushAll => {
                board.loss_begins()?;
                self.run(&["FLUSHALL"])?;
                board.loss_ends()?;
            }
            Hazard::LossyFailover => {
                self.replica.wait_synced()?;
                self.link.hold(Direction::Both);
            }
            Hazard::BlackholeToServer => warm.blackhole(Direction::ToServer),
            Hazard::BlackholeToClient => warm.blackhole(Direction::ToClient),
            Hazard::Blackhole => warm.blackhole(Direction::Both),
            Hazard::HoldToServer => warm.hold(Direction::ToServer),
            Hazard::HoldToClient => warm.hold(Direction::ToClient),
            Hazard::Hold => warm.hold(Direction::Both),
            Hazard::Delay => warm.delay(Direction::Both, Duration::from_millis(5 + amount / 2)),
            Hazard::CutAfter => warm.cut_after(usize::try_from(amount * 10).unwrap_or(0)),
            Hazard::ServerStopped => self.master.pause()?,
            Hazard::WorkerStopped => fleet.pause(event.instance)?,
            Hazard::ColdDelay => cold.delay(Direction::Both, Duration::from_millis(50 + amount)),
            Hazard::ColdHold => cold.hold(Direction::Both),
            Hazard::DeafSubscription | Hazard::TrimmedLog => warm.blackhole_subscriptions(),
            Hazard::ScriptFlush => self.run(&["SCRIPT", "FLUSH"])?,
            Hazard::ResetSubscription | Hazard::LeasesEvicted | Hazard::TagTokensEvicted => self.again(event)?,
        }
        Ok(())
    }

    /// What is done over and over between beginning and end.
    pub(crate) fn again(&self, event: Event) -> Result<()> {
        match event.hazard {
            Hazard::ResetSubscription => {
                self.warm(event.instance).reset_subscriptions();
            }
            Hazard::LeasesEvicted => self.run(&["EVAL", DELETE, "0", LEASES])?,
            Hazard::TagTokensEvicted => self.run(&["EVAL", DELETE, "0", TAG_TOKENS])?,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn end(&mut self, event: Event, fleet: &Fleet, board: &Board) -> Result<()> {
        match event.hazard {
            Hazard::RestartEmpty => {
                self.master.restart()?;
                // It may have been a replica before, and begins as one then.
                self.master.promote()?;
                board.loss_ends()?;
            }
            Hazard::LossyFailover => self.fail_over(board)?,
            Hazard::ServerStopped => self.master.resume()?,
            Hazard::WorkerStopped => fleet.resume(event.instance)?,
            Hazard::ColdDelay | Hazard::ColdHold => self.cold_way(event.instance).pass(),
            Hazard::TrimmedLog => {
                self.run(&["EVAL", TRIM, "0", LOGS])?;
                self.warm(event.instance).pass();
            }
            Hazard::BlackholeToServer | Hazard::BlackholeToClient | Hazard::Blackhole => {
                // No connection goes on without some of its bytes.
                self.warm(event.instance).reset();
                self.warm(event.instance).pass();
            }
            Hazard::HoldToServer | Hazard::HoldToClient | Hazard::Hold => self.warm(event.instance).pass(),
            Hazard::Delay | Hazard::CutAfter | Hazard::DeafSubscription => self.warm(event.instance).pass(),
            Hazard::FlushAll
            | Hazard::ScriptFlush
            | Hazard::ResetSubscription
            | Hazard::LeasesEvicted
            | Hazard::TagTokensEvicted => {}
        }
        Ok(())
    }

    /// The replica takes over without what it was not told; what the old master still answers meanwhile is lost too.
    fn fail_over(&mut self, board: &Board) -> Result<()> {
        board.loss_begins()?;
        self.replica.promote()?;
        self.warm_ways.iter().for_each(|way| way.retarget(self.replica.port()));
        self.master.kill()?;
        self.warm_ways.iter().for_each(|way| {
            way.reset();
        });
        board.loss_ends()?;
        let (link, replica) = replica_of(&self.replica)?;
        self.link = link;
        self.master = std::mem::replace(&mut self.replica, replica);
        Ok(())
    }

    fn run(&self, command: &[&str]) -> Result<()> {
        let reply = self.master.command(command)?;
        anyhow::ensure!(!reply.starts_with('-'), "{command:?}: {reply}");
        Ok(())
    }

    #[expect(clippy::indexing_slicing, reason = "the plan knows how many there are")]
    fn warm(&self, instance: usize) -> &FaultProxy {
        &self.warm_ways[instance]
    }

    #[expect(clippy::indexing_slicing, reason = "the plan knows how many there are")]
    fn cold_way(&self, instance: usize) -> &FaultProxy {
        &self.cold_ways[instance]
    }
}

fn replica_of(master: &RedisServer) -> Result<(FaultProxy, RedisServer)> {
    let link = FaultProxy::start(master.port())?;
    let replica = RedisServer::builder().replica_of(link.port()).start().context("the replica")?;
    Ok((link, replica))
}
