//! `mtc invalidate`, `invalidate-tag` and `invalidate-pattern`.

use multi_tier_cache::{InvalidationConfig, InvalidationMessage};
use serde_json::json;

use crate::program::Ended;
use crate::shop::{Shop, in_shop};

fn run(shop: &Shop, arguments: &[&str]) -> Ended {
    shop.mtc.run(in_shop(arguments))
}

/// The position that a removal told.
fn position(ended: &Ended) -> String {
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.out.split_whitespace().find(|word| word.starts_with("m1-")).unwrap().to_owned()
}

#[test]
fn a_removed_key_is_gone_from_every_instance() {
    let shop = Shop::open();
    let instance = shop.stocked();
    let messages = shop.messages();
    let ended = run(&shop, &["invalidate", "users:7"]);
    assert!(ended.out.starts_with("1 key removed on every instance\n  users:7\n"), "{ended:?}");
    assert_eq!(messages.next(), InvalidationMessage::remove("users:7"));
    assert!(!shop.has(&instance, "users:7", &position(&ended)), "the first tier still has it");
    assert!(shop.has(&instance, "users:8", &position(&ended)));
    assert!(!shop.keys().contains(&"shop:users:7".to_owned()));
    assert!(shop.keys().contains(&"shop:users:8".to_owned()));
}

#[test]
fn keys_come_from_arguments_and_from_standard_input() {
    let shop = Shop::open();
    let instance = shop.stocked();
    let ended = shop.mtc.run_with_input(in_shop(&["--json", "invalidate", "users:7", "-"]), "users:8\n\nusers:9\n");
    assert_eq!(ended.code, 0, "{ended:?}");
    let removed = ended.json();
    assert_eq!(removed["names"], json!(["users:7", "users:8", "users:9"]));
    for key in ["users:7", "users:8", "users:9"] {
        assert!(!shop.has(&instance, key, removed["position"].as_str().unwrap()), "{key}");
    }
    assert_eq!(shop.mtc.run_with_input(in_shop(&["invalidate", "-"]), "").code, 2, "no key at all");
}

#[test]
fn everything_with_a_tag_is_gone_from_every_instance() {
    let shop = Shop::open();
    let instance = shop.stocked();
    let ended = run(&shop, &["invalidate-tag", "users", "others"]);
    assert!(ended.out.starts_with("2 tags removed on every instance\n"), "{ended:?}");
    assert!(!shop.has(&instance, "users:7", &position(&ended)));
    assert_eq!(shop.mtc.json(in_shop(&["--json", "invalidate-tag", "users"]))["removed"], "tag");
}

#[test]
fn everything_that_matches_a_pattern_is_gone_from_every_instance() {
    let shop = Shop::open();
    let instance = shop.stocked();
    shop.command(&["SET", "blog:users:7", "another's"]);
    let ended = run(&shop, &["invalidate-pattern", "users:[78]"]);
    assert!(!shop.has(&instance, "users:7", &position(&ended)));
    assert!(shop.has(&instance, "users:9", &position(&ended)));
    let keys = shop.keys();
    assert!(keys.contains(&"blog:users:7".to_owned()) && !keys.contains(&"shop:users:8".to_owned()), "{keys:?}");
    let told = shop.mtc.json(in_shop(&["--json", "invalidate-pattern", "none:*"]));
    assert_eq!((&told["removed"], &told["pattern"]), (&json!("pattern"), &json!("none:*")));
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let shop = Shop::open();
    let _instance = shop.stocked();
    let (before, log) = (shop.keys(), shop.command(&["XLEN", "mtc:{cache:invalidate}:5:shop::log"]));
    let ended = run(&shop, &["invalidate-pattern", "*", "--dry-run", "--show", "2"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.starts_with("3 keys would be removed\n  users:"), "{}", ended.out);
    assert!(ended.out.ends_with("  …\n"), "{}", ended.out);
    let told = shop.mtc.json(in_shop(&["--json", "invalidate-pattern", "users:7", "--dry-run"]));
    assert_eq!((&told["matches"], &told["some"]), (&json!(1), &json!(["users:7"])));
    assert_eq!((shop.keys(), shop.command(&["XLEN", "mtc:{cache:invalidate}:5:shop::log"])), (before, log));
}

#[test]
fn a_pattern_that_could_reach_others_keys_is_refused() {
    let shop = Shop::open();
    shop.command(&["SET", "another's", "value"]);
    for arguments in [&["invalidate-pattern", "*"][..], &["invalidate-pattern", "*", "--dry-run"]] {
        let ended = shop.mtc.run(arguments);
        assert!(ended.code == 2 && ended.err.contains("set a key prefix"), "{ended:?}");
    }
    assert_eq!(shop.mtc.run(["invalidate", "mtc:x"]).code, 0, "no cache has such a key: nothing to remove");
    assert_eq!(shop.mtc.run(["--channel", "a}b", "invalidate", "x"]).code, 2);
    assert_eq!(shop.mtc.run(["--prefix", "mtc:", "invalidate", "x"]).code, 2);
    assert!(shop.keys().contains(&"another's".to_owned()));
}

#[test]
fn a_removal_is_written_into_the_audit_stream_that_is_named() {
    let shop = Shop::open();
    run(&shop, &["invalidate", "users:7", "--audit-stream", "shop:audit"]);
    let entry = shop.command(&["XRANGE", "shop:audit", "-", "+"]);
    assert!(entry.contains("Remove") && entry.contains("users:7"), "{entry}");
    run(&shop, &["invalidate", "users:8"]);
    assert_eq!(shop.command(&["XLEN", "shop:audit"]), ":1\r\n");
}

#[test]
fn another_channel_is_another_namespace() {
    let shop = Shop::open();
    let bus = InvalidationConfig { channel: "other".to_owned(), ..InvalidationConfig::default() };
    let instance = shop.instance_with(bus);
    let cache = &instance.system.cache_manager;
    shop.wait(cache.update_cache("k", "v".into(), None)).unwrap();
    let ended = run(&shop, &["--channel", "other", "invalidate", "k"]);
    assert!(!shop.has(&instance, "k", &position(&ended)));
    assert!(shop.keys().contains(&"mtc:{other}:5:shop::log".to_owned()), "{:?}", shop.keys());
}
