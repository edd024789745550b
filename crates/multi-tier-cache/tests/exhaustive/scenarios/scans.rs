//! Removals of more than one key: by pattern, by tag, of many, of all.

use std::future::Future;

use super::programs::{get_twice, load_both, load_other, load_tagged, revoke_tag_then_get};
use super::{A, B, B_IS_DEAF, K, OTHER, alone, tagged};
use crate::world::{Me, Plan, World};

pub(crate) fn pattern_against_loads() -> World {
    loads_of_both_against("removes k:*", |me| async move {
        me.remove_pattern("k:*").await;
        me.get(OTHER).await;
    })
}

pub(crate) fn clear_against_loads() -> World {
    loads_of_both_against("clears", |me| async move {
        me.clear().await;
        me.get(OTHER).await;
    })
}

pub(crate) fn many_against_loads() -> World {
    loads_of_both_against("removes both", |me| async move {
        me.remove_both().await;
        me.get(OTHER).await;
    })
}

/// One instance loads both keys; the other, which has stored the second, removes them.
fn loads_of_both_against<F>(what: &str, removal: impl FnOnce(Me) -> F) -> World
where
    F: Future<Output = ()> + 'static,
{
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..Plan::default() });
    world.before(B, load_other);
    world.actor(A, "loads", load_both);
    world.actor(B, what, removal);
    world
}

pub(crate) fn tag_against_load() -> World {
    let mut world = World::new(Plan { tagged: true, ..Plan::default() });
    world.actor(A, "loads", |me| async move {
        me.load_with(K, &tagged()).await;
        me.get(K).await;
    });
    world.actor(B, "revokes the tag", revoke_tag_then_get);
    world
}

pub(crate) fn own_tag_against_load() -> World {
    let mut world = World::new(Plan { tagged: true, ..alone() });
    world.actor(A, "loads", load_tagged);
    world.actor(A, "revokes the tag", |me| async move {
        me.remove_tag("t", &[K]).await;
        me.load_with(K, &tagged()).await;
    });
    world
}

/// The tag of what the hub holds is revoked while it is copied.
pub(crate) fn tag_against_copy() -> World {
    let mut world = World::new(Plan { tagged: true, ..Plan::default() });
    world.before(B, load_tagged);
    world.actor(A, "gets", get_twice);
    world.actor(B, "revokes the tag", revoke_tag_then_get);
    world
}

pub(crate) fn tag_against_put() -> World {
    let mut world = World::new(Plan { tagged: true, ..Plan::default() });
    world.actor(A, "puts", |me| async move {
        me.put_with(K, &tagged()).await;
        me.get(K).await;
    });
    world.actor(B, "revokes the tag", |me| async move { me.remove_tag("t", &[K]).await });
    world
}
