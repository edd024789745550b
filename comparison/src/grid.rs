//! Rows that read several measures off one experiment, each with a column for every contender.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Deserializer, Serialize};

use crate::rounds::{HANGS_MAX, Outcome, Role};
use crate::unit::{Unit, median};

/// One experiment.
pub(crate) struct Row {
    /// Its name among the results that are kept.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) measures: Vec<Measure>,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rounds: usize,
    /// Whoever takes longer for a round hangs.
    pub(crate) limit: Duration,
}

#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// Answers a value for each measure.
    round: Arc<dyn Fn() -> Result<Vec<f64>> + Send + Sync>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Measure {
    pub(crate) name: Cow<'static, str>,
    pub(crate) unit: Unit,
    /// What must hold of this project.
    pub(crate) bar: Option<Bar>,
    /// Where it belongs on the axis of what is varied.
    pub(crate) at: Option<f64>,
}

/// A bar for a share or a count must hold in every round, another of the median.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// At most this much below the best median of all contenders.
    NearBest(f64),
}

/// A contender's values of each measure, sorted. A round that failed or hung left none.
#[derive(Serialize, Deserialize)]
pub(crate) struct Observed {
    pub(crate) name: Cow<'static, str>,
    pub(crate) role: Role,
    #[serde(deserialize_with = "with_gaps")]
    pub(crate) values: Vec<Vec<f64>>,
    pub(crate) failed: usize,
    pub(crate) hung: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RowResult {
    pub(crate) measures: Vec<Measure>,
    pub(crate) observed: Vec<Observed>,
}

/// A round in which somebody waited for ever.
#[derive(Debug)]
struct Hung;

impl Contender {
    pub(crate) fn new(
        name: &'static str,
        role: Role,
        round: impl Fn() -> Result<Vec<f64>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, role, round: Arc::new(round) }
    }

    /// A round in a thread of its own, which is left behind if it does not end.
    fn round(&self, limit: Duration) -> Result<Vec<f64>> {
        let (answer, answers) = mpsc::channel();
        let round = Arc::clone(&self.round);
        thread::spawn(move || drop(answer.send(round())));
        match answers.recv_timeout(limit) {
            Ok(values) => values,
            Err(RecvTimeoutError::Timeout) => Err(Hung.into()),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the round panicked"),
        }
    }
}

impl Measure {
    pub(crate) fn new(name: impl Into<Cow<'static, str>>, unit: Unit) -> Self {
        Self { name: name.into(), unit, bar: None, at: None }
    }

    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self { bar: Some(Bar::AtMost(limit)), ..self }
    }

    pub(crate) fn at_least(self, limit: f64) -> Self {
        Self { bar: Some(Bar::AtLeast(limit)), ..self }
    }

    pub(crate) fn near_best(self, distance: f64) -> Self {
        Self { bar: Some(Bar::NearBest(distance)), ..self }
    }

    pub(crate) fn at(self, place: f64) -> Self {
        Self { at: Some(place), ..self }
    }
}

impl Observed {
    pub(crate) fn median(&self, measure: usize) -> f64 {
        self.values.get(measure).map_or(f64::NAN, |values| median(values))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.failed == 0 && self.hung == 0
    }
}

impl Outcome {
    /// For rounds of several measures.
    pub(crate) fn value(self) -> Result<f64> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Hung => Err(Hung.into()),
            Self::Failed => anyhow::bail!("a caller got no value"),
        }
    }
}

/// Every contender once per round, in rotating order. The failure of one is reported and leaves the others.
pub(crate) fn run(row: &Row) -> RowResult {
    let unseen = |contender: &Contender| Observed {
        name: contender.name.into(),
        role: contender.role,
        values: vec![Vec::new(); row.measures.len()],
        failed: 0,
        hung: 0,
    };
    let mut observed: Vec<Observed> = row.contenders.iter().map(unseen).collect();
    let count = observed.len();
    for round in 0..row.rounds {
        for turn in 0..count {
            let place = (round + turn) % count;
            let (contender, seen) = (&row.contenders[place], &mut observed[place]);
            if seen.hung >= HANGS_MAX {
                continue;
            }
            match contender.round(row.limit) {
                Ok(values) => seen.values.iter_mut().zip(values).for_each(|(all, value)| all.push(value)),
                Err(error) => {
                    eprintln!("  {}: {error:#}", seen.name);
                    if error.is::<Hung>() { seen.hung += 1 } else { seen.failed += 1 }
                }
            }
        }
    }
    observed.iter_mut().flat_map(|seen| &mut seen.values).for_each(|values| values.sort_by(f64::total_cmp));
    RowResult { measures: row.measures.clone(), observed }
}

impl fmt::Display for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("somebody waits for ever")
    }
}

impl std::error::Error for Hung {}

/// JSON knows no "not a number": it is written as null.
fn with_gaps<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Vec<f64>>, D::Error> {
    let values = Vec::<Vec<Option<f64>>>::deserialize(source)?;
    let filled = |values: Vec<Option<f64>>| values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
    Ok(values.into_iter().map(filled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(contenders: Vec<Contender>) -> Row {
        let measures = vec![Measure::new("answer", Unit::Count)];
        Row { id: "test", title: "test".into(), measures, contenders, rounds: 3, limit: Duration::from_millis(200) }
    }

    #[test]
    fn who_hangs_is_counted_and_left_behind() {
        let hangs = Contender::new("hangs", Role::Established, || {
            thread::sleep(Duration::from_hours(1));
            Ok(vec![0.0])
        });
        let fails = Contender::new("fails", Role::Raw, || anyhow::bail!("on purpose"));
        let well = Contender::new("well", Role::Ours, || Ok(vec![42.0]));
        let result = run(&row(vec![hangs, fails, well]));
        let seen: Vec<_> = result.observed.iter().map(|seen| (seen.hung, seen.failed, seen.values[0].len())).collect();
        assert_eq!(seen, [(HANGS_MAX, 0, 0), (0, 3, 0), (0, 0, 3)]);
    }

    #[test]
    fn what_was_not_measured_survives_the_way_through_json() {
        let contender = Contender::new("none", Role::Ours, || Ok(vec![f64::NAN]));
        let text = serde_json::to_string(&run(&row(vec![contender]))).unwrap();
        let read: RowResult = serde_json::from_str(&text).unwrap();
        assert!(read.observed[0].median(0).is_nan());
    }
}
