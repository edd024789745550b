//! A source whose loads the test answers, holds and counts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::testing::{HeldLoads, Loads};
use multi_tier_cache::{LoadContext, Loaded};
use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::world::ends;

/// What a load ends with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Value(&'static str),
    Absent,
    NotModified,
    Fails,
    Panics,
}

/// The source's own error.
#[derive(Debug, PartialEq)]
pub(crate) struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("down")
    }
}

/// What a loader was told.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Told {
    pub(crate) previous: Option<String>,
    pub(crate) validator: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Source(Arc<Inner>);

struct Inner {
    answer: Mutex<Answer>,
    loads: Loads,
    told: Mutex<Vec<Told>>,
}

impl Source {
    pub(crate) fn new(answer: Answer) -> Self {
        Self(Arc::new(Inner { answer: Mutex::new(answer), loads: Loads::new(), told: Mutex::default() }))
    }

    pub(crate) fn of(value: &'static str) -> Self {
        Self::new(Answer::Value(value))
    }

    /// What loads that begin from now on end with.
    pub(crate) fn answers(&self, answer: Answer) {
        *self.0.answer.lock() = answer;
    }

    /// Holds the loads that begin from now on.
    pub(crate) fn hold(&self) -> HeldLoads {
        self.0.loads.hold()
    }

    /// Loads that began.
    pub(crate) fn calls(&self) -> usize {
        self.0.loads.count()
    }

    /// Waits until so many loads have begun.
    pub(crate) async fn begun(&self, count: usize) {
        ends(self.0.loads.begun(count)).await;
    }

    /// Waits until so many loads have ended.
    pub(crate) async fn ended(&self, count: usize) {
        ends(self.0.loads.ended(count)).await;
    }

    /// What the loads so far were told.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.0.told.lock().clone()
    }

    /// A loader for `fetch`.
    pub(crate) async fn fetch(self, context: LoadContext<String>) -> Result<Loaded<String>, Down> {
        let previous = context.previous().map(ToString::to_string);
        self.0.told.lock().push(Told { previous, validator: context.validator().map(str::to_owned) });
        match self.answer().await {
            Answer::Value(value) => Ok(Loaded::new(value.to_owned())),
            Answer::Absent => Ok(Loaded::absent()),
            Answer::NotModified => Ok(Loaded::not_modified()),
            Answer::Fails => Err(Down),
            Answer::Panics => panic!("as the test asked"),
        }
    }

    /// A loader for `get_or_load_optional`.
    pub(crate) async fn optional(self) -> Result<Option<String>, Down> {
        match self.answer().await {
            Answer::Value(value) => Ok(Some(value.to_owned())),
            Answer::Absent => Ok(None),
            Answer::Fails => Err(Down),
            other => panic!("{other:?}"),
        }
    }

    /// A loader for `get_or_try_load`.
    pub(crate) async fn value(self) -> Result<String, Down> {
        self.optional().await.map(|value| value.unwrap())
    }

    async fn answer(&self) -> Answer {
        let answer = *self.0.answer.lock();
        // Awaits of its own, at which a caller may go away.
        let load = self.0.loads.load(async {
            for _ in 0..2 {
                yield_now().await;
            }
        });
        load.await;
        answer
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
