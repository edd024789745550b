//! The contract on real servers, and what only a server can do to it.

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

#[tokio::test]
async fn every_operation_is_one_request_once_the_server_knows_the_scripts() {
    let (server, on) = subject();
    every_operation(&on).await;
    assert_eq!(calls(&server, "eval"), SCRIPTED);
    let (again, first) = (calls(&server, "evalsha"), calls(&server, "script|load") + calls(&server, "script"));
    every_operation(&on).await;
    every_operation(&at(&server.url(), "other:")).await;
    assert_eq!(requests(&server), (again + 2 * SCRIPTED, SCRIPTED));
    assert_eq!(first, 0);
    let (before, ranges) = (requests(&server), calls(&server, "xrange"));
    on.read_log(0, 10).await.unwrap();
    assert_eq!((requests(&server), calls(&server, "xrange")), (before, ranges + 1));
}

/// A user ran SCRIPT FLUSH, or the server was restarted, while caches were at work.
#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let (server, on) = subject();
    for _ in 0..3 {
        every_operation(&on).await;
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]).unwrap(), "+OK\r\n");
        every_operation(&on).await;
    }
    let grant = granted(&on, ask("k")).await;
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert!(on.fill(fill("k", grant)).await.unwrap());
}

fn backend_failure(error: &CacheError) -> &crate::error::Failure {
    match error {
        CacheError::BackendError(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// A full server without eviction refuses what takes memory. An invalidation must go through all the same.
#[tokio::test]
async fn a_full_server_still_invalidates_and_refuses_to_store() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    for key in ["k", "l", "put"] {
        on.replace(key, Bytes::from_static(b"old"), TTL).await.unwrap();
    }
    let load = granted(&on, Acquire { tags: &names, ..ask("load") }).await;
    on.replace("filler", Bytes::from(vec![0; 1_000_000]), TTL).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    assert!(server.command(&["SET", "plain", "1"]).unwrap().starts_with("-OOM"));

    let refused = [
        on.acquire(ask("new")).await.map(drop).unwrap_err(),
        on.fill(Fill { tags: &names, ..fill("load", load) }).await.map(drop).unwrap_err(),
        on.replace("new", Bytes::from_static(b"v"), TTL).await.unwrap_err(),
    ];
    for error in refused {
        assert!(error.is_retryable() && error.to_string().contains("OOM"), "{error:?}");
        assert_eq!(backend_failure(&error).tier(), Some("Redis"));
    }

    let start = tail(&on).await;
    let fresh = tags(&["fresh"]);
    let changes = [
        keys(&["k"]),
        keys(&["absent"]),
        keys(&[]),
        Change::Put("put".into(), Token::random()),
        Change::Tag("t".into()),
        Change::Tag("never seen".into()),
        Change::Pattern("l*".into()),
        Change::Clear,
    ];
    for (number, change) in changes.iter().enumerate() {
        let at = on.revoke(Revocation { tombstone: LEASE, tags: &fresh, ..revocation(change) }).await.unwrap().at;
        assert_eq!(at.seq, start.seq + 1 + number as u64, "{change:?}");
    }
    assert_eq!(server.command(&["EXISTS", "app:k", "app:put"]).unwrap(), ":0\r\n");
    assert_eq!(on.tag_tokens(&fresh).await.unwrap().tokens, [Some(start.seq)]);
    assert!(!on.open_below("k").await.unwrap());
    assert_eq!(on.read_log(start.seq, 100).await.unwrap().len(), changes.len());
    on.fence(LEASE).await.unwrap();
    assert_eq!(on.poll(Some(tail(&on).await)).await.unwrap().at.seq, 0);
    server.command(&["DEL", on.names.bus.as_str()]).unwrap();
    assert_eq!(revoke(&on, keys(&["l"])).await.seq, 1);
    assert_eq!(server.command(&["EXISTS", "app:l"]).unwrap(), ":0\r\n");
    assert!(server.command(&["SET", "plain", "1"]).unwrap().starts_with("-OOM"), "it was full to the end");
}

#[tokio::test]
async fn a_replica_refuses_and_a_retry_may_help() {
    let (server, on) = subject();
    every_operation(&on).await;
    server.command(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]).unwrap();
    let change = keys(&["k"]);
    let refused = [
        on.acquire(ask("k")).await.map(drop).unwrap_err(),
        on.replace("k", Bytes::new(), TTL).await.unwrap_err(),
        on.revoke(revocation(&change)).await.map(drop).unwrap_err(),
        on.fence(Duration::ZERO).await.unwrap_err(),
    ];
    for error in refused {
        assert!(error.is_retryable() && error.to_string().contains("READONLY"), "{error:?}");
    }
}

#[tokio::test]
async fn a_flushed_server_begins_a_new_epoch_and_refuses_what_was_granted_before() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    let grant = granted(&on, Acquire { tags: &names, ..ask("k") }).await;
    let before = revoke(&on, Change::Tag("another".into())).await;
    server.command(&["FLUSHALL"]).unwrap();
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
    assert!(on.open_below("k").await.unwrap());
    let after = tail(&on).await;
    assert!(after.epoch != before.epoch && after.seq == 0 && after.nonce == 0, "{before} {after}");
    assert_eq!(on.tag_tokens(&names).await.unwrap(), TagTokens { epoch: after.epoch, tokens: vec![None] });
    assert_eq!(revoke(&on, keys(&["k"])).await.seq, 1);
}

/// Eviction may take any key of the library's, one at a time.
#[tokio::test]
async fn whatever_is_evicted_nothing_stale_is_stored_or_read() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    let del = |key: &str| assert_eq!(server.command(&["DEL", key]).unwrap(), ":1\r\n", "{key}");

    let grant = granted(&on, ask("lease")).await;
    del(&on.names.key("lease").unwrap().lease);
    assert!(!on.fill(fill("lease", grant)).await.unwrap());

    // The token of a tag that was revoked during the load.
    let grant = granted(&on, Acquire { tags: &names, ..ask("k") }).await;
    revoke(&on, Change::Tag("t".into())).await;
    del(&on.names.tag("t"));
    assert_eq!(on.tag_tokens(&names).await.unwrap().tokens, [None]);
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());

    // The log: its readers see that it is not dense.
    let at = revoke(&on, keys(&["another"])).await;
    del(&on.names.log);
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
    assert_eq!(tail(&on).await, at);
    assert_eq!(revoke(&on, keys(&["another"])).await.seq, at.seq + 1);

    // The bus, with the fence: a load and a put under the old one.
    let load = granted(&on, ask("load")).await;
    del(&on.names.bus);
    assert!(!on.fill(fill("load", load)).await.unwrap());
    assert_ne!(tail(&on).await.epoch, at.epoch);
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_tags_token_outlives_the_entries_that_carry_it() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    let left = || {
        let reply = server.command(&["PTTL", &on.names.tag("t")]).unwrap();
        Duration::from_millis(reply.trim_start_matches(':').trim().parse().unwrap())
    };
    let day = defaults::TAG_TOKEN_TTL;
    let near = |ttl: Duration| left() <= ttl && left() + Duration::from_secs(60) > ttl;
    for (ttl, expected) in
        [(TTL, day), (day * 3, day * 3 + defaults::TAG_TOKEN_MARGIN), (TTL, day * 3 + defaults::TAG_TOKEN_MARGIN)]
    {
        let grant = granted(&on, Acquire { refresh: true, tags: &names, ..ask("k") }).await;
        assert!(on.fill(Fill { ttl, tags: &names, ..fill("k", grant) }).await.unwrap());
        assert!(near(expected), "{ttl:?} {:?}", left());
    }
    revoke(&on, Change::Tag("t".into())).await;
    assert!(near(day), "{:?}", left());
    let grant = granted(&on, ask("for ever")).await;
    assert!(on.fill(Fill { ttl: Duration::MAX, tags: &names, ..fill("for ever", grant) }).await.unwrap());
}

#[tokio::test]
async fn keys_of_another_type_are_an_error_that_says_so() {
    let (server, on) = subject();
    for key in [&on.names.bus, &on.names.log] {
        tail(&on).await;
        on.replace("k", Bytes::from_static(b"v"), TTL).await.unwrap();
        server.command(&["DEL", key]).unwrap();
        server.command(&["SADD", key, "member"]).unwrap();
        let error = on.revoke(revocation(&keys(&["k"]))).await.unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("value of another type"), "{error:?}");
        assert_eq!(backend_failure(&error).operation(), Some("revoke"));
        assert_eq!(server.command(&["EXISTS", "app:k"]).unwrap(), ":0\r\n", "the value goes first");
        server.command(&["DEL", key]).unwrap();
    }
    server.command(&["HSET", &on.names.bus, "epoch", "x", "seq", "1", "nonce", "y", "fence", "0"]).unwrap();
    let error = on.poll(None).await.unwrap_err();
    assert!(error.to_string().contains("hold what it does not write"), "{error}");
    server.command(&["DEL", &on.names.bus]).unwrap();
    server.command(&["SADD", "app:k", "member"]).unwrap();
    let error = on.acquire(ask("k")).await.unwrap_err();
    assert!(error.to_string().contains("value of another type"), "{error:?}");
    revoke(&on, keys(&["k"])).await;
    granted(&on, ask("k")).await;
}

#[tokio::test]
async fn an_entry_of_somebody_else_breaks_the_chain() {
    let (server, on) = subject();
    let at = revoke(&on, keys(&["k"])).await;
    server.command(&["XADD", &on.names.log, "2-0", "m", "{\"type\":\"Clear\"}"]).unwrap();
    server.command(&["XADD", &on.names.log, "2-1", "x", "y"]).unwrap();
    let records = on.read_log(0, 10).await.unwrap();
    assert_eq!((records.len(), records[0].at), (3, at));
    for record in &records[1..] {
        assert!(record.change == Recorded::Unknown && record.at.epoch == 0, "{record:?}");
    }
}

/// An entry with a higher id would make every later one of the library's own impossible.
#[tokio::test]
async fn a_log_that_somebody_else_wrote_into_is_begun_anew() {
    let (server, on) = subject();
    let before = on.revoke(revocation(&keys(&["k"]))).await.unwrap().at;
    server.command(&["XADD", &on.names.log, "99999999999999-0", "x", "y"]).unwrap();
    let after = on.revoke(revocation(&keys(&["k"]))).await.unwrap().at;
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(after.seq, 1);
    assert_eq!(on.read_log(0, 10).await.unwrap().len(), 1);
}

/// The rules of PROTOCOL.md, and nothing more.
#[tokio::test]
async fn a_user_with_the_documented_rules_can_do_everything() {
    let server = RedisServer::start().unwrap();
    let protocol = include_str!("../../../../../PROTOCOL.md");
    let rules: Vec<&str> = protocol.lines().filter(|line| line.starts_with("    ACL SETUSER ")).collect();
    assert_eq!(rules.len(), 1, "one example of a user");
    let parts: Vec<&str> = rules[0].split_whitespace().collect();
    assert_eq!(server.command(&parts).unwrap(), "+OK\r\n");
    let url = format!("redis://{}:{}@127.0.0.1:{}", parts[2], "secret", server.port());
    let audit = Audit { stream: "cache:audit".to_owned(), maxlen: Some(100) };
    let on = RedisCoordinator::new(supervisor(&url), PREFIX, CHANNEL, 100, Some(audit));
    let mut messages = on.listen().await.unwrap();
    every_operation(&on).await;
    on.read_log(0, 10).await.unwrap();
    for change in [keys(&["a", "b"]), Change::Put("k".into(), Token::random()), Change::Tag("t".into()), Change::Clear]
    {
        revoke(&on, change).await;
    }
    assert_eq!(on.poll(Some(tail(&on).await)).await.unwrap().at.seq, 0);
    assert!(messages.next().await.is_some());
    assert_eq!(server.command(&["XLEN", "cache:audit"]).unwrap(), ":5\r\n");
    let elsewhere = RedisCoordinator::new(supervisor(&url), "other:", CHANNEL, 100, None);
    assert!(elsewhere.acquire(ask("k")).await.unwrap_err().to_string().contains("NOPERM"));
}

#[tokio::test]
async fn the_audit_tells_what_was_logged() {
    let (server, _) = subject();
    let audit = Audit { stream: "audit".to_owned(), maxlen: None };
    let on = RedisCoordinator::new(supervisor(&server.url()), PREFIX, CHANNEL, 100, Some(audit));
    let quiet = keys(&["quiet"]);
    on.revoke(Revocation { announced: false, ..revocation(&quiet) }).await.unwrap();
    let expected = [
        (keys(&["k"]), ("Remove", "key", "k")),
        (keys(&["k", "l"]), ("RemoveBulk", "count", "2")),
        (Change::Put("k".into(), Token::random()), ("Update", "key", "k")),
        (Change::Pattern("k*".into()), ("RemovePattern", "key", "k*")),
        (Change::Tag("t".into()), ("RemoveTag", "key", "t")),
        (Change::Clear, ("Clear", "key", "*")),
    ];
    for (change, _) in &expected {
        on.revoke(Revocation { tombstone: LEASE, ..revocation(change) }).await.unwrap();
    }
    assert_eq!(on.tag_tokens(&tags(&["t"])).await.unwrap().tokens, [Some(5)]);
    let entries: Vec<(String, Vec<(String, String)>)> =
        on.server.query(cmd("XRANGE").arg("audit").arg("-").arg("+")).await.unwrap();
    assert_eq!(entries.len(), expected.len());
    for ((_, fields), (_, (kind, field, value))) in entries.iter().zip(expected) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let timestamp = fields[1].1;
        assert!(timestamp.len() == 10 && timestamp.parse::<u64>().is_ok(), "{timestamp}");
        assert_eq!(fields, [("type", kind), ("timestamp", timestamp), (field, value)]);
    }
    // An audit that cannot be written does not undo the removal, nor fail it.
    server.command(&["DEL", "audit"]).unwrap();
    server.command(&["SADD", "audit", "member"]).unwrap();
    let at = revoke(&on, keys(&["k"])).await;
    assert_eq!(tail(&on).await, at);
}

/// The script finds its keys by counting: those of a put, with and without tombstones, tags and an audit stream.
#[tokio::test]
async fn every_part_of_a_put_finds_its_keys() {
    let (server, without_audit) = subject();
    let audit = Audit { stream: "audit".to_owned(), maxlen: Some(1_000) };
    let with_audit = RedisCoordinator::new(supervisor(&server.url()), PREFIX, CHANNEL, 100, Some(audit));
    let names = tags(&["a", "b"]);
    let nothing = Duration::ZERO;
    for (on, audited) in [(&without_audit, 0), (&with_audit, 1)] {
        for (tombstone, tags, with_values) in
            [(nothing, 0, true), (LEASE, 0, true), (nothing, 2, true), (LEASE, 2, true), (LEASE, 2, false)]
        {
            server.command(&["FLUSHALL"]).unwrap();
            on.replace("k", Bytes::from_static(b"old"), TTL).await.unwrap();
            let token = Token::random();
            let (change, tags) = (Change::Put("k".into(), token), &names[..tags]);
            on.revoke(Revocation { with_values, tombstone, tags, ..revocation(&change) }).await.unwrap();
            let KeyNames { value, lease, tombstone: closed } = on.names.key("k").unwrap();
            let mut expected = vec![on.names.bus.clone(), on.names.log.clone()];
            expected.extend((audited > 0).then(|| "audit".to_owned()));
            if with_values {
                assert!(server.command(&["GET", &lease]).unwrap().contains(&token.to_string()));
                expected.push(lease);
                expected.extend((tombstone > nothing).then_some(closed));
                expected.extend(tags.iter().map(|tag| on.names.tag(tag)));
            } else {
                expected.push(value.into_owned());
            }
            let mut there: Vec<String> = on.server.query(cmd("KEYS").arg("*")).await.unwrap();
            there.sort();
            expected.sort();
            assert_eq!(there, expected);
        }
    }
}

#[tokio::test]
async fn namespaces_and_databases_of_one_server_are_apart() {
    let (server, on) = subject();
    let url = server.url();
    let others = [at(&url, "app:tag:"), at(&url, ""), at(&format!("{url}/3"), PREFIX)];
    let mut messages = on.listen().await.unwrap();
    let own = revoke(&on, keys(&["k"])).await;
    assert!(messages.next().await.is_some());
    let grant = granted(&on, ask("k")).await;
    for other in &others {
        let there = tail(other).await;
        assert!(there.epoch != own.epoch && there.seq == 0, "{other:?}");
        granted(other, ask("k")).await;
        other.fence(LEASE).await.unwrap();
        let at = revoke(other, Change::Tag("t".into())).await;
        revoke(other, keys(&["k"])).await;
        // The channel is shared: its messages tell epochs apart.
        let payload = messages.next().await.unwrap();
        let Message::Logged(record) = message::parse(&payload).unwrap() else { panic!() };
        assert_eq!(record.at, at);
        messages.next().await.unwrap();
    }
    assert_eq!(tail(&on).await, own);
    assert!(on.open_below("k").await.unwrap());
    assert_eq!(on.tag_tokens(&tags(&["t"])).await.unwrap().tokens, [None]);
    assert!(on.fill(fill("k", grant)).await.unwrap());
}

#[tokio::test]
async fn without_a_prefix_the_librarys_own_keys_are_nobodys() {
    let (server, _) = subject();
    let on = at(&server.url(), "");
    let before = tail(&on).await;
    let own = on.names.bus.as_str();
    assert!(matches!(on.acquire(ask(own)).await, Err(CacheError::ConfigError(_))));
    assert!(matches!(on.replace(own, Bytes::new(), TTL).await, Err(CacheError::ConfigError(_))));
    assert!(!on.renew(own, Token::random(), LEASE).await.unwrap());
    on.release(own, Token::random()).await.unwrap();
    assert!(on.open_below(own).await.unwrap());
    let put = Change::Put(own.into(), Token::random());
    assert!(matches!(on.revoke(revocation(&put)).await, Err(CacheError::ConfigError(_))));
    assert_eq!(tail(&on).await, before);
    let after = revoke(&on, keys(&[own, "k"])).await;
    assert_eq!((after.epoch, after.seq), (before.epoch, 1));
}

#[tokio::test]
async fn values_of_other_programs_are_read_as_they_are() {
    let (server, on) = subject();
    server.command(&["SET", "app:k", "plain"]).unwrap();
    assert_eq!(on.acquire(ask("k")).await.unwrap(), Acquired::Value(Bytes::from_static(b"plain"), None));
}

#[tokio::test]
async fn sequence_numbers_beyond_32_bits_stay_exact() {
    let (server, on) = subject();
    let start = tail(&on).await;
    let large = (1_u64 << 53) - 3;
    server.command(&["HSET", &on.names.bus, "seq", &large.to_string()]).unwrap();
    let names = tags(&["t"]);
    let grant = granted(&on, Acquire { tags: &names, ..ask("k") }).await;
    assert_eq!(grant.seq, large);
    let at = revoke(&on, Change::Tag("t".into())).await;
    assert_eq!((at.seq, at.epoch), (large + 1, start.epoch));
    assert_eq!(on.read_log(large, 5).await.unwrap()[0].at, at);
    assert_eq!(on.tag_tokens(&names).await.unwrap().tokens, [Some(large + 1)]);
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
}

// Listening.

#[tokio::test]
async fn messages_of_other_programs_come_as_they_are() {
    let (server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    let large = "x".repeat(2 * 1024 * 1024);
    for payload in ["{\"type\":\"Remove\",\"key\":\"user:1\"}", "", "\u{0}ü", &large] {
        server.command(&["PUBLISH", CHANNEL, payload]).unwrap();
        assert!(messages.next().await.unwrap() == payload.as_bytes());
    }
}

#[tokio::test]
async fn listening_ends_with_the_connection() {
    let (mut server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    assert_eq!(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap(), ":1\r\n");
    assert_eq!(messages.next().await, None);
    let mut messages = on.listen().await.unwrap();
    server.kill().unwrap();
    assert_eq!(messages.next().await, None);
    let error = on.listen().await.map(drop).unwrap_err();
    assert!(error.is_retryable() && backend_failure(&error).operation() == Some("subscribe"), "{error:?}");
}

#[tokio::test]
async fn listening_ends_when_the_cache_is_closed() {
    let (server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    on.server.close();
    assert_eq!(messages.next().await, None);
    assert!(on.listen().await.is_err());
    drop(messages);
    drop(server);
}

#[tokio::test]
async fn who_no_longer_listens_leaves_no_connection_behind() {
    let (server, on) = subject();
    drop(on.listen().await.unwrap());
    let listening = || server.command(&["PUBSUB", "NUMSUB", CHANNEL]).unwrap();
    let until = async {
        while !listening().ends_with(":0\r\n") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.unwrap();
}

/// A listener that does not keep up learns that it missed something; the process does not fill up with messages.
#[tokio::test]
async fn listening_ends_when_too_much_waits() {
    let (server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    let flood = "for i = 1, 5000 do redis.call('PUBLISH', ARGV[1], i) end";
    server.command(&["EVAL", flood, "0", CHANNEL]).unwrap();
    let until = async {
        while !server.command(&["PUBSUB", "NUMSUB", CHANNEL]).unwrap().ends_with(":0\r\n") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.unwrap();
    let mut taken = 0;
    while let Some(payload) = messages.next().await {
        taken += 1;
        assert_eq!(payload, taken.to_string().as_bytes());
    }
    assert_eq!(taken, defaults::MESSAGES_WAITING);
}

/// Real servers say in which slot a key is.
#[tokio::test]
async fn a_cluster_finds_lease_and_tombstone_where_the_value_is() {
    let server = RedisServer::builder().arguments(["--cluster-enabled", "yes"]).start().unwrap();
    let names = Names::new(PREFIX, CHANNEL);
    let slot = |key: &str| server.command(&["CLUSTER", "KEYSLOT", key]).unwrap();
    for key in ["user:1", "{user}:1", "a{b}c{d}", "x{y", "ü ö", "a{{b}}"] {
        let KeyNames { value, lease, tombstone } = names.key(key).unwrap();
        assert_eq!((slot(&lease), slot(&tombstone)), (slot(&value), slot(&value)), "{key}");
    }
    assert_eq!(slot(&names.bus), slot(&names.log));
    assert_eq!(slot(&names.bus), slot(&names.tag("{t}")));
}
