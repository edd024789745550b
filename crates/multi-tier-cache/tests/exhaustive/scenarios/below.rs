//! Tiers below the hub: a shared one, or one of each instance's own.

use super::programs::{get, load, put, remove};
use super::{A, B, K, deaf_above_a_tier, deep, private};
use crate::world::{Plan, World};

/// What only the tier below holds is promoted while a peer removes it.
pub(crate) fn promotion_against_removal() -> World {
    let mut world = World::new(deep());
    world.before(B, load);
    world.shared().evict_from_the_hub(K);
    world.actor(A, "gets", get);
    world.actor(B, "removes", remove);
    world
}

/// The same by a load, which holds a lease while it looks below.
pub(crate) fn promotion_by_load_against_removal() -> World {
    let mut world = World::new(deaf_above_a_tier());
    world.before(B, load);
    world.shared().evict_from_the_hub(K);
    world.actor(A, "loads", load);
    world.actor(B, "removes", remove);
    world
}

pub(crate) fn load_with_tier_below_against_removal() -> World {
    load_against_removal(deep())
}

/// What was written below by a load that the removal overtook is taken back; until then nobody reads it.
pub(crate) fn load_after_removal_with_tier_below() -> World {
    let mut world = World::new(deaf_above_a_tier());
    world.actor(A, "loads", load);
    // It is about to write below.
    world.advance(11);
    world.actor(B, "removes", remove);
    // It has removed what is below.
    world.advance(3);
    world.actor(B, "gets", get);
    world
}

pub(crate) fn put_with_tier_below_against_removal() -> World {
    let mut world = World::new(deaf_above_a_tier());
    world.actor(A, "puts", put);
    world.actor(B, "removes", remove);
    world
}

pub(crate) fn put_against_put_with_tier_below() -> World {
    let mut world = World::new(deaf_above_a_tier());
    world.actor(A, "puts", put);
    // It is about to write below.
    world.advance(8);
    world.actor(B, "puts", put);
    world.advance(4);
    world
}

pub(crate) fn pattern_with_tier_below_against_load() -> World {
    let mut world = World::new(deaf_above_a_tier());
    world.actor(A, "loads", load);
    world.actor(B, "removes k:*", |me| async move { me.remove_pattern("k:*").await });
    world
}

/// Every instance has an awaited tier of its own below the hub.
pub(crate) fn private_tier_against_a_peers_removal() -> World {
    load_against_removal(private())
}

fn load_against_removal(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.actor(A, "loads", load);
    world.actor(B, "removes", remove);
    world
}

/// What was read there while a write that the removal overtook was on its way.
pub(crate) fn private_tier_read_beside_load() -> World {
    let mut world = World::new(private());
    world.actor(A, "loads", load);
    // It is about to write there.
    world.advance(11);
    world.actor(B, "removes", remove);
    // It has taken effect.
    world.advance(5);
    world.actor(A, "gets", get);
    world
}

pub(crate) fn private_tier_read_against_a_peers_removal() -> World {
    let mut world = World::new(private());
    world.before(A, load);
    world.shared().evict_from_the_hub(K);
    world.actor(A, "gets", get);
    world.actor(B, "removes", remove);
    world
}
