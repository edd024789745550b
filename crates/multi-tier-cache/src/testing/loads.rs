//! Loads that a test counts and holds.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Counts loads, and holds them where a test wants them. Clones are the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::testing::{Fleet, Loads};
/// use multi_tier_cache::Cache;
///
/// let names: Cache<u64, String> = Fleet::new().instance().await?.cache("names")?;
/// let loads = Loads::new();
/// let held = loads.hold();
/// let readers = [(); 3].map(|()| {
///     let (names, loads) = (names.clone(), loads.clone());
///     tokio::spawn(async move { names.get_or_load(&7, move || loads.load(async { Ok("Ada".to_owned()) })).await })
/// });
/// loads.begun(1).await;
/// held.release();
/// for reader in readers {
///     assert_eq!(*reader.await.unwrap()?, "Ada");
/// }
/// assert_eq!(loads.count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Loads(Arc<Inner>);

struct Inner {
    begun: watch::Sender<usize>,
    ended: watch::Sender<usize>,
    gate: Mutex<Option<watch::Receiver<bool>>>,
}

impl Loads {
    /// None so far, and none is held.
    #[must_use]
    pub fn new() -> Self {
        let (begun, ended) = (watch::Sender::new(0), watch::Sender::new(0));
        Self(Arc::new(Inner { begun, ended, gate: Mutex::default() }))
    }

    /// `work` as a load: counted when it is polled first, held before it does anything.
    pub fn load<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let Self(inner) = self.clone();
        async move {
            let gate = inner.gate.lock().clone();
            inner.begun.send_modify(|count| *count += 1);
            if let Some(mut gate) = gate {
                // Whoever holds it may be dropped: that lets it go on.
                let _ = gate.wait_for(|open| *open).await;
            }
            let made = work.await;
            inner.ended.send_modify(|count| *count += 1);
            made
        }
    }

    /// Holds the loads that begin from now on, until what this answers is released or dropped. A later hold takes the
    /// place of an earlier one for what begins after it.
    #[must_use]
    pub fn hold(&self) -> HeldLoads {
        let (release, gate) = watch::channel(false);
        *self.0.gate.lock() = Some(gate);
        HeldLoads { release }
    }

    /// Loads that began so far.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.begun.borrow()
    }

    /// Waits until so many loads have begun.
    pub async fn begun(&self, count: usize) {
        // The sender lives as long as `self`.
        let _ = self.0.begun.subscribe().wait_for(|begun| *begun >= count).await;
    }

    /// Waits until so many loads have ended; those that were cancelled or panicked never do.
    pub async fn ended(&self, count: usize) {
        let _ = self.0.ended.subscribe().wait_for(|ended| *ended >= count).await;
    }
}

impl Default for Loads {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loads").field("begun", &self.count()).field("ended", &*self.0.ended.borrow()).finish()
    }
}

/// Loads that are held; dropping it lets them go on.
#[derive(Debug)]
pub struct HeldLoads {
    release: watch::Sender<bool>,
}

impl HeldLoads {
    /// Lets them go on.
    pub fn release(self) {
        self.release.send_replace(true);
    }
}
