//! What goes wrong and when: drawn from the seed before it begins, every hazard at least once within 30 s.

use std::time::Duration;

use fastrand::Rng;

use super::reader::REPAIR;

/// Something that goes wrong. Those of one instance name it elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hazard {
    /// The server is killed, and comes back empty.
    RestartEmpty,
    FlushAll,
    /// A replica takes over that had not been told everything.
    LossyFailover,
    /// An instance's connections swallow what is sent the way to the server, from it, or both, and then break.
    BlackholeToServer,
    BlackholeToClient,
    Blackhole,
    /// They keep it for a while, and what was given up long ago arrives.
    HoldToServer,
    HoldToClient,
    Hold,
    Delay,
    /// An instance's connections break in the middle of an answer.
    CutAfter,
    /// The server does not run for a while.
    ServerStopped,
    /// An instance does not run for a while.
    WorkerStopped,
    /// An instance's way to the tier below is slow.
    ColdDelay,
    /// It is silent, and then everything arrives.
    ColdHold,
    ResetSubscription,
    /// An instance hears no messages.
    DeafSubscription,
    /// The log is cut short while an instance hears nothing.
    TrimmedLog,
    LeasesEvicted,
    TagTokensEvicted,
    ScriptFlush,
}

/// The servers forget: nothing else may keep the instances from making up for it for a while.
const LOSSES: [Hazard; 3] = [Hazard::RestartEmpty, Hazard::FlushAll, Hazard::LossyFailover];
/// Nobody is kept from anything that makes up for a loss.
const GENTLE: [Hazard; 6] = [
    Hazard::ResetSubscription,
    Hazard::DeafSubscription,
    Hazard::TrimmedLog,
    Hazard::LeasesEvicted,
    Hazard::TagTokensEvicted,
    Hazard::ScriptFlush,
];
const ROUGH: [Hazard; 12] = [
    Hazard::BlackholeToServer,
    Hazard::BlackholeToClient,
    Hazard::Blackhole,
    Hazard::HoldToServer,
    Hazard::HoldToClient,
    Hazard::Hold,
    Hazard::Delay,
    Hazard::CutAfter,
    Hazard::ServerStopped,
    Hazard::WorkerStopped,
    Hazard::ColdDelay,
    Hazard::ColdHold,
];

const QUIET_BEFORE: u64 = 700;
const QUIET_AFTER: u64 = 300;

/// A hazard with its time, in milliseconds since the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) hazard: Hazard,
    pub(crate) instance: usize,
}

/// Events that belong together, beginning at 0.
struct Block {
    events: Vec<Event>,
    length: u64,
}

/// All events within `length`, in the order of their beginning.
pub(crate) fn plan(random: &mut Rng, instances: usize, length: Duration) -> Vec<Event> {
    let end = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).saturating_sub(500);
    let mut events = Vec::new();
    let mut at = 1_000;
    for block in first_round(random, instances) {
        at = append(&mut events, block, at, end);
    }
    let mut missed = 0;
    while missed < 10 {
        let (lost, gentle, rough_ones) = (draw(random, &LOSSES), draw(random, &GENTLE), draw(random, &ROUGH));
        let block = match lost.first() {
            Some(lost) if random.u32(..4) == 0 => loss(random, *lost, &gentle, instances),
            _ => rough(random, &rough_ones, instances),
        };
        let before = at;
        at = append(&mut events, block, at, end);
        missed += u32::from(at == before);
    }
    events.sort_by_key(|event| event.at);
    events
}

/// The same with one hazard alone, if there is one of this name.
pub(crate) fn plan_only(name: &str, random: &mut Rng, instances: usize, length: Duration) -> Option<Vec<Event>> {
    let all = LOSSES.into_iter().chain(GENTLE).chain(ROUGH);
    let hazard = all.into_iter().find(|hazard| format!("{hazard:?}") == name)?;
    let end = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).saturating_sub(500);
    let (mut events, mut at, mut before) = (Vec::new(), 1_000, 0);
    while at > before {
        let lost = LOSSES.contains(&hazard);
        let block = if lost { loss(random, hazard, &[], instances) } else { rough(random, &[hazard], instances) };
        before = at;
        at = append(&mut events, block, at, end);
    }
    Some(events)
}

/// Every hazard once.
fn first_round(random: &mut Rng, instances: usize) -> Vec<Block> {
    let (mut losses, mut gentle, mut rough_ones) = (LOSSES, GENTLE, ROUGH);
    random.shuffle(&mut losses);
    random.shuffle(&mut gentle);
    random.shuffle(&mut rough_ones);
    let mut blocks: Vec<Block> = Vec::new();
    for (hazard, within) in losses.into_iter().zip(gentle.chunks(GENTLE.len() / LOSSES.len())) {
        blocks.push(loss(random, hazard, within, instances));
    }
    for hazards in rough_ones.chunks(instances.min(4)) {
        blocks.push(rough(random, hazards, instances));
    }
    random.shuffle(&mut blocks);
    blocks
}

/// Two different ones.
fn draw(random: &mut Rng, hazards: &[Hazard]) -> Vec<Hazard> {
    let mut drawn = hazards.to_vec();
    random.shuffle(&mut drawn);
    drawn.truncate(2);
    drawn
}

/// Where the next block begins.
fn append(events: &mut Vec<Event>, block: Block, at: u64, end: u64) -> u64 {
    if at + block.length > end {
        return at;
    }
    events.extend(block.events.into_iter().map(|event| Event { at: at + event.at, ..event }));
    at + block.length
}

fn loss(random: &mut Rng, hazard: Hazard, within: &[Hazard], instances: usize) -> Block {
    let length = duration(random, hazard);
    let calm = u64::try_from(REPAIR.as_millis()).unwrap_or(u64::MAX);
    let mut events = vec![Event { at: QUIET_BEFORE, length, hazard, instance: 0 }];
    for gentle in within {
        let (at, instance) = (QUIET_BEFORE + length + random.u64(..calm / 2), random.usize(..instances));
        events.push(Event { at, length: duration(random, *gentle), hazard: *gentle, instance });
    }
    Block { events, length: QUIET_BEFORE + length + calm }
}

/// Each at another instance, as far as there are that many.
fn rough(random: &mut Rng, hazards: &[Hazard], instances: usize) -> Block {
    let first = random.usize(..instances);
    let mut events: Vec<Event> = Vec::new();
    for (place, hazard) in hazards.iter().enumerate().take(instances) {
        let instance = (first + place) % instances;
        let at = random.u64(..500);
        events.push(Event { at, length: duration(random, *hazard), hazard: *hazard, instance });
    }
    let length = events.iter().map(|event| event.at + event.length).max().unwrap_or(0) + QUIET_AFTER;
    Block { events, length }
}

fn duration(random: &mut Rng, hazard: Hazard) -> u64 {
    match hazard {
        Hazard::FlushAll | Hazard::ScriptFlush => 0,
        Hazard::RestartEmpty => random.u64(50..600),
        Hazard::LossyFailover => random.u64(200..900),
        Hazard::BlackholeToServer | Hazard::BlackholeToClient | Hazard::Blackhole => random.u64(500..3_000),
        Hazard::HoldToServer | Hazard::HoldToClient | Hazard::Hold => random.u64(300..3_000),
        Hazard::Delay => random.u64(500..2_000),
        Hazard::CutAfter => random.u64(200..800),
        Hazard::ServerStopped => random.u64(200..2_800),
        Hazard::WorkerStopped => random.u64(500..3_000),
        Hazard::ColdDelay => random.u64(1_000..2_500),
        Hazard::ColdHold => random.u64(300..1_500),
        Hazard::ResetSubscription => 600,
        Hazard::DeafSubscription => random.u64(600..2_000),
        Hazard::TrimmedLog => random.u64(700..1_500),
        Hazard::LeasesEvicted | Hazard::TagTokensEvicted => 400,
    }
}
