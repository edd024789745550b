//! Rounds: every contender once per round, in rotating order.

use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::stage::Stage;

/// How long a round may take: many times what any contender needs, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One workload and those who run it.
pub(crate) struct Row<'a> {
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
    round: Box<dyn FnMut(usize) -> f64 + 'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A part that caches are made of, without their duties.
    Raw,
    Ours,
    /// The release whose programs ours must run, never slower.
    Established,
    Neighbour,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    PerSecond,
}

/// What must hold of a contender's median.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At most this many times the median of the contender named.
    AtMost(f64, &'static str),
    AtLeast(f64, &'static str),
    /// At most this, in the row's unit.
    Within(f64),
}

/// A contender's measurements, sorted.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) bar: Option<Bar>,
    pub(crate) peer: Option<&'static str>,
    pub(crate) values: Vec<f64>,
}

pub(crate) struct RowResult {
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) measured: Vec<Measured>,
}

impl<'a> Contender<'a> {
    /// `round` runs that many operations and answers the measurement in the row's unit.
    pub(crate) fn new(name: &'static str, role: Role, round: impl FnMut(usize) -> f64 + 'a) -> Self {
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
                for key in keys.iter().cycle().take(operations) {
                    assert!(black_box(verb(black_box(key)).await).is_found(), "{name} missed {key}");
                }
                per_operation(started, operations)
            })
        };
        Self::new(name, role, round)
    }

    /// The same for a synchronous operation.
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
            per_operation(started, operations)
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

impl Unit {
    pub(crate) fn less_is_better(self) -> bool {
        self != Self::PerSecond
    }
}

impl Measured {
    #[must_use]
    pub(crate) fn median(&self) -> f64 {
        self.values[self.values.len() / 2]
    }
}

/// One round to warm up, then those that count.
pub(crate) fn run(mut row: Row<'_>, stage: &Stage) -> RowResult {
    let rounds = if row.unit == Unit::Nanoseconds { stage.rounds } else { stage.slow_rounds };
    let count = row.contenders.len();
    let mut values = vec![Vec::with_capacity(rounds); count];
    for round in 0..=rounds {
        for turn in 0..count {
            let place = (round + turn) % count;
            let value = (row.contenders[place].round)(row.operations);
            if round > 0 {
                values[place].push(value);
            }
        }
    }
    let measured = row.contenders.iter().zip(values).map(|(contender, mut values)| {
        values.sort_by(f64::total_cmp);
        Measured { name: contender.name, role: contender.role, bar: contender.bar, peer: contender.peer, values }
    });
    RowResult { title: row.title, unit: row.unit, measured: measured.collect() }
}

#[expect(clippy::cast_precision_loss, reason = "an operation count is small")]
fn per_operation(started: Duration, operations: usize) -> f64 {
    busy().saturating_sub(started).as_secs_f64() * 1e9 / operations as f64
}

/// The time this thread has been on a processor: other programs must not count.
fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs `callers` tasks and answers how many of `operations` in total they do in a second: 0 if one of them panicked or
/// is still waiting after [`PATIENCE`].
#[expect(clippy::cast_precision_loss, reason = "an operation count is small")]
pub(crate) fn throughput<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    runtime: &Runtime,
    operations: usize,
    callers: impl Iterator<Item = F>,
) -> f64 {
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
        if !ended || failed > 0 {
            eprintln!("  {name}: {} callers wait for ever, {failed} got no value", tasks.len());
            return 0.0;
        }
        operations as f64 / started.elapsed().as_secs_f64()
    })
}
