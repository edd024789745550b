//! Hands every entry of the log to a user's handler, from where its group was.
//!
//! The position of a group is a [`Position`] in a key of its own rather than a consumer group of the log's stream: a
//! new epoch unlinks the stream, and the groups with it, and neither a group nor the stream tells what was trimmed.
//! A position names epoch and nonce, so whatever was lost is noticed: the next entry is not chained to it.

use std::future::Future;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::config::InvalidationConfig;
use super::delivery::{Delivery, End, Lifetime, pause, pauses};
use super::message::InvalidationMessage;
use super::stats::{Counts, InvalidationStats};
use crate::backends::redis::address::RedisAddress;
use crate::backends::redis::connection::Supervisor;
use crate::coordinator::redis::RedisCoordinator;
use crate::coordinator::redis::names::Names;
use crate::coordinator::{Coordinator, Position, Record, Recorded};
use crate::defaults;
use crate::error::{CacheError, CacheResult};

/// Hands every entry of a log of invalidations to a handler, in their order, at least once, also what was announced
/// while it was away.
///
/// It reads the log of one key prefix (that of the caches' `RedisConfig`, empty by default) on the server that keeps it.
/// How far a **group** has come is kept there under its name. Every subscriber sees every message, whatever its group:
/// give each its own name, the same after each restart. Two of one name both see everything while they run, but share
/// one position: whoever restarts goes on from where the other is.
///
/// * A group that is not known yet begins at the end of the log, as soon as the server is reached for the first time.
/// * An entry is acknowledged when its handler answered `Ok`. After an error or a panic the handler gets it again, up to
///   [`HANDLER_ATTEMPTS`](crate::defaults::HANDLER_ATTEMPTS) times in all; then it is counted in `processing_errors` and
///   skipped. After a crash or an outage the handler may get entries again that it had answered.
/// * If entries were lost, because the log was trimmed beyond the position, flushed, or begun anew after a failover, the
///   handler gets `RemovePattern` of `*` in their place: everything may have changed. Only a group whose own position
///   was lost while it was away (a flush) cannot be told from a new one.
/// * The position has no time to live: unlink its key (`PROTOCOL.md`) when a group is given up.
///
/// Messages are told in the terms of [`InvalidationSubscriber`](super::InvalidationSubscriber). Those of an
/// [`InvalidationPublisher`](super::InvalidationPublisher) are not in the log.
///
/// ```no_run
/// # async fn example() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::{InvalidationConfig, ReliableStreamSubscriber};
///
/// let url = "redis://127.0.0.1:6379";
/// let subscriber = ReliableStreamSubscriber::new(url, InvalidationConfig::default(), "search-index")?.with_prefix("shop:");
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
pub struct ReliableStreamSubscriber {
    server: Supervisor,
    config: InvalidationConfig,
    group: String,
    prefix: String,
    counts: Arc<Counts>,
    lifetime: Lifetime,
}

impl ReliableStreamSubscriber {
    /// A subscriber to the log of the channel of `config`, without a prefix, at `url` (`redis://` or `rediss://`). It
    /// connects once it is started and needs no Tokio runtime before.
    ///
    /// # Errors
    /// `ConfigError` if `url` is malformed or `group` empty.
    pub fn new(url: &str, config: InvalidationConfig, group: &str) -> CacheResult<Self> {
        if group.is_empty() {
            return Err(CacheError::ConfigError("a reliable subscriber needs the name of a group".to_owned()));
        }
        let address = RedisAddress::resolve(Some(url))?;
        let server = Supervisor::new(&address, defaults::TIER_BUDGET, None)?;
        let (group, counts, lifetime) = (group.to_owned(), Arc::default(), Lifetime::default());
        Ok(Self { server, config, group, prefix: String::new(), counts, lifetime })
    }

    /// Reads the log of the caches whose keys have this prefix. A group has a position of its own in each log.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Follows the log, in a task of the current runtime, and hands its entries to `handler`. The task connects again
    /// for ever, with jittered pauses of up to 500 ms; it ends with the subscriber or at [`shutdown`](Self::shutdown),
    /// at once when it is waiting and otherwise when the handler is done with its message. That one is acknowledged
    /// if the answer was `Ok`; if not, it comes again after a restart. Each call starts another task of the same group.
    ///
    /// # Panics
    /// Outside a Tokio runtime. The runtime needs time and I/O enabled.
    pub fn start<F, Fut>(&self, handler: F) -> JoinHandle<()>
    where
        F: Fn(InvalidationMessage) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CacheResult<()>> + Send + 'static,
    {
        let delivery = Delivery::new(handler, &self.counts);
        let mut reader = Reader::new(self.server.clone(), &self.prefix, &self.config.channel, &self.group);
        let mut end = self.lifetime.watch();
        tokio::spawn(async move {
            follow_forever(&mut reader, &delivery, &mut end).await;
        })
    }

    /// What came so far; `messages_sent` stays 0. A gap counts as a message received, a `RemovePattern`.
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
async fn follow_forever<F, Fut>(reader: &mut Reader, delivery: &Delivery<F>, end: &mut End) -> Option<()>
where
    F: Fn(InvalidationMessage) -> Fut,
    Fut: Future<Output = CacheResult<()>>,
{
    let mut wait = pauses();
    loop {
        let news = match end.or(reader.next()).await? {
            Ok(news) => news,
            Err(error) => {
                tracing::debug!(%error, "the invalidation log cannot be read, retrying");
                end.or(pause(&mut wait)).await?;
                continue;
            }
        };
        wait = pauses();
        for record in &news.chained {
            delivery.entry(&record.change, end).await?;
            reader.acknowledge(record.at).await;
            end.or(async {}).await?;
        }
        if let Some(from) = news.lost_before {
            tracing::warn!("entries of the invalidation log were lost to a subscriber, which is told that all changed");
            delivery.entry(&Recorded::Clear, end).await?;
            reader.acknowledge(from).await;
        }
    }
}

/// What the log has that the group has not seen.
#[derive(Default)]
struct News {
    /// Entries each of which follows the one before, the first the group's position.
    chained: Vec<Record>,
    /// After them comes a gap. Whoever knows that everything may have changed goes on from here.
    lost_before: Option<Position>,
}

/// The log, and how far a group has come in it.
struct Reader {
    server: Supervisor,
    coordinator: RedisCoordinator,
    log: String,
    group: String,
    at: Option<Position>,
    waiting: Option<MultiplexedConnection>,
    /// The last wait was ended by an entry.
    woken: bool,
}

impl Reader {
    fn new(server: Supervisor, prefix: &str, channel: &str, group: &str) -> Self {
        let names = Names::new(prefix, channel);
        let coordinator = RedisCoordinator::new(server.clone(), prefix, channel, defaults::LOG_LENGTH, None);
        let group = names.group(group);
        Self { server, coordinator, log: names.log, group, at: None, waiting: None, woken: false }
    }

    /// What comes after the position; waits for a moment if there is nothing.
    async fn next(&mut self) -> CacheResult<News> {
        let at = match self.at {
            Some(at) => at,
            None => self.resume().await?,
        };
        let tail = self.coordinator.poll(None).await?.at;
        if tail == at {
            self.wait_after(at).await?;
            return Ok(News::default());
        }
        self.woken = false;
        if tail.epoch != at.epoch || tail.seq <= at.seq {
            return Ok(News { chained: Vec::new(), lost_before: Some(tail) });
        }
        let mut records = self.coordinator.read_log(at.seq, defaults::LOG_PAGE).await?;
        // What is beyond the tail was added since, and is judged when the tail is known to have passed it.
        records.retain(|record| record.at.seq <= tail.seq);
        let chained = chained(at, &records);
        let lost_before = (chained < records.len() || records.is_empty()).then_some(tail);
        records.truncate(chained);
        Ok(News { chained: records, lost_before })
    }

    /// Where the group was; a new one begins at the end of the log, and that is kept before anything is read.
    async fn resume(&mut self) -> CacheResult<Position> {
        let kept: Option<Vec<u8>> = self.server.query(cmd("GET").arg(&self.group)).await?;
        let at = if let Some(kept) = kept {
            // What is no position is one that the log has lost.
            String::from_utf8_lossy(&kept).parse().unwrap_or(Position { epoch: 0, seq: 0, nonce: 0 })
        } else {
            let end = self.coordinator.poll(None).await?.at;
            self.keep(end).await?;
            end
        };
        self.at = Some(at);
        Ok(at)
    }

    /// Moves the position. If the server cannot be told, entries come again after a restart.
    async fn acknowledge(&mut self, at: Position) {
        self.at = Some(at);
        if let Err(error) = self.keep(at).await {
            tracing::debug!(%error, "the position in the invalidation log was not kept");
        }
    }

    async fn keep(&self, at: Position) -> CacheResult<()> {
        self.server.query(cmd("SET").arg(&self.group).arg(at.to_string())).await
    }

    /// Until the log has an entry after `at`, or it is time to ask whether it was begun anew.
    async fn wait_after(&mut self, at: Position) -> CacheResult<()> {
        let longest = defaults::POLL_INTERVAL;
        if self.woken {
            // By an entry that is none of the log's own: it would wake this at once again.
            self.woken = false;
            sleep(longest).await;
            return Ok(());
        }
        let patience = longest + self.server.budget();
        let mut connection = match self.waiting.take() {
            Some(connection) => connection,
            None => self.server.dedicated(patience).await?,
        };
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        read.arg("STREAMS").arg(&self.log).arg(format!("{}-0", at.seq));
        let reply: Value =
            read.query_async(&mut connection).await.map_err(|error| self.server.explain(error, patience))?;
        self.woken = reply != Value::Nil;
        self.waiting = Some(connection);
        Ok(())
    }
}

/// How many of `records` follow one another, the first of them `at`.
fn chained(mut at: Position, records: &[Record]) -> usize {
    let follows = |record: &&Record| {
        let follows = record.follows(at);
        at = record.at;
        follows
    };
    records.iter().take_while(follows).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> Record {
        let at = Position { epoch: 1, seq, nonce: seq * 10 };
        Record { at, previous: (seq - 1) * 10, change: Recorded::Keys(vec!["k".into()]) }
    }

    #[test]
    fn entries_are_taken_up_to_the_first_that_is_not_chained() {
        let at = record(3).at;
        assert_eq!(chained(at, &[record(4), record(5), record(6)]), 3);
        assert_eq!(chained(at, &[record(4), record(6)]), 1, "a hole");
        assert_eq!(chained(at, &[record(5)]), 0, "trimmed");
        assert_eq!(chained(at, &[record(3), record(4)]), 0, "known");
        assert_eq!(chained(at, &[Record { previous: 7, ..record(4) }]), 0, "another history");
        let other = Position { epoch: 2, ..record(4).at };
        assert_eq!(chained(at, &[Record { at: other, ..record(4) }]), 0, "another epoch");
        let last = Position { seq: u64::MAX, ..at };
        assert_eq!(chained(last, &[record(4)]), 0);
    }
}
