//! What every coordinator keeps. Each behaviour is a function of one coordinator; [`contract!`] makes a room of tests
//! of it:
//!
//! ```text
//! contract!(memory, ((), Hub::with_log(Clock::system(), LOG_LENGTH)));
//! ```
//!
//! The subject is a pair: whatever must live as long as the coordinator, and the coordinator, whose log keeps
//! [`LOG_LENGTH`] entries.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use tokio::time::{sleep, timeout};

use super::memory::Hub;
use super::message::{self, Message};
use super::{
    Acquire, Acquired, Change, Coordinator, Fence, Fill, Grant, Position, Record, Recorded, Revocation, Revoked, Tag,
    TagTokens, Token,
};
use crate::clock::Clock;
use crate::wire::tagged::{self, Stored, Tags};

pub(super) const LOG_LENGTH: usize = 200;
pub(super) const LEASE: Duration = Duration::from_secs(10);
pub(super) const TTL: Duration = Duration::from_secs(100);
const SHORT: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(20);

macro_rules! contract {
    ($room:ident, $subject:expr) => {
        $crate::coordinator::contract::contract!(@tests $room, $subject;
            a_lease_is_granted_to_one_load,
            the_same_load_may_ask_twice,
            asking_again_does_not_renew_an_older_grant,
            a_present_value_is_answered_unless_it_is_to_be_refreshed,
            a_fill_stores_and_ends_the_lease,
            a_fill_without_a_lease_is_refused,
            a_lease_belongs_to_a_load_not_to_a_client,
            an_expired_lease_refuses_its_fill,
            a_value_of_no_life_is_refused_and_ends_the_lease,
            only_its_owner_ends_a_lease,
            a_renewed_lease_lasts_and_stays_what_it_was,
            only_a_lease_that_is_held_is_renewed,
            a_fill_after_a_removal_is_refused,
            a_removal_concerns_its_keys_only,
            a_fill_after_the_fence_moved_is_refused,
            a_fill_of_another_epoch_is_refused,
            a_put_leaves_its_lease_to_the_writer,
            the_later_of_two_puts_wins,
            a_put_after_the_fence_moved_is_filled,
            a_put_before_the_fence_moved_is_not,
            a_change_answers_the_fence_that_the_next_grant_has,
            the_tags_of_a_put_are_created_before_it_is_logged,
            a_tag_revoked_during_a_put_refuses_it,
            a_replacement_stores_over_everything,
            values_that_look_tagged_come_back_as_they_are,
            a_removal_closes_the_tiers_below_for_its_keys,
            the_fence_closes_them_for_all,
            a_tag_that_was_revoked_refuses_the_fill,
            a_tag_chosen_by_the_loader_is_created_and_compared,
            a_tagged_value_names_its_place_in_the_log,
            tag_tokens_come_in_order_and_unknown_ones_are_missing,
            revoking_a_tag_moves_the_log_in_any_case,
            a_new_epoch_knows_no_tags,
            a_new_log_stands_at_its_beginning,
            the_log_is_dense_and_chained,
            the_log_is_read_in_pages,
            the_log_is_trimmed_to_its_length,
            what_is_not_announced_is_not_logged,
            a_change_of_values_elsewhere_is_only_logged,
            an_unannounced_change_of_values_elsewhere_is_nothing,
            concurrent_changes_keep_the_chain,
            a_fork_ends_the_epoch_of_its_position_once,
            a_fork_ends_an_epoch_wherever_its_log_stands,
            a_message_is_its_log_entry,
            a_thousand_keys_are_one_change,
            any_key_will_do,
        );
    };
    (@tests $room:ident, $subject:expr; $($behaviour:ident),* $(,)?) => {
        mod $room {
            #[allow(unused_imports, reason = "what the subject is made of")]
            use super::*;

            $(
                #[tokio::test]
                async fn $behaviour() {
                    let subject = $subject;
                    $crate::coordinator::contract::$behaviour(&subject.1).await;
                }
            )*
        }
    };
}
pub(super) use contract;

contract!(memory, ((), Hub::with_log(Clock::system(), LOG_LENGTH)));

// What the behaviours are told with.

pub(super) fn ask(key: &str) -> Acquire<'_> {
    Acquire { key, token: Token::random(), lease: LEASE, refresh: false, tags: &[] }
}

pub(super) async fn granted(on: &dyn Coordinator, ask: Acquire<'_>) -> Grant {
    match on.acquire(ask).await.unwrap() {
        Acquired::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

pub(super) fn fill(key: &str, grant: Grant) -> Fill<'_> {
    Fill { key, grant, value: Bytes::from_static(b"loaded"), ttl: TTL, tags: &[] }
}

pub(super) fn revocation(change: &Change) -> Revocation<'_> {
    Revocation {
        change,
        nonce: fastrand::u64(1..),
        with_values: true,
        announced: true,
        tombstone: Duration::ZERO,
        lease: LEASE,
        tags: &[],
    }
}

pub(super) async fn revoke(on: &dyn Coordinator, change: Change) -> Position {
    on.revoke(revocation(&change)).await.unwrap().at
}

pub(super) fn keys(keys: &[&str]) -> Change {
    Change::Keys(keys.iter().map(|key| Arc::from(*key)).collect())
}

pub(super) fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| Tag::from(*name)).collect()
}

pub(super) async fn tail(on: &dyn Coordinator) -> Position {
    on.poll(None).await.unwrap().at
}

/// The bytes under `key`, asked for like a load that does not go on.
pub(super) async fn stored(on: &dyn Coordinator, key: &str) -> Option<Bytes> {
    match on.acquire(ask(key)).await.unwrap() {
        Acquired::Value(value, _) => Some(value),
        Acquired::Busy(_) => None,
        Acquired::Granted(grant) => {
            on.release(key, grant.token).await.unwrap();
            None
        }
    }
}

async fn put(on: &dyn Coordinator, key: &str) -> Grant {
    let token = Token::random();
    let change = Change::Put(key.into(), token);
    writers(token, on.revoke(revocation(&change)).await.unwrap())
}

/// What a put fills under.
fn writers(token: Token, Revoked { at, fence }: Revoked) -> Grant {
    Grant { token, fence, seq: at.seq, open_below: false }
}

async fn fork(on: &dyn Coordinator) -> Position {
    let before = tail(on).await;
    on.poll(Some(before)).await.unwrap().at
}

async fn soon<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let until = async {
        while !holds().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, until).await.expect("it never came about");
}

fn is_chained(records: &[Record], before: Position) {
    let mut last = before;
    for record in records {
        assert_eq!((record.at.epoch, record.at.seq), (last.epoch, last.seq + 1), "{record:?}");
        assert_eq!(record.previous, last.nonce, "{record:?}");
        last = record.at;
    }
}

// Leases and fills.

pub(super) async fn a_lease_is_granted_to_one_load(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(grant.open_below);
    match on.acquire(ask("k")).await.unwrap() {
        Acquired::Busy(left) => assert!(left > Duration::ZERO && left <= LEASE, "{left:?}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(on.acquire(Acquire { refresh: true, ..ask("k") }).await.unwrap(), Acquired::Busy(_)));
    granted(on, ask("other")).await;
}

pub(super) async fn the_same_load_may_ask_twice(on: &dyn Coordinator) {
    let first = ask("k");
    let grant = granted(on, first).await;
    assert_eq!(granted(on, first).await, grant);
    assert!(on.fill(fill("k", grant)).await.unwrap());
}

pub(super) async fn asking_again_does_not_renew_an_older_grant(on: &dyn Coordinator) {
    let moved = ask("fence");
    let first = granted(on, moved).await;
    on.fence(Duration::ZERO).await.unwrap();
    granted(on, moved).await;
    assert!(!on.fill(fill("fence", first)).await.unwrap());

    let forked = ask("epoch");
    let first = granted(on, forked).await;
    fork(on).await;
    granted(on, forked).await;
    assert!(!on.fill(fill("epoch", first)).await.unwrap());

    // The lease is still that of the first grant: whoever got the second answer may have begun under the first.
    let again = ask("again");
    granted(on, again).await;
    on.fence(Duration::ZERO).await.unwrap();
    let second = granted(on, again).await;
    assert!(!on.fill(fill("again", second)).await.unwrap());
    let third = granted(on, again).await;
    assert!(on.fill(fill("again", third)).await.unwrap());
}

pub(super) async fn a_present_value_is_answered_unless_it_is_to_be_refreshed(on: &dyn Coordinator) {
    on.replace("k", Bytes::from_static(b"present"), TTL).await.unwrap();
    match on.acquire(ask("k")).await.unwrap() {
        Acquired::Value(value, Some(left)) => {
            assert_eq!(value, "present");
            assert!(left > TTL / 2 && left <= TTL, "{left:?}");
        }
        other => panic!("{other:?}"),
    }
    let grant = granted(on, Acquire { refresh: true, ..ask("k") }).await;
    assert!(matches!(on.acquire(ask("k")).await.unwrap(), Acquired::Value(..)));
    assert_eq!(stored(on, "k").await.unwrap(), "present");
    assert!(on.fill(fill("k", grant)).await.unwrap());
    assert_eq!(stored(on, "k").await.unwrap(), "loaded");
}

pub(super) async fn a_fill_stores_and_ends_the_lease(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(on.fill(fill("k", grant)).await.unwrap());
    let Acquired::Value(value, Some(left)) = on.acquire(ask("k")).await.unwrap() else { panic!() };
    assert!(value == "loaded" && left <= TTL, "{value:?} {left:?}");
    assert!(!on.fill(fill("k", grant)).await.unwrap());
    granted(on, Acquire { refresh: true, ..ask("k") }).await;
}

pub(super) async fn a_fill_without_a_lease_is_refused(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(!on.fill(fill("never asked", grant)).await.unwrap());
    on.release("k", grant.token).await.unwrap();
    assert!(!on.fill(fill("k", grant)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
}

pub(super) async fn a_lease_belongs_to_a_load_not_to_a_client(on: &dyn Coordinator) {
    let old = granted(on, ask("k")).await;
    revoke(on, keys(&["k"])).await;
    let new = granted(on, ask("k")).await;
    assert!(!on.fill(fill("k", old)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    assert!(on.fill(fill("k", new)).await.unwrap());
}

pub(super) async fn an_expired_lease_refuses_its_fill(on: &dyn Coordinator) {
    let old = granted(on, Acquire { lease: SHORT, ..ask("k") }).await;
    let token = Token::random();
    let again = || async { matches!(on.acquire(Acquire { token, ..ask("k") }).await.unwrap(), Acquired::Granted(_)) };
    soon(again).await;
    assert!(!on.fill(fill("k", old)).await.unwrap());
    assert!(on.fill(fill("k", Grant { token, ..old })).await.unwrap());

    let alone = granted(on, Acquire { lease: SHORT, ..ask("alone") }).await;
    sleep(SHORT * 2).await;
    assert!(!on.fill(fill("alone", alone)).await.unwrap());
}

pub(super) async fn a_value_of_no_life_is_refused_and_ends_the_lease(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(!on.fill(Fill { ttl: Duration::ZERO, ..fill("k", grant) }).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    granted(on, ask("k")).await;
}

pub(super) async fn only_its_owner_ends_a_lease(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    on.release("k", Token::random()).await.unwrap();
    on.release("nothing", grant.token).await.unwrap();
    assert!(matches!(on.acquire(ask("k")).await.unwrap(), Acquired::Busy(_)));
    on.release("k", grant.token).await.unwrap();
    granted(on, ask("k")).await;
}

pub(super) async fn a_renewed_lease_lasts_and_stays_what_it_was(on: &dyn Coordinator) {
    let grant = granted(on, ask("longer")).await;
    assert!(on.renew("longer", grant.token, LEASE * 10).await.unwrap());
    match on.acquire(ask("longer")).await.unwrap() {
        Acquired::Busy(left) => assert!(left > LEASE && left <= LEASE * 10, "{left:?}"),
        other => panic!("{other:?}"),
    }
    assert!(on.fill(fill("longer", grant)).await.unwrap());

    let short = granted(on, ask("shorter")).await;
    assert!(on.renew("shorter", short.token, SHORT).await.unwrap());
    soon(|| async { matches!(on.acquire(ask("shorter")).await.unwrap(), Acquired::Granted(_)) }).await;
    assert!(!on.fill(fill("shorter", short)).await.unwrap());

    // The fence is still that of the grant.
    let fenced = granted(on, ask("fenced")).await;
    on.fence(Duration::ZERO).await.unwrap();
    assert!(on.renew("fenced", fenced.token, LEASE).await.unwrap());
    assert!(!on.fill(fill("fenced", fenced)).await.unwrap());

    let writer = put(on, "put").await;
    assert!(on.renew("put", writer.token, LEASE).await.unwrap());
    assert!(on.fill(fill("put", writer)).await.unwrap());
}

pub(super) async fn only_a_lease_that_is_held_is_renewed(on: &dyn Coordinator) {
    let grant = granted(on, Acquire { lease: SHORT, ..ask("k") }).await;
    assert!(!on.renew("k", Token::random(), LEASE * 10).await.unwrap());
    assert!(!on.renew("never asked", grant.token, LEASE).await.unwrap());
    let other = Acquire { lease: LEASE, ..ask("k") };
    soon(|| async { matches!(on.acquire(other).await.unwrap(), Acquired::Granted(_)) }).await;
    assert!(!on.renew("k", grant.token, LEASE).await.unwrap());
    assert!(on.renew("k", other.token, LEASE).await.unwrap());

    revoke(on, keys(&["k"])).await;
    assert!(!on.renew("k", other.token, LEASE).await.unwrap());
    for end in ["release", "fill", "replace"] {
        let grant = granted(on, ask(end)).await;
        match end {
            "release" => on.release(end, grant.token).await.unwrap(),
            "fill" => assert!(on.fill(fill(end, grant)).await.unwrap()),
            _ => on.replace(end, Bytes::from_static(b"v"), TTL).await.unwrap(),
        }
        assert!(!on.renew(end, grant.token, LEASE).await.unwrap(), "{end}");
    }

    let gone = granted(on, Acquire { lease: SHORT, ..ask("gone") }).await;
    sleep(SHORT * 2).await;
    assert!(!on.renew("gone", gone.token, LEASE).await.unwrap());
    granted(on, ask("gone")).await;
}

pub(super) async fn a_fill_after_a_removal_is_refused(on: &dyn Coordinator) {
    for announced in [true, false] {
        let grant = granted(on, ask("k")).await;
        on.revoke(Revocation { announced, ..revocation(&keys(&["k"])) }).await.unwrap();
        assert!(!on.fill(fill("k", grant)).await.unwrap());
        assert_eq!(stored(on, "k").await, None);
    }
}

pub(super) async fn a_removal_concerns_its_keys_only(on: &dyn Coordinator) {
    on.replace("stays", Bytes::from_static(b"1"), TTL).await.unwrap();
    on.replace("goes", Bytes::from_static(b"1"), TTL).await.unwrap();
    let grant = granted(on, ask("loading")).await;
    revoke(on, keys(&["goes", "absent"])).await;
    revoke(on, keys(&[])).await;
    assert_eq!((stored(on, "stays").await.is_some(), stored(on, "goes").await), (true, None));
    assert!(on.fill(fill("loading", grant)).await.unwrap());
}

pub(super) async fn a_fill_after_the_fence_moved_is_refused(on: &dyn Coordinator) {
    let before = granted(on, ask("k")).await;
    on.fence(Duration::ZERO).await.unwrap();
    assert!(!on.fill(fill("k", before)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    let after = granted(on, ask("k")).await;
    assert_eq!(after.fence, Fence { count: before.fence.count + 1, ..before.fence });
    assert!(on.fill(fill("k", after)).await.unwrap());
}

pub(super) async fn a_fill_of_another_epoch_is_refused(on: &dyn Coordinator) {
    let before = granted(on, ask("k")).await;
    fork(on).await;
    assert!(!on.fill(fill("k", before)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    let after = granted(on, ask("k")).await;
    assert_ne!(after.fence.epoch, before.fence.epoch);
    assert!(on.fill(fill("k", after)).await.unwrap());
}

// Puts.

pub(super) async fn a_put_leaves_its_lease_to_the_writer(on: &dyn Coordinator) {
    let load = granted(on, ask("k")).await;
    let writer = put(on, "k").await;
    assert!(matches!(on.acquire(ask("k")).await.unwrap(), Acquired::Busy(_)));
    assert!(!on.fill(fill("k", load)).await.unwrap());
    assert!(on.fill(Fill { value: Bytes::from_static(b"put"), ..fill("k", writer) }).await.unwrap());
    assert_eq!(stored(on, "k").await.unwrap(), "put");

    let short = Change::Put("short".into(), Token::random());
    on.revoke(Revocation { lease: SHORT, ..revocation(&short) }).await.unwrap();
    soon(|| async { matches!(on.acquire(ask("short")).await.unwrap(), Acquired::Granted(_)) }).await;
}

pub(super) async fn the_later_of_two_puts_wins(on: &dyn Coordinator) {
    let (first, second) = (put(on, "k").await, put(on, "k").await);
    assert!(!on.fill(fill("k", first)).await.unwrap());
    assert!(on.fill(fill("k", second)).await.unwrap());
    let third = put(on, "k").await;
    assert_eq!(stored(on, "k").await, None);
    revoke(on, keys(&["k"])).await;
    assert!(!on.fill(fill("k", third)).await.unwrap());
}

pub(super) async fn a_put_after_the_fence_moved_is_filled(on: &dyn Coordinator) {
    on.fence(Duration::ZERO).await.unwrap();
    let writer = put(on, "k").await;
    assert!(on.fill(fill("k", writer)).await.unwrap());
}

pub(super) async fn a_put_before_the_fence_moved_is_not(on: &dyn Coordinator) {
    let writer = put(on, "k").await;
    on.fence(Duration::ZERO).await.unwrap();
    assert!(!on.fill(fill("k", writer)).await.unwrap());
    granted(on, ask("k")).await;
}

pub(super) async fn a_change_answers_the_fence_that_the_next_grant_has(on: &dyn Coordinator) {
    let changes = [
        keys(&["k"]),
        Change::Put("put".into(), Token::random()),
        Change::Tag("t".into()),
        Change::Pattern("*".into()),
    ];
    for round in 0..3 {
        for (change, announced) in changes.iter().flat_map(|change| [(change, true), (change, false)]) {
            let revoked = on.revoke(Revocation { announced, ..revocation(change) }).await.unwrap();
            let grant = granted(on, ask("k")).await;
            assert_eq!((revoked.fence, revoked.at.seq), (grant.fence, grant.seq), "{change:?} {announced}");
            assert_eq!(revoked.fence, Fence { epoch: revoked.at.epoch, count: round });
            on.release("k", grant.token).await.unwrap();
        }
        on.fence(Duration::ZERO).await.unwrap();
    }
}

pub(super) async fn the_tags_of_a_put_are_created_before_it_is_logged(on: &dyn Coordinator) {
    let (known, names) = (tags(&["known"]), tags(&["new", "known", "other"]));
    revoke(on, Change::Tag("known".into())).await;
    let before = revoke(on, keys(&["another"])).await;
    for announced in [true, false] {
        let token = Token::random();
        let change = Change::Put("k".into(), token);
        let revoked =
            on.revoke(Revocation { announced, tombstone: LEASE, tags: &names, ..revocation(&change) }).await.unwrap();
        let (old, new) = (Some(before.seq - 1), Some(before.seq));
        assert_eq!(on.tag_tokens(&names).await.unwrap().tokens, [new, old, new]);
        // Because they are there, the writer is not refused for what else happens meanwhile.
        revoke(on, keys(&["another"])).await;
        revoke(on, Change::Tag("another".into())).await;
        assert!(on.fill(Fill { tags: &names, ..fill("k", writers(token, revoked)) }).await.unwrap());
        let Stored::Tagged(head, _) = tagged::decode(stored(on, "k").await.unwrap()) else { panic!() };
        assert_eq!(head, Tags { epoch: revoked.at.epoch, seq: revoked.at.seq, names: names.clone() });
        let TagTokens { epoch, tokens } = on.tag_tokens(&names).await.unwrap();
        assert!(head.hold(epoch, &tokens));
    }
    assert_eq!(on.tag_tokens(&known).await.unwrap().tokens, [Some(before.seq - 1)]);
}

pub(super) async fn a_tag_revoked_during_a_put_refuses_it(on: &dyn Coordinator) {
    let names = tags(&["a", "b"]);
    for announced in [true, false] {
        let token = Token::random();
        let change = Change::Put("k".into(), token);
        let revoked = on.revoke(Revocation { announced, tags: &names, ..revocation(&change) }).await.unwrap();
        revoke(on, Change::Tag("b".into())).await;
        assert!(!on.fill(Fill { tags: &names, ..fill("k", writers(token, revoked)) }).await.unwrap());
        assert_eq!(stored(on, "k").await, None);
    }
}

pub(super) async fn a_replacement_stores_over_everything(on: &dyn Coordinator) {
    let load = granted(on, ask("k")).await;
    on.replace("k", Bytes::from_static(b"1"), TTL).await.unwrap();
    assert!(!on.fill(fill("k", load)).await.unwrap());
    assert_eq!(stored(on, "k").await.unwrap(), "1");
    on.replace("k", Bytes::from_static(b"2"), Duration::ZERO).await.unwrap();
    assert_eq!(stored(on, "k").await, None);
}

pub(super) async fn values_that_look_tagged_come_back_as_they_are(on: &dyn Coordinator) {
    let odd = tagged::with_tags(1, 2, &tags(&["t"]), Bytes::from_static(b"inner"));
    on.replace("replaced", odd.clone(), TTL).await.unwrap();
    let grant = granted(on, ask("filled")).await;
    assert!(on.fill(Fill { value: odd.clone(), ..fill("filled", grant) }).await.unwrap());
    for key in ["replaced", "filled"] {
        assert_eq!(tagged::decode(stored(on, key).await.unwrap()), Stored::Plain(odd.clone()), "{key}");
    }
}

// The tiers below.

pub(super) async fn a_removal_closes_the_tiers_below_for_its_keys(on: &dyn Coordinator) {
    assert!(on.open_below("k").await.unwrap());
    revoke(on, keys(&["k"])).await;
    assert!(on.open_below("k").await.unwrap());
    let (removal, put) = (keys(&["k", "l"]), Change::Put("m".into(), Token::random()));
    for change in [&removal, &put] {
        on.revoke(Revocation { tombstone: LEASE, ..revocation(change) }).await.unwrap();
    }
    for (key, open) in [("k", false), ("l", false), ("m", false), ("n", true)] {
        assert_eq!(on.open_below(key).await.unwrap(), open, "{key}");
    }
    assert!(!granted(on, ask("k")).await.open_below);
    assert!(granted(on, ask("n")).await.open_below);
    on.revoke(Revocation { tombstone: SHORT, announced: false, ..revocation(&keys(&["o"])) }).await.unwrap();
    soon(|| async { on.open_below("o").await.unwrap() }).await;
}

pub(super) async fn the_fence_closes_them_for_all(on: &dyn Coordinator) {
    on.fence(Duration::ZERO).await.unwrap();
    soon(|| async { on.open_below("k").await.unwrap() }).await;
    on.fence(SHORT).await.unwrap();
    soon(|| async { on.open_below("k").await.unwrap() }).await;
    on.fence(LEASE).await.unwrap();
    on.fence(Duration::ZERO).await.unwrap();
    assert!(!on.open_below("k").await.unwrap());
    assert!(!granted(on, ask("k")).await.open_below);
}

// Tags.

pub(super) async fn a_tag_that_was_revoked_refuses_the_fill(on: &dyn Coordinator) {
    let (a, b, both) = (tags(&["a"]), tags(&["b"]), tags(&["a", "b"]));
    revoke(on, Change::Tag("a".into())).await;
    let first = granted(on, Acquire { tags: &both, ..ask("1") }).await;
    let second = granted(on, Acquire { tags: &b, ..ask("2") }).await;
    let third = granted(on, ask("3")).await;
    revoke(on, Change::Tag("a".into())).await;
    assert!(!on.fill(Fill { tags: &both, ..fill("1", first) }).await.unwrap());
    assert_eq!(stored(on, "1").await, None);
    assert!(on.fill(Fill { tags: &b, ..fill("2", second) }).await.unwrap());
    assert!(on.fill(fill("3", third)).await.unwrap());
    let again = granted(on, Acquire { tags: &a, ..ask("1") }).await;
    assert!(on.fill(Fill { tags: &a, ..fill("1", again) }).await.unwrap());
}

pub(super) async fn a_tag_chosen_by_the_loader_is_created_and_compared(on: &dyn Coordinator) {
    let chosen = tags(&["chosen"]);
    let quiet = granted(on, ask("1")).await;
    assert!(on.fill(Fill { tags: &chosen, ..fill("1", quiet) }).await.unwrap());

    let late = tags(&["late"]);
    let moved = granted(on, ask("2")).await;
    revoke(on, keys(&["another"])).await;
    assert!(!on.fill(Fill { tags: &late, ..fill("2", moved) }).await.unwrap());
    assert_eq!(on.tag_tokens(&late).await.unwrap().tokens, [Some(tail(on).await.seq)]);
    let again = granted(on, ask("2")).await;
    assert!(on.fill(Fill { tags: &late, ..fill("2", again) }).await.unwrap());

    let known = granted(on, ask("3")).await;
    revoke(on, keys(&["another"])).await;
    assert!(on.fill(Fill { tags: &chosen, ..fill("3", known) }).await.unwrap());
}

pub(super) async fn a_tagged_value_names_its_place_in_the_log(on: &dyn Coordinator) {
    let at = revoke(on, keys(&["another"])).await;
    let names = tags(&["a", "b"]);
    let grant = granted(on, Acquire { tags: &names, ..ask("k") }).await;
    assert_eq!((grant.fence.epoch, grant.seq), (at.epoch, at.seq));
    assert!(on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
    let Acquired::Value(value, _) = on.acquire(ask("k")).await.unwrap() else { panic!() };
    let Stored::Tagged(head, value) = tagged::decode(value) else { panic!() };
    assert_eq!(head, Tags { epoch: at.epoch, seq: at.seq, names: names.clone() });
    assert_eq!(value, "loaded");
    let holds = || async {
        let TagTokens { epoch, tokens } = on.tag_tokens(&names).await.unwrap();
        head.hold(epoch, &tokens)
    };
    assert!(holds().await);
    revoke(on, Change::Tag("b".into())).await;
    assert!(!holds().await);
}

pub(super) async fn tag_tokens_come_in_order_and_unknown_ones_are_missing(on: &dyn Coordinator) {
    let asked: Vec<Tag> = (0..1_200).map(|number| Tag::from(format!("t{number}"))).collect();
    let revoked = revoke(on, Change::Tag("t7".into())).await;
    let last = revoke(on, Change::Tag("t1199".into())).await;
    let TagTokens { epoch, tokens } = on.tag_tokens(&asked).await.unwrap();
    assert_eq!((epoch, tokens.len()), (last.epoch, asked.len()));
    for (number, token) in tokens.into_iter().enumerate() {
        let expected = match number {
            7 => Some(revoked.seq),
            1_199 => Some(last.seq),
            _ => None,
        };
        assert_eq!(token, expected, "{number}");
    }
    assert_eq!(on.tag_tokens(&[]).await.unwrap(), TagTokens { epoch, tokens: vec![] });
}

pub(super) async fn revoking_a_tag_moves_the_log_in_any_case(on: &dyn Coordinator) {
    let names = tags(&["a"]);
    let before = tail(on).await;
    let grant = granted(on, Acquire { tags: &names, ..ask("k") }).await;
    let change = Change::Tag("a".into());
    let at = on.revoke(Revocation { announced: false, ..revocation(&change) }).await.unwrap().at;
    assert_eq!((at.seq, tail(on).await), (before.seq + 1, at));
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
    // Where others listen to the log, it has no gap.
    is_chained(&on.read_log(0, 10).await.unwrap(), before);
}

pub(super) async fn a_new_epoch_knows_no_tags(on: &dyn Coordinator) {
    let names = tags(&["a"]);
    for _ in 0..3 {
        revoke(on, Change::Tag("a".into())).await;
    }
    fork(on).await;
    assert_eq!(on.tag_tokens(&names).await.unwrap().tokens, [None]);
    // The number of the old token is ahead of the new log; it must not keep the tag from being used.
    let grant = granted(on, Acquire { tags: &names, ..ask("k") }).await;
    assert!(on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
}

// The log.

pub(super) async fn a_new_log_stands_at_its_beginning(on: &dyn Coordinator) {
    let first = on.poll(None).await.unwrap();
    assert_eq!((first.at.seq, first.at.nonce), (0, 0));
    let second = on.poll(None).await.unwrap();
    assert!(second.at == first.at && second.clock >= first.clock, "{first:?} {second:?}");
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
    soon(|| async { on.poll(None).await.unwrap().clock > first.clock }).await;
}

pub(super) async fn the_log_is_dense_and_chained(on: &dyn Coordinator) {
    let start = tail(on).await;
    let changes = [
        keys(&["k"]),
        keys(&["k", "l"]),
        keys(&[]),
        Change::Put("k".into(), Token::random()),
        Change::Pattern("k*".into()),
        Change::Tag("t".into()),
        Change::Clear,
    ];
    let mut positions = Vec::new();
    for change in &changes {
        positions.push(on.revoke(revocation(change)).await.unwrap().at);
        assert_eq!(tail(on).await, *positions.last().unwrap());
    }
    let records = on.read_log(start.seq, 100).await.unwrap();
    is_chained(&records, start);
    assert_eq!(records.iter().map(|record| record.at).collect::<Vec<_>>(), positions);
    let expected: Vec<_> = changes.iter().map(Recorded::from).collect();
    assert_eq!(records.into_iter().map(|record| record.change).collect::<Vec<_>>(), expected);
}

pub(super) async fn the_log_is_read_in_pages(on: &dyn Coordinator) {
    for _ in 0..12 {
        revoke(on, keys(&["k"])).await;
    }
    let seqs = |records: Vec<Record>| records.iter().map(|record| record.at.seq).collect::<Vec<_>>();
    assert_eq!(seqs(on.read_log(0, 5).await.unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(on.read_log(9, 5).await.unwrap()), [10, 11, 12]);
    for (after, count) in [(12, 5), (13, 5), (u64::MAX, 5), (0, 0)] {
        assert_eq!(on.read_log(after, count).await.unwrap(), [], "{after} {count}");
    }
}

pub(super) async fn the_log_is_trimmed_to_its_length(on: &dyn Coordinator) {
    let added = LOG_LENGTH * 3;
    for _ in 0..added {
        revoke(on, keys(&["k"])).await;
    }
    let records = on.read_log(0, added).await.unwrap();
    assert!(records.len() >= LOG_LENGTH && records.len() <= LOG_LENGTH * 2, "{}", records.len());
    let before = Position { seq: records[0].at.seq - 1, nonce: records[0].previous, ..records[0].at };
    is_chained(&records, before);
    assert_eq!(records.last().unwrap().at, tail(on).await);
}

pub(super) async fn what_is_not_announced_is_not_logged(on: &dyn Coordinator) {
    let at = revoke(on, keys(&["k"])).await;
    for change in [keys(&["k"]), Change::Put("k".into(), Token::random()), Change::Pattern("*".into()), Change::Clear] {
        let quiet = Revocation { announced: false, ..revocation(&change) };
        assert_eq!(on.revoke(quiet).await.unwrap().at, at, "{change:?}");
    }
    assert_eq!((tail(on).await, on.read_log(0, 10).await.unwrap().len()), (at, 1));
}

/// The values are kept by another server, with their leases, tombstones and tags.
pub(super) async fn a_change_of_values_elsewhere_is_only_logged(on: &dyn Coordinator) {
    let (known, unknown) = (tags(&["known"]), tags(&["unknown"]));
    on.replace("value", Bytes::from_static(b"1"), TTL).await.unwrap();
    on.fence(Duration::ZERO).await.unwrap();
    let start = revoke(on, Change::Tag("known".into())).await;
    let load = granted(on, Acquire { tags: &known, ..ask("load") }).await;
    let mut messages = on.listen().await.unwrap();
    let changes = [
        keys(&["value", "load", "free"]),
        Change::Put("value".into(), Token::random()),
        Change::Put("load".into(), Token::random()),
        Change::Put("free".into(), Token::random()),
        Change::Tag("known".into()),
        Change::Tag("unknown".into()),
        Change::Pattern("*".into()),
        Change::Clear,
    ];
    for (number, change) in changes.iter().enumerate() {
        let only_logged = Revocation { with_values: false, tombstone: LEASE, tags: &unknown, ..revocation(change) };
        let Revoked { at, fence } = on.revoke(only_logged).await.unwrap();
        assert_eq!((at, at.seq), (tail(on).await, start.seq + 1 + number as u64), "{change:?}");
        assert_eq!(fence, load.fence, "{change:?}");
        let payload = timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
        let Message::Logged(record) = message::parse(&payload).unwrap() else { panic!("{change:?}") };
        assert_eq!((record.at, record.change), (at, Recorded::from(change)));
    }
    is_chained(&on.read_log(start.seq, 100).await.unwrap(), start);

    assert_eq!(stored(on, "value").await.unwrap(), "1");
    for key in ["value", "load", "free"] {
        assert!(on.open_below(key).await.unwrap(), "{key}");
    }
    assert_eq!(on.tag_tokens(&[&*known, &*unknown].concat()).await.unwrap().tokens, [Some(start.seq), None]);
    assert!(on.fill(Fill { tags: &known, ..fill("load", load) }).await.unwrap());
    granted(on, ask("free")).await;
}

pub(super) async fn an_unannounced_change_of_values_elsewhere_is_nothing(on: &dyn Coordinator) {
    on.replace("k", Bytes::from_static(b"1"), TTL).await.unwrap();
    let start = revoke(on, keys(&["another"])).await;
    for change in [keys(&["k"]), Change::Put("k".into(), Token::random()), Change::Tag("t".into()), Change::Clear] {
        let nothing = Revocation { with_values: false, announced: false, tombstone: LEASE, ..revocation(&change) };
        assert_eq!(on.revoke(nothing).await.unwrap().at, start, "{change:?}");
    }
    assert_eq!((tail(on).await, on.read_log(0, 10).await.unwrap().len()), (start, 1));
    assert_eq!(on.tag_tokens(&tags(&["t"])).await.unwrap().tokens, [None]);
    assert_eq!(stored(on, "k").await.unwrap(), "1");
}

pub(super) async fn concurrent_changes_keep_the_chain(on: &dyn Coordinator) {
    let start = tail(on).await;
    let changes: Vec<_> = (0..100).map(|number| keys(&[&format!("k{number}")])).collect();
    let positions = join_all(changes.iter().map(|change| on.revoke(revocation(change)))).await;
    let mut positions: Vec<_> = positions.into_iter().map(|revoked| revoked.unwrap().at).collect();
    positions.sort_by_key(|at| at.seq);
    let records = on.read_log(start.seq, 1_000).await.unwrap();
    is_chained(&records, start);
    assert_eq!(records.iter().map(|record| record.at).collect::<Vec<_>>(), positions);
}

pub(super) async fn a_fork_ends_the_epoch_of_its_position_once(on: &dyn Coordinator) {
    let first = revoke(on, keys(&["k"])).await;
    let second = revoke(on, keys(&["k"])).await;
    for epoch in [second.epoch ^ 1, 0, u64::MAX] {
        assert_eq!(on.poll(Some(Position { epoch, ..second })).await.unwrap().at, second, "{epoch}");
    }
    assert_eq!(on.read_log(0, 10).await.unwrap().len(), 2);
    let (one, other) = join(on.poll(Some(second)), on.poll(Some(first))).await;
    let new = one.unwrap().at;
    assert_eq!(other.unwrap().at, new);
    assert!(new.epoch != second.epoch && new.seq == 0 && new.nonce == 0, "{new:?}");
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
    assert_eq!(on.poll(Some(second)).await.unwrap().at, new);
    let next = revoke(on, keys(&["k"])).await;
    assert_eq!((next.epoch, next.seq), (new.epoch, 1));
    is_chained(&on.read_log(0, 10).await.unwrap(), new);
}

pub(super) async fn a_fork_ends_an_epoch_wherever_its_log_stands(on: &dyn Coordinator) {
    let known = revoke(on, keys(&["k"])).await;
    for forked in [known, Position { seq: 0, nonce: 0, ..known }, Position { seq: u64::MAX, ..known }] {
        let before = revoke(on, keys(&["k"])).await;
        let after = on.poll(Some(Position { epoch: before.epoch, ..forked })).await.unwrap().at;
        assert!(after.epoch != before.epoch && after.seq == 0 && after.nonce == 0, "{forked} {after}");
    }
}

pub(super) async fn a_message_is_its_log_entry(on: &dyn Coordinator) {
    let mut messages = on.listen().await.unwrap();
    let mut others = on.listen().await.unwrap();
    for change in [
        keys(&["k"]),
        keys(&["k\"\\\r\n\0ü", "l"]),
        Change::Put("k".into(), Token::random()),
        Change::Pattern("k*".into()),
        Change::Tag("t".into()),
        Change::Clear,
    ] {
        on.revoke(Revocation { announced: false, ..revocation(&keys(&["quiet"])) }).await.unwrap();
        let at = on.revoke(revocation(&change)).await.unwrap().at;
        let payload = timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
        let logged = on.read_log(at.seq - 1, 10).await.unwrap();
        assert_eq!(message::parse(&payload).unwrap(), Message::Logged(logged[0].clone()));
        assert_eq!((logged[0].at, logged.len()), (at, 1));
        assert_eq!(timeout(PATIENCE, others.next()).await.unwrap().unwrap(), payload);
    }
}

// Sizes and names.

pub(super) async fn a_thousand_keys_are_one_change(on: &dyn Coordinator) {
    let names: Vec<String> = (0..1_000).map(|number| format!("key:{number}")).collect();
    for key in names.iter().step_by(7) {
        on.replace(key, Bytes::from_static(b"v"), TTL).await.unwrap();
    }
    let load = granted(on, ask("key:1")).await;
    let change = Change::Keys(names.iter().map(|key| Arc::from(&**key)).collect());
    let before = tail(on).await;
    let at = on.revoke(Revocation { tombstone: LEASE, ..revocation(&change) }).await.unwrap().at;
    assert_eq!(at.seq, before.seq + 1);
    assert!(!on.fill(fill("key:1", load)).await.unwrap());
    for key in names.iter().step_by(7) {
        assert_eq!((stored(on, key).await, on.open_below(key).await.unwrap()), (None, false), "{key}");
    }
    assert!(on.open_below("key:1000").await.unwrap());
    assert_eq!(on.read_log(before.seq, 10).await.unwrap()[0].change, Recorded::from(&change));
}

pub(super) async fn any_key_will_do(on: &dyn Coordinator) {
    let long = "k".repeat(64 * 1024);
    let odd = [
        "",
        " ",
        "{",
        "}",
        "{}",
        "{a}",
        "{a}b",
        "a{b",
        "a}b{",
        "\0",
        "a\r\nb",
        "ключ🔑",
        "\u{7f}\"'\\",
        "*?[a]",
        &long,
    ];
    for (number, key) in odd.into_iter().enumerate() {
        let value = Bytes::from(format!("{number}"));
        let names = tags(&[key.get(..100).unwrap_or(key)]);
        let grant = granted(on, Acquire { tags: &names, ..ask(key) }).await;
        assert!(on.fill(Fill { tags: &names, value: value.clone(), ..fill(key, grant) }).await.unwrap(), "{number}");
    }
    for (number, key) in odd.into_iter().enumerate() {
        let Stored::Tagged(_, value) = tagged::decode(stored(on, key).await.unwrap()) else { panic!("{number}") };
        assert_eq!(value, number.to_string(), "{number}");
        let before = tail(on).await;
        let change = keys(&[key]);
        on.revoke(Revocation { tombstone: LEASE, ..revocation(&change) }).await.unwrap();
        assert_eq!((stored(on, key).await, on.open_below(key).await.unwrap()), (None, false), "{number}");
        assert_eq!(on.read_log(before.seq, 1).await.unwrap()[0].change, Recorded::from(&change));
    }
}
