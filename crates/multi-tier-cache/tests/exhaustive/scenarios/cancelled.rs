//! Verbs whose callers go away after so many steps.

use std::time::Duration;

use super::programs::{load, remove};
use super::{A, B, B_IS_DEAF, K, alone};
use crate::world::{Plan, World};

/// The leader of a flight goes away after so many steps: one further load, once its lease has ended.
pub(crate) fn cancelled_leader(steps: usize) -> World {
    let mut world = World::new(Plan { waits: true, step: Duration::from_secs(2), ..alone() });
    leader_that_goes_away(&mut world, steps);
    world.at_rest(|history| if history.loads <= 2 { Ok(()) } else { Err("I8: more than one further load".into()) });
    world
}

/// The same where its lease is given back in the background.
pub(crate) fn cancelled_leader_within_a_runtime(steps: usize) -> World {
    let mut world = World::new(Plan { runtime: true, ..alone() });
    leader_that_goes_away(&mut world, steps);
    world
}

fn leader_that_goes_away(world: &mut World, steps: usize) {
    world.actor(A, "loads, goes away", move |me| async move { me.cancelled(steps, me.load(K)).await });
    world.advance(steps.min(3));
    world.actor(A, "loads", load);
    world.actor(A, "loads too", load);
}

/// A writer goes away after so many steps, beside a load.
pub(crate) fn cancelled_removal(steps: usize) -> World {
    let mut world = World::new(Plan { runtime: true, ..alone() });
    world.before(A, load);
    world.actor(A, "removes, goes away", move |me| async move { me.cancelled(steps, me.remove(K)).await });
    world.actor(A, "loads", load);
    world
}

/// A put, outside a runtime, where nobody carries it on.
pub(crate) fn cancelled_put(steps: usize) -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..Plan::default() });
    world.before(A, load);
    world.actor(A, "puts, goes away", move |me| async move { me.cancelled(steps, me.put(K)).await });
    world.actor(B, "removes", remove);
    world
}
