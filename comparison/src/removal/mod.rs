//! Removing many keys at once: by a pattern, and by a tag.

pub(crate) mod pattern;
pub(crate) mod tags;

use std::time::Duration;

use crate::contenders::instance::Kind;
use crate::grid::Contender;

/// Many times what a round takes.
const LIMIT: Duration = Duration::from_mins(5);

fn contenders(round: impl Fn(Kind) -> anyhow::Result<Vec<f64>> + Copy + Send + Sync + 'static) -> Vec<Contender> {
    Kind::OWN.map(|kind| Contender::new(kind.name(), kind.role(), move || round(kind))).into()
}
