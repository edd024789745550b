//! One instance.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use multi_tier_cache::testing::{Hub, ManualClock, Pump, Stage};
use multi_tier_cache::{
    CacheManager, CacheSystem, CacheSystemBuilder, Capabilities, CoherenceConfig, InvalidationConfig, TierConfig,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{HUB, NAMES, Plan, STEPS, capable_of, home};
use crate::tiers::{Apart, Shelf, Shelves};

pub(super) struct Instance {
    system: CacheSystem,
    stage: Stage,
    pub(super) pump: Pump,
    pub(super) heard: Mutex<UnboundedReceiver<Vec<u8>>>,
    lost: Mutex<usize>,
    pub(super) private: Option<Arc<Shelves>>,
}

impl Instance {
    pub(super) fn new(
        number: usize,
        plan: &Plan,
        hub: &Hub,
        clock: &ManualClock,
        below: Option<&Arc<Shelves>>,
        runtime: Option<&Runtime>,
    ) -> Self {
        let stage = Stage::new();
        let rules = |tier: TierConfig| {
            if plan.promotes { tier.with_promotion_frequency(1) } else { tier.with_promotion(false) }
        };
        let wait = if plan.waits { Duration::from_secs(3_600) } else { Duration::ZERO };
        let private = plan.private.then(|| Shelves::new(capable_of(Capabilities::NONE), home(number)));
        let mut builder = CacheSystemBuilder::new()
            .with_clock(clock.clock())
            .with_stage(&stage)
            .with_invalidation(InvalidationConfig::default())
            .with_coherence(CoherenceConfig::default().with_wait_budget(wait))
            .with_l1(Arc::new(Shelf::default()))
            .with_tier(Apart::new(hub.clone(), &NAMES, HUB), rules(TierConfig::as_l2()));
        for tier in below.into_iter().chain(&private) {
            builder = builder.with_tier(Arc::clone(tier) as _, rules(TierConfig::as_l3()));
        }
        let system = builder.build().now_or_never().expect("nothing to wait for").expect("a valid stack");
        // Within a runtime the bus would follow the log by itself.
        system.shutdown().now_or_never().expect("nothing to wait for");
        let pump = Pump::of(system.cache_manager()).expect("a bus");
        let within = runtime.map(Runtime::enter);
        assert_eq!(pump.poll().now_or_never(), Some(true), "it joins at once");
        drop(within);
        stage.take_steps_apart();
        let (heard, lost) = (Mutex::new(hub.messages()), Mutex::new(plan.lost[number]));
        Self { system, stage, pump, heard, lost, private }
    }

    pub(super) fn cache(&self) -> &CacheManager {
        self.system.cache_manager()
    }

    /// A message that is heard: those to be lost are lost here.
    pub(super) fn next_message(&self) -> Option<Vec<u8>> {
        let mut heard = self.heard.lock();
        let mut lost = self.lost.lock();
        while let Ok(message) = heard.try_recv() {
            if *lost == 0 {
                return Some(message);
            }
            *lost -= 1;
        }
        None
    }

    pub(super) fn has_message(&self) -> bool {
        self.heard.lock().len() > *self.lost.lock()
    }

    pub(super) fn calls(&self) -> [usize; STEPS.len()] {
        STEPS.map(|step| self.stage.calls(step))
    }
}
