//! Redis Streams: append-only logs with optional consumer groups.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value, cmd};
use tokio::runtime::{self, Handle};
use tokio::time;

use crate::backends::redis::address::RedisAddress;
use crate::backends::redis::connection::{Supervisor, ping};
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::{StreamEntry, StreamingBackend};

const NAME: &str = "Redis";

/// Streams in a Redis server.
///
/// Cheap to clone; clones share their connections. Commands that do not block share one supervised connection; a
/// blocking read has one of its own, so it never delays other traffic. Dropping a blocking read closes its connection:
/// an entry that Redis was about to deliver through [`stream_read_group`](StreamingBackend::stream_read_group) may then
/// be pending for the consumer. Fields that are not UTF-8 are read with replacement characters.
#[derive(Clone)]
pub struct RedisStreams(Arc<Inner>);

struct Inner {
    server: Supervisor,
    idle: Mutex<Vec<(runtime::Id, MultiplexedConnection)>>,
}

impl RedisStreams {
    /// Streams in the server at `url`: `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS. Connected
    /// at return if the server answers within 250 ms; an unreachable server is not an error.
    ///
    /// # Errors
    /// `ConfigError` if `url` is malformed.
    pub async fn new(url: &str) -> CacheResult<Self> {
        let address = RedisAddress::resolve(Some(url))?;
        let server = Supervisor::new(&address, defaults::TIER_BUDGET, None)?;
        server.start_and_wait(defaults::EAGER_CONNECT_WAIT).await;
        Ok(Self::on(server))
    }

    pub(crate) fn on(server: Supervisor) -> Self {
        Self(Arc::new(Inner { server, idle: Mutex::default() }))
    }

    async fn add(&self, key: &str, fields: &[(String, String)], maxlen: Option<usize>) -> CacheResult<String> {
        if fields.is_empty() {
            return Err(CacheError::ConfigError("a stream entry needs at least one field".to_owned()));
        }
        let mut add = cmd("XADD");
        add.arg(key);
        if let Some(length) = maxlen {
            add.arg("MAXLEN").arg("~").arg(length);
        }
        add.arg("*");
        for (field, value) in fields {
            add.arg(field).arg(value);
        }
        self.0.server.query(&add).await
    }

    async fn read_latest(&self, key: &str, count: usize) -> CacheResult<Vec<StreamEntry>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut range = cmd("XREVRANGE");
        range.arg(key).arg("+").arg("-").arg("COUNT").arg(count);
        entries(self.0.server.query(&range).await?)
    }

    async fn read(&self, key: &str, after: &str, count: usize, block: Option<usize>) -> CacheResult<Vec<StreamEntry>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        self.read_one_stream(cmd("XREAD"), (key, after), count, block).await
    }

    async fn read_as(
        &self,
        (group, consumer): (&str, &str),
        key: &str,
        count: usize,
        block: Option<usize>,
    ) -> CacheResult<Vec<StreamEntry>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer);
        self.read_one_stream(read, (key, ">"), count, block).await
    }

    async fn read_one_stream(
        &self,
        mut read: Cmd,
        (key, after): (&str, &str),
        count: usize,
        block: Option<usize>,
    ) -> CacheResult<Vec<StreamEntry>> {
        read.arg("COUNT").arg(count);
        let wait = block.map(wait);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        read.arg("STREAMS").arg(key).arg(after);
        let reply = match wait {
            Some(wait) => self.query_blocking(&read, wait).await?,
            None => self.0.server.query(&read).await?,
        };
        only_stream(reply)
    }

    /// Runs a command that blocks for up to `wait` on a connection of its own. The connection is kept for the next one
    /// only after a reply: a dropped or failed read may have left an answer under way.
    async fn query_blocking(&self, command: &Cmd, wait: Duration) -> CacheResult<Value> {
        let server = &self.0.server;
        let patience = wait.saturating_add(server.budget());
        let mut connection = match self.idle().await {
            Some(connection) => connection,
            None => server.dedicated(patience).await?,
        };
        connection.set_response_timeout(patience);
        let reply = command.query_async(&mut connection).await.map_err(|error| server.explain(error, patience))?;
        self.keep(connection);
        Ok(reply)
    }

    /// A kept connection of this runtime that still answers.
    async fn idle(&self) -> Option<MultiplexedConnection> {
        let here = Handle::try_current().ok()?.id();
        loop {
            let mut connection = {
                let mut idle = self.0.idle.lock();
                let at = idle.iter().rposition(|(owner, _)| *owner == here)?;
                idle.remove(at).1
            };
            if matches!(time::timeout(defaults::VERIFY_BUDGET, ping(&mut connection)).await, Ok(Ok(()))) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: MultiplexedConnection) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut idle = self.0.idle.lock();
        if idle.len() >= defaults::STREAM_IDLE_CONNECTIONS {
            // The oldest is the likeliest to belong to a runtime that has ended.
            idle.remove(0);
        }
        idle.push((runtime.id(), connection));
    }

    async fn create_group(&self, key: &str, group: &str, id: &str) -> CacheResult<()> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(key).arg(group).arg(id).arg("MKSTREAM");
        let mut lent = self.0.server.acquire().await?;
        let outcome = match create.query_async(lent.connection()).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            outcome => outcome,
        };
        lent.conclude(outcome)
    }

    async fn ack(&self, key: &str, group: &str, ids: &[String]) -> CacheResult<()> {
        for chunk in ids.chunks(defaults::KEY_CHUNK) {
            self.0.server.query::<()>(cmd("XACK").arg(key).arg(group).arg(chunk)).await?;
        }
        Ok(())
    }
}

/// How long a read may block. Redis takes zero as "for ever", which is given the longest wait there is.
fn wait(milliseconds: usize) -> Duration {
    let bounded =
        if milliseconds == 0 { defaults::STREAM_BLOCK_MAX } else { milliseconds.min(defaults::STREAM_BLOCK_MAX) };
    Duration::from_millis(u64::try_from(bounded).unwrap_or(u64::MAX))
}

/// The entries of a reply about one stream: nil when there were none, else a list (in RESP3 a map) of one stream.
fn only_stream(reply: Value) -> CacheResult<Vec<StreamEntry>> {
    let stream = match reply {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(name_and_entries)) => name_and_entries.into_iter().nth(1),
            _ => None,
        },
        _ => None,
    };
    entries(stream.ok_or_else(unexpected)?)
}

fn entries(value: Value) -> CacheResult<Vec<StreamEntry>> {
    let Value::Array(list) = value else { return Err(unexpected()) };
    list.into_iter().map(entry).collect()
}

fn entry(value: Value) -> CacheResult<StreamEntry> {
    let Value::Array(parts) = value else { return Err(unexpected()) };
    let mut parts = parts.into_iter();
    let id = text(parts.next().ok_or_else(unexpected)?)?;
    let fields = match parts.next() {
        Some(Value::Array(flat)) => flat,
        // A pending entry that was deleted since.
        Some(Value::Nil) | None => Vec::new(),
        Some(_) => return Err(unexpected()),
    };
    let mut fields = fields.into_iter();
    let mut pairs = Vec::with_capacity(fields.len() / 2);
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        pairs.push((text(field)?, text(value)?));
    }
    Ok((id, pairs))
}

fn text(value: Value) -> CacheResult<String> {
    match value {
        Value::BulkString(bytes) => {
            Ok(String::from_utf8(bytes).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()))
        }
        Value::SimpleString(text) => Ok(text),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> CacheError {
    CacheError::BackendError(Failure::new("Redis answered a stream command in an unknown form"))
}

impl StreamingBackend for RedisStreams {
    /// Appends an entry; trims to about `maxlen` (`MAXLEN ~`), never below it.
    fn stream_add<'a>(
        &'a self,
        stream_key: &'a str,
        fields: Vec<(String, String)>,
        maxlen: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<String>> {
        Box::pin(
            async move { self.add(stream_key, &fields, maxlen).await.map_err(|error| error.at(NAME, "stream_add")) },
        )
    }

    fn stream_read_latest<'a>(
        &'a self,
        stream_key: &'a str,
        count: usize,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>> {
        Box::pin(async move {
            self.read_latest(stream_key, count).await.map_err(|error| error.at(NAME, "stream_read_latest"))
        })
    }

    /// Blocks for at most 24 h, however long was asked for; `Some(0)` means that long.
    fn stream_read<'a>(
        &'a self,
        stream_key: &'a str,
        last_id: &'a str,
        count: usize,
        block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>> {
        Box::pin(async move {
            let entries = self.read(stream_key, last_id, count, block_ms).await;
            entries.map_err(|error| error.at(NAME, "stream_read"))
        })
    }

    /// Creates the group, and the stream if it is absent; an existing group is left as it is.
    fn stream_create_group<'a>(
        &'a self,
        stream_key: &'a str,
        group_name: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            let created = self.create_group(stream_key, group_name, id).await;
            created.map_err(|error| error.at(NAME, "stream_create_group"))
        })
    }

    /// Reads entries that no consumer of the group was given yet; blocks as [`stream_read`](Self::stream_read).
    fn stream_read_group<'a>(
        &'a self,
        stream_key: &'a str,
        group_name: &'a str,
        consumer_name: &'a str,
        count: usize,
        block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>> {
        Box::pin(async move {
            let entries = self.read_as((group_name, consumer_name), stream_key, count, block_ms).await;
            entries.map_err(|error| error.at(NAME, "stream_read_group"))
        })
    }

    fn stream_ack<'a>(
        &'a self,
        stream_key: &'a str,
        group_name: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(
            async move { self.ack(stream_key, group_name, ids).await.map_err(|error| error.at(NAME, "stream_ack")) },
        )
    }
}

impl fmt::Debug for RedisStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreams").field("server", &self.0.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_without_end_is_bounded() {
        let longest = Duration::from_secs(24 * 60 * 60);
        assert_eq!(wait(0), longest);
        assert_eq!(wait(usize::MAX), longest);
        assert_eq!(wait(5), Duration::from_millis(5));
    }
}
