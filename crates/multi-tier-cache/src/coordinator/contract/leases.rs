//! Leases, and the fills under them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::{LEASE, SHORT, TTL, ask, fill, fork, granted, keys, put, revocation, revoke, soon, stored};
use crate::coordinator::{Acquire, Acquired, Coordinator, Fence, Fill, Grant, Revocation, Token};

pub(crate) async fn a_lease_is_granted_to_one_load(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(grant.open_below);
    match on.acquire(ask("k")).await.unwrap() {
        Acquired::Busy(left) => assert!(left > Duration::ZERO && left <= LEASE, "{left:?}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(on.acquire(Acquire { refresh: true, ..ask("k") }).await.unwrap(), Acquired::Busy(_)));
    granted(on, ask("other")).await;
}

pub(crate) async fn the_same_load_may_ask_twice(on: &dyn Coordinator) {
    let first = ask("k");
    let grant = granted(on, first).await;
    assert_eq!(granted(on, first).await, grant);
    assert!(on.fill(fill("k", grant)).await.unwrap());
}

pub(crate) async fn asking_again_does_not_renew_an_older_grant(on: &dyn Coordinator) {
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

pub(crate) async fn a_present_value_is_answered_unless_it_is_to_be_refreshed(on: &dyn Coordinator) {
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

pub(crate) async fn a_fill_stores_and_ends_the_lease(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(on.fill(fill("k", grant)).await.unwrap());
    let Acquired::Value(value, Some(left)) = on.acquire(ask("k")).await.unwrap() else { panic!() };
    assert!(value == "loaded" && left <= TTL, "{value:?} {left:?}");
    assert!(!on.fill(fill("k", grant)).await.unwrap());
    granted(on, Acquire { refresh: true, ..ask("k") }).await;
}

pub(crate) async fn a_fill_without_a_lease_is_refused(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(!on.fill(fill("never asked", grant)).await.unwrap());
    on.release("k", grant.token).await.unwrap();
    assert!(!on.fill(fill("k", grant)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
}

pub(crate) async fn a_lease_belongs_to_a_load_not_to_a_client(on: &dyn Coordinator) {
    let old = granted(on, ask("k")).await;
    revoke(on, keys(&["k"])).await;
    let new = granted(on, ask("k")).await;
    assert!(!on.fill(fill("k", old)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    assert!(on.fill(fill("k", new)).await.unwrap());
}

pub(crate) async fn an_expired_lease_refuses_its_fill(on: &dyn Coordinator) {
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

pub(crate) async fn a_value_of_no_life_is_refused_and_ends_the_lease(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    assert!(!on.fill(Fill { ttl: Duration::ZERO, ..fill("k", grant) }).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    granted(on, ask("k")).await;
}

pub(crate) async fn only_its_owner_ends_a_lease(on: &dyn Coordinator) {
    let grant = granted(on, ask("k")).await;
    on.release("k", Token::random()).await.unwrap();
    on.release("nothing", grant.token).await.unwrap();
    assert!(matches!(on.acquire(ask("k")).await.unwrap(), Acquired::Busy(_)));
    on.release("k", grant.token).await.unwrap();
    granted(on, ask("k")).await;
}

pub(crate) async fn a_renewed_lease_lasts_and_stays_what_it_was(on: &dyn Coordinator) {
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

pub(crate) async fn only_a_lease_that_is_held_is_renewed(on: &dyn Coordinator) {
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

pub(crate) async fn a_fill_after_a_removal_is_refused(on: &dyn Coordinator) {
    for announced in [true, false] {
        let grant = granted(on, ask("k")).await;
        on.revoke(Revocation { announced, ..revocation(&keys(&["k"])) }).await.unwrap();
        assert!(!on.fill(fill("k", grant)).await.unwrap());
        assert_eq!(stored(on, "k").await, None);
    }
}

pub(crate) async fn a_removal_concerns_its_keys_only(on: &dyn Coordinator) {
    on.replace("stays", Bytes::from_static(b"1"), TTL).await.unwrap();
    on.replace("goes", Bytes::from_static(b"1"), TTL).await.unwrap();
    let grant = granted(on, ask("loading")).await;
    revoke(on, keys(&["goes", "absent"])).await;
    revoke(on, keys(&[])).await;
    assert_eq!((stored(on, "stays").await.is_some(), stored(on, "goes").await), (true, None));
    assert!(on.fill(fill("loading", grant)).await.unwrap());
}

pub(crate) async fn a_fill_after_the_fence_moved_is_refused(on: &dyn Coordinator) {
    let before = granted(on, ask("k")).await;
    on.fence(Duration::ZERO).await.unwrap();
    assert!(!on.fill(fill("k", before)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    let after = granted(on, ask("k")).await;
    assert_eq!(after.fence, Fence { count: before.fence.count + 1, ..before.fence });
    assert!(on.fill(fill("k", after)).await.unwrap());
}

pub(crate) async fn a_fill_of_another_epoch_is_refused(on: &dyn Coordinator) {
    let before = granted(on, ask("k")).await;
    fork(on).await;
    assert!(!on.fill(fill("k", before)).await.unwrap());
    assert_eq!(stored(on, "k").await, None);
    let after = granted(on, ask("k")).await;
    assert_ne!(after.fence.epoch, before.fence.epoch);
    assert!(on.fill(fill("k", after)).await.unwrap());
}
