//! The coordinator in a Redis server: every decision is one Lua script ([`script`], `lua/*.lua`), so it is atomic and
//! one round trip. `PROTOCOL.md` gives the keys, the fields and what a Redis user must be allowed.

pub(crate) mod names;
mod script;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redis::cmd;

use self::names::{KeyNames, Names};
use self::script::{Call, Reply, unexpected};
use super::message;
use super::{
    Acquire, Acquired, Change, Coordinator, Fence, Fill, Grant, Messages, Position, Record, Recorded, Revocation,
    Revoked, Tag, TagTokens, Tail, Token,
};
use crate::backends::redis::connection::Supervisor;
use crate::backends::redis::stored::{milliseconds, remaining};
use crate::defaults;
use crate::error::CacheResult;

const NAME: &str = "Redis";

/// Leases, fills and the log of one namespace (prefix and channel) in one database of a Redis server.
pub(crate) struct RedisCoordinator {
    server: Supervisor,
    names: Names,
    log_length: usize,
    audit: Option<Audit>,
}

/// A stream that every logged change is written down in, for people and other programs.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    pub(crate) stream: String,
    /// About how many entries it keeps; `None` for all.
    pub(crate) maxlen: Option<usize>,
}

impl RedisCoordinator {
    /// The coordinator of the keys under `prefix` in the database of `server`, with its messages in `channel` and a log
    /// of about `log_length` entries, never fewer.
    pub(crate) fn new(
        server: Supervisor,
        prefix: &str,
        channel: &str,
        log_length: usize,
        audit: Option<Audit>,
    ) -> Self {
        Self { server, names: Names::new(prefix, channel), log_length: log_length.max(1), audit }
    }

    /// A call that begins a new epoch if it finds no bus: every such script has these keys and this argument first.
    fn call(&self, source: &'static script::Source) -> Call<'_> {
        let mut call = Call::of(source);
        call.key(&*self.names.bus).key(&*self.names.log).hex(fastrand::u64(..));
        call
    }

    async fn take_lease(&self, ask: Acquire<'_>) -> CacheResult<Acquired> {
        let KeyNames { value, lease, tombstone } = self.names.key(ask.key)?;
        let mut call = self.call(&script::ACQUIRE);
        call.text(ask.token).text(at_least_one(ask.lease)).text(u8::from(ask.refresh));
        call.text(token_ttl(Duration::ZERO)).key(value).key(lease).key(tombstone).keys(self.tags(ask.tags));
        let mut reply = Reply(call.run(&self.server).await?);
        match reply.text(0)? {
            "value" => Ok(Acquired::Value(reply.bytes(1)?, remaining(reply.number(2)?))),
            "busy" => Ok(Acquired::Busy(remaining(reply.number(1)?).unwrap_or(ask.lease))),
            "granted" => Ok(Acquired::Granted(Grant {
                token: ask.token,
                fence: Fence { epoch: reply.hex(1)?, count: reply.number(2)? },
                seq: reply.number(3)?,
                open_below: reply.text(4)? == "1",
            })),
            _ => Err(unexpected()),
        }
    }

    async fn fill_under_lease(&self, fill: Fill<'_>) -> CacheResult<bool> {
        let KeyNames { value, lease, .. } = self.names.key(fill.key)?;
        let Grant { token, fence, seq, .. } = fill.grant;
        let mut call = self.call(&script::FILL);
        call.text(token).hex(fence.epoch).text(seq).bytes(&fill.value);
        call.text(milliseconds(fill.ttl).unwrap_or(0)).text(token_ttl(fill.ttl));
        call.key(value).key(lease).keys(self.tags(fill.tags));
        call.run(&self.server).await
    }

    async fn prolong(&self, key: &str, token: Token, lease: Duration) -> CacheResult<bool> {
        let Some(names) = self.names.key_if_any(key) else { return Ok(false) };
        Call::of(&script::RENEW).key(names.lease).text(token).text(at_least_one(lease)).run(&self.server).await
    }

    async fn end_lease(&self, key: &str, token: Token) -> CacheResult<()> {
        let Some(names) = self.names.key_if_any(key) else { return Ok(()) };
        Call::of(&script::RELEASE).key(names.lease).text(token).run(&self.server).await
    }

    async fn store(&self, key: &str, value: Bytes, ttl: Duration) -> CacheResult<()> {
        let names = self.names.key(key)?;
        let mut call = Call::of(&script::REPLACE);
        call.key(names.value).key(names.lease).bytes(&value).text(milliseconds(ttl).unwrap_or(0));
        call.run(&self.server).await
    }

    async fn carry_out(&self, revocation: Revocation<'_>) -> CacheResult<Revoked> {
        let Revocation { change, nonce, with_values, announced, tombstone, lease, tags } = revocation;
        let (keys, put, tag): (&[Arc<str>], _, _) = match change {
            _ if !with_values => (&[], None, None),
            Change::Keys(keys) => (keys, None, None),
            Change::Put(key, token) => (std::slice::from_ref(key), Some(token), None),
            Change::Tag(tag) => (&[], None, Some(tag)),
            Change::Pattern(_) | Change::Clear => (&[], None, None),
        };
        let keys: Vec<_> = match put {
            // The script takes the first lease for that of the put: there must be one.
            Some(_) => keys.iter().map(|key| self.names.key(key)).collect::<CacheResult<_>>()?,
            None => keys.iter().filter_map(|key| self.names.key_if_any(key)).collect(),
        };
        let tombstone = milliseconds(tombstone).unwrap_or(0);
        let mut call = self.call(&script::REVOKE);
        call.hex(nonce).text(u8::from(announced || tag.is_some())).text(self.log_length);
        call.text(&self.names.channel).text(message::body(&Recorded::from(change)));
        call.text(keys.len()).text(tombstone);
        call.text(put.map(Token::to_string).unwrap_or_default()).text(at_least_one(lease));
        call.text(token_ttl(Duration::ZERO)).text(u8::from(tag.is_some()));
        call.keys(keys.iter().map(|key| &*key.value)).keys(keys.iter().map(|key| &*key.lease));
        if tombstone > 0 {
            call.keys(keys.iter().map(|key| &*key.tombstone));
        }
        call.keys(tag.map(|tag| self.names.tag(tag)));
        self.write_down(&mut call, change);
        call.keys(self.tags(if with_values { tags } else { &[] }));
        let reply = Reply(call.run(&self.server).await?);
        let reason = reply.text(4)?;
        if !reason.is_empty() {
            tracing::warn!(reason, "an invalidation was carried out but not written into the audit stream");
        }
        let at = position(&reply)?;
        Ok(Revoked { at, fence: Fence { epoch: at.epoch, count: reply.number(3)? } })
    }

    /// The audit's part of a call.
    fn write_down<'a>(&'a self, call: &mut Call<'a>, change: &Change) {
        let Some(Audit { stream, maxlen }) = &self.audit else {
            call.text("");
            return;
        };
        let (kind, field, value) = match change {
            Change::Keys(keys) => match keys.as_slice() {
                [key] => ("Remove", "key", key.to_string()),
                keys => ("RemoveBulk", "count", keys.len().to_string()),
            },
            Change::Put(key, _) => ("Update", "key", key.to_string()),
            Change::Pattern(pattern) => ("RemovePattern", "key", pattern.to_string()),
            Change::Tag(tag) => ("RemoveTag", "key", tag.to_string()),
            Change::Clear => ("Clear", "key", "*".to_owned()),
        };
        call.key(&**stream).text(kind).text(field).text(value);
        call.text(maxlen.map(|length| length.to_string()).unwrap_or_default());
    }

    async fn move_fence(&self, closed_below: Duration) -> CacheResult<()> {
        let closed_below = milliseconds(closed_below).unwrap_or(0);
        self.call(&script::FENCE).text(closed_below).run(&self.server).await
    }

    async fn is_open_below(&self, key: &str) -> CacheResult<bool> {
        let Some(names) = self.names.key_if_any(key) else { return Ok(true) };
        Call::of(&script::OPEN_BELOW).key(names.tombstone).key(&*self.names.bus).run(&self.server).await
    }

    async fn tail(&self, forked: Option<Position>) -> CacheResult<Tail> {
        let mut call = self.call(&script::POLL);
        if let Some(Position { epoch, .. }) = forked {
            call.hex(epoch);
        }
        let reply = Reply(call.run(&self.server).await?);
        Ok(Tail { at: position(&reply)?, clock: reply.number(3)? })
    }

    async fn entries_after(&self, seq: u64, count: usize) -> CacheResult<Vec<Record>> {
        let Some(first) = seq.checked_add(1).filter(|_| count > 0) else { return Ok(Vec::new()) };
        let mut range = cmd("XRANGE");
        range.arg(&self.names.log).arg(format!("{first}-0")).arg("+").arg("COUNT").arg(count);
        let entries: Vec<(String, Fields)> = self.server.query(&range).await?;
        Ok(entries.iter().map(|(id, fields)| record(id, fields)).collect())
    }

    async fn tokens(&self, tags: &[Tag]) -> CacheResult<TagTokens> {
        let mut call = self.call(&script::TAG_TOKENS);
        call.keys(self.tags(tags));
        let reply = Reply(call.run(&self.server).await?);
        let token = |at: usize| match reply.0.get(at) {
            Some(None) => Ok(None),
            _ => reply.number(at).map(Some),
        };
        Ok(TagTokens { epoch: reply.hex(0)?, tokens: (1..=tags.len()).map(token).collect::<CacheResult<_>>()? })
    }

    fn tags(&self, tags: &[Tag]) -> impl Iterator<Item = String> {
        tags.iter().map(|tag| self.names.tag(tag))
    }
}

fn at_least_one(time: Duration) -> u64 {
    milliseconds(time).unwrap_or(1)
}

/// How long the token of a tag has to live for an entry that lives for `ttl`.
fn token_ttl(ttl: Duration) -> u64 {
    let with_margin = ttl.saturating_add(defaults::TAG_TOKEN_MARGIN);
    at_least_one(with_margin.max(defaults::TAG_TOKEN_TTL))
}

fn position(reply: &Reply) -> CacheResult<Position> {
    Ok(Position { epoch: reply.hex(0)?, seq: reply.number(1)?, nonce: reply.hex(2)? })
}

/// The fields of an entry of a stream.
type Fields = Vec<(String, Vec<u8>)>;

/// What an entry of the stream says. One that is not the library's own breaks the chain, as whoever reads it will see.
fn record(id: &str, fields: &[(String, Vec<u8>)]) -> Record {
    let said = fields.iter().find(|(name, _)| name == "m").and_then(|(_, json)| message::entry(id, json));
    said.unwrap_or_else(|| {
        let seq = id.split_once('-').and_then(|(seq, _)| seq.parse().ok()).unwrap_or(0);
        Record { at: Position { epoch: 0, seq, nonce: 0 }, previous: 0, change: Recorded::Unknown }
    })
}

impl Coordinator for RedisCoordinator {
    fn audits(&self) -> bool {
        self.audit.is_some()
    }

    fn acquire<'a>(&'a self, ask: Acquire<'a>) -> BoxFuture<'a, CacheResult<Acquired>> {
        Box::pin(async move { self.take_lease(ask).await.map_err(|error| error.at(NAME, "acquire")) })
    }

    fn fill<'a>(&'a self, fill: Fill<'a>) -> BoxFuture<'a, CacheResult<bool>> {
        Box::pin(async move { self.fill_under_lease(fill).await.map_err(|error| error.at(NAME, "fill")) })
    }

    fn renew<'a>(&'a self, key: &'a str, token: Token, lease: Duration) -> BoxFuture<'a, CacheResult<bool>> {
        Box::pin(async move { self.prolong(key, token, lease).await.map_err(|error| error.at(NAME, "renew")) })
    }

    fn release<'a>(&'a self, key: &'a str, token: Token) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.end_lease(key, token).await.map_err(|error| error.at(NAME, "release")) })
    }

    fn replace<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.store(key, value, ttl).await.map_err(|error| error.at(NAME, "set")) })
    }

    fn revoke<'a>(&'a self, revocation: Revocation<'a>) -> BoxFuture<'a, CacheResult<Revoked>> {
        Box::pin(async move { self.carry_out(revocation).await.map_err(|error| error.at(NAME, "revoke")) })
    }

    fn fence(&self, closed_below: Duration) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(async move { self.move_fence(closed_below).await.map_err(|error| error.at(NAME, "fence")) })
    }

    fn open_below<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<bool>> {
        Box::pin(async move { self.is_open_below(key).await.map_err(|error| error.at(NAME, "open_below")) })
    }

    fn poll(&self, forked: Option<Position>) -> BoxFuture<'_, CacheResult<Tail>> {
        Box::pin(async move { self.tail(forked).await.map_err(|error| error.at(NAME, "poll")) })
    }

    fn read_log(&self, seq: u64, count: usize) -> BoxFuture<'_, CacheResult<Vec<Record>>> {
        Box::pin(async move { self.entries_after(seq, count).await.map_err(|error| error.at(NAME, "read_log")) })
    }

    fn tag_tokens<'a>(&'a self, tags: &'a [Tag]) -> BoxFuture<'a, CacheResult<TagTokens>> {
        Box::pin(async move { self.tokens(tags).await.map_err(|error| error.at(NAME, "tag_tokens")) })
    }

    fn listen(&self) -> BoxFuture<'_, CacheResult<Messages>> {
        Box::pin(async move {
            self.server.subscribe(&self.names.channel).await.map_err(|error| error.at(NAME, "subscribe"))
        })
    }
}

impl fmt::Debug for RedisCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, names, log_length, audit } = self;
        let mut debug = f.debug_struct("RedisCoordinator");
        debug.field("server", server).field("channel", &names.channel).field("log_length", log_length);
        debug.field("audit", audit).finish_non_exhaustive()
    }
}
