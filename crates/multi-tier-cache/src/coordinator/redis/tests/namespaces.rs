//! Namespaces, databases and slots.

use super::*;

#[tokio::test]
async fn namespaces_and_databases_of_one_server_are_apart() {
    let (server, on) = subject();
    let url = server.url();
    let others = [at(&url, "app:tag:"), at(&url, ""), at(&format!("{url}/3"), PREFIX)];
    let mut messages = on.listen().await.unwrap();
    let own = revoke(&on, keys(&["k"])).await;
    assert!(messages.next().await.is_some());
    let grant = granted(&on, ask("k")).await;
    for other in &others {
        let there = tail(other).await;
        assert!(there.epoch != own.epoch && there.seq == 0, "{other:?}");
        granted(other, ask("k")).await;
        other.fence(LEASE).await.unwrap();
        let at = revoke(other, Change::Tag("t".into())).await;
        revoke(other, keys(&["k"])).await;
        // The channel is shared: its messages tell epochs apart.
        let payload = messages.next().await.unwrap();
        let message::Message::Logged(record) = message::parse(&payload).unwrap() else { panic!() };
        assert_eq!(record.at, at);
        messages.next().await.unwrap();
    }
    assert_eq!(tail(&on).await, own);
    assert!(on.open_below("k").await.unwrap());
    assert_eq!(on.tag_tokens(&tags(&["t"])).await.unwrap().tokens, [None]);
    assert!(on.fill(fill("k", grant)).await.unwrap());
}

#[tokio::test]
async fn without_a_prefix_the_librarys_own_keys_are_nobodys() {
    let (server, _) = subject();
    let on = at(&server.url(), "");
    let before = tail(&on).await;
    let own = on.names.bus.as_str();
    assert!(matches!(on.acquire(ask(own)).await, Err(CacheError::ConfigError(_))));
    assert!(matches!(on.replace(own, Bytes::new(), TTL).await, Err(CacheError::ConfigError(_))));
    assert!(!on.renew(own, Token::random(), LEASE).await.unwrap());
    on.release(own, Token::random()).await.unwrap();
    assert!(on.open_below(own).await.unwrap());
    let put = Change::Put(own.into(), Token::random());
    assert!(matches!(on.revoke(revocation(&put)).await, Err(CacheError::ConfigError(_))));
    assert_eq!(tail(&on).await, before);
    let after = revoke(&on, keys(&[own, "k"])).await;
    assert_eq!((after.epoch, after.seq), (before.epoch, 1));
}

/// Real servers say in which slot a key is.
#[tokio::test]
async fn a_cluster_finds_lease_and_tombstone_where_the_value_is() {
    let server = RedisServer::builder().arguments(["--cluster-enabled", "yes"]).start().unwrap();
    let names = Names::new(PREFIX, CHANNEL);
    let slot = |key: &str| server.command(&["CLUSTER", "KEYSLOT", key]).unwrap();
    for key in ["user:1", "{user}:1", "a{b}c{d}", "x{y", "ü ö", "a{{b}}"] {
        let KeyNames { value, lease, tombstone } = names.key(key).unwrap();
        assert_eq!((slot(&lease), slot(&tombstone)), (slot(&value), slot(&value)), "{key}");
    }
    assert_eq!(slot(&names.bus), slot(&names.log));
    assert_eq!(slot(&names.bus), slot(&names.tag("{t}")));
}
