//! The scripts: how often they are sent, and what they count and reckon.

use super::*;

#[tokio::test]
async fn every_operation_is_one_request_once_the_server_knows_the_scripts() {
    let (server, on) = subject();
    every_operation(&on).await;
    assert_eq!(calls(&server, "eval"), SCRIPTED);
    let (again, first) = (calls(&server, "evalsha"), calls(&server, "script|load") + calls(&server, "script"));
    every_operation(&on).await;
    every_operation(&at(&server.url(), "other:")).await;
    assert_eq!(requests(&server), (again + 2 * SCRIPTED, SCRIPTED));
    assert_eq!(first, 0);
    let (before, ranges) = (requests(&server), calls(&server, "xrange"));
    on.read_log(0, 10).await.unwrap();
    assert_eq!((requests(&server), calls(&server, "xrange")), (before, ranges + 1));
}

/// A user ran SCRIPT FLUSH, or the server was restarted, while caches were at work.
#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let (server, on) = subject();
    for _ in 0..3 {
        every_operation(&on).await;
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]).unwrap(), "+OK\r\n");
        every_operation(&on).await;
    }
    let grant = granted(&on, ask("k")).await;
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert!(on.fill(fill("k", grant)).await.unwrap());
}

/// The script finds its keys by counting: those of a put, with and without tombstones, tags and an audit stream.
#[tokio::test]
async fn every_part_of_a_put_finds_its_keys() {
    let (server, without_audit) = subject();
    let audit = Audit { stream: "audit".to_owned(), maxlen: Some(1_000) };
    let with_audit = RedisCoordinator::new(supervisor(&server.url()), PREFIX, CHANNEL, 100, Some(audit));
    let names = tags(&["a", "b"]);
    let nothing = Duration::ZERO;
    for (on, audited) in [(&without_audit, 0), (&with_audit, 1)] {
        for (tombstone, tags, with_values) in
            [(nothing, 0, true), (LEASE, 0, true), (nothing, 2, true), (LEASE, 2, true), (LEASE, 2, false)]
        {
            server.command(&["FLUSHALL"]).unwrap();
            on.replace("k", Bytes::from_static(b"old"), TTL).await.unwrap();
            let token = Token::random();
            let (change, tags) = (Change::Put("k".into(), token), &names[..tags]);
            on.revoke(Revocation { with_values, tombstone, tags, ..revocation(&change) }).await.unwrap();
            let KeyNames { value, lease, tombstone: closed } = on.names.key("k").unwrap();
            let mut expected = vec![on.names.bus.clone(), on.names.log.clone()];
            expected.extend((audited > 0).then(|| "audit".to_owned()));
            if with_values {
                assert!(server.command(&["GET", &lease]).unwrap().contains(&token.to_string()));
                expected.push(lease);
                expected.extend((tombstone > nothing).then_some(closed));
                expected.extend(tags.iter().map(|tag| on.names.tag(tag)));
            } else {
                expected.push(value.into_owned());
            }
            let mut there: Vec<String> = on.server.query(cmd("KEYS").arg("*")).await.unwrap();
            there.sort();
            expected.sort();
            assert_eq!(there, expected);
        }
    }
}

#[tokio::test]
async fn a_tags_token_outlives_the_entries_that_carry_it() {
    let (server, on) = subject();
    let names = tags(&["t"]);
    let left = || {
        let reply = server.command(&["PTTL", &on.names.tag("t")]).unwrap();
        Duration::from_millis(reply.trim_start_matches(':').trim().parse().unwrap())
    };
    let day = defaults::TAG_TOKEN_TTL;
    let near = |ttl: Duration| left() <= ttl && left() + Duration::from_secs(60) > ttl;
    for (ttl, expected) in
        [(TTL, day), (day * 3, day * 3 + defaults::TAG_TOKEN_MARGIN), (TTL, day * 3 + defaults::TAG_TOKEN_MARGIN)]
    {
        let grant = granted(&on, Acquire { refresh: true, tags: &names, ..ask("k") }).await;
        assert!(on.fill(Fill { ttl, tags: &names, ..fill("k", grant) }).await.unwrap());
        assert!(near(expected), "{ttl:?} {:?}", left());
    }
    revoke(&on, Change::Tag("t".into())).await;
    assert!(near(day), "{:?}", left());
    let grant = granted(&on, ask("for ever")).await;
    assert!(on.fill(Fill { ttl: Duration::MAX, tags: &names, ..fill("for ever", grant) }).await.unwrap());
}

#[tokio::test]
async fn sequence_numbers_beyond_32_bits_stay_exact() {
    let (server, on) = subject();
    let start = tail(&on).await;
    let large = (1_u64 << 53) - 3;
    server.command(&["HSET", &on.names.bus, "seq", &large.to_string()]).unwrap();
    let names = tags(&["t"]);
    let grant = granted(&on, Acquire { tags: &names, ..ask("k") }).await;
    assert_eq!(grant.seq, large);
    let at = revoke(&on, Change::Tag("t".into())).await;
    assert_eq!((at.seq, at.epoch), (large + 1, start.epoch));
    assert_eq!(on.read_log(large, 5).await.unwrap()[0].at, at);
    assert_eq!(on.tag_tokens(&names).await.unwrap().tokens, [Some(large + 1)]);
    assert!(!on.fill(Fill { tags: &names, ..fill("k", grant) }).await.unwrap());
}
