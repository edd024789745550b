//! Checks the house rules that a compiler does not: the direction of imports, sizes, and what must not be in `src`.
//!
//! The table is the one of `ARCHITECTURE.md`; when it must change, it is changed there first.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, top to bottom: each imports from rows below its own, and freely within itself.
const ROWS: &[&[&str]] = &[
    &["cache", "cache_manager", "system", "builder", "tower"],
    &["engine"],
    &["stack", "invalidation", "inspect"],
    &["local", "coordinator"],
    &["backends", "wire", "redis_streams", "serialization"],
    &["traits"],
    &["entry", "policy", "breaker", "telemetry", "sync"],
    &["error", "clock", "defaults", "protection"],
];

/// Imports between rooms of one row: (importer, imported).
const NEIGHBOURS: &[(&str, &str)] = &[
    ("cache_manager", "cache"),
    ("system", "cache"),
    ("builder", "cache"),
    ("tower", "cache"),
    ("cache_manager", "system"),
    ("system", "cache_manager"),
    ("system", "builder"),
    ("builder", "cache_manager"),
    ("builder", "system"),
    ("redis_streams", "backends"),
    ("policy", "entry"),
    ("telemetry", "policy"),
    ("clock", "defaults"),
];

/// Rooms that know values and tiers but no driver: of `backends` they use the glob rules alone.
const DRIVERLESS: &[&str] = &["engine", "stack", "local"];

/// What the root file and the test kit import is their own affair.
const EXEMPT: &[&str] = &["lib", "testing"];

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 60;
const FORBIDDEN_MACROS: &[&str] = &["todo!", "unimplemented!", "println!", "print!", "eprintln!", "eprint!", "dbg!"];

#[test]
fn imports_go_down() {
    assert_none(&sources(), imports_that_go_up);
}

#[test]
fn files_and_functions_stay_short() {
    assert_none(&sources(), too_long);
}

#[test]
fn nothing_is_left_unfinished_or_printed() {
    assert_none(&sources(), forbidden_macros);
}

#[test]
fn every_file_begins_with_its_purpose() {
    assert_none(&sources(), missing_purpose);
}

type Rule = fn(&Source) -> Vec<String>;

fn assert_none(sources: &[Source], rule: Rule) {
    let broken: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn imports_that_go_up(source: &Source) -> Vec<String> {
    if EXEMPT.contains(&source.room()) {
        return Vec::new();
    }
    let imports = source.imports().into_iter();
    imports.filter_map(|(line, path)| Some(source.complaint(line, &judge(source.room(), &path)?))).collect()
}

/// Why `room` must not import `path` (as written after `crate::`), if it must not.
fn judge(room: &str, path: &str) -> Option<String> {
    let row = |name: &str| ROWS.iter().position(|row| row.contains(&name));
    let mut segments = path.split("::");
    let target = segments.next().unwrap_or_default();
    if target == room {
        return None;
    }
    if target == "testing" {
        // The rooms that put a cache together put the test's parts in as well.
        let assembles = ["builder", "cache_manager"].contains(&room);
        return (!assembles).then(|| format!("`{room}` imports the test kit"));
    }
    if target.starts_with(char::is_uppercase) {
        return Some(format!("`crate::{target}` hides its room: import it from its own module"));
    }
    let Some(from) = row(room) else { return Some(format!("`{room}` is not in the table of rooms")) };
    let Some(to) = row(target) else { return Some(format!("`{target}` is not in the table of rooms")) };
    if to < from || to == from && !NEIGHBOURS.contains(&(room, target)) {
        return Some(format!("`{room}` imports `{target}`, which is not below it"));
    }
    let driver = target == "backends" && segments.next() != Some("glob");
    (driver && DRIVERLESS.contains(&room)).then(|| format!("`{room}` knows no drivers and imports `crate::{path}`"))
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = code_lines(&source.code);
    let file = (lines > MAX_FILE_LINES)
        .then(|| source.complaint(1, &format!("{lines} lines of code, more than {MAX_FILE_LINES}")));
    let functions = source.functions().into_iter().filter(|(_, _, lines)| *lines > MAX_FUNCTION_LINES);
    let functions = functions.map(|(line, name, lines)| {
        source.complaint(line, &format!("`fn {name}` has {lines} lines, more than {MAX_FUNCTION_LINES}"))
    });
    file.into_iter().chain(functions).collect()
}

fn forbidden_macros(source: &Source) -> Vec<String> {
    let found = FORBIDDEN_MACROS.iter().flat_map(|name| words(&source.code, name).map(move |at| (at, name)));
    found.map(|(at, name)| source.complaint(line_of(&source.code, at), &format!("`{name}` in the library"))).collect()
}

fn missing_purpose(source: &Source) -> Vec<String> {
    let complaint = || source.complaint(1, "the file does not begin with `//!` documentation");
    (!source.documented).then(complaint).into_iter().collect()
}

/// A file under `src`, without comments, literals and tests; lines are where they were.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    code: String,
    documented: bool,
}

impl Source {
    fn new(path: &Path, text: &str) -> Self {
        let code = without_tests(&without_comments_and_literals(text));
        Self { path: path.to_owned(), code, documented: text.starts_with("//! ") }
    }

    /// The top-level module that the file belongs to.
    fn room(&self) -> &str {
        let first = self.path.components().next().and_then(|part| part.as_os_str().to_str()).unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many modules deep the file's own module is: 1 for a file directly under `src`.
    fn depth(&self) -> usize {
        self.path.components().count() - usize::from(self.path.ends_with("mod.rs"))
    }

    fn complaint(&self, line: usize, rule: &str) -> String {
        format!("src/{}:{line}: {rule}", self.path.display())
    }

    /// Every path into the crate, as written after `crate::`, with its line.
    fn imports(&self) -> Vec<(usize, String)> {
        let from_root = words(&self.code, "crate::").map(|at| (at, at + "crate::".len()));
        let from_here = words(&self.code, "super::").filter_map(|at| {
            let supers = tail(&self.code, at).split("::").take_while(|segment| *segment == "super").count();
            let reaches_root = supers == self.depth() + inline_modules(&self.code, at);
            reaches_root.then_some((at, at + supers * "super::".len()))
        });
        let starts: Vec<(usize, usize)> = from_root.chain(from_here).collect();
        let named = |(at, start): (usize, usize)| {
            let line = line_of(&self.code, at);
            branches(tail(&self.code, start)).into_iter().map(move |path| (line, path))
        };
        starts.into_iter().flat_map(named).collect()
    }

    /// Line, name and length of every function with a body.
    fn functions(&self) -> Vec<(usize, String, usize)> {
        let measured = words(&self.code, "fn ").filter_map(|at| {
            let item = item(tail(&self.code, at));
            let name: String = item.trim_start_matches("fn ").chars().take_while(|c| is_word(*c)).collect();
            item.ends_with('}').then(|| (line_of(&self.code, at), name, code_lines(item)))
        });
        measured.collect()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let relative = |file: &PathBuf| file.strip_prefix(&root).map(Path::to_owned).unwrap_or_default();
    let read = |file: &PathBuf| fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let texts: Vec<(PathBuf, String)> = files.iter().map(|file| (relative(file), read(file))).collect();
    let test_only: Vec<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    assert!(!texts.is_empty(), "no sources in {}", root.display());
    let library = texts.iter().filter(|(path, _)| !test_only.iter().any(|test| path.starts_with(test)));
    library.map(|(path, text)| Source::new(path, text)).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// The files and folders of modules that `text` declares for tests only.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let folder =
        if path.ends_with("mod.rs") || path.ends_with("lib.rs") { parent.into() } else { path.with_extension("") };
    let code = without_comments_and_literals(text);
    let items = test_items(&code).into_iter().filter_map(|(start, end)| code.get(start..end));
    let names = items.filter_map(|item| item.split("mod ").nth(1)?.strip_suffix(';').map(str::to_owned));
    names.flat_map(|name| [folder.join(&name), folder.join(name + ".rs")]).collect()
}

/// Blanks what is compiled for tests or for the model checker only.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut done = 0;
    for (start, end) in test_items(code).into_iter().chain([(code.len(), code.len())]) {
        if start >= done {
            kept.push_str(code.get(done..start).unwrap_or_default());
            kept.extend(code.get(start..end).unwrap_or_default().chars().filter(|c| *c == '\n'));
            done = end;
        }
    }
    kept
}

/// Where the items under `#[cfg(test)]` and its relatives begin and end.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let attributes = code.match_indices("#[cfg(").filter_map(|(at, _)| {
        let condition = tail(code, at + "#[cfg(".len()).split(']').next()?;
        let names_tests = ["test", "model_check"]
            .iter()
            .any(|name| words(condition, name).any(|at| !condition.get(..at).unwrap_or_default().ends_with("not(")));
        (names_tests && !condition.starts_with("any(")).then(|| (at, at + item(tail(code, at)).len()))
    });
    attributes.collect()
}

/// The item that `text` begins with: through the end of its braces, or its semicolon.
fn item(text: &str) -> &str {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '{' => braces += 1,
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '}' => braces = braces.saturating_sub(1),
            _ => {}
        }
        if braces == 0 && (c == '}' || c == ';' && others == 0) {
            return text.get(..=at).unwrap_or(text);
        }
    }
    text
}

/// `a::b` as it stands; `{a, b::{c, d}}` as `a` and `b`.
fn branches(text: &str) -> Vec<String> {
    let path = |text: &str| text.trim().chars().take_while(|c| is_word(*c) || *c == ':').collect::<String>();
    if !text.starts_with('{') {
        return vec![path(text)];
    }
    let (mut depth, mut names, mut start) = (0_usize, Vec::new(), 1);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 1 || depth == 0 {
            names.push(path(text.get(start..at).unwrap_or_default()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// How many `mod name {` enclose the position.
fn inline_modules(code: &str, position: usize) -> usize {
    let opened = words(code.get(..position).unwrap_or_default(), "mod ").collect::<Vec<_>>().into_iter();
    opened.filter(|at| item(tail(code, *at)).ends_with('}') && at + item(tail(code, *at)).len() > position).count()
}

/// Replaces comments by nothing and literals by `""`, keeping every line break.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_word = code.chars().next_back().is_some_and(is_word);
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '\'' => character(rest),
            '"' | 'r' | 'b' | 'c' if !after_word || c == '"' => string(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = tail(rest, c.len_utf8());
        } else {
            code.push_str(if c == '/' { "" } else { "\"\"" });
            code.extend(rest.get(..skipped).unwrap_or_default().chars().filter(|c| *c == '\n'));
            rest = tail(rest, skipped);
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, _) in text.char_indices() {
        let here = tail(text, at);
        if here.starts_with("/*") {
            depth += 1;
        } else if here.starts_with("*/") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + 2;
            }
        }
    }
    text.len()
}

/// The length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, _))) => {
            let from = at + 1;
            tail(text, from).find('\'').map_or(0, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// The length of a string literal of any kind; 0 if there is none.
fn string(text: &str) -> usize {
    let prefix = text.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(0);
    let (raw, body) = (text.get(..prefix).unwrap_or_default().contains('r'), tail(text, prefix));
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix > 2 || !tail(body, hashes).starts_with('"') || (hashes > 0 && !raw) {
        return 0;
    }
    let start = prefix + hashes + 1;
    if raw {
        let end = "\"".to_owned() + &"#".repeat(hashes);
        return tail(text, start).find(&end).map_or(text.len(), |at| start + at + end.len());
    }
    let mut escaped = false;
    for (at, c) in tail(text, start).char_indices() {
        if c == '"' && !escaped {
            return start + at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Where `word` begins in `code`, not as the end of a longer word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts = code.match_indices(word).map(|(at, _)| at);
    starts.filter(move |at| {
        let before = code.get(..*at).unwrap_or_default().chars().next_back();
        let after = tail(code, at + word.len()).chars().next();
        let joined_after = word.ends_with(is_word) && after.is_some_and(is_word);
        !before.is_some_and(|c| is_word(c) || c == ':') && !joined_after
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tail(text: &str, from: usize) -> &str {
    text.get(from..).unwrap_or_default()
}

fn line_of(code: &str, at: usize) -> usize {
    code.get(..at).unwrap_or_default().matches('\n').count() + 1
}

fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

mod the_checks_themselves {
    use super::*;

    fn complaints(rule: Rule, path: &str, text: &str) -> Vec<String> {
        rule(&Source::new(Path::new(path), text))
    }

    #[test]
    fn an_import_that_goes_up_is_found_however_it_is_written() {
        for text in [
            "use crate::engine::Engine;",
            "use crate::{error::{CacheError, Failure}, engine::Engine};",
            "fn f() -> crate::engine::Engine {}",
            "use super::super::engine::Engine;",
            "mod inner { use super::super::super::engine::Engine; }",
        ] {
            let found = complaints(imports_that_go_up, "local/flight.rs", &format!("\n{text}"));
            assert_eq!(found, ["src/local/flight.rs:2: `local` imports `engine`, which is not below it"], "{text}");
        }
    }

    #[test]
    fn comments_literals_tests_and_lower_rooms_are_no_matter() {
        let text = r##"//! crate::engine
            use crate::{clock::Clock, error::CacheError};
            use super::fence::Fence;
            /* crate::engine /* crate::engine */ */
            const A: (&str, char, &str) = ("\" crate::engine", '"', r#"" crate::engine"#);
            fn f<'a>(x: &'a str) {}
            #[cfg(test)]
            mod tests { use crate::engine::Engine; }
            #[cfg(all(test, not(model_check)))]
            use crate::engine::Engine;
        "##;
        assert_eq!(complaints(imports_that_go_up, "local/flight.rs", text), Vec::<String>::new());
    }

    #[test]
    fn drivers_roots_and_unknown_rooms_are_named() {
        for (room, path, expected) in [
            ("engine", "backends::redis::Redis", Some("knows no drivers")),
            ("engine", "backends::glob::Glob", None),
            ("invalidation", "backends::redis::Redis", None),
            ("redis_streams", "backends::redis::Redis", None),
            ("stack", "invalidation::Bus", Some("not below")),
            ("engine", "CacheResult", Some("hides its room")),
            ("engine", "helpers::x", Some("not in the table")),
            ("engine", "testing::ManualClock", Some("test kit")),
        ] {
            let found = judge(room, path).unwrap_or_default();
            assert!(expected.map_or(found.is_empty(), |text| found.contains(text)), "{room} -> {path}: {found}");
        }
    }

    #[test]
    fn long_files_long_functions_macros_and_missing_purposes_are_found() {
        let body = "    let _ = 1;\n".repeat(MAX_FUNCTION_LINES - 2);
        let short = format!("fn short() {{\n{body}}}\n");
        assert_eq!(complaints(too_long, "x.rs", &short), Vec::<String>::new());
        let long = format!("{short}fn long() {{\n{body}    let _ = 2;\n}}\n");
        assert_eq!(complaints(too_long, "x.rs", &long), ["src/x.rs:61: `fn long` has 61 lines, more than 60"]);
        assert_eq!(complaints(too_long, "x.rs", &short.repeat(7)).len(), 1);
        assert_eq!(
            complaints(forbidden_macros, "x.rs", "\nfn f() { todo!() }"),
            ["src/x.rs:2: `todo!` in the library"]
        );
        assert_eq!(complaints(missing_purpose, "x.rs", "use std::fmt;").len(), 1);
    }
}
