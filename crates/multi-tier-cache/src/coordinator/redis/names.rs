//! The names of a namespace's keys in the server, byte for byte those of `PROTOCOL.md`.

use std::borrow::Cow;

use crate::backends::redis::stored::{own_key, server_key};
use crate::error::CacheResult;

/// A namespace: the keys of one prefix, with one log, whose messages go through one channel.
#[derive(Debug)]
pub(crate) struct Names {
    prefix: String,
    own: String,
    pub(super) channel: String,
    pub(super) bus: String,
    pub(crate) log: String,
}

/// What belongs to one key of a cache.
#[derive(Debug)]
pub(super) struct KeyNames<'k> {
    pub(super) value: Cow<'k, str>,
    pub(super) lease: String,
    pub(super) tombstone: String,
}

impl Names {
    /// The length in front of the prefix keeps namespaces apart whose prefixes begin alike: without it the tag `b:tag:c`
    /// of `a` and the tag `c` of `a:tag:b` were one.
    pub(crate) fn new(prefix: &str, channel: &str) -> Self {
        let own = format!("mtc:{{{channel}}}:{}:{prefix}:", prefix.len());
        let (bus, log) = (format!("{own}bus"), format!("{own}log"));
        Self { prefix: prefix.to_owned(), own, channel: channel.to_owned(), bus, log }
    }

    pub(super) fn tag(&self, tag: &str) -> String {
        format!("{}tag:{tag}", self.own)
    }

    /// Where a subscriber of the log keeps its position.
    pub(crate) fn group(&self, group: &str) -> String {
        format!("{}group:{group}", self.own)
    }

    /// # Errors
    /// `ConfigError` for a key that is reserved for the library.
    pub(super) fn key<'k>(&self, key: &'k str) -> CacheResult<KeyNames<'k>> {
        own_key(&self.prefix, key).map(KeyNames::of)
    }

    /// The same; `None` for a key that is reserved for the library and so is in no cache.
    pub(super) fn key_if_any<'k>(&self, key: &'k str) -> Option<KeyNames<'k>> {
        server_key(&self.prefix, key).map(KeyNames::of)
    }
}

impl<'k> KeyNames<'k> {
    fn of(value: Cow<'k, str>) -> Self {
        Self { lease: beside("mtc:l:", &value), tombstone: beside("mtc:x:", &value), value }
    }
}

/// A name in the cluster slot of `key`: with its hash tag, or with the whole of it as the tag.
fn beside(kind: &str, key: &str) -> String {
    let after_brace = key.split_once('{').map(|(_, after)| after);
    let tagged = after_brace.is_some_and(|after| after.find('}').is_some_and(|end| end > 0));
    if tagged { format!("{kind}t:{key}") } else { format!("{kind}w:{{{key}}}") }
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
