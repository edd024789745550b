//! Three instances, 50 hot keys: writers change the database and then invalidate, each time through any instance; readers
//! read through any. A read is stale if it returns less than what had been invalidated, with success, long before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::database::Database;
use super::fleet::Fleet;
use super::{LIMIT, contenders};
use crate::contenders::instance::{Instance, Kind};
use crate::grid::{Measure, Row};
use crate::stage::Stage;
use crate::unit::Unit;
use crate::workload::key;

const INSTANCES: usize = 3;
const KEYS: usize = 50;
const READERS: usize = 16;
const WRITERS: usize = 4;
/// Longest pause of a writer, in microseconds: each key is written about eight times a second.
const PAUSE_MAX: u64 = 20_000;
/// Before the look at what is left; longer than what counts as too late.
const QUIET: Duration = Duration::from_millis(2_200);
const KILL_INTERVAL: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_millis(100);
/// The staleness bound of this project, whatever is lost.
const TOO_LATE: Duration = Duration::from_secs(2);
/// Whoever waits longer counts as failed.
const PATIENCE: Duration = Duration::from_secs(1);
/// A hundred thousand reads in eight seconds.
const READS_PER_SECOND: f64 = 12_500.0;

#[derive(Default)]
struct Seen {
    reads: u32,
    late: u32,
    too_late: u32,
    failed: u32,
}

/// How long a round goes on, and after which times every subscription is killed.
#[derive(Clone, Copy)]
struct Course {
    duration: Duration,
    kill: Option<Duration>,
}

struct Scene {
    instances: Arc<[Instance]>,
    database: Arc<Database>,
    keys: Vec<String>,
    over: AtomicBool,
}

pub(crate) fn undisturbed(stage: &Stage) -> Row {
    let duration = Duration::from_secs(if stage.quick { 2 } else { 8 });
    let late = Measure::new("stale reads, older than 100 ms", Unit::Share).at_most(0.0);
    let title = format!("{INSTANCES} instances, {KEYS} hot keys, {} s", duration.as_secs());
    row("stale-reads", title, Course { duration, kill: None }, late, stage)
}

/// In a quick run also longer than what counts as too late.
pub(crate) fn killed(stage: &Stage) -> Row {
    let duration = Duration::from_secs(if stage.quick { 3 } else { 8 });
    let late = Measure::new("stale reads, older than 100 ms", Unit::Share);
    let title = format!(
        "the same for {} s, every subscription killed each {} ms",
        duration.as_secs(),
        KILL_INTERVAL.as_millis()
    );
    row("stale-reads-killed", title, Course { duration, kill: Some(KILL_INTERVAL) }, late, stage)
}

fn row(id: &'static str, title: String, course: Course, late: Measure, stage: &Stage) -> Row {
    let measures = vec![
        late,
        Measure::new("stale reads, older than 2 s", Unit::Share).at_most(0.0),
        Measure::new("still stale at rest, of 150", Unit::Count).at_most(0.0),
        Measure::new("reads served", Unit::PerSecond).at_least(READS_PER_SECOND),
        Measure::new("calls that failed or took over 1 s", Unit::Count).at_most(0.0),
    ];
    let contenders = contenders(&Kind::ALL, move |kind| round(kind, course));
    Row { id, title, measures, contenders, rounds: stage.long_rounds, limit: LIMIT }
}

fn round(kind: Kind, course: Course) -> Result<Vec<f64>> {
    let fleet = Fleet::start(kind, INSTANCES)?;
    let scene = Arc::new(Scene {
        instances: Arc::clone(&fleet.instances),
        database: Arc::new(Database::new(KEYS)),
        keys: (0..KEYS).map(key).collect(),
        over: AtomicBool::new(false),
    });
    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    for seed in 0..READERS as u64 {
        readers.spawn_on(read(Arc::clone(&scene), fastrand::Rng::with_seed(seed)), fleet.runtime.handle());
    }
    for seed in 0..WRITERS as u64 {
        writers.spawn_on(write(Arc::clone(&scene), fastrand::Rng::with_seed(!seed)), fleet.runtime.handle());
    }
    disturb(&fleet, course)?;
    scene.over.store(true, Ordering::Relaxed);
    let total = fleet.runtime.block_on(async {
        let mut total = Seen::default();
        while let Some(seen) = readers.join_next().await {
            total.add(&seen?);
        }
        total.failed += writers.join_all().await.into_iter().sum::<u32>();
        tokio::time::sleep(QUIET).await;
        anyhow::Ok(total)
    })?;
    ensure!(total.reads > 0, "nothing was read");
    let at_rest = fleet.runtime.block_on(stale_at_rest(&scene));
    let share = |count: u32| f64::from(count) / f64::from(total.reads);
    let rate = f64::from(total.reads) / course.duration.as_secs_f64();
    Ok(vec![share(total.late), share(total.too_late), at_rest, rate, f64::from(total.failed)])
}

/// Waits for `duration`, ending every subscription each time `kill` has passed.
fn disturb(fleet: &Fleet, Course { duration, kill }: Course) -> Result<()> {
    let (end, mut killed) = (Instant::now() + duration, 0);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::sleep(kill.map_or(left, |pause| pause.min(left)));
        if kill.is_some() {
            let reply = fleet.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
            killed += reply.trim().trim_start_matches(':').parse::<usize>()?;
        }
    }
    ensure!(kill.is_none() || killed >= INSTANCES, "{killed} subscriptions were there to be killed");
    Ok(())
}

async fn read(scene: Arc<Scene>, mut random: fastrand::Rng) -> Seen {
    let mut seen = Seen::default();
    while !scene.over.load(Ordering::Relaxed) {
        let (place, instance) = (random.usize(..KEYS), &scene.instances[random.usize(..INSTANCES)]);
        let began = Instant::now();
        let database = Arc::clone(&scene.database);
        let read = instance.get_or_compute(&scene.keys[place], move || async move { database.read(place).await });
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(version)) => {
                seen.reads += 1;
                if version < scene.database.current(place) {
                    let stale = |age| version < scene.database.announced_before(place, began, age);
                    seen.late += u32::from(stale(LATE));
                    seen.too_late += u32::from(stale(TOO_LATE));
                }
            }
            Ok(Err(_)) | Err(_) => seen.failed += 1,
        }
        // A hit does not wait for anything, and others want the thread.
        tokio::task::yield_now().await;
    }
    seen
}

/// Answers how many invalidations failed.
async fn write(scene: Arc<Scene>, mut random: fastrand::Rng) -> u32 {
    let mut failed = 0;
    while !scene.over.load(Ordering::Relaxed) {
        let (place, instance) = (random.usize(..KEYS), &scene.instances[random.usize(..INSTANCES)]);
        let version = scene.database.write(place);
        match tokio::time::timeout(PATIENCE, instance.invalidate(&scene.keys[place])).await {
            Ok(Ok(())) => scene.database.announce(place, version),
            Ok(Err(_)) | Err(_) => failed += 1,
        }
        tokio::time::sleep(Duration::from_micros(random.u64(..PAUSE_MAX))).await;
    }
    failed
}

/// How many keys an instance still answers with less than what the database has.
async fn stale_at_rest(scene: &Scene) -> f64 {
    let mut stale = 0;
    for instance in scene.instances.iter() {
        for (place, key) in scene.keys.iter().enumerate() {
            if let Ok(Ok(Some(version))) = tokio::time::timeout(PATIENCE, instance.get(key)).await {
                stale += u32::from(version < scene.database.current(place));
            }
        }
    }
    f64::from(stale)
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.late += other.late;
        self.too_late += other.too_late;
        self.failed += other.failed;
    }
}
