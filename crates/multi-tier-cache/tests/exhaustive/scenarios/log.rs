//! What is missed, what a failover loses, and reads at a position of the log.

use std::sync::Arc;

use super::programs::{load, load_both, poll_then_get_both, remove, remove_one_by_one};
use super::{A, A_IS_DEAF, B, K, OTHER, failing_over};
use crate::world::{Plan, Token, World};

/// A message is lost: the next one shows the gap, and a poll reads what was missed.
pub(crate) fn lost_message() -> World {
    missed_removals(Plan { lost: [1, 0, 0], polls_at_rest: true, ..Plan::default() })
}

/// The log does not keep what was missed.
pub(crate) fn trimmed_log() -> World {
    missed_removals(Plan { deaf: A_IS_DEAF, log_length: 1, polls_at_rest: true, ..Plan::default() })
}

/// An instance does not hear of two removals, and polls.
fn missed_removals(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.before(A, load_both);
    world.actor(A, "polls, gets", poll_then_get_both);
    world.actor(B, "removes", remove_one_by_one);
    world
}

/// A failover loses a removal. Its author does it again as soon as it notices.
pub(crate) fn failover() -> World {
    let mut world = World::new(failing_over());
    world.before(A, load);
    world.actor(B, "removes", |me| async move {
        me.remove(K).await;
        me.poll().await;
    });
    world.actor(A, "sees a failover", |me| async move {
        me.keep_a_replica().await;
        me.fail_over().await;
        me.poll().await;
    });
    world
}

/// As many changes come after the failover as were lost: the log stands where it stood.
pub(crate) fn failover_unnoticed_by_length() -> World {
    let mut world = World::new(failing_over());
    world.before(A, load);
    world.shared().keep_a_replica();
    let heard = removes_and_tells(&mut world);
    world.actor(A, "fails over, removes", move |me| async move {
        me.wait_for(&heard).await;
        me.fail_over().await;
        me.remove(OTHER).await;
        me.poll().await;
    });
    world
}

/// A failover before the author of a change has its answer.
pub(crate) fn answer_after_failover() -> World {
    let mut world = World::new(failing_over());
    world.before(A, load);
    world.shared().keep_a_replica();
    world.actor(B, "removes", remove);
    world.actor(A, "fails over, removes", |me| async move {
        me.fail_over().await;
        me.remove(OTHER).await;
    });
    world
}

/// The position that a read asks for was lost before this instance heard of it.
pub(crate) fn at_least_after_failover() -> World {
    at_least_what_was_lost(Plan { runtime: true, deaf: A_IS_DEAF, polls_at_rest: true, ..Plan::default() })
}

/// The same where it had heard of it, and nobody has noticed the failover yet.
pub(crate) fn at_least_before_a_failover_is_noticed() -> World {
    at_least_what_was_lost(Plan { runtime: true, polls_at_rest: true, ..Plan::default() })
}

fn at_least_what_was_lost(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.before(A, load);
    world.shared().keep_a_replica();
    let heard = removes_and_tells(&mut world);
    world.actor(A, "fails over, loads at least", move |me| async move {
        me.wait_for(&heard).await;
        me.fail_over().await;
        me.load_at_least(K, &heard).await;
    });
    world
}

/// Read your writes elsewhere: an instance that heard nothing yet reflects a position.
pub(crate) fn at_least() -> World {
    let mut world = World::new(Plan::default());
    world.before(A, load);
    let token = removes_and_tells(&mut world);
    world.actor(A, "loads at least", move |me| async move { me.load_at_least(K, &token).await });
    world
}

pub(crate) fn at_least_without_messages() -> World {
    let mut world = World::new(Plan { deaf: A_IS_DEAF, polls_at_rest: true, ..Plan::default() });
    world.before(A, load);
    let token = removes_and_tells(&mut world);
    world.actor(A, "gets at least", move |me| async move { me.get_at_least(K, &token).await });
    world.actor(A, "loads", load);
    world
}

/// Adds an actor that removes the key and hands over where that stands in the log.
fn removes_and_tells(world: &mut World) -> Token {
    let token = Token::default();
    let told = Arc::clone(&token);
    world.actor(B, "removes", move |me| async move { me.remove_and_tell(K, &told).await });
    token
}
