//! What is tried: a few actors, each a short program of verbs.

mod below;
mod cancelled;
mod loads;
mod log;
mod programs;
mod puts;
mod scans;

use multi_tier_cache::CallOptions;

pub(crate) use self::below::*;
pub(crate) use self::cancelled::*;
pub(crate) use self::loads::*;
pub(crate) use self::log::*;
pub(crate) use self::puts::*;
pub(crate) use self::scans::*;
use crate::history::INSTANCES;
use crate::world::{Plan, lasting};

const A: usize = 0;
const B: usize = 1;
const K: usize = 0;
const OTHER: usize = 1;

const A_IS_DEAF: [bool; INSTANCES] = [true, false, false];
/// Own messages, heard late, only drop what the author dropped.
const B_IS_DEAF: [bool; INSTANCES] = [false, true, false];

fn tagged() -> CallOptions {
    lasting().with_tags(["t"])
}

fn alone() -> Plan {
    Plan { instances: 1, ..Plan::default() }
}

/// A shared tier below the hub.
fn deep() -> Plan {
    Plan { below: true, runtime: true, ..Plan::default() }
}

/// The same, where the second instance hears nothing.
fn deaf_above_a_tier() -> Plan {
    Plan { deaf: B_IS_DEAF, ..deep() }
}

/// An awaited tier of each instance's own below the hub.
fn private() -> Plan {
    Plan { private: true, runtime: true, deaf: B_IS_DEAF, ..Plan::default() }
}

/// The hub fails over: what that loses is made up for at rest.
fn failing_over() -> Plan {
    Plan { runtime: true, only_at_rest: true, polls_at_rest: true, ..Plan::default() }
}
