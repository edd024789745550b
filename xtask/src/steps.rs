//! What `test` and `ci` do: named steps, each a command with its time, ending at the first that fails.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::servers::Servers;
use crate::tools::{Tools, on_path};
use crate::workspace::Workspace;
use crate::{api, instructions, msrv, package};

pub(crate) const LIBRARY: &str = "multi-tier-cache";
const EXAMPLES: &str = "crates/multi-tier-cache/examples";

/// What is built apart from the rest, with a lock file of its own, which must go with the library's manifest.
const OTHER_WORKSPACES: [&str; 2] = ["comparison", "fuzz"];

/// A run small enough for CI of the example that is a benchmark by default.
const SMALL_RUN: (&str, &[&str]) = ("database_caching", &["--requests", "20000", "--rows", "30000"]);

/// Every test. The runner of the unit and integration tests comes last, so that its summary ends the output.
pub(crate) fn test(tools: &Tools, runner_arguments: &[String]) -> Result<()> {
    let started = Instant::now();
    let servers = Servers::start(tools)?;
    if runner_arguments.is_empty() {
        step("doc tests", tests(&servers, &["test", "--doc", "--workspace", "--all-features"]))?;
        step("model checker", model_checker())?;
        examples(tools)?;
    }
    let mut runner = match on_path("cargo-nextest") {
        Some(_) => tests(&servers, &["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"]),
        None => {
            tests(&servers, &["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--no-fail-fast"])
        }
    };
    runner.args(runner_arguments);
    step("unit and integration tests", runner)?;
    println!("xtask: tests passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Everything that must hold before a change is taken.
pub(crate) fn ci(tools: &Tools) -> Result<()> {
    let started = Instant::now();
    step("formatting", cargo(&["fmt", "--all", "--check"]))?;
    step("lints", cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))?;
    let mut docs = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    step("docs", docs)?;
    every_feature_alone()?;
    api::check(false)?;
    msrv::check()?;
    package::check()?;
    for workspace in OTHER_WORKSPACES {
        let manifest = format!("{workspace}/Cargo.toml");
        let locked = cargo(&["update", "--quiet", "--workspace", "--locked", "--manifest-path", &manifest]);
        step(&format!("lock file of {workspace}"), locked)?;
    }
    if on_path("cargo-deny").is_some() {
        step("dependencies", cargo(&["deny", "--all-features", "check"]))?;
    } else {
        println!("\n== dependencies: left out, cargo-deny is not installed");
    }
    instructions::check(false)?;
    test(tools, &[])?;
    println!("xtask: ci passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn every_feature_alone() -> Result<()> {
    let workspace = Workspace::read()?;
    for features in iter::once("").chain(workspace.package(LIBRARY)?.features()) {
        let name = if features.is_empty() { "no features".to_owned() } else { format!("feature {features} alone") };
        let arguments = ["clippy", "-p", LIBRARY, "--no-default-features", "--features", features];
        step(&name, cargo(&[&arguments[..], &["--", "-D", "warnings"]].concat()))?;
    }
    Ok(())
}

/// The comparison with other caches; a workspace of its own, outside `ci`. It starts the servers that it needs.
pub(crate) fn compare(tools: &Tools, arguments: &[String]) -> Result<()> {
    let mut comparison = cargo(&["run", "--release", "--manifest-path", "comparison/Cargo.toml", "--"]);
    comparison.args(arguments).env("MTC_REDIS_SERVER", &tools.redis_server);
    step("comparison", comparison)
}

/// Drives the engine's state machine through its interleavings, in a build of its own. `SQLite`, which the model does
/// not use, is compiled without optimization there.
fn model_checker() -> Command {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = cargo(&["test", "-p", LIBRARY, "--no-default-features", "--features", "test-util"]);
    command.args(["--config", "profile.dev.package.libsqlite3-sys.opt-level=0", "--lib", "model"]);
    command.env("RUSTFLAGS", format!("{flags} --cfg model_check").trim()).env("CARGO_TARGET_DIR", "target/model");
    command
}

/// Runs every example with servers of its own, and those which can do without, without.
fn examples(tools: &Tools) -> Result<()> {
    let servers = Servers::start(tools)?;
    for name in example_names()? {
        let mut with_servers = example(&name);
        servers.tell_programs(&mut with_servers);
        step(&format!("example {name}"), with_servers)?;
    }
    let mut embedded = example(SMALL_RUN.0);
    embedded.env_remove("REDIS_URL");
    step("example database_caching without Redis", embedded)
}

fn example(name: &str) -> Command {
    let mut command = cargo(&["run", "--quiet", "-p", LIBRARY, "--all-features", "--example", name]);
    if name == SMALL_RUN.0 {
        command.arg("--").args(SMALL_RUN.1);
    }
    command
}

/// Files and folders of the examples directory, sorted.
fn example_names() -> Result<Vec<String>> {
    let directory = root().join(EXAMPLES);
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("an example without a name")?;
        names.push(name.to_owned());
    }
    names.sort();
    ensure!(!names.is_empty(), "no examples in {}", directory.display());
    Ok(names)
}

fn tests(servers: &Servers<'_>, arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    servers.tell_tests(&mut command);
    command
}

/// The cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = at_root(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// A program at the workspace's root, without what the cargo that runs this program says about this package: build
/// scripts that watch those variables would run again.
pub(crate) fn at_root(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(here).join("..")
}

pub(crate) fn step(name: &str, mut command: Command) -> Result<()> {
    let line = command_line(&command);
    println!("\n== {name}: {line}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("step `{name}`: cannot run {line}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        bail!("step `{name}` failed after {seconds:.1} s ({status}): {line}");
    }
    println!("== {name}: {seconds:.1} s");
    Ok(())
}

/// The command as one would type it.
fn command_line(command: &Command) -> String {
    let words = command.get_args().map(|word| match word.to_str() {
        Some("") => "''".into(),
        _ => word.to_string_lossy(),
    });
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    words.fold(program.to_string_lossy().into_owned(), |line, word| line + " " + &word)
}
