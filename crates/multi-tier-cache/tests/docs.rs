//! What the documentation says is so: its links lead somewhere, and the defaults that it quotes are those of the code.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multi_tier_cache::defaults;

/// Beside those of the guide.
const PAGES: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "PROTOCOL.md", "CONTRIBUTING.md", "CHANGELOG.md", "MIGRATION.md"];

const GUIDE: &str = "crates/multi-tier-cache/docs/guide";
/// Definitions of links, in front of every page in the documentation.
const RUSTDOC_LINKS: &str = "rustdoc-links.md";

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let broken: Vec<String> = pages().iter().flat_map(|page| broken_links(page)).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_page_of_the_guide_is_in_its_contents_and_in_the_documentation() {
    let root = root().join(GUIDE);
    let contents: BTreeSet<PathBuf> =
        definitions(&read(&root.join("README.md"))).into_values().map(Into::into).collect();
    let module = read(&root.join("../../src/guide.rs"));
    for page in guide() {
        let name = page.strip_prefix(&root).unwrap();
        let in_module = module.contains(&format!("\"{}\"", name.display()));
        let listed = name == "README.md" || contents.contains(name);
        assert!(in_module && listed, "{}: in src/guide.rs: {in_module}, in the contents: {listed}", name.display());
    }
}

/// A page's own definitions are those of the repository, where the documentation has other targets.
#[test]
fn every_link_between_pages_has_a_target_in_the_documentation() {
    let targets = definitions(&read(&root().join(GUIDE).join(RUSTDOC_LINKS)));
    for page in guide() {
        let text = read(&page);
        for (label, target) in definitions(&text) {
            assert!(is_external(&target) || targets.contains_key(&label), "{}: [{label}]", page.display());
        }
        let inline: Vec<String> = inline_links(&text).into_iter().filter(|link| !is_external(link)).collect();
        let elsewhere: Vec<&String> = inline.iter().filter(|link| !link.starts_with('#')).collect();
        assert!(elsewhere.is_empty(), "{}: {elsewhere:?} would lead nowhere in the documentation", page.display());
    }
}

#[test]
fn the_defaults_that_the_guide_quotes_are_those_of_the_code() {
    let known = known_defaults();
    let mut quoted = 0;
    for page in guide() {
        for (name, value) in quoted_defaults(&read(&page)) {
            let expected = known.get(name.as_str()).unwrap_or_else(|| panic!("{}: {name}", page.display()));
            assert_eq!(amount(&value), Some(*expected), "{}: {name} is quoted as {value}", page.display());
            quoted += 1;
        }
    }
    assert!(quoted > 20, "{quoted}: has the form of the tables changed?");
}

/// Where a sentence quotes a default: the page, the words, and in them the value.
#[test]
fn the_defaults_in_the_sentences_of_the_guide_are_those_of_the_code() {
    macro_rules! quoted {
        ($($page:literal $words:literal $value:literal $name:ident),+ $(,)?) => {
            [$(($page, $words, $value, Quantity::quantity(defaults::$name))),+]
        };
    }
    let quoted = quoted! {
        "tiers.md" "QuickCache with 2,000 entries" "2,000" L1_ENTRIES,
        "tiers.md" "one in 10 |" "10" PROMOTION_FREQUENCY,
        "tiers.md" "longer than 8 MiB" "8 MiB" MAX_VALUE_BYTES,
        "tiers.md" "longer than\n16 KiB" "16 KiB" COMPRESS_ABOVE,
        "tiers.md" "ends within 1 s." "1 s" TIER_BUDGET,
        "tiers.md" "left\nalone for 200 ms" "200 ms" BREAKER_WINDOW,
        "promotion.md" "N is 10 unless set" "10" PROMOTION_FREQUENCY,
        "promotion.md" "for 5 min." "5 min" PROMOTED_TTL,
        "coherence.md" "last proof          2 s (bound)" "2 s" STALENESS_BOUND,
        "coherence.md" "30 s (limit)" "30 s" STALENESS_LIMIT,
        "coherence.md" "in the last 120 s it does again" "120 s" JOURNAL_WINDOW,
        "coherence.md" "the journal's 120 s" "120 s" JOURNAL_WINDOW,
        "operations.md" "invalidated in the last 120 s" "120 s" JOURNAL_WINDOW,
        "coherence.md" "another takes over and the late store is refused | 10 s" "10 s" LEASE,
        "freshness.md" "the deadline of loads (30 s)" "30 s" LOAD_DEADLINE,
        "freshness.md" "its TTL: 5 min unless set" "5 min" TTL,
        "freshness.md" "at most 1,024 per cache" "1,024" REFRESHES,
        "freshness.md" "not loaded again for 5 s" "5 s" ERROR_THROTTLE,
        "freshness.md" "+ pause (5 s)" "5 s" ERROR_THROTTLE,
        "batch.md" "up to 1,000 keys" "1,000" READ_CHUNK,
        "batch.md" "for every 1,000 keys" "1,000" KEYS_PER_MESSAGE,
        "batch.md" "at most 256 at a time" "256" BATCH_WIDTH,
        "backends.md" "counts 1 KiB" "1 KiB" QUICKCACHE_OBJECT_BYTES,
        "backends.md" "2 min unless set" "2 min" MOKA_TIME_TO_IDLE,
        "backends.md" "after 1 h\n" "1 h" MOKA_TIME_TO_LIVE,
        "backends.md" "budget of 1 s" "1 s" TIER_BUDGET,
        "services.md" "fit into 1 s |" "1 s" TIER_BUDGET,
        "services.md" "alone for 200 ms" "200 ms" BREAKER_WINDOW,
        "operations.md" "100,000 entries of some" "100,000" LOG_LENGTH,
        "operations.md" "after 20 ms to" "20 ms" RECONNECT_PAUSE_MIN,
        "operations.md" "to 500 ms |" "500 ms" RECONNECT_PAUSE_MAX,
        "security.md" "longer than 8 MiB" "8 MiB" MAX_VALUE_BYTES,
        "security.md" "at most 64 KiB" "64 KiB" MAX_KEY_BYTES,
        "security.md" "over 16 MiB" "16 MiB" MESSAGE_BYTES_MAX,
        "faq.md" "not repeated for 5 s" "5 s" ERROR_THROTTLE,
    };
    for (page, words, value, expected) in quoted {
        let text = read(&root().join(GUIDE).join(page));
        assert!(text.contains(words) && words.contains(value), "{page} does not say `{words}`");
        assert_eq!(amount(value), Some(expected), "{page}: {words}");
    }
}

fn known_defaults() -> BTreeMap<&'static str, u128> {
    macro_rules! constants {
        ($($name:ident)+) => { BTreeMap::from([$((stringify!($name), Quantity::quantity(defaults::$name))),+]) };
    }
    constants! {
        BREAKER_WINDOW COMPRESS_ABOVE CONNECT_BUDGET DASHMAP_ENTRIES ERROR_THROTTLE JOURNAL_WINDOW L1_ENTRIES LEASE
        LOAD_DEADLINE LOAD_QUEUE_WAIT LOG_LENGTH MAX_LOADS MAX_VALUE_BYTES MOKA_ENTRIES OWED_KEYS POLL_INTERVAL
        PROMOTION_FREQUENCY RECONNECT_PAUSE_MAX REFRESHES REVOKED_TAGS STALENESS_BOUND STALENESS_LIMIT TAGS_MAX
        TAG_BYTES_MAX TAG_TOKEN_TTL TIER_BUDGET TTL WAIT_BUDGET
    }
}

/// Nanoseconds of a duration, or the number itself.
trait Quantity {
    fn quantity(self) -> u128;
}

impl Quantity for Duration {
    fn quantity(self) -> u128 {
        self.as_nanos()
    }
}

impl Quantity for u64 {
    fn quantity(self) -> u128 {
        self.into()
    }
}

impl Quantity for usize {
    fn quantity(self) -> u128 {
        self as u128
    }
}

/// `| `NAME` | value |` at the beginning of a row.
fn quoted_defaults(text: &str) -> Vec<(String, String)> {
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().strip_suffix('`')?;
        let constant = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        constant.then(|| (name.to_owned(), cells.next().unwrap_or_default().trim().to_owned()))
    });
    rows.filter(|(_, value)| value.starts_with(|c: char| c.is_ascii_digit())).collect()
}

/// `2,000`, `8 MiB`, `500 ms`.
fn amount(text: &str) -> Option<u128> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u128 = number.replace(',', "").parse().ok()?;
    let second = 1_000_000_000;
    let units = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("ms", second / 1_000), ("s", second)];
    let longer = [("min", 60 * second), ("h", 3_600 * second)];
    let unit = units.into_iter().chain(longer).find(|(name, _)| *name == unit)?.1;
    Some(number * unit)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of the guide.
fn guide() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(GUIDE)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(RUSTDOC_LINKS) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every page with links, the examples' own included.
fn pages() -> Vec<PathBuf> {
    let examples = fs::read_dir(root().join("examples")).into_iter().flatten();
    let examples = examples.map(|entry| entry.unwrap().path().join("README.md")).filter(|page| page.exists());
    PAGES.iter().map(|page| root().join(page)).chain(guide()).chain(examples).collect()
}

fn broken_links(page: &Path) -> Vec<String> {
    let text = read(page);
    let targets = inline_links(&text).into_iter().chain(definitions(&text).into_values());
    let broken =
        targets.filter_map(|target| Some(format!("{}: {target}: {}", page.display(), trouble(page, &target)?)));
    broken
        .chain(undefined(&text).into_iter().map(|label| format!("{}: [{label}] is not defined", page.display())))
        .collect()
}

/// Why a link leads nowhere.
fn trouble(page: &Path, target: &str) -> Option<String> {
    if is_external(target) {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_owned() } else { page.parent()?.join(path) };
    if !file.exists() {
        return Some("there is no such file".into());
    }
    let anchor = anchor?;
    let headings = headings(&read(&file));
    (!headings.contains(anchor)).then(|| format!("there is no such heading among {headings:?}"))
}

fn is_external(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// Targets of `[text](target)`.
fn inline_links(text: &str) -> Vec<String> {
    let text = without_code(text);
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.trim().to_owned())).collect()
}

/// `[label]: target`, labels in lower case.
fn definitions(text: &str) -> BTreeMap<String, String> {
    let text = without_code(text);
    let lines = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    lines.map(|(label, target)| (label.to_lowercase(), target.trim().to_owned())).collect()
}

/// Labels of `[text][label]` that have no definition.
fn undefined(text: &str) -> Vec<String> {
    let defined = definitions(text);
    let text = without_code(text);
    let labels = text.split("][").skip(1).filter_map(|rest| Some(rest.split_once(']')?.0.to_lowercase()));
    labels.filter(|label| !defined.contains_key(label)).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let text = without_fences(text);
    for heading in text.lines().filter(|line| line.starts_with('#')) {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = (1..).map(|n| format!("{anchor}-{n}"));
        let mut free = std::iter::once(anchor.clone()).chain(numbered);
        anchors.insert(free.find(|candidate| !anchors.contains(candidate)).unwrap());
    }
    anchors
}

fn without_fences(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The text without fences and what stands between backticks.
fn without_code(text: &str) -> String {
    let text = without_fences(text);
    text.lines().map(|line| line.split('`').step_by(2).collect::<String>() + "\n").collect()
}

mod the_checks_themselves {
    use super::*;

    #[test]
    fn links_and_headings_are_found_where_they_are() {
        let text = "# A `b` – c\n\n[x](y.md#z) [p][q r] `[no](no.md)`\n```text\n[no](no.md)\n# no\n```\n## A\n## A\n[Q r]: s.md\n";
        assert_eq!(inline_links(text), ["y.md#z"]);
        assert_eq!(definitions(text), BTreeMap::from([("q r".to_owned(), "s.md".to_owned())]));
        assert_eq!(undefined(text), Vec::<String>::new());
        assert_eq!(undefined("[a][b]"), ["b"]);
        assert_eq!(headings(text), ["a-b--c", "a", "a-1"].map(str::to_owned).into());
    }

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, expected) in
            [("2,000", 2_000), ("8 MiB", 8 << 20), ("500 ms", 500_000_000), ("24 h", 86_400_000_000_000)]
        {
            assert_eq!(amount(text), Some(expected), "{text}");
        }
        assert_eq!(amount("soon"), None);
    }
}
