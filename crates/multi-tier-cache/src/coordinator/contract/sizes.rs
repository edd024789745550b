//! Large changes and odd keys.

use std::sync::Arc;

use bytes::Bytes;

use super::{LEASE, TTL, ask, fill, granted, keys, revocation, stored, tagged_fill, tags, tail};
use crate::coordinator::{Acquire, Change, Coordinator, Recorded, Revocation};
use crate::wire::tagged::{self, Stored};

pub(crate) async fn a_thousand_keys_are_one_change(on: &dyn Coordinator) {
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

pub(crate) async fn any_key_will_do(on: &dyn Coordinator) {
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
        assert!(on.fill(tagged_fill(key, grant, &names, &value)).await.unwrap(), "{number}");
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
