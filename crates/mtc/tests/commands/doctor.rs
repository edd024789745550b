//! `mtc doctor`.

use serde_json::{Value, json};
use test_servers::RedisServer;

use crate::program::Mtc;
use crate::shop::{Shop, in_shop};

/// The rule of `PROTOCOL.md`, for this shop.
const RULE: &[&str] = &[
    "resetchannels",
    "~shop:*",
    "~mtc:?:t:shop:*",
    "~mtc:?:w:{shop:*",
    "~mtc:{cache:invalidate}:5:shop::*",
    "&cache:invalidate",
    "+evalsha",
    "+eval",
    "+get",
    "+set",
    "+unlink",
    "+mget",
    "+exists",
    "+pttl",
    "+pexpire",
    "+persist",
    "+hget",
    "+hmget",
    "+hset",
    "+xadd",
    "+xrange",
    "+publish",
    "+subscribe",
    "+time",
    "+ping",
];

fn check<'a>(found: &'a Value, name: &str) -> &'a Value {
    found["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

fn doctor(shop: &Shop) -> Value {
    let ended = shop.mtc.run(in_shop(&["--json", "doctor", "--samples", "20"]));
    assert!(ended.code < 2, "{ended:?}");
    let found = ended.json();
    assert_eq!(ended.code == 1, found["worst"] == "trouble", "{found}");
    found
}

#[test]
fn a_server_that_is_as_it_should_be_is_found_well() {
    let server = RedisServer::builder().arguments(["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lfu"]);
    let shop = Shop::of(server.start().unwrap());
    let instance = shop.stocked();
    shop.wait(instance.system.cache_manager.remove("users:9")).unwrap();
    shop.command(&["SET", "blog:1", "another's"]);
    let before = shop.keys();
    let found = doctor(&shop);
    assert_eq!(found["worst"], "ok", "{found:#}");
    assert_eq!(check(&found, "version")["facts"]["role"], "master");
    assert_eq!(check(&found, "memory")["facts"]["policy"], "volatile-lfu");
    assert!(check(&found, "latency")["facts"]["get"]["p99_us"].as_f64().unwrap() > 0.0);
    assert_eq!(check(&found, "log")["facts"]["entries"], 1);
    assert_eq!(check(&found, "log")["facts"]["subscribers"], 1);
    let keys = &check(&found, "keys")["facts"];
    assert_eq!((&keys["values"], &keys["tags"], &keys["others"]["keys"]), (&json!(2), &json!(1), &json!(1)));
    assert!(keys["own"]["bytes"].as_u64().unwrap() > 100, "{keys}");
    assert_eq!(shop.keys(), before, "nothing was changed");
}

#[test]
fn people_get_advice() {
    let shop = Shop::open();
    let _instance = shop.stocked();
    let ended = shop.mtc.run(["doctor", "--samples", "5"]);
    assert_eq!(ended.code, 0, "warnings are no trouble: {ended:?}");
    for part in
        ["ok       version  Redis ", "warning  memory", "volatile-lfu", "--prefix 'shop:' --channel 'cache:invalidate'"]
    {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}

#[test]
fn a_user_with_the_rights_of_the_protocol_has_all_that_a_cache_needs() {
    let mut shop = Shop::open();
    shop.command(&[&["ACL", "SETUSER", "cache", "on", ">pw"], RULE].concat());
    shop.mtc = Mtc::at(format!("redis://cache:pw@127.0.0.1:{}", shop.server.port()));
    let found = doctor(&shop);
    let rights = check(&found, "rights");
    assert_eq!(rights["facts"]["missing"], json!([]), "{found:#}");
    assert_eq!(rights["facts"]["wanting"], json!(["SCAN (for removals by pattern)"]));
    assert_eq!(check(&found, "version")["level"], "unknown", "INFO is not allowed");
    assert_eq!(check(&found, "keys")["level"], "unknown", "SCAN is not allowed");
    let removal = shop.mtc.run(in_shop(&["invalidate", "users:7"]));
    assert_eq!(removal.code, 0, "{removal:?}");
    let pattern = shop.mtc.run(in_shop(&["invalidate-pattern", "users:*"]));
    assert!(pattern.code == 1 && pattern.err.to_lowercase().contains("scan"), "{pattern:?}");
}

#[test]
fn a_right_that_is_missing_is_named_and_the_advice_mends_it() {
    let mut shop = Shop::open();
    shop.mtc = Mtc::at(format!("redis://cache:pw@127.0.0.1:{}", shop.server.port()));
    let rights = |change: &[&str]| {
        shop.command(&[&["ACL", "SETUSER", "cache", "reset", "on", ">pw"], RULE, change].concat());
        let found = doctor(&shop);
        let rights = check(&found, "rights").clone();
        (rights["facts"]["missing"].clone(), rights["advice"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(rights(&["-hset"]).0, json!(["HSET on the bus"]));
    assert_eq!(rights(&["-publish"]).0, json!(["PUBLISH on the channel"]));
    assert_eq!(rights(&["-eval"]).0, json!(["EVAL on scripts"]));
    assert_eq!(rights(&["resetchannels"]).0, json!(["SUBSCRIBE on the channel"]));
    let (missing, advice) = rights(&["resetkeys", "~shop:*"]);
    assert!(missing.as_array().unwrap().contains(&json!("GET on leases")), "{missing}");
    let rule: Vec<&str> = advice.split_whitespace().collect();
    assert_eq!(rule[..3], ["ACL", "SETUSER", "USER"], "this user may not ask for its name");
    shop.command(&[&["ACL", "SETUSER", "cache"], &rule[3..]].concat());
    assert_eq!(check(&doctor(&shop), "rights")["level"], "ok");
}

#[test]
fn a_replica_is_trouble() {
    let master = RedisServer::start().unwrap();
    let replica = RedisServer::builder().replica_of(master.port()).start().unwrap();
    replica.wait_synced().unwrap();
    let found = doctor(&Shop::of(replica));
    assert_eq!(check(&found, "version")["level"], "trouble", "{found:#}");
    assert_eq!(check(&found, "version")["facts"]["role"], "slave");
}

#[test]
fn a_large_server_is_looked_at_in_part() {
    let shop = Shop::open();
    shop.command(&["EVAL", "for i = 1, 5000 do redis.call('SET', 'shop:' .. i, i) end", "0"]);
    let found = shop.mtc.json(in_shop(&["--json", "doctor", "--samples", "5", "--keys", "1000"]));
    let keys = &check(&found, "keys")["facts"];
    assert_eq!(keys["complete"], false);
    assert!((1_000..5_000).contains(&keys["values"].as_u64().unwrap()), "{keys}");
    let found = shop.mtc.json(in_shop(&["--json", "doctor", "--samples", "5", "--keys", "0"]));
    assert_eq!(check(&found, "keys")["facts"]["values"], 5_000);
}
