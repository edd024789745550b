//! `mtc get`: what the server holds for one key.

use std::time::Duration;

use multi_tier_cache::inspect::{Arrival, Bus, Envelope, Lease, Stored, Tags, codec_name, decode, holds};
use multi_tier_cache::{Bytes, CacheSerializer, MsgPackSerializer};
use redis::{cmd, pipe};
use serde_json::{Value, json};

use crate::cli::{Get, Target};
use crate::connect::Session;
use crate::failure::{Failure, Verdict};
use crate::measure::micros;
use crate::output::{Output, Page, Report, note, write};
use crate::units::{bytes, duration, millis, printable, size};

/// Characters of a value that are shown to people.
const SHOWN: usize = 4_096;

pub(crate) async fn run(target: &Target, options: &Get, output: &Output) -> Result<Verdict, Failure> {
    let mut session = Session::open(target).await?;
    let found = look(&mut session, options).await?;
    let verdict = if found.stored.is_some() { Verdict::Fine } else { Verdict::Trouble };
    if !options.raw {
        output.show(&found)?;
    } else if let Some(stored) = found.stored {
        write(&payload(&stored))?;
    } else {
        note("mtc: the key is not in the server\n");
    }
    Ok(verdict)
}

/// What the server holds for a key.
struct Found {
    key: String,
    name: String,
    size: usize,
    stored: Option<Stored>,
    /// `None` if it has no end.
    ttl: Option<Duration>,
    /// Whether its tags hold; `None` without tags.
    tags_hold: Option<bool>,
    lease: Option<(Option<Lease>, Duration)>,
    tombstone: Option<Duration>,
    full: bool,
}

async fn look(session: &mut Session, options: &Get) -> Result<Found, Failure> {
    let key = &options.key;
    let (name, lease) = (session.namespace.value(key)?, session.namespace.lease(key)?);
    check_type(session, &name).await?;
    // The time first, as the library asks: a write in between gives the newer value an older time, not the other way round.
    let mut questions = pipe();
    questions.pttl(&name).get(&name).get(&lease).pttl(&lease).pttl(session.namespace.tombstone(key)?);
    questions.add_command(session.bus_command());
    type Answers = (i64, Option<Vec<u8>>, Option<String>, i64, i64, [Option<String>; 5]);
    let (ttl, value, lease, lease_left, tombstone, bus): Answers = session.pipeline(&questions).await?;
    let (size, stored) = (value.as_ref().map_or(0, Vec::len), value.map(|value| decode(value.into())));
    let tags_hold = match stored.as_ref().and_then(Stored::tags) {
        Some(tags) => Some(check_tags(session, &tags, Bus::decode(&bus)).await?),
        None => None,
    };
    let lease = lease.map(|text| (Lease::decode(&text), left(lease_left).unwrap_or_default()));
    let (ttl, tombstone) = (left(ttl), left(tombstone));
    Ok(Found { key: key.clone(), name, size, stored, ttl, tags_hold, lease, tombstone, full: options.full })
}

/// A cache takes a key of another type for an error.
async fn check_type(session: &mut Session, name: &str) -> Result<(), Failure> {
    let kind: String = session.query(cmd("TYPE").arg(name)).await?;
    if matches!(&*kind, "string" | "none") {
        return Ok(());
    }
    let message = format!("the key {} holds a {kind}, written by another program", printable(name, false));
    Err(Failure::trouble(message).advising("A cache cannot read it, and answers an error: remove it, or set a prefix."))
}

/// A value whose tags do not hold is a miss.
async fn check_tags(session: &mut Session, tags: &Tags, bus: Option<Bus>) -> Result<bool, Failure> {
    let Some(bus) = bus else { return Ok(false) };
    let names: Vec<String> = tags.names.iter().map(|tag| session.namespace.tag(tag)).collect();
    let tokens: Vec<Option<String>> = session.query(cmd("MGET").arg(names)).await?;
    Ok(holds(tags, bus.end.epoch(), &tokens))
}

/// What PTTL says; `None` for no end and for no key.
fn left(pttl: i64) -> Option<Duration> {
    u64::try_from(pttl).ok().map(Duration::from_millis)
}

/// The value without its head; what cannot be read is none.
fn payload(stored: &Stored) -> Bytes {
    match stored {
        Stored::Plain(value) | Stored::Tagged(_, value) => value.clone(),
        Stored::Typed(envelope) => envelope.payload.clone(),
        _ => Bytes::new(),
    }
}

/// A value as far as its format can be read without its type.
enum Shown {
    Json(Value),
    Text(String),
    Hex(String),
}

impl Shown {
    fn of(stored: &Stored) -> Self {
        let value = payload(stored);
        let codec = if let Stored::Typed(envelope) = stored { codec_name(envelope.codec) } else { Some("JSON") };
        let messages = CacheSerializer::MsgPack(MsgPackSerializer);
        let decoded = match codec {
            Some("JSON") => serde_json::from_slice(&value).ok(),
            Some("MessagePack") => messages.deserialize(&value).ok(),
            _ => None,
        };
        match (decoded, str::from_utf8(&value)) {
            (Some(decoded), _) => Self::Json(decoded),
            (None, Ok(text)) if matches!(codec, Some("JSON")) => Self::Text(text.to_owned()),
            _ => Self::Hex(value.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    fn human(&self, full: bool) -> String {
        let text = match self {
            Self::Json(value) => format!("{value:#}"),
            Self::Text(text) => printable(text, true),
            Self::Hex(digits) => digits.clone(),
        };
        match text.char_indices().nth(SHOWN).filter(|_| !full) {
            Some((end, _)) => format!("{}\n… (--full shows the rest)", text.get(..end).unwrap_or_default()),
            None => text,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Json(value) => json!({ "json": value }),
            Self::Text(text) => json!({ "text": text }),
            Self::Hex(digits) => json!({ "hex": digits }),
        }
    }
}

impl Report for Found {
    fn human(&self, page: &mut Page) {
        page.field("key", printable(&self.key, false));
        if self.name != self.key {
            page.field("in Redis", printable(&self.name, false));
        }
        let Some(stored) = &self.stored else {
            page.line("not in the server");
            return self.describe_neighbours(page);
        };
        page.field("ttl", self.ttl.map_or_else(|| "no end".to_owned(), duration));
        page.field("size", bytes(size(self.size)));
        page.field("format", format(stored));
        if let Stored::Typed(envelope) = stored {
            describe(envelope, self.ttl, page);
        }
        if let Some(tags) = stored.tags() {
            let verdict =
                if self.tags_hold == Some(true) { "they hold" } else { "removed since: a miss to every reader" };
            page.field("tags", format!("{} ({verdict})", printable(&tags.names.join(", "), false)));
            page.field("stored at", format!("entry {} of epoch {:016x}", tags.seq, tags.epoch));
        }
        self.describe_neighbours(page);
        match stored {
            Stored::Unreadable(_) => {}
            Stored::Typed(envelope) if envelope.absent => page.field("value", "none: the source does not have it"),
            _ => page.field("value", Shown::of(stored).human(self.full)),
        }
    }

    fn json(&self) -> Value {
        let lease = self.lease.map(|(lease, left)| {
            let at = |at: fn(Lease) -> Value| lease.map_or(Value::Null, at);
            json!({
                "ends_in_ms": millis(left),
                "epoch": at(|lease| json!(format!("{:016x}", lease.epoch))),
                "fence": at(|lease| json!(lease.fence)),
            })
        });
        let (value, head) = match &self.stored {
            None | Some(Stored::Unreadable(_)) => (Value::Null, Value::Null),
            Some(Stored::Typed(envelope)) => {
                let shown =
                    if envelope.absent { Value::Null } else { Shown::of(&Stored::Typed(envelope.clone())).json() };
                (shown, head(envelope, self.ttl))
            }
            Some(stored) => (Shown::of(stored).json(), Value::Null),
        };
        let tags = self.stored.as_ref().and_then(Stored::tags).map(|tags| {
            let epoch = format!("{:016x}", tags.epoch);
            json!({ "names": tags.names, "hold": self.tags_hold, "epoch": epoch, "sequence": tags.seq })
        });
        json!({
            "key": self.key,
            "name": self.name,
            "found": self.stored.is_some(),
            "ttl_ms": self.ttl.map(millis),
            "size": self.size,
            "format": self.stored.as_ref().map(format),
            "head": head,
            "tags": tags,
            "lease": lease,
            "tombstone_ms": self.tombstone.map(millis),
            "value": value,
        })
    }
}

impl Found {
    fn describe_neighbours(&self, page: &mut Page) {
        if let Some((_, left)) = self.lease {
            page.field("lease", format!("an instance is loading it; ends in {} unless renewed", duration(left)));
        }
        if let Some(left) = self.tombstone {
            page.field("tombstone", format!("not read from the tiers below for {}", duration(left)));
        }
    }
}

fn format(stored: &Stored) -> String {
    match stored {
        Stored::Plain(_) => "plain bytes".to_owned(),
        Stored::Tagged(..) => "bytes with tags".to_owned(),
        Stored::Typed(envelope) => match codec_name(envelope.codec) {
            Some(codec) => format!("typed value, {codec}"),
            None => format!("typed value, codec {}", envelope.codec),
        },
        Stored::Unreadable(reason) => format!("unreadable, a miss to every reader: {reason}"),
        _ => "of a newer version".to_owned(),
    }
}

fn describe(envelope: &Envelope, ttl: Option<Duration>, page: &mut Page) {
    let Arrival { age, fresh_for, .. } = envelope.on_arrival(ttl);
    let fresh = fresh_for.map_or_else(|| "stale".to_owned(), |left| format!("fresh for {}", duration(left)));
    page.field("age", format!("{}, {fresh}", duration(age)));
    page.field("load took", duration(envelope.cost));
    page.field("schema", format!("{:016x}", envelope.schema));
    if let Some(validator) = &envelope.validator {
        page.field("validator", printable(validator, false));
    }
}

fn head(envelope: &Envelope, ttl: Option<Duration>) -> Value {
    let Arrival { age, fresh_for, .. } = envelope.on_arrival(ttl);
    json!({
        "absent": envelope.absent,
        "codec": envelope.codec,
        "schema": format!("{:016x}", envelope.schema),
        "lifetime_ms": millis(envelope.lifetime),
        "age_ms": millis(age),
        "fresh_for_ms": fresh_for.map(millis),
        "load_us": micros(envelope.cost),
        "validator": envelope.validator,
    })
}
