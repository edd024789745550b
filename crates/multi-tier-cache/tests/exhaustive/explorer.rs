//! Tries every order in which the steps of a few actors can happen: a depth-first search over the choices, each
//! schedule carried out from the beginning.
//!
//! Two steps that touch nothing in common can happen in either order with one outcome; sleep sets leave out the second
//! of such orders (P. Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996, chapter 5).

use std::fmt;

/// What a step read and what it changed, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Footprint {
    read: u32,
    changed: u32,
}

/// A step of which it is not known what it touched.
pub(crate) const EVERYTHING: Footprint = changing(u32::MAX);

pub(crate) const fn changing(what: u32) -> Footprint {
    Footprint { read: 0, changed: what }
}

pub(crate) const fn reading(what: u32) -> Footprint {
    Footprint { read: what, changed: 0 }
}

impl Footprint {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { read: self.read | other.read, changed: self.changed | other.changed }
    }

    /// Whether the order of two steps that touch this makes a difference.
    const fn disturbs(self, other: Self) -> bool {
        self.changed & (other.read | other.changed) != 0 || other.changed & self.read != 0
    }
}

/// A world with actors, at some moment of one schedule.
pub(crate) trait Play {
    /// The actors that can make a step, in ascending order. The one that made the last step is tried first.
    fn enabled(&self) -> Vec<usize>;

    /// Lets an actor make one step, and tells what it touched.
    fn step(&mut self, actor: usize) -> Footprint;

    /// Whether every actor has ended, or need not.
    fn is_over(&self) -> bool;

    /// A promise that was broken by now.
    fn violation(&self) -> Option<String>;

    /// Looks at the world at rest.
    fn end(&mut self) -> Result<(), String>;

    fn name(&self, actor: usize) -> String;

    /// What the last step did, for a reader.
    fn account(&self) -> String;
}

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// Every order.
    None,
    /// Every order in which at most so many actors are interrupted, without leaving out equivalent ones.
    Interruptions(usize),
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Explored {
    /// Schedules carried out to their end.
    pub(crate) schedules: usize,
    /// Schedules left off because an equivalent one was tried before.
    pub(crate) equivalent: usize,
    /// Steps of the longest.
    pub(crate) longest: usize,
}

/// A schedule that broke a promise.
pub(crate) struct Broken {
    pub(crate) why: String,
    pub(crate) schedule: Vec<String>,
    pub(crate) explored: Explored,
}

impl Broken {
    /// How many schedules were begun until it was found.
    pub(crate) fn number(&self) -> usize {
        self.explored.schedules + self.explored.equivalent + 1
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (schedule {})", self.why, self.number())?;
        self.schedule.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Longest schedule: a longer one goes round in circles.
const MAX_STEPS: usize = 1_000;

/// A choice made on the way of the current schedule.
struct Node {
    enabled: Vec<usize>,
    /// Steps that need not be tried here, with what they touched when they were tried elsewhere.
    asleep: Vec<(usize, Footprint)>,
    /// Steps that were tried here.
    tried: Vec<(usize, Footprint)>,
    choice: usize,
    touched: Footprint,
    interruptions: usize,
}

impl Node {
    fn next(&self, last: Option<usize>, bound: Bound) -> Option<usize> {
        let idle = |actor: &usize| {
            let known = |(other, _): &(usize, Footprint)| other == actor;
            !self.asleep.iter().any(known) && !self.tried.iter().any(known)
        };
        let affordable = |actor: &usize| match bound {
            Bound::None => true,
            Bound::Interruptions(most) => self.interruptions + usize::from(self.interrupts(last, *actor)) <= most,
        };
        let first = last.filter(|last| self.enabled.contains(last)).into_iter();
        first.chain(self.enabled.iter().copied()).find(|actor| idle(actor) && affordable(actor))
    }

    fn interrupts(&self, last: Option<usize>, actor: usize) -> bool {
        last.is_some_and(|last| last != actor && self.enabled.contains(&last))
    }
}

/// Tries every schedule, up to `cap` of them.
///
/// # Panics
/// If there are more: nothing would be known about the others.
pub(crate) fn explore<P: Play>(bound: Bound, cap: usize, start: impl Fn() -> P) -> Result<Explored, Box<Broken>> {
    let mut explored = Explored::default();
    let mut path: Vec<Node> = Vec::new();
    loop {
        let run = run(&mut path, bound, &start);
        explored.longest = explored.longest.max(path.len());
        match run {
            Ok(true) => explored.schedules += 1,
            Ok(false) => explored.equivalent += 1,
            Err(why) => {
                let choices: Vec<usize> = path.iter().map(|node| node.choice).collect();
                let schedule = tell(&choices, start());
                return Err(Box::new(Broken { why, schedule, explored }));
            }
        }
        assert!(explored.schedules + explored.equivalent < cap, "more than {cap} schedules: {explored:?}");
        if !advance(&mut path, bound) {
            return Ok(explored);
        }
    }
}

/// Carries out one schedule: the choices of `path`, then the first at every step. False if it was left off.
fn run<P: Play>(path: &mut Vec<Node>, bound: Bound, start: impl Fn() -> P) -> Result<bool, String> {
    let mut play = start();
    let mut depth = 0;
    loop {
        let enabled = play.enabled();
        if enabled.is_empty() {
            return if play.is_over() { play.end().map(|()| true) } else { Err("nobody can go on".into()) };
        }
        if depth == path.len() {
            if depth == MAX_STEPS {
                return Err("it never ends".into());
            }
            let last = depth.checked_sub(1).map(|last| path[last].choice);
            let mut node = descend(path.last(), enabled, bound);
            let Some(choice) = node.next(last, bound) else { return Ok(false) };
            node.choose(choice, last);
            path.push(node);
        } else {
            assert_eq!(path[depth].enabled, enabled, "the same choices led elsewhere");
        }
        path[depth].touched = play.step(path[depth].choice);
        depth += 1;
        if let Some(why) = play.violation() {
            path.truncate(depth);
            return Err(why);
        }
    }
}

impl Node {
    fn choose(&mut self, actor: usize, last: Option<usize>) {
        self.interruptions += usize::from(self.interrupts(last, actor));
        self.choice = actor;
    }
}

fn descend(parent: Option<&Node>, enabled: Vec<usize>, bound: Bound) -> Node {
    let asleep = match (parent, bound) {
        (Some(parent), Bound::None) => {
            let apart = |(_, touched): &&(usize, Footprint)| !touched.disturbs(parent.touched);
            parent.asleep.iter().chain(&parent.tried).filter(apart).copied().collect()
        }
        _ => Vec::new(),
    };
    let interruptions = parent.map_or(0, |parent| parent.interruptions);
    Node { enabled, asleep, tried: Vec::new(), choice: usize::MAX, touched: EVERYTHING, interruptions }
}

/// Goes back to the last choice that can be made otherwise; false if there is none.
fn advance(path: &mut Vec<Node>, bound: Bound) -> bool {
    while let Some(mut node) = path.pop() {
        let last = path.last().map(|last| last.choice);
        let before = path.last().map_or(0, |last| last.interruptions);
        node.tried.push((node.choice, node.touched));
        node.interruptions = before;
        if let Some(choice) = node.next(last, bound) {
            node.choose(choice, last);
            path.push(node);
            return true;
        }
    }
    false
}

/// Carries out a schedule once more and writes it down.
pub(crate) fn tell<P: Play>(choices: &[usize], mut play: P) -> Vec<String> {
    let mut lines = Vec::new();
    let mut steps: Vec<usize> = Vec::new();
    for choice in choices {
        if !play.enabled().contains(choice) {
            lines.push(format!("{} cannot go on", play.name(*choice)));
            return lines;
        }
        play.step(*choice);
        steps.push(*choice);
        let step = steps.iter().filter(|step| *step == choice).count();
        lines.push(format!("{:<22} {step:>2}  {}", play.name(*choice), play.account()));
    }
    if play.violation().is_none() && play.is_over() {
        lines.push(format!("at rest: {:?}", play.end()));
    }
    lines
}
