//! Tortures caches of several processes over one Redis, with faults drawn from a seed, and counts what they serve stale.
//!
//! ```sh
//! cargo run --release --example torture -- --seconds 30 --seed 1 --kill-subscriptions-every-ms 500
//! ```
//!
//! A supervisor starts real redis-servers behind proxies that misbehave, and workers: processes of this same program,
//! each with a cache of three tiers. Every key has one writer, which raises the key's version in a database shared by
//! all and then invalidates it; when the verb was Ok, the version is noted as acknowledged. Everybody reads everything.
//! It is a violation, and the exit status is 1, if a read
//!
//! * on the instance that wrote returns a version older than one acknowledged before the read began,
//! * `at_least` a position returns one older than the position's,
//! * elsewhere returns one older than what was acknowledged 2.05 s before it began (the bound of 2 s, and a clock's
//!   tick); on instances in the mode `Available` 30.05 s, if they counted hits without proof during the read,
//! * returns what was never written;
//!
//! if an operation takes 20 s; if anything older than the database is read from a cache, or found in a shared tier, once
//! the faults have ended and all is quiet; or, in runs of at least 30 s, if a protection was not needed once. For 4 s
//! after a server forgot what it had acknowledged (killed and empty, flushed, or failed over to a replica that lagged),
//! reads that miss something acknowledged before are counted apart: the time to detect and replay.
//!
//! `--instances 4`, `--keys 50` and `--json` are there too; `--only CutAfter` plans nothing but that hazard. With the
//! feature `test-util`, `--without Fence` switches a protection of the library off, which must be found.
#![cfg_attr(not(unix), allow(unused, reason = "processes are stopped and continued by signals"))]

#[cfg(unix)]
#[path = "."]
mod parts {
    mod ablation;
    mod board;
    mod colder;
    mod fleet;
    mod keys;
    pub(crate) mod outcome;
    mod plan;
    mod reader;
    mod report;
    mod rest;
    mod stage;
    mod supervisor;
    mod worker;
    mod writer;
}

#[cfg(unix)]
fn main() -> anyhow::Result<std::process::ExitCode> {
    parts::outcome::main()
}

#[cfg(not(unix))]
fn main() {
    println!("this needs the signals of Unix");
}
