//! `mtc doctor`: what keeps a server from serving a cache well. Changes nothing.

mod rights;
mod server;
mod usage;

use redis::RedisError;
use serde_json::{Value, json};

use crate::cli::{Doctor, Target};
use crate::connect::Session;
use crate::failure::{Failure, Verdict};
use crate::output::{Output, Page, Report};
use crate::units::printable;

/// How a check ended, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    /// This user may not ask.
    Unknown,
    /// The cache works, but not as it could.
    Warning,
    /// The cache does not work.
    Trouble,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Trouble => "trouble",
        }
    }
}

/// What was found about one thing.
#[derive(Debug)]
struct Check {
    name: &'static str,
    level: Level,
    text: String,
    advice: Option<String>,
    facts: Value,
}

impl Check {
    fn new(name: &'static str, level: Level, text: impl Into<String>) -> Self {
        Self { name, level, text: text.into(), advice: None, facts: Value::Null }
    }

    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, text)
    }

    /// This user may not run `command`, so that nothing is known.
    fn untold(name: &'static str, command: &str) -> Self {
        Self::new(name, Level::Unknown, format!("this user may not run {command}"))
    }

    fn advising(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn with(mut self, facts: Value) -> Self {
        self.facts = facts;
        self
    }
}

/// Whether the server refused a command because of the user's rights.
fn is_forbidden(error: &RedisError) -> bool {
    // In a pipeline the code is part of the text.
    let text = error.to_string();
    error.code() == Some("NOPERM") || text.contains("NOPERM") || text.contains("unknown command")
}

pub(crate) async fn run(target: &Target, options: &Doctor, output: &Output) -> Result<Verdict, Failure> {
    let mut session = Session::open(target).await?;
    let mut checks = server::checks(&mut session).await?;
    checks.push(rights::check(&mut session).await?);
    checks.push(server::scripts(&mut session).await?);
    checks.push(server::clock(&mut session).await?);
    checks.push(server::latency(&mut session, options.samples).await?);
    checks.push(usage::log(&mut session).await?);
    checks.push(usage::keys(&mut session, options.keys).await?);
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    output.show(&Diagnosis { server: session.server.to_string(), checks, worst })?;
    Ok(if worst == Level::Trouble { Verdict::Trouble } else { Verdict::Fine })
}

/// Everything that was found.
struct Diagnosis {
    server: String,
    checks: Vec<Check>,
    worst: Level,
}

impl Report for Diagnosis {
    fn human(&self, page: &mut Page) {
        page.line(format!("Redis at {}", self.server));
        for Check { name, level, text, advice, .. } in &self.checks {
            page.line(format!("  {:<8} {name:<8} {}", level.name(), printable(text, false)));
            for line in advice.iter().flat_map(|advice| advice.lines()) {
                page.line(format!("{:20}{}", "", printable(line, false)));
            }
        }
    }

    fn json(&self) -> Value {
        let checks = self.checks.iter().map(|Check { name, level, text, advice, facts }| {
            json!({ "name": name, "level": level.name(), "text": text, "advice": advice, "facts": facts })
        });
        json!({ "server": self.server, "worst": self.worst.name(), "checks": checks.collect::<Vec<_>>() })
    }
}
