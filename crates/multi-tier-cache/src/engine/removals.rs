//! Removals of single keys share a round trip and a message while others are under way.
//!
//! A removal that finds no other under way is carried out at once, by its caller. One that does waits; a task takes what
//! waits, carries it out as one removal of many keys, and looks again. As with reads from Redis nobody waits for
//! company: a batch is what has come during the one before. Nor does anybody wait for another's key: one that is being
//! written just now is removed by a task of its own, since its writer may be polled by somebody who waits for the batch.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use super::finish::{Unfinished, finish};
use super::invalidate::still_there;
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
    waiting: Vec<Waiting>,
}

/// A removal that waits. It is carried out even if its caller goes away.
struct Waiting {
    watch: Watch<Answer>,
    caller: oneshot::Sender<Removed>,
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
        state.waiting.push(Waiting { watch, caller });
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

    /// Removes these keys at once and tells their callers.
    async fn remove_together(self: &Arc<Self>, batch: Vec<Removal>) {
        let (mut watches, mut turns, mut callers) = (Vec::new(), Vec::new(), Vec::new());
        for removal in batch {
            match removal.watch.try_turn() {
                Some(turn) => {
                    watches.push(removal.watch);
                    turns.push(turn);
                    callers.push(removal.callers);
                }
                None => drop(tokio::spawn(Arc::clone(self).remove_for(removal))),
            }
        }
        if watches.is_empty() {
            return;
        }
        let removed = self.remove_in_turn(&mut watches, turns).await;
        let removals = watches.into_iter().zip(callers).map(|(watch, callers)| Removal { watch, callers });
        for removal in removals {
            // One key may be at fault.
            match &removed {
                Err(error) if !error.is_retryable() => Arc::clone(self).remove_for(removal).await,
                removed => tell(removal.callers, removed),
            }
        }
    }

    /// Removes this key alone.
    async fn remove_for(self: Arc<Self>, removal: Removal) {
        let removed = self.remove_everywhere(&mut [removal.watch]).await;
        tell(removal.callers, &removed);
    }
}

/// Those who want the same key removed.
struct Removal {
    watch: Watch<Answer>,
    callers: Vec<oneshot::Sender<Removed>>,
}

fn tell(callers: Vec<oneshot::Sender<Removed>>, removed: &Removed) {
    callers.into_iter().for_each(|caller| drop(caller.send(removed.clone())));
}

/// One removal for each key.
fn by_key(mut waiting: Vec<Waiting>) -> Vec<Removal> {
    waiting.sort_by(|one, other| one.watch.key().cmp(other.watch.key()));
    let mut removals: Vec<Removal> = Vec::new();
    for Waiting { watch, caller } in waiting {
        match removals.last_mut() {
            Some(same) if same.watch.key() == watch.key() => same.callers.push(caller),
            _ => removals.push(Removal { watch, callers: vec![caller] }),
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
        while let Some(waiting) = self.take() {
            self.engine.remove_together(by_key(waiting)).await;
        }
    }

    /// The removals of the next batch; `None`, and the end of this task, if nothing waits.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.engine.removals.0.lock();
        let share = state.waiting.len().min(defaults::KEYS_PER_MESSAGE);
        let taken: Vec<Waiting> = state.waiting.drain(..share).collect();
        if taken.is_empty() {
            state.carrier = None;
            self.ended = true;
        }
        (!taken.is_empty()).then_some(taken)
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
        for Waiting { watch, caller } in abandoned {
            drop(Unfinished::key(&self.engine, watch.key()));
            drop(caller);
        }
    }
}

fn abandoned() -> CacheError {
    let failure = Failure::new("the Tokio runtime that carried out the removal has ended").retryable();
    still_there(CacheError::BackendError(failure.during("invalidate")))
}
