//! What closes the tiers below.

use std::time::Duration;

use super::{LEASE, SHORT, ask, granted, keys, revocation, revoke, soon};
use crate::coordinator::{Change, Coordinator, Revocation, Token};

pub(crate) async fn a_removal_closes_the_tiers_below_for_its_keys(on: &dyn Coordinator) {
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

pub(crate) async fn the_fence_closes_them_for_all(on: &dyn Coordinator) {
    on.fence(Duration::ZERO).await.unwrap();
    soon(|| async { on.open_below("k").await.unwrap() }).await;
    on.fence(SHORT).await.unwrap();
    soon(|| async { on.open_below("k").await.unwrap() }).await;
    on.fence(LEASE).await.unwrap();
    on.fence(Duration::ZERO).await.unwrap();
    assert!(!on.open_below("k").await.unwrap());
    assert!(!granted(on, ask("k")).await.open_below);
}
