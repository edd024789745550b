//! Rows about costs: every contender once per round, in rotating order.

use std::borrow::Cow;
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::stage::Stage;
use crate::unit::{Unit, float, median};

/// How long a contender's round may take: many times what any of them needs, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Who hung this often is not asked again.
pub(crate) const HANGS_MAX: usize = 2;

/// One workload and those who run it.
pub(crate) struct Row<'a> {
    /// Its name among the results that are kept.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// Operations of a round; the same for every contender.
    pub(crate) operations: usize,
    /// The first one is the row's baseline.
    pub(crate) contenders: Vec<Contender<'a>>,
}

pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) bar: Option<Bar>,
    pub(crate) peer: Option<&'static str>,
    round: Box<dyn FnMut(usize) -> Outcome + 'a>,
}

/// How a contender's round ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// The measurement, in the row's unit.
    Value(f64),
    /// Somebody was still waiting after [`PATIENCE`].
    Hung,
    /// Somebody got no value.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A part that caches are made of, without their duties.
    Raw,
    Ours,
    /// The release whose programs ours must run, never slower.
    Established,
    Neighbour,
}

/// What must hold of a contender's median.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Bar {
    /// At most this many times the median of the contender named.
    AtMost(f64, Cow<'static, str>),
    AtLeast(f64, Cow<'static, str>),
    /// At most this, in the row's unit.
    Within(f64),
}

/// A contender's measurements, sorted.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: Cow<'static, str>,
    pub(crate) role: Role,
    pub(crate) bar: Option<Bar>,
    pub(crate) peer: Option<Cow<'static, str>>,
    pub(crate) values: Vec<f64>,
    pub(crate) hung: usize,
    pub(crate) failed: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RowResult {
    pub(crate) unit: Unit,
    pub(crate) measured: Vec<Measured>,
}

impl Bar {
    pub(crate) const fn at_most(times: f64, name: &'static str) -> Self {
        Self::AtMost(times, Cow::Borrowed(name))
    }

    pub(crate) const fn at_least(times: f64, name: &'static str) -> Self {
        Self::AtLeast(times, Cow::Borrowed(name))
    }
}

impl<'a> Contender<'a> {
    /// `round` runs that many operations.
    pub(crate) fn new(name: &'static str, role: Role, round: impl FnMut(usize) -> Outcome + 'a) -> Self {
        Self { name, role, bar: None, peer: None, round: Box::new(round) }
    }

    /// A contender of nanosecond rows whose operation is an async verb that must find something.
    pub(crate) fn verb<R>(
        name: &'static str,
        role: Role,
        runtime: &'a Runtime,
        keys: &'a [String],
        verb: impl AsyncFn(&str) -> R + 'a,
    ) -> Self
    where
        R: Found,
    {
        let round = move |operations| {
            runtime.block_on(async {
                let started = busy();
                let calls = async {
                    for key in keys.iter().cycle().take(operations) {
                        assert!(black_box(verb(black_box(key)).await).is_found(), "{name} missed {key}");
                    }
                };
                match tokio::time::timeout(PATIENCE, calls).await {
                    Ok(()) => Outcome::Value(per_operation(started, operations)),
                    Err(_) => Outcome::Hung,
                }
            })
        };
        Self::new(name, role, round)
    }

    /// The same for a synchronous operation, of a store that cannot hang.
    pub(crate) fn call<R>(
        name: &'static str,
        role: Role,
        keys: &'a [String],
        call: impl Fn(&str) -> Option<R> + 'a,
    ) -> Self {
        let round = move |operations| {
            let started = busy();
            for key in keys.iter().cycle().take(operations) {
                assert!(black_box(call(black_box(key))).is_some(), "{name} missed {key}");
            }
            Outcome::Value(per_operation(started, operations))
        };
        Self::new(name, role, round)
    }

    pub(crate) fn bar(self, bar: Bar) -> Self {
        Self { bar: Some(bar), ..self }
    }

    /// The established contender to be no slower than, where the best of them is set up otherwise.
    pub(crate) fn against(self, peer: &'static str) -> Self {
        Self { peer: Some(peer), ..self }
    }
}

/// What a verb answers, as it answers it: converting it would be measured too.
pub(crate) trait Found {
    fn is_found(&self) -> bool;
}

impl<T> Found for Option<T> {
    fn is_found(&self) -> bool {
        self.is_some()
    }
}

impl<T, E> Found for Result<Option<T>, E> {
    fn is_found(&self) -> bool {
        matches!(self, Ok(Some(_)))
    }
}

/// For verbs that answer a value, or store one.
pub(crate) struct Done<T, E>(pub(crate) Result<T, E>);

impl<T, E> Found for Done<T, E> {
    fn is_found(&self) -> bool {
        self.0.is_ok()
    }
}

impl Measured {
    /// Not a number if there is none.
    pub(crate) fn median(&self) -> f64 {
        median(&self.values)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.hung == 0 && self.failed == 0
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Value(value) => self.values.push(value),
            Outcome::Hung => self.hung += 1,
            Outcome::Failed => self.failed += 1,
        }
    }
}

/// One round to warm up, then those that count; who hangs in the first has hung, too.
pub(crate) fn run(row: &mut Row<'_>, stage: &Stage) -> RowResult {
    let rounds = row.rounds(stage);
    let unmeasured = |contender: &Contender<'_>| Measured {
        name: contender.name.into(),
        role: contender.role,
        bar: contender.bar.clone(),
        peer: contender.peer.map(Cow::Borrowed),
        values: Vec::with_capacity(rounds),
        hung: 0,
        failed: 0,
    };
    let mut measured: Vec<Measured> = row.contenders.iter().map(unmeasured).collect();
    let count = measured.len();
    for round in 0..=rounds {
        for turn in 0..count {
            let place = (round + turn) % count;
            if measured[place].hung >= HANGS_MAX {
                continue;
            }
            let outcome = (row.contenders[place].round)(row.operations);
            if round > 0 || !matches!(outcome, Outcome::Value(_)) {
                measured[place].note(outcome);
            }
        }
    }
    for measured in &mut measured {
        measured.values.sort_by(f64::total_cmp);
    }
    RowResult { unit: row.unit, measured }
}

impl Row<'_> {
    /// How many count.
    pub(crate) fn rounds(&self, stage: &Stage) -> usize {
        if self.unit == Unit::Nanoseconds { stage.rounds } else { stage.slow_rounds }
    }
}

/// Nanoseconds since `started`, as [`busy`] tells it.
pub(crate) fn per_operation(started: Duration, operations: usize) -> f64 {
    busy().saturating_sub(started).as_secs_f64() * 1e9 / float(operations)
}

/// The time this thread has been on a processor: other programs must not count.
pub(crate) fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs `callers` tasks and answers how many of `operations` in total they do in a second.
pub(crate) fn throughput<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    runtime: &Runtime,
    operations: usize,
    callers: impl Iterator<Item = F>,
) -> Outcome {
    runtime.block_on(async {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        callers.for_each(|caller| drop(tasks.spawn(caller)));
        let mut failed = 0;
        let end = async {
            while let Some(caller) = tasks.join_next().await {
                failed += usize::from(caller.is_err());
            }
        };
        let ended = tokio::time::timeout(PATIENCE, end).await.is_ok();
        if !ended {
            eprintln!("  {name}: {} callers wait for ever", tasks.len());
            return Outcome::Hung;
        }
        if failed > 0 {
            eprintln!("  {name}: {failed} callers got no value");
            return Outcome::Failed;
        }
        Outcome::Value(float(operations) / started.elapsed().as_secs_f64())
    })
}
