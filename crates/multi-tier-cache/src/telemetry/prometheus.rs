//! Prometheus' text format, version 0.0.4.

use std::fmt::{self, Write};

use super::metric::MetricKind;
use super::snapshot::{Family, Metrics, Sample, Value};

impl Metrics {
    /// The metrics in Prometheus' text format, to be served as
    /// [`PROMETHEUS_CONTENT_TYPE`](super::names::PROMETHEUS_CONTENT_TYPE) by whatever server the program has.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// # use multi_tier_cache::{Arc, CacheSystemBuilder, DashMapCache};
    /// # let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
    /// let text = system.metrics().prometheus();
    /// assert!(text.contains("# TYPE mtc_misses_total counter\nmtc_misses_total 0\n"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for family in self.families() {
            // A String takes whatever is written.
            let _ = write_family(&mut text, family);
        }
        text
    }
}

fn write_family(text: &mut String, family: &Family) -> fmt::Result {
    let (name, kind) = (family.metric.name, family.metric.kind);
    writeln!(text, "# HELP {name} {}", family.metric.help)?;
    writeln!(text, "# TYPE {name} {}", kind.as_str())?;
    for sample in &family.samples {
        match (&sample.value, kind) {
            (Value::Histogram(histogram), MetricKind::Histogram) => {
                let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                for (bound, count) in bounds.zip(histogram.cumulative()) {
                    write!(text, "{name}_bucket")?;
                    write_labels(text, sample, Some(&bound))?;
                    writeln!(text, " {count}")?;
                }
                write_line(text, &format!("{name}_sum"), sample, &histogram.sum)?;
                write_line(text, &format!("{name}_count"), sample, &histogram.count())?;
            }
            (Value::Count(count), _) => write_line(text, name, sample, count)?,
            (value, _) => write_line(text, name, sample, &value.number())?,
        }
    }
    Ok(())
}

fn write_line(text: &mut String, name: &str, sample: &Sample, value: &impl fmt::Display) -> fmt::Result {
    text.push_str(name);
    write_labels(text, sample, None)?;
    writeln!(text, " {value}")
}

fn write_labels(text: &mut String, sample: &Sample, bound: Option<&str>) -> fmt::Result {
    let own = sample.labels.iter().map(|(name, value)| (&**name, &**value));
    let mut opening = '{';
    for (name, value) in own.chain(bound.map(|bound| ("le", bound))) {
        write!(text, "{opening}{name}=\"")?;
        value.chars().for_each(|c| escape(text, c));
        text.push('"');
        opening = ',';
    }
    if opening == ',' {
        text.push('}');
    }
    Ok(())
}

fn escape(text: &mut String, c: char) {
    match c {
        '\\' => text.push_str("\\\\"),
        '"' => text.push_str("\\\""),
        '\n' => text.push_str("\\n"),
        c => text.push(c),
    }
}
