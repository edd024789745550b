//! Scenarios, and how they are judged: with every protection on they hold, without the one they are about they do not.

use std::time::{Duration, Instant};

use multi_tier_cache::testing::Protection;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio::time::{sleep, timeout};

use crate::common::PATIENCE;

/// What became of a scenario: a violation of the contract is a value, so that it can be asked for. What else goes wrong
/// panics.
pub(crate) type Outcome = Result<(), String>;

/// Protections are switched for the whole process: whoever does so runs alone.
static SWITCHES: RwLock<()> = RwLock::const_new(());
static SWITCHED_OFF: Mutex<Vec<Protection>> = Mutex::new(Vec::new());

/// Runs a scenario; without some protections it must find a violation.
pub(crate) async fn judge(scenario: impl Future<Output = Outcome>, without: &[Protection]) {
    if without.is_empty() {
        let _beside_others = SWITCHES.read().await;
        run(scenario).await.unwrap_or_else(|violation| panic!("{violation}"));
        return;
    }
    let _alone = SWITCHES.write().await;
    let _restored = Restored;
    SWITCHED_OFF.lock().extend(without);
    let _off = Protection::without_all(without);
    match run(scenario).await {
        Ok(()) => panic!("no violation without {without:?}: the scenario proves nothing about it"),
        Err(violation) => println!("without {without:?}: {violation}"),
    }
}

struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        SWITCHED_OFF.lock().clear();
    }
}

/// Whether this run is without `protection`: for those that a script in Redis has, which a test undoes by hand.
pub(crate) fn is_off(protection: Protection) -> bool {
    SWITCHED_OFF.lock().contains(&protection)
}

async fn run(scenario: impl Future<Output = Outcome>) -> Outcome {
    timeout(PATIENCE, scenario).await.unwrap_or_else(|_| panic!("the scenario hangs"))
}

/// One test for each line: where the scenario runs, and without what.
macro_rules! scenario {
    ($scenario:ident { $($test:ident: $kind:ident $(without $off:ident)*),+ $(,)? }) => {
        mod $scenario {
            $(
                #[tokio::test]
                async fn $test() {
                    let without = [$(multi_tier_cache::testing::Protection::$off),*];
                    $crate::harness::judge(super::$scenario($crate::world::Kind::$kind), &without).await;
                }
            )+
        }
    };
}

/// Waits for what must come, whatever the protections.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(1)).await;
    }
}

/// What the contract promises to come within this time.
pub(crate) async fn eventually(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Outcome {
    let began = Instant::now();
    while !holds().await {
        if began.elapsed() > within {
            return Err(format!("not within {within:?}: {what}"));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// What was seen must not be older than `floor`.
pub(crate) fn fresh(what: &str, seen: impl Into<Option<u64>>, floor: u64) -> Outcome {
    match seen.into() {
        Some(version) if version < floor => Err(format!("{what}: version {version}, after {floor} was announced")),
        _ => Ok(()),
    }
}

/// What must be so.
pub(crate) fn holds(what: &str, condition: bool) -> Outcome {
    if condition { Ok(()) } else { Err(format!("not so: {what}")) }
}
