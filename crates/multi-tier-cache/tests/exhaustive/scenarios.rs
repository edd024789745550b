//! What is tried: a few actors, each a short program of verbs.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::CallOptions;

use crate::history::INSTANCES;
use crate::world::{Plan, Token, World, lasting};

const A: usize = 0;
const B: usize = 1;
const K: usize = 0;
const OTHER: usize = 1;

fn tagged() -> CallOptions {
    lasting().with_tags(["t"])
}

fn alone() -> Plan {
    Plan { instances: 1, ..Plan::default() }
}

pub(crate) fn load_against_own_removal() -> World {
    let mut world = World::new(alone());
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(A, "removes", |me| async move {
        me.remove(K).await;
        me.load(K).await;
    });
    world
}

pub(crate) fn load_against_a_peers_removal() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(K).await;
    });
    world.actor(B, "removes", |me| async move {
        me.remove(K).await;
        me.load(K).await;
    });
    world
}

/// Two callers of one instance and a peer that removes.
pub(crate) fn two_callers_against_a_peers_removal() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(A, "loads too", |me| async move { me.load(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// What is read from the hub is copied into the first tier while a peer removes it.
pub(crate) fn copy_against_a_peers_removal() -> World {
    let mut world = World::new(Plan::default());
    world.before(B, |me| async move { me.load(K).await });
    world.actor(A, "gets", |me| async move {
        me.get(K).await;
        me.get(K).await;
    });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// A look at what is stored and a load have flights of their own.
pub(crate) fn copy_against_own_removal() -> World {
    let mut world = World::new(Plan::default());
    world.before(B, |me| async move { me.load(K).await });
    world.actor(A, "gets", |me| async move {
        me.get(K).await;
        me.get(K).await;
    });
    world.actor(A, "removes", |me| async move {
        me.remove(K).await;
        me.get(K).await;
    });
    world
}

/// A copy that comes late does not replace what was loaded meanwhile.
pub(crate) fn slow_copy_against_load() -> World {
    let mut world = World::new(Plan::default());
    world.before(B, |me| async move { me.load(K).await });
    world.actor(A, "gets", |me| async move { me.get(K).await });
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(K).await;
    });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// A look at what is stored, and a load, have flights of their own. A peer removes the value and loads it anew.
fn look_beside_load(promotes: bool) -> World {
    let mut world = World::new(Plan { promotes, ..Plan::default() });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(A, "gets, loads", |me| async move {
        me.get(K).await;
        me.load(K).await;
    });
    world.actor(B, "removes, loads", |me| async move {
        me.remove(K).await;
        me.load(K).await;
    });
    world
}

pub(crate) fn look_beside_load_against_a_peers_removal() -> World {
    look_beside_load(true)
}

pub(crate) fn look_beside_load_without_promotion() -> World {
    look_beside_load(false)
}

pub(crate) fn put_against_load() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(K).await;
    });
    world.actor(B, "puts", |me| async move {
        me.put(K).await;
        me.get(K).await;
    });
    world
}

pub(crate) fn put_against_own_load() -> World {
    let mut world = World::new(alone());
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(K).await;
    });
    world.actor(A, "puts", |me| async move {
        me.put(K).await;
        me.get(K).await;
    });
    world
}

pub(crate) fn put_against_put() -> World {
    let mut world = World::new(Plan::default());
    for instance in [A, B] {
        world.actor(instance, "puts", |me| async move {
            me.put(K).await;
            me.get(K).await;
        });
    }
    world
}

/// A reader beside the slower of two puts.
pub(crate) fn gets_beside_put_against_put() -> World {
    let mut world = put_against_put();
    world.actor(A, "gets", |me| async move { me.get(K).await });
    world
}

pub(crate) fn put_against_own_put() -> World {
    let mut world = World::new(alone());
    for _ in 0..2 {
        world.actor(A, "puts", |me| async move {
            me.put(K).await;
            me.get(K).await;
        });
    }
    world
}

pub(crate) fn put_against_removal() -> World {
    let mut world = World::new(Plan::default());
    world.before(A, |me| async move { me.load(K).await });
    world.actor(A, "puts", |me| async move {
        me.put(K).await;
        me.get(K).await;
    });
    world.actor(B, "removes", |me| async move {
        me.remove(K).await;
        me.get(K).await;
    });
    world
}

/// A put of which others do not hear, and which they may overtake with a load.
pub(crate) fn quiet_put_against_load_and_removal() -> World {
    let mut world = World::new(Plan::default());
    world.actor(A, "puts quietly", |me| async move {
        me.put_quietly(K).await;
        me.get(K).await;
    });
    world.actor(B, "removes, loads", |me| async move {
        me.remove(K).await;
        me.load(K).await;
    });
    world
}

pub(crate) fn pattern_against_loads() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..Plan::default() });
    world.before(B, |me| async move { me.load(OTHER).await });
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(OTHER).await;
    });
    world.actor(B, "removes k:*", |me| async move {
        me.remove_pattern("k:*").await;
        me.get(OTHER).await;
    });
    world
}

pub(crate) fn clear_against_loads() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..Plan::default() });
    world.before(B, |me| async move { me.load(OTHER).await });
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(OTHER).await;
    });
    world.actor(B, "clears", |me| async move {
        me.clear().await;
        me.get(OTHER).await;
    });
    world
}

pub(crate) fn many_against_loads() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..Plan::default() });
    world.before(B, |me| async move { me.load(OTHER).await });
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
        me.load(OTHER).await;
    });
    world.actor(B, "removes both", |me| async move {
        me.remove_both().await;
        me.get(OTHER).await;
    });
    world
}

pub(crate) fn tag_against_load() -> World {
    let mut world = World::new(Plan { tagged: true, ..Plan::default() });
    world.actor(A, "loads", |me| async move {
        me.load_with(K, &tagged()).await;
        me.get(K).await;
    });
    world.actor(B, "revokes the tag", |me| async move {
        me.remove_tag("t", &[K]).await;
        me.get(K).await;
    });
    world
}

pub(crate) fn own_tag_against_load() -> World {
    let mut world = World::new(Plan { tagged: true, ..alone() });
    world.actor(A, "loads", |me| async move { me.load_with(K, &tagged()).await });
    world.actor(A, "revokes the tag", |me| async move {
        me.remove_tag("t", &[K]).await;
        me.load_with(K, &tagged()).await;
    });
    world
}

/// The tag of what the hub holds is revoked while it is copied.
pub(crate) fn tag_against_copy() -> World {
    let mut world = World::new(Plan { tagged: true, ..Plan::default() });
    world.before(B, |me| async move { me.load_with(K, &tagged()).await });
    world.actor(A, "gets", |me| async move {
        me.get(K).await;
        me.get(K).await;
    });
    world.actor(B, "revokes the tag", |me| async move {
        me.remove_tag("t", &[K]).await;
        me.get(K).await;
    });
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

fn deep() -> Plan {
    Plan { below: true, runtime: true, ..Plan::default() }
}

/// Own messages, heard late, only drop what the author dropped.
const B_IS_DEAF: [bool; INSTANCES] = [false, true, false];

/// What only the tier below holds is promoted while a peer removes it.
pub(crate) fn promotion_against_removal() -> World {
    let mut world = World::new(deep());
    world.before(B, |me| async move { me.load(K).await });
    world.shared().evict_from_the_hub(K);
    world.actor(A, "gets", |me| async move { me.get(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// The same by a load, which holds a lease while it looks below.
pub(crate) fn promotion_by_load_against_removal() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..deep() });
    world.before(B, |me| async move { me.load(K).await });
    world.shared().evict_from_the_hub(K);
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

pub(crate) fn load_with_tier_below_against_removal() -> World {
    let mut world = World::new(deep());
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// What was written below by a load that the removal overtook is taken back; until then nobody reads it.
pub(crate) fn load_after_removal_with_tier_below() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..deep() });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    // It is about to write below.
    world.advance(11);
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    // It has removed what is below.
    world.advance(3);
    world.actor(B, "gets", |me| async move { me.get(K).await });
    world
}

pub(crate) fn put_with_tier_below_against_removal() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..deep() });
    world.actor(A, "puts", |me| async move { me.put(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

pub(crate) fn put_against_put_with_tier_below() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..deep() });
    world.actor(A, "puts", |me| async move { me.put(K).await });
    // It is about to write below.
    world.advance(8);
    world.actor(B, "puts", |me| async move { me.put(K).await });
    world.advance(4);
    world
}

pub(crate) fn pattern_with_tier_below_against_load() -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..deep() });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(B, "removes k:*", |me| async move { me.remove_pattern("k:*").await });
    world
}

/// Every instance has an awaited tier of its own below the hub.
pub(crate) fn private_tier_against_a_peers_removal() -> World {
    let mut world = World::new(Plan { private: true, runtime: true, deaf: B_IS_DEAF, ..Plan::default() });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// What was read there while a write that the removal overtook was on its way.
pub(crate) fn private_tier_read_beside_load() -> World {
    let mut world = World::new(Plan { private: true, runtime: true, deaf: B_IS_DEAF, ..Plan::default() });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    // It is about to write there.
    world.advance(11);
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    // It has taken effect.
    world.advance(5);
    world.actor(A, "gets", |me| async move { me.get(K).await });
    world
}

/// A failover before the author of a change has its answer.
pub(crate) fn answer_after_failover() -> World {
    let plan = Plan { runtime: true, only_at_rest: true, polls_at_rest: true, ..Plan::default() };
    let mut world = World::new(plan);
    world.before(A, |me| async move { me.load(K).await });
    world.shared().keep_a_replica();
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world.actor(A, "fails over, removes", |me| async move {
        me.fail_over().await;
        me.remove(OTHER).await;
    });
    world
}

pub(crate) fn private_tier_read_against_a_peers_removal() -> World {
    let mut world = World::new(Plan { private: true, runtime: true, deaf: B_IS_DEAF, ..Plan::default() });
    world.before(A, |me| async move { me.load(K).await });
    world.shared().evict_from_the_hub(K);
    world.actor(A, "gets", |me| async move { me.get(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// A message is lost: the next one shows the gap, and a poll reads what was missed.
pub(crate) fn lost_message() -> World {
    let mut world = World::new(Plan { lost: [1, 0, 0], polls_at_rest: true, ..Plan::default() });
    world.before(A, |me| async move {
        me.load(K).await;
        me.load(OTHER).await;
    });
    world.actor(A, "polls, gets", |me| async move {
        me.poll().await;
        me.get(K).await;
        me.get(OTHER).await;
    });
    world.actor(B, "removes", |me| async move {
        me.remove(K).await;
        me.remove(OTHER).await;
    });
    world
}

/// The log does not keep what was missed.
pub(crate) fn trimmed_log() -> World {
    let mut world =
        World::new(Plan { deaf: [true, false, false], log_length: 1, polls_at_rest: true, ..Plan::default() });
    world.before(A, |me| async move {
        me.load(K).await;
        me.load(OTHER).await;
    });
    world.actor(A, "polls, gets", |me| async move {
        me.poll().await;
        me.get(K).await;
        me.get(OTHER).await;
    });
    world.actor(B, "removes", |me| async move {
        me.remove(K).await;
        me.remove(OTHER).await;
    });
    world
}

/// A failover loses a removal. Its author does it again as soon as it notices.
pub(crate) fn failover() -> World {
    let plan = Plan { runtime: true, only_at_rest: true, polls_at_rest: true, ..Plan::default() };
    let mut world = World::new(plan);
    world.before(A, |me| async move { me.load(K).await });
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
    let plan = Plan { runtime: true, only_at_rest: true, polls_at_rest: true, ..Plan::default() };
    let mut world = World::new(plan);
    world.before(A, |me| async move { me.load(K).await });
    world.shared().keep_a_replica();
    let (removed, heard) = token();
    world.actor(B, "removes", move |me| async move { me.remove_and_tell(K, &removed).await });
    world.actor(A, "fails over, removes", move |me| async move {
        me.wait_for(&heard).await;
        me.fail_over().await;
        me.remove(OTHER).await;
        me.poll().await;
    });
    world
}

/// The position that a read asks for was lost before this instance heard of it.
pub(crate) fn at_least_after_failover() -> World {
    let plan = Plan { runtime: true, deaf: [true, false, false], polls_at_rest: true, ..Plan::default() };
    let mut world = World::new(plan);
    world.before(A, |me| async move { me.load(K).await });
    world.shared().keep_a_replica();
    let (removed, heard) = token();
    world.actor(B, "removes", move |me| async move { me.remove_and_tell(K, &removed).await });
    world.actor(A, "fails over, loads at least", move |me| async move {
        me.wait_for(&heard).await;
        me.fail_over().await;
        me.load_at_least(K, &heard).await;
    });
    world
}

/// The same where it had heard of it, and nobody has noticed the failover yet.
pub(crate) fn at_least_before_a_failover_is_noticed() -> World {
    let mut world = World::new(Plan { runtime: true, polls_at_rest: true, ..Plan::default() });
    world.before(A, |me| async move { me.load(K).await });
    world.shared().keep_a_replica();
    let (removed, heard) = token();
    world.actor(B, "removes", move |me| async move { me.remove_and_tell(K, &removed).await });
    world.actor(A, "fails over, loads at least", move |me| async move {
        me.wait_for(&heard).await;
        me.fail_over().await;
        me.load_at_least(K, &heard).await;
    });
    world
}

fn token() -> (Token, Token) {
    let token = Token::default();
    (Arc::clone(&token), token)
}

/// Read your writes elsewhere: an instance that heard nothing yet reflects a position.
pub(crate) fn at_least() -> World {
    let mut world = World::new(Plan::default());
    world.before(A, |me| async move { me.load(K).await });
    let (told, token) = token();
    world.actor(B, "removes", move |me| async move { me.remove_and_tell(K, &told).await });
    world.actor(A, "loads at least", move |me| async move { me.load_at_least(K, &token).await });
    world
}

pub(crate) fn at_least_without_messages() -> World {
    let mut world = World::new(Plan { deaf: [true, false, false], polls_at_rest: true, ..Plan::default() });
    world.before(A, |me| async move { me.load(K).await });
    let (told, token) = token();
    world.actor(B, "removes", move |me| async move { me.remove_and_tell(K, &told).await });
    world.actor(A, "gets at least", move |me| async move { me.get_at_least(K, &token).await });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world
}

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
    world.actor(A, "loads", |me| async move { me.load(K).await });
    world.actor(A, "loads too", |me| async move { me.load(K).await });
}

/// A writer goes away after so many steps, beside a load.
pub(crate) fn cancelled_removal(steps: usize) -> World {
    let mut world = World::new(Plan { runtime: true, ..alone() });
    world.before(A, |me| async move { me.load(K).await });
    world.actor(A, "removes, goes away", move |me| async move { me.cancelled(steps, me.remove(K)).await });
    world.actor(A, "loads", |me| async move {
        me.load(K).await;
    });
    world
}

/// A put, outside a runtime, where nobody carries it on.
pub(crate) fn cancelled_put(steps: usize) -> World {
    let mut world = World::new(Plan { deaf: B_IS_DEAF, ..Plan::default() });
    world.before(A, |me| async move { me.load(K).await });
    world.actor(A, "puts, goes away", move |me| async move { me.cancelled(steps, me.put(K)).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}

/// Two instances load one key: one loader runs.
pub(crate) fn one_load_in_the_fleet() -> World {
    let mut world = World::new(Plan { waits: true, ..Plan::default() });
    for instance in [A, B] {
        world.actor(instance, "loads", |me| async move { me.load(K).await });
    }
    world.at_rest(|history| if history.loads == 1 { Ok(()) } else { Err(format!("I8: {} loads", history.loads)) });
    world
}

/// And while it is removed.
pub(crate) fn waiting_load_against_removal() -> World {
    // Outside a runtime nobody gives back the lease of a load that was overtaken: it ends with its time.
    let mut world = World::new(Plan { waits: true, step: Duration::from_millis(500), ..Plan::default() });
    world.actor(A, "loads", |me| async move { me.load(K).await });
    // It has the lease.
    world.advance(4);
    world.actor(B, "loads", |me| async move { me.load(K).await });
    world.actor(B, "removes", |me| async move { me.remove(K).await });
    world
}
