//! When a call began.

use std::time::Duration;

use super::activity::{Activity, Operation};
use super::recorder::Telemetry;
use super::series::Series;
use crate::clock::Moment;

/// When a call began, as far as that is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Began {
    /// It has waited for nothing so far: how long it takes is told to a listener only.
    AtOnce(Option<Moment>),
    /// It waits: how long it takes is counted.
    Waiting(Moment),
}

impl Began {
    /// It waits from `now` on. Answers when it began.
    pub(crate) fn waits(&mut self, now: Moment) -> Moment {
        let moment = match self {
            Self::AtOnce(Some(moment)) | Self::Waiting(moment) => *moment,
            Self::AtOnce(None) => now,
        };
        *self = Self::Waiting(moment);
        moment
    }
}

impl Telemetry {
    /// A call has ended so. Answers how long it took, if that is known.
    pub(crate) fn elapsed(&self, series: &Series, what: (Operation, Activity), began: Began) -> Option<Duration> {
        match began {
            Began::AtOnce(moment) => moment.map(|moment| self.since(moment)),
            Began::Waiting(moment) => Some(self.took(series, what, moment)),
        }
    }

    /// A call that begins now, and has not waited so far.
    pub(crate) fn at_once(&self) -> Began {
        Began::AtOnce(self.begins())
    }
}
