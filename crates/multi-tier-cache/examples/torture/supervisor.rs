//! One run: servers, workers, faults by plan, rest, and the verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use multi_tier_cache::Arc;

use super::board::{Board, now};
use super::fleet::Fleet;
use super::keys::Keys;
use super::plan::{Event, Hazard, plan, plan_only};
use super::report::{Kind, Order, Part, Report, Violation};
use super::rest::look;
use super::stage::Stage;

/// What is asked of a run.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) instances: usize,
    pub(crate) keys: usize,
    pub(crate) kill_subscriptions_every: Option<Duration>,
    pub(crate) json: bool,
    pub(crate) only: Option<String>,
    pub(crate) without: Vec<String>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) sum: Report,
    pub(crate) happened: BTreeMap<String, u64>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) subscriptions_killed: u64,
}

const REPEAT: u64 = 60;
const TURN: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_secs(70);
const CHECK: Duration = Duration::from_secs(60);
/// After the last proof everything lost on the way has been found out.
const BOUND: Duration = Duration::from_millis(2_100);

/// What is done to the stage at a moment.
#[derive(Clone, Copy)]
enum Act {
    Begin,
    Again,
    End,
}

struct Run<'a> {
    wanted: &'a Wanted,
    // In this order: who uses the servers ends before them.
    fleet: Fleet,
    stage: Stage,
    board: Board,
    happened: Vec<(u64, Act, Event)>,
    origin: u64,
    killed: u64,
    told: usize,
}

pub(crate) fn run(wanted: &Wanted, interrupted: &Arc<AtomicBool>) -> Result<Outcome> {
    let shared = Path::new("/dev/shm");
    let directory = if shared.is_dir() { tempfile::tempdir_in(shared)? } else { tempfile::tempdir()? };
    let path = directory.path().join("board");
    let board = Board::create(&path, wanted.keys)?;
    let stage = Stage::new(wanted.instances)?;
    let (origin, mut random) = (now(), Rng::with_seed(wanted.seed));
    let part = |id: usize| {
        let (warm, cold) = stage.addresses(id);
        let (workers, keys, board) = (wanted.instances, wanted.keys, path.display().to_string());
        let strict = id.is_multiple_of(2);
        let (seed, without) = (wanted.seed ^ (id as u64 + 1) << 32, wanted.without.clone());
        Part { id, workers, keys, seed, strict, board, warm, cold, without, origin }
    };
    let parts: Vec<Part> = (0..wanted.instances).map(part).collect();
    let fleet = Fleet::start(&parts)?;
    let mut run = Run { wanted, fleet, stage, board, happened: Vec::new(), origin: now(), killed: 0, told: 0 };
    let length = Duration::from_secs(wanted.seconds);
    let events = match &wanted.only {
        Some(name) => plan_only(name, &mut random, wanted.instances, length).context("no such hazard")?,
        None => plan(&mut random, wanted.instances, length),
    };
    run.play(&edges(&events), origin, interrupted)?;
    run.come_to_rest()?;
    Ok(run.into_outcome())
}

/// Every begin, repetition and end in the order of time.
fn edges(events: &[Event]) -> Vec<(u64, Act, Event)> {
    let mut edges = Vec::new();
    for event in events {
        edges.push((event.at, Act::Begin, *event));
        if matches!(event.hazard, Hazard::ResetSubscription | Hazard::LeasesEvicted | Hazard::TagTokensEvicted) {
            edges.extend((1..event.length / REPEAT).map(|turn| (event.at + turn * REPEAT, Act::Again, *event)));
        }
        edges.push((event.at + event.length, Act::End, *event));
    }
    edges.sort_by_key(|(at, ..)| *at);
    edges
}

impl Run<'_> {
    fn play(&mut self, edges: &[(u64, Act, Event)], origin: u64, interrupted: &AtomicBool) -> Result<()> {
        self.fleet.order(Order::Run)?;
        self.origin = origin;
        let began = Instant::now();
        let (mut edges, mut kills) = (edges.iter().peekable(), 1);
        while began.elapsed() < Duration::from_secs(self.wanted.seconds) {
            if interrupted.load(Ordering::Acquire) {
                bail!("interrupted");
            }
            while let Some((_, act, event)) = edges.next_if(|(at, ..)| u128::from(*at) <= began.elapsed().as_millis()) {
                self.act(*act, *event).with_context(|| format!("{event:?}"))?;
            }
            if let Some(every) = self.wanted.kill_subscriptions_every
                && began.elapsed() >= every * kills
            {
                self.killed += self.stage.kill_subscriptions() as u64;
                kills += 1;
            }
            self.fleet.listen(TURN)?;
            self.fleet.look_for_hangs();
            self.tell();
        }
        for (_, act, event) in edges {
            if !matches!(act, Act::Begin) {
                self.act(*act, *event)?;
            }
        }
        Ok(())
    }

    fn act(&mut self, act: Act, event: Event) -> Result<()> {
        let (fleet, board) = (&self.fleet, &self.board);
        match act {
            Act::Begin => self.stage.begin(event, fleet, board)?,
            Act::Again => return self.stage.again(event),
            Act::End => self.stage.end(event, fleet, board)?,
        }
        self.happened.push((now() - self.origin, act, event));
        Ok(())
    }

    fn come_to_rest(&mut self) -> Result<()> {
        self.fleet.settle(SETTLE)?;
        self.fleet.listen(BOUND)?;
        self.look_at_rest("before")?;
        self.fleet.report(CHECK)?;
        self.look_at_rest("after")?;
        self.tell();
        Ok(())
    }

    fn look_at_rest(&mut self, when: &str) -> Result<()> {
        let keys = Keys { count: self.wanted.keys, owners: self.wanted.instances };
        let until = now() - self.origin;
        for (tier, server) in [("L2", &self.stage.master), ("L3", &self.stage.cold)] {
            let found = look(server, &self.stage.master, keys, &self.board)?;
            for (what, count) in [("values", found.values), ("revoked by tag", found.revoked)] {
                self.fleet.sum.counts.insert(format!("{tier} {what} {when} the last reads"), count);
            }
            for text in found.stale {
                *self.fleet.sum.counts.entry("stale at rest".to_owned()).or_default() += 1;
                let text = format!("in {tier}, {when} the last reads: {text}");
                self.fleet.violations.push(Violation { kind: Kind::AtRest, text, from: until, until });
            }
        }
        Ok(())
    }

    /// Prints what came up since the last time.
    fn tell(&mut self) {
        let second = 1_000_000_000;
        for violation in self.fleet.violations.iter().skip(self.told).take(20_usize.saturating_sub(self.told)) {
            eprintln!("VIOLATION {:?}: {}", violation.kind, violation.text);
            for (at, act, event) in &self.happened {
                if *at + 3 * second >= violation.from && *at <= violation.until + second {
                    let act = if matches!(act, Act::Begin) { "begins" } else { "ends" };
                    let at = Duration::from_nanos(*at);
                    eprintln!("    {at:?}: {:?} {act}, instance {}", event.hazard, event.instance);
                }
            }
        }
        self.told = self.fleet.violations.len();
    }

    fn into_outcome(self) -> Outcome {
        let mut happened = BTreeMap::new();
        for (_, act, event) in &self.happened {
            if matches!(act, Act::Begin) {
                *happened.entry(format!("{:?}", event.hazard)).or_default() += 1;
            }
        }
        let Self { fleet, killed, .. } = self;
        let Fleet { sum, violations, .. } = fleet;
        Outcome { sum, happened, violations, subscriptions_killed: killed }
    }
}
