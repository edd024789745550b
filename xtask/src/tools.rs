//! Finds redis-server and memcached, and installs them with the system's package manager when they are missing.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The server binaries that tests start.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) redis_server: PathBuf,
    pub(crate) memcached: PathBuf,
}

struct Wanted {
    binary: &'static str,
    /// Names the binary where it is none of the usual places.
    variable: &'static str,
}

const REDIS: Wanted = Wanted { binary: "redis-server", variable: "MTC_REDIS_SERVER" };
const MEMCACHED: Wanted = Wanted { binary: "memcached", variable: "MTC_MEMCACHED" };
const USUAL_PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];

struct PackageManager {
    program: &'static str,
    /// Run before the installation.
    refresh: Option<&'static [&'static str]>,
    install: &'static [&'static str],
    redis_package: &'static str,
    /// Whether it must be run as root.
    as_root: bool,
}

const PACKAGE_MANAGERS: [PackageManager; 4] = [
    PackageManager {
        program: "apt-get",
        refresh: Some(&["-o", "DPkg::Lock::Timeout=120", "update"]),
        install: &["-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"],
        redis_package: "redis-server",
        as_root: true,
    },
    PackageManager {
        program: "dnf",
        refresh: None,
        install: &["install", "-y"],
        redis_package: "redis",
        as_root: true,
    },
    PackageManager {
        program: "apk",
        refresh: Some(&["update"]),
        install: &["add"],
        redis_package: "redis",
        as_root: true,
    },
    PackageManager { program: "brew", refresh: None, install: &["install"], redis_package: "redis", as_root: false },
];

/// Both binaries, installed if they are missing and `install` allows it.
pub(crate) fn ensure(install: bool) -> Result<Tools> {
    let missing: Vec<&str> = [&REDIS, &MEMCACHED]
        .into_iter()
        .filter_map(|wanted| wanted.find().map(|found| found.is_none().then_some(wanted.binary)).transpose())
        .collect::<Result<_>>()?;
    if !missing.is_empty() {
        ensure!(
            install,
            "{} not found: install it (Debian: apt-get install redis-server memcached), or name the binary in \
             {} or {}",
            missing.join(" and "),
            REDIS.variable,
            MEMCACHED.variable
        );
        install_packages(&missing)?;
    }
    let found = |wanted: &Wanted| wanted.find()?.with_context(|| format!("{} is still missing", wanted.binary));
    Ok(Tools { redis_server: found(&REDIS)?, memcached: found(&MEMCACHED)? })
}

impl Wanted {
    /// The path named by the variable, else the first found on the `PATH` and in the usual places.
    fn find(&self) -> Result<Option<PathBuf>> {
        if let Some(named) = env::var_os(self.variable).map(PathBuf::from) {
            ensure!(named.is_file(), "{} names {}, which is no file", self.variable, named.display());
            return Ok(Some(named));
        }
        Ok(on_path(self.binary))
    }
}

/// The first file of that name on the `PATH`, else in the usual places.
pub(crate) fn on_path(binary: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(USUAL_PLACES.map(PathBuf::from));
    places.map(|place| place.join(binary)).find(|candidate| candidate.is_file())
}

fn install_packages(missing: &[&str]) -> Result<()> {
    let Some(manager) = PACKAGE_MANAGERS.iter().find(|manager| on_path(manager.program).is_some()) else {
        bail!("{} not found, and neither is apt-get, dnf, apk or brew to install it", missing.join(" and "));
    };
    if let Some(refresh) = manager.refresh {
        manager.run(refresh, &[])?;
    }
    let package = |binary: &&str| if *binary == REDIS.binary { manager.redis_package } else { MEMCACHED.binary };
    manager.run(manager.install, &missing.iter().map(package).collect::<Vec<_>>())
}

impl PackageManager {
    fn run(&self, arguments: &[&str], packages: &[&str]) -> Result<()> {
        let needs_sudo = self.as_root && !is_root();
        let mut command = Command::new(if needs_sudo { "sudo" } else { self.program });
        if needs_sudo {
            command.args(["env", "DEBIAN_FRONTEND=noninteractive", self.program]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments).args(packages);
        println!("xtask: {command:?}");
        let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
        ensure!(status.success(), "{command:?} failed: {status}");
        Ok(())
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
