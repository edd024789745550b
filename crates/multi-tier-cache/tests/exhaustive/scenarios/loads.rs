//! Loads and copies beside removals.

use std::time::Duration;

use super::programs::{get, get_twice, load, load_twice, remove, remove_then_get, remove_then_load};
use super::{A, B, K, alone};
use crate::world::{Plan, World};

pub(crate) fn load_against_own_removal() -> World {
    let mut world = World::new(alone());
    world.actor(A, "loads", load);
    world.actor(A, "removes", remove_then_load);
    world
}

pub(crate) fn load_against_a_peers_removal() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "loads", load_twice);
    world.actor(B, "removes", remove_then_load);
    world
}

/// Two callers of one instance and a peer that removes.
pub(crate) fn two_callers_against_a_peers_removal() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "loads", load);
    world.actor(A, "loads too", load);
    world.actor(B, "removes", remove);
    world
}

/// What is read from the hub is copied into the first tier while a peer removes it.
pub(crate) fn copy_against_a_peers_removal() -> World {
    let mut world = World::new(Plan::default());
    world.before(B, load);
    world.actor(A, "gets", get_twice);
    world.actor(B, "removes", remove);
    world
}

/// A look at what is stored and a load have flights of their own.
pub(crate) fn copy_against_own_removal() -> World {
    let mut world = World::new(Plan::default());
    world.before(B, load);
    world.actor(A, "gets", get_twice);
    world.actor(A, "removes", remove_then_get);
    world
}

/// A copy that comes late does not replace what was loaded meanwhile.
pub(crate) fn slow_copy_against_load() -> World {
    let mut world = World::new(Plan::default());
    world.before(B, load);
    world.actor(A, "gets", get);
    world.actor(A, "loads", load_twice);
    world.actor(B, "removes", remove);
    world
}

pub(crate) fn look_beside_load_against_a_peers_removal() -> World {
    look_beside_load(true)
}

pub(crate) fn look_beside_load_without_promotion() -> World {
    look_beside_load(false)
}

/// A look at what is stored, and a load, have flights of their own. A peer removes the value and loads it anew.
fn look_beside_load(promotes: bool) -> World {
    let mut world = World::new(Plan { promotes, ..Plan::default() });
    world.actor(A, "loads", load);
    world.actor(A, "gets, loads", |me| async move {
        me.get(K).await;
        me.load(K).await;
    });
    world.actor(B, "removes, loads", remove_then_load);
    world
}

/// Two instances load one key: one loader runs.
pub(crate) fn one_load_in_the_fleet() -> World {
    let mut world = World::new(Plan { waits: true, ..Plan::default() });
    for instance in [A, B] {
        world.actor(instance, "loads", load);
    }
    world.at_rest(|history| if history.loads == 1 { Ok(()) } else { Err(format!("I8: {} loads", history.loads)) });
    world
}

/// And while it is removed.
pub(crate) fn waiting_load_against_removal() -> World {
    // Outside a runtime nobody gives back the lease of a load that was overtaken: it ends with its time.
    let mut world = World::new(Plan { waits: true, step: Duration::from_millis(500), ..Plan::default() });
    world.actor(A, "loads", load);
    // It has the lease.
    world.advance(4);
    world.actor(B, "loads", load);
    world.actor(B, "removes", remove);
    world
}
