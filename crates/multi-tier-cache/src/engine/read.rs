//! Reads: one function from the first look to the answer.

use std::any::Any;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::load::{Judge, Load, Made, Stay};
use super::shared::{Lease, Leased, Queue, Refresh, Shared};
use super::write::{Led, Settled};
use super::{Answer, Engine, Hit, Source, check_key};
use crate::clock::{Clock, Moment};
use crate::coordinator::Tag;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::local::{Join, Kind, Left, Origin, Turn};
use crate::policy::Lifespan;
use crate::stack::{Ask, Store, Tier};
use crate::telemetry::{Began, Series, Telemetry};

/// What a reader wants, and so which flight it takes part in.
pub(crate) enum Wanted<'a> {
    /// What is stored and fresh by this clock. Never waits for a loader.
    /// Whether a typed value was among what it came across.
    Stored(&'a Clock, bool),
    /// What is stored, if the caller accepts it.
    Judged(&'a mut dyn Judge),
    /// A value: what is stored if the loader accepts it, else what it computes.
    Loaded(&'a mut dyn Load, Keep<'a>),
}

/// How a loaded value is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep<'a> {
    pub(crate) span: Lifespan<'a>,
    pub(crate) tags: &'a [Tag],
}

/// What the tiers know of a key.
pub(super) enum Found {
    /// The hit, and whether its tier's lot was drawn for promotion.
    Hit(Hit, bool),
    Miss,
    /// No tier has it, but this one could not be asked.
    Unknown(CacheError),
}

/// What a reader may do once the tiers down to the coordinator's gave nothing.
pub(super) enum Ground {
    /// There is no coordinator: every tier has been asked, and may be filled.
    Alone,
    Leased(Lease),
    /// Without a lease nothing is stored in shared tiers; those below may be read or not.
    Bare {
        open: bool,
    },
    /// Another instance's load takes too long to wait for: what is loaded now is stored nowhere.
    Late,
    /// A value came meanwhile.
    Hit(Hit),
}

/// What came of asking the coordinator.
pub(super) enum Stand {
    /// A value came meanwhile.
    Found(Led),
    Unfound(Standing),
}

/// Where a leader stands once the tiers down to the coordinator's gave nothing.
#[derive(Default)]
pub(super) struct Standing {
    /// Why a tier could not be asked.
    pub(super) outage: Option<CacheError>,
    /// Whether the tiers below the coordinator's may be read.
    pub(super) open: bool,
    pub(super) lease: Option<Lease>,
    late: bool,
}

impl Engine {
    /// The value of `key` and where it came from, once the leading tiers gave no [`hit`](Self::hit). Dropping the
    /// future hands a flight it leads to a follower.
    pub(crate) async fn read(self: &Arc<Self>, key: &str, mut wanted: Wanted<'_>) -> Answer {
        check_key(key)?;
        self.follow_log();
        let began = self.telemetry.at_once();
        if let Some(answer) = self.answer_at_once(key, &mut wanted, began) {
            return answer;
        }
        self.reading(key, wanted).await
    }

    /// In a box: a task whose reads end before this should be small.
    fn reading<'a, 'w: 'a>(self: &'a Arc<Self>, key: &'a str, wanted: Wanted<'w>) -> BoxFuture<'a, Answer> {
        let span = Telemetry::read_span(wanted.series().unwrap_or(self.telemetry.bytes()));
        if span.is_disabled() {
            return Box::pin(self.read_in_flight(key, wanted));
        }
        Box::pin(self.read_in_flight(key, wanted).instrument(span))
    }

    async fn read_in_flight(self: &Arc<Self>, key: &str, mut wanted: Wanted<'_>) -> Answer {
        let began = Began::Waiting(wanted.waits(self.options.clock.now()));
        loop {
            let mut lead = match self.local.join(key, wanted.kind()) {
                Join::Lead(lead) => lead,
                Join::Follow(follower) => match follower.await {
                    Turn::Lead(lead) => lead,
                    Turn::Again => continue,
                    Turn::Landed(Ok(Some(hit))) => match wanted.accept(hit.entry, hit.source) {
                        Some(entry) => return self.followed(Ok(Some(Hit { entry, ..hit })), &wanted, began),
                        None => continue,
                    },
                    Turn::Landed(answer) => return self.followed(answer, &wanted, began),
                },
            };
            // The leader's stamp is older than everything it reads from here on.
            wanted.leads();
            let key = Arc::clone(lead.watch().key());
            // In a block: what it leaves is small while the future waits.
            let settled = {
                let led = self.lead(&key, &mut wanted).await;
                let skipped: Vec<usize> = (0..self.tiers.len()).filter(|position| wanted.skips(*position)).collect();
                if wanted.speaks_for_itself(&led, !skipped.is_empty()) {
                    drop(lead);
                    return self.counted(led.answer, &wanted, began);
                }
                self.settle(lead, self.leave_out(&skipped, led))
            };
            let answer = match settled {
                Settled::Landed(answer) => answer,
                Settled::Landing(work) => work.await,
            };
            return self.counted(answer, &wanted, began);
        }
    }

    /// The answer to a lookup where there is nothing to wait for, and nothing to store.
    pub(super) fn answer_at_once(&self, key: &str, wanted: &mut Wanted<'_>, began: Began) -> Option<Answer> {
        if wanted.kind() != Kind::Lookup || !self.is_local() || wanted.promotes() {
            return None;
        }
        let found = (0..self.tiers.len()).find_map(|position| {
            let source = Source::Tier(position);
            let entry = wanted.accept(self.local.lookup_at(position, key)?, source)?;
            Some(Hit { entry, source })
        });
        Some(self.counted(Ok(found), wanted, began))
    }

    /// How many tiers, from the top, are read before the coordinator is asked how to go on.
    pub(super) fn upper(&self) -> usize {
        self.shared.as_ref().map_or(self.tiers.len(), |shared| shared.position + 1)
    }

    /// What the leader of a flight finds or loads, and where copies of it belong.
    async fn lead(&self, key: &Arc<str>, wanted: &mut Wanted<'_>) -> Led {
        let outage = match self.find(key, 0..self.upper(), wanted).await {
            Found::Hit(hit, promote) => return self.found(key, hit, promote, None),
            Found::Miss => None,
            Found::Unknown(error) => Some(error),
        };
        // In a box: most reads end above, and those that wait there should be small.
        Box::pin(self.lead_on(key, outage, wanted)).await
    }

    /// The same once the tiers down to the coordinator's gave nothing.
    async fn lead_on(&self, key: &Arc<str>, outage: Option<CacheError>, wanted: &mut Wanted<'_>) -> Led {
        let upper = self.upper();
        let mut queue = Shared::queue(wanted.kind() == Kind::Load);
        let ground = self.ground(key, outage.as_ref(), wanted, &mut queue).await;
        let mut standing = match self.stand(key, ground, outage) {
            Stand::Unfound(standing) => standing,
            Stand::Found(led) => return led,
        };
        if standing.open {
            match self.find(key, upper..self.tiers.len(), wanted).await {
                Found::Hit(hit, promote) => return self.found(key, hit, promote, standing.lease),
                Found::Unknown(error) => standing.outage = Some(error),
                Found::Miss => {}
            }
        }
        self.load_or_miss(wanted, standing, self.permit()).await
    }

    /// Where the leader stands on this ground, or what another load of the fleet has made meanwhile.
    pub(super) fn stand(&self, key: &str, ground: Ground, outage: Option<CacheError>) -> Stand {
        let standing = Standing { outage, ..Standing::default() };
        match ground {
            // Made just now: this instance would have stored it too, whatever the lot.
            Ground::Hit(hit) => {
                let promote = self.tiers.get(self.upper() - 1).is_some_and(Tier::promotes);
                Stand::Found(self.found(key, hit, promote, None))
            }
            Ground::Leased(lease) => {
                Stand::Unfound(Standing { open: lease.is_open_below(), lease: Some(lease), ..standing })
            }
            Ground::Bare { open } => Stand::Unfound(Standing { open, ..standing }),
            Ground::Late => Stand::Unfound(Standing { late: true, ..standing }),
            Ground::Alone => Stand::Unfound(standing),
        }
    }

    /// The end of what a leader does: no tier has a value. A load begins with its `permit`.
    pub(super) async fn load_or_miss<P>(
        &self,
        wanted: &mut Wanted<'_>,
        standing: Standing,
        permit: impl Future<Output = Option<P>>,
    ) -> Led {
        let Standing { outage, lease, late, .. } = standing;
        match (wanted, outage) {
            (Wanted::Loaded(loader, keep), _) => {
                let load = self.load(&mut **loader, permit);
                let led = self.load_with(load, *keep, lease).await;
                if late { led.uncopied() } else { led }
            }
            (_, Some(error)) => Led::nothing(Err(error)),
            _ => Led::nothing(Ok(None)),
        }
    }

    /// What a tier of this instance alone holds goes no further than this instance: a lease that was granted after a
    /// removal does not say that the removal has been heard of here.
    pub(super) fn found(&self, key: &str, hit: Hit, promote: bool, lease: Option<Lease>) -> Led {
        let lease = lease.filter(|_| matches!(hit.source, Source::Tier(position) if self.is_shared(position)));
        let copies = self.copies_above(key, &hit, promote, lease.is_some());
        Led { origin: Origin::Copy, copies, left: Left::default(), lease, answer: Ok(Some(hit)) }
    }

    /// Asks the coordinator how to go on.
    pub(super) async fn ground(
        &self,
        key: &Arc<str>,
        outage: Option<&CacheError>,
        wanted: &mut Wanted<'_>,
        queue: &mut Queue,
    ) -> Ground {
        let Some(shared) = &self.shared else { return Ground::Alone };
        if wanted.skips(shared.position) {
            return Ground::Bare { open: false };
        }
        let loads = wanted.kind() == Kind::Load;
        if !loads && self.upper() == self.tiers.len() {
            return Ground::Bare { open: false };
        }
        // What cannot be read and will not be able to (a value of another type) is replaced.
        let unreadable = outage.is_some_and(|error| !error.is_retryable());
        let tags = if let Wanted::Loaded(_, keep) = wanted { keep.tags } else { &[] };
        let mut refresh = if unreadable || shared.remote.owes(key) { Refresh::Always } else { Refresh::No };
        loop {
            match shared.lease(key, refresh, tags, queue).await {
                Leased::Lease(lease) => return Ground::Leased(lease),
                Leased::Late if loads => return Ground::Late,
                Leased::Late => return Ground::Bare { open: shared.open_below(key).await.unwrap_or(false) },
                Leased::Value(value, ttl) => {
                    let source = Source::Tier(shared.position);
                    let usable = self.usable(value, ttl, self.options.clock.now()).await.ok().flatten();
                    match usable.and_then(|entry| wanted.accept(entry, source)) {
                        Some(entry) => return Ground::Hit(Hit { entry, source }),
                        None => refresh = Refresh::Once,
                    }
                }
                // With a bus, nothing below: without the coordinator's tombstones, what another instance stored there
                // late may be older than what this one removed.
                Leased::Unknown => return Ground::Bare { open: self.bus().is_none() },
            }
        }
    }

    /// Asks these tiers in order.
    async fn find(&self, key: &str, range: Range<usize>, wanted: &mut Wanted<'_>) -> Found {
        let mut outage = None;
        for (position, tier) in self.tiers.iter().enumerate().skip(range.start).take(range.len()) {
            if wanted.skips(position) {
                continue;
            }
            // Drawn before the read: only what is promoted needs the remaining TTL.
            let promote = self.draw(position, tier, wanted);
            let ask = if promote || wanted.asks_for_age() { Ask::ValueAndTtl } else { Ask::Value };
            match self.ask(position, tier, key, ask).await {
                Ok(Some(found)) => {
                    let Some(hit) = self.take(key, position, found, wanted) else { continue };
                    return Found::Hit(hit, promote);
                }
                Ok(None) => {}
                Err(error) => outage = Some(error),
            }
        }
        outage.map_or(Found::Miss, Found::Unknown)
    }

    /// Whether a hit in this tier is to be promoted.
    pub(super) fn draw(&self, position: usize, tier: &Tier, wanted: &Wanted<'_>) -> bool {
        position > 0 && (wanted.promotes() || self.may_promote(tier))
    }

    /// What a tier holds, if the reader can use it.
    pub(super) fn take(&self, key: &str, position: usize, found: Entry, wanted: &mut Wanted<'_>) -> Option<Hit> {
        let undecoded = !found.has_object();
        let entry = wanted.accept(found, Source::Tier(position))?;
        if undecoded && entry.has_object() {
            self.local.replace_same(key, position, &entry);
        }
        Some(Hit { entry, source: Source::Tier(position) })
    }

    async fn ask(&self, position: usize, tier: &Tier, key: &str, ask: Ask) -> CacheResult<Option<Entry>> {
        let remote = match &tier.store {
            Store::Local(_) => return Ok(self.local.lookup_at(position, key)),
            Store::Remote(remote) => remote,
        };
        if !self.may_ask(position, key) {
            return Ok(None);
        }
        let mut ask = ask;
        loop {
            // The remaining time is counted from before the question: a copy must not outlive its source by the way back.
            let (asked, proven) = (self.options.clock.now(), self.local.horizon().fresh_as_of());
            let Some((bytes, ttl)) = remote.get(key, ask).await? else { return Ok(None) };
            let entry = self.usable(bytes, ttl, asked).await?;
            // Only what remains of its time tells whether a typed value is fresh.
            if ask == Ask::ValueAndTtl || entry.as_ref().is_none_or(|entry| entry.facts().is_none()) {
                return Ok(entry.map(|entry| self.aged(position, entry, proven)));
            }
            ask = Ask::ValueAndTtl;
        }
    }

    /// The levels of the tiers that hold `key` and would be read.
    #[cfg(feature = "test-util")]
    pub(crate) async fn levels_with(&self, key: &str) -> CacheResult<Vec<usize>> {
        let mut levels = Vec::new();
        for (position, tier) in self.tiers.iter().enumerate() {
            if self.ask(position, tier, key, Ask::ValueAndTtl).await?.is_some() {
                levels.push(tier.level);
            }
        }
        Ok(levels)
    }

    /// Whether an awaited tier's answer may be used.
    pub(super) fn may_ask(&self, position: usize, key: &str) -> bool {
        let own = !self.is_shared(position);
        // A value under way into a tier of this process alone is taken back once it is there, if the key was revoked.
        let doubtful = own && self.shared.is_some() && self.local.is_being_written(key);
        !doubtful && (!own || self.local.horizon().serves_unproven())
    }

    /// An entry of an awaited tier. In a tier of this process alone no more is known of it than that it reflects what
    /// this process had followed, as `proven` before the question.
    pub(super) fn aged(&self, position: usize, entry: Entry, proven: Moment) -> Entry {
        if self.is_shared(position) || proven == Moment::NEVER { entry } else { entry.born_at(proven) }
    }

    /// Loads, and says where the value belongs.
    async fn load_with(
        &self,
        load: impl Future<Output = CacheResult<Made>>,
        keep: Keep<'_>,
        mut lease: Option<Lease>,
    ) -> Led {
        let made = match Lease::keep_during(lease.as_mut(), load).await {
            Ok(made) => made,
            Err(error) => return Led { origin: Origin::Source, ..Led::nothing(Err(error)) },
        };
        let hit = |entry, source| Ok(Some(Hit { entry, source }));
        let (entry, span) = match made.stay {
            Stay::AsAsked => (made.entry.tagged(keep.tags), Some(keep.span)),
            Stay::For(ttl) => (made.entry, Some(Lifespan { ttl, ..keep.span })),
            Stay::Not => (made.entry, None),
            Stay::Older => return Led::nothing(hit(made.entry, Source::Older)),
        };
        let copies = span.map(|span| self.copies_everywhere(&entry, span, lease.is_some())).unwrap_or_default();
        Led { origin: Origin::Source, copies, left: Left::default(), lease, answer: hit(entry, Source::Loader) }
    }
}

impl Wanted<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Stored(..) | Self::Judged(_) => Kind::Lookup,
            Self::Loaded(..) => Kind::Load,
        }
    }

    pub(super) fn accept(&mut self, entry: Entry, from: Source) -> Option<Entry> {
        if matches!(from, Source::Tier(position) if self.skips(position)) {
            return None;
        }
        match self {
            Self::Stored(clock, refused) => {
                *refused |= entry.facts().is_some() && from != Source::Loader;
                (!entry.is_absent() && !entry.is_stale(clock.tick())).then_some(entry)
            }
            Self::Judged(judge) => judge.accept(entry, from),
            Self::Loaded(loader, _) => loader.accept(entry, from),
        }
    }

    /// Whether a leader's answer is for itself only, and whoever follows looks too: it found nothing, but has passed over
    /// a tier, or a value that only a typed cache can judge.
    pub(super) fn speaks_for_itself(&self, led: &Led, skips: bool) -> bool {
        let refused = matches!(self, Self::Stored(_, true));
        (skips || refused) && self.kind() == Kind::Lookup && !matches!(led.answer, Ok(Some(_)))
    }

    /// Whether the caller leaves out the tier at this place.
    fn skips(&self, position: usize) -> bool {
        match self {
            Self::Stored(..) => false,
            Self::Judged(judge) => judge.skips(position),
            Self::Loaded(loader, _) => loader.skips(position),
        }
    }

    pub(super) fn leads(&mut self) {
        match self {
            Self::Stored(..) => {}
            Self::Judged(judge) => judge.leads(),
            Self::Loaded(loader, _) => loader.leads(),
        }
    }

    /// Whether somebody waits for it: nobody does for what is read in the background.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Stored(..) => true,
            Self::Judged(judge) => judge.is_awaited(),
            Self::Loaded(loader, _) => loader.is_awaited(),
        }
    }

    /// It waits from `now` on. Answers when it began.
    pub(super) fn waits(&mut self, now: Moment) -> Moment {
        match self {
            Self::Stored(..) => now,
            Self::Judged(judge) => judge.waits(now),
            Self::Loaded(loader, _) => loader.waits(now),
        }
    }

    /// Under which name it is told; `None` for the verbs on bytes.
    pub(super) fn series(&self) -> Option<&Arc<Series>> {
        match self {
            Self::Stored(..) => None,
            Self::Judged(judge) => judge.series(),
            Self::Loaded(loader, _) => loader.series(),
        }
    }

    fn promotes(&self) -> bool {
        matches!(self, Self::Judged(judge) if judge.promotes())
    }

    pub(super) fn asks_for_age(&self) -> bool {
        match self {
            Self::Stored(..) => false,
            Self::Judged(judge) => judge.asks_for_age(),
            Self::Loaded(loader, _) => loader.asks_for_age(),
        }
    }
}

pub(crate) fn panicked(panic: &(dyn Any + Send)) -> CacheError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    CacheError::InternalError(format!("the loader panicked: {}", text.unwrap_or("(no message)")))
}
