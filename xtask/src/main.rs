//! The project's own commands.
//!
//! `cargo xtask test` runs every test, `cargo xtask ci` everything that must hold before a change is taken, and
//! `cargo xtask servers` keeps a private Redis and Memcached running for work by hand.

mod api;
mod instructions;
mod msrv;
mod package;
mod servers;
mod steps;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--no-install] [-- <arguments of the test runner>]
                          every test: doc tests, model checker, examples, unit and integration tests
  ci [--no-install]       formatting, lints, docs, every feature alone, public items, oldest compiler, packages,
                          dependencies, instructions, then `test`
  compare [--no-install] [-- <arguments>]
                          measure beside other caches and write comparison/RESULTS.md with its plots; `--quick`,
                          `--rows 1,2`, `--render`, `--out FILE`
  instructions [--accept] count the instructions of hot paths; `--accept` writes them down
  api [--accept]          compare the library's public items with its api.txt; `--accept` writes them down
  msrv                    compile what is published with the oldest compiler that Cargo.toml names
  package                 what would be published: metadata, files, licences, sizes
  servers [--no-install]  start a private redis-server and memcached, print their addresses, end them with Enter

  --no-install            missing servers are an error instead of being installed with the system's package manager";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Test { install: bool, runner_arguments: Vec<String> },
    Ci { install: bool },
    Compare { install: bool, arguments: Vec<String> },
    Instructions { accept: bool },
    Api { accept: bool },
    Msrv,
    Package,
    Servers { install: bool },
    Help,
}

fn main() -> ExitCode {
    if let Some(rustdoc) = std::env::var_os(api::RUSTDOC) {
        return api::run_rustdoc(&rustdoc);
    }
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Test { install, runner_arguments } => steps::test(&tools::ensure(install)?, &runner_arguments),
        Command::Ci { install } => steps::ci(&tools::ensure(install)?),
        Command::Compare { install, arguments } => steps::compare(&tools::ensure(install)?, &arguments),
        Command::Instructions { accept } => instructions::check(accept),
        Command::Api { accept } => api::check(accept),
        Command::Msrv => msrv::check(),
        Command::Package => package::check(),
        Command::Servers { install } => servers::hold(&tools::ensure(install)?),
        Command::Help => {
            println!("{USAGE}");
            Ok(())
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Command> {
    let mut arguments = arguments.peekable();
    let name = arguments.next();
    let install = arguments.next_if(|argument| argument == "--no-install").is_none();
    let rest: Vec<String> = arguments.collect();
    match (name.as_deref(), rest.split_first()) {
        (Some("test"), None) => Ok(Command::Test { install, runner_arguments: Vec::new() }),
        (Some("test"), Some((dashes, tail))) if dashes == "--" => {
            Ok(Command::Test { install, runner_arguments: tail.to_vec() })
        }
        (Some("compare"), None) => Ok(Command::Compare { install, arguments: Vec::new() }),
        (Some("compare"), Some((dashes, tail))) if dashes == "--" => {
            Ok(Command::Compare { install, arguments: tail.to_vec() })
        }
        (Some("instructions"), None) if install => Ok(Command::Instructions { accept: false }),
        (Some("instructions"), Some((accept, []))) if install && accept == "--accept" => {
            Ok(Command::Instructions { accept: true })
        }
        (Some("api"), None) if install => Ok(Command::Api { accept: false }),
        (Some("api"), Some((accept, []))) if install && accept == "--accept" => Ok(Command::Api { accept: true }),
        (Some("msrv"), None) if install => Ok(Command::Msrv),
        (Some("package"), None) if install => Ok(Command::Package),
        (Some("ci"), None) => Ok(Command::Ci { install }),
        (Some("servers"), None) => Ok(Command::Servers { install }),
        (Some("help" | "--help" | "-h"), _) => Ok(Command::Help),
        (None, _) => bail!("no command\n{USAGE}"),
        (Some(name), None) => bail!("unknown command `{name}`\n{USAGE}"),
        (Some(name), Some((argument, _))) => bail!("`{name}` does not take `{argument}`\n{USAGE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Command> {
        parse(line.split_whitespace().map(str::to_owned)).ok()
    }

    #[test]
    fn commands_and_their_options_are_understood() {
        assert_eq!(parsed("ci"), Some(Command::Ci { install: true }));
        assert_eq!(parsed("ci --no-install"), Some(Command::Ci { install: false }));
        assert_eq!(parsed("test"), Some(Command::Test { install: true, runner_arguments: vec![] }));
        let filtered = Command::Test { install: false, runner_arguments: vec!["layering".into()] };
        let quick = Command::Compare { install: true, arguments: vec!["--quick".into()] };
        assert_eq!(parsed("compare -- --quick"), Some(quick));
        assert_eq!(parsed("instructions"), Some(Command::Instructions { accept: false }));
        assert_eq!(parsed("instructions --accept"), Some(Command::Instructions { accept: true }));
        assert_eq!(parsed("api"), Some(Command::Api { accept: false }));
        assert_eq!(parsed("api --accept"), Some(Command::Api { accept: true }));
        assert_eq!(parsed("msrv"), Some(Command::Msrv));
        assert_eq!(parsed("package"), Some(Command::Package));
        assert_eq!(parsed("test --no-install -- layering"), Some(filtered));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["", "tset", "ci --fast", "test layering", "servers 3", "compare 1", "api x", "msrv --no-install"] {
            assert_eq!(parsed(line), None, "{line:?}");
        }
    }
}
