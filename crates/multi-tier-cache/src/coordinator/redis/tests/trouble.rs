//! Servers that refuse, forget and evict.

use super::*;

/// A full server without eviction refuses what takes memory. An invalidation must go through all the same.
#[tokio::test]
async fn a_full_server_still_invalidates_and_refuses_to_store() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    for key in ["k", "l", "put"] {
        on.replace(key, Bytes::from_static(b"old"), TTL).await.unwrap();
    }
    let load = granted(&on, Acquire { tags: &names, ..ask("load") }).await;
    on.replace("filler", Bytes::from(vec![0; 1_000_000]), TTL).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    assert!(server.command(&["SET", "plain", "1"]).unwrap().starts_with("-OOM"));

    let refused = [
        on.acquire(ask("new")).await.map(drop).unwrap_err(),
        on.fill(Fill { tags: &names, ..fill("load", load) }).await.map(drop).unwrap_err(),
        on.replace("new", Bytes::from_static(b"v"), TTL).await.unwrap_err(),
    ];
    for error in refused {
        assert!(error.is_retryable() && error.to_string().contains("OOM"), "{error:?}");
        assert_eq!(backend_failure(&error).tier(), Some("Redis"));
    }

    let start = tail(&on).await;
    let fresh = tags(&["fresh"]);
    let changes = [
        keys(&["k"]),
        keys(&["absent"]),
        keys(&[]),
        Change::Put("put".into(), Token::random()),
        Change::Tag("t".into()),
        Change::Tag("never seen".into()),
        Change::Pattern("l*".into()),
        Change::Clear,
    ];
    for (number, change) in changes.iter().enumerate() {
        let at = on.revoke(Revocation { tombstone: LEASE, tags: &fresh, ..revocation(change) }).await.unwrap().at;
        assert_eq!(at.seq, start.seq + 1 + number as u64, "{change:?}");
    }
    assert_eq!(server.command(&["EXISTS", "app:k", "app:put"]).unwrap(), ":0\r\n");
    assert_eq!(on.tag_tokens(&fresh).await.unwrap().tokens, [Some(start.seq)]);
    assert!(!on.open_below("k").await.unwrap());
    assert_eq!(on.read_log(start.seq, 100).await.unwrap().len(), changes.len());
    on.fence(LEASE).await.unwrap();
    assert_eq!(on.poll(Some(tail(&on).await)).await.unwrap().at.seq, 0);
    server.command(&["DEL", on.names.bus.as_str()]).unwrap();
    assert_eq!(revoke(&on, keys(&["l"])).await.seq, 1);
    assert_eq!(server.command(&["EXISTS", "app:l"]).unwrap(), ":0\r\n");
    assert!(server.command(&["SET", "plain", "1"]).unwrap().starts_with("-OOM"), "it was full to the end");
}

#[tokio::test]
async fn a_replica_refuses_and_a_retry_may_help() {
    let (server, on) = subject();
    every_operation(&on).await;
    server.command(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]).unwrap();
    let change = keys(&["k"]);
    let refused = [
        on.acquire(ask("k")).await.map(drop).unwrap_err(),
        on.replace("k", Bytes::new(), TTL).await.unwrap_err(),
        on.revoke(revocation(&change)).await.map(drop).unwrap_err(),
        on.fence(Duration::ZERO).await.unwrap_err(),
    ];
    for error in refused {
        assert!(error.is_retryable() && error.to_string().contains("READONLY"), "{error:?}");
    }
}

#[tokio::test]
async fn a_flushed_server_begins_a_new_epoch_and_refuses_what_was_granted_before() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    let grant = granted(&on, Acquire { tags: &names, ..ask("k") }).await;
    let before = revoke(&on, Change::Tag("another".into())).await;
    server.command(&["FLUSHALL"]).unwrap();
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
    assert!(on.open_below("k").await.unwrap());
    let after = tail(&on).await;
    assert!(after.epoch != before.epoch && after.seq == 0 && after.nonce == 0, "{before} {after}");
    assert_eq!(on.tag_tokens(&names).await.unwrap(), TagTokens { epoch: after.epoch, tokens: vec![None] });
    assert_eq!(revoke(&on, keys(&["k"])).await.seq, 1);
}

/// Eviction may take any key of the library's, one at a time.
#[tokio::test]
async fn whatever_is_evicted_nothing_stale_is_stored_or_read() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    let del = |key: &str| assert_eq!(server.command(&["DEL", key]).unwrap(), ":1\r\n", "{key}");

    let grant = granted(&on, ask("lease")).await;
    del(&on.names.key("lease").unwrap().lease);
    assert!(!on.fill(fill("lease", grant)).await.unwrap());

    // The token of a tag that was revoked during the load.
    let grant = granted(&on, Acquire { tags: &names, ..ask("k") }).await;
    revoke(&on, Change::Tag("t".into())).await;
    del(&on.names.tag("t"));
    assert_eq!(on.tag_tokens(&names).await.unwrap().tokens, [None]);
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());

    // The log: its readers see that it is not dense.
    let at = revoke(&on, keys(&["another"])).await;
    del(&on.names.log);
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
    assert_eq!(tail(&on).await, at);
    assert_eq!(revoke(&on, keys(&["another"])).await.seq, at.seq + 1);

    // The bus, with the fence: a load and a put under the old one.
    let load = granted(&on, ask("load")).await;
    del(&on.names.bus);
    assert!(!on.fill(fill("load", load)).await.unwrap());
    assert_ne!(tail(&on).await.epoch, at.epoch);
    assert_eq!(on.read_log(0, 10).await.unwrap(), []);
}
