//! What a registry shows of the packages is so: the tables name every feature, links lead somewhere from any place, and
//! the compiler that is promised is the one that is checked.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A registry shows these pages far from the files beside them.
const PAGES: [&str; 3] =
    ["crates/mtc/README.md", "crates/multi-tier-cache/README.md", "crates/multi-tier-cache-macros/README.md"];
const FILES: &str = "https://github.com/multi-tier-cache/multi-tier-cache/blob/HEAD/";
const GUIDE: &str = "https://docs.rs/multi-tier-cache/latest/multi_tier_cache/guide/";

/// Not in `full`: itself, names for sets of others, and what only tests need.
const NOT_IN_FULL: [&str; 5] = ["default", "full", "backend-quickcache", "backend-memcached", "test-util"];

#[test]
fn the_tables_of_features_are_complete() {
    let features: BTreeSet<String> = features().into_keys().filter(|name| name != "default").collect();
    assert_eq!(table(&read("README.md"), ""), features, "README.md");
    assert_eq!(table(&read("crates/multi-tier-cache/src/lib.rs"), "//! "), features, "src/lib.rs");
}

#[test]
fn the_tables_say_what_is_on_by_default() {
    let default: BTreeSet<String> = features().remove("default").unwrap().into_iter().collect();
    for (page, prefix) in [("README.md", ""), ("crates/multi-tier-cache/src/lib.rs", "//! ")] {
        let said = rows(&read(page), prefix).into_iter().filter(|row| row.contains("(default)"));
        assert_eq!(said.flat_map(|row| quoted(&row)).collect::<BTreeSet<_>>(), default, "{page}");
    }
}

#[test]
fn full_is_everything_that_adds_something() {
    let features = features();
    let adding = features.keys().filter(|name| !NOT_IN_FULL.contains(&name.as_str()));
    let full: BTreeSet<&String> = features.get("full").unwrap().iter().collect();
    assert_eq!(full, adding.collect());
}

#[test]
fn pages_of_packages_link_to_what_is_there_from_anywhere() {
    let guide = read("crates/multi-tier-cache/src/guide.rs");
    for page in PAGES {
        let text = read(page);
        let links: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(!links.is_empty(), "{page}");
        for link in links {
            assert!(link.starts_with("https://"), "{page}: {link} leads nowhere in a registry");
            if let Some(file) = link.strip_prefix(FILES) {
                assert!(root().join(file).is_file(), "{page}: {link}");
            }
            if let Some(module) = link.strip_prefix(GUIDE) {
                let declared = format!("    {} \"", module.trim_end_matches('/'));
                assert!(guide.contains(&declared), "{page}: {link}");
            }
        }
    }
}

#[test]
fn every_manifest_and_the_readme_name_one_compiler() {
    let version = |manifest: &str| {
        let text = read(manifest);
        let line = text.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
        line.trim_matches('"').to_owned()
    };
    let promised = version("Cargo.toml");
    assert_eq!(version("fuzz/Cargo.toml"), promised);
    assert!(read("README.md").contains(&format!("Rust {promised} or later")), "README.md does not say {promised}");
}

/// Every feature of the library with what it turns on.
fn features() -> BTreeMap<String, Vec<String>> {
    let manifest = read("crates/multi-tier-cache/Cargo.toml");
    let section = manifest.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let entries = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = ["));
    let unquoted = |list: &str| {
        let names = list.trim_end_matches(']').split(", ").map(|name| name.trim_matches('"').to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    entries.map(|(name, list)| (name.to_owned(), unquoted(list))).collect()
}

/// The names in the first column of a page's table of features.
fn table(text: &str, prefix: &str) -> BTreeSet<String> {
    rows(text, prefix).iter().flat_map(|row| quoted(row)).collect()
}

/// The first column of the table that follows the heading.
fn rows(text: &str, prefix: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let after = lines.skip_while(|line| line.trim_start_matches('#') != " Features").skip(1);
    let table = after.take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| "));
    table.skip(1).filter_map(|row| row.split(" | ").next().map(str::to_owned)).collect()
}

/// What is between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
