//! Reads of many keys: each step of a read ([`super::read`]) for all of them at once.
//!
//! A batch carries the flights it leads out to their end before it follows others, so that two batches never wait for
//! each other. For the same reason it waits for no lease while it holds one: keys that another instance loads come in
//! a later round.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tracing::Instrument;

use super::read::{Ground, Stand, Standing};
use super::shared::Shared;
use super::write::Led;
use super::{Answer, Engine, Hit, Wanted, check_key};
use crate::clock::Moment;
use crate::defaults;
use crate::entry::Entry;
use crate::error::CacheResult;
use crate::local::{Join, Kind, Lead, Turn};
use crate::stack::{Ask, Store, Tier};
use crate::telemetry::{Began, Telemetry};

/// One key of a batch. No two have the same.
pub(crate) struct Reader<'a> {
    /// What its caller calls it.
    pub(crate) place: usize,
    pub(crate) key: Arc<str>,
    pub(crate) wanted: Wanted<'a>,
    pub(crate) given: Given,
}

/// What the engine gives a reader.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) answer: Option<Answer>,
    /// When it began to wait.
    waits: Option<Moment>,
}

impl Given {
    fn began(&self) -> Began {
        self.waits.map_or(Began::AtOnce(None), Began::Waiting)
    }
}

/// Is told the places of the keys that are about to be loaded together, before any of them is.
pub(crate) type Begin<'a> = &'a (dyn Fn(&[usize]) + Sync);

/// A key whose flight this batch leads.
struct Part<'r, 'w> {
    reader: &'r mut Reader<'w>,
    lead: Lead<Answer>,
    standing: Standing,
}

impl<'r, 'w> Part<'r, 'w> {
    fn new(reader: &'r mut Reader<'w>, lead: Lead<Answer>) -> Self {
        reader.wanted.leads();
        Self { reader, lead, standing: Standing::default() }
    }
}

impl Engine {
    /// Answers every reader. Dropping the future hands the flights it leads to followers.
    pub(crate) async fn read_many(self: &Arc<Self>, readers: &mut [Reader<'_>], begin: Begin<'_>) {
        self.follow_log();
        let began = self.telemetry.at_once();
        let unanswered = |reader| self.unanswered(reader, began);
        let mut open: Vec<&mut Reader<'_>> = readers.iter_mut().filter_map(unanswered).collect();
        let Some(first) = open.first() else { return };
        let span = Telemetry::read_span(first.wanted.series().unwrap_or(self.telemetry.bytes()));
        let now = self.options.clock.now();
        open.iter_mut().for_each(|reader| reader.given.waits = Some(reader.wanted.waits(now)));
        Box::pin(self.read_all(open, begin).instrument(span)).await;
    }

    async fn read_all(self: &Arc<Self>, mut open: Vec<&mut Reader<'_>>, begin: Begin<'_>) {
        open.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let (mut leads, mut following) = (Vec::new(), FuturesUnordered::new());
        loop {
            for reader in open.drain(..) {
                match self.local.join(&reader.key, reader.wanted.kind()) {
                    // The leader's stamp is older than everything it reads from here on.
                    Join::Lead(lead) => leads.push(Part::new(reader, lead)),
                    Join::Follow(follower) => following.push(async move { (follower.await, reader) }),
                }
            }
            self.carry_out(std::mem::take(&mut leads), begin).await;
            let Some(mut ended) = following.next().await else { return };
            // All that is known by now, so that what is to be led is led together.
            loop {
                let (turn, reader) = ended;
                match turn {
                    Turn::Lead(lead) => leads.push(Part::new(reader, lead)),
                    turn => open.extend(self.landed(turn, reader)),
                }
                match following.next().now_or_never().flatten() {
                    Some(next) => ended = next,
                    None => break,
                }
            }
        }
    }

    /// The reader, unless it can be answered without a flight.
    fn unanswered<'r, 'w>(&self, reader: &'r mut Reader<'w>, began: Began) -> Option<&'r mut Reader<'w>> {
        reader.given.answer = match check_key(&reader.key) {
            Ok(()) => self.answer_at_once(&reader.key, &mut reader.wanted, began),
            Err(error) => Some(Err(error)),
        };
        reader.given.answer.is_none().then_some(reader)
    }

    /// What a flight of others ended with; the reader, if that was no answer to it.
    fn landed<'r, 'w>(&self, turn: Turn<Answer>, reader: &'r mut Reader<'w>) -> Option<&'r mut Reader<'w>> {
        let answer = match turn {
            Turn::Landed(Ok(Some(hit))) => match reader.wanted.accept(hit.entry, hit.source) {
                Some(entry) => Ok(Some(Hit { entry, ..hit })),
                None => return Some(reader),
            },
            Turn::Landed(answer) => answer,
            Turn::Lead(_) | Turn::Again => return Some(reader),
        };
        reader.given.answer = Some(self.followed(answer, &reader.wanted, reader.given.began()));
        None
    }

    /// What the leader of several flights finds or loads, stored and handed out.
    async fn carry_out(self: &Arc<Self>, parts: Vec<Part<'_, '_>>, begin: Begin<'_>) {
        let upper = self.upper();
        let mut parts = self.find_many(parts, 0..upper).await;
        let patient = parts.iter().any(|part| part.reader.wanted.kind() == Kind::Load);
        let (mut queue, mut waited, mut waits) = (Shared::queue(patient), false, patient);
        while !parts.is_empty() {
            let (ready, busy) = self.stand_many(parts, waited, waits).await;
            let (open, closed): (Vec<_>, Vec<_>) = ready.into_iter().partition(|part| part.standing.open);
            let mut missed = self.find_many(open, upper..self.tiers.len()).await;
            missed.extend(closed);
            self.load_many(missed, begin).await;
            parts = busy;
            if let (Some(shared), false) = (&self.shared, parts.is_empty()) {
                queue.keys = parts.len();
                waits = shared.wait(&mut queue, Duration::MAX).await;
                waited = true;
            }
        }
    }

    /// Asks these tiers in order, each for all keys that are left. Answers those that none has.
    async fn find_many<'r, 'w>(
        self: &Arc<Self>,
        mut parts: Vec<Part<'r, 'w>>,
        range: Range<usize>,
    ) -> Vec<Part<'r, 'w>> {
        for (position, tier) in self.tiers.iter().enumerate().skip(range.start).take(range.len()) {
            if parts.is_empty() {
                break;
            }
            let drawn: Vec<bool> = parts.iter().map(|part| self.draw(position, tier, &part.reader.wanted)).collect();
            let aged = drawn.contains(&true) || parts.iter().any(|part| part.reader.wanted.asks_for_age());
            let ask = if aged { Ask::ValueAndTtl } else { Ask::Value };
            let keys = parts.iter().map(|part| Arc::clone(&part.reader.key)).collect();
            let answers = self.ask_many(position, tier, keys, ask).await;
            let (mut hits, mut missed) = (Vec::new(), Vec::new());
            for ((mut part, promote), answer) in parts.into_iter().zip(drawn).zip(answers) {
                let Reader { key, wanted, .. } = &mut *part.reader;
                match answer.map(|found| found.and_then(|entry| self.take(key, position, entry, wanted))) {
                    Ok(Some(hit)) => {
                        let led = self.found(key, hit, promote, part.standing.lease.take());
                        hits.push((part, led));
                    }
                    Ok(None) => missed.push(part),
                    Err(error) => {
                        part.standing.outage = Some(error);
                        missed.push(part);
                    }
                }
            }
            self.settle_many(hits).await;
            parts = missed;
        }
        parts
    }

    async fn ask_many(
        &self,
        position: usize,
        tier: &Tier,
        keys: Vec<Arc<str>>,
        ask: Ask,
    ) -> Vec<CacheResult<Option<Entry>>> {
        let keys = keys.iter().map(|key| &**key);
        let remote = match &tier.store {
            Store::Local(_) => return keys.map(|key| Ok(self.local.lookup_at(position, key))).collect(),
            Store::Remote(remote) => remote,
        };
        let asks: Vec<bool> = keys.clone().map(|key| self.may_ask(position, key)).collect();
        let asked_for: Vec<&str> = keys.zip(&asks).filter(|(_, asks)| **asks).map(|(key, _)| key).collect();
        let (asked, proven) = (self.options.clock.now(), self.local.horizon().fresh_as_of());
        let found = remote.get_many(&asked_for, ask).await;
        let mut entries = self.usable_many(found, asked).await.into_iter();
        let mut answer = |asks| if asks { entries.next().unwrap_or(Ok(None)) } else { Ok(None) };
        let aged = |answer: CacheResult<Option<Entry>>| Ok(answer?.map(|entry| self.aged(position, entry, proven)));
        asks.into_iter().map(|asks| aged(answer(asks))).collect()
    }

    /// Asks the coordinator how to go on with each key. Answers those that may be gone on with and, if the caller
    /// `waits` for them, those that other instances are loading.
    async fn stand_many<'r, 'w>(
        self: &Arc<Self>,
        parts: Vec<Part<'r, 'w>>,
        waited: bool,
        waits: bool,
    ) -> (Vec<Part<'r, 'w>>, Vec<Part<'r, 'w>>) {
        let grounds = together(parts.into_iter().map(|part| self.ground_of(part, waited)).collect()).await;
        let (mut ready, mut busy, mut hits) = (Vec::new(), Vec::new(), Vec::new());
        for (mut part, ground) in grounds {
            if waits && matches!(ground, Ground::Late) {
                busy.push(part);
                continue;
            }
            match self.stand(&part.reader.key, ground, part.standing.outage.take()) {
                Stand::Unfound(standing) => ready.push(Part { standing, ..part }),
                Stand::Found(led) => hits.push((part, led)),
            }
        }
        self.settle_many(hits).await;
        (ready, busy)
    }

    /// Loads what no tier has, if it may be loaded: all at once.
    async fn load_many(self: &Arc<Self>, parts: Vec<Part<'_, '_>>, begin: Begin<'_>) {
        let loads = |part: &&Part<'_, '_>| part.reader.wanted.kind() == Kind::Load;
        let mut places: Vec<usize> = parts.iter().filter(loads).map(|part| part.reader.place).collect();
        // The loader gets its keys in the order in which its caller gave them.
        places.sort_unstable();
        // Of the loads that may run at a time, all keys together are one.
        let permit = async {
            let permit = self.permit().await?;
            begin(&places);
            Some(Arc::new(permit))
        };
        let permit = permit.boxed().shared();
        // Not a bounded number at a time: a lease is renewed only while its load is polled.
        let led = join_all(parts.into_iter().map(|part| self.load_of(part, permit.clone()))).await;
        drop(permit);
        self.settle_many(led).await;
    }

    async fn settle_many(self: &Arc<Self>, led: Vec<(Part<'_, '_>, Led)>) {
        together(led.into_iter().map(|(part, led)| self.settle_part(part, led)).collect()).await;
    }

    async fn ground_of<'r, 'w>(&self, part: Part<'r, 'w>, waited: bool) -> (Part<'r, 'w>, Ground) {
        let Reader { key, wanted, .. } = &mut *part.reader;
        let ground = self.ground(key, part.standing.outage.as_ref(), wanted, &mut Shared::look(waited)).await;
        (part, ground)
    }

    async fn load_of<'r, 'w, P>(
        &self,
        mut part: Part<'r, 'w>,
        permit: impl Future<Output = Option<P>>,
    ) -> (Part<'r, 'w>, Led) {
        let standing = std::mem::take(&mut part.standing);
        let led = self.load_or_miss(&mut part.reader.wanted, standing, permit).await;
        (part, led)
    }

    async fn settle_part(self: &Arc<Self>, part: Part<'_, '_>, led: Led) {
        let Part { reader, lead, .. } = part;
        let answer = if reader.wanted.speaks_for_itself(&led, false) {
            drop(lead);
            led.answer
        } else {
            self.settle(lead, led).answer().await
        };
        reader.given.answer = Some(self.counted(answer, &reader.wanted, reader.given.began()));
    }
}

/// Takes steps side by side, a bounded number at a time.
async fn together<F: Future>(steps: Vec<F>) -> Vec<F::Output> {
    stream::iter(steps).buffer_unordered(defaults::BATCH_WIDTH).collect().await
}
