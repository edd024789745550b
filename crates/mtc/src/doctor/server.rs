//! The server: version, role, memory, scripts, clock, latency.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use multi_tier_cache::defaults::TIER_BUDGET;
use redis::{Cmd, cmd};
use serde_json::json;

use super::{Check, Level, is_forbidden};
use crate::connect::Session;
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::progress;
use crate::units::{bytes, duration, float, millis};

/// The oldest version whose scripts and streams do what the coordinator asks of them.
const OLDEST: (u32, u32) = (6, 2);
/// A server this full (in percent) evicts or refuses all the time.
const FULL: f64 = 90.0;
/// A median round trip that is longer makes reads of the second tier slow.
const SLOW: Duration = Duration::from_millis(5);
/// Clocks further apart make logs hard to compare.
const APART: Duration = Duration::from_secs(60);

/// What INFO tells, by the names of its fields.
type Info = HashMap<String, String>;

/// Version, role and memory.
pub(super) async fn checks(session: &mut Session) -> Result<Vec<Check>, Failure> {
    let text: String = match session.attempt(&cmd("INFO")).await {
        Ok(text) => text,
        Err(error) if is_forbidden(&error) => {
            return Ok(vec![Check::untold("version", "INFO"), Check::untold("memory", "INFO")]);
        }
        Err(error) => return Err(session.server.explain(error).into()),
    };
    let fields = text.lines().filter_map(|line| line.trim().split_once(':'));
    let info: Info = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(vec![version(&info), memory(&info)])
}

fn version(info: &Info) -> Check {
    let field = |name: &str| info.get(name).map(String::as_str);
    let version = field("redis_version").unwrap_or_default();
    let product = if let Some(valkey) = field("valkey_version") {
        format!("Valkey {valkey}")
    } else {
        format!("Redis {version}")
    };
    let (mode, role) = (field("redis_mode").unwrap_or("standalone"), field("role").unwrap_or("master"));
    let facts = json!({ "version": version, "product": product, "mode": mode, "role": role });
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let is_old = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST;
    let text = format!("{product}, {mode}, {role}");
    let advice = match (is_old, mode, role) {
        (true, _, _) => "Leases and the log need Redis 6.2 or later.",
        (_, "cluster", _) => "A script's keys are in several slots: use one server with its replicas.",
        (_, _, "slave") => "A replica refuses writes: give the address of the master.",
        _ => return Check::ok("version", text).with(facts),
    };
    Check::new("version", Level::Trouble, text).advising(advice).with(facts)
}

fn memory(info: &Info) -> Check {
    let number = |name: &str| info.get(name).and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
    let (used, most) = (number("used_memory"), number("maxmemory"));
    let policy = info.get("maxmemory_policy").map_or("unknown", String::as_str);
    let facts = json!({ "used": used, "maxmemory": most, "policy": policy, "evicted": number("evicted_keys") });
    let warn =
        |text: String, advice: &str| Check::new("memory", Level::Warning, text).advising(advice).with(facts.clone());
    if most == 0 {
        let text = format!("{} in use, no limit, {policy}", bytes(used));
        return warn(text, "Set maxmemory and maxmemory-policy volatile-lfu: a cache grows until its TTLs end.");
    }
    let share = float(used) * 100.0 / float(most);
    let text = format!("{} of {} in use, {policy}", bytes(used), bytes(most));
    if policy == "noeviction" {
        let advice =
            "A full server refuses to store values (removals are carried out): set maxmemory-policy volatile-lfu.";
        return warn(text, advice);
    }
    if policy.starts_with("allkeys") {
        let advice = "It may evict the log, so that every instance forgets its first tier: prefer volatile-lfu, which \
                      evicts what has a TTL.";
        return warn(text, advice);
    }
    if share >= FULL {
        return warn(text, "Nearly full: it evicts all the time.");
    }
    Check::ok("memory", text).with(facts)
}

/// Whether the server runs scripts: every lease and removal is one.
pub(super) async fn scripts(session: &mut Session) -> Result<Check, Failure> {
    let mut eval = cmd("EVAL");
    eval.arg("return redis.call('PING')").arg(0);
    match session.attempt::<String>(&eval).await {
        Ok(_) => Ok(Check::ok("scripts", "run")),
        Err(error) if error.is_timeout() || error.is_connection_dropped() => Err(session.server.explain(error).into()),
        Err(error) => {
            let text = format!("do not run: {}", error.detail().unwrap_or("refused"));
            Ok(Check::new("scripts", Level::Trouble, text)
                .advising("Allow EVAL and EVALSHA: every lease and removal is a script."))
        }
    }
}

/// How far the clocks are apart. The cache compares none; people who read logs do.
pub(super) async fn clock(session: &mut Session) -> Result<Check, Failure> {
    let asked = SystemTime::now();
    let (seconds, micros): (u64, u64) = match session.attempt(&cmd("TIME")).await {
        Ok(time) => time,
        Err(error) if is_forbidden(&error) => return Ok(Check::untold("clock", "TIME")),
        Err(error) => return Err(session.server.explain(error).into()),
    };
    let here = asked + asked.elapsed().unwrap_or_default() / 2;
    let there = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
    let (apart, word) = match there.duration_since(here) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let text = format!("{} {word} this machine's; the cache compares no clocks", duration(apart));
    let check = if apart > APART {
        Check::new("clock", Level::Warning, text)
            .advising("Set both by NTP, or times in logs and audit streams mislead.")
    } else {
        Check::ok("clock", text)
    };
    Ok(check.with(json!({ "apart_ms": millis(apart), "server_is_ahead": word == "ahead of" })))
}

/// Round trips, one after the other.
pub(super) async fn latency(session: &mut Session, samples: u32) -> Result<Check, Failure> {
    let bar = progress::bar("latency", u64::from(samples) * 2);
    let mut get = cmd("GET");
    get.arg(session.namespace.value(super::rights::PROBE)?);
    let mut measured = Vec::new();
    for command in [cmd("PING"), get] {
        match round_trips(session, &command, samples, &bar).await? {
            Some(latencies) => measured.push(latencies),
            None => return Ok(Check::untold("latency", "PING and GET")),
        }
    }
    bar.finish_and_clear();
    let [ping, get] = measured.as_slice() else { return Ok(Check::untold("latency", "PING and GET")) };
    let text = format!("PING {}; GET {}", ping.text(), get.text());
    let facts = json!({ "ping": ping.json(), "get": get.json(), "samples": samples });
    let check = if get.percentile(50) > SLOW {
        Check::new("latency", Level::Warning, text)
            .advising("Far away: every read that misses the first tier waits for it.")
    } else if get.percentile(99) > TIER_BUDGET / 10 {
        Check::new("latency", Level::Warning, text).advising("It stalls: look at SLOWLOG, LATENCY DOCTOR and its host.")
    } else {
        Check::ok("latency", text)
    };
    Ok(check.with(facts))
}

/// `None` if this user may not run the command.
async fn round_trips(
    session: &mut Session,
    command: &Cmd,
    samples: u32,
    bar: &indicatif::ProgressBar,
) -> Result<Option<Latencies>, Failure> {
    let mut times = Vec::new();
    for _ in 0..samples {
        let began = Instant::now();
        match session.attempt::<redis::Value>(command).await {
            Ok(_) => times.push(began.elapsed()),
            Err(error) if is_forbidden(&error) => return Ok(None),
            Err(error) => return Err(session.server.explain(error).into()),
        }
        bar.inc(1);
    }
    Ok(Some(Latencies::of(times)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(fields: &[(&str, &str)]) -> Info {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_server_that_cannot_coordinate_is_trouble() {
        let check = |fields: &[(&str, &str)]| version(&info(fields)).level;
        assert_eq!(check(&[("redis_version", "7.0.15"), ("redis_mode", "standalone"), ("role", "master")]), Level::Ok);
        assert_eq!(check(&[("redis_version", "6.2.0")]), Level::Ok);
        assert_eq!(check(&[("redis_version", "6.0.16")]), Level::Trouble);
        assert_eq!(check(&[("redis_version", "10.0.0")]), Level::Ok);
        assert_eq!(check(&[("redis_version", "7.2.4"), ("redis_mode", "cluster")]), Level::Trouble);
        assert_eq!(check(&[("redis_version", "7.2.4"), ("role", "slave")]), Level::Trouble);
        assert!(
            version(&info(&[("redis_version", "7.2.4"), ("valkey_version", "9.1.0")])).text.contains("Valkey 9.1.0")
        );
    }

    #[test]
    fn memory_that_evicts_what_has_a_ttl_is_as_it_should_be() {
        let check = |used: &str, most: &str, policy: &str| {
            memory(&info(&[("used_memory", used), ("maxmemory", most), ("maxmemory_policy", policy)])).level
        };
        assert_eq!(check("10", "100", "volatile-lfu"), Level::Ok);
        assert_eq!(check("95", "100", "volatile-lfu"), Level::Warning);
        assert_eq!(check("10", "0", "noeviction"), Level::Warning);
        assert_eq!(check("10", "100", "noeviction"), Level::Warning);
        assert_eq!(check("10", "100", "allkeys-lru"), Level::Warning);
    }
}
