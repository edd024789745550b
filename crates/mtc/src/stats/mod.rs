//! `mtc stats`: the metrics of an instance from its Prometheus endpoint.

mod exposition;
mod figures;
mod names;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use ureq::Agent;

use self::exposition::{Exposition, Sample};
use self::figures::{figures, is_count, plain, since};
use self::names::PREFIX;
use crate::cli::{Stats, Target};
use crate::failure::{Failure, Kind, Verdict};
use crate::interrupt::Interrupt;
use crate::output::{Output, Page, Report, note};
use crate::units::{duration, printable, significant};

/// Longest text of metrics that is read, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;

pub(crate) async fn run(target: &Target, options: &Stats, output: &mut Output) -> Result<Verdict, Failure> {
    let endpoint = Endpoint::new(&options.address, target.timeout)?;
    let beginning = options.family.as_deref().unwrap_or(PREFIX);
    let first = endpoint.look(beginning).await?;
    if first.found.families.is_empty() {
        return Err(no_families(&endpoint, beginning));
    }
    let Some(pause) = options.watch else {
        output.show(&first)?;
        return Ok(Verdict::Fine);
    };
    let mut interrupt = Interrupt::listen()?;
    let watching = watch(&endpoint, beginning, first, (pause, options.count), output);
    tokio::select! {
        outcome = watching => outcome,
        () = interrupt.pressed() => Ok(Verdict::Fine),
    }
}

/// Looks again and again; an endpoint that is away for a while is told and waited for.
async fn watch(
    endpoint: &Endpoint,
    beginning: &str,
    first: Look,
    (pause, most): (Duration, Option<u64>),
    output: &mut Output,
) -> Result<Verdict, Failure> {
    output.redraw(&first)?;
    let (mut before, mut shown) = (first, 1);
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    while most.is_none_or(|most| shown < most) {
        ticks.tick().await;
        match endpoint.look(beginning).await {
            Ok(look) => {
                let look = Look { before: Some((before.found, look.at.duration_since(before.at))), ..look };
                output.redraw(&look)?;
                shown += 1;
                before = Look { before: None, ..look };
            }
            Err(failure) if failure.kind == Kind::Unreachable => note(&format!("mtc: {}\n", failure.message)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(Verdict::Fine)
}

fn no_families(endpoint: &Endpoint, beginning: &str) -> Failure {
    Failure::trouble(format!("{} has no family that is called {beginning}…", endpoint.shown)).advising(
        "Does the instance export the cache's metrics there? --family takes another beginning of their names.",
    )
}

/// Where the metrics are.
#[derive(Debug, Clone)]
struct Endpoint {
    url: String,
    /// Without user and password.
    shown: String,
    agent: Agent,
}

impl Endpoint {
    fn new(address: &str, timeout: Duration) -> Result<Self, Failure> {
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let Some(rest) = address.strip_prefix("http://").filter(|rest| !rest.is_empty()) else {
            let shown = redacted(&address);
            return Err(Failure::usage(format!("the metrics are read over http://, not from {shown}")));
        };
        let url = if rest.contains('/') { address } else { format!("{address}/metrics") };
        let agent =
            Agent::config_builder().timeout_global(Some(timeout)).proxy(None).http_status_as_error(false).build();
        Ok(Self { shown: redacted(&url), url, agent: agent.into() })
    }

    async fn look(&self, beginning: &str) -> Result<Look, Failure> {
        let endpoint = self.clone();
        let text = spawn_blocking(move || endpoint.fetch());
        let text = text.await.map_err(|error| Failure::trouble(error.to_string()))??;
        let found = Exposition::parse(&text).only(beginning);
        Ok(Look { source: self.shown.clone(), at: Instant::now(), found, before: None })
    }

    fn fetch(&self) -> Result<String, Failure> {
        let away = |error: ureq::Error| {
            let message = format!("no metrics from {}: {error}", self.shown);
            Failure::new(Kind::Unreachable, message).advising("Is the instance running, and is this its address?")
        };
        let mut response = self.agent.get(&self.url).call().map_err(away)?;
        if !response.status().is_success() {
            return Err(Failure::trouble(format!("{} answers {}", self.shown, response.status())));
        }
        response.body_mut().with_config().limit(LONGEST).read_to_string().map_err(away)
    }
}

/// A URL without its user and password.
fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// What the endpoint said, and what it said before.
#[derive(Debug, Clone)]
struct Look {
    source: String,
    at: Instant,
    found: Exposition,
    before: Option<(Exposition, Duration)>,
}

impl Look {
    /// With what was counted since the look before, if there was one.
    fn counted(&self) -> Exposition {
        match &self.before {
            Some((before, _)) => since(&self.found, before),
            None => self.found.clone(),
        }
    }

    /// How much a sample that counts grows a second.
    fn rate(&self, is_count: bool, increase: f64) -> Option<f64> {
        let (_, span) = self.before.as_ref().filter(|_| is_count)?;
        Some(increase / span.as_secs_f64().max(f64::MIN_POSITIVE))
    }

    /// Every sample of every family, buckets left out, with its rate.
    fn rows(&self) -> Vec<(Sample, &'static str, Option<f64>)> {
        let counted = self.counted();
        let pairs = self.found.families.values().zip(counted.families.values());
        let rows = pairs.flat_map(|(now, counted)| {
            now.samples.iter().zip(&counted.samples).filter(|(sample, _)| !sample.name.ends_with("_bucket")).map(
                |(sample, counted)| {
                    let rate = self.rate(is_count(now.kind, &sample.name), counted.value);
                    (sample.clone(), now.kind.name(), rate)
                },
            )
        });
        rows.collect()
    }
}

impl Report for Look {
    fn human(&self, page: &mut Page) {
        match &self.before {
            Some((_, span)) => page.line(format!("{}: the last {}", self.source, duration(*span))),
            None => page.line(format!("{}: since its start", self.source)),
        }
        let figures: Vec<_> = figures(&self.counted()).iter().map(|figure| figure.cells().to_vec()).collect();
        if !figures.is_empty() {
            page.line("");
            page.table(&["figure", "of", "value"], 3, &figures);
        }
        page.line("");
        let rows = self.rows().into_iter().map(|(sample, _, rate)| {
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let name = format!("{} {}", sample.name, labels.join(" "));
            vec![printable(name.trim_end(), false), plain(sample.value), rate.map(significant).unwrap_or_default()]
        });
        let headings: &[&str] =
            if self.before.is_some() { &["metric", "value", "per second"] } else { &["metric", "value"] };
        page.table(headings, 1, &rows.collect::<Vec<_>>());
    }

    fn json(&self) -> Value {
        let samples = self.rows().into_iter().map(|(sample, kind, rate)| {
            json!({ "name": sample.name, "type": kind, "labels": sample.labels, "value": sample.value, "per_second": rate })
        });
        json!({
            "source": self.source,
            "seconds": self.before.as_ref().map(|(_, span)| span.as_secs_f64()),
            "figures": figures(&self.counted()).iter().map(figures::Figure::json).collect::<Vec<_>>(),
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_neither_scheme_nor_path() {
        let endpoint = |address| Endpoint::new(address, Duration::from_secs(1));
        for (address, url) in [
            ("localhost:9000", "http://localhost:9000/metrics"),
            ("http://localhost:9000", "http://localhost:9000/metrics"),
            ("http://localhost:9000/cache", "http://localhost:9000/cache"),
        ] {
            assert_eq!(endpoint(address).unwrap().url, url);
        }
        for address in ["https://localhost", "http://", "ftp://user:secret@host"] {
            let failure = endpoint(address).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(!failure.message.contains("secret"), "{failure:?}");
        }
        assert_eq!(endpoint("http://user:secret@host/x@y").unwrap().shown, "http://host/x@y");
    }
}
