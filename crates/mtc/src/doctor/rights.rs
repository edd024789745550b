//! Whether the user may do what a cache does, asked by commands that have no effect.
//!
//! A server looks at the user's rights before it looks at arguments: a command with an argument that it must refuse is
//! refused for the rights first. Everything else is asked about a key that nobody has, or only reads.

use multi_tier_cache::inspect::Namespace;
use redis::{Cmd, cmd};
use serde_json::json;

use super::{Check, Level, is_forbidden};
use crate::connect::Session;
use crate::failure::Failure;

/// A key that no cache has.
pub(super) const PROBE: &str = "mtc-doctor-probe";

/// Commands without which no cache works, as `PROTOCOL.md` lists them.
const NEEDED: &str = "+evalsha +eval +get +set +unlink +mget +exists +pttl +pexpire +persist +hget +hmget +hset +xadd \
                      +xrange +publish +subscribe +time +ping";

/// A command and what it is asked about.
struct Probe {
    command: Cmd,
    name: &'static str,
    /// What its key or channel is to the cache.
    what: &'static str,
    /// A cache without it works, but for this.
    only_for: Option<&'static str>,
}

pub(super) async fn check(session: &mut Session) -> Result<Check, Failure> {
    let (mut missing, mut wanting, mut asked) = (Vec::new(), Vec::new(), 0);
    for Probe { command, name, what, only_for } in probes(&session.namespace)? {
        asked += 1;
        if is_allowed(session, &command).await? {
            continue;
        }
        match only_for {
            None => missing.push(format!("{name} on {what}")),
            Some(purpose) => wanting.push(format!("{name} (for {purpose})")),
        }
    }
    if !may_subscribe(session).await? {
        missing.push("SUBSCRIBE on the channel".to_owned());
    }
    let facts = json!({ "asked": asked + 1, "missing": missing, "wanting": wanting });
    let check = if !missing.is_empty() {
        let user: String = session.attempt(cmd("ACL").arg("WHOAMI")).await.unwrap_or_else(|_| "USER".to_owned());
        let text = format!("missing: {}", missing.join(", "));
        Check::new("rights", Level::Trouble, text).advising(rule(&session.namespace, &user))
    } else if wanting.is_empty() {
        Check::ok("rights", format!("all {} that a cache needs", asked + 1))
    } else {
        Check::new("rights", Level::Warning, format!("missing: {}", wanting.join(", ")))
    };
    Ok(check.with(facts))
}

fn probes(namespace: &Namespace) -> Result<Vec<Probe>, Failure> {
    let (value, lease, tombstone) = (namespace.value(PROBE)?, namespace.lease(PROBE)?, namespace.tombstone(PROBE)?);
    let tag = namespace.tag(PROBE);
    let (bus, log) = (namespace.bus(), namespace.log());
    // An argument that the server must refuse, where the command would otherwise write.
    let probe =
        |what, name, arguments: &[&str]| Probe { command: command(name, arguments), name, what, only_for: None };
    let patterns = |probe: Probe| Probe { only_for: Some("removals by pattern"), ..probe };
    Ok(vec![
        probe("values", "GET", &[&value]),
        probe("values", "SET", &[&value, "", "REFUSED"]),
        probe("values", "UNLINK", &[&value]),
        probe("values", "MGET", &[&value]),
        probe("values", "PTTL", &[&value]),
        probe("leases", "GET", &[&lease]),
        probe("leases", "SET", &[&lease, "", "REFUSED"]),
        probe("leases", "UNLINK", &[&lease]),
        probe("leases", "PEXPIRE", &[&lease, "REFUSED"]),
        probe("tombstones", "SET", &[&tombstone, "", "REFUSED"]),
        probe("tombstones", "EXISTS", &[&tombstone]),
        probe("tags", "GET", &[&tag]),
        probe("tags", "SET", &[&tag, "", "REFUSED"]),
        probe("tags", "PEXPIRE", &[&tag, "REFUSED"]),
        probe("the bus", "PERSIST", &[bus]),
        probe("the bus", "HGET", &[bus, "epoch"]),
        probe("the bus", "HMGET", &[bus, "epoch"]),
        probe("the bus", "HSET", &[bus, "a", "b", "REFUSED"]),
        probe("the log", "XADD", &[log, "REFUSED", "a", "b"]),
        probe("the log", "XRANGE", &[log, "-", "+", "COUNT", "1"]),
        probe("the log", "UNLINK", &[&format!("{log}:{PROBE}")]),
        probe("scripts", "EVALSHA", &["REFUSED", "0"]),
        probe("scripts", "EVAL", &["return 1", "0"]),
        probe("the server", "TIME", &[]),
        probe("the server", "PING", &[]),
        probe("the channel", "PUBLISH", &[&format!("{}:{PROBE}", namespace.channel()), ""]),
        patterns(probe("the server", "SCAN", &["0", "COUNT", "1"])),
    ])
}

fn command(name: &str, arguments: &[&str]) -> Cmd {
    let mut command = cmd(name);
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

/// Any other answer than a refusal for the user's rights is a yes. Whether the user may publish in the channel itself is
/// known from whether it may subscribe there: one list of channels decides of both, and a message would be heard.
async fn is_allowed(session: &mut Session, command: &Cmd) -> Result<bool, Failure> {
    match session.attempt::<redis::Value>(command).await {
        Err(error) if error.is_timeout() || error.is_connection_dropped() => Err(session.server.explain(error).into()),
        Err(error) if is_forbidden(&error) => Ok(error.to_string().contains("channel")),
        _ => Ok(true),
    }
}

/// On a connection of its own, which can do nothing else afterwards.
async fn may_subscribe(session: &mut Session) -> Result<bool, Failure> {
    let mut connection = session.server.connect().await?;
    let subscribed =
        command("SUBSCRIBE", &[session.namespace.channel()]).query_async::<redis::Value>(&mut connection).await;
    Ok(!matches!(subscribed, Err(error) if is_forbidden(&error)))
}

/// The rule that gives a user what a cache of this namespace needs.
fn rule(namespace: &Namespace, user: &str) -> String {
    let prefix = escaped(namespace.prefix());
    let state = escaped(namespace.bus().strip_suffix("bus").unwrap_or_default());
    let keys = if prefix.is_empty() {
        "~*".to_owned()
    } else {
        format!("~{prefix}* ~mtc:?:t:{prefix}* ~mtc:?:w:{{{prefix}* ~{state}*")
    };
    format!("ACL SETUSER {user} {keys} &{} {NEEDED} +scan", namespace.channel())
}

/// `text` as a glob that matches it only.
fn escaped(text: &str) -> String {
    let special = |c| matches!(c, '*' | '?' | '[' | ']' | '\\');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_that_of_the_protocol() {
        let shop = Namespace::new("app:", "cache:invalidate").unwrap();
        assert!(rule(&shop, "cache").starts_with(
            "ACL SETUSER cache ~app:* ~mtc:?:t:app:* ~mtc:?:w:{app:* ~mtc:{cache:invalidate}:4:app::* &cache:invalidate +evalsha"
        ));
        let odd = Namespace::new("a*", "ch").unwrap();
        assert!(rule(&odd, "u").contains(r"~a\** ~mtc:?:t:a\**"));
        assert!(rule(&Namespace::new("", "ch").unwrap(), "u").contains("u ~* &ch"));
    }

    #[test]
    fn every_command_that_is_needed_is_asked_about() {
        let namespace = Namespace::new("app:", "ch").unwrap();
        let asked: Vec<String> = probes(&namespace).unwrap().iter().map(|probe| probe.name.to_lowercase()).collect();
        for needed in NEEDED.split_whitespace().map(|right| right.trim_start_matches('+')) {
            assert!(needed == "subscribe" || asked.contains(&needed.to_owned()), "{needed}");
        }
    }
}
