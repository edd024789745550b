//! `mtc invalidate-pattern`.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use multi_tier_cache::Position;
use multi_tier_cache::defaults::SCAN_BATCH;
use redis::cmd;
use serde_json::{Value, json};

use crate::cli::{InvalidatePattern, Target};
use crate::connect::{Session, cache};
use crate::failure::{Failure, Verdict};
use crate::output::{Output, Page, Report};
use crate::progress;
use crate::units::{counted, printable, size};

pub(crate) async fn run(target: &Target, options: &InvalidatePattern, output: &Output) -> Result<Verdict, Failure> {
    if options.dry_run {
        let matches = look(target, options).await?;
        output.show(&matches)?;
        return Ok(Verdict::Fine);
    }
    let system = cache(target, &options.audit).await?;
    let bar = progress::bar("removing", 0);
    let position = system.cache_manager.remove_pattern(&options.pattern).await?;
    bar.finish_and_clear();
    system.shutdown().await;
    output.show(&Removed { pattern: &options.pattern, position })?;
    Ok(Verdict::Fine)
}

/// The keys that a removal would remove.
async fn look<'a>(target: &Target, options: &'a InvalidatePattern) -> Result<Matches<'a>, Failure> {
    let mut session = Session::open(target).await?;
    let glob = session.namespace.glob(&options.pattern)?;
    let total: u64 = session.query(&cmd("DBSIZE")).await.unwrap_or_default();
    let bar = progress::bar("scanning", total);
    let (mut matches, mut cursor) = (Matches { pattern: &options.pattern, number: 0, some: Vec::new() }, 0_u64);
    // A scan may show a key twice. Of a large database only hashes are remembered: two keys with one are one in 2^64.
    let (mut seen, hasher) = (HashSet::new(), RandomState::new());
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&glob).arg("COUNT").arg(SCAN_BATCH);
        let (next, names): (u64, Vec<Vec<u8>>) = session.query(&scan).await?;
        bar.inc(size(SCAN_BATCH));
        for name in names {
            if session.namespace.kind(&name).is_none() || !seen.insert(hasher.hash_one(&name)) {
                continue;
            }
            matches.number += 1;
            if matches.some.len() < options.show {
                let key = session.namespace.key(&name).map(str::to_owned);
                matches.some.push(key.unwrap_or_else(|| String::from_utf8_lossy(&name).into_owned()));
            }
        }
        if next == 0 {
            bar.finish_and_clear();
            matches.some.sort();
            return Ok(matches);
        }
        cursor = next;
    }
}

/// What a removal would remove.
struct Matches<'a> {
    pattern: &'a str,
    number: u64,
    some: Vec<String>,
}

impl Report for Matches<'_> {
    fn human(&self, page: &mut Page) {
        page.line(format!("{} would be removed", counted(self.number, "key")));
        for key in &self.some {
            page.line(format!("  {}", printable(key, false)));
        }
        if self.number > size(self.some.len()) {
            page.line("  …");
        }
    }

    fn json(&self) -> Value {
        json!({ "dry_run": true, "pattern": self.pattern, "matches": self.number, "some": self.some })
    }
}

/// What was removed, and where that stands in the log.
struct Removed<'a> {
    pattern: &'a str,
    position: Option<Position>,
}

impl Report for Removed<'_> {
    fn human(&self, page: &mut Page) {
        page.line(format!("every key that matches {} removed on every instance", printable(self.pattern, false)));
        if let Some(position) = self.position {
            page.field("position", position.to_string());
        }
    }

    fn json(&self) -> Value {
        json!({ "removed": "pattern", "pattern": self.pattern, "position": self.position.map(|at| at.to_string()) })
    }
}
