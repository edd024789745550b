//! Keys, their tags and owners, and the values under them.

use bytes::Bytes;
use fastrand::Rng;
use multi_tier_cache::CallOptions;

/// What the cache puts before every key in the shared tiers.
pub(crate) const PREFIX: &str = "torture:";
const TAGS: usize = 5;
const MARK: &str = "value/";

/// All keys. Every one belongs to the one process that writes it; every process reads all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) count: usize,
    pub(crate) owners: usize,
}

/// How a version was invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Remove,
    Put,
    RemoveMany,
    RemoveTag,
    RemovePattern,
    Clear,
}

impl Verb {
    const ALL: [Self; 6] =
        [Self::Remove, Self::Put, Self::RemoveMany, Self::RemoveTag, Self::RemovePattern, Self::Clear];

    pub(crate) fn code(self) -> u64 {
        self as u64
    }

    pub(crate) fn from_code(code: u64) -> Self {
        let verb = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code));
        verb.copied().unwrap_or(Self::Remove)
    }
}

impl Keys {
    pub(crate) fn owner(self, key: usize) -> usize {
        key % self.owners
    }

    /// The keys of `owner` whose tag is `tag`, or all of them.
    pub(crate) fn of(self, owner: usize, tag: Option<usize>) -> Vec<usize> {
        let own = (0..self.count).filter(|key| self.owner(*key) == owner);
        own.filter(|key| tag.is_none_or(|tag| self.tag_number(*key) == tag)).collect()
    }

    pub(crate) fn name(self, key: usize) -> String {
        format!("{}-k{key:04}", self.tag(key))
    }

    /// Every second key's values have its tag. Those of the others survive a new epoch of the log.
    pub(crate) fn is_tagged(self, key: usize) -> bool {
        (key / self.owners).is_multiple_of(2)
    }

    pub(crate) fn options(self, key: usize) -> CallOptions {
        CallOptions::default().with_tags(self.is_tagged(key).then(|| self.tag(key)))
    }

    pub(crate) fn tag(self, key: usize) -> String {
        Self::tag_name(self.owner(key), self.tag_number(key))
    }

    pub(crate) fn tag_name(owner: usize, tag: usize) -> String {
        format!("w{owner}-t{tag}")
    }

    /// Names by which a pattern finds the keys of `owner`.
    pub(crate) fn pattern(owner: usize, tag: Option<usize>) -> String {
        match tag {
            Some(tag) => format!("{}-*", Self::tag_name(owner, tag)),
            None => format!("w{owner}-*"),
        }
    }

    /// A key to read: every second time one of those that are written often.
    pub(crate) fn to_read(self, random: &mut Rng) -> usize {
        let any = random.usize(..self.count);
        if random.bool() { any } else { any - any / self.owners % TAGS * self.owners }
    }

    /// A tag to write: nearly always the first, so that keys with another are left alone for seconds and a lost
    /// invalidation is not made up for by the next.
    pub(crate) fn tag_to_write(random: &mut Rng) -> usize {
        if random.u32(..100) < 94 { 0 } else { random.usize(..TAGS) }
    }

    fn tag_number(self, key: usize) -> usize {
        key / self.owners % TAGS
    }
}

/// The value of `key` at `version`.
pub(crate) fn value(key: usize, version: u64) -> Bytes {
    Bytes::from(format!("{MARK}{key}/{version}/{:64}", ""))
}

/// Key and version of a value, wherever in `bytes` it begins.
pub(crate) fn parse(bytes: &[u8]) -> Option<(usize, u64)> {
    let from = bytes.windows(MARK.len()).position(|part| part == MARK.as_bytes())?;
    let text = std::str::from_utf8(bytes.get(from + MARK.len()..)?).ok()?;
    let (key, rest) = text.split_once('/')?;
    let (version, _) = rest.split_once('/')?;
    Some((key.parse().ok()?, version.parse().ok()?))
}
