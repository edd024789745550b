//! No secret is logged or shown.
#![cfg(feature = "redis")]

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use multi_tier_cache::backends::RedisCache;
use multi_tier_cache::{CacheBackend, CacheError, CacheSystem, CacheSystemBuilder, RedisStreams, StreamingBackend};
use parking_lot::Mutex;
use test_servers::RedisServer;
use tracing_subscriber::fmt::MakeWriter;

/// What this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

// 11. The URL with its password was logged at every connect, and shown by Debug and in errors.
#[tokio::test]
async fn no_password_is_logged_or_shown() {
    const RIGHT: &str = "correct-horse";
    const WRONG: &str = "hunter2-wrong";
    let log = Log::default();
    let writer = log.clone();
    // For the whole process, whose only test this is: what is logged on any thread is seen.
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(writer).init();
    let mut server = RedisServer::builder().password(RIGHT).start().unwrap();
    let mut shown = String::new();
    for url in
        [server.url(), server.url().replace(RIGHT, WRONG), format!("redis://app:{WRONG}@127.0.0.1:{}", server.port())]
    {
        let system = CacheSystem::with_redis_url(&url).await.unwrap();
        let cache = system.cache_manager();
        let mut errors = vec![cache.get("k").await.err(), cache.invalidate("k").await.err()];
        errors.push(cache.publish_to_stream("s", vec![("f".into(), "v".into())], None).await.err());
        errors.push(RedisStreams::new(&url).await.unwrap().stream_read_latest("s", 1).await.err());
        assert_eq!(errors.iter().flatten().count(), if url.contains(WRONG) { 4 } else { 0 }, "{errors:?}");
        for error in errors.into_iter().flatten() {
            writeln!(shown, "{error} {error:?} {error:#?} {:?}", anyhow::Error::from(error.clone())).unwrap();
        }
        writeln!(shown, "{system:?} {cache:?} {:?}", cache.health().await).unwrap();
    }
    server.kill().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    let error = cache.try_get("k").await.unwrap_err();
    writeln!(shown, "{cache:?} {error} {error:?}").unwrap();
    for malformed in
        [format!("redis://u:{WRONG}@host:port"), format!("u:{WRONG}@host"), format!("redis://:{WRONG}@h/x")]
    {
        let error = CacheSystemBuilder::new().with_redis_url(&malformed).build().await.unwrap_err();
        assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
        writeln!(shown, "{error} {error:?}").unwrap();
    }
    let logged = String::from_utf8_lossy(&log.0.lock()).into_owned();
    assert!(logged.contains("127.0.0.1"), "nothing about the connection was logged:\n{logged}");
    for secret in [RIGHT, WRONG] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!logged.contains(secret), "{logged}");
    }
}
