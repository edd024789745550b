//! Tags and their tokens.

use bytes::Bytes;

use super::{ask, fill, fork, granted, is_chained, keys, revocation, revoke, stored, tagged_fill, tags, tail};
use crate::coordinator::{Acquire, Acquired, Change, Coordinator, Fill, Revocation, Tag, TagTokens};
use crate::wire::tagged::{self, Stored, Tags};

pub(crate) async fn a_tag_that_was_revoked_refuses_the_fill(on: &dyn Coordinator) {
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

pub(crate) async fn a_tag_chosen_by_the_loader_is_created_and_compared(on: &dyn Coordinator) {
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

pub(crate) async fn a_tagged_value_names_its_place_in_the_log(on: &dyn Coordinator) {
    let at = revoke(on, keys(&["another"])).await;
    let names = tags(&["a", "b"]);
    let grant = granted(on, Acquire { tags: &names, ..ask("k") }).await;
    assert_eq!((grant.fence.epoch, grant.seq), (at.epoch, at.seq));
    assert!(on.fill(tagged_fill("k", grant, &names, &Bytes::from_static(b"loaded"))).await.unwrap());
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

pub(crate) async fn tag_tokens_come_in_order_and_unknown_ones_are_missing(on: &dyn Coordinator) {
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

pub(crate) async fn revoking_a_tag_moves_the_log_in_any_case(on: &dyn Coordinator) {
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

pub(crate) async fn a_new_epoch_knows_no_tags(on: &dyn Coordinator) {
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
