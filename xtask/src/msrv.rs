//! Compiles what is published with the oldest compiler that its manifests name.

use anyhow::{Context, Result};

use crate::steps::{LIBRARY, at_root, step};
use crate::tools::on_path;
use crate::workspace::Workspace;

/// Its own, so that two compilers do not take turns in one.
const TARGET: &str = "target/msrv";

/// A toolchain that is missing is installed; where that is impossible, the check is left out and says so.
pub(crate) fn check() -> Result<()> {
    let workspace = Workspace::read()?;
    let version = workspace.package(LIBRARY)?.text("rust_version").context("the library has no rust-version")?;
    if let Err(reason) = ensure_toolchain(version) {
        println!("\n== oldest compiler: LEFT OUT, there is no toolchain {version}: {reason:#}");
        return Ok(());
    }
    let mut check = at_root("rustup");
    check.args(["run", version, "cargo", "check", "--locked", "--all-features"]);
    for package in workspace.packages().filter(|package| package.is_published()) {
        check.args(["-p", package.name()]);
    }
    check.env("CARGO_TARGET_DIR", TARGET);
    step(&format!("oldest compiler, {version}"), check)
}

fn ensure_toolchain(version: &str) -> Result<()> {
    on_path("rustup").context("rustup not found")?;
    let rustc = at_root("rustup").args(["which", "rustc", "--toolchain", version]).output();
    if rustc.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let mut install = at_root("rustup");
    install.args(["toolchain", "install", version, "--profile", "minimal", "--no-self-update"]);
    step(&format!("toolchain {version}"), install)
}
