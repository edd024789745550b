//! `mtc completions`.

use clap::CommandFactory;

use crate::cli::{Cli, Completions};
use crate::failure::{Failure, Verdict};
use crate::output::write;

pub(crate) fn run(options: &Completions) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "mtc", &mut script);
    write(&script)?;
    Ok(Verdict::Fine)
}
