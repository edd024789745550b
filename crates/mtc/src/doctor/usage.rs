//! What the cache has in the server: its log, its keys, and how much there is of others.

use std::collections::{BTreeMap, BTreeSet};

use multi_tier_cache::defaults::SCAN_BATCH;
use multi_tier_cache::inspect::{Bus, KeyKind, Namespace};
use redis::{cmd, pipe};
use serde_json::json;

use super::{Check, is_forbidden};
use crate::connect::Session;
use crate::failure::Failure;
use crate::progress;
use crate::units::{bytes, count, counted, size};

/// Other namespaces that are named to people.
const NAMED: usize = 8;

/// Where the log stands, and who listens.
pub(super) async fn log(session: &mut Session) -> Result<Check, Failure> {
    let question = session.bus_command();
    let Some(fields) = optional(session.attempt(&question).await, session)? else {
        return Ok(Check::untold("log", "HMGET on the bus"));
    };
    let Some(bus) = Bus::decode(&fields) else {
        return Ok(Check::ok("log", "none: no cache has used this prefix and channel yet"));
    };
    let length: Option<u64> =
        optional(session.attempt(cmd("XLEN").arg(session.namespace.log().to_owned())).await, session)?;
    let mut numsub = cmd("PUBSUB");
    numsub.arg("NUMSUB").arg(session.namespace.channel());
    let listening: Option<(String, u64)> = optional(session.attempt(&numsub).await, session)?;
    let listening = listening.map(|(_, number)| number);
    let mut text = format!("at {}", bus.end);
    if let Some(length) = length {
        text = format!(
            "{text}, {}",
            if length == 1 { "1 entry".to_owned() } else { format!("{} entries", count(length)) }
        );
    }
    if let Some(listening) = listening {
        text = format!("{text}, {} on the channel", counted(listening, "subscriber"));
    }
    let facts =
        json!({ "position": bus.end.to_string(), "entries": length, "fence": bus.fence, "subscribers": listening });
    Ok(Check::ok("log", text).with(facts))
}

/// Nothing if this user may not ask.
fn optional<T>(answer: redis::RedisResult<T>, session: &Session) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(session.server.explain(error).into()),
    }
}

/// Keys and their memory.
#[derive(Debug, Default, Clone, Copy)]
struct Amount {
    keys: u64,
    bytes: u64,
}

/// Keys by what they are to this namespace.
#[derive(Debug, Default)]
struct Tally {
    own: BTreeMap<KeyKind, Amount>,
    others: Amount,
    /// Prefixes and channels of other namespaces.
    namespaces: BTreeSet<(String, String)>,
    /// Whether this user may ask for the memory of keys.
    weighed: bool,
}

impl Tally {
    fn add(&mut self, namespace: &Namespace, name: &[u8], bytes: u64) {
        let amount = match namespace.kind(name) {
            Some(kind) => self.own.entry(kind).or_default(),
            None => &mut self.others,
        };
        amount.keys += 1;
        amount.bytes += bytes;
        let other =
            str::from_utf8(name).ok().and_then(Namespace::of_bus).filter(|other| other.bus() != namespace.bus());
        self.namespaces.extend(other.map(|other| (other.prefix().to_owned(), other.channel().to_owned())));
    }

    fn own(&self) -> Amount {
        let add =
            |sum: Amount, amount: &Amount| Amount { keys: sum.keys + amount.keys, bytes: sum.bytes + amount.bytes };
        self.own.values().fold(Amount::default(), add)
    }

    fn keys_of(&self, kind: KeyKind) -> u64 {
        self.own.get(&kind).map_or(0, |amount| amount.keys)
    }
}

/// Counts keys, at most `most` of them unless that is 0.
pub(super) async fn keys(session: &mut Session, most: u64) -> Result<Check, Failure> {
    let total: Option<u64> = optional(session.attempt(&cmd("DBSIZE")).await, session)?;
    let bar = progress::bar("keys", total.unwrap_or_default());
    let mut tally = Tally { weighed: true, ..Tally::default() };
    let (mut cursor, mut looked_at) = (0_u64, 0);
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(SCAN_BATCH);
        let batch: Option<(u64, Vec<Vec<u8>>)> = optional(session.attempt(&scan).await, session)?;
        let Some((next, names)) = batch else { return Ok(Check::untold("keys", "SCAN")) };
        let sizes = sizes(session, &names, &mut tally.weighed).await?;
        for (name, bytes) in names.iter().zip(sizes) {
            tally.add(&session.namespace, name, bytes);
        }
        looked_at += size(names.len());
        bar.set_position(looked_at);
        if next == 0 || most > 0 && looked_at >= most {
            bar.finish_and_clear();
            let rest = if next == 0 { None } else { Some((looked_at, total)) };
            return Ok(told(&tally, session.namespace.prefix(), rest));
        }
        cursor = next;
    }
}

/// What each key takes in memory; nothing if this user may not ask.
async fn sizes(session: &mut Session, names: &[Vec<u8>], weighed: &mut bool) -> Result<Vec<u64>, Failure> {
    if *weighed && !names.is_empty() {
        let mut questions = pipe();
        for name in names {
            questions.cmd("MEMORY").arg("USAGE").arg(name);
        }
        match questions.query_async::<Vec<Option<u64>>>(&mut session.connection()).await {
            // A key may have gone meanwhile.
            Ok(sizes) => return Ok(sizes.into_iter().map(Option::unwrap_or_default).collect()),
            Err(error) if is_forbidden(&error) => *weighed = false,
            Err(error) => return Err(session.server.explain(error).into()),
        }
    }
    Ok(vec![0; names.len()])
}

fn told(tally: &Tally, prefix: &str, rest: Option<(u64, Option<u64>)>) -> Check {
    let amount = |amount: Amount| {
        let size = if tally.weighed { format!(" ({})", bytes(amount.bytes)) } else { String::new() };
        format!("{}{size}", counted(amount.keys, "key"))
    };
    let kinds = [
        (KeyKind::Value, "value"),
        (KeyKind::Lease, "lease"),
        (KeyKind::Tombstone, "tombstone"),
        (KeyKind::Tag, "tag"),
        (KeyKind::Group, "subscriber"),
    ];
    let parts: Vec<_> =
        kinds.iter().map(|(kind, name)| (tally.keys_of(*kind), *name)).filter(|(keys, _)| *keys > 0).collect();
    let parts: Vec<_> = parts.into_iter().map(|(keys, name)| counted(keys, name)).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let whose = if prefix.is_empty() { "without a prefix".to_owned() } else { format!("under `{prefix}`") };
    let mut text = format!("{} {whose}{parts}; others: {}", amount(tally.own()), amount(tally.others));
    if let Some((looked_at, total)) = rest {
        let total = total.map(|total| format!(" of {}", count(total))).unwrap_or_default();
        text = format!("{text}; among the first {}{total}", count(looked_at));
    }
    let facts = json!({
        "own": { "keys": tally.own().keys, "bytes": tally.weighed.then_some(tally.own().bytes) },
        "values": tally.keys_of(KeyKind::Value),
        "leases": tally.keys_of(KeyKind::Lease),
        "tombstones": tally.keys_of(KeyKind::Tombstone),
        "tags": tally.keys_of(KeyKind::Tag),
        "subscribers": tally.keys_of(KeyKind::Group),
        "others": { "keys": tally.others.keys, "bytes": tally.weighed.then_some(tally.others.bytes) },
        "complete": rest.is_none(),
        "namespaces": tally.namespaces.iter().map(|(prefix, channel)| json!({ "prefix": prefix, "channel": channel })).collect::<Vec<_>>(),
    });
    let check = Check::ok("keys", text).with(facts);
    match advice(tally, prefix) {
        Some(advice) => check.advising(advice),
        None => check,
    }
}

fn advice(tally: &Tally, prefix: &str) -> Option<String> {
    let name = |(prefix, channel): &(String, String)| format!("--prefix '{prefix}' --channel '{channel}'");
    let named: Vec<_> = tally.namespaces.iter().take(NAMED).map(name).collect();
    let more = if tally.namespaces.len() > NAMED { "\n…" } else { "" };
    let others = (!named.is_empty()).then(|| format!("Other caches here:\n{}{more}", named.join("\n")));
    let shared = prefix.is_empty().then(|| {
        "Without a prefix the keys of other programs count as this cache's, and patterns must begin literally."
            .to_owned()
    });
    let parts: Vec<_> = shared.into_iter().chain(others).collect();
    (!parts.is_empty()).then(|| parts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_their_names() {
        let shop = Namespace::new("shop:", "ch").unwrap();
        let blog = Namespace::new("blog:", "ch").unwrap();
        let mut tally = Tally { weighed: true, ..Tally::default() };
        for name in ["shop:1", "shop:2", "blog:1", blog.bus(), shop.bus(), &shop.tag("red"), &shop.lease("3").unwrap()]
        {
            tally.add(&shop, name.as_bytes(), 10);
        }
        assert_eq!((tally.own().keys, tally.own().bytes, tally.others.keys), (5, 50, 2));
        let check = told(&tally, "shop:", None);
        assert_eq!(check.text, "5 keys (50 B) under `shop:`: 2 values, 1 lease, 1 tag; others: 2 keys (20 B)");
        assert_eq!(check.advice.as_deref(), Some("Other caches here:\n--prefix 'blog:' --channel 'ch'"));
        let part = told(&Tally::default(), "", Some((1_000, Some(5_000))));
        assert_eq!(part.text, "0 keys without a prefix; others: 0 keys; among the first 1,000 of 5,000");
    }
}
