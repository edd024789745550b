//! `mtc bench`.

use std::thread;
use std::time::Instant;

use crate::program::PATIENCE;
use crate::shop::{Shop, in_shop};

const SMALL: &[&str] = &["bench", "--requests", "300", "--concurrency", "8", "--keys", "50", "--value-bytes", "100"];

#[test]
fn it_measures_and_leaves_nothing_behind() {
    let shop = Shop::open();
    shop.command(&["SET", "another's", "value"]);
    let text = shop.mtc.run(in_shop(SMALL));
    assert_eq!(text.code, 0, "{text:?}");
    for part in ["300 operations of each kind, 8 at a time, 50 keys, values of 100 B", "raw GET", "p99", "remove"] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
    assert_eq!(shop.keys(), ["another's"]);
    let found = shop.mtc.json(in_shop(&[&["--json"], SMALL].concat()));
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().filter_map(|row| row["operation"].as_str()).collect();
    assert_eq!(names, ["raw GET", "read, Redis", "read, L1", "load", "write", "remove"]);
    for row in rows {
        assert_eq!(row["failed"], 0, "{row}");
        assert!(row["per_second"].as_f64().unwrap() > 0.0 && row["p99_us"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert_eq!(shop.keys(), ["another's"]);
}

#[test]
fn it_cleans_up_when_it_is_interrupted() {
    let shop = Shop::open();
    let bench = shop.mtc.start(in_shop(&["bench", "--requests", "1000000", "--keys", "50"]));
    let deadline = Instant::now() + PATIENCE;
    while shop.command(&["DBSIZE"]) == ":0\r\n" {
        assert!(Instant::now() < deadline, "it has not begun");
        thread::yield_now();
    }
    bench.interrupt();
    assert_eq!(bench.ended().0, Some(1));
    assert!(shop.keys().is_empty(), "{:?}", shop.keys());
}

#[test]
fn other_instances_hear_nothing_of_it() {
    let shop = Shop::open();
    let instance = shop.instance();
    let before = instance.system.cache_manager.invalidation_stats().unwrap().messages_received;
    assert_eq!(shop.mtc.run(in_shop(SMALL)).code, 0);
    let after = instance.system.cache_manager.invalidation_stats().unwrap().messages_received;
    assert_eq!(after, before);
}
