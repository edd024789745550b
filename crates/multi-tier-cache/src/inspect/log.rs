//! The log of invalidations, the state of its namespace, and leases.

use crate::coordinator::message;
use crate::coordinator::{Position, Record, Recorded, parse_hex};

/// An entry of the log of invalidations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry(Record);

impl LogEntry {
    /// The entry with this `id` in its stream and this `message` in its field `m`; `None` if it is not the library's own.
    #[must_use]
    pub fn decode(id: &str, message: &[u8]) -> Option<Self> {
        message::entry(id, message).map(Self)
    }

    /// Its place in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.at
    }

    /// What it says.
    #[must_use]
    pub fn change(&self) -> &Recorded {
        &self.0.change
    }

    /// Whether nothing is missing between `position` and this entry.
    #[must_use]
    pub fn follows(&self, position: Position) -> bool {
        self.0.follows(position)
    }
}

/// The state of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bus {
    /// Where its log ends.
    pub end: Position,
    /// How often the fence was moved in this epoch: removals by pattern, and clears.
    pub fence: u64,
    /// Until when nothing is read in the tiers below, in milliseconds since 1970 of the server's clock.
    pub closed_until: Option<u64>,
}

impl Bus {
    /// The fields that [`decode`](Self::decode) takes, in this order.
    pub const FIELDS: [&'static str; 5] = ["epoch", "seq", "nonce", "fence", "closed"];

    /// The state in the values of [`FIELDS`](Self::FIELDS); `None` if one is missing or malformed, so that whoever changes
    /// the namespace next begins a new epoch.
    #[must_use]
    pub fn decode(values: &[Option<String>; 5]) -> Option<Self> {
        let [epoch, seq, nonce, fence, closed] = values.each_ref().map(Option::as_deref);
        let end = format!("m1-{}-{}-{}", epoch?, seq?, nonce?).parse().ok()?;
        Some(Self { end, fence: fence?.parse().ok()?, closed_until: closed.and_then(|closed| closed.parse().ok()) })
    }
}

/// The lease of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The epoch it was granted in.
    pub epoch: u64,
    /// The fence it was granted under.
    pub fence: u64,
}

impl Lease {
    /// The lease in the text of its key; `None` for any other text. Who holds it is not told.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_token, epoch, fence, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        Some(Self { epoch: parse_hex(epoch)?, fence: fence.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"type":"Clear","mtc":{"v":1,"epoch":"00000000000000ff","seq":7,"prev":"0123456789abcdef","nonce":"fedcba9876543210"}}"#;

    #[test]
    fn an_entry_is_what_its_id_and_message_say() {
        let entry = LogEntry::decode("7-0", MESSAGE.as_bytes()).unwrap();
        assert_eq!((entry.position().sequence(), entry.position().epoch()), (7, 0xff));
        assert_eq!(entry.change(), &Recorded::Clear);
        assert!(entry.follows("m1-00000000000000ff-6-0123456789abcdef".parse().unwrap()));
        assert!(!entry.follows("m1-00000000000000ff-6-0000000000000000".parse().unwrap()));
        assert_eq!(LogEntry::decode("8-0", MESSAGE.as_bytes()), None, "the id of another");
        assert_eq!(LogEntry::decode("7-0", br#"{"type":"Clear"}"#), None, "without a place");
    }

    #[test]
    fn a_bus_needs_four_fields() {
        let field = |text: &str| Some(text.to_owned());
        let mut fields = [field("00000000000000ff"), field("7"), field("fedcba9876543210"), field("3"), None];
        let bus = Bus::decode(&fields).unwrap();
        assert_eq!((bus.end.to_string().as_str(), bus.fence), ("m1-00000000000000ff-7-fedcba9876543210", 3));
        assert_eq!(bus.closed_until, None);
        fields[4] = field("1700000000000");
        assert_eq!(Bus::decode(&fields).unwrap().closed_until, Some(1_700_000_000_000));
        for missing in 0..4 {
            let mut fields = fields.clone();
            fields[missing] = None;
            assert_eq!(Bus::decode(&fields), None, "{missing}");
        }
    }

    #[test]
    fn a_lease_tells_what_it_was_granted_under() {
        let lease = Lease::decode("0123456789abcdef0123456789abcdef:00000000000000ff:3").unwrap();
        assert_eq!((lease.epoch, lease.fence), (0xff, 3));
        for other in ["", "token", "a:b:c", "a:00000000000000ff:3:4"] {
            assert_eq!(Lease::decode(other), None, "{other}");
        }
    }
}
