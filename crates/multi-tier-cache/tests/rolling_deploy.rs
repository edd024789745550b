//! A deployment that takes its time: programs with two versions of a type and two formats read and write the same keys
//! of one Redis. None ever sees a value that is not its own, each recovers by loading, and what one removes all forget.
#![cfg(all(feature = "redis", feature = "msgpack", feature = "test-util"))]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use multi_tier_cache::backends::RedisCache;
use multi_tier_cache::serialization::MsgPackSerializer;
use multi_tier_cache::{
    Cache, CacheError, CacheSystem, CacheSystemBuilder, CallOptions, Codec, JsonSerializer, Loaded, Position,
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use test_servers::RedisServer;
use tokio::sync::Mutex as Turn;
use tokio::task::{JoinHandle, JoinSet};

const KEYS: usize = 12;
const STEPS: usize = 150;
/// Tasks of each program.
const TASKS: u64 = 2;

/// Who wrote a value: a program's place in [`PROGRAMS`].
type Program = usize;

/// The names of the programs, in the order in which they are deployed.
const PROGRAMS: [&str; 4] = ["version 1, JSON", "version 1, MessagePack", "version 2, JSON", "version 2, MessagePack"];

/// A row of the database as some version of the program knows it.
trait Row: Serialize + DeserializeOwned + Send + Sync + Sized + 'static {
    fn new(id: usize, revision: u64, program: Program) -> Self;
    fn facts(&self) -> (usize, u64, Program);
}

/// The fields of both could be read as those of the other: only the schema tells them apart.
#[derive(Debug, Serialize, Deserialize)]
struct First {
    id: usize,
    #[serde(default)]
    revision: u64,
    #[serde(default)]
    program: Program,
}

/// What `revision` means has changed: it counts from 1,000,000 now.
#[derive(Debug, Serialize, Deserialize)]
struct Second {
    id: usize,
    revision: u64,
    program: Program,
    #[serde(default)]
    note: Option<String>,
}

const SECOND_REVISIONS: u64 = 1_000_000;

impl Row for First {
    fn new(id: usize, revision: u64, program: Program) -> Self {
        Self { id, revision, program }
    }

    fn facts(&self) -> (usize, u64, Program) {
        (self.id, self.revision, self.program)
    }
}

impl Row for Second {
    fn new(id: usize, revision: u64, program: Program) -> Self {
        Self { id, revision: SECOND_REVISIONS + revision, program, note: Some("x".repeat(20)) }
    }

    fn facts(&self) -> (usize, u64, Program) {
        assert!(self.revision >= SECOND_REVISIONS && self.note.is_some(), "made by version 1: {self:?}");
        (self.id, self.revision - SECOND_REVISIONS, self.program)
    }
}

/// The source of all programs, and what is known of their writes.
#[derive(Default)]
struct Database {
    rows: [Written; KEYS],
}

#[derive(Default)]
struct Written {
    /// Writers of a row take turns, as transactions do.
    turn: Turn<()>,
    revision: AtomicU64,
    /// The last write whose invalidation was acknowledged, and its place in the log.
    acknowledged: Mutex<Option<(u64, Position)>>,
}

impl Database {
    fn revision(&self, id: usize) -> u64 {
        self.rows[id].revision.load(Ordering::SeqCst)
    }

    fn acknowledged(&self, id: usize) -> Option<(u64, Position)> {
        *self.rows[id].acknowledged.lock()
    }

    /// Changes a row, and the cache by `change`.
    async fn write<F: Future<Output = Position>>(&self, id: usize, change: impl FnOnce(u64) -> F) -> (u64, Position) {
        let row = &self.rows[id];
        let _turn = row.turn.lock().await;
        let revision = row.revision.fetch_add(1, Ordering::SeqCst) + 1;
        let position = change(revision).await;
        *row.acknowledged.lock() = Some((revision, position));
        (revision, position)
    }
}

/// One instance of a program.
struct Instance<R> {
    program: Program,
    cache: Cache<usize, R>,
    _system: CacheSystem,
    database: Arc<Database>,
    /// What this instance has acknowledged: it reads its own writes at once.
    own: [AtomicU64; KEYS],
}

impl<R: Row> Instance<R> {
    async fn new(
        program: Program,
        version: u32,
        codec: impl Codec<R>,
        server: &RedisServer,
        database: &Arc<Database>,
    ) -> Arc<Self> {
        let l2 = Arc::new(RedisCache::with_url(&server.url()).await.unwrap());
        let system = CacheSystemBuilder::new().with_l2(l2).build().await.unwrap();
        let cache = system.cache_builder("rows").schema("row", version).build_with_codec(codec).unwrap();
        Arc::new(Self { program, cache, _system: system, database: Arc::clone(database), own: Default::default() })
    }

    fn row(&self, id: usize, revision: u64) -> R {
        R::new(id, revision, self.program)
    }

    #[track_caller]
    fn check(&self, id: usize, row: &R, least: u64) {
        let (of, revision, program) = row.facts();
        let name = PROGRAMS[self.program];
        assert_eq!((of, program), (id, self.program), "{name} was given what {} wrote", PROGRAMS[program]);
        assert!(revision >= least, "{name}: revision {revision} of {id} after {least} was acknowledged");
    }

    fn own(&self, id: usize) -> &AtomicU64 {
        &self.own[id]
    }

    /// A read that loads what is missing or not its own, and reflects whatever any program has written.
    async fn read(&self, id: usize) {
        let (least, position) = self.database.acknowledged(id).unzip();
        let (database, program) = (Arc::clone(&self.database), self.program);
        let load = move |_| async move { Ok::<_, CacheError>(Loaded::new(R::new(id, database.revision(id), program))) };
        let fetched = self.cache.fetch(&id, &CallOptions::default().at_least(position), load).await.unwrap();
        self.check(id, fetched.value().unwrap(), least.unwrap_or_default());
    }

    async fn read_many(&self, ids: &[usize]) {
        let least: Vec<u64> = ids.iter().map(|id| self.own(*id).load(Ordering::SeqCst)).collect();
        let (database, program) = (Arc::clone(&self.database), self.program);
        let load = move |ids: Vec<usize>| {
            let database = Arc::clone(&database);
            async move {
                let row = |id| (id, R::new(id, database.revision(id), program));
                Ok::<_, CacheError>(ids.into_iter().map(row).collect::<Vec<_>>())
            }
        };
        let rows = self.cache.get_or_load_many(ids, load).await.unwrap();
        for ((id, row), least) in ids.iter().zip(rows).zip(least) {
            self.check(*id, &row.unwrap(), least);
        }
    }

    /// What is stored already, which may be nothing.
    async fn look(&self, ids: &[usize]) {
        let least: Vec<u64> = ids.iter().map(|id| self.own(*id).load(Ordering::SeqCst)).collect();
        for ((id, row), least) in ids.iter().zip(self.cache.get_many(ids).await.unwrap()).zip(least) {
            row.iter().for_each(|row| self.check(*id, row, least));
        }
    }

    async fn remove(&self, id: usize) -> (u64, Position) {
        let removed = |_| async { self.cache.remove(&id).await.unwrap().unwrap() };
        self.wrote(id, self.database.write(id, removed).await)
    }

    async fn insert(&self, id: usize) -> (u64, Position) {
        let inserted = |revision| async move { self.cache.insert(&id, self.row(id, revision)).await.unwrap().unwrap() };
        self.wrote(id, self.database.write(id, inserted).await)
    }

    fn wrote(&self, id: usize, written: (u64, Position)) -> (u64, Position) {
        self.own(id).fetch_max(written.0, Ordering::SeqCst);
        written
    }

    async fn work(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..STEPS {
            let id = random.usize(0..KEYS);
            let mut some = random.choose_multiple(0..KEYS, 5);
            random.shuffle(&mut some);
            match random.u8(0..10) {
                0 => drop(self.remove(id).await),
                1 => drop(self.insert(id).await),
                2 | 3 => self.read_many(&some).await,
                4 => self.look(&some).await,
                _ => self.read(id).await,
            }
        }
    }

    fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>, seed: u64) {
        for task in 0..TASKS {
            tasks.spawn(Arc::clone(self).work(seed * 100 + task));
        }
    }

    /// Everything as it is at the end, or anew.
    async fn read_all(&self) {
        for id in 0..KEYS {
            self.read(id).await;
        }
    }
}

/// Reads in a task what another has removed or replaced.
fn reads<R: Row>(instance: &Arc<Instance<R>>, id: usize) -> JoinHandle<()> {
    let instance = Arc::clone(instance);
    tokio::spawn(async move { instance.read(id).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_new_programs_share_keys_and_never_each_others_values() {
    let (server, database) = (RedisServer::start().unwrap(), Arc::new(Database::default()));
    let one = Instance::<First>::new(0, 1, JsonSerializer, &server, &database).await;
    let two = Instance::<First>::new(1, 1, MsgPackSerializer, &server, &database).await;
    let three = Instance::<Second>::new(2, 2, JsonSerializer, &server, &database).await;
    let four = Instance::<Second>::new(3, 2, MsgPackSerializer, &server, &database).await;

    let mut tasks = JoinSet::new();
    for seed in [1, 2] {
        one.start(&mut tasks, seed);
        two.start(&mut tasks, seed + 10);
        three.start(&mut tasks, seed + 20);
        four.start(&mut tasks, seed + 30);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }
    for stats in [one.cache.stats(), two.cache.stats(), three.cache.stats(), four.cache.stats()] {
        assert!(stats.rejected > 0 && stats.loads > 0 && stats.hits > 0 && stats.failed_loads == 0, "{stats:?}");
    }

    // Whoever removes or replaces, every other loads anew: `read` asks for the last revision.
    for id in 0..KEYS {
        let (revision, _) = match id % 4 {
            0 => one.remove(id).await,
            1 => two.insert(id).await,
            2 => three.remove(id).await,
            _ => four.insert(id).await,
        };
        assert_eq!(database.acknowledged(id).unwrap().0, revision);
        for reader in [reads(&one, id), reads(&two, id), reads(&three, id), reads(&four, id)] {
            reader.await.unwrap();
        }
    }
    // The last of the old programs ends; the new one recovers whatever it has left behind.
    one.read_all().await;
    drop((one, two, three));
    four.read_all().await;
    let before = four.cache.stats();
    four.read_all().await;
    let after = four.cache.stats();
    assert_eq!((after.loads, after.rejected), (before.loads, before.rejected), "nobody is in its way any more");
}
