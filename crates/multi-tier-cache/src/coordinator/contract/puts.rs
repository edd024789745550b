//! Puts and replacements.

use std::time::Duration;

use bytes::Bytes;

use super::{
    LEASE, SHORT, TTL, ask, fill, granted, keys, put, revocation, revoke, soon, stored, tagged_fill, tags, writers,
};
use crate::coordinator::{Acquired, Change, Coordinator, Fence, Fill, Revocation, TagTokens, Token};
use crate::wire::tagged::{self, Stored, Tags};

pub(crate) async fn a_put_leaves_its_lease_to_the_writer(on: &dyn Coordinator) {
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

pub(crate) async fn the_later_of_two_puts_wins(on: &dyn Coordinator) {
    let (first, second) = (put(on, "k").await, put(on, "k").await);
    assert!(!on.fill(fill("k", first)).await.unwrap());
    assert!(on.fill(fill("k", second)).await.unwrap());
    let third = put(on, "k").await;
    assert_eq!(stored(on, "k").await, None);
    revoke(on, keys(&["k"])).await;
    assert!(!on.fill(fill("k", third)).await.unwrap());
}

pub(crate) async fn a_put_after_the_fence_moved_is_filled(on: &dyn Coordinator) {
    on.fence(Duration::ZERO).await.unwrap();
    let writer = put(on, "k").await;
    assert!(on.fill(fill("k", writer)).await.unwrap());
}

pub(crate) async fn a_put_before_the_fence_moved_is_not(on: &dyn Coordinator) {
    let writer = put(on, "k").await;
    on.fence(Duration::ZERO).await.unwrap();
    assert!(!on.fill(fill("k", writer)).await.unwrap());
    granted(on, ask("k")).await;
}

pub(crate) async fn a_change_answers_the_fence_that_the_next_grant_has(on: &dyn Coordinator) {
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

pub(crate) async fn the_tags_of_a_put_are_created_before_it_is_logged(on: &dyn Coordinator) {
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
        let value = Bytes::from_static(b"put");
        assert!(on.fill(tagged_fill("k", writers(token, revoked), &names, &value)).await.unwrap());
        let Stored::Tagged(head, _) = tagged::decode(stored(on, "k").await.unwrap()) else { panic!() };
        assert_eq!(head, Tags { epoch: revoked.at.epoch, seq: revoked.at.seq, names: names.clone() });
        let TagTokens { epoch, tokens } = on.tag_tokens(&names).await.unwrap();
        assert!(head.hold(epoch, &tokens));
    }
    assert_eq!(on.tag_tokens(&known).await.unwrap().tokens, [Some(before.seq - 1)]);
}

pub(crate) async fn a_tag_revoked_during_a_put_refuses_it(on: &dyn Coordinator) {
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

pub(crate) async fn a_replacement_stores_over_everything(on: &dyn Coordinator) {
    let load = granted(on, ask("k")).await;
    on.replace("k", Bytes::from_static(b"1"), TTL).await.unwrap();
    assert!(!on.fill(fill("k", load)).await.unwrap());
    assert_eq!(stored(on, "k").await.unwrap(), "1");
    on.replace("k", Bytes::from_static(b"2"), Duration::ZERO).await.unwrap();
    assert_eq!(stored(on, "k").await, None);
}
