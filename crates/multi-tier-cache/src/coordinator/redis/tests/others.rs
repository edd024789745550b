//! What other programs leave on the server.

use super::*;

#[tokio::test]
async fn keys_of_another_type_are_an_error_that_says_so() {
    let (server, on) = subject();
    for key in [&on.names.bus, &on.names.log] {
        tail(&on).await;
        on.replace("k", Bytes::from_static(b"v"), TTL).await.unwrap();
        server.command(&["DEL", key]).unwrap();
        server.command(&["SADD", key, "member"]).unwrap();
        let error = on.revoke(revocation(&keys(&["k"]))).await.unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("value of another type"), "{error:?}");
        assert_eq!(backend_failure(&error).operation(), Some("revoke"));
        assert_eq!(server.command(&["EXISTS", "app:k"]).unwrap(), ":0\r\n", "the value goes first");
        server.command(&["DEL", key]).unwrap();
    }
    server.command(&["HSET", &on.names.bus, "epoch", "x", "seq", "1", "nonce", "y", "fence", "0"]).unwrap();
    let error = on.poll(None).await.unwrap_err();
    assert!(error.to_string().contains("hold what it does not write"), "{error}");
    server.command(&["DEL", &on.names.bus]).unwrap();
    server.command(&["SADD", "app:k", "member"]).unwrap();
    let error = on.acquire(ask("k")).await.unwrap_err();
    assert!(error.to_string().contains("value of another type"), "{error:?}");
    revoke(&on, keys(&["k"])).await;
    granted(&on, ask("k")).await;
}

#[tokio::test]
async fn an_entry_of_somebody_else_breaks_the_chain() {
    let (server, on) = subject();
    let at = revoke(&on, keys(&["k"])).await;
    server.command(&["XADD", &on.names.log, "2-0", "m", "{\"type\":\"Clear\"}"]).unwrap();
    server.command(&["XADD", &on.names.log, "2-1", "x", "y"]).unwrap();
    let records = on.read_log(0, 10).await.unwrap();
    assert_eq!((records.len(), records[0].at), (3, at));
    for record in &records[1..] {
        assert!(record.change == Recorded::Unknown && record.at.epoch == 0, "{record:?}");
    }
}

/// An entry with a higher id would make every later one of the library's own impossible.
#[tokio::test]
async fn a_log_that_somebody_else_wrote_into_is_begun_anew() {
    let (server, on) = subject();
    let before = on.revoke(revocation(&keys(&["k"]))).await.unwrap().at;
    server.command(&["XADD", &on.names.log, "99999999999999-0", "x", "y"]).unwrap();
    let after = on.revoke(revocation(&keys(&["k"]))).await.unwrap().at;
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(after.seq, 1);
    assert_eq!(on.read_log(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn values_of_other_programs_are_read_as_they_are() {
    let (server, on) = subject();
    server.command(&["SET", "app:k", "plain"]).unwrap();
    assert_eq!(on.acquire(ask("k")).await.unwrap(), Acquired::Value(Bytes::from_static(b"plain"), None));
}
