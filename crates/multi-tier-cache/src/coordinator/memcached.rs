//! Leases in Memcached, and no more than leases: it cannot keep a log, a fence or tags.
//!
//! A lease is an item in the place of the value (`PROTOCOL.md` gives its flags) that holds the token of its load.
//! Whatever else is done to the key ends it: another program's set, a removal, an eviction, a restart. What a load may
//! do under its lease is done in two requests: one that reads the token, one that changes the item only if it is still
//! the one that was read (CAS). A CAS is not kept from the grant on: a server that was restarted counts from 1 again,
//! and the CAS of an old lease may be that of another load's.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use memcache::exp::{GetResult, MutationStatus, Op, OpResult};

use super::{
    Acquire, Acquired, Change, Coordinator, Fence, Fill, Grant, Messages, Position, Record, Revocation, Revoked, Tag,
    TagTokens, Tail, Token,
};
use crate::backends::MemcachedCache;
use crate::backends::memcached::item::{Item, ServerKey, ServerTtl};
use crate::backends::memcached::link::NAME;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::CacheBackend;

/// Where a log that is not kept stands.
const NOWHERE: Position = Position { epoch: 0, seq: 0, nonce: 0 };
const FENCE: Fence = Fence { epoch: 0, count: 0 };

/// How often a change under a lease is tried: a renewal that was given up may come between its two requests, once.
const ATTEMPTS: usize = 2;

/// The leases of the keys in one Memcached tier.
pub(crate) struct MemcachedCoordinator(MemcachedCache);

impl MemcachedCoordinator {
    pub(crate) fn new(tier: MemcachedCache) -> Self {
        Self(tier)
    }

    /// Adds the lease, unless something is there, and looks at what is there then: all in one round trip. The
    /// tombstone is looked at when the lease is in its place, and removals set it before they end leases.
    async fn take(&self, ask: Acquire<'_>) -> CacheResult<Acquired> {
        if !ask.tags.is_empty() {
            return Err(unsupported("tags"));
        }
        let key = ServerKey::of(ask.key);
        let lease = key.set_lease(ask.token.0, ask.lease);
        let look = [lease.clone().add().into(), key.get_with_cas().into(), key.get_tombstone().into()];
        let [_, OpResult::Get(there), OpResult::Get(tombstone)] = self.exchange("acquire", &key, look).await? else {
            return Err(unexpected("acquire"));
        };
        let granted = Grant { token: ask.token, fence: FENCE, seq: NOWHERE.seq, open_below: !tombstone.hit() };
        let cas = cas(&there);
        match key.item(there) {
            Item::Lease(token, _) if token == ask.token.0 => cas.map(|_| Acquired::Granted(granted)),
            Item::Lease(_, remaining) => Ok(Acquired::Busy(remaining)),
            Item::Value(value, remaining) if !ask.refresh => Ok(Acquired::Value(value, remaining)),
            // Gone again since the lease was refused, or since it was granted.
            Item::Absent => Ok(Acquired::Busy(Duration::ZERO)),
            // Memcached has one place for both: the value that is of no use gives way to the lease.
            Item::Value(..) | Item::Unreadable => {
                let taken = self.change("acquire", &key, if_unchanged(lease.into(), cas?)).await?;
                let taken = taken == MutationStatus::Applied;
                Ok(if taken { Acquired::Granted(granted) } else { Acquired::Busy(Duration::ZERO) })
            }
        }
    }

    async fn store(&self, fill: Fill<'_>) -> CacheResult<bool> {
        if !fill.tags.is_empty() {
            return Err(unsupported("tags"));
        }
        let (key, value) = (ServerKey::of(fill.key), fill.value);
        let ttl = ServerTtl::of(fill.ttl);
        let store = || ttl.map_or_else(|| key.delete().into(), |ttl| key.set(&value, ttl).into());
        let done = self.under_lease("set", &key, fill.grant.token, store).await?;
        Ok(done && ttl.is_some())
    }

    /// Makes a change if `key` has the lease of this load; true if it was made.
    async fn under_lease(
        &self,
        operation: &'static str,
        key: &ServerKey<'_>,
        token: Token,
        change: impl Fn() -> Op,
    ) -> CacheResult<bool> {
        for _ in 0..ATTEMPTS {
            let looked = self.exchange(operation, key, [key.get_with_cas().into()]).await?;
            let [OpResult::Get(there)] = looked else { return Err(unexpected(operation)) };
            let cas = cas(&there);
            if !matches!(key.item(there), Item::Lease(holder, _) if holder == token.0) {
                return Ok(false);
            }
            match self.change(operation, key, if_unchanged(change(), cas?)).await? {
                MutationStatus::Applied => return Ok(true),
                MutationStatus::CasMismatch => {}
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    async fn remove(&self, keys: &[Arc<str>], tombstone: Duration) -> CacheResult<()> {
        let mut outcome = Ok(());
        for chunk in keys.chunks(defaults::KEY_CHUNK) {
            let mut requests = Vec::with_capacity(2 * chunk.len());
            for key in chunk {
                let key = ServerKey::of(key);
                let place = self.0.servers().place(key.name());
                requests.extend(closing(&key, tombstone, key.delete().into()).map(|request| (place, request)));
            }
            // A server that is away does not keep the others from removing theirs.
            outcome = outcome.and(self.0.servers().batch("invalidate", requests).await.map(drop));
        }
        outcome
    }

    /// Leaves the lease of a put in the place of the value.
    async fn prepare(&self, key: &str, token: Token, asked: &Revocation<'_>) -> CacheResult<()> {
        let key = ServerKey::of(key);
        let place = self.0.servers().place(key.name());
        let requests = closing(&key, asked.tombstone, key.set_lease(token.0, asked.lease).into());
        self.0.servers().batch("invalidate", requests.map(|request| (place, request)).collect()).await.map(drop)
    }

    async fn carry_out(&self, asked: Revocation<'_>) -> CacheResult<Revoked> {
        if asked.announced || !asked.tags.is_empty() {
            return Err(unsupported("announce"));
        }
        match asked.change {
            _ if !asked.with_values => {}
            Change::Keys(keys) => self.remove(keys, asked.tombstone).await?,
            Change::Put(key, token) => self.prepare(key, *token, &asked).await?,
            Change::Pattern(_) | Change::Tag(_) | Change::Clear => return Err(unsupported("invalidate")),
        }
        Ok(Revoked { at: NOWHERE, fence: FENCE })
    }

    async fn is_open_below(&self, key: &str) -> CacheResult<bool> {
        let key = ServerKey::of(key);
        match self.exchange("acquire", &key, [key.get_tombstone().into()]).await? {
            [OpResult::Get(tombstone)] => Ok(!tombstone.hit()),
            _ => Err(unexpected("acquire")),
        }
    }

    async fn change(&self, operation: &'static str, key: &ServerKey<'_>, change: Op) -> CacheResult<MutationStatus> {
        match self.exchange(operation, key, [change]).await? {
            [OpResult::Mutation(made)] => Ok(made.status),
            _ => Err(unexpected(operation)),
        }
    }

    /// Sends requests that concern one key to its server, in one round trip and in this order.
    async fn exchange<const N: usize>(
        &self,
        operation: &'static str,
        key: &ServerKey<'_>,
        requests: [Op; N],
    ) -> CacheResult<[OpResult; N]> {
        let place = self.0.servers().place(key.name());
        let answers = self.0.servers().batch(operation, requests.map(|request| (place, request)).into()).await?;
        answers.try_into().map_err(|_| unexpected(operation))
    }
}

/// The tombstone, if there is to be one, and then what ends the lease: who gets one afterwards has to see it. Both are
/// on the value's server.
fn closing(key: &ServerKey<'_>, tombstone: Duration, end: Op) -> impl Iterator<Item = Op> + use<> {
    let tombstone = (!tombstone.is_zero()).then(|| key.set_tombstone(tombstone).into());
    tombstone.into_iter().chain([end])
}

/// A change that is made only if the item is still the one with this CAS.
fn if_unchanged(change: Op, cas: u64) -> Op {
    match change {
        Op::Set(set) => set.compare_cas(cas).into(),
        Op::Delete(delete) => delete.compare_cas(cas).into(),
        other => other,
    }
}

/// The CAS of what was read. Without one (`memcached -C`) every change would be made.
fn cas(answer: &GetResult) -> CacheResult<u64> {
    let without = || {
        let failure = Failure::new("the server keeps no CAS; start memcached without `-C`");
        CacheError::BackendError(failure.in_tier(NAME).during("acquire"))
    };
    answer.item.cas.filter(|cas| *cas != 0).ok_or_else(without)
}

fn unexpected(operation: &'static str) -> CacheError {
    let failure = Failure::new("the answers are not those to the questions").retryable();
    CacheError::BackendError(failure.in_tier(NAME).during(operation))
}

fn unsupported(operation: &'static str) -> CacheError {
    CacheError::unsupported(NAME, operation)
}

fn refuse<'a, R: Send + 'a>(operation: &'static str) -> BoxFuture<'a, CacheResult<R>> {
    Box::pin(ready(Err(unsupported(operation))))
}

/// Filling, renewing and releasing are two round trips; the rest is one, or two over a value that is to be refreshed.
impl Coordinator for MemcachedCoordinator {
    fn keeps_log(&self) -> bool {
        false
    }

    /// Takes the place of a value that is to be refreshed: until the fill, others miss it.
    fn acquire<'a>(&'a self, ask: Acquire<'a>) -> BoxFuture<'a, CacheResult<Acquired>> {
        Box::pin(self.take(ask))
    }

    fn fill<'a>(&'a self, fill: Fill<'a>) -> BoxFuture<'a, CacheResult<bool>> {
        Box::pin(self.store(fill))
    }

    fn renew<'a>(&'a self, key: &'a str, token: Token, lease: Duration) -> BoxFuture<'a, CacheResult<bool>> {
        Box::pin(async move {
            let key = ServerKey::of(key);
            self.under_lease("renew", &key, token, || key.set_lease(token.0, lease).into()).await
        })
    }

    fn release<'a>(&'a self, key: &'a str, token: Token) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            let key = ServerKey::of(key);
            self.under_lease("release", &key, token, || key.delete().into()).await.map(drop)
        })
    }

    fn replace<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.set_with_ttl(key, value, ttl)
    }

    fn revoke<'a>(&'a self, revocation: Revocation<'a>) -> BoxFuture<'a, CacheResult<Revoked>> {
        Box::pin(self.carry_out(revocation))
    }

    fn fence(&self, _: Duration) -> BoxFuture<'_, CacheResult<()>> {
        refuse("fence")
    }

    fn open_below<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<bool>> {
        Box::pin(self.is_open_below(key))
    }

    fn poll(&self, _: Option<Position>) -> BoxFuture<'_, CacheResult<Tail>> {
        refuse("poll")
    }

    fn read_log(&self, _: u64, _: usize) -> BoxFuture<'_, CacheResult<Vec<Record>>> {
        refuse("read_log")
    }

    fn tag_tokens<'a>(&'a self, _: &'a [Tag]) -> BoxFuture<'a, CacheResult<TagTokens>> {
        refuse("tag_tokens")
    }

    fn listen(&self) -> BoxFuture<'_, CacheResult<Messages>> {
        refuse("listen")
    }
}
