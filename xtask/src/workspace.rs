//! What cargo says about the packages of this workspace.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::steps::cargo;

/// The members, as `cargo metadata` describes them.
#[derive(Debug)]
pub(crate) struct Workspace {
    json: Value,
}

/// One member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package<'a> {
    json: &'a Value,
}

impl Workspace {
    pub(crate) fn read() -> Result<Self> {
        let mut metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        let output = metadata.output().context("cannot run cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { json: serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")? })
    }

    pub(crate) fn packages(&self) -> impl Iterator<Item = Package<'_>> {
        let packages = self.json.get("packages").and_then(Value::as_array);
        packages.into_iter().flatten().map(|json| Package { json })
    }

    pub(crate) fn package(&self, name: &str) -> Result<Package<'_>> {
        let mut packages = self.packages();
        packages.find(|package| package.name() == name).with_context(|| format!("no package {name}"))
    }

    pub(crate) fn target_directory(&self) -> Result<PathBuf> {
        let directory = self.json.get("target_directory").and_then(Value::as_str);
        Ok(directory.context("cargo metadata names no target directory")?.into())
    }
}

impl<'a> Package<'a> {
    #[cfg(test)]
    pub(crate) fn new(json: &'a Value) -> Self {
        Self { json }
    }

    pub(crate) fn name(self) -> &'a str {
        self.text("name").unwrap_or_default()
    }

    /// A field of the manifest in the spelling of `cargo metadata`, if it has some text.
    pub(crate) fn text(self, field: &str) -> Option<&'a str> {
        self.json.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// How many entries a list of the manifest has.
    pub(crate) fn entries(self, field: &str) -> usize {
        self.json.get(field).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Whether it may go to a registry: `publish = false` is an empty list of registries.
    pub(crate) fn is_published(self) -> bool {
        self.json.get("publish").is_none_or(Value::is_null)
    }

    /// Sorted, `default` included.
    pub(crate) fn features(self) -> Vec<&'a str> {
        let features = self.json.get("features").and_then(Value::as_object);
        let mut names: Vec<&str> = features.into_iter().flat_map(|table| table.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }
}
