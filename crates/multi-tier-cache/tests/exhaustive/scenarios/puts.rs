//! Puts beside loads, removals and each other.

use super::programs::{get, load, load_twice, put_then_get, remove_then_get, remove_then_load};
use super::{A, B, K, alone};
use crate::world::{Plan, World};

pub(crate) fn put_against_load() -> World {
    put_beside_load(Plan::default(), B)
}

pub(crate) fn put_against_own_load() -> World {
    put_beside_load(alone(), A)
}

/// A writer at `writer` beside a load at the first instance.
fn put_beside_load(plan: Plan, writer: usize) -> World {
    let mut world = World::new(plan);
    world.actor(A, "loads", load_twice);
    world.actor(writer, "puts", put_then_get);
    world
}

pub(crate) fn put_against_put() -> World {
    let mut world = World::new(Plan::default());
    for instance in [A, B] {
        world.actor(instance, "puts", put_then_get);
    }
    world
}

/// A reader beside the slower of two puts.
pub(crate) fn gets_beside_put_against_put() -> World {
    let mut world = put_against_put();
    world.actor(A, "gets", get);
    world
}

pub(crate) fn put_against_own_put() -> World {
    let mut world = World::new(alone());
    for _ in 0..2 {
        world.actor(A, "puts", put_then_get);
    }
    world
}

pub(crate) fn put_against_removal() -> World {
    let mut world = World::new(Plan::default());
    world.before(A, load);
    world.actor(A, "puts", put_then_get);
    world.actor(B, "removes", remove_then_get);
    world
}

/// A put of which others do not hear, and which they may overtake with a load.
pub(crate) fn quiet_put_against_load_and_removal() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "puts quietly", |me| async move {
        me.put_quietly(K).await;
        me.get(K).await;
    });
    world.actor(B, "removes, loads", remove_then_load);
    world
}
