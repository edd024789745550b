//! What of the contract Memcached keeps, on real servers, and what only they can do to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use test_servers::MemcachedServer;
use tokio::time::sleep;

use super::*;
use crate::coordinator::contract::{LEASE, TTL, ask, contract, fill, granted, keys, revocation, stored};
use crate::traits::L2CacheBackend;

contract!(@tests keeps_its_part_of_the_contract, quiet();
    a_lease_is_granted_to_one_load,
    the_same_load_may_ask_twice,
    a_fill_stores_and_ends_the_lease,
    a_fill_without_a_lease_is_refused,
    a_lease_belongs_to_a_load_not_to_a_client,
    a_value_of_no_life_is_refused_and_ends_the_lease,
    only_its_owner_ends_a_lease,
    a_fill_after_a_removal_is_refused,
    a_removal_concerns_its_keys_only,
    a_put_leaves_its_lease_to_the_writer,
    the_later_of_two_puts_wins,
    a_replacement_stores_over_everything,
    a_removal_closes_the_tiers_below_for_its_keys,
);

/// Announces nothing, whatever the contract asks for.
struct Quiet(MemcachedCoordinator);

impl Coordinator for Quiet {
    fn acquire<'a>(&'a self, ask: Acquire<'a>) -> BoxFuture<'a, CacheResult<Acquired>> {
        self.0.acquire(ask)
    }

    fn fill<'a>(&'a self, fill: Fill<'a>) -> BoxFuture<'a, CacheResult<bool>> {
        self.0.fill(fill)
    }

    fn renew<'a>(&'a self, key: &'a str, token: Token, lease: Duration) -> BoxFuture<'a, CacheResult<bool>> {
        self.0.renew(key, token, lease)
    }

    fn release<'a>(&'a self, key: &'a str, token: Token) -> BoxFuture<'a, CacheResult<()>> {
        self.0.release(key, token)
    }

    fn replace<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.replace(key, value, ttl)
    }

    fn revoke<'a>(&'a self, revocation: Revocation<'a>) -> BoxFuture<'a, CacheResult<Revoked>> {
        self.0.revoke(Revocation { announced: false, ..revocation })
    }

    fn fence(&self, closed_below: Duration) -> BoxFuture<'_, CacheResult<()>> {
        self.0.fence(closed_below)
    }

    fn open_below<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<bool>> {
        self.0.open_below(key)
    }

    fn poll(&self, forked: Option<Position>) -> BoxFuture<'_, CacheResult<Tail>> {
        self.0.poll(forked)
    }

    fn read_log(&self, seq: u64, count: usize) -> BoxFuture<'_, CacheResult<Vec<Record>>> {
        self.0.read_log(seq, count)
    }

    fn tag_tokens<'a>(&'a self, tags: &'a [Tag]) -> BoxFuture<'a, CacheResult<TagTokens>> {
        self.0.tag_tokens(tags)
    }

    fn listen(&self) -> BoxFuture<'_, CacheResult<Messages>> {
        self.0.listen()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// A key that is stored as it is, and one that is hashed.
const KEYS: [&str; 2] = ["k", "a key"];

fn subject() -> (MemcachedServer, MemcachedCoordinator) {
    let server = MemcachedServer::start().unwrap();
    let coordinator = at(&server.address());
    (server, coordinator)
}

fn quiet() -> (MemcachedServer, Quiet) {
    let (server, coordinator) = subject();
    (server, Quiet(coordinator))
}

fn at(address: &str) -> MemcachedCoordinator {
    MemcachedCoordinator::new(MemcachedCache::with_url(address).unwrap())
}

/// What the server answers to a raw request.
fn raw(server: &MemcachedServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(format!("{request}\r\nmn\r\n").as_bytes()).unwrap();
    let lines = BufReader::new(stream).split(b'\n').map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned());
    lines.take_while(|line| line != "MN\r").collect()
}

async fn remove(on: &MemcachedCoordinator, names: &[&str]) {
    on.revoke(Revocation { announced: false, ..revocation(&keys(names)) }).await.unwrap();
}

async fn soon_granted(on: &MemcachedCoordinator, ask: Acquire<'_>) -> Grant {
    let began = Instant::now();
    loop {
        match on.acquire(ask).await.unwrap() {
            Acquired::Granted(grant) => return grant,
            _ => assert!(began.elapsed() < PATIENCE, "the lease does not end"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_holds(on: &MemcachedCoordinator, key: &str, value: &str) {
    assert_eq!(on.0.try_get(key).await.unwrap().unwrap(), value, "{key}");
}

#[tokio::test]
async fn a_late_fill_changes_nothing_whatever_happened_to_its_key() {
    let (server, on) = subject();
    for key in KEYS {
        let removed = granted(&on, ask(key)).await;
        remove(&on, &[key]).await;
        assert!(!on.fill(fill(key, removed)).await.unwrap());
        assert_eq!(on.0.try_get(key).await.unwrap(), None);

        let overtaken = granted(&on, ask(key)).await;
        on.replace(key, Bytes::from_static(b"put"), TTL).await.unwrap();
        assert!(!on.fill(fill(key, overtaken)).await.unwrap());
        assert_holds(&on, key, "put").await;
        remove(&on, &[key]).await;

        let superseded = granted(&on, ask(key)).await;
        remove(&on, &[key]).await;
        let newer = granted(&on, ask(key)).await;
        assert!(!on.fill(fill(key, superseded)).await.unwrap());
        assert!(on.fill(Fill { value: Bytes::from_static(b"newer"), ..fill(key, newer) }).await.unwrap());
        assert!(!on.fill(fill(key, superseded)).await.unwrap());
        assert_holds(&on, key, "newer").await;
        remove(&on, &[key]).await;

        let flushed = granted(&on, ask(key)).await;
        raw(&server, "flush_all");
        assert!(!on.fill(fill(key, flushed)).await.unwrap());
        assert_eq!(on.0.try_get(key).await.unwrap(), None);
    }
}

/// The lease was still there when it was looked at, and is not when the change arrives.
#[tokio::test]
async fn a_change_between_the_look_and_the_store_is_noticed() {
    let (server, on) = subject();
    let key = ServerKey::of("k");
    let put = "ms k 3 T100\r\nput";
    for (meanwhile, left) in [("md k", None), (put, Some("put")), ("md k\r\nms k 3 T100\r\nput", Some("put"))] {
        let store = key.set(b"late", ServerTtl::of(TTL).unwrap());
        for change in [Op::from(store), key.set_lease(1, LEASE).into(), key.delete().into()] {
            let grant = granted(&on, ask("k")).await;
            let overtaken = || {
                raw(&server, meanwhile);
                change.clone()
            };
            assert!(!on.under_lease("set", &key, grant.token, overtaken).await.unwrap(), "{meanwhile}");
            assert_eq!(on.0.try_get("k").await.unwrap().as_deref(), left.map(str::as_bytes), "{meanwhile}");
            remove(&on, &["k"]).await;
        }
    }
}

/// A renewal that its load no longer waited for came between the two requests of the fill.
#[tokio::test]
async fn a_fill_survives_a_renewal_on_its_way() {
    let (server, on) = subject();
    let grant = granted(&on, ask("k")).await;
    let key = ServerKey::of("k");
    let renewed = std::cell::Cell::new(false);
    let overtaken = || {
        if !renewed.replace(true) {
            // The same lease with another CAS: nothing was appended to it.
            assert_eq!(raw(&server, "ms k 0 MA\r\n"), "HD\r");
        }
        key.set(b"loaded", ServerTtl::of(TTL).unwrap()).into()
    };
    assert!(on.under_lease("set", &key, grant.token, overtaken).await.unwrap());
    assert_holds(&on, "k", "loaded").await;
}

#[test]
fn a_tombstone_comes_before_what_ends_the_lease() {
    let key = ServerKey::of("k");
    let removal: Vec<_> = closing(&key, LEASE, key.delete().into()).collect();
    assert!(matches!(&removal[..], [Op::Set(_), Op::Delete(_)]), "{removal:?}");
    let alone: Vec<_> = closing(&key, Duration::ZERO, key.delete().into()).collect();
    assert!(matches!(&alone[..], [Op::Delete(_)]), "{alone:?}");
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_asked_and_then_ends() {
    let (_server, on) = subject();
    for _ in 0..3 {
        let grant = granted(&on, Acquire { lease: SECOND, ..ask("k") }).await;
        sleep(Duration::from_millis(950)).await;
        assert!(on.fill(fill("k", grant)).await.unwrap());
        remove(&on, &["k"]).await;
    }
    let old = granted(&on, Acquire { lease: SECOND, ..ask("k") }).await;
    let new = soon_granted(&on, ask("k")).await;
    assert!(!on.fill(fill("k", old)).await.unwrap());
    assert!(!on.renew("k", old.token, LEASE).await.unwrap());
    on.release("k", old.token).await.unwrap();
    assert!(on.fill(fill("k", new)).await.unwrap());

    let alone = granted(&on, Acquire { lease: SECOND, ..ask("alone") }).await;
    sleep(3 * SECOND).await;
    assert!(!on.fill(fill("alone", alone)).await.unwrap(), "an absent lease refuses");
    assert_eq!(on.0.try_get("alone").await.unwrap(), None);
}

#[tokio::test]
async fn only_a_lease_that_is_held_is_renewed() {
    let (_server, on) = subject();
    for key in KEYS {
        let grant = granted(&on, Acquire { lease: SECOND, ..ask(key) }).await;
        assert!(on.renew(key, grant.token, LEASE * 10).await.unwrap());
        assert!(!on.renew(key, Token::random(), LEASE).await.unwrap());
        match on.acquire(ask(key)).await.unwrap() {
            Acquired::Busy(left) => assert!(left > LEASE && left <= LEASE * 10, "{left:?}"),
            other => panic!("{other:?}"),
        }
        assert!(on.fill(fill(key, grant)).await.unwrap());
        assert!(!on.renew(key, grant.token, LEASE).await.unwrap());
        assert_holds(&on, key, "loaded").await;
        remove(&on, &[key]).await;
        assert!(!on.renew(key, grant.token, LEASE).await.unwrap());
    }
}

#[tokio::test]
async fn a_value_of_no_use_gives_way_to_the_lease() {
    let (_server, on) = subject();
    for key in KEYS {
        on.replace(key, Bytes::from_static(b"rejected"), TTL).await.unwrap();
        assert!(matches!(on.acquire(ask(key)).await.unwrap(), Acquired::Value(..)));
        let grant = granted(&on, Acquire { refresh: true, ..ask(key) }).await;
        assert!(matches!(on.acquire(Acquire { refresh: true, ..ask(key) }).await.unwrap(), Acquired::Busy(_)));
        assert_eq!(on.0.try_get(key).await.unwrap(), None);
        assert!(on.fill(fill(key, grant)).await.unwrap());
        assert_holds(&on, key, "loaded").await;
    }
}

#[tokio::test]
async fn no_read_takes_a_lease_for_a_value() {
    let (server, on) = subject();
    let tier = &on.0;
    for key in KEYS {
        granted(&on, ask(key)).await;
        assert_eq!((tier.get(key).await, tier.try_get(key).await.unwrap()), (None, None));
        assert_eq!((tier.get_with_ttl(key).await, tier.try_get_with_ttl(key).await.unwrap()), (None, None));
    }
    assert_eq!(tier.get_many(&KEYS).await.unwrap(), [None, None]);
    // What PROTOCOL.md says of it: `0xA`, bit 26, and the token.
    let answer = raw(&server, "mg k f t s");
    assert_eq!(answer, format!("HD f{} t11 s16\r", 0xA400_0000_u32));
    // A lease cut short is no value either.
    raw(&server, &format!("ms odd 3 F{}\r\nabc", 0xA400_0000_u32));
    assert_eq!(tier.try_get("odd").await.unwrap(), None);
    granted(&on, ask("odd")).await;
    // An empty value is one.
    on.replace("empty", Bytes::new(), TTL).await.unwrap();
    assert_eq!(tier.try_get("empty").await.unwrap(), Some(Bytes::new()));
    assert!(matches!(on.acquire(ask("empty")).await.unwrap(), Acquired::Value(value, _) if value.is_empty()));
}

#[tokio::test]
async fn an_item_that_cannot_be_read_does_not_keep_a_load_from_its_lease() {
    let (server, on) = subject();
    raw(&server, "ms invalidated 3 T100\r\nold");
    raw(&server, "md invalidated I T100");
    raw(&server, "mg vivified N100 v");
    raw(&server, "ms mtc~99aa06d3014798d86001c324468d497f 3\r\nabc");
    for key in ["invalidated", "vivified", ""] {
        let grant = granted(&on, ask(key)).await;
        assert!(matches!(on.acquire(ask(key)).await.unwrap(), Acquired::Busy(_)), "{key}");
        assert!(on.fill(fill(key, grant)).await.unwrap(), "{key}");
        assert_holds(&on, key, "loaded").await;
    }
}

/// A server that was restarted counts its CAS from 1 again. Had the grant kept one, it would have been the other
/// load's by then.
#[tokio::test]
async fn a_lease_of_before_a_restart_is_not_taken_for_one_of_after() {
    let (mut server, on) = subject();
    let before = granted(&on, ask("k")).await;
    let first = raw(&server, "mg k c");
    server.restart().unwrap();
    // With connections of its own: those of the first load are broken.
    let other = at(&server.address());
    let after = granted(&other, ask("k")).await;
    assert_eq!(raw(&server, "mg k c"), first, "the test means two leases with one CAS");
    let began = Instant::now();
    while let Err(error) = on.0.try_get("k").await {
        assert!(began.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!on.renew("k", before.token, LEASE).await.unwrap());
    on.release("k", before.token).await.unwrap();
    assert!(!on.fill(fill("k", before)).await.unwrap());
    assert!(other.fill(Fill { value: Bytes::from_static(b"after"), ..fill("k", after) }).await.unwrap());
    assert_holds(&on, "k", "after").await;
}

#[tokio::test]
async fn one_of_many_loads_gets_the_lease() {
    let (server, first) = subject();
    let others: Vec<_> = (0..3).map(|_| at(&server.address())).collect();
    for round in 0..50 {
        let key = format!("k{round}");
        let refresh = round % 2 == 1;
        if refresh {
            first.replace(&key, Bytes::from_static(b"old"), TTL).await.unwrap();
        }
        let asks = others.iter().chain([&first]).map(|on| on.acquire(Acquire { refresh, ..ask(&key) }));
        let answers = futures_util::future::join_all(asks).await;
        let winners = answers.into_iter().filter(|answer| matches!(answer.as_ref().unwrap(), Acquired::Granted(_)));
        assert_eq!(winners.count(), 1, "round {round}");
    }
}

/// A lease granted after a removal has to see its tombstone, wherever the removal stands.
#[tokio::test]
async fn a_removal_closes_the_tiers_below_before_it_ends_leases() {
    let (server, on) = subject();
    for round in 0..100 {
        let key = format!("k{round}");
        let old = granted(&on, ask(&key)).await;
        let change = keys(&[&key]);
        let removing = on.revoke(Revocation { announced: false, tombstone: LEASE, ..revocation(&change) });
        let load = async {
            loop {
                if let Acquired::Granted(grant) = on.acquire(ask(&key)).await.unwrap() {
                    return grant;
                }
            }
        };
        let (removed, new) = futures_util::future::join(removing, load).await;
        removed.unwrap();
        assert!(!new.open_below, "round {round}");
        assert!(!on.fill(fill(&key, old)).await.unwrap());
        assert!(!on.open_below(&key).await.unwrap());
    }
    assert!(on.open_below("other").await.unwrap());
    assert!(raw(&server, &format!("mg mtc~x{:032x} f t", xxhash_rust::xxh3::xxh3_128(b"k0"))).starts_with("HD f"));
}

#[tokio::test]
async fn many_keys_on_several_servers_are_removed_and_one_that_is_away_is_an_error() {
    let (mut one, other) = (MemcachedServer::start().unwrap(), MemcachedServer::start().unwrap());
    let on = at(&format!("{},{}", one.address(), other.address()));
    let names: Vec<String> = (0..1_200).map(|number| format!("key {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pairs: Vec<_> = names.iter().map(|key| (*key, Bytes::from_static(b"v"))).collect();
    let change = keys(&names);
    let removal = Revocation { announced: false, tombstone: LEASE, ..revocation(&change) };
    on.0.set_many(&pairs, TTL).await.unwrap();
    on.revoke(removal).await.unwrap();
    assert!(on.0.get_many(&names).await.unwrap().iter().all(Option::is_none));
    assert!(!on.open_below(names[0]).await.unwrap());

    on.0.set_many(&pairs, TTL).await.unwrap();
    one.kill().unwrap();
    assert!(on.revoke(removal).await.unwrap_err().is_retryable());
    for key in names {
        assert!(!matches!(on.0.try_get(key).await, Ok(Some(_))), "{key}");
    }
}

#[tokio::test]
async fn what_needs_a_log_is_refused() {
    let (_server, on) = subject();
    assert!(!on.keeps_log());
    let (tag, position) = ([Tag::from("t")], NOWHERE);
    let change = keys(&["k"]);
    let quiet = || Revocation { announced: false, ..revocation(&change) };
    let grant = granted(&on, ask("k")).await;
    let refusals = [
        on.fence(SECOND).await.unwrap_err(),
        on.poll(Some(position)).await.unwrap_err(),
        on.read_log(0, 1).await.unwrap_err(),
        on.tag_tokens(&tag).await.unwrap_err(),
        on.listen().await.map(drop).unwrap_err(),
        on.acquire(Acquire { tags: &tag, ..ask("k") }).await.unwrap_err(),
        on.fill(Fill { tags: &tag, ..fill("k", grant) }).await.unwrap_err(),
        on.revoke(Revocation { announced: true, ..quiet() }).await.unwrap_err(),
        on.revoke(Revocation { tags: &tag, ..quiet() }).await.unwrap_err(),
        on.revoke(Revocation { change: &Change::Tag("t".into()), ..quiet() }).await.unwrap_err(),
        on.revoke(Revocation { change: &Change::Pattern("*".into()), ..quiet() }).await.unwrap_err(),
        on.revoke(Revocation { change: &Change::Clear, ..quiet() }).await.unwrap_err(),
    ];
    assert!(refusals.iter().all(|error| error.is_refusal() && !error.is_retryable()), "{refusals:?}");
    assert!(on.fill(fill("k", grant)).await.unwrap(), "nothing of it had an effect");
    on.revoke(Revocation { with_values: false, ..quiet() }).await.unwrap();
    assert_eq!(stored(&on, "k").await.unwrap(), "loaded");
}

/// `memcached -C` takes every store for an unconditional one.
#[tokio::test]
async fn a_server_without_cas_grants_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("memcached");
    let binary = std::env::var("MTC_MEMCACHED").unwrap_or_else(|_| "memcached".into());
    fs::write(&script, format!("#!/bin/sh\nexec {binary} -C \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let server = MemcachedServer::start_binary(&script).unwrap();
    let on = at(&server.address());
    let error = on.acquire(ask("k")).await.unwrap_err();
    assert!(error.to_string().contains("-C") && !error.is_retryable(), "{error}");
    assert_eq!(on.0.try_get("k").await.unwrap(), None);
    on.replace("k", Bytes::from_static(b"put"), TTL).await.unwrap();
    assert_holds(&on, "k", "put").await;
}
