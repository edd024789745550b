//! What the behaviours are told with.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{LEASE, PATIENCE, TTL};
use crate::coordinator::{
    Acquire, Acquired, Change, Coordinator, Fill, Grant, Position, Record, Revocation, Revoked, Tag, Token,
};
use crate::wire::tagged;

pub(crate) fn ask(key: &str) -> Acquire<'_> {
    Acquire { key, token: Token::random(), lease: LEASE, refresh: false, tags: &[] }
}

pub(crate) async fn granted(on: &dyn Coordinator, ask: Acquire<'_>) -> Grant {
    match on.acquire(ask).await.unwrap() {
        Acquired::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn fill(key: &str, grant: Grant) -> Fill<'_> {
    Fill { key, grant, value: Bytes::from_static(b"loaded"), ttl: TTL, tags: &[] }
}

/// A tagged value, as it is stored.
pub(crate) fn tagged_fill<'a>(key: &'a str, grant: Grant, tags: &'a [Tag], value: &Bytes) -> Fill<'a> {
    let value = tagged::with_tags(grant.fence.epoch, grant.seq, tags, value.clone());
    Fill { value, tags, ..fill(key, grant) }
}

pub(crate) fn revocation(change: &Change) -> Revocation<'_> {
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

pub(crate) async fn revoke(on: &dyn Coordinator, change: Change) -> Position {
    on.revoke(revocation(&change)).await.unwrap().at
}

pub(crate) fn keys(keys: &[&str]) -> Change {
    Change::Keys(keys.iter().map(|key| Arc::from(*key)).collect())
}

pub(crate) fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| Tag::from(*name)).collect()
}

pub(crate) async fn tail(on: &dyn Coordinator) -> Position {
    on.poll(None).await.unwrap().at
}

/// The bytes under `key`, asked for like a load that does not go on.
pub(crate) async fn stored(on: &dyn Coordinator, key: &str) -> Option<Bytes> {
    match on.acquire(ask(key)).await.unwrap() {
        Acquired::Value(value, _) => Some(value),
        Acquired::Busy(_) => None,
        Acquired::Granted(grant) => {
            on.release(key, grant.token).await.unwrap();
            None
        }
    }
}

pub(super) async fn put(on: &dyn Coordinator, key: &str) -> Grant {
    let token = Token::random();
    let change = Change::Put(key.into(), token);
    writers(token, on.revoke(revocation(&change)).await.unwrap())
}

/// What a put fills under.
pub(super) fn writers(token: Token, Revoked { at, fence }: Revoked) -> Grant {
    Grant { token, fence, seq: at.seq, open_below: false }
}

pub(super) async fn fork(on: &dyn Coordinator) -> Position {
    let before = tail(on).await;
    on.poll(Some(before)).await.unwrap().at
}

pub(super) async fn soon<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let until = async {
        while !holds().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, until).await.expect("it never came about");
}

pub(super) fn is_chained(records: &[Record], before: Position) {
    let mut last = before;
    for record in records {
        assert_eq!((record.at.epoch, record.at.seq), (last.epoch, last.seq + 1), "{record:?}");
        assert_eq!(record.previous, last.nonce, "{record:?}");
        last = record.at;
    }
}
