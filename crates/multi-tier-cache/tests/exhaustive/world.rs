//! Instances around one hub, and actors that use them.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use multi_tier_cache::testing::{Hub, ManualClock, Pump, Replica, Stage, Step};
use multi_tier_cache::{
    Bytes, CacheBackend, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, CallOptions, Capabilities,
    CoherenceConfig, InvalidationConfig, Position, TierConfig,
};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::explorer::{EVERYTHING, Footprint, Play, changing, reading};
use crate::history::{Changes, History, INSTANCES, KEYS, bytes_of};
use crate::tiers::{Apart, Shelf, Shelves, apart, pause, touch, touched};

pub(crate) const NAMES: [&str; KEYS] = ["k:0", "k:1"];

const SOURCE: u32 = 1;
const HUB: u32 = 1 << 1;
const BELOW: u32 = 1 << 2;
const ANSWER: u32 = 1 << 3;
const TASKS: u32 = 1 << 4;
const STEPS: [Step; 11] = [
    Step::Acquire,
    Step::Fill,
    Step::Renew,
    Step::Release,
    Step::Replace,
    Step::Revoke,
    Step::Fence,
    Step::OpenBelow,
    Step::Poll,
    Step::ReadLog,
    Step::TagTokens,
];
/// Steps that the background makes in a row: it may have nothing to do.
const BACKGROUND_STEPS: usize = 5;

const fn home(instance: usize) -> u32 {
    1 << (8 + instance)
}

/// How a world is laid out.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) instances: usize,
    /// Whether every hit below the first tier is copied upwards, or none.
    pub(crate) promotes: bool,
    /// Whether there is a shared tier below the hub.
    pub(crate) below: bool,
    /// Whether every instance has an awaited tier of its own below the hub.
    pub(crate) private: bool,
    /// Whether verbs run within a Tokio runtime, whose tasks are one more actor.
    pub(crate) runtime: bool,
    pub(crate) log_length: usize,
    /// Whether a load waits for another instance's.
    pub(crate) waits: bool,
    /// The first messages that an instance does not hear.
    pub(crate) lost: [usize; INSTANCES],
    /// Instances that hear nothing before the end.
    pub(crate) deaf: [bool; INSTANCES],
    /// Whether each instance looks at the log before the world is judged at rest.
    pub(crate) polls_at_rest: bool,
    /// Only what is found at rest is judged: until the loss of a failover is noticed nothing else is promised.
    pub(crate) only_at_rest: bool,
    /// Whether values have tags: raw bytes then prove nothing.
    pub(crate) tagged: bool,
    /// How long a step takes.
    pub(crate) step: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            instances: 2,
            promotes: true,
            below: false,
            private: false,
            runtime: false,
            log_length: 1_000,
            waits: false,
            lost: [0; INSTANCES],
            deaf: [false; INSTANCES],
            polls_at_rest: false,
            only_at_rest: false,
            tagged: false,
            step: Duration::from_micros(1),
        }
    }
}

pub(crate) struct World {
    shared: Arc<Shared>,
    actors: Vec<Actor>,
    /// How often the background was let run since another actor was.
    idle: usize,
    nothing_commutes: bool,
    last: String,
    checks: Vec<Check>,
}

type Check = Box<dyn Fn(&History) -> Result<(), String>>;

pub(crate) struct Shared {
    plan: Plan,
    pub(crate) hub: Hub,
    clock: ManualClock,
    below: Option<Arc<Shelves>>,
    instances: Vec<Instance>,
    pub(crate) history: Mutex<History>,
    /// Which change a message is of.
    messages: Mutex<BTreeMap<Vec<u8>, Option<usize>>>,
    overheard: Mutex<UnboundedReceiver<Vec<u8>>>,
    runtime: Option<Runtime>,
    replica: Mutex<Option<Replica>>,
}

struct Instance {
    system: CacheSystem,
    stage: Stage,
    pump: Pump,
    heard: Mutex<UnboundedReceiver<Vec<u8>>>,
    lost: Mutex<usize>,
    private: Option<Arc<Shelves>>,
}

struct Actor {
    name: String,
    part: Part,
}

enum Part {
    Verbs(Verbs),
    /// Hears the messages for an instance.
    Bus(usize),
    Background,
}

struct Verbs {
    program: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    state: Arc<Mutex<VerbState>>,
    instance: usize,
    /// Its next step is one of the coordinator and nothing else.
    at_the_hub: bool,
    /// That step makes its change take effect.
    takes_effect: bool,
    /// That step asks where the log stands.
    polls: bool,
    /// It waits for another instance's load: until another actor has made a step, it will find nothing new.
    waits: bool,
}

#[derive(Debug, Default)]
struct VerbState {
    /// The change that is being announced.
    change: Option<usize>,
    /// Leases asked for by the verb under way.
    asked: usize,
    /// What had taken effect when the log was first asked for.
    polled: Option<Changes>,
    /// The verb under way will be dropped instead of going on.
    ends: bool,
    /// The generation in which it began.
    generation: u64,
    /// The actor has made a step.
    begun: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let clock = ManualClock::new();
        let hub = Hub::with_log_length(clock.clock(), plan.log_length);
        let below = plan.below.then(|| Shelves::new(capable_of(Capabilities::SHARED), BELOW));
        let overheard = Mutex::new(hub.messages());
        let runtime = plan.runtime.then(|| {
            let mut builder = Builder::new_current_thread();
            builder.enable_time().start_paused(true).event_interval(1).build().expect("a runtime without I/O")
        });
        let within = runtime.as_ref();
        let instance = |number| Instance::new(number, &plan, &hub, &clock, below.as_ref(), within);
        let instances = (0..plan.instances).map(instance).collect();
        let history = Mutex::new(History::default());
        let messages = Mutex::default();
        let shared = Shared {
            plan,
            hub,
            clock,
            below,
            instances,
            history,
            messages,
            overheard,
            runtime,
            replica: Mutex::default(),
        };
        let mut world = Self {
            shared: Arc::new(shared),
            actors: Vec::new(),
            idle: 0,
            nothing_commutes: false,
            last: String::new(),
            checks: Vec::new(),
        };
        for instance in 0..world.shared.plan.instances {
            let name = format!("{}'s bus", letter(instance));
            world.actors.push(Actor { name, part: Part::Bus(instance) });
        }
        if world.shared.plan.runtime {
            world.actors.push(Actor { name: "background".into(), part: Part::Background });
        }
        world.shared.settle();
        world
    }

    /// Carries out what an actor at `instance` does, before the schedule begins.
    pub(crate) fn before<F: Future<Output = ()>>(&mut self, instance: usize, program: impl FnOnce(Me) -> F) {
        let me = Me { shared: Arc::clone(&self.shared), instance, state: Arc::default() };
        let shared = Arc::clone(&self.shared);
        shared.drive(program(me));
        self.shared.overhear(None);
        self.shared.settle();
        let mut history = self.shared.history.lock();
        assert!(history.violation.is_none(), "{:?}", history.violation);
        history.notes.clear();
    }

    /// Adds an actor at `instance`.
    pub(crate) fn actor<F>(&mut self, instance: usize, what: &str, program: impl FnOnce(Me) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let state: Arc<Mutex<VerbState>> = Arc::default();
        let me = Me { shared: Arc::clone(&self.shared), instance, state: Arc::clone(&state) };
        let verbs = Verbs {
            program: Some(Box::pin(program(me))),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            state,
            instance,
            at_the_hub: false,
            takes_effect: false,
            polls: false,
            waits: false,
        };
        self.actors.push(Actor { name: format!("{} {what}", letter(instance)), part: Part::Verbs(verbs) });
    }

    /// Lets the actor that was added last make some steps before the schedule begins.
    pub(crate) fn advance(&mut self, steps: usize) {
        let last = self.actors.len() - 1;
        (0..steps).for_each(|_| drop(self.step(last)));
    }

    /// Adds something to be checked at rest.
    pub(crate) fn at_rest(&mut self, check: impl Fn(&History) -> Result<(), String> + 'static) {
        self.checks.push(Box::new(check));
    }

    /// Tries every order of steps from here on: with some protections off, a step touches more than it says.
    pub(crate) fn let_nothing_commute(&mut self) {
        self.nothing_commutes = true;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

fn letter(instance: usize) -> char {
    ['A', 'B', 'C'][instance]
}

fn capable_of(what: Capabilities) -> Capabilities {
    what.and(Capabilities::TTL).and(Capabilities::PATTERN).and(Capabilities::CLEAR)
}

impl Instance {
    fn new(
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

    fn cache(&self) -> &CacheManager {
        self.system.cache_manager()
    }

    /// A message that is heard: those to be lost are lost here.
    fn next_message(&self) -> Option<Vec<u8>> {
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

    fn has_message(&self) -> bool {
        self.heard.lock().len() > *self.lost.lock()
    }

    fn calls(&self) -> [usize; STEPS.len()] {
        STEPS.map(|step| self.stage.calls(step))
    }
}

impl Play for World {
    fn enabled(&self) -> Vec<usize> {
        let able = |waiting: bool| {
            let able = |(_, actor): &(usize, &Actor)| self.is_able(actor, waiting);
            self.actors.iter().enumerate().filter(able).map(|(actor, _)| actor).collect::<Vec<_>>()
        };
        if self.is_over() {
            return Vec::new();
        }
        let some = able(false);
        if some.is_empty() { able(true) } else { some }
    }

    fn step(&mut self, actor: usize) -> Footprint {
        self.shared.clock.advance(self.shared.plan.step);
        self.shared.history.lock().notes.clear();
        let part = &mut self.actors[actor].part;
        let touched = match part {
            Part::Verbs(verbs) => verbs.step(&self.shared),
            Part::Bus(instance) => {
                let instance = *instance;
                self.shared.deliver(instance);
                changing(home(instance))
            }
            Part::Background => self.shared.background(),
        };
        let change = if let Part::Verbs(verbs) = part { verbs.state.lock().change } else { None };
        self.shared.overhear(change);
        self.idle = if matches!(part, Part::Background) { self.idle + 1 } else { 0 };
        for other in self.actors.iter_mut().enumerate().filter(|(other, _)| *other != actor) {
            if let Part::Verbs(verbs) = &mut other.1.part {
                verbs.waits = false;
            }
        }
        self.last = self.shared.history.lock().notes.join("; ");
        if self.nothing_commutes { EVERYTHING } else { touched }
    }

    fn is_over(&self) -> bool {
        self.actors.iter().all(|actor| !matches!(&actor.part, Part::Verbs(Verbs { program: Some(_), .. })))
    }

    fn violation(&self) -> Option<String> {
        if self.shared.plan.only_at_rest { None } else { self.shared.history.lock().violation.clone() }
    }

    fn end(&mut self) -> Result<(), String> {
        if self.shared.plan.only_at_rest {
            self.shared.history.lock().violation = None;
        }
        self.shared.settle();
        if self.shared.plan.polls_at_rest {
            for _ in 0..2 {
                let instances = 0..self.shared.plan.instances;
                instances.for_each(|instance| self.shared.drive(self.shared.poll(instance, &Mutex::default())));
                self.shared.settle();
            }
        }
        self.shared.judge_at_rest();
        let history = self.shared.history.lock();
        match &history.violation {
            Some(why) => Err(why.clone()),
            None => self.checks.iter().try_for_each(|check| check(&history)),
        }
    }

    fn name(&self, actor: usize) -> String {
        self.actors[actor].name.clone()
    }

    fn account(&self) -> String {
        self.last.clone()
    }
}

impl World {
    fn is_able(&self, actor: &Actor, waiting: bool) -> bool {
        match &actor.part {
            Part::Verbs(verbs) => {
                verbs.program.is_some() && verbs.woken.0.load(Ordering::SeqCst) && (waiting || !verbs.waits)
            }
            Part::Bus(instance) => !self.shared.plan.deaf[*instance] && self.shared.instances[*instance].has_message(),
            Part::Background => self.shared.is_busy_in_background() && (waiting || self.idle < BACKGROUND_STEPS),
        }
    }
}

impl Verbs {
    fn step(&mut self, shared: &Shared) -> Footprint {
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

impl Shared {
    /// Makes room in the hub, as a server does that is full.
    pub(crate) fn evict_from_the_hub(&self, key: usize) {
        self.hub.remove(NAMES[key]).now_or_never().expect("at once").expect("it never fails");
    }

    /// Notes what an asynchronous replica has from here on.
    pub(crate) fn keep_a_replica(&self) {
        *self.replica.lock() = Some(self.hub.replica());
    }

    fn fail_over(&self) {
        if let Some(replica) = self.replica.lock().take() {
            self.hub.fail_over(replica);
            // Subscriptions ended with the old server.
            self.instances.iter().for_each(|instance| *instance.heard.lock() = self.hub.messages());
            *self.overheard.lock() = self.hub.messages();
        }
        self.history.lock().note("the replica takes over".into());
    }

    /// Lets an instance hear its next message.
    fn deliver(&self, instance: usize) {
        let Some(message) = self.instances[instance].next_message() else { return };
        let _within = self.runtime.as_ref().map(Runtime::enter);
        self.instances[instance].pump.deliver(&message);
        let change = self.messages.lock().get(&message).copied().flatten();
        let mut history = self.history.lock();
        history.begin_generation(instance);
        match change {
            Some(change) => history.hear(instance, change),
            None => history.note("a message is heard".into()),
        }
    }

    /// Notes which change the messages sent just now are of.
    fn overhear(&self, change: Option<usize>) {
        while let Ok(message) = self.overheard.lock().try_recv() {
            self.messages.lock().insert(message, change);
        }
    }

    /// One step of one task, or of none.
    fn background(&self) -> Footprint {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(pause());
        }
        if let Some(touched) = touched() {
            return touched.and(changing(TASKS));
        }
        (0..self.plan.instances).for_each(|instance| self.history.lock().begin_generation(instance));
        EVERYTHING
    }

    fn is_busy_in_background(&self) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.metrics().num_alive_tasks() > 0)
    }

    /// Lets everything that is under way come to its end.
    fn settle(&self) {
        for _ in 0..500 {
            if self.is_busy_in_background() {
                self.background();
                self.overhear(None);
            }
            let with_messages = (0..self.plan.instances).filter(|instance| self.instances[*instance].has_message());
            let waiting: Vec<usize> = with_messages.collect();
            if waiting.is_empty() && !self.is_busy_in_background() {
                return;
            }
            for instance in waiting {
                if self.plan.deaf[instance] {
                    while self.instances[instance].next_message().is_some() {}
                } else {
                    self.deliver(instance);
                }
            }
        }
        self.history.lock().violation.get_or_insert("the background never ends".into());
    }

    /// Carries out something while nothing else happens.
    fn drive<R>(&self, work: impl Future<Output = R>) -> R {
        let _within = self.runtime.as_ref().map(Runtime::enter);
        let mut work = pin!(work);
        for _ in 0..1_000 {
            if let Poll::Ready(outcome) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                touched();
                return outcome;
            }
            self.clock.advance(Duration::from_micros(1));
        }
        panic!("it does not end although nothing else happens");
    }

    async fn poll(&self, instance: usize, state: &Mutex<VerbState>) {
        state.lock().polled = None;
        let caught_up = self.instances[instance].pump.poll().await;
        let mut history = self.history.lock();
        history.begin_generation(instance);
        match state.lock().polled.take() {
            Some(polled) if caught_up => history.catch_up(instance, polled),
            _ => history.note(format!("caught up: {caught_up}")),
        }
    }

    fn judge_at_rest(&self) {
        for (key, name) in NAMES.into_iter().enumerate() {
            let raw = if self.plan.tagged { None } else { self.hub.peek(name) };
            self.history.lock().judge_at_rest("the hub", key, raw.as_ref(), None);
            let below = self.below.as_ref().filter(|_| !self.plan.tagged).and_then(|below| below.peek(name));
            self.history.lock().judge_at_rest("the tier below", key, below.as_ref(), None);
        }
        for (number, instance) in self.instances.iter().enumerate() {
            for (key, name) in NAMES.into_iter().enumerate() {
                let found = self.drive(instance.cache().get(name)).ok().flatten();
                let place = format!("{}'s cache", letter(number));
                self.history.lock().judge_at_rest(&place, key, found.as_ref(), Some(number));
                let owed = self.drive(instance.cache().health()).iter().any(|tier| tier.owed_removals > 0);
                let private = instance.private.as_ref().filter(|_| !owed).and_then(|private| private.peek(name));
                let place = format!("{}'s own tier", letter(number));
                self.history.lock().judge_at_rest(&place, key, private.as_ref(), Some(number));
            }
            let left = instance.cache().get_stats().in_flight_requests;
            if left > 0 {
                let complaint = format!("{left} keys are left in flight at {}", letter(number));
                self.history.lock().violation.get_or_insert(complaint);
            }
        }
        if self.plan.tagged || self.plan.below {
            self.judge_by_newcomer();
        }
    }

    /// What an instance with empty tiers finds, once nothing is closed to it any more.
    fn judge_by_newcomer(&self) {
        self.clock.advance(Duration::from_secs(61));
        let newcomer = Instance::new(0, &self.plan, &self.hub, &self.clock, self.below.as_ref(), None);
        for (key, name) in NAMES.into_iter().enumerate() {
            let found = self.drive(newcomer.cache().get(name)).ok().flatten();
            self.history.lock().judge_at_rest("a newcomer", key, found.as_ref(), Some(INSTANCES));
        }
    }
}

/// An actor's hands.
#[derive(Clone)]
pub(crate) struct Me {
    shared: Arc<Shared>,
    instance: usize,
    state: Arc<Mutex<VerbState>>,
}

/// Where the position of a change is handed over.
pub(crate) type Token = Arc<Mutex<(Option<(Position, usize)>, Option<Waker>)>>;

impl Me {
    fn cache(&self) -> &CacheManager {
        self.shared.instances[self.instance].cache()
    }

    fn history(&self) -> parking_lot::MutexGuard<'_, History> {
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

    async fn read_source(&self, key: usize) -> Result<Bytes, multi_tier_cache::CacheError> {
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
            match token.0 {
                Some(taken) => Poll::Ready(taken),
                None => {
                    token.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
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

    fn done<T>(&self, change: usize, outcome: Result<T, multi_tier_cache::CacheError>) -> Option<T> {
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
