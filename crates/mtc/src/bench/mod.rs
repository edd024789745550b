//! `mtc bench`: reads and writes through the library, beside raw GETs, on keys of its own.

mod operation;
mod stage;

use std::time::Duration;

use serde_json::{Value, json};

use self::stage::Stage;
use crate::cli::{Bench, Target};
use crate::failure::{Failure, Verdict};
use crate::interrupt::Interrupt;
use crate::measure::Latencies;
use crate::output::{Output, Page, Report};
use crate::units::{bytes, count, counted, duration, float, size};

pub(crate) async fn run(target: &Target, options: &Bench, output: &Output) -> Result<Verdict, Failure> {
    let mut interrupt = Interrupt::listen()?;
    let stage = Stage::new(target, options).await?;
    let measured = tokio::select! {
        measured = stage.measure() => measured,
        () = interrupt.pressed() => Err(Failure::trouble("interrupted")),
    };
    let cleaned = stage.clear_away().await;
    let rows = measured?;
    cleaned?;
    let failed = rows.iter().any(|row| row.failed > 0);
    output.show(&Measured { server: stage.server.to_string(), options, rows })?;
    Ok(if failed { Verdict::Trouble } else { Verdict::Fine })
}

/// One kind of operation, measured.
struct Row {
    name: &'static str,
    latencies: Latencies,
    failed: u64,
    span: Duration,
}

impl Row {
    fn per_second(&self) -> f64 {
        float(size(self.latencies.len())) / self.span.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Everything that was measured.
struct Measured<'a> {
    server: String,
    options: &'a Bench,
    rows: Vec<Row>,
}

impl Report for Measured<'_> {
    fn human(&self, page: &mut Page) {
        let Bench { requests, concurrency, keys, value_bytes } = self.options;
        page.line(format!("Redis at {}", self.server));
        page.line(format!(
            "{} of each kind, {concurrency} at a time, {}, values of {}",
            counted((*requests).into(), "operation"),
            counted((*keys).into(), "key"),
            bytes((*value_bytes).into()),
        ));
        page.line("");
        let cells = |row: &Row| {
            let [p50, p99] = [50, 99].map(|percent| duration(row.latencies.percentile(percent)));
            vec![row.name.to_owned(), whole(row.per_second()), p50, p99, count(row.failed)]
        };
        let rows: Vec<_> = self.rows.iter().map(cells).collect();
        page.table(&["operation", "per second", "p50", "p99", "failed"], 1, &rows);
    }

    fn json(&self) -> Value {
        let Bench { requests, concurrency, keys, value_bytes } = self.options;
        let rows = self.rows.iter().map(|row| {
            let mut json = row.latencies.json();
            if let Some(fields) = json.as_object_mut() {
                fields.insert("operation".to_owned(), row.name.into());
                fields.insert("per_second".to_owned(), row.per_second().into());
                fields.insert("failed".to_owned(), row.failed.into());
            }
            json
        });
        json!({
            "server": self.server,
            "requests": requests,
            "concurrency": concurrency,
            "keys": keys,
            "value_bytes": value_bytes,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is neither negative nor so large")]
fn whole(number: f64) -> String {
    count(number.round() as u64)
}
