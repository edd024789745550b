//! Checks what would be published: what the manifests say, which files are in the packages, and how large those are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::steps::{cargo, root};
use crate::workspace::{Package, Workspace};

/// Every other member must say `publish = false`.
const PUBLISHED: [&str; 3] = ["multi-tier-cache", "multi-tier-cache-cli", "multi-tier-cache-macros"];
/// Fields of a manifest without which a registry's page lacks something, in the spelling of `cargo metadata`.
const TEXTS: [&str; 6] = ["description", "documentation", "license", "readme", "repository", "rust_version"];
const LISTS: [&str; 2] = ["categories", "keywords"];

const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const README: &str = "README.md";
/// What cargo adds to every package.
const GENERATED: [&str; 4] = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"];
/// Where everything else in a package is.
const PLACES: [&str; 3] = ["src/", "docs/guide/", "examples/"];
/// What cargo says of targets that are in no package.
const STAYS: [&str; 2] = ["warning: ignoring test `", "warning: ignoring example `torture` "];
/// The most that a compressed package may have.
const MAX_BYTES: u64 = 512 * 1024;

/// Puts the packages together without compiling them, as if what they need of each other were published.
pub(crate) fn check() -> Result<()> {
    let workspace = Workspace::read()?;
    let published: Vec<Package<'_>> = workspace.packages().filter(|package| package.is_published()).collect();
    let names: BTreeSet<&str> = published.iter().map(|package| package.name()).collect();
    ensure!(names == BTreeSet::from(PUBLISHED), "{names:?} would be published, not {PUBLISHED:?}");

    assemble(&names)?;
    let folder = workspace.target_directory()?.join("package");
    for package in published {
        let name = package.name();
        let trouble = trouble(package, &files(name)?);
        ensure!(trouble.is_empty(), "package {name}: {}", trouble.join("; "));
        licences(package)?;
        let version = package.text("version").unwrap_or_default();
        size(&folder.join(format!("{name}-{version}.crate")))?;
    }
    Ok(())
}

/// A warning fails, unless it says that tests and an example stay here.
fn assemble(names: &BTreeSet<&str>) -> Result<()> {
    println!("\n== packages");
    let mut assemble = cargo(&["package", "--no-verify", "--allow-dirty", "--locked"]);
    assemble.args(names.iter().flat_map(|name| ["-p", name]));
    let output = assemble.output().context("cannot run cargo package")?;
    let told = String::from_utf8_lossy(&output.stderr);
    let told: Vec<&str> = told.lines().filter(|line| !STAYS.iter().any(|start| line.starts_with(start))).collect();
    println!("{}", told.join("\n"));
    ensure!(output.status.success(), "cargo package failed ({})", output.status);
    ensure!(!told.iter().any(|line| line.starts_with("warning:")), "cargo package warns");
    Ok(())
}

/// What is missing in the manifest or among the files, and which files should not be there.
fn trouble(package: Package<'_>, files: &[String]) -> Vec<String> {
    let texts = TEXTS.into_iter().filter(|field| package.text(field).is_none());
    let lists = LISTS.into_iter().filter(|field| package.entries(field) == 0);
    let fields = texts.chain(lists).map(|field| format!("no {field} in Cargo.toml"));

    let needed = LICENCES.into_iter().chain([README]);
    let missing = needed.filter(|name| !files.iter().any(|file| file == name)).map(|name| format!("no {name}"));

    let known = |file: &str| {
        let own = LICENCES.contains(&file) || GENERATED.contains(&file) || file == README;
        own || PLACES.iter().any(|place| file.starts_with(place))
    };
    let strange = files.iter().filter(|file| !known(file)).map(|file| format!("{file} should not be in it"));
    fields.chain(missing).chain(strange).collect()
}

fn files(name: &str) -> Result<Vec<String>> {
    let output = cargo(&["package", "--list", "--allow-dirty", "-p", name]).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo package --list: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(|line| line.replace('\\', "/")).collect())
}

/// A package has the licences of the repository, not a file that only points at them.
fn licences(package: Package<'_>) -> Result<()> {
    let manifest = Path::new(package.text("manifest_path").unwrap_or_default());
    for name in LICENCES {
        let text = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let (packaged, own) = (manifest.with_file_name(name), root().join(name));
        ensure!(text(&packaged)? == text(&own)?, "{} is not {}", packaged.display(), own.display());
    }
    Ok(())
}

fn size(package: &Path) -> Result<()> {
    let bytes = fs::metadata(package).with_context(|| format!("no {}", package.display()))?.len();
    println!("{:>6} KiB {}", bytes.div_ceil(1024), package.display());
    ensure!(bytes <= MAX_BYTES, "{} has {bytes} bytes, more than {MAX_BYTES}", package.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest() -> Value {
        json!({
            "name": "a", "description": "d", "documentation": "d", "license": "l", "readme": "r", "repository": "r",
            "rust_version": "1.90", "categories": ["c"], "keywords": ["k"], "publish": null
        })
    }

    fn told(manifest: &Value, files: &[&str]) -> Vec<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        trouble(Package::new(manifest), &files)
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_is_told() {
        let complete = ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];
        assert_eq!(told(&manifest(), &complete), Vec::<String>::new());
        let files = ["LICENSE-APACHE", "README.md", "src/lib.rs", "tests/all.rs"];
        assert_eq!(told(&manifest(), &files), ["no LICENSE-MIT", "tests/all.rs should not be in it"]);
        let mut poor = manifest();
        poor["description"] = json!("");
        poor["keywords"] = json!([]);
        assert_eq!(told(&poor, &complete), ["no description in Cargo.toml", "no keywords in Cargo.toml"]);
    }

    #[test]
    fn a_package_is_published_unless_it_says_no() {
        let mut package = manifest();
        assert!(Package::new(&package).is_published());
        package["publish"] = json!([]);
        assert!(!Package::new(&package).is_published());
    }
}
