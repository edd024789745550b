//! Hands the messages of a channel to a user's handler, as they come.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::config::InvalidationConfig;
use super::delivery::{Delivery, End, Lifetime, pause, pauses};
use super::message::InvalidationMessage;
use super::stats::{Counts, InvalidationStats};
use crate::backends::redis::address::RedisAddress;
use crate::backends::redis::connection::Supervisor;
use crate::defaults;
use crate::error::CacheResult;

/// Hands every message on an invalidation channel to a handler: those of caches and of
/// [`InvalidationPublisher`](super::InvalidationPublisher)s, of every key prefix and database of the server.
///
/// Fast, and without a memory: what is published while it is not connected, or while more than
/// [`MESSAGES_WAITING`](crate::defaults::MESSAGES_WAITING) messages wait for the handler, is lost to it.
/// [`ReliableStreamSubscriber`](super::ReliableStreamSubscriber) misses nothing of what caches announce.
///
/// The handler gets one message at a time, in their order, with the keys as the caches name them (without a prefix):
///
/// | a cache | the handler gets |
/// |---|---|
/// | removed keys or a pattern | `Remove`, `RemoveBulk`, `RemovePattern` |
/// | put a value | `Remove`, counted as an update: no value travels |
/// | was cleared | `RemovePattern` of `*` |
/// | removed a tag | nothing: the message is counted as received, only a cache knows the tags of keys |
///
/// A message of a newer version of this library that cannot be told in these terms is `RemovePattern` of `*`. What is no
/// message at all counts as a processing error, and so do a handler that answers an error and one that panics; nothing
/// is retried.
///
/// ```no_run
/// # async fn example() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::{InvalidationConfig, InvalidationSubscriber};
///
/// let subscriber = InvalidationSubscriber::new("redis://127.0.0.1:6379", InvalidationConfig::default())?;
/// let task = subscriber.start(|message| async move {
///     println!("{message:?}");
///     Ok(())
/// });
/// subscriber.shutdown();
/// let _ = task.await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InvalidationSubscriber {
    server: Supervisor,
    config: InvalidationConfig,
    counts: Arc<Counts>,
    lifetime: Lifetime,
}

impl InvalidationSubscriber {
    /// A subscriber to the channel of `config` at `url` (`redis://` or `rediss://`), which connects once it is
    /// started. Needs no Tokio runtime.
    ///
    /// # Errors
    /// `ConfigError` if `url` is malformed.
    pub fn new(url: &str, config: InvalidationConfig) -> CacheResult<Self> {
        let address = RedisAddress::resolve(Some(url))?;
        let server = Supervisor::new(&address, defaults::TIER_BUDGET, None)?;
        Ok(Self { server, config, counts: Arc::default(), lifetime: Lifetime::default() })
    }

    /// Subscribes, in a task of the current runtime, and hands what comes to `handler`. The task connects again for
    /// ever, with jittered pauses of up to 500 ms; it ends with the subscriber or at [`shutdown`](Self::shutdown), at
    /// once when it is waiting and otherwise when the handler is done with its message. Each call starts another task
    /// with its own subscription.
    ///
    /// # Panics
    /// Outside a Tokio runtime. The runtime needs time and I/O enabled.
    pub fn start<F, Fut>(&self, handler: F) -> JoinHandle<()>
    where
        F: Fn(InvalidationMessage) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CacheResult<()>> + Send + 'static,
    {
        let delivery = Delivery::new(handler, &self.counts);
        let (server, channel, mut end) = (self.server.clone(), self.config.channel.clone(), self.lifetime.watch());
        tokio::spawn(async move {
            listen_forever(&server, &channel, &delivery, &mut end).await;
        })
    }

    /// What came so far; `messages_sent` stays 0.
    #[must_use]
    pub fn stats(&self) -> InvalidationStats {
        self.counts.messages()
    }

    /// Ends the tasks of this subscriber, for good: one that is started later ends at once.
    pub fn shutdown(&self) {
        self.lifetime.end();
    }
}

/// `None` at the end.
async fn listen_forever<F, Fut>(server: &Supervisor, channel: &str, delivery: &Delivery<F>, end: &mut End) -> Option<()>
where
    F: Fn(InvalidationMessage) -> Fut,
    Fut: Future<Output = CacheResult<()>>,
{
    let mut wait = pauses();
    loop {
        match end.or(server.subscribe(channel)).await? {
            Ok(mut messages) => {
                wait = pauses();
                while let Some(payload) = end.or(messages.next()).await? {
                    delivery.payload(&payload).await;
                }
                tracing::info!("the subscription to invalidation messages ended, subscribing anew");
            }
            Err(error) => tracing::debug!(%error, "no subscription to invalidation messages, retrying"),
        }
        end.or(pause(&mut wait)).await?;
    }
}
