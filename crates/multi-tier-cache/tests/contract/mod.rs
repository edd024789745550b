//! What every backend owes its callers, whatever it stores in.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{Capabilities, L2CacheBackend};

pub(crate) type Backend = Arc<dyn L2CacheBackend>;

const TTL: Duration = Duration::from_secs(100);
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;

/// What is particular to a backend.
#[derive(Debug, Clone)]
pub(crate) struct Expect {
    pub(crate) name: &'static str,
    /// Lives in this process and shows its synchronous face.
    pub(crate) in_process: bool,
    /// Removes by pattern, and clears; one that does not must answer an error.
    pub(crate) patterns: bool,
    pub(crate) clear: bool,
    /// The step in which it counts time.
    pub(crate) tick: Duration,
    /// It may cut TTLs down to this.
    pub(crate) longest_ttl: Duration,
    pub(crate) time: Time,
}

/// The time a backend lives in.
#[derive(Debug, Clone)]
pub(crate) enum Time {
    Manual(ManualClock),
    Real,
}

impl Time {
    async fn pass(&self, by: Duration) {
        match self {
            Self::Manual(clock) => clock.advance(by),
            Self::Real => tokio::time::sleep(by).await,
        }
    }

    /// Lets up to `within` pass until `key` is gone.
    async fn until_gone(&self, backend: &Backend, key: &str, within: Duration) {
        match self {
            Self::Manual(clock) => {
                clock.advance(within);
                assert_eq!(backend.get(key).await, None, "{key:?} outlived its TTL");
            }
            Self::Real => {
                let deadline = Instant::now() + within + PATIENCE;
                while backend.try_get(key).await.unwrap().is_some() {
                    assert!(Instant::now() < deadline, "{key:?} outlived its TTL");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// The whole contract. `make` answers a backend without any of the contract's keys.
pub(crate) async fn backend_contract(make: impl Fn() -> Backend, expect: Expect) {
    says_what_it_can_do(&make(), &expect).await;
    stores_replaces_and_removes(&make()).await;
    keeps_any_value(&make()).await;
    keeps_any_key_apart(&make()).await;
    works_on_many_keys(&make()).await;
    reports_the_remaining_ttl(&make(), &expect).await;
    expires(&make(), &expect).await;
    a_zero_ttl_removes(&make()).await;
    removes_by_pattern_or_refuses(&make(), &expect).await;
    serves_many_at_once(&make()).await;
    survives_dropped_futures(&make()).await;
    clears_or_refuses(&make(), &expect).await;
}

async fn says_what_it_can_do(backend: &Backend, expect: &Expect) {
    assert_eq!(backend.name(), expect.name);
    assert!(backend.health_check().await);
    assert!(backend.capabilities().has(Capabilities::TTL));
    assert_eq!(backend.capabilities().has(Capabilities::PATTERN), expect.patterns);
    assert_eq!(backend.capabilities().has(Capabilities::SHARED), !expect.in_process);
    assert_eq!(Arc::clone(backend).in_process().is_some(), expect.in_process);
}

async fn stores_replaces_and_removes(backend: &Backend) {
    assert_eq!(backend.get("c:absent").await, None);
    assert_eq!(backend.try_get("c:absent").await.unwrap(), None);
    assert_eq!(backend.get_with_ttl("c:absent").await, None);
    put(backend, "c:a", b"one").await;
    put(backend, "c:b", b"other").await;
    assert_eq!(read(backend, "c:a").await.as_deref(), Some(&b"one"[..]));
    put(backend, "c:a", b"two").await;
    assert_eq!(read(backend, "c:a").await.as_deref(), Some(&b"two"[..]));
    backend.remove("c:a").await.unwrap();
    assert_eq!(read(backend, "c:a").await, None);
    backend.remove("c:a").await.unwrap();
    assert_eq!(read(backend, "c:b").await.as_deref(), Some(&b"other"[..]));
    backend.set("c:default", Bytes::from_static(b"v")).await.unwrap();
    let (_, remaining) = backend.get_with_ttl("c:default").await.unwrap();
    assert!(remaining.unwrap() <= multi_tier_cache::defaults::TTL);
}

async fn keeps_any_value(backend: &Backend) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let big: Vec<u8> = (0..MIB).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for value in [&b""[..], b"\0", b"\r\n", b"END\r\n", b"VA 2\r\nxx\r\n", &every_byte, &big] {
        put(backend, "c:value", value).await;
        assert_eq!(read(backend, "c:value").await.unwrap(), value, "{} bytes", value.len());
    }
    // A large value that is replaced by a small one leaves nothing behind.
    put(backend, "c:value", b"small").await;
    assert_eq!(read(backend, "c:value").await.unwrap(), &b"small"[..]);
}

/// Keys that break careless protocols, and pairs that careless mappings confuse.
fn nasty_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "",
        " ",
        "c: ",
        "c:a b",
        "c:a\r\nb",
        "c:\r\nset x 0 0 1\r\ny",
        "c:\n",
        "c:\0",
        "c:\0\0",
        "c:\u{7f}",
        "c:\t",
        "c:{tag}",
        "c:{}",
        "c:}{",
        "c:*",
        "c:?",
        "c:[a]",
        "c:\\",
        "c:^",
        "c:ä",
        "c:ä\u{308}",
        "c:日本語",
        "c:🦀",
        "\u{feff}",
    ]
    .map(String::from)
    .into();
    for length in [249, 250, 251, 252, 1_024, 64 * 1024] {
        keys.push("k".repeat(length));
        keys.push("k".repeat(length - 1) + "ü");
        keys.push("k".repeat(length - 1) + " ");
    }
    keys
}

async fn keeps_any_key_apart(backend: &Backend) {
    let keys = nasty_keys();
    for (n, key) in keys.iter().enumerate() {
        put(backend, key, format!("value {n}").as_bytes()).await;
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(read(backend, key).await.unwrap(), format!("value {n}").as_bytes(), "{}", shorten(key));
    }
    for key in &keys {
        backend.remove(key).await.unwrap();
        assert_eq!(read(backend, key).await, None, "{}", shorten(key));
    }
}

async fn works_on_many_keys(backend: &Backend) {
    let keys: Vec<String> = (0..1_500).map(|n| format!("c:many:{n}{}", if n % 7 == 0 { " \n" } else { "" })).collect();
    let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), Bytes::from(key.clone()))).collect();
    backend.set_many(&pairs, TTL).await.unwrap();
    let mut asked: Vec<&str> = keys.iter().rev().map(String::as_str).collect();
    asked.insert(3, "c:many:absent");
    asked.push("c:many:5");
    let found = backend.get_many(&asked).await.unwrap();
    assert_eq!(found.len(), asked.len());
    for (key, value) in asked.iter().zip(found) {
        let expected = (*key != "c:many:absent").then_some(key.as_bytes());
        assert_eq!(value.as_deref(), expected, "{key:?}");
    }
    let found = backend.get_many_with_ttl(&asked).await.unwrap();
    assert_eq!(found.len(), asked.len());
    for (key, found) in asked.iter().zip(found) {
        let expected = (*key != "c:many:absent").then_some(key.as_bytes());
        assert_eq!(found.as_ref().map(|(value, _)| &value[..]), expected, "{key:?}");
        assert!(found.and_then(|(_, ttl)| ttl).unwrap_or(TTL) <= TTL, "{key:?}");
    }
    backend.remove_many(&asked).await.unwrap();
    assert!(backend.get_many(&asked).await.unwrap().iter().all(Option::is_none));
    assert_eq!(backend.get_many(&[]).await.unwrap(), Vec::<Option<Bytes>>::new());
    assert!(backend.get_many_with_ttl(&[]).await.unwrap().is_empty());
    backend.remove_many(&[]).await.unwrap();
    backend.set_many(&[], TTL).await.unwrap();
}

async fn reports_the_remaining_ttl(backend: &Backend, expect: &Expect) {
    let slack = expect.tick + if matches!(expect.time, Time::Real) { Duration::from_secs(2) } else { Duration::ZERO };
    for ttl in [Duration::from_millis(2_500), TTL, Duration::from_secs(31 * 24 * 60 * 60), CENTURY] {
        backend.set_with_ttl("c:ttl", Bytes::from_static(b"v"), ttl).await.unwrap();
        let (value, remaining) = backend.try_get_with_ttl("c:ttl").await.unwrap().unwrap();
        assert_eq!(value, &b"v"[..]);
        let remaining = remaining.unwrap_or(Duration::MAX);
        assert!(remaining <= ttl, "{remaining:?} of {ttl:?}");
        assert!(remaining + slack >= ttl.min(expect.longest_ttl), "{remaining:?} of {ttl:?}");
    }
    backend.set_with_ttl("c:ttl", Bytes::from_static(b"v"), TTL).await.unwrap();
    let (_, before) = backend.get_with_ttl("c:ttl").await.unwrap();
    expect.time.pass(Duration::from_secs(3)).await;
    let (_, after) = backend.get_with_ttl("c:ttl").await.unwrap();
    let passed = before.unwrap().saturating_sub(after.unwrap());
    assert!(passed >= Duration::from_secs(2) && passed <= Duration::from_secs(3) + slack, "{passed:?}");
}

async fn expires(backend: &Backend, expect: &Expect) {
    for ttl in
        [Duration::from_micros(300), Duration::from_millis(1), Duration::from_millis(700), Duration::from_secs(1)]
    {
        backend.set_with_ttl("c:brief", Bytes::from_static(b"v"), ttl).await.unwrap();
        expect.time.until_gone(backend, "c:brief", ttl + expect.tick).await;
        assert_eq!(backend.get_with_ttl("c:brief").await, None);
        assert_eq!(backend.get_many(&["c:brief"]).await.unwrap(), [None]);
    }
    // The last TTL counts, in both directions.
    backend.set_with_ttl("c:longer", Bytes::from_static(b"v"), Duration::from_secs(1)).await.unwrap();
    backend.set_with_ttl("c:longer", Bytes::from_static(b"v"), TTL).await.unwrap();
    backend.set_with_ttl("c:shorter", Bytes::from_static(b"v"), TTL).await.unwrap();
    backend.set_with_ttl("c:shorter", Bytes::from_static(b"v"), Duration::from_secs(1)).await.unwrap();
    expect.time.until_gone(backend, "c:shorter", Duration::from_secs(1) + expect.tick).await;
    assert!(read(backend, "c:longer").await.is_some());
}

async fn a_zero_ttl_removes(backend: &Backend) {
    backend.set_with_ttl("c:zero", Bytes::from_static(b"new"), Duration::ZERO).await.unwrap();
    assert_eq!(read(backend, "c:zero").await, None);
    put(backend, "c:zero", b"old").await;
    backend.set_with_ttl("c:zero", Bytes::from_static(b"new"), Duration::ZERO).await.unwrap();
    assert_eq!(read(backend, "c:zero").await, None);
    put(backend, "c:zero", b"old").await;
    backend.set_many(&[("c:zero", Bytes::from_static(b"new"))], Duration::ZERO).await.unwrap();
    assert_eq!(read(backend, "c:zero").await, None);
}

async fn removes_by_pattern_or_refuses(backend: &Backend, expect: &Expect) {
    let all = ["p:user:1", "p:user:22", "p:user:[3]", "p:item:1", "p:*", "p:\\", "p:a b", "p:ü"];
    for (pattern, matching) in [
        ("p:user:?", &["p:user:1"][..]),
        ("p:user:*", &["p:user:1", "p:user:22", "p:user:[3]"]),
        ("p:[^u]tem:[0-9]", &["p:item:1"]),
        ("p:\\*", &["p:*"]),
        ("p:user:\\[3]", &["p:user:[3]"]),
        ("p:??", &["p:ü"]),
        ("p:none*", &[]),
        ("p:*", &all),
    ] {
        for key in all {
            put(backend, key, b"v").await;
        }
        put(backend, "other", b"v").await;
        assert_eq!(backend.remove_pattern(pattern).await.is_ok(), expect.patterns, "{pattern}");
        for key in all {
            let gone = expect.patterns && matching.contains(&key);
            assert_eq!(read(backend, key).await.is_none(), gone, "{pattern} and {key}");
        }
        assert!(read(backend, "other").await.is_some());
    }
}

async fn serves_many_at_once(backend: &Backend) {
    let tasks = (0..32).map(|task| {
        let backend = Arc::clone(backend);
        tokio::spawn(async move {
            for round in 0..40 {
                let (own, value) = (format!("c:task:{task}"), format!("{task}/{round}"));
                put(&backend, &own, value.as_bytes()).await;
                put(&backend, "c:shared", value.as_bytes()).await;
                assert_eq!(read(&backend, &own).await.unwrap(), value.as_bytes());
                assert!(read(&backend, "c:shared").await.unwrap().contains(&b'/'));
                if round % 3 == 0 {
                    backend.remove(&own).await.unwrap();
                    assert_eq!(read(&backend, &own).await, None);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// A caller may stop waiting at any point: nobody else must get its answer.
async fn survives_dropped_futures(backend: &Backend) {
    let big = Bytes::from(vec![b'x'; 200_000]);
    for n in 0..20 {
        put(backend, &format!("c:drop:{n}"), format!("{n}").as_bytes()).await;
    }
    for round in 0..60_u64 {
        let key = format!("c:drop:{}", round % 20);
        let all = ["c:drop:1", "c:drop:2", "c:drop:3"];
        let pause = Duration::from_micros(round * 13 % 400);
        match round % 4 {
            0 => drop(backend.get(&key).now_or_never()),
            1 => drop(tokio::time::timeout(pause, backend.get(&key)).await),
            2 => drop(tokio::time::timeout(pause, backend.get_many(&all)).await),
            _ => drop(tokio::time::timeout(pause, backend.set_with_ttl("c:drop:big", big.clone(), TTL)).await),
        }
        for n in [0, round % 20, 19] {
            assert_eq!(read(backend, &format!("c:drop:{n}")).await.unwrap(), format!("{n}").as_bytes());
        }
        if let Some(value) = read(backend, "c:drop:big").await {
            assert_eq!(value, big);
        }
    }
    // A future that is never polled does nothing.
    drop(backend.remove("c:drop:1"));
    drop(backend.set("c:drop:2", Bytes::new()));
    assert_eq!(read(backend, "c:drop:1").await.unwrap(), &b"1"[..]);
    assert_eq!(read(backend, "c:drop:2").await.unwrap(), &b"2"[..]);
}

async fn clears_or_refuses(backend: &Backend, expect: &Expect) {
    put(backend, "c:last", b"v").await;
    assert_eq!(backend.clear().await.is_ok(), expect.clear);
    assert_eq!(read(backend, "c:last").await.is_none(), expect.clear);
    put(backend, "c:after", b"v").await;
    assert!(read(backend, "c:after").await.is_some());
}

async fn put(backend: &Backend, key: &str, value: &[u8]) {
    backend.set_with_ttl(key, Bytes::copy_from_slice(value), TTL).await.unwrap();
}

async fn read(backend: &Backend, key: &str) -> Option<Bytes> {
    backend.try_get(key).await.unwrap()
}

fn shorten(key: &str) -> String {
    format!("{:?} of {} bytes", key.chars().take(40).collect::<String>(), key.len())
}
