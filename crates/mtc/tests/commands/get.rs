//! `mtc get`.

use std::time::Duration;

use multi_tier_cache::{CacheError, Freshness, MsgPackSerializer};
use serde_json::{Value, json};

use crate::program::Ended;
use crate::shop::{Shop, in_shop};

fn get(shop: &Shop, arguments: &[&str]) -> Ended {
    shop.mtc.run(in_shop(&[&["get"], arguments].concat()))
}

fn get_json(shop: &Shop, key: &str) -> Value {
    shop.mtc.json(in_shop(&["--json", "get", key]))
}

#[test]
fn a_typed_value_is_shown_with_its_head() {
    let shop = Shop::open();
    let _instance = shop.stocked();
    let text = get(&shop, &["users:7"]);
    assert_eq!(text.code, 0, "{text:?}");
    for part in ["shop:users:7", "typed value, JSON", "fresh for 4 min", "users (they hold)", "\"name\": \"Ada\""] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
    let found = get_json(&shop, "users:7");
    assert_eq!(found["value"]["json"], json!({ "name": "Ada", "visits": 3 }));
    assert_eq!(found["tags"]["names"], json!(["users"]));
    assert_eq!(found["tags"]["hold"], true);
    assert_eq!((&found["head"]["codec"], &found["head"]["absent"]), (&json!(1), &json!(false)));
    let (fresh, ttl) = (found["head"]["fresh_for_ms"].as_u64().unwrap(), found["ttl_ms"].as_u64().unwrap());
    assert!((1..=300_000).contains(&fresh) && fresh <= ttl, "{found}");
    assert_eq!(get(&shop, &["users:7", "--raw"]).out, r#"{"name":"Ada","visits":3}"#);
}

#[test]
fn a_value_whose_tag_was_removed_is_told_to_be_a_miss() {
    let shop = Shop::open();
    let instance = shop.stocked();
    shop.wait(instance.system.cache_manager.remove_tag("users")).unwrap();
    let text = get(&shop, &["users:7"]);
    assert!(text.code == 0 && text.out.contains("removed since: a miss to every reader"), "{text:?}");
    assert_eq!(get_json(&shop, "users:7")["tags"]["hold"], false);
}

#[test]
fn a_key_that_is_not_there_ends_with_1() {
    let shop = Shop::open();
    let text = get(&shop, &["users:7"]);
    assert!(text.code == 1 && text.out.contains("not in the server"), "{text:?}");
    let found = shop.mtc.run(in_shop(&["--json", "get", "users:7"]));
    assert_eq!((found.code, &found.json()["found"]), (1, &json!(false)));
    assert_eq!(get(&shop, &["users:7", "--raw"]).out, "");
    assert!(shop.keys().is_empty(), "looking begins no log: {:?}", shop.keys());
}

#[test]
fn a_key_of_another_namespace_is_not_seen() {
    let shop = Shop::open();
    let _instance = shop.stocked();
    assert_eq!(shop.mtc.run(["get", "users:7"]).code, 1);
    assert_eq!(shop.mtc.run(["--namespace", "blog:", "get", "users:7"]).code, 1);
    assert_eq!(shop.mtc.run(["get", "shop:users:7"]).code, 0, "without a prefix the whole name is the key");
}

#[test]
fn a_key_of_another_type_is_an_error_that_says_so() {
    let shop = Shop::open();
    shop.command(&["LPUSH", "shop:list", "a"]);
    let text = get(&shop, &["list"]);
    assert!(text.code == 1 && text.err.contains("holds a list"), "{text:?}");
}

#[test]
fn plain_binary_and_foreign_values_are_shown_as_they_are() {
    let shop = Shop::open();
    shop.command(&["SET", "shop:text", "plain \u{1b}[2J text"]);
    shop.command(&["SET", "shop:head", "\u{0}mtc"]);
    shop.command(&[
        "EVAL",
        r"redis.call('SET', 'shop:bytes', '\255\000'); redis.call('SET', 'shop:new', '\193mtc\009')",
        "0",
    ]);
    let text = get(&shop, &["text"]);
    assert!(text.out.contains("no end") && text.out.contains(r"plain \u{1b}[2J text"), "{}", text.out);
    assert_eq!(get_json(&shop, "text")["value"]["text"], "plain \u{1b}[2J text");
    assert_eq!(get_json(&shop, "bytes")["value"]["hex"], "ff00");
    let foreign = get(&shop, &["new"]);
    assert!(
        foreign.out.contains("unreadable, a miss to every reader: its head is of another version"),
        "{}",
        foreign.out
    );
    assert_eq!(get_json(&shop, "new")["value"], Value::Null);
}

#[test]
fn a_long_value_is_cut_for_people_only() {
    let shop = Shop::open();
    let long = "ü".repeat(10_000);
    shop.command(&["SET", "shop:long", &long]);
    assert!(get(&shop, &["long"]).out.contains("… (--full shows the rest)"));
    assert!(get(&shop, &["long", "--full"]).out.contains(&long));
    assert_eq!(get_json(&shop, "long")["value"]["text"], long);
}

#[test]
fn other_formats_are_shown_as_far_as_they_can_be() {
    let shop = Shop::open();
    let instance = shop.instance();
    let freshness = Freshness::new(Duration::from_secs(300)).with_negative_ttl(Duration::from_secs(60));
    let pages =
        instance.system.cache_builder::<String, Vec<String>>("pages").codec(MsgPackSerializer).freshness(freshness);
    let pages = pages.build().unwrap();
    let long = vec!["a".repeat(100_000)];
    shop.wait(pages.insert("long", long.clone())).unwrap();
    shop.wait(pages.get_or_load_optional("none", || async { Ok::<_, CacheError>(None) })).unwrap();
    let found = get_json(&shop, "pages:long");
    assert_eq!((&found["value"]["json"], &found["format"]), (&json!(long), &json!("typed value, MessagePack")));
    assert!(found["size"].as_u64().unwrap() < 10_000, "compressed: {}", found["size"]);
    let none = get(&shop, &["pages:none"]);
    assert!(none.code == 0 && none.out.contains("none: the source does not have it"), "{none:?}");
    let none = get_json(&shop, "pages:none");
    assert_eq!((&none["head"]["absent"], &none["value"]), (&json!(true), &Value::Null));
}

#[test]
fn a_lease_and_a_tombstone_are_told() {
    let shop = Shop::open();
    let lease = "0123456789abcdef0123456789abcdef:00000000000000ff:3";
    shop.command(&["SET", "mtc:l:w:{shop:users:7}", lease, "PX", "60000"]);
    shop.command(&["SET", "mtc:x:w:{shop:users:7}", "1", "PX", "60000"]);
    let text = get(&shop, &["users:7"]);
    assert!(text.out.contains("an instance is loading it") && text.out.contains("tombstone"), "{}", text.out);
    assert!(!text.out.contains("0123456789abcdef"), "who holds it is not told: {}", text.out);
    let found = shop.mtc.run(in_shop(&["--json", "get", "users:7"])).json();
    assert_eq!((&found["lease"]["epoch"], &found["lease"]["fence"]), (&json!("00000000000000ff"), &json!(3)));
}
