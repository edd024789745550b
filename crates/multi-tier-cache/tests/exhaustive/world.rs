//! Instances around one hub, and actors that use them.

mod actor;
mod instance;
mod rest;
mod verbs;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use multi_tier_cache::testing::{Hub, ManualClock, Replica, Step};
use multi_tier_cache::{CacheBackend, Capabilities};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::UnboundedReceiver;

use self::actor::{VerbState, Verbs};
use self::instance::Instance;
pub(crate) use self::verbs::{Me, Token, lasting};
use crate::explorer::{EVERYTHING, Footprint, Play, changing};
use crate::history::{History, INSTANCES, KEYS};
use crate::tiers::{Shelves, pause, touched};

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
        let verbs = Verbs::new(instance, &state, program(me));
        self.actors.push(Actor { name: format!("{} {what}", letter(instance)), part: Part::Verbs(verbs) });
    }

    /// Lets the actor that was added last make some steps before the schedule begins.
    pub(crate) fn advance(&mut self, steps: usize) {
        let last = self.actors.len() - 1;
        for _ in 0..steps {
            self.step(last);
        }
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
        self.actors.iter().all(|actor| if let Part::Verbs(verbs) = &actor.part { verbs.has_ended() } else { true })
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
            Part::Verbs(verbs) => verbs.is_able(waiting),
            Part::Bus(instance) => !self.shared.plan.deaf[*instance] && self.shared.instances[*instance].has_message(),
            Part::Background => self.shared.is_busy_in_background() && (waiting || self.idle < BACKGROUND_STEPS),
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
}
