//! `mtc`, the operator's command line of multi-tier-cache: looks at what a shared cache holds, removes from it as the
//! library does, follows its log of invalidations, and measures.

mod bench;
mod cli;
mod completions;
mod connect;
mod doctor;
mod failure;
mod get;
mod interrupt;
mod invalidate;
mod measure;
mod output;
mod pattern;
mod progress;
mod stats;
mod tail;
mod units;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Verdict};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.json);
    let outcome = Runtime::new().map_err(Failure::from).and_then(|runtime| runtime.block_on(run(cli, &mut output)));
    match outcome {
        Ok(verdict) => verdict.into(),
        Err(failure) => {
            output.complain(&failure);
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli, output: &mut Output) -> Result<Verdict, Failure> {
    let target = &cli.target;
    match cli.command {
        Command::Doctor(options) => doctor::run(target, &options, output).await,
        Command::Get(options) => get::run(target, &options, output).await,
        Command::Invalidate(options) => invalidate::keys(target, options, output).await,
        Command::InvalidateTag(options) => invalidate::tags(target, &options, output).await,
        Command::InvalidatePattern(options) => pattern::run(target, &options, output).await,
        Command::Tail(options) => tail::run(target, &options, output).await,
        Command::Stats(options) => stats::run(target, &options, output).await,
        Command::Bench(options) => bench::run(target, &options, output).await,
        Command::Completions(options) => completions::run(&options),
    }
}
