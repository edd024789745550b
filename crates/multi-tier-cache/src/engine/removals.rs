//! Removals of single keys share a round trip and a message while others are under way.
//!
//! A removal that finds no other under way is carried out at once, by its caller. One that does waits; a task takes what
//! waits, carries it out as one removal of many keys, and looks again. As with reads from Redis nobody waits for
//! company: a batch is what has come during the one before. Nor does anybody wait for another's key: one that is being
//! written just now is removed by a task of its own, since its writer may be polled by somebody who waits for the batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use super::finish::{Unfinished, finish};
use super::invalidate::{Refused, still_there};
use super::{Answer, Engine};
use crate::coordinator::Position;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::local::Watch;

type Removed = CacheResult<Option<Position>>;

/// The removals of an engine that are under way.
#[derive(Default)]
pub(super) struct Removals(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether a caller carries out its own.
    alone: bool,
    /// The runtime of the task that carries out what waits.
    carrier: Option<runtime::Id>,
    waiting: VecDeque<Removal>,
}

/// A removal that waits, or is carried out by a task. Its caller may go away.
struct Removal {
    watch: Watch<Answer>,
    began: Instant,
    promise: Promise,
}

/// Those who are to be told what became of a removal. Broken, it leaves what every interrupted removal does: this process
/// clean, and every awaited tier owing it.
struct Promise {
    engine: Arc<Engine>,
    key: Arc<str>,
    callers: Vec<oneshot::Sender<Removed>>,
}

/// Who carries out a removal.
enum Place {
    /// Its caller, and perhaps as the one that is alone.
    Now(Watch<Answer>, Option<Alone>),
    Waiting(oneshot::Receiver<Removed>),
}

impl Engine {
    /// Removes one key from every tier, for every instance.
    pub(super) async fn remove_one(self: &Arc<Self>, key: &str) -> Removed {
        let watch = self.local.watch(key);
        let place = if self.merges_removals() { self.place(watch) } else { Place::Now(watch, None) };
        match place {
            Place::Waiting(removed) => removed.await.unwrap_or_else(|_| Err(abandoned())),
            Place::Now(watch, alone) => {
                let engine = Arc::clone(self);
                finish(async move {
                    let removed = engine.remove_everywhere(&mut [watch]).await;
                    drop(alone);
                    removed
                })
                .await
            }
        }
    }

    /// Whether many keys are removed as one is: in one step, by the coordinator.
    fn merges_removals(&self) -> bool {
        let coordinated = self.shared.as_ref().is_some_and(|shared| shared.merges_removals());
        coordinated && self.remotes().all(|(position, _)| self.coordinates(position))
    }

    fn place(self: &Arc<Self>, watch: Watch<Answer>) -> Place {
        let Ok(runtime) = Handle::try_current() else { return Place::Now(watch, None) };
        let mut state = self.removals.0.lock();
        if !state.alone && state.carrier.is_none() {
            state.alone = true;
            return Place::Now(watch, Some(Alone(Arc::clone(self))));
        }
        // Nobody waits for a task of a runtime that may not be driven.
        let elsewhere = state.carrier.is_some_and(|carrier| carrier != runtime.id());
        if elsewhere || state.waiting.len() >= defaults::REMOVALS_WAITING {
            return Place::Now(watch, None);
        }
        let (caller, removed) = oneshot::channel();
        let (engine, key, callers) = (Arc::clone(self), Arc::clone(watch.key()), vec![caller]);
        let promise = Promise { engine, key, callers };
        state.waiting.push_back(Removal { watch, began: Instant::now(), promise });
        let carries = state.carrier.is_none();
        if carries {
            state.carrier = Some(runtime.id());
        }
        // A runtime that ends drops the task at once, which takes the lock.
        drop(state);
        if carries {
            runtime.spawn(Carrier { engine: Arc::clone(self), ended: false }.carry());
        }
        Place::Waiting(removed)
    }

    /// Removes the keys of a batch at once, each once, and tells the callers.
    async fn remove_together(self: &Arc<Self>, batch: Vec<Removal>) {
        let (mut watches, mut held) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for removal in by_key(batch) {
            match removal.watch.try_turn() {
                Some(turn) => {
                    watches.push(removal.watch);
                    held.push((turn, removal.promise));
                }
                None => removal.carry_out_alone(),
            }
        }
        if watches.is_empty() {
            return;
        }
        // One key may be at fault.
        let refused = if watches.len() > 1 { Refused::AskedSingly } else { Refused::Owed };
        let removed = self.remove_in_turn(&mut watches, refused).await;
        if !refused.applies_to(&removed) {
            held.into_iter().for_each(|(_turn, promise)| promise.keep(&removed));
            return;
        }
        // In the turns that are held: a writer that waits for one may be polled by somebody who waits for this batch.
        let singly = watches.into_iter().zip(held).map(|(watch, (_turn, promise))| async move {
            let removed = self.remove_in_turn(&mut [watch], Refused::Owed).await;
            promise.keep(&removed);
        });
        stream::iter(singly).buffer_unordered(defaults::BATCH_WIDTH).collect::<()>().await;
    }
}

impl Removal {
    /// Carries it out in a task of its own.
    fn carry_out_alone(self) {
        let Self { watch, promise, .. } = self;
        tokio::spawn(async move {
            let removed = promise.engine.remove_everywhere(&mut [watch]).await;
            promise.keep(&removed);
        });
    }
}

impl Promise {
    fn keep(mut self, removed: &Removed) {
        self.callers.drain(..).for_each(|caller| drop(caller.send(removed.clone())));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.callers.is_empty() {
            drop(Unfinished::key(&self.engine, &self.key));
        }
    }
}

/// One removal for each key.
fn by_key(mut batch: Vec<Removal>) -> Vec<Removal> {
    batch.sort_by(|one, other| one.promise.key.cmp(&other.promise.key));
    let mut removals: Vec<Removal> = Vec::with_capacity(batch.len());
    for mut removal in batch {
        match removals.last_mut() {
            Some(same) if same.promise.key == removal.promise.key => {
                same.promise.callers.append(&mut removal.promise.callers);
            }
            _ => removals.push(removal),
        }
    }
    removals
}

/// A removal that its caller carries out while no other is under way.
struct Alone(Arc<Engine>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.removals.0.lock().alone = false;
    }
}

/// The task that carries out what waits.
struct Carrier {
    engine: Arc<Engine>,
    ended: bool,
}

impl Carrier {
    async fn carry(mut self) {
        while let Some(batch) = self.take() {
            self.engine.remove_together(batch).await;
        }
    }

    /// The next batch; `None`, and the end of this task, if nothing waits. What has waited for long waits for no other.
    fn take(&mut self) -> Option<Vec<Removal>> {
        let mut state = self.engine.removals.0.lock();
        let late = state.waiting.iter().take_while(|removal| removal.began.elapsed() > defaults::REMOVAL_WAIT).count();
        let late: Vec<Removal> = state.waiting.drain(..late).collect();
        let share = share(state.waiting.iter().map(|removal| removal.promise.key.len()));
        let batch: Vec<Removal> = state.waiting.drain(..share).collect();
        if batch.is_empty() {
            state.carrier = None;
            self.ended = true;
        }
        drop(state);
        late.into_iter().for_each(Removal::carry_out_alone);
        (!batch.is_empty()).then_some(batch)
    }
}

impl Drop for Carrier {
    /// With its runtime, or by a panic: what waits was not removed, and its callers are told.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let abandoned = {
            let mut state = self.engine.removals.0.lock();
            state.carrier = None;
            std::mem::take(&mut state.waiting)
        };
        drop(abandoned);
    }
}

/// How many of the waiting keys, with these lengths, the next batch has: few, for each is named in one entry of the log,
/// but of a backlog a good part, so that it takes no more round trips than it has to.
fn share(lengths: impl ExactSizeIterator<Item = usize>) -> usize {
    let waiting = lengths.len();
    let most = (waiting / defaults::MERGED_SHARE).clamp(defaults::MERGED_REMOVALS, defaults::KEYS_PER_MESSAGE);
    let mut bytes = 0;
    let fit = lengths.take_while(|length| {
        let first = bytes == 0;
        bytes += length;
        first || bytes <= defaults::MERGED_REMOVAL_BYTES
    });
    fit.take(most).count()
}

fn abandoned() -> CacheError {
    let failure = Failure::new("the task that carried out the removal has ended").retryable();
    still_there(CacheError::BackendError(failure.during("invalidate")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_few_keys_of_a_backlog_a_good_part_and_never_too_many_bytes() {
        let of = |waiting: usize, length: usize| share(vec![length; waiting].into_iter());
        assert_eq!((of(0, 20), of(1, 20), of(40, 20)), (0, 1, 40));
        assert_eq!((of(100, 20), of(1_000, 20), of(16_384, 20)), (defaults::MERGED_REMOVALS, 125, 1_000));
        assert_eq!((of(10, defaults::MERGED_REMOVAL_BYTES), of(10, defaults::MERGED_REMOVAL_BYTES / 3)), (1, 3));
    }
}
