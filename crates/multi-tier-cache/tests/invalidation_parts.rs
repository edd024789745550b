//! The parts of the invalidation bus for users' own programs, against real servers: publisher and subscribers.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation ends the test"
)]

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use multi_tier_cache::backends::RedisConfig;
use multi_tier_cache::{
    Bytes, CacheError, CacheManager, CacheResult, CacheStrategy, CacheSystem, CacheSystemBuilder, CallOptions,
    InvalidationConfig, InvalidationMessage, InvalidationPublisher, InvalidationSubscriber, ReliableStreamSubscriber,
    defaults,
};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use test_servers::{FaultProxy, RedisServer};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const CHANNEL: &str = "cache:invalidate";
const LOG: &str = "mtc:{cache:invalidate}:0::log";

type Heard = mpsc::UnboundedReceiver<InvalidationMessage>;

/// A handler that passes on what it is given.
fn ear() -> (impl Fn(InvalidationMessage) -> std::future::Ready<CacheResult<()>> + Send + Sync + 'static, Heard) {
    let (sender, heard) = mpsc::unbounded_channel();
    let handler = move |message| {
        let _ = sender.send(message);
        ready(Ok(()))
    };
    (handler, heard)
}

async fn next(heard: &mut Heard) -> InvalidationMessage {
    timeout(PATIENCE, heard.recv()).await.expect("nothing was heard").unwrap()
}

fn remove(key: &str) -> InvalidationMessage {
    InvalidationMessage::remove(key)
}

fn everything() -> InvalidationMessage {
    InvalidationMessage::remove_pattern("*")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn subscribed(server: &RedisServer, count: usize) {
    let wanted = format!(":{count}\r\n");
    until("subscribed", || server.command(&["PUBSUB", "NUMSUB", CHANNEL]).is_ok_and(|reply| reply.ends_with(&wanted)))
        .await;
}

fn position(server: &RedisServer, prefix: &str, group: &str) -> String {
    server.command(&["GET", &format!("mtc:{{{CHANNEL}}}:{}:{prefix}:group:{group}", prefix.len())]).unwrap()
}

/// The group has a position, after which nothing is lost.
async fn joined(server: &RedisServer, group: &str) {
    until("joined", || position(server, "", group).contains("m1-")).await;
}

/// The group's position is that of entry `seq`.
async fn acknowledged(server: &RedisServer, group: &str, seq: usize) {
    let seq = format!("-{seq}-");
    until("acknowledged", || position(server, "", group).contains(&seq)).await;
}

async fn ended(task: JoinHandle<()>) {
    timeout(PATIENCE, task).await.expect("the task goes on").unwrap();
}

fn subscriber(url: &str) -> InvalidationSubscriber {
    InvalidationSubscriber::new(url, InvalidationConfig::default()).unwrap()
}

fn reliable(url: &str, group: &str) -> ReliableStreamSubscriber {
    ReliableStreamSubscriber::new(url, InvalidationConfig::default(), group).unwrap()
}

async fn publisher(server: &RedisServer, config: InvalidationConfig) -> InvalidationPublisher {
    let options = ConnectionManagerConfig::new().set_number_of_retries(1);
    let client = redis::Client::open(server.url()).unwrap();
    InvalidationPublisher::new(ConnectionManager::new_with_config(client, options).await.unwrap(), config)
}

async fn system(server: &RedisServer) -> CacheSystem {
    CacheSystemBuilder::new().with_redis_url(&server.url()).build().await.unwrap()
}

async fn system_with_prefix(server: &RedisServer, prefix: &str) -> CacheSystem {
    let config = RedisConfig::default().with_url(server.url()).with_prefix(prefix);
    CacheSystemBuilder::new().with_redis_config(config).build().await.unwrap()
}

/// Announces removals, as a cache does.
async fn announce(cache: &CacheManager, keys: impl IntoIterator<Item = usize>) {
    for key in keys {
        cache.invalidate(&key.to_string()).await.unwrap();
    }
}

/// All verbs of a cache with a prefix, and how users hear of them.
async fn every_verb(cache: &CacheManager) -> Vec<InvalidationMessage> {
    cache.invalidate("a").await.unwrap();
    cache.remove_many(&["b", "c"]).await.unwrap();
    cache.invalidate_pattern("p*").await.unwrap();
    cache.remove_tag("t").await.unwrap();
    cache.put("d", Bytes::from_static(b"value"), &CallOptions::default()).await.unwrap();
    cache.clear().await.unwrap();
    let both = InvalidationMessage::remove_bulk(vec!["b".to_owned(), "c".to_owned()]);
    vec![remove("a"), both, InvalidationMessage::remove_pattern("p*"), remove("d"), everything()]
}

#[tokio::test]
async fn what_is_published_is_heard_and_audited_and_touches_no_value() {
    let server = RedisServer::start().unwrap();
    server.command(&["SET", "k", "v"]).unwrap();
    let subscriber = subscriber(&server.url());
    let (handler, mut heard) = ear();
    subscriber.start(handler);
    subscribed(&server, 1).await;
    let config = InvalidationConfig { enable_audit_stream: true, ..InvalidationConfig::default() };
    let mut publisher = publisher(&server, config).await;
    let messages = [
        remove("k"),
        InvalidationMessage::update("k", Bytes::from_static(b"new"), Some(Duration::from_secs(9))),
        InvalidationMessage::remove_pattern("k*"),
        InvalidationMessage::remove_bulk(vec!["k".to_owned(), "l".to_owned()]),
    ];
    for message in &messages {
        publisher.publish(message).await.unwrap();
        assert_eq!(next(&mut heard).await, *message);
    }
    let stats = subscriber.stats();
    assert_eq!((stats.messages_received, stats.messages_sent, stats.processing_errors), (4, 0, 0));
    let kinds = (stats.removes_received, stats.updates_received, stats.patterns_received, stats.bulk_removes_received);
    assert_eq!(kinds, (1, 1, 1, 1));
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "$1\r\nv\r\n");
    let audit = server.command(&["XRANGE", "cache:invalidations", "-", "+"]).unwrap();
    let words: Vec<&str> = audit.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    let entries: Vec<_> = words.chunks(7).map(|entry| (entry[1], entry[2], entry[3], entry[5], entry[6])).collect();
    let expected = [("Remove", "key", "k"), ("Update", "key", "k"), ("RemovePattern", "key", "k*")];
    for (entry, (kind, field, value)) in entries.iter().zip(expected.iter().chain(&[("RemoveBulk", "count", "2")])) {
        assert_eq!(*entry, ("type", *kind, "timestamp", *field, *value));
    }
    assert_eq!(entries.len(), 4, "{audit}");
    assert!(words[4].parse::<u64>().unwrap() > 1_700_000_000, "{audit}");
}

#[tokio::test]
async fn a_publisher_says_what_it_could_not_do() {
    let mut server = RedisServer::start().unwrap();
    let config = InvalidationConfig { enable_audit_stream: true, ..InvalidationConfig::default() };
    let mut publisher = publisher(&server, config).await;
    server.command(&["SET", "cache:invalidations", "no stream"]).unwrap();
    publisher.publish(&remove("k")).await.unwrap();
    let long = remove(&"k".repeat(defaults::MESSAGE_BYTES_MAX));
    assert!(matches!(publisher.publish(&long).await, Err(CacheError::ConfigError(_))));
    server.command(&["ACL", "SETUSER", "default", "-publish"]).unwrap();
    let error = publisher.publish(&remove("k")).await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)) && !error.is_retryable(), "{error:?}");
    server.kill().unwrap();
    let error = publisher.publish(&remove("k")).await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_malformed_url_is_a_configuration_error_and_shows_no_password() {
    let config = InvalidationConfig::default;
    for url in ["", "http://host", "redis://me:hunter2@:x:y"] {
        let plain = InvalidationSubscriber::new(url, config()).map(drop).unwrap_err();
        let reliable = ReliableStreamSubscriber::new(url, config(), "g").map(drop).unwrap_err();
        for error in [plain, reliable] {
            assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
    assert!(matches!(ReliableStreamSubscriber::new("redis://h", config(), ""), Err(CacheError::ConfigError(_))));
    let shown = format!("{:?} {:?}", subscriber("redis://me:hunter2@h"), reliable("redis://me:hunter2@h", "g"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn both_subscribers_hear_every_verb_of_a_cache_in_order() {
    let server = RedisServer::start().unwrap();
    let plain = subscriber(&server.url());
    let reliable = reliable(&server.url(), "g").with_prefix("app:");
    let ((handler, mut heard), (reliable_handler, mut read)) = (ear(), ear());
    plain.start(handler);
    reliable.start(reliable_handler);
    subscribed(&server, 1).await;
    until("joined", || position(&server, "app:", "g").contains("m1-")).await;
    let system = system_with_prefix(&server, "app:").await;
    let other = system_with_prefix(&server, "other:").await;
    other.cache_manager.invalidate("elsewhere").await.unwrap();
    assert_eq!(next(&mut heard).await, remove("elsewhere"), "the channel is everybody's");
    let expected = every_verb(&system.cache_manager).await;
    for message in &expected {
        assert_eq!(next(&mut heard).await, *message);
        assert_eq!(next(&mut read).await, *message, "the log is of one prefix");
    }
    for (stats, of_others) in [(plain.stats(), 1), (reliable.stats(), 0)] {
        assert_eq!(stats.messages_received, 6 + of_others, "the revocation of a tag is received and not told");
        assert_eq!((stats.removes_received, stats.updates_received), (1 + of_others, 1));
        assert_eq!((stats.patterns_received, stats.bulk_removes_received, stats.processing_errors), (2, 1, 0));
    }
}

#[tokio::test]
async fn garbage_failures_and_panics_are_counted_and_do_not_end_a_subscriber() {
    let server = RedisServer::start().unwrap();
    let subscriber = subscriber(&server.url());
    let (sender, mut heard) = mpsc::unbounded_channel();
    let task = subscriber.start(move |message| {
        assert_ne!(message, remove("panic at once"));
        let sender = sender.clone();
        async move {
            assert_ne!(message, remove("panic"));
            if message == remove("fail") {
                return Err(CacheError::InternalError("no".to_owned()));
            }
            let _ = sender.send(message);
            Ok(())
        }
    });
    subscribed(&server, 1).await;
    for garbage in ["", "garbage", "{}", r#"{"type":"Remove"}"#, "\u{0}"] {
        server.command(&["PUBLISH", CHANNEL, garbage]).unwrap();
    }
    for key in ["panic", "panic at once", "fail", "k"] {
        server.command(&["PUBLISH", CHANNEL, &remove(key).to_json().unwrap()]).unwrap();
    }
    assert_eq!(next(&mut heard).await, remove("k"));
    let stats = subscriber.stats();
    assert_eq!((stats.messages_received, stats.removes_received, stats.processing_errors), (9, 4, 8));
    assert!(!task.is_finished());
}

#[tokio::test]
async fn a_subscription_that_is_cut_or_whose_server_dies_is_opened_again() {
    let mut server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let subscriber = subscriber(&proxy.url());
    let (handler, mut heard) = ear();
    subscriber.start(handler);
    let publish = |server: &RedisServer, key: &str| {
        server.command(&["PUBLISH", CHANNEL, &remove(key).to_json().unwrap()]).unwrap();
    };
    subscribed(&server, 1).await;
    assert_eq!(proxy.reset_subscriptions(), 1);
    until("cut", || proxy.subscriptions() == 0).await;
    until("open again", || proxy.subscriptions() == 1).await;
    subscribed(&server, 1).await;
    publish(&server, "1");
    assert_eq!(next(&mut heard).await, remove("1"));
    server.kill().unwrap();
    sleep(Duration::from_millis(100)).await;
    server.restart().unwrap();
    subscribed(&server, 1).await;
    publish(&server, "2");
    assert_eq!(next(&mut heard).await, remove("2"));
}

/// A subscriber whose server is away, one that waits, one that is in its handler.
#[tokio::test]
async fn shutdown_and_drop_end_the_tasks_and_a_handler_is_not_interrupted() {
    let server = RedisServer::start().unwrap();
    let mut dead = RedisServer::start().unwrap();
    dead.kill().unwrap();
    let away = subscriber(&dead.url());
    let task = away.start(ear().0);
    drop(away);
    ended(task).await;
    let (waiting, reading) = (subscriber(&server.url()), reliable(&server.url(), "g"));
    let tasks = [waiting.start(ear().0), waiting.start(ear().0), reading.start(ear().0), reading.start(ear().0)];
    subscribed(&server, 2).await;
    joined(&server, "g").await;
    for _ in 0..2 {
        waiting.shutdown();
        reading.shutdown();
    }
    for task in tasks.into_iter().chain([waiting.start(ear().0), reading.start(ear().0)]) {
        ended(task).await;
    }
    subscribed(&server, 0).await;

    let subscriber = subscriber(&server.url());
    let (entered, gate, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let task = subscriber.start({
        let (entered, gate, done) = (Arc::clone(&entered), Arc::clone(&gate), Arc::clone(&done));
        move |_| {
            let (entered, gate, done) = (Arc::clone(&entered), Arc::clone(&gate), Arc::clone(&done));
            async move {
                entered.notify_one();
                gate.notified().await;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    });
    subscribed(&server, 1).await;
    for _ in 0..2 {
        server.command(&["PUBLISH", CHANNEL, &remove("k").to_json().unwrap()]).unwrap();
    }
    timeout(PATIENCE, entered.notified()).await.unwrap();
    drop(subscriber);
    gate.notify_one();
    ended(task).await;
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_group_goes_on_where_it_was_and_loses_nothing_while_it_is_away() {
    let server = RedisServer::start().unwrap();
    let system = system(&server).await;
    let cache = &system.cache_manager;
    announce(cache, 1..=3).await;
    for (from, to) in [(4, 6), (7, 1_300), (1_301, 1_301)] {
        let (subscriber, (handler, mut heard)) = (reliable(&server.url(), "g"), ear());
        if from == 4 {
            let task = subscriber.start(handler);
            joined(&server, "g").await;
            announce(cache, from..=to).await;
            for key in from..=to {
                assert_eq!(next(&mut heard).await, remove(&key.to_string()), "a new group begins at the end");
            }
            acknowledged(&server, "g", to).await;
            subscriber.shutdown();
            ended(task).await;
            continue;
        }
        announce(cache, from..=to).await;
        let task = subscriber.start(handler);
        for key in from..=to {
            assert_eq!(next(&mut heard).await, remove(&key.to_string()));
        }
        acknowledged(&server, "g", to).await;
        assert_eq!(subscriber.stats().removes_received, (to - from + 1) as u64);
        drop(subscriber);
        ended(task).await;
    }
}

#[tokio::test]
async fn every_subscriber_sees_everything_whatever_its_group() {
    let server = RedisServer::start().unwrap();
    let subscribers = ["one", "two", "two"].map(|group| (reliable(&server.url(), group), ear()));
    let mut all = Vec::new();
    for (subscriber, (handler, heard)) in subscribers {
        subscriber.start(handler);
        all.push((subscriber, heard));
    }
    joined(&server, "one").await;
    joined(&server, "two").await;
    until("both of the second group wait", || {
        server.command(&["INFO", "clients"]).unwrap().contains("blocked_clients:3\r\n")
    })
    .await;
    // The log does not exist yet.
    assert_eq!(server.command(&["EXISTS", LOG]).unwrap(), ":0\r\n");
    let system = system(&server).await;
    announce(&system.cache_manager, 1..=50).await;
    for (_, heard) in &mut all {
        for key in 1..=50 {
            assert_eq!(next(heard).await, remove(&key.to_string()));
        }
    }
    acknowledged(&server, "one", 50).await;
    acknowledged(&server, "two", 50).await;
}

/// What a group is told that was at entry 2, here or away, when the log lost entries. The last is that of key 7.
async fn told_after(lose: impl AsyncFn(&RedisServer, &CacheManager), away: bool) -> Vec<InvalidationMessage> {
    let server = RedisServer::start().unwrap();
    let system = system(&server).await;
    let cache = &system.cache_manager;
    let (mut subscriber, (handler, mut heard)) = (reliable(&server.url(), "g"), ear());
    let task = subscriber.start(handler);
    joined(&server, "g").await;
    announce(cache, 1..=2).await;
    for key in 1..=2 {
        assert_eq!(next(&mut heard).await, remove(&key.to_string()));
    }
    acknowledged(&server, "g", 2).await;
    if away {
        subscriber.shutdown();
        ended(task).await;
    }
    lose(&server, cache).await;
    if away {
        subscriber = reliable(&server.url(), "g");
        let (handler, later) = ear();
        heard = later;
        subscriber.start(handler);
    }
    let mut told = vec![next(&mut heard).await];
    announce(cache, [7]).await;
    while told.last() != Some(&remove("7")) {
        told.push(next(&mut heard).await);
    }
    told
}

#[tokio::test]
async fn whatever_was_lost_is_told_as_a_change_of_everything() {
    let told = [everything(), remove("7")];
    let trimmed = async |server: &RedisServer, cache: &CacheManager| {
        announce(cache, 3..=6).await;
        server.command(&["XTRIM", LOG, "MAXLEN", "2"]).unwrap();
    };
    assert_eq!(told_after(trimmed, true).await, told);
    let unlinked = async |server: &RedisServer, cache: &CacheManager| {
        announce(cache, 3..=6).await;
        server.command(&["DEL", LOG]).unwrap();
    };
    assert_eq!(told_after(unlinked, true).await, told);
    let begun_anew = async |server: &RedisServer, cache: &CacheManager| {
        server.command(&["DEL", "mtc:{cache:invalidate}:0::bus"]).unwrap();
        announce(cache, 3..=6).await;
    };
    // Here the cache may announce the earlier ones once more. There is an entry 3 after entry 2, of another log.
    assert_eq!(told_after(begun_anew, true).await[0], everything());
    let position_spoilt = async |server: &RedisServer, _: &CacheManager| {
        server.command(&["SET", "mtc:{cache:invalidate}:0::group:g", "2"]).unwrap();
    };
    assert_eq!(told_after(position_spoilt, true).await, told);
    let flushed = async |server: &RedisServer, _: &CacheManager| {
        server.command(&["FLUSHALL"]).unwrap();
    };
    assert_eq!(told_after(flushed, false).await[0], everything());
    let flushed_and_written = async |server: &RedisServer, cache: &CacheManager| {
        server.command(&["FLUSHALL"]).unwrap();
        announce(cache, 3..=5).await;
    };
    assert_eq!(told_after(flushed_and_written, false).await[0], everything());
}

#[tokio::test]
async fn a_reader_whose_connections_are_cut_loses_nothing_and_one_whose_server_dies_is_told() {
    let mut server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let system = system(&server).await;
    let cache = &system.cache_manager;
    let (subscriber, (handler, mut heard)) = (reliable(&proxy.url(), "g"), ear());
    subscriber.start(handler);
    joined(&server, "g").await;
    for round in 0..3 {
        // The supervised connection and the waiting one.
        until("connected", || proxy.connections() >= 2).await;
        announce(cache, [2 * round]).await;
        assert!(proxy.reset() > 0);
        announce(cache, [2 * round + 1]).await;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&remove("5")) {
        seen.push(next(&mut heard).await);
    }
    seen.dedup();
    assert_eq!(seen, (0..6).map(|key| remove(&key.to_string())).collect::<Vec<_>>(), "in order, none missing");
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(next(&mut heard).await, everything());
    let deadline = Instant::now() + PATIENCE;
    while cache.invalidate("k").await.is_err() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5)).await;
    }
    // The cache may have announced the earlier ones once more, in case the server had lost them.
    while next(&mut heard).await != remove("k") {}
}

#[tokio::test]
async fn what_a_handler_could_not_do_is_tried_again_and_skipped_in_the_end() {
    let server = RedisServer::start().unwrap();
    let system = system(&server).await;
    let cache = &system.cache_manager;
    let subscriber = reliable(&server.url(), "g");
    let (sender, mut heard) = mpsc::unbounded_channel();
    let calls = Arc::new(AtomicUsize::new(0));
    subscriber.start({
        let calls = Arc::clone(&calls);
        move |message| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            assert!(call != 1, "a panic counts as a failure");
            let works = call > 2 && message != remove("hopeless");
            if works {
                let _ = sender.send(message);
            }
            ready(if works { Ok(()) } else { Err(CacheError::InternalError("not now".to_owned())) })
        }
    });
    joined(&server, "g").await;
    cache.invalidate("k").await.unwrap();
    assert_eq!(next(&mut heard).await, remove("k"));
    assert_eq!((calls.load(Ordering::Relaxed), subscriber.stats().processing_errors), (4, 0));
    cache.invalidate("hopeless").await.unwrap();
    cache.invalidate("l").await.unwrap();
    assert_eq!(next(&mut heard).await, remove("l"));
    assert_eq!(calls.load(Ordering::Relaxed), 4 + defaults::HANDLER_ATTEMPTS + 1);
    let stats = subscriber.stats();
    assert_eq!((stats.processing_errors, stats.messages_received, stats.removes_received), (1, 3, 3));
    acknowledged(&server, "g", 3).await;
}

#[tokio::test]
async fn an_entry_whose_handler_did_not_answer_ok_comes_again_after_a_restart() {
    let server = RedisServer::start().unwrap();
    let system = system(&server).await;
    let first = reliable(&server.url(), "g");
    let failed = Arc::new(Notify::new());
    let task = first.start({
        let failed = Arc::clone(&failed);
        move |_| {
            failed.notify_one();
            ready(Err(CacheError::NotFound))
        }
    });
    joined(&server, "g").await;
    announce(&system.cache_manager, [1]).await;
    timeout(PATIENCE, failed.notified()).await.unwrap();
    first.shutdown();
    ended(task).await;
    let (second, (handler, mut heard)) = (reliable(&server.url(), "g"), ear());
    second.start(handler);
    assert_eq!(next(&mut heard).await, remove("1"));
}

/// An entry that no cache wrote, beyond the end of the log, wakes every read at once.
#[tokio::test]
async fn a_foreign_entry_in_the_log_does_not_keep_a_reader_busy() {
    let server = RedisServer::start().unwrap();
    let (subscriber, (handler, _heard)) = (reliable(&server.url(), "g"), ear());
    subscriber.start(handler);
    joined(&server, "g").await;
    server.command(&["XADD", LOG, "9-0", "m", "garbage"]).unwrap();
    let polls = || {
        let stats = server.command(&["INFO", "commandstats"]).unwrap();
        let calls = stats.split("cmdstat_evalsha:calls=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        calls.parse::<usize>().unwrap()
    };
    let (before, began) = (polls(), Instant::now());
    until("two more", || polls() >= before + 4).await;
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
}

/// The rules of `PROTOCOL.md`, and nothing more.
#[tokio::test]
async fn users_with_the_documented_rules_can_take_part() {
    let server = RedisServer::start().unwrap();
    let protocol = include_str!("../../../PROTOCOL.md");
    for program in ["InvalidationPublisher", "InvalidationSubscriber", "ReliableStreamSubscriber"] {
        let line = protocol.lines().find(|line| line.starts_with(&format!("| `{program}` |"))).unwrap();
        let rules = line.split('`').skip(3).step_by(2).flat_map(str::split_whitespace);
        let user: Vec<&str> =
            ["ACL", "SETUSER", program, "on", ">pw", "resetchannels"].into_iter().chain(rules).collect();
        assert_eq!(server.command(&user).unwrap(), "+OK\r\n", "{user:?}");
    }
    let url = |user: &str| format!("redis://{user}:pw@127.0.0.1:{}", server.port());
    let plain = subscriber(&url("InvalidationSubscriber"));
    let reliable = reliable(&url("ReliableStreamSubscriber"), "g").with_prefix("app:");
    let ((handler, mut heard), (reliable_handler, mut read)) = (ear(), ear());
    plain.start(handler);
    reliable.start(reliable_handler);
    subscribed(&server, 1).await;
    until("joined", || position(&server, "app:", "g").contains("m1-")).await;
    let audit_stream = "cache:audit".to_owned();
    let config = InvalidationConfig { enable_audit_stream: true, audit_stream, ..InvalidationConfig::default() };
    let client = redis::Client::open(url("InvalidationPublisher")).unwrap();
    let mut publisher = InvalidationPublisher::new(client.get_connection_manager().await.unwrap(), config);
    publisher.publish(&remove("k")).await.unwrap();
    assert_eq!(next(&mut heard).await, remove("k"));
    assert_eq!(server.command(&["XLEN", "cache:audit"]).unwrap(), ":1\r\n");
    let system = system_with_prefix(&server, "app:").await;
    system.cache_manager.invalidate("l").await.unwrap();
    assert_eq!(next(&mut read).await, remove("l"));
    server.command(&["FLUSHALL"]).unwrap();
    assert_eq!(next(&mut read).await, everything(), "it may begin an epoch");
}

/// Repeats `attempt` until it answers what is wanted.
async fn eventually<T, Fut: Future<Output = T>>(wanted: impl Fn(&T) -> bool, attempt: impl Fn() -> Fut) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = attempt().await;
        if wanted(&got) {
            return got;
        }
        assert!(Instant::now() < deadline, "never came");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_cache_is_heard_by_both_subscribers_and_hears_the_publisher() {
    let server = RedisServer::start().unwrap();
    let (plain, reliable) = (subscriber(&server.url()), reliable(&server.url(), "g"));
    let ((handler, mut heard), (reliable_handler, mut read)) = (ear(), ear());
    plain.start(handler);
    reliable.start(reliable_handler);
    joined(&server, "g").await;
    let system = system(&server).await;
    let cache = &system.cache_manager;
    // Background tasks begin with the first verb.
    assert_eq!(cache.get("k").await.unwrap(), None);
    subscribed(&server, 2).await;
    eventually(|joins| *joins > 0, async || cache.coherence_stats().joins).await;
    let load = || ready(Ok(Bytes::from_static(b"old")));
    assert_eq!(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap(), "old");
    server.command(&["SET", "k", "new"]).unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), "old", "the in-process copy");

    let mut publisher = publisher(&server, InvalidationConfig::default()).await;
    publisher.publish(&remove("k")).await.unwrap();
    let is_new = |got: &CacheResult<Option<Bytes>>| got.as_ref().unwrap().as_deref() == Some(b"new");
    eventually(is_new, || cache.get("k")).await.unwrap();
    assert_eq!(next(&mut heard).await, remove("k"));

    cache.invalidate("k").await.unwrap();
    assert_eq!(next(&mut heard).await, remove("k"));
    assert_eq!(next(&mut read).await, remove("k"));
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!((plain.stats().messages_received, reliable.stats().messages_received), (2, 1));
}
