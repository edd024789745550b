//! `mtc invalidate` and `mtc invalidate-tag`: removals by the library's own verbs.

use std::io::{self, BufRead};

use multi_tier_cache::Position;
use multi_tier_cache::defaults::KEYS_PER_MESSAGE;
use serde_json::{Value, json};

use crate::cli::{Invalidate, InvalidateTag, Target};
use crate::connect::cache;
use crate::failure::{Failure, Verdict};
use crate::output::{Output, Page, Report};
use crate::progress;
use crate::units::{counted, printable, size};

/// Names of keys or tags that are shown to people; the others are counted.
const SHOWN: usize = 10;

pub(crate) async fn keys(target: &Target, options: Invalidate, output: &Output) -> Result<Verdict, Failure> {
    let keys = named(options.keys)?;
    let system = cache(target, &options.audit).await?;
    let bar = progress::bar("removing", size(keys.len()));
    let mut position = None;
    // One message each, so that the bar moves.
    for chunk in keys.chunks(KEYS_PER_MESSAGE) {
        let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
        position = system.cache_manager.remove_many(&chunk).await?;
        bar.inc(size(chunk.len()));
    }
    bar.finish_and_clear();
    system.shutdown().await;
    output.show(&Removed { thing: "key", names: keys, position })?;
    Ok(Verdict::Fine)
}

pub(crate) async fn tags(target: &Target, options: &InvalidateTag, output: &Output) -> Result<Verdict, Failure> {
    let system = cache(target, &options.audit).await?;
    let bar = progress::bar("removing", size(options.tags.len()));
    let mut position = None;
    for tag in &options.tags {
        position = system.cache_manager.remove_tag(tag).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    system.shutdown().await;
    output.show(&Removed { thing: "tag", names: options.tags.clone(), position })?;
    Ok(Verdict::Fine)
}

/// The keys of the command line; `-` stands for the lines of standard input.
fn named(arguments: Vec<String>) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for argument in arguments {
        if argument == "-" {
            for line in io::stdin().lock().lines() {
                keys.push(line?);
            }
        } else {
            keys.push(argument);
        }
    }
    keys.retain(|key| !key.is_empty());
    if keys.is_empty() { Err(Failure::usage("no key was given")) } else { Ok(keys) }
}

/// What was removed, and where that stands in the log.
struct Removed {
    thing: &'static str,
    names: Vec<String>,
    position: Option<Position>,
}

impl Report for Removed {
    fn human(&self, page: &mut Page) {
        let number = size(self.names.len());
        page.line(format!("{} removed on every instance", counted(number, self.thing)));
        for name in self.names.iter().take(SHOWN) {
            page.line(format!("  {}", printable(name, false)));
        }
        if self.names.len() > SHOWN {
            page.line("  …");
        }
        if let Some(position) = self.position {
            page.field("position", position.to_string());
        }
    }

    fn json(&self) -> Value {
        json!({ "removed": self.thing, "names": self.names, "position": self.position.map(|at| at.to_string()) })
    }
}
