//! What an actor can do.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

use multi_tier_cache::{Bytes, CacheManager, CacheResult, CacheStrategy, CallOptions, Position};
use parking_lot::{Mutex, MutexGuard};

use super::actor::VerbState;
use super::{ANSWER, NAMES, SOURCE, Shared};
use crate::explorer::{EVERYTHING, changing, reading};
use crate::history::{Changes, History, bytes_of};
use crate::tiers::{apart, pause, touch};

/// An actor's hands.
#[derive(Clone)]
pub(crate) struct Me {
    pub(super) shared: Arc<Shared>,
    pub(super) instance: usize,
    pub(super) state: Arc<Mutex<VerbState>>,
}

/// Where the position of a change is handed over.
pub(crate) type Token = Arc<Mutex<(Option<(Position, usize)>, Option<Waker>)>>;

impl Me {
    fn cache(&self) -> &CacheManager {
        self.shared.instances[self.instance].cache()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock()
    }

    /// Between two verbs of a program others may go on.
    async fn begin(&self) {
        let begun = self.state.lock().begun;
        if begun {
            pause().await;
        }
    }

    /// Loads a key that is not stored.
    pub(crate) async fn load(&self, key: usize) {
        self.load_with(key, &lasting()).await;
    }

    pub(crate) async fn load_with(&self, key: usize, options: &CallOptions) {
        self.load_reflecting(key, options, 0).await;
    }

    async fn load_reflecting(&self, key: usize, options: &CallOptions, besides: Changes) {
        self.begin().await;
        self.state.lock().asked = 0;
        // A read at a position may begin a generation of its own at any step.
        let generation = if besides == 0 { self.history().generation(self.instance) } else { u64::MAX };
        self.state.lock().generation = generation;
        let reading = self.history().begin_read(self.instance, key, besides);
        let loader = || self.read_source(key);
        let value = self.cache().get_or_compute_with_options(NAMES[key], options, loader).await;
        match value {
            Ok(value) => self.history().end_read(&reading, Some(&value)),
            Err(error) => self.fail(&format!("a load failed: {error}")),
        }
    }

    async fn read_source(&self, key: usize) -> CacheResult<Bytes> {
        let generation = self.state.lock().generation;
        self.history().begin_load(self.instance, key, generation);
        let _loading = Loading { me: self, key, generation };
        let id = apart(reading(SOURCE), || self.history().read_source(key)).await;
        Ok(bytes_of(id))
    }

    /// Reads what is stored.
    pub(crate) async fn get(&self, key: usize) {
        self.begin().await;
        let reading = self.history().begin_read(self.instance, key, 0);
        match self.cache().get(NAMES[key]).await {
            Ok(value) => self.history().end_read(&reading, value.as_ref()),
            Err(error) => self.fail(&format!("a read failed: {error}")),
        }
    }

    /// Loads a key once `token` was handed over, and at least as new.
    pub(crate) async fn load_at_least(&self, key: usize, token: &Token) {
        let (position, change) = self.take(token).await;
        self.load_reflecting(key, &lasting().at_least(position), 1 << change).await;
    }

    /// Reads a key once `token` was handed over, and at least as new; an error is an answer too.
    pub(crate) async fn get_at_least(&self, key: usize, token: &Token) {
        let (position, change) = self.take(token).await;
        self.begin().await;
        let reading = self.history().begin_read(self.instance, key, 1 << change);
        let read = self.cache().get_with_options(NAMES[key], &lasting().at_least(position)).await;
        self.history().end_read(&reading, read.ok().flatten().as_ref());
    }

    async fn take(&self, token: &Token) -> (Position, usize) {
        let taken = poll_fn(|context| {
            touch(changing(ANSWER));
            let mut token = token.lock();
            if let Some(taken) = token.0 {
                return Poll::Ready(taken);
            }
            token.1 = Some(context.waker().clone());
            Poll::Pending
        });
        taken.await
    }

    /// The source changes.
    pub(crate) async fn change(&self, keys: &[usize], announced: bool) -> usize {
        self.begin().await;
        touch(changing(SOURCE));
        let change = self.history().change(self.instance, keys, announced);
        pause().await;
        self.state.lock().change = Some(change);
        change
    }

    fn done<T>(&self, change: usize, outcome: CacheResult<T>) -> Option<T> {
        let done = match outcome {
            Ok(done) => {
                self.history().acknowledge(change);
                Some(done)
            }
            Err(error) => {
                self.fail(&format!("a change failed: {error}"));
                None
            }
        };
        self.state.lock().change = None;
        self.history().begin_generation(self.instance);
        done
    }

    fn fail(&self, complaint: &str) {
        self.history().violation.get_or_insert(complaint.to_owned());
    }

    /// Changes the source, then removes the key.
    pub(crate) async fn remove(&self, key: usize) {
        let change = self.change(&[key], true).await;
        let outcome = self.cache().remove(NAMES[key]).await;
        self.done(change, outcome);
    }

    /// The same, and hands over where it stands in the log.
    pub(crate) async fn remove_and_tell(&self, key: usize, token: &Token) {
        let change = self.change(&[key], true).await;
        let outcome = self.cache().remove(NAMES[key]).await;
        let position = self.done(change, outcome).flatten().expect("there is a bus");
        apart(changing(ANSWER), || {
            let mut token = token.lock();
            token.0 = Some((position, change));
            token.1.take().into_iter().for_each(Waker::wake);
        })
        .await;
    }

    pub(crate) async fn remove_both(&self) {
        let change = self.change(&[0, 1], true).await;
        let outcome = self.cache().remove_many(&NAMES).await;
        self.done(change, outcome);
    }

    pub(crate) async fn remove_pattern(&self, pattern: &str) {
        let change = self.change(&[0, 1], true).await;
        let outcome = self.cache().remove_pattern(pattern).await;
        self.done(change, outcome);
    }

    pub(crate) async fn clear(&self) {
        let change = self.change(&[0, 1], true).await;
        let outcome = self.cache().clear().await;
        self.done(change, outcome);
    }

    /// Changes what the source has under a tag, then revokes it; `keys` are those that have it.
    pub(crate) async fn remove_tag(&self, tag: &str, keys: &[usize]) {
        let change = self.change(keys, true).await;
        let outcome = self.cache().remove_tag(tag).await;
        self.done(change, outcome);
    }

    /// Changes the source, then puts the new value.
    pub(crate) async fn put(&self, key: usize) {
        self.put_with(key, &lasting()).await;
    }

    pub(crate) async fn put_with(&self, key: usize, options: &CallOptions) {
        let change = self.change(&[key], true).await;
        let value = bytes_of(self.history().put(change));
        let outcome = self.cache().put(NAMES[key], value, options).await;
        self.done(change, outcome);
    }

    /// The same, without telling other instances.
    pub(crate) async fn put_quietly(&self, key: usize) {
        let change = self.change(&[key], false).await;
        let value = bytes_of(self.history().put(change));
        let outcome = self.cache().set_with_strategy(NAMES[key], value, CacheStrategy::MediumTerm).await;
        self.done(change, outcome);
    }

    /// A replica is cut off from the hub.
    pub(crate) async fn keep_a_replica(&self) {
        apart(EVERYTHING, || self.shared.keep_a_replica()).await;
    }

    /// It takes over: what happened since is lost, and subscriptions end.
    pub(crate) async fn fail_over(&self) {
        apart(EVERYTHING, || self.shared.fail_over()).await;
    }

    pub(crate) async fn wait_for(&self, token: &Token) {
        self.take(token).await;
    }

    /// Looks where the log stands.
    pub(crate) async fn poll(&self) {
        self.begin().await;
        self.shared.poll(self.instance, &self.state).await;
    }

    /// Carries out `verb` for so many steps, then drops it.
    pub(crate) async fn cancelled(&self, steps: usize, verb: impl Future<Output = ()>) {
        let mut verb = Box::pin(verb);
        let mut left = steps;
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            self.state.lock().ends = left == 0;
            verb.as_mut().poll(context)
        })
        .await;
        touch(EVERYTHING);
        drop(verb);
        *self.state.lock() = VerbState::default();
        self.history().begin_generation(self.instance);
        self.history().note("cancelled, if it had not ended".into());
    }
}

/// What is stored outlives the test.
pub(crate) fn lasting() -> CallOptions {
    CallOptions::new(CacheStrategy::MediumTerm)
}

/// A load under way.
struct Loading<'a> {
    me: &'a Me,
    key: usize,
    generation: u64,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.me.history().end_load(self.me.instance, self.key, self.generation);
    }
}
