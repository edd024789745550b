//! What an awaited tier holds of an entry: the value as it is, or with a head that says what its readers must know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::{HashMap, HashSet};

use super::Engine;
use super::shared::Shared;
use super::write::unstored;
use crate::clock::Moment;
use crate::defaults;
use crate::entry::{Entry, Facts, Tag};
use crate::error::CacheResult;
use crate::protection::Protection;
use crate::traits::ValueAndTtl;
use crate::wire::envelope::Envelope;
use crate::wire::tagged::{self, Stored, Tags, decode};

impl Engine {
    /// The bytes of `entry` for a copy that is kept for `ttl`. `granted`: epoch and place of the log of its lease.
    pub(super) fn stored_form(&self, entry: &Entry, ttl: Duration, granted: Option<(u64, u64)>) -> CacheResult<Bytes> {
        let bytes = entry.payload()?;
        if granted.is_none() && self.shared.is_some() && !entry.tags().is_empty() {
            return Err(unstored());
        }
        let (epoch, seq) = granted.unwrap_or_default();
        match entry.facts() {
            Some(facts) => self.envelope(entry, facts, bytes, ttl, (epoch, seq)).seal(self.options.compress_above),
            None => Ok(tagged::with_tags(epoch, seq, entry.tags(), bytes)),
        }
    }

    fn envelope(&self, entry: &Entry, facts: &Facts, payload: Bytes, lifetime: Duration, at: (u64, u64)) -> Envelope {
        let now = self.options.clock.now();
        Envelope {
            absent: facts.absent,
            codec: facts.codec,
            schema: facts.schema,
            epoch: at.0,
            seq: at.1,
            lifetime,
            fresh: facts.fresh_until.since(now),
            age: now.since(facts.made),
            cost: facts.cost,
            tags: entry.tags().to_vec(),
            validator: facts.validator.clone(),
            payload,
        }
    }

    /// The entry of what an awaited tier holds, if its tags still hold.
    pub(super) async fn usable(
        &self,
        stored: Bytes,
        ttl: Option<Duration>,
        asked: Moment,
    ) -> CacheResult<Option<Entry>> {
        let Some((entry, tags)) = self.parsed(stored, ttl, asked) else { return Ok(None) };
        let holds = match self.doubt(&tags) {
            Doubt::None => true,
            Doubt::Revoked => false,
            Doubt::Unasked(shared) => {
                let current = Box::pin(shared.tag_tokens(&tags.names)).await?;
                holds(&tags, current.epoch, &current.tokens)
            }
        };
        Ok(holds.then_some(entry))
    }

    /// The same for many, with one question about all their tags.
    pub(super) async fn usable_many(
        &self,
        found: Vec<CacheResult<Option<ValueAndTtl>>>,
        asked: Moment,
    ) -> Vec<CacheResult<Option<Entry>>> {
        let parsed = |(stored, ttl)| self.parsed(stored, ttl, asked);
        let found: Vec<_> = found.into_iter().map(|found| found.map(|found| found.and_then(parsed))).collect();
        let mut unasked = HashSet::default();
        for (_, tags) in found.iter().flatten().flatten() {
            if matches!(self.doubt(tags), Doubt::Unasked(_)) {
                unasked.extend(tags.names.iter().map(Arc::clone));
            }
        }
        let tokens = self.tokens(unasked.into_iter().collect()).await;
        let judged = |(entry, tags): (Entry, Tags)| match (self.doubt(&tags), &tokens) {
            (Doubt::None, _) => Ok(Some(entry)),
            (Doubt::Revoked, _) => Ok(None),
            (Doubt::Unasked(_), Err(error)) => Err(error.clone()),
            (Doubt::Unasked(_), Ok(tokens)) => {
                let token = |name| tokens.get(name).filter(|(epoch, _)| *epoch == tags.epoch).and_then(|(_, seq)| *seq);
                let current: Vec<_> = tags.names.iter().map(token).collect();
                Ok(holds(&tags, tags.epoch, &current).then_some(entry))
            }
        };
        found.into_iter().map(|found| found.and_then(|found| found.map_or(Ok(None), judged))).collect()
    }

    /// The tokens of these tags, and the epoch in which each was asked for.
    async fn tokens(&self, names: Vec<Tag>) -> CacheResult<HashMap<Tag, (u64, Option<u64>)>> {
        let mut tokens = HashMap::default();
        let Some(shared) = &self.shared else { return Ok(tokens) };
        for names in names.chunks(defaults::READ_CHUNK) {
            let current = shared.tag_tokens(names).await?;
            let with_epoch = current.tokens.into_iter().map(|token| (current.epoch, token));
            tokens.extend(names.iter().map(Arc::clone).zip(with_epoch));
        }
        Ok(tokens)
    }

    /// What an awaited tier holds, and the tags that are yet to be asked about.
    fn parsed(&self, stored: Bytes, ttl: Option<Duration>, asked: Moment) -> Option<(Entry, Tags)> {
        if let Ok(envelope) = Envelope::open(&stored, self.options.max_value_bytes) {
            return Some(opened(envelope, ttl, asked));
        }
        let expires = ttl.map_or(Moment::NEVER, |ttl| asked.after(ttl));
        let (tags, bytes) = match decode(stored) {
            Stored::Plain(bytes) => (Tags { epoch: 0, seq: 0, names: Vec::new() }, bytes),
            Stored::Foreign => return None,
            Stored::Tagged(tags, bytes) => (tags, bytes),
        };
        Some((Entry::from_bytes(bytes, expires).tagged(&tags.names), tags))
    }

    fn doubt(&self, tags: &Tags) -> Doubt<'_> {
        let Some(shared) = self.shared.as_ref().filter(|_| !tags.names.is_empty()) else { return Doubt::None };
        if !shared.keeps_log() || tags.names.iter().any(|tag| shared.remote.owes_tag(tag)) {
            return Doubt::Revoked;
        }
        Doubt::Unasked(shared)
    }
}

/// What is known of an entry's tags before the coordinator is asked.
enum Doubt<'a> {
    None,
    Revoked,
    Unasked(&'a Shared),
}

fn holds(tags: &Tags, epoch: u64, tokens: &[Option<u64>]) -> bool {
    tags.hold(epoch, tokens) || !Protection::TagCheck.is_on()
}

fn opened(envelope: Envelope, ttl: Option<Duration>, asked: Moment) -> (Entry, Tags) {
    let arrival = envelope.on_arrival(ttl);
    // The windows count from the end of its fresh time, not from this reading.
    let stale_for = arrival.age.saturating_sub(envelope.age).saturating_sub(envelope.fresh);
    let facts = Facts {
        made: asked.before(arrival.age),
        fresh_until: arrival.fresh_for.map_or(asked.before(stale_for), |left| asked.after(left)),
        reread: Moment::ORIGIN,
        cost: envelope.cost,
        absent: envelope.absent,
        validator: envelope.validator,
        codec: envelope.codec,
        schema: envelope.schema,
    };
    // A store that does not tell must not keep a copy alive for longer than it was written for.
    let left = ttl.unwrap_or(if envelope.lifetime.is_zero() { defaults::TTL } else { envelope.lifetime });
    let tags = Tags { epoch: envelope.epoch, seq: envelope.seq, names: envelope.tags };
    let entry = Entry::from_bytes(envelope.payload, asked.after(left)).tagged(&tags.names).with_facts(facts);
    (entry, tags)
}
