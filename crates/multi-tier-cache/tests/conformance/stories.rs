//! Sequences of events that several scenarios share, each with another change.

use multi_tier_cache::testing::{Held, Step, When};
use multi_tier_cache::{CacheResult, CallOptions};
use tokio::task::JoinHandle;

use crate::common::ended;
use crate::harness::{Outcome, fresh};
use crate::instance::{Instance, Loading};
use crate::world::World;

/// A load under way whose instance does not hear of what changes elsewhere before it is over.
pub(crate) struct UnheardLoad<'a> {
    instance: &'a Instance,
    unheard: Held,
    load: Loading,
}

impl<'a> UnheardLoad<'a> {
    /// Returns when the database has been read.
    pub(crate) async fn begin(instance: &'a Instance, key: &'static str) -> Self {
        Self::begin_with(instance, key, CallOptions::default()).await
    }

    pub(crate) async fn begin_with(instance: &'a Instance, key: &'static str, options: CallOptions) -> Self {
        let unheard = instance.stage.hold(Step::Message, When::Before);
        let mut load = instance.begin_load_with(key, options);
        load.began().await;
        Self { instance, unheard, load }
    }

    /// Carries out `change`, whose message is then about to be heard.
    pub(crate) async fn outlives(&mut self, change: impl Future<Output = u64>) -> u64 {
        let new = change.await;
        self.unheard.reached().await;
        new
    }

    /// Ends the load, which must leave nothing older than `new` in the shared tier. Then the change is heard.
    pub(crate) async fn end(self, world: &World, key: &str, new: u64) -> Outcome {
        self.load.end().await.unwrap();
        fresh("the shared tier after the load", world.stored(key), new)?;
        self.unheard.release();
        self.instance.hear(1).await;
        Ok(())
    }
}

/// Who asks after `change` does not get what a load from before it brings. Answers what `change` does.
pub(crate) async fn late_joiner(
    instance: &Instance,
    mut load: Loading,
    key: &'static str,
    change: impl Future<Output = u64>,
) -> Result<u64, String> {
    load.began().await;
    let new = change.await;
    let late = instance.start_load(key).await;
    load.end().await.unwrap();
    fresh("who asks after the change", ended(late).await, new)?;
    Ok(new)
}

/// A read of the shared tier from before `change`, answered after it. Answers what `change` does.
pub(crate) async fn lower_read_across(
    instance: &Instance,
    key: &'static str,
    change: impl Future<Output = u64>,
) -> u64 {
    let mut read = instance.tier.hold_read();
    let reader = instance.start_get(key).await;
    read.reached().await;
    let new = change.await;
    read.release();
    assert_eq!(ended(reader).await, Some(1), "it asked before the change");
    new
}

/// A delete that is held before and after the coordinator's part of it.
pub(crate) struct HalvedDelete {
    pub(crate) new: u64,
    pub(crate) task: JoinHandle<CacheResult<()>>,
    pub(crate) before: Held,
    pub(crate) after: Held,
}

impl HalvedDelete {
    /// Starts it, and checks that the old value is still found below after the first drop.
    pub(crate) async fn begin(instance: &Instance, key: &'static str) -> Self {
        instance.load(key).await;
        let hold = |when| instance.stage.hold(Step::Revoke, when);
        let (mut before, after) = (hold(When::Before), hold(When::After));
        let new = instance.database.write(key);
        let task = instance.start_delete(key);
        before.reached().await;
        assert_eq!(instance.get(key).await, Some(1), "the shared tier still has it");
        Self { new, task, before, after }
    }
}
