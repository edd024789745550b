//! The log, its epochs and its messages.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use tokio::time::timeout;

use super::{
    LEASE, LOG_LENGTH, PATIENCE, TTL, ask, fill, granted, is_chained, keys, revocation, revoke, soon, stored, tags,
    tail,
};
use crate::coordinator::message::{self, Message};
use crate::coordinator::{Acquire, Change, Coordinator, Fill, Position, Record, Recorded, Revocation, Revoked, Token};

pub(crate) async fn a_new_log_stands_at_its_beginning(on: &dyn Coordinator) {
    let first = on.poll(None).await.unwrap();
    assert_eq!((first.at.seq, first.at.nonce), (0, 0));
    let second = on.poll(None).await.unwrap();
    assert!(second.at == first.at && second.clock >= first.clock, "{first:?} {second:?}");
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
    soon(|| async { on.poll(None).await.unwrap().clock > first.clock }).await;
}

pub(crate) async fn the_log_is_dense_and_chained(on: &dyn Coordinator) {
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

pub(crate) async fn the_log_is_read_in_pages(on: &dyn Coordinator) {
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

pub(crate) async fn the_log_is_trimmed_to_its_length(on: &dyn Coordinator) {
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

pub(crate) async fn what_is_not_announced_is_not_logged(on: &dyn Coordinator) {
    let at = revoke(on, keys(&["k"])).await;
    for change in [keys(&["k"]), Change::Put("k".into(), Token::random()), Change::Pattern("*".into()), Change::Clear] {
        let quiet = Revocation { announced: false, ..revocation(&change) };
        assert_eq!(on.revoke(quiet).await.unwrap().at, at, "{change:?}");
    }
    assert_eq!((tail(on).await, on.read_log(0, 10).await.unwrap().len()), (at, 1));
}

/// The values are kept by another server, with their leases, tombstones and tags.
pub(crate) async fn a_change_of_values_elsewhere_is_only_logged(on: &dyn Coordinator) {
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

pub(crate) async fn an_unannounced_change_of_values_elsewhere_is_nothing(on: &dyn Coordinator) {
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

pub(crate) async fn concurrent_changes_keep_the_chain(on: &dyn Coordinator) {
    let start = tail(on).await;
    let changes: Vec<_> = (0..100).map(|number| keys(&[&format!("k{number}")])).collect();
    let positions = join_all(changes.iter().map(|change| on.revoke(revocation(change)))).await;
    let mut positions: Vec<_> = positions.into_iter().map(|revoked| revoked.unwrap().at).collect();
    positions.sort_by_key(|at| at.seq);
    let records = on.read_log(start.seq, 1_000).await.unwrap();
    is_chained(&records, start);
    assert_eq!(records.iter().map(|record| record.at).collect::<Vec<_>>(), positions);
}

pub(crate) async fn a_fork_ends_the_epoch_of_its_position_once(on: &dyn Coordinator) {
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

pub(crate) async fn a_fork_ends_an_epoch_wherever_its_log_stands(on: &dyn Coordinator) {
    let known = revoke(on, keys(&["k"])).await;
    for forked in [known, Position { seq: 0, nonce: 0, ..known }, Position { seq: u64::MAX, ..known }] {
        let before = revoke(on, keys(&["k"])).await;
        let after = on.poll(Some(Position { epoch: before.epoch, ..forked })).await.unwrap().at;
        assert!(after.epoch != before.epoch && after.seq == 0 && after.nonce == 0, "{forked} {after}");
    }
}

pub(crate) async fn a_message_is_its_log_entry(on: &dyn Coordinator) {
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
