//! An actor that carries out a program of verbs, one step at a time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use multi_tier_cache::testing::Step;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::{HUB, STEPS, Shared, home};
use crate::explorer::{Footprint, changing};
use crate::history::Changes;
use crate::tiers::touched;

pub(super) struct Verbs {
    program: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    pub(super) state: Arc<Mutex<VerbState>>,
    instance: usize,
    /// Its next step is one of the coordinator and nothing else.
    at_the_hub: bool,
    /// That step makes its change take effect.
    takes_effect: bool,
    /// That step asks where the log stands.
    polls: bool,
    /// It waits for another instance's load: until another actor has made a step, it will find nothing new.
    pub(super) waits: bool,
}

#[derive(Debug, Default)]
pub(super) struct VerbState {
    /// The change that is being announced.
    pub(super) change: Option<usize>,
    /// Leases asked for by the verb under way.
    pub(super) asked: usize,
    /// What had taken effect when the log was first asked for.
    pub(super) polled: Option<Changes>,
    /// The verb under way will be dropped instead of going on.
    pub(super) ends: bool,
    /// The generation in which it began.
    pub(super) generation: u64,
    /// The actor has made a step.
    pub(super) begun: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Verbs {
    pub(super) fn new(
        instance: usize,
        state: &Arc<Mutex<VerbState>>,
        program: impl Future<Output = ()> + 'static,
    ) -> Self {
        Self {
            program: Some(Box::pin(program)),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            state: Arc::clone(state),
            instance,
            at_the_hub: false,
            takes_effect: false,
            polls: false,
            waits: false,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.program.is_none()
    }

    /// Whether it can make a step; if it waits for another instance's load, only where `waiting` is allowed.
    pub(super) fn is_able(&self, waiting: bool) -> bool {
        self.program.is_some() && self.woken.0.load(Ordering::SeqCst) && (waiting || !self.waits)
    }

    pub(super) fn step(&mut self, shared: &Shared) -> Footprint {
        let instance = &shared.instances[self.instance];
        let (before, at_the_hub) = (instance.calls(), self.at_the_hub);
        let change = self.state.lock().change;
        if let (Some(change), true) = (change, self.takes_effect && !self.state.lock().ends) {
            shared.history.lock().takes_effect(change);
        }
        if self.polls {
            self.state.lock().polled.get_or_insert_with(|| shared.history.lock().effective());
        }
        self.poll(shared);
        self.state.lock().begun = true;
        if self.state.lock().change.is_some() {
            shared.history.lock().begin_generation(self.instance);
        }
        let after = instance.calls();
        let called = |step: Step| {
            let place = STEPS.iter().position(|other| *other == step);
            place.is_some_and(|place| after[place] > before[place])
        };
        let steps: Vec<Step> = STEPS.into_iter().filter(|step| called(*step)).collect();
        if !steps.is_empty() {
            shared.history.lock().note(format!("asks for {steps:?}"));
        }
        self.at_the_hub = after != before;
        self.takes_effect = called(Step::Revoke) || called(Step::Replace);
        self.polls = called(Step::Poll);
        if called(Step::Acquire) {
            let mut state = self.state.lock();
            state.asked += 1;
            self.waits = state.asked > 1;
        }
        match (at_the_hub, touched()) {
            (true, touched) => changing(HUB).and(touched.unwrap_or_default()),
            (false, Some(touched)) => touched,
            (false, None) => changing(home(self.instance)),
        }
    }

    fn poll(&mut self, shared: &Shared) {
        let Some(program) = &mut self.program else { return };
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        let _within = shared.runtime.as_ref().map(Runtime::enter);
        let polled = catch_unwind(AssertUnwindSafe(|| program.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => self.program = None,
            Err(_) => {
                self.program = None;
                shared.history.lock().violation.get_or_insert("a verb panicked".into());
            }
        }
    }
}
