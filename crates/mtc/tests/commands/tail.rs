//! `mtc tail`.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::program::{Running, ended};
use crate::shop::{Instance, Shop, in_shop};

fn remove(shop: &Shop, instance: &Instance, key: &str) -> String {
    shop.wait(instance.system.cache_manager.remove(key)).unwrap().unwrap().to_string()
}

fn tail(shop: &Shop, arguments: &[&str]) -> Running {
    shop.mtc.start(in_shop(&[&["--json", "tail"], arguments].concat()))
}

/// What it began with.
fn started(tail: &Running) -> Value {
    let start = tail.json_line();
    assert_eq!(start["event"], "start");
    start
}

#[test]
fn removals_by_an_instance_are_seen_as_they_come() {
    let shop = Shop::open();
    let instance = shop.instance();
    remove(&shop, &instance, "before");
    let tail = tail(&shop, &["--count", "5"]);
    started(&tail);
    let cache = &instance.system.cache_manager;
    let position = remove(&shop, &instance, "a");
    shop.wait(cache.remove_many(&["b", "c"])).unwrap();
    shop.wait(cache.update_cache("d", "v".into(), None)).unwrap();
    shop.wait(cache.remove_tag("red")).unwrap();
    shop.wait(cache.clear()).unwrap();
    let entry = tail.json_line();
    assert_eq!((&entry["change"], &entry["names"]), (&json!("remove"), &json!(["a"])));
    assert_eq!((&entry["position"], &entry["sequence"]), (&json!(position), &json!(2)));
    for (change, names) in [("remove", 2), ("put", 1), ("remove-tag", 1), ("clear", 0)] {
        let entry = tail.json_line();
        assert_eq!((&entry["change"], entry["names"].as_array().unwrap().len()), (&json!(change), names), "{entry}");
    }
    assert_eq!(tail.ended(), (Some(0), Vec::new()));
}

#[test]
fn people_see_one_line_for_each_entry() {
    let shop = Shop::open();
    let instance = shop.instance();
    remove(&shop, &instance, "a\u{1b}[2J");
    let ended = shop.mtc.run(in_shop(&["tail", "--since", "start", "--count", "1"]));
    let lines: Vec<_> = ended.out.lines().collect();
    assert!(lines[0].starts_with("following mtc:{cache:invalidate}:5:shop::log at redis://127.0.0.1"), "{ended:?}");
    assert!(lines[0].ends_with(" from its beginning"), "{ended:?}");
    assert_eq!(lines[1..], [r"       1  remove          a\u{1b}[2J"]);
}

#[test]
fn it_begins_where_it_is_told_to() {
    let shop = Shop::open();
    let instance = shop.instance();
    let positions: Vec<_> = ["a", "b", "c"].map(|key| remove(&shop, &instance, key)).into();
    let sequences = |since: &str, count: &str| -> Vec<u64> {
        let ended = shop.mtc.run(in_shop(&["--json", "tail", "--since", since, "--count", count]));
        ended.jsons().iter().filter_map(|event| event["sequence"].as_u64()).collect()
    };
    assert_eq!(sequences("start", "3"), [1, 2, 3]);
    assert_eq!(sequences(&positions[0], "2"), [2, 3]);
    assert_eq!(sequences("1", "1"), [2]);
    assert_eq!(sequences("start", "0"), Vec::<u64>::new());
    assert_eq!(shop.mtc.run(["tail", "--since", "yesterday"]).code, 2);
}

#[test]
fn entries_that_were_trimmed_are_a_gap() {
    let shop = Shop::open();
    let instance = shop.instance();
    let first = remove(&shop, &instance, "a");
    for key in ["b", "c"] {
        remove(&shop, &instance, key);
    }
    shop.command(&["XDEL", "mtc:{cache:invalidate}:5:shop::log", "2-0"]);
    let tail = tail(&shop, &["--since", &first, "--count", "1"]);
    started(&tail);
    let gap = tail.json_line();
    assert_eq!((&gap["event"], &gap["missing"], &gap["after"]), (&json!("gap"), &json!("entries"), &json!(first)));
    assert_eq!(tail.json_line()["sequence"], 3);
}

#[test]
fn a_server_that_was_flushed_is_a_gap_and_the_new_log_is_followed() {
    let shop = Shop::open();
    let instance = shop.instance();
    remove(&shop, &instance, "a");
    let tail = tail(&shop, &[]);
    started(&tail);
    shop.command(&["FLUSHALL"]);
    remove(&shop, &instance, "b");
    let gap = tail.json_line();
    assert_eq!((&gap["event"], &gap["missing"]), (&json!("gap"), &json!("epoch")));
    // The instance does its own removals of the last minutes again, so that `a` may come first.
    let mut entry = tail.json_line();
    while entry["names"] != json!(["b"]) {
        entry = tail.json_line();
    }
}

#[test]
fn a_server_that_was_away_is_waited_for() {
    let mut shop = Shop::open();
    let tail = tail(&shop, &[]);
    assert_eq!(started(&tail)["position"], Value::Null, "no log yet");
    shop.server.restart().unwrap();
    let instance = shop.instance();
    remove(&shop, &instance, "a");
    assert_eq!(tail.json_line()["names"], json!(["a"]));
}

#[test]
fn it_ends_well_at_ctrl_c_and_writes_nothing_into_the_server() {
    let shop = Shop::open();
    let tail = tail(&shop, &[]);
    started(&tail);
    tail.interrupt();
    assert_eq!(tail.ended(), (Some(0), Vec::new()));
    assert!(shop.keys().is_empty(), "{:?}", shop.keys());
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_complaint() {
    let shop = Shop::open();
    let instance = shop.instance();
    let mut command = shop.mtc.command(in_shop(&["tail"]));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    drop(out);
    remove(&shop, &instance, "a");
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}
