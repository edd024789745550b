//! What an awaited tier holds of an entry: the value as it is, or with a head that says what its readers must know.

use std::time::Duration;

use bytes::Bytes;

use super::Engine;
use super::write::unstored;
use crate::clock::Moment;
use crate::defaults;
use crate::entry::{Entry, Facts};
use crate::error::CacheResult;
use crate::protection::Protection;
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
        let expires = ttl.map_or(Moment::NEVER, |ttl| asked.after(ttl));
        if let Ok(envelope) = Envelope::open(&stored, self.options.max_value_bytes) {
            return self.opened(envelope, ttl, asked).await;
        }
        match decode(stored) {
            Stored::Plain(bytes) => Ok(Some(Entry::from_bytes(bytes, expires))),
            Stored::Foreign => Ok(None),
            Stored::Tagged(tags, bytes) => {
                let entry = Entry::from_bytes(bytes, expires).tagged(&tags.names);
                Ok(self.tags_hold(&tags).await?.then_some(entry))
            }
        }
    }

    async fn opened(&self, envelope: Envelope, ttl: Option<Duration>, asked: Moment) -> CacheResult<Option<Entry>> {
        let arrival = envelope.on_arrival(ttl);
        // The windows count from the end of its fresh time, not from this reading.
        let stale_for = arrival.age.saturating_sub(envelope.age).saturating_sub(envelope.fresh);
        let facts = Facts {
            made: asked.before(arrival.age),
            fresh_until: arrival.fresh_for.map_or(asked.before(stale_for), |left| asked.after(left)),
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
        Ok(self.tags_hold(&tags).await?.then_some(entry))
    }

    async fn tags_hold(&self, tags: &Tags) -> CacheResult<bool> {
        let Some(shared) = self.shared.as_ref().filter(|_| !tags.names.is_empty()) else { return Ok(true) };
        if !shared.keeps_log() || tags.names.iter().any(|tag| shared.remote.owes_tag(tag)) {
            return Ok(false);
        }
        let current = shared.tag_tokens(&tags.names).await?;
        Ok(tags.hold(current.epoch, &current.tokens) || !Protection::TagCheck.is_on())
    }
}
