//! What the shared tiers hold when all is quiet, read past the cache.

use anyhow::{Context, Result};
use redis::{Connection, cmd};
use test_servers::RedisServer;

use super::board::Board;
use super::keys::{Keys, PREFIX, parse};

/// Magic, version, epoch, sequence number, number of tags: `PROTOCOL.md`.
const HEAD: usize = 4 + 1 + 8 + 8 + 2;
const MAGIC: &[u8] = b"\xC1mtc\x01";

/// What was found in a tier.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) values: u64,
    /// Values that their tags have revoked: no reader is given them.
    pub(crate) revoked: u64,
    pub(crate) stale: Vec<String>,
}

/// Looks for values in `server` that are older than the database, whose tags do not revoke them at `coordinator`.
pub(crate) fn look(server: &RedisServer, coordinator: &RedisServer, keys: Keys, board: &Board) -> Result<Found> {
    let (mut values, mut tokens) = (connect(server)?, connect(coordinator)?);
    let mut found = Found::default();
    let bus = format!("mtc:{{cache:invalidate}}:{}:{PREFIX}", PREFIX.len());
    let epoch: Option<String> = cmd("HGET").arg(format!("{bus}:bus")).arg("epoch").query(&mut tokens)?;
    for key in 0..keys.count {
        let name = keys.name(key);
        let stored: Option<Vec<u8>> = cmd("GET").arg(format!("{PREFIX}{name}")).query(&mut values)?;
        let Some(stored) = stored else { continue };
        let token: Option<String> = cmd("GET").arg(format!("{bus}:tag:{}", keys.tag(key))).query(&mut tokens)?;
        found.values += 1;
        if is_revoked(&stored, epoch.as_deref(), token.as_deref()) {
            found.revoked += 1;
            continue;
        }
        let (_, version) = parse(&stored).with_context(|| format!("{name} holds something else"))?;
        let wanted = board.version(key)?;
        if version < wanted {
            let ttl: i64 = cmd("PTTL").arg(format!("{PREFIX}{name}")).query(&mut values)?;
            let head = String::from_utf8_lossy(&stored).into_owned();
            let missed = board.first_after(key, version, wanted)?;
            found.stale.push(format!(
                "{name} is version {version} for another {ttl} ms, the database has {wanted}; missed {missed:?}; bus \
                 {epoch:?}, token {token:?}, stored {head:?}"
            ));
        }
    }
    Ok(found)
}

/// A value of this program has one tag or none.
fn is_revoked(stored: &[u8], epoch: Option<&str>, token: Option<&str>) -> bool {
    let Some(head) = stored.get(..HEAD).filter(|head| head.starts_with(MAGIC)) else { return false };
    let number = |from: usize| head.iter().skip(from).take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (own_epoch, own_seq) = (format!("{:016x}", number(5)), number(13));
    let Some((token_epoch, token_seq)) = token.and_then(|token| token.split_once('-')) else { return true };
    let later = token_seq.parse::<u64>().map_or(true, |seq| seq > own_seq);
    epoch != Some(&*own_epoch) || token_epoch != own_epoch || later
}

fn connect(server: &RedisServer) -> Result<Connection> {
    Ok(redis::Client::open(server.url())?.get_connection()?)
}
