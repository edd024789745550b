//! What happened in a schedule, as far as the promises speak of it.
//!
//! A value is known by a number. It reflects some changes: a loaded one those that had reached the source when the
//! source was read, a put one itself and what took effect at the coordinator before it. Nothing here depends on the
//! order of steps that touch nothing in common, so that equivalent schedules are judged alike.

use multi_tier_cache::Bytes;

pub(crate) const KEYS: usize = 2;
pub(crate) const INSTANCES: usize = 3;

/// A set of changes, one bit each.
pub(crate) type Changes = u64;

/// The number of a value.
pub(crate) type Id = usize;

#[derive(Debug, Clone, Copy)]
enum Origin {
    Loaded(Changes),
    Put(usize),
}

#[derive(Debug, Clone)]
struct Change {
    instance: usize,
    keys: Vec<usize>,
    /// Its place among those that took effect.
    effect: Option<u64>,
    acknowledged: bool,
    /// Whether other instances hear of it.
    announced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    origins: Vec<Option<Origin>>,
    changes: Vec<Change>,
    effects: u64,
    /// What the source reflects.
    source: [Changes; KEYS],
    /// What reads that begin now must reflect.
    floors: [[Changes; KEYS]; INSTANCES],
    /// What was answered.
    served: [[Vec<Id>; KEYS]; INSTANCES],
    /// Loads under way, with the generation they began in.
    loading: [[Vec<u64>; KEYS]; INSTANCES],
    generation: [u64; INSTANCES],
    /// Loads begun, of both keys.
    pub(crate) loads: usize,
    pub(crate) violation: Option<String>,
    pub(crate) notes: Vec<String>,
}

/// What a read that begins at some moment must reflect.
#[derive(Debug)]
pub(crate) struct Reading {
    instance: usize,
    key: usize,
    floor: Changes,
    served: usize,
}

impl History {
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn complain(&mut self, complaint: String) {
        self.violation.get_or_insert(complaint);
    }

    /// The source is read; the number of what it gave.
    pub(crate) fn read_source(&mut self, key: usize) -> Id {
        let id = self.value(Origin::Loaded(self.source[key]));
        self.note(format!("the source gives {}", self.describe(id)));
        id
    }

    /// The source changes at an instance that is about to announce it; the number of the change.
    pub(crate) fn change(&mut self, instance: usize, keys: &[usize], announced: bool) -> usize {
        let change = self.changes.len();
        keys.iter().for_each(|key| self.source[*key] |= 1 << change);
        let keys = keys.to_vec();
        self.changes.push(Change { instance, keys, effect: None, acknowledged: false, announced });
        self.note(format!("the source changes: #{change}"));
        change
    }

    pub(crate) fn put(&mut self, change: usize) -> Id {
        self.value(Origin::Put(change))
    }

    fn value(&mut self, origin: Origin) -> Id {
        self.origins.push(Some(origin));
        self.origins.len() - 1
    }

    /// A change takes effect at the coordinator.
    pub(crate) fn takes_effect(&mut self, change: usize) {
        self.effects += 1;
        let effects = self.effects;
        if let Some(effect @ None) = self.changes.get_mut(change).map(|change| &mut change.effect) {
            *effect = Some(effects);
            self.note(format!("#{change} takes effect"));
        }
    }

    /// The changes that have taken effect.
    pub(crate) fn effective(&self) -> Changes {
        self.set(|change| change.effect.is_some())
    }

    /// A verb that announces a change answered Ok.
    pub(crate) fn acknowledge(&mut self, change: usize) {
        self.changes[change].acknowledged = true;
        let instance = self.changes[change].instance;
        self.raise(instance, 1 << change);
        self.note(format!("#{change} is acknowledged"));
    }

    /// The message of a change is heard.
    pub(crate) fn hear(&mut self, instance: usize, change: usize) {
        self.note(format!("#{change} is heard"));
        self.raise(instance, 1 << change);
    }

    /// An instance has caught up with what had taken effect.
    pub(crate) fn catch_up(&mut self, instance: usize, with: Changes) {
        let announced = self.set(|change| change.announced);
        self.note(format!("caught up with {}", describe_changes(with)));
        self.raise(instance, with & announced);
    }

    /// One's own change counts when it is acknowledged.
    fn raise(&mut self, instance: usize, changes: Changes) {
        let own = self.set(|change| change.instance == instance && !change.acknowledged);
        for key in 0..KEYS {
            self.floors[instance][key] |= changes & !own & self.concerning(key);
        }
    }

    fn set(&self, holds: impl Fn(&Change) -> bool) -> Changes {
        let bits = self.changes.iter().enumerate().filter(|(_, change)| holds(change));
        bits.map(|(change, _)| 1 << change).sum()
    }

    fn concerning(&self, key: usize) -> Changes {
        self.set(|change| change.keys.contains(&key))
    }

    /// A read begins, which must also reflect `besides`.
    pub(crate) fn begin_read(&self, instance: usize, key: usize, besides: Changes) -> Reading {
        let floor = self.floors[instance][key] | besides;
        Reading { instance, key, floor, served: self.served[instance][key].len() }
    }

    /// It ends with a value or without.
    pub(crate) fn end_read(&mut self, reading: &Reading, bytes: Option<&Bytes>) {
        let Some(id) = bytes.map(id_of) else {
            self.note("answers nothing".into());
            return;
        };
        let Reading { instance, key, floor, served } = *reading;
        self.note(format!("answers {}", self.describe(id)));
        let missing = floor & !self.reflects(id);
        if missing != 0 {
            let (value, missing) = (self.describe(id), describe_changes(missing));
            self.complain(format!("I1-I3: a read answered {value}, which is stale for {missing}"));
        }
        let newer = self.served[instance][key].iter().take(served).find(|served| self.is_older(id, **served));
        if let Some(newer) = newer {
            let (value, newer) = (self.describe(id), self.describe(*newer));
            self.complain(format!("I6: a read answered {value}, after one had answered {newer}"));
        }
        self.served[instance][key].push(id);
    }

    fn reflects(&self, id: Id) -> Changes {
        match self.origins.get(id).copied().flatten() {
            None => 0,
            Some(Origin::Loaded(changes)) => changes,
            // A put that was cancelled goes on in the background: when it took effect is not known.
            Some(Origin::Put(put)) => match self.changes[put].effect {
                None => Changes::MAX,
                effect => self.set(|change| change.effect.is_some() && change.effect <= effect),
            },
        }
    }

    /// Whether `id` is from before `other`.
    fn is_older(&self, id: Id, other: Id) -> bool {
        let origin = |id: Id| self.origins.get(id).copied().flatten();
        match (origin(id), origin(other)) {
            (Some(Origin::Loaded(changes)), Some(Origin::Loaded(newer))) => newer & !changes != 0,
            (Some(Origin::Put(put)), Some(Origin::Put(newer))) => self.changes[put].effect < self.changes[newer].effect,
            (Some(Origin::Loaded(changes)), Some(Origin::Put(newer))) => changes & 1 << newer == 0,
            _ => false,
        }
    }

    /// What is found at rest must reflect every acknowledged change; of those that were not announced, only where the
    /// writer's own instance and the shared tiers are asked.
    pub(crate) fn judge_at_rest(&mut self, place: &str, key: usize, found: Option<&Bytes>, instance: Option<usize>) {
        let Some(id) = found.map(id_of) else { return };
        let due = self.set(|change| {
            let heard = change.announced || instance.is_none_or(|instance| instance == change.instance);
            change.acknowledged && heard && change.keys.contains(&key)
        });
        let missing = due & !self.reflects(id);
        if missing != 0 {
            let (value, missing) = (self.describe(id), describe_changes(missing));
            self.complain(format!("I5: at rest {place} has {value}, which is stale for {missing}"));
        }
    }

    /// What happens from here on at an instance may be loaded anew.
    pub(crate) fn begin_generation(&mut self, instance: usize) {
        self.generation[instance] += 1;
    }

    pub(crate) fn generation(&self, instance: usize) -> u64 {
        self.generation[instance]
    }

    /// A load begins, by a read that began in `generation`.
    pub(crate) fn begin_load(&mut self, instance: usize, key: usize, generation: u64) {
        self.loads += 1;
        if generation != u64::MAX && self.loading[instance][key].contains(&generation) {
            self.complain("I8: a second load of a key of one generation began".into());
        }
        self.loading[instance][key].push(generation);
        self.note("a load begins".into());
    }

    pub(crate) fn end_load(&mut self, instance: usize, key: usize, generation: u64) {
        let loading = &mut self.loading[instance][key];
        if let Some(place) = loading.iter().position(|loading| *loading == generation) {
            loading.swap_remove(place);
        }
    }

    /// What was answered and loaded.
    pub(crate) fn outcome(&self) -> String {
        let served = self.served.iter().flatten();
        let served = served.map(|served| served.iter().map(|id| self.reflects(*id)).collect::<Vec<_>>());
        format!("{:?}, {} loads", served.collect::<Vec<_>>(), self.loads)
    }

    fn describe(&self, id: Id) -> String {
        match self.origins.get(id).copied().flatten() {
            None => format!("an unknown value {id}"),
            Some(Origin::Loaded(changes)) => format!("value {id}, loaded after {}", describe_changes(changes)),
            Some(Origin::Put(put)) => format!("value {id}, put by #{put}"),
        }
    }
}

fn describe_changes(changes: Changes) -> String {
    let names: Vec<String> = (0..64).filter(|change| changes & 1 << change != 0).map(|n| format!("#{n}")).collect();
    if names.is_empty() { "no change".into() } else { names.join(" ") }
}

pub(crate) fn bytes_of(id: Id) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The number at the end: a tagged value has a head.
fn id_of(bytes: &Bytes) -> Id {
    bytes.iter().rev().take(size_of::<Id>()).rev().fold(0, |id, byte| id << 8 | Id::from(*byte))
}
