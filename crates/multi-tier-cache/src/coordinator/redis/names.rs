//! The names of a namespace's keys in the server, byte for byte those of `PROTOCOL.md`.

use std::borrow::Cow;

use crate::backends::redis::config::RESERVED;
use crate::backends::redis::stored::{own_key, server_key};
use crate::error::CacheResult;

/// What the names of leases, and those of tombstones, begin with.
const LEASE: &str = "mtc:l:";
const TOMBSTONE: &str = "mtc:x:";

/// A namespace: the keys of one prefix, with one log, whose messages go through one channel.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) prefix: String,
    own: String,
    pub(crate) channel: String,
    pub(crate) bus: String,
    pub(crate) log: String,
}

/// What a key in the server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum KeyKind {
    /// A cached value.
    Value,
    /// The lease of a load.
    Lease,
    /// The mark of a removal, for the tiers below.
    Tombstone,
    /// The state of the namespace.
    Bus,
    /// The log of invalidations.
    Log,
    /// When a tag was last removed.
    Tag,
    /// How far a subscriber of the log has come.
    Group,
}

/// What belongs to one key of a cache.
#[derive(Debug)]
pub(crate) struct KeyNames<'k> {
    pub(crate) value: Cow<'k, str>,
    pub(crate) lease: String,
    pub(crate) tombstone: String,
}

impl Names {
    /// The length in front of the prefix keeps namespaces apart whose prefixes begin alike: without it the tag `b:tag:c`
    /// of `a` and the tag `c` of `a:tag:b` were one.
    pub(crate) fn new(prefix: &str, channel: &str) -> Self {
        let own = format!("mtc:{{{channel}}}:{}:{prefix}:", prefix.len());
        let (bus, log) = (format!("{own}bus"), format!("{own}log"));
        Self { prefix: prefix.to_owned(), own, channel: channel.to_owned(), bus, log }
    }

    /// The namespace whose bus is called `name`.
    pub(crate) fn of_bus(name: &str) -> Option<Self> {
        let (channel, rest) = name.strip_prefix("mtc:{")?.split_once("}:")?;
        let (length, rest) = rest.split_once(':')?;
        let names = Self::new(rest.get(..length.parse().ok()?)?, channel);
        (names.bus == name).then_some(names)
    }

    pub(crate) fn tag(&self, tag: &str) -> String {
        format!("{}tag:{tag}", self.own)
    }

    /// Where a subscriber of the log keeps its position.
    pub(crate) fn group(&self, group: &str) -> String {
        format!("{}group:{group}", self.own)
    }

    /// What the key called `name` in the server is to this namespace; `None` if it is not its own. Without a prefix every
    /// key that is not the library's own is a value, whoever wrote it, and so is every lease.
    pub(crate) fn kind(&self, name: &[u8]) -> Option<KeyKind> {
        let is_own = |key: &[u8]| key.starts_with(self.prefix.as_bytes()) && !key.starts_with(RESERVED.as_bytes());
        if let Some(kind) = self.kind_of_state(name) {
            return Some(kind);
        }
        match (besides(LEASE, name), besides(TOMBSTONE, name)) {
            (Some(key), _) => is_own(key).then_some(KeyKind::Lease),
            (None, Some(key)) => is_own(key).then_some(KeyKind::Tombstone),
            (None, None) => is_own(name).then_some(KeyKind::Value),
        }
    }

    fn kind_of_state(&self, name: &[u8]) -> Option<KeyKind> {
        match name.strip_prefix(self.own.as_bytes())? {
            b"bus" => Some(KeyKind::Bus),
            b"log" => Some(KeyKind::Log),
            rest if rest.starts_with(b"tag:") => Some(KeyKind::Tag),
            rest if rest.starts_with(b"group:") => Some(KeyKind::Group),
            _ => None,
        }
    }

    /// # Errors
    /// `ConfigError` for a key that is reserved for the library.
    pub(crate) fn key<'k>(&self, key: &'k str) -> CacheResult<KeyNames<'k>> {
        own_key(&self.prefix, key).map(KeyNames::of)
    }

    /// The same; `None` for a key that is reserved for the library and so is in no cache.
    pub(super) fn key_if_any<'k>(&self, key: &'k str) -> Option<KeyNames<'k>> {
        server_key(&self.prefix, key).map(KeyNames::of)
    }
}

impl<'k> KeyNames<'k> {
    fn of(value: Cow<'k, str>) -> Self {
        Self { lease: beside(LEASE, &value), tombstone: beside(TOMBSTONE, &value), value }
    }
}

/// A name in the cluster slot of `key`: with its hash tag, or with the whole of it as the tag.
fn beside(kind: &str, key: &str) -> String {
    let after_brace = key.split_once('{').map(|(_, after)| after);
    let tagged = after_brace.is_some_and(|after| after.find('}').is_some_and(|end| end > 0));
    if tagged { format!("{kind}t:{key}") } else { format!("{kind}w:{{{key}}}") }
}

/// The key that `name` is [`beside`], if its name is of this kind.
fn besides<'n>(kind: &str, name: &'n [u8]) -> Option<&'n [u8]> {
    let name = name.strip_prefix(kind.as_bytes())?;
    let whole = || name.strip_prefix(b"w:{")?.strip_suffix(b"}");
    name.strip_prefix(b"t:").or_else(whole)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// As the cluster specification has it, XMODEM's CRC16 included.
    fn slot(key: &str) -> u16 {
        let tag = key.split_once('{').and_then(|(_, after)| after.split_once('}')).map(|(tag, _)| tag);
        let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
        let crc = hashed.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
        });
        crc % 16_384
    }

    #[test]
    fn lease_and_tombstone_are_in_the_slot_of_the_value() {
        assert_eq!(slot("123456789"), 0x31C3);
        for key in ["user:1", "{user}:1", "a{b", "{a}{b}", "{{a}}", "ü\0\n ", "x{y}z}", "{", "foo{{bar}}zap"] {
            let names = KeyNames::of(key.into());
            assert_eq!(slot(&names.lease), slot(key), "{key}");
            assert_eq!(slot(&names.tombstone), slot(key), "{key}");
        }
    }

    #[test]
    fn no_two_keys_share_a_name() {
        let mut seen = HashSet::new();
        for key in ["a", "{a}", "{{a}}", "t:{a}", "w:{a}", "w:a", "a}", "}a", "{}", "}", "{", "", "{a", "l:w:{a}"] {
            let names = KeyNames::of(key.into());
            for name in [names.value.into_owned(), names.lease, names.tombstone] {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
        for (prefix, tag) in [("a", "b:tag:c"), ("a:tag:b", "c"), ("", ":tag:x"), (":tag:", "x"), ("a", "bus")] {
            assert!(seen.insert(Names::new(prefix, "ch").tag(tag)), "{prefix} {tag}");
        }
    }

    #[test]
    fn a_namespace_knows_its_own_keys_by_their_names() {
        let (shop, all) = (Names::new("shop:", "ch"), Names::new("", "ch"));
        for key in ["user:1", "{user}:1", "a{b", ""] {
            let names = shop.key(key).unwrap();
            assert_eq!(shop.kind(names.value.as_bytes()), Some(KeyKind::Value), "{key}");
            assert_eq!(shop.kind(names.lease.as_bytes()), Some(KeyKind::Lease), "{key}");
            assert_eq!(shop.kind(names.tombstone.as_bytes()), Some(KeyKind::Tombstone), "{key}");
        }
        assert_eq!(shop.kind(shop.bus.as_bytes()), Some(KeyKind::Bus));
        assert_eq!(shop.kind(shop.log.as_bytes()), Some(KeyKind::Log));
        assert_eq!(shop.kind(shop.tag("bus").as_bytes()), Some(KeyKind::Tag));
        assert_eq!(shop.kind(shop.group("log").as_bytes()), Some(KeyKind::Group));
        for other in
            ["sho:1", "mtc:l:w:{user:1}", "mtc:l:", "mtc:{ch}:0::bus", "mtc:{ch}:5:shop::new", "mtc:new:shop:1"]
        {
            assert_eq!(shop.kind(other.as_bytes()), None, "{other}");
        }
        assert_eq!(all.kind(b"anything"), Some(KeyKind::Value));
        assert_eq!(all.kind(b"mtc:l:w:{anything}"), Some(KeyKind::Lease));
        assert_eq!(all.kind(shop.bus.as_bytes()), None);
        for names in [&shop, &all, &Names::new("a:bus", "c:h")] {
            let found = Names::of_bus(&names.bus).unwrap();
            assert_eq!((&found.prefix, &found.channel), (&names.prefix, &names.channel));
        }
        for other in [&*shop.log, "mtc:{ch}:9:shop::bus", "mtc:{ch}:x:shop::bus", "mtc:{ch}:05:shop::bus", "bus"] {
            assert!(Names::of_bus(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_names_are_what_the_protocol_says() {
        let names = Names::new("shop:", "cache:invalidate");
        assert_eq!(names.bus, "mtc:{cache:invalidate}:5:shop::bus");
        assert_eq!(names.log, "mtc:{cache:invalidate}:5:shop::log");
        assert_eq!(names.tag("red"), "mtc:{cache:invalidate}:5:shop::tag:red");
        assert_eq!(names.group("web"), "mtc:{cache:invalidate}:5:shop::group:web");
        let key = names.key("user:1").unwrap();
        assert_eq!((&*key.value, &*key.lease), ("shop:user:1", "mtc:l:w:{shop:user:1}"));
        assert_eq!(names.key("{user}:1").unwrap().tombstone, "mtc:x:t:shop:{user}:1");
        assert!(Names::new("", "ch").key("mtc:l:w:{a}").is_err());
    }
}
