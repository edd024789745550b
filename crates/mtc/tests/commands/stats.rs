//! `mtc stats`.

use serde_json::{Value, json};

use crate::metrics::{FIRST, second, serve};
use crate::program::Mtc;

fn figure<'a>(found: &'a Value, name: &str) -> &'a Value {
    found["figures"].as_array().unwrap().iter().find(|figure| figure["name"] == name).unwrap()
}

#[test]
fn figures_and_every_family_of_the_library_are_shown() {
    let address = serve(vec![Some(FIRST.to_owned()); 2]);
    let mtc = Mtc::nowhere();
    let text = mtc.run(["stats", &address]);
    assert_eq!(text.code, 0, "{text:?}");
    for part in [
        "hit rate",
        "95.0 %",
        "L1",
        "p50 312 µs, p99 975 µs",
        "proven fresh",
        "250 ms",
        "mtc_tier_hits_total backend=Redis tier=L2",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
    assert!(!text.out.contains("process_cpu") && !text.out.contains("_bucket"), "{}", text.out);
    let found = mtc.json(["--json", "stats", &format!("http://{address}/metrics")]);
    assert_eq!(figure(&found, "hit rate")["share"], 0.95);
    assert_eq!(figure(&found, "hit rate")["labels"], json!({ "cache": "users" }));
    let sample = found["samples"].as_array().unwrap().iter().find(|sample| sample["labels"]["tier"] == "L2").unwrap();
    assert_eq!(
        (&sample["type"], &sample["value"], &sample["per_second"]),
        (&json!("counter"), &json!(50.0), &Value::Null)
    );
}

#[test]
fn a_watch_tells_what_happened_since_the_look_before() {
    let address = serve(vec![Some(FIRST.to_owned()), Some(second())]);
    let ended = Mtc::nowhere().run(["--json", "stats", &address, "--watch=10ms", "--count", "2"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let looks = ended.jsons();
    assert_eq!(looks[0]["seconds"], Value::Null);
    assert!(looks[1]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(figure(&looks[1], "hit rate")["share"], 1.0);
    assert_eq!(figure(&looks[1], "reads")["value"], 1000.0);
    let rate = |name: &str| {
        let samples = looks[1]["samples"].as_array().unwrap().iter();
        samples.filter(|sample| sample["name"] == name).find_map(|sample| sample["per_second"].as_f64())
    };
    assert!(rate("mtc_events_total").unwrap() > 0.0);
    assert_eq!(rate("mtc_bus_proof_age_seconds"), None, "a gauge has no rate");
}

#[test]
fn a_watch_that_is_no_terminal_writes_one_block_for_each_look() {
    let address = serve(vec![Some(FIRST.to_owned()), Some(second())]);
    let ended = Mtc::nowhere().run(["stats", &address, "--watch=10ms", "--count", "2"]);
    assert!(ended.out.contains("since its start") && ended.out.contains("per second"), "{}", ended.out);
    assert!(!ended.out.contains('\u{1b}'), "nothing commands a terminal: {}", ended.out);
}

#[test]
fn an_endpoint_that_fails_for_a_while_is_trouble_that_is_told() {
    let mtc = Mtc::nowhere();
    assert_eq!(mtc.run(["stats", &serve(vec![None])]).code, 1);
    let nothing = mtc.run(["stats", &serve(vec![Some("up 1\n".to_owned())])]);
    assert!(nothing.code == 1 && nothing.err.contains("has no family"), "{nothing:?}");
    let nobody = mtc.run(["stats", "http://me:hunter2@127.0.0.1:1"]);
    assert!(nobody.code == 3 && nobody.err.contains("http://127.0.0.1:1/metrics"), "{nobody:?}");
    assert!(!nobody.err.contains("hunter2"), "{nobody:?}");
    assert_eq!(mtc.run(["stats", "https://127.0.0.1:1"]).code, 2);
}

#[test]
fn other_families_are_shown_when_they_are_asked_for() {
    let address = serve(vec![Some(FIRST.to_owned())]);
    let ended = Mtc::nowhere().run(["stats", &address, "--family", "process_"]);
    assert!(ended.code == 0 && ended.out.contains("process_cpu_seconds_total  "), "{ended:?}");
    assert!(!ended.out.contains("mtc_"), "{ended:?}");
}
