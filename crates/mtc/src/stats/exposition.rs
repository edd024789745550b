//! The Prometheus text format, as far as a reader of any families needs it: version 0.0.4, and `OpenMetrics` where they agree.

use std::collections::BTreeMap;

/// Labels of a sample, by name.
pub(super) type Labels = BTreeMap<String, String>;

/// Everything one endpoint said at one moment, by the names of families.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Exposition {
    pub(super) families: BTreeMap<String, Family>,
}

/// Samples that belong together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    #[default]
    Untyped,
}

/// A number, with the full name it came under.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) value: f64,
}

impl Kind {
    fn of(word: &str) -> Self {
        match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "summary" => Self::Summary,
            _ => Self::Untyped,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// What may follow the family's name in the name of a sample.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["", "_total", "_created"],
            Self::Histogram => &["_bucket", "_sum", "_count", "_created"],
            Self::Summary => &["", "_sum", "_count", "_created"],
            Self::Gauge | Self::Untyped => &[""],
        }
    }
}

impl Exposition {
    /// Reads a text. A line that cannot be read is passed over: one odd sample must not hide the others.
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let mut words = rest.split_whitespace();
                if let (Some(name), Some(kind)) = (words.next(), words.next()) {
                    found.families.entry(name.to_owned()).or_default().kind = Kind::of(kind);
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                found.add(sample(line));
            }
        }
        found
    }

    fn add(&mut self, sample: Option<Sample>) {
        let Some(sample) = sample else { return };
        let family = self.family_of(&sample.name).unwrap_or_else(|| sample.name.clone());
        self.families.entry(family).or_default().samples.push(sample);
    }

    /// The declared family that a sample of this name belongs to.
    fn family_of(&self, name: &str) -> Option<String> {
        let ends = ["", "_total", "_bucket", "_sum", "_count", "_created"];
        let mut stems = ends.into_iter().filter_map(|end| Some((name.strip_suffix(end)?, end)));
        let belongs = |(stem, end): &(&str, &str)| {
            self.families.get(*stem).is_some_and(|family| family.kind.suffixes().contains(end))
        };
        stems.find(belongs).map(|(stem, _)| stem.to_owned())
    }

    /// The families whose names begin so.
    pub(super) fn only(mut self, beginning: &str) -> Self {
        self.families.retain(|name, _| name.starts_with(beginning));
        self
    }
}

/// `name{label="value",…} number [time] [# exemplar]`.
fn sample(line: &str) -> Option<Sample> {
    let split = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at_checked(split)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Labels, &str)> {
    let (mut labels, mut rest) = (Labels::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A text up to its closing quote, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            'n' if escaped => value.push('\n'),
            _ if escaped => value.push(c),
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => {}
            _ => value.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP x_requests_total Requests.
# TYPE x_requests_total counter
x_requests_total{cache="users"} 10
x_requests_total{cache="or\"ders\\\n, }",tier="L2"} 2.5 1700000000000
# TYPE x_seconds histogram
x_seconds_bucket{le="0.1"} 3
x_seconds_bucket{le="+Inf"} 4
x_seconds_sum 0.5
x_seconds_count 4 # {trace="a"} 0.1
# TYPE x_hits counter
x_hits_total 7
y_gauge 1e3
this is no sample
x_odd{open="} 1
x_nan NaN
# EOF
"#;

    #[test]
    fn samples_belong_to_their_families() {
        let found = Exposition::parse(TEXT);
        let names: Vec<_> = found.families.keys().map(String::as_str).collect();
        assert_eq!(names, ["x_hits", "x_nan", "x_requests_total", "x_seconds", "y_gauge"]);
        let requests = &found.families["x_requests_total"];
        assert_eq!(requests.kind, Kind::Counter);
        assert_eq!(requests.samples[0].labels["cache"], "users");
        assert_eq!(requests.samples[1].labels["cache"], "or\"ders\\\n, }");
        assert!((requests.samples[1].value - 2.5).abs() < f64::EPSILON);
        assert_eq!(found.families["x_seconds"].samples.len(), 4);
        assert_eq!(found.families["x_hits"].samples[0].name, "x_hits_total");
        assert_eq!(found.families["y_gauge"].kind, Kind::Untyped);
        assert!(found.families["x_nan"].samples[0].value.is_nan());
        assert_eq!(found.only("y_").families.len(), 1);
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        for text in
            ["", "{", "x{", "x{a", "x{a=", "x{a=\"", "x{a=\"\\", "x{} ", "x{,} 1", "x{a=\"b\"}", "# TYPE", "\u{0}"]
        {
            let _ = Exposition::parse(text);
        }
        assert_eq!(Exposition::parse("x{,} 1").families.len(), 1);
    }
}
