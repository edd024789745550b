//! The JSON of log entries and messages: that of [`InvalidationMessage`](crate::InvalidationMessage), plus the chain.
//!
//! ```json
//! {"type":"Remove","key":"user:1","mtc":{"v":1,"epoch":"…","seq":7,"prev":"…","nonce":"…"}}
//! ```
//!
//! Without `mtc` it is a message of another program: applied, but with no place in the log.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::position::parse_hex;
use super::{Position, Record, types::Recorded};
use crate::error::{CacheError, CacheResult, Failure};

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Arc<str>>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pattern: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tag: Option<Cow<'a, str>>,
    /// A `Remove` whose writer is about to store a new value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    put: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mtc: Option<Chain<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Chain<'a> {
    v: u64,
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    seq: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
}

/// A message as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// An entry of a log, this namespace's or another's.
    Logged(Record),
    /// From another program. `updated` if it announced a new value rather than a removal.
    Foreign { change: Recorded, updated: bool },
}

/// The JSON of a change without its chain, which the coordinator adds: an object that ends with `}`.
pub(crate) fn body(change: &Recorded) -> String {
    let text = |text: &Arc<str>| Some(Cow::Owned(text.to_string()));
    let mut wire =
        Wire { kind: "Remove".into(), key: None, keys: None, pattern: None, tag: None, put: false, mtc: None };
    match change {
        Recorded::Keys(keys) => match keys.as_slice() {
            [key] => wire.key = text(key),
            keys => (wire.kind, wire.keys) = ("RemoveBulk".into(), Some(keys.to_vec())),
        },
        Recorded::Put(key) => (wire.key, wire.put) = (text(key), true),
        Recorded::Pattern(pattern) => (wire.kind, wire.pattern) = ("RemovePattern".into(), text(pattern)),
        Recorded::Tag(tag) => (wire.kind, wire.tag) = ("RemoveTag".into(), text(tag)),
        Recorded::Clear | Recorded::Unknown => wire.kind = "Clear".into(),
    }
    // Strings, numbers and booleans always have a JSON form.
    serde_json::to_string(&wire).unwrap_or_else(|_| r#"{"type":"Clear"}"#.to_owned())
}

/// The whole message: `body` with its chain. What the Redis script does with strings.
pub(crate) fn chained(body: &str, at: Position, previous: u64) -> String {
    let open = body.strip_suffix('}').unwrap_or(body);
    let Position { epoch, seq, nonce } = at;
    format!(
        r#"{open},"mtc":{{"v":{VERSION},"epoch":"{epoch:016x}","seq":{seq},"prev":"{previous:016x}","nonce":"{nonce:016x}"}}}}"#
    )
}

/// Understands a message or a log entry.
///
/// # Errors
/// `SerializationError` for anything that is not one: the payload is another program's mistake.
pub(crate) fn parse(payload: &[u8]) -> CacheResult<Message> {
    let wire: Wire<'_> = serde_json::from_slice(payload)?;
    let chain = match &wire.mtc {
        Some(chain) => Some(place(chain).ok_or_else(malformed)?),
        None => None,
    };
    let updated = wire.put || wire.kind == "Update";
    match (change(wire), chain) {
        (Some(change), Some((at, previous))) => Ok(Message::Logged(Record { at, previous, change })),
        (None, Some((at, previous))) => Ok(Message::Logged(Record { at, previous, change: Recorded::Unknown })),
        (Some(change), None) => Ok(Message::Foreign { change, updated }),
        (None, None) => Err(malformed()),
    }
}

/// The entry of the log with this id in its stream; `None` if it is not one of the library's own, which breaks the
/// chain.
pub(crate) fn entry(id: &str, payload: &[u8]) -> Option<Record> {
    let seq: u64 = id.split_once('-')?.0.parse().ok()?;
    match parse(payload) {
        Ok(Message::Logged(record)) if record.at.seq == seq => Some(record),
        _ => None,
    }
}

fn place(chain: &Chain<'_>) -> Option<(Position, u64)> {
    let known = chain.v == VERSION && chain.seq > 0;
    let at = Position { epoch: parse_hex(&chain.epoch)?, seq: chain.seq, nonce: parse_hex(&chain.nonce)? };
    known.then_some((at, parse_hex(&chain.prev)?))
}

fn change(wire: Wire<'_>) -> Option<Recorded> {
    let shared = |text: Cow<'_, str>| Arc::from(&*text);
    match &*wire.kind {
        "Remove" if wire.put => wire.key.map(shared).map(Recorded::Put),
        "Update" => wire.key.map(shared).map(Recorded::Put),
        "Remove" => wire.key.map(|key| Recorded::Keys(vec![shared(key)])),
        "RemoveBulk" => wire.keys.map(Recorded::Keys),
        "RemovePattern" => wire.pattern.map(shared).map(Recorded::Pattern),
        "RemoveTag" => wire.tag.map(shared).map(Recorded::Tag),
        "Clear" => Some(Recorded::Clear),
        _ => None,
    }
}

fn malformed() -> CacheError {
    CacheError::SerializationError(Failure::new("not an invalidation message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { epoch: 0xfe, seq: 9_007_199_254_740_991, nonce: u64::MAX };

    #[test]
    fn every_change_survives_its_json() {
        for change in [
            Recorded::Keys(vec!["k\r\n\"}".into()]),
            Recorded::Keys(vec!["a".into(), "".into()]),
            Recorded::Keys(vec![]),
            Recorded::Put("k".into()),
            Recorded::Pattern("user:*".into()),
            Recorded::Tag("t".into()),
            Recorded::Clear,
        ] {
            let json = chained(&body(&change), AT, 3);
            let record = Record { at: AT, previous: 3, change };
            assert_eq!(parse(json.as_bytes()).unwrap(), Message::Logged(record), "{json}");
        }
    }

    #[test]
    fn the_json_is_what_the_protocol_says() {
        let json = chained(&body(&Recorded::Keys(vec!["user:1".into()])), Position { epoch: 1, seq: 7, nonce: 2 }, 0);
        let expected = r#"{"type":"Remove","key":"user:1","mtc":{"v":1,"epoch":"0000000000000001","seq":7,"prev":"0000000000000000","nonce":"0000000000000002"}}"#;
        assert_eq!(json, expected);
        assert_eq!(body(&Recorded::Put("k".into())), r#"{"type":"Remove","key":"k","put":true}"#);
    }

    #[test]
    fn a_plain_message_has_no_place_and_a_newer_kind_is_unknown() {
        let plain = |json: &str| parse(json.as_bytes()).unwrap();
        let removal = Message::Foreign { change: Recorded::Keys(vec!["k".into()]), updated: false };
        assert_eq!(plain(r#"{"type":"Remove","key":"k","extra":[1]}"#), removal);
        let update = Message::Foreign { change: Recorded::Put("k".into()), updated: true };
        assert_eq!(plain(r#"{"type":"Update","key":"k","value":[1,2],"ttl_secs":3}"#), update);
        let newer = chained(r#"{"type":"RemoveLater"}"#, AT, 3);
        assert!(matches!(plain(&newer), Message::Logged(Record { change: Recorded::Unknown, .. })));
    }

    #[test]
    fn garbage_is_an_error() {
        let bad = [
            "",
            "{}",
            "[]",
            "null",
            r#"{"type":"Remove"}"#,
            r#"{"type":"Drop","key":"k"}"#,
            "\u{0}",
            r#"{"type":"Remove","key":"k","mtc":{"v":2,"epoch":"0000000000000001","seq":7,"prev":"0000000000000000","nonce":"0000000000000002"}}"#,
            r#"{"type":"Remove","key":"k","mtc":{"v":1,"epoch":"1","seq":7,"prev":"0000000000000000","nonce":"0000000000000002"}}"#,
            r#"{"type":"Remove","key":"k","mtc":{}}"#,
        ];
        for json in bad {
            assert!(parse(json.as_bytes()).is_err(), "{json}");
        }
        assert!(parse(b"\xff\xfe").is_err());
    }
}
