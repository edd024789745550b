//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::units::parse_duration;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and nothing wrong was found
  1  the operation failed, or trouble was found
  2  the arguments cannot be used
  3  the server could not be reached, or refused user or password";

const URL: &str = "Redis server; else REDIS_URL, else redis://127.0.0.1:6379";
const URL_LONG: &str = "\
Redis server: redis://[[user]:password@]host[:port][/database], or rediss:// for TLS

Without it REDIS_URL is used, then REDIS_URL in a .env file, then redis://127.0.0.1:6379. Others on this machine can see \
what is given here: prefer REDIS_URL for a URL with a password.";
const METRICS_URL: &str = "Where the metrics are, such as http://127.0.0.1:9000/metrics; /metrics if it has no path";

/// The operator's command line of multi-tier-cache.
///
/// Looks at what a shared cache holds in Redis, removes from it as the library does (announced to every instance),
/// follows its log of invalidations, and measures.
#[derive(Debug, Parser)]
#[command(name = "mtc", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Answer with JSON, one document a line
    #[arg(long, global = true, help_heading = "Options")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cache: its server, and its keys there.
#[derive(Debug, Args)]
#[command(next_help_heading = "The cache")]
pub(crate) struct Target {
    #[arg(long, global = true, value_name = "URL", help = URL, long_help = URL_LONG)]
    pub(crate) url: Option<String>,
    /// What the cache's keys begin with in Redis: the prefix of its `RedisConfig`
    #[arg(long, global = true, visible_alias = "namespace", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Channel of the cache's invalidations: that of its `InvalidationConfig`
    #[arg(long, global = true, default_value = "cache:invalidate")]
    pub(crate) channel: String,
    /// Longest wait for a reply, such as 500ms or 2s
    #[arg(long, global = true, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Certificate authorities (PEM) that replace the system's, for rediss://
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look for what is wrong with a server or with this cache's use of it
    ///
    /// Checks the version, memory policy, rights, scripts, clock and latency of the server, and counts the keys of this
    /// cache's namespace. Changes nothing. Ends with exit code 1 if something keeps the cache from working.
    #[command(after_help = EXIT_CODES)]
    Doctor(Doctor),
    /// Show what the server holds for one key: value, head, time to live, tags, lease
    ///
    /// The key of an entry of a typed cache is NAME:KEY, such as users:7. A key that is not there ends with exit code 1.
    #[command(after_help = EXIT_CODES)]
    Get(Get),
    /// Remove keys, on every instance
    ///
    /// Carried out at once in Redis, written into the log, and announced to every instance. Tiers below Redis that
    /// instances share (L3 and further) are not known here and keep what they hold.
    #[command(after_help = EXIT_CODES)]
    Invalidate(Invalidate),
    /// Remove everything with these tags, on every instance
    #[command(after_help = EXIT_CODES)]
    InvalidateTag(InvalidateTag),
    /// Remove every key that matches a Redis glob pattern, on every instance
    ///
    /// Scans the server: slow where there are many keys; prefer tags. Without --prefix the pattern must begin literally.
    #[command(after_help = EXIT_CODES)]
    InvalidatePattern(InvalidatePattern),
    /// Follow the log of invalidations
    ///
    /// Shows each entry as it comes, and says where entries are missing: trimmed, or lost with the log. Only reads. Ends
    /// with Ctrl-C.
    #[command(after_help = EXIT_CODES)]
    Tail(Tail),
    /// Show the metrics of an instance from its Prometheus endpoint
    #[command(after_help = EXIT_CODES)]
    Stats(Stats),
    /// Measure reads and writes through the library against this server
    ///
    /// Uses keys, a log and a channel of its own, and removes them at the end. Puts load on the server: not for one that
    /// is busy with anything else.
    #[command(after_help = EXIT_CODES)]
    Bench(Bench),
    /// Print the completions of a shell
    #[command(after_help = EXIT_CODES)]
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at so many keys at most when counting; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) keys: u64,
    /// Round trips of which latency is told
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) samples: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The cache's key, without its prefix
    pub(crate) key: String,
    /// Write the value's bytes and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Show the value however long it is
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Invalidate {
    /// The cache's keys, without their prefix; `-` reads them from standard input, one a line
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) audit: Audit,
}

#[derive(Debug, Args)]
pub(crate) struct InvalidateTag {
    /// The tags
    #[arg(required = true, value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    #[command(flatten)]
    pub(crate) audit: Audit,
}

#[derive(Debug, Args)]
pub(crate) struct InvalidatePattern {
    /// A glob such as `users:*`, without the prefix: `*`, `?`, `[ab]`, and `\` before a literal one
    pub(crate) pattern: String,
    /// Count the keys that match, show some, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many of them --dry-run shows
    #[arg(long, value_name = "N", default_value_t = 20, requires = "dry_run")]
    pub(crate) show: usize,
    #[command(flatten)]
    pub(crate) audit: Audit,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Also write each removal into this audit stream, as instances do that have one
    #[arg(long, value_name = "KEY")]
    pub(crate) audit_stream: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Begin behind this place: a position (m1-…), a number, or `start` for all that the log has; else at its end
    #[arg(long, value_name = "PLACE")]
    pub(crate) since: Option<String>,
    /// End after so many entries
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    #[arg(value_name = "METRICS_URL", help = METRICS_URL)]
    pub(crate) address: String,
    /// Look again and again, and show rates per second
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = parse_duration)]
    pub(crate) watch: Option<Duration>,
    /// With --watch: end after so many looks
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Families whose names begin so, instead of the library's
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Operations of each kind; so many values are in the server at the end of the loads
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) requests: u32,
    /// Operations under way at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) concurrency: u32,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keys: u32,
    /// Bytes of a value
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(0..=8_388_608))]
    pub(crate) value_bytes: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
