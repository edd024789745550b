//! What a server allows, and the audit that it keeps.

use super::*;

/// The rules of PROTOCOL.md, and nothing more.
#[tokio::test]
async fn a_user_with_the_documented_rules_can_do_everything() {
    let server = RedisServer::start().unwrap();
    let protocol = include_str!("../../../../../../PROTOCOL.md");
    let rules: Vec<&str> = protocol.lines().filter(|line| line.starts_with("    ACL SETUSER ")).collect();
    assert_eq!(rules.len(), 1, "one example of a user");
    let parts: Vec<&str> = rules[0].split_whitespace().collect();
    assert_eq!(server.command(&parts).unwrap(), "+OK\r\n");
    let url = format!("redis://{}:{}@127.0.0.1:{}", parts[2], "secret", server.port());
    let audit = Audit { stream: "cache:audit".to_owned(), maxlen: Some(100) };
    let on = RedisCoordinator::new(supervisor(&url), PREFIX, CHANNEL, 100, Some(audit));
    let mut messages = on.listen().await.unwrap();
    every_operation(&on).await;
    on.read_log(0, 10).await.unwrap();
    for change in [keys(&["a", "b"]), Change::Put("k".into(), Token::random()), Change::Tag("t".into()), Change::Clear]
    {
        revoke(&on, change).await;
    }
    assert_eq!(on.poll(Some(tail(&on).await)).await.unwrap().at.seq, 0);
    assert!(messages.next().await.is_some());
    assert_eq!(server.command(&["XLEN", "cache:audit"]).unwrap(), ":5\r\n");
    let elsewhere = RedisCoordinator::new(supervisor(&url), "other:", CHANNEL, 100, None);
    assert!(elsewhere.acquire(ask("k")).await.unwrap_err().to_string().contains("NOPERM"));
}

#[tokio::test]
async fn the_audit_tells_what_was_logged() {
    let (server, _) = subject();
    let audit = Audit { stream: "audit".to_owned(), maxlen: None };
    let on = RedisCoordinator::new(supervisor(&server.url()), PREFIX, CHANNEL, 100, Some(audit));
    let quiet = keys(&["quiet"]);
    on.revoke(Revocation { announced: false, ..revocation(&quiet) }).await.unwrap();
    let expected = [
        (keys(&["k"]), ("Remove", "key", "k")),
        (keys(&["k", "l"]), ("RemoveBulk", "count", "2")),
        (Change::Put("k".into(), Token::random()), ("Update", "key", "k")),
        (Change::Pattern("k*".into()), ("RemovePattern", "key", "k*")),
        (Change::Tag("t".into()), ("RemoveTag", "key", "t")),
        (Change::Clear, ("Clear", "key", "*")),
    ];
    for (change, _) in &expected {
        on.revoke(Revocation { tombstone: LEASE, ..revocation(change) }).await.unwrap();
    }
    assert_eq!(on.tag_tokens(&tags(&["t"])).await.unwrap().tokens, [Some(5)]);
    let entries: Vec<(String, Vec<(String, String)>)> =
        on.server.query(cmd("XRANGE").arg("audit").arg("-").arg("+")).await.unwrap();
    assert_eq!(entries.len(), expected.len());
    for ((_, fields), (_, (kind, field, value))) in entries.iter().zip(expected) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let timestamp = fields[1].1;
        assert!(timestamp.len() == 10 && timestamp.parse::<u64>().is_ok(), "{timestamp}");
        assert_eq!(fields, [("type", kind), ("timestamp", timestamp), (field, value)]);
    }
    // An audit that cannot be written does not undo the removal, nor fail it.
    server.command(&["DEL", "audit"]).unwrap();
    server.command(&["SADD", "audit", "member"]).unwrap();
    let at = revoke(&on, keys(&["k"])).await;
    assert_eq!(tail(&on).await, at);
}
