//! Announces invalidations from programs that are no cache.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::aio::ConnectionManager;
use redis::{Pipeline, RedisResult, Value, pipe};

use super::config::InvalidationConfig;
use super::message::InvalidationMessage;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};

/// Announces invalidations to every cache on a channel, from a program that has none.
///
/// It touches no value: remove or replace what is in Redis first, then publish. Its messages are outside the log of
/// invalidations: every cache and every [`InvalidationSubscriber`](super::InvalidationSubscriber) that listens at the
/// moment applies them, one that does not will not hear of them, and a
/// [`ReliableStreamSubscriber`](super::ReliableStreamSubscriber) never does. Where that is not enough, use a
/// [`CacheManager`](crate::CacheManager)'s verbs.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use multi_tier_cache::{InvalidationConfig, InvalidationMessage, InvalidationPublisher};
///
/// let client = redis::Client::open("redis://127.0.0.1:6379")?;
/// let mut publisher = InvalidationPublisher::new(client.get_connection_manager().await?, InvalidationConfig::default());
/// publisher.publish(&InvalidationMessage::remove("user:1")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct InvalidationPublisher {
    connection: ConnectionManager,
    config: InvalidationConfig,
}

impl InvalidationPublisher {
    /// A publisher on the channel of `config`, with its audit stream if that is enabled. Waits and retries are those of
    /// `connection`.
    #[must_use]
    pub fn new(connection: ConnectionManager, config: InvalidationConfig) -> Self {
        Self { connection, config }
    }

    /// Publishes `message` and, if enabled, adds it to the audit stream, in one round trip. That nobody listens is no
    /// error, nor is an audit stream that cannot be written. If this future is dropped, the message may have been
    /// published or not.
    ///
    /// # Errors
    /// `InvalidationError` if Redis could not be reached or refused (the message may have been published if it is
    /// retryable); `ConfigError` for a message over 16 MiB, which no cache would read.
    pub async fn publish(&mut self, message: &InvalidationMessage) -> CacheResult<()> {
        let json = message.to_json()?;
        if json.len() > defaults::MESSAGE_BYTES_MAX {
            let (bytes, limit) = (json.len(), defaults::MESSAGE_BYTES_MAX);
            return Err(CacheError::ConfigError(format!("an invalidation message of {bytes} bytes is over {limit}")));
        }
        let mut announcement = pipe();
        announcement.ignore_errors().cmd("PUBLISH").arg(&self.config.channel).arg(json);
        if self.config.enable_audit_stream {
            self.write_down(&mut announcement, message);
        }
        let replies: RedisResult<Vec<RedisResult<Value>>> = announcement.query_async(&mut self.connection).await;
        let mut replies = replies.map_err(unpublished)?.into_iter();
        replies.next().transpose().map_err(unpublished)?;
        if let Some(Err(error)) = replies.next() {
            let reason = CacheError::from(error);
            tracing::warn!(%reason, "an invalidation was published but not written into the audit stream");
        }
        Ok(())
    }

    fn write_down(&self, announcement: &mut Pipeline, message: &InvalidationMessage) {
        let add = announcement.cmd("XADD").arg(&self.config.audit_stream);
        if let Some(length) = self.config.audit_stream_maxlen {
            add.arg("MAXLEN").arg("~").arg(length);
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (kind, field, value) = match message {
            InvalidationMessage::Remove { key } => ("Remove", "key", key.clone()),
            InvalidationMessage::Update { key, .. } => ("Update", "key", key.clone()),
            InvalidationMessage::RemovePattern { pattern } => ("RemovePattern", "key", pattern.clone()),
            InvalidationMessage::RemoveBulk { keys } => ("RemoveBulk", "count", keys.len().to_string()),
        };
        add.arg("*").arg("type").arg(kind).arg("timestamp").arg(seconds).arg(field).arg(value);
    }
}

fn unpublished(error: redis::RedisError) -> CacheError {
    let error = CacheError::from(error);
    let failure = Failure::new(format!("an invalidation was not published: {error}")).in_tier("Redis");
    let failure = if error.is_retryable() { failure.retryable() } else { failure };
    CacheError::InvalidationError(failure.during("publish").caused_by(error))
}
