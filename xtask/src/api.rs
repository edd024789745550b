//! Compares the public items of the library with `crates/multi-tier-cache/api.txt`.
//!
//! rustdoc lists them as JSON, which it does for nightly toolchains only, unless it is told to take itself for one. If the
//! compiler were told, too, every dependency would be compiled anew: their build scripts look at the same variable. So
//! cargo runs this program in the place of rustdoc, and only what this program runs sees the variable.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use public_api::Builder;

use crate::steps::{LIBRARY, cargo, root, step};
use crate::workspace::Workspace;

/// Names the real rustdoc where this program is run in its place.
pub(crate) const RUSTDOC: &str = "XTASK_RUSTDOC";

const FILE: &str = "crates/multi-tier-cache/api.txt";
const FEATURES: &str = "full,test-util";
/// A toolchain whose rustdoc writes what `public-api` reads: when either is renewed, see that they still fit.
const TOOLCHAIN: &str = "1.95";

/// Fails if an item came, went or changed; `accept` writes them down.
pub(crate) fn check(accept: bool) -> Result<()> {
    let items = items(&rustdoc_json()?)?;
    let file = root().join(FILE);
    if accept {
        return fs::write(&file, items).with_context(|| format!("cannot write {}", file.display()));
    }
    compare(&fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?, &items)
}

/// The same arguments to the real rustdoc, as one that may use what is not stable.
pub(crate) fn run_rustdoc(rustdoc: &OsStr) -> ExitCode {
    let status = Command::new(rustdoc).args(env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", rustdoc.display());
            ExitCode::FAILURE
        }
    }
}

fn rustdoc_json() -> Result<PathBuf> {
    let mut rustdoc = cargo(&["rustdoc", "-p", LIBRARY, "--lib", "--no-default-features", "--features", FEATURES]);
    rustdoc.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    rustdoc.env(RUSTDOC, env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into()));
    rustdoc.env("RUSTDOC", env::current_exe().context("where is this program?")?);
    step("public items", rustdoc)?;
    let name = LIBRARY.replace('-', "_") + ".json";
    Ok(Workspace::read()?.target_directory()?.join("doc").join(name))
}

/// One item a line. What every type has by blanket and automatic implementations is left out.
fn items(json: &Path) -> Result<String> {
    let builder = Builder::from_rustdoc_json(json).omit_blanket_impls(true).omit_auto_trait_impls(true);
    let items = builder.build().with_context(|| {
        format!("rustdoc wrote {} in a form that cannot be read: use `cargo +{TOOLCHAIN} xtask api`", json.display())
    })?;
    Ok(once_each(&items.to_string()))
}

/// Leaves out what the other lines tell: what a type has is told once, however many paths lead to it, and the functions
/// of a trait with the trait, not with each of its implementations.
fn once_each(items: &str) -> String {
    let mut told = BTreeSet::new();
    let mut of_trait = None;
    let mut kept = String::new();
    for line in items.lines() {
        if line.starts_with("impl") {
            of_trait = line.split_once(" for ").map(|(_, rest)| rest.split(" where ").next().unwrap_or(rest));
        }
        let function = line.split_once("fn ").map(|(_, name)| name);
        let of_trait = of_trait.zip(function).and_then(|(implementor, name)| name.strip_prefix(implementor));
        if of_trait.is_none_or(|rest| !rest.starts_with("::")) && told.insert(line) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn compare(known: &str, now: &str) -> Result<()> {
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) = (known.lines().collect(), now.lines().collect());
    let gone = known.lines().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let new = now.lines().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    let changes: Vec<String> = gone.chain(new).collect();
    if !changes.is_empty() {
        bail!(
            "the public items are not those of {FILE} (made with Rust {TOOLCHAIN}):\n{}\nIf that is meant, write it down \
             with `cargo xtask api --accept`, and say in CHANGELOG.md what users notice",
            changes.join("\n")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_what_went_are_told() {
        assert!(compare("a\nb\n", "b\na\n").is_ok(), "the order is no matter");
        let error = compare("a\nb\n", "a\nc\n").unwrap_err().to_string();
        assert!(error.contains(":\n- b\n+ c\n") && error.contains("--accept"), "{error}");
    }

    #[test]
    fn an_item_with_two_paths_and_the_functions_of_traits_are_told_once() {
        let there = "impl c::a::A\npub fn c::a::A::new()\nimpl c::T for c::a::A where X: Y\npub type c::a::A::O = u8\n";
        let items =
            format!("pub struct c::a::A\n{there}pub fn c::a::A::of_t()\npub fn c::a::free()\npub struct c::A\n{there}");
        assert_eq!(once_each(&items), format!("pub struct c::a::A\n{there}pub fn c::a::free()\npub struct c::A\n"));
    }

    #[test]
    fn a_form_that_cannot_be_read_names_a_toolchain() {
        let error = items(&root().join("Cargo.toml")).unwrap_err().to_string();
        assert!(error.contains(&format!("cargo +{TOOLCHAIN} xtask api")), "{error}");
    }
}
