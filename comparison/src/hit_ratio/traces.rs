//! Fourteen ways to be read, each generated from its own seed.

use fastrand::Rng;

use crate::unit::float;
use crate::workload::Zipf;

pub(super) struct Trace {
    /// What happens, in a line.
    pub(super) name: &'static str,
    /// Capacity, in percent of the keys.
    pub(super) percent: usize,
    pattern: Pattern,
}

#[derive(Clone, Copy)]
enum Pattern {
    /// Ranks with probability proportional to rank^-s, spread over the keys.
    Zipf(f64),
    /// Zipf 1.0, and after every tenth of the keys' number of reads a run through a twentieth of them, each once.
    Scans,
    /// Zipf 1.0, but every second read is of a key that is never read again.
    OneHitWonders,
    /// Uniform among a twentieth of the keys, which moves on by half its length after every five lengths of reads.
    MovingSet,
    /// The same keys in the same order, half as many again as the tier holds.
    Loop,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) keys: usize,
    pub(super) reads: usize,
}

const fn trace(name: &'static str, percent: usize, pattern: Pattern) -> Trace {
    Trace { name, percent, pattern }
}

pub(super) const TRACES: [Trace; 14] = [
    trace("zipf 0.8", 1, Pattern::Zipf(0.8)),
    trace("zipf 0.8", 10, Pattern::Zipf(0.8)),
    trace("zipf 0.9", 1, Pattern::Zipf(0.9)),
    trace("zipf 0.9", 10, Pattern::Zipf(0.9)),
    trace("zipf 1.0", 1, Pattern::Zipf(1.0)),
    trace("zipf 1.0", 10, Pattern::Zipf(1.0)),
    trace("zipf 1.1", 1, Pattern::Zipf(1.1)),
    trace("zipf 1.2", 1, Pattern::Zipf(1.2)),
    trace("zipf 1.0 between scans of a twentieth of the keys", 1, Pattern::Scans),
    trace("zipf 1.0 between scans of a twentieth of the keys", 10, Pattern::Scans),
    trace("zipf 1.0, half of the reads of keys read only once", 1, Pattern::OneHitWonders),
    trace("zipf 1.0, half of the reads of keys read only once", 10, Pattern::OneHitWonders),
    trace("a working set of a twentieth of the keys that moves on", 10, Pattern::MovingSet),
    trace("a loop over one and a half times what fits", 10, Pattern::Loop),
];

impl Trace {
    /// Numbers of keys, in the order of the reads; the same in every run.
    pub(super) fn reads(&self, size: Size) -> Vec<u32> {
        let mut random = Rng::with_seed(float(self.percent).to_bits() ^ self.name.len() as u64);
        let mut names: Vec<u32> = (0..u32::try_from(size.keys).unwrap_or(u32::MAX)).collect();
        random.shuffle(&mut names);
        match self.pattern {
            Pattern::Zipf(exponent) => zipf(exponent, size, &names, &mut random),
            Pattern::Scans => scans(size, &names, &mut random),
            Pattern::OneHitWonders => one_hit_wonders(size, &names, &mut random),
            Pattern::MovingSet => moving_set(size, &names, &mut random),
            Pattern::Loop => {
                let length = size.keys * self.percent / 100 * 3 / 2;
                names.iter().take(length).cycle().take(size.reads).copied().collect()
            }
        }
    }
}

fn zipf(exponent: f64, size: Size, names: &[u32], random: &mut Rng) -> Vec<u32> {
    let ranks = Zipf::of(exponent, size.keys);
    (0..size.reads).map(|_| names[ranks.draw(random)]).collect()
}

fn scans(size: Size, names: &[u32], random: &mut Rng) -> Vec<u32> {
    let ranks = Zipf::of(1.0, size.keys);
    let (between, length) = (size.keys / 10, size.keys / 20);
    let mut reads = Vec::with_capacity(size.reads);
    let mut scanned = (0..size.keys).cycle();
    while reads.len() < size.reads {
        reads.extend((0..between).map(|_| names[ranks.draw(random)]));
        reads.extend(scanned.by_ref().take(length).map(|place| names[place]));
    }
    reads.truncate(size.reads);
    reads
}

fn one_hit_wonders(size: Size, names: &[u32], random: &mut Rng) -> Vec<u32> {
    let ranks = Zipf::of(1.0, size.keys);
    let mut wonders = u32::try_from(size.keys).unwrap_or(u32::MAX)..;
    let mut read =
        |place: usize| if place.is_multiple_of(2) { names[ranks.draw(random)] } else { wonders.next().unwrap_or(0) };
    (0..size.reads).map(&mut read).collect()
}

fn moving_set(size: Size, names: &[u32], random: &mut Rng) -> Vec<u32> {
    let length = size.keys / 20;
    let read = |place: usize| {
        let begin = place / (length * 5) * (length / 2);
        names[(begin + random.usize(..length)) % size.keys]
    };
    (0..size.reads).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { keys: 2_000, reads: 20_000 };

    #[test]
    fn a_trace_is_the_same_every_time_and_as_long_as_asked_for() {
        for trace in TRACES {
            let reads = trace.reads(SMALL);
            assert_eq!(reads.len(), SMALL.reads, "{}", trace.name);
            assert_eq!(reads, trace.reads(SMALL), "{}", trace.name);
        }
    }

    #[test]
    fn wonders_are_read_once() {
        let reads = TRACES[10].reads(SMALL);
        let mut wonders: Vec<_> = reads.iter().filter(|number| **number as usize >= SMALL.keys).collect();
        let count = wonders.len();
        wonders.sort_unstable();
        wonders.dedup();
        assert_eq!((wonders.len(), count), (SMALL.reads / 2, SMALL.reads / 2));
    }

    #[test]
    fn steeper_traces_have_fewer_keys() {
        let distinct = |place: usize| {
            let mut reads: Vec<u32> = TRACES[place].reads(SMALL);
            reads.sort_unstable();
            reads.dedup();
            reads.len()
        };
        assert!(distinct(7) < distinct(4) && distinct(4) < distinct(0));
    }
}
