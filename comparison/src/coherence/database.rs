//! A source of truth: each row has a version, and remembers which one had been announced when.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a reading takes: whatever happens meanwhile is not in it.
const READING: Duration = Duration::from_millis(5);

pub(super) struct Database {
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    version: AtomicU64,
    /// The newest version whose invalidation had succeeded by each moment, in order.
    announced: Mutex<Vec<(Instant, u64)>>,
}

impl Database {
    pub(super) fn new(rows: usize) -> Self {
        Self { rows: (0..rows).map(|_| Row::default()).collect() }
    }

    pub(super) async fn read(&self, place: usize) -> u64 {
        let version = self.current(place);
        tokio::time::sleep(READING).await;
        version
    }

    pub(super) fn current(&self, place: usize) -> u64 {
        self.rows[place].version.load(Ordering::SeqCst)
    }

    /// Answers the new version.
    pub(super) fn write(&self, place: usize) -> u64 {
        self.rows[place].version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The invalidation that followed the writing of `version` has succeeded.
    pub(super) fn announce(&self, place: usize, version: u64) {
        let mut announced = self.rows[place].announced.lock().expect("no writer panics");
        let newest = announced.last().map_or(0, |(_, newest)| *newest);
        announced.push((Instant::now(), newest.max(version)));
    }

    /// The version that every read had to reflect which began `age` after it was announced, or later.
    pub(super) fn announced_before(&self, place: usize, began: Instant, age: Duration) -> u64 {
        let announced = self.rows[place].announced.lock().expect("no writer panics");
        let earlier = announced.partition_point(|(moment, _)| *moment + age <= began);
        earlier.checked_sub(1).map_or(0, |last| announced[last].1)
    }
}
