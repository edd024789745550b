//! Listening, and how it ends.

use super::*;

/// Waits until the server has no subscription to the channel.
async fn nobody_listens(server: &RedisServer) {
    let until = async {
        while !server.command(&["PUBSUB", "NUMSUB", CHANNEL]).unwrap().ends_with(":0\r\n") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.unwrap();
}

#[tokio::test]
async fn messages_of_other_programs_come_as_they_are() {
    let (server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    let large = "x".repeat(2 * 1024 * 1024);
    for payload in ["{\"type\":\"Remove\",\"key\":\"user:1\"}", "", "\u{0}ü", &large] {
        server.command(&["PUBLISH", CHANNEL, payload]).unwrap();
        assert!(messages.next().await.unwrap() == payload.as_bytes());
    }
}

#[tokio::test]
async fn listening_ends_with_the_connection() {
    let (mut server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    assert_eq!(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap(), ":1\r\n");
    assert_eq!(messages.next().await, None);
    let mut messages = on.listen().await.unwrap();
    server.kill().unwrap();
    assert_eq!(messages.next().await, None);
    let error = on.listen().await.map(drop).unwrap_err();
    assert!(error.is_retryable() && backend_failure(&error).operation() == Some("subscribe"), "{error:?}");
}

#[tokio::test]
async fn listening_ends_when_the_cache_is_closed() {
    let (server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    on.server.close();
    assert_eq!(messages.next().await, None);
    assert!(on.listen().await.is_err());
    drop(messages);
    drop(server);
}

#[tokio::test]
async fn who_no_longer_listens_leaves_no_connection_behind() {
    let (server, on) = subject();
    drop(on.listen().await.unwrap());
    nobody_listens(&server).await;
}

/// A listener that does not keep up learns that it missed something; the process does not fill up with messages.
#[tokio::test]
async fn listening_ends_when_too_much_waits() {
    let (server, on) = subject();
    let mut messages = on.listen().await.unwrap();
    let flood = "for i = 1, 5000 do redis.call('PUBLISH', ARGV[1], i) end";
    server.command(&["EVAL", flood, "0", CHANNEL]).unwrap();
    nobody_listens(&server).await;
    let mut taken = 0;
    while let Some(payload) = messages.next().await {
        taken += 1;
        assert_eq!(payload, taken.to_string().as_bytes());
    }
    assert_eq!(taken, defaults::MESSAGES_WAITING);
}
