//! What a tier inside the process holds: a value as bytes, as a decoded object, or both, and its deadline.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Moment, Tick};
use crate::error::{CacheError, CacheResult};

/// A decoded value whose type only its users know.
pub(crate) type Object = Arc<dyn Any + Send + Sync>;
/// Makes the bytes of an [`Object`].
pub(crate) type Encode = Arc<dyn Fn(&Object) -> CacheResult<Bytes> + Send + Sync>;

/// A name under which entries are removed together.
pub(crate) type Tag = Arc<str>;

/// What a typed cache knows of a value beside the value itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    /// When the load began that made it.
    pub(crate) made: Moment,
    /// The moment from which on it is stale.
    pub(crate) fresh_until: Moment,
    /// When this copy was last read anew from below, where that is later than what it is known to reflect.
    pub(crate) reread: Moment,
    /// How long the load took.
    pub(crate) cost: Duration,
    /// The source has no value: a negative entry.
    pub(crate) absent: bool,
    /// What the source called this version of the value.
    pub(crate) validator: Option<Arc<str>>,
    /// The format and the schema of the bytes.
    pub(crate) codec: u8,
    pub(crate) schema: u64,
}

/// A cached value, the moment it expires, and the moment from which on it is known not to be stale.
///
/// Cheap to clone: the value is shared. Its bytes and its decoded form are each made at most once.
#[derive(Clone)]
pub struct Entry {
    body: Body,
    expires: Moment,
    born: Moment,
}

#[derive(Clone)]
enum Body {
    Bytes(Bytes),
    Shared(Arc<Shared>),
}

#[derive(Clone, Default)]
struct Shared {
    bytes: OnceLock<CacheResult<Bytes>>,
    /// None for bytes that are shared only to carry tags or facts.
    object: Option<Object>,
    encode: Option<Encode>,
    tags: Arc<[Tag]>,
    facts: Option<Facts>,
}

impl Entry {
    /// An entry of opaque bytes.
    #[must_use]
    pub fn from_bytes(bytes: Bytes, expires: Moment) -> Self {
        Self { body: Body::Bytes(bytes), expires, born: Moment::ORIGIN }
    }

    /// An entry that was computed as an object; `encode` makes its bytes when a tier asks for them.
    pub(crate) fn from_object(object: Object, encode: Encode, expires: Moment) -> Self {
        let shared = Shared { object: Some(object), encode: Some(encode), ..Shared::default() };
        Self { body: Body::Shared(Arc::new(shared)), expires, born: Moment::ORIGIN }
    }

    /// That there is no value.
    pub(crate) fn absent(facts: Facts) -> Self {
        Self::from_bytes(Bytes::new(), Moment::NEVER).with_facts(Facts { absent: true, ..facts })
    }

    /// This entry with the object its bytes decode to.
    pub(crate) fn with_object(&self, object: Object) -> CacheResult<Self> {
        self.bytes()?;
        Ok(self.clone().changed(|shared| (shared.object, shared.encode) = (Some(object), None)))
    }

    /// This entry with what a typed cache knows of it.
    pub(crate) fn with_facts(self, facts: Facts) -> Self {
        self.changed(|shared| shared.facts = Some(facts))
    }

    pub(crate) fn facts(&self) -> Option<&Facts> {
        match &self.body {
            Body::Bytes(_) => None,
            Body::Shared(shared) => shared.facts.as_ref(),
        }
    }

    fn changed(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = match self.body {
            Body::Bytes(bytes) => Shared { bytes: OnceLock::from(Ok(bytes)), ..Shared::default() },
            Body::Shared(shared) => Arc::unwrap_or_clone(shared),
        };
        change(&mut shared);
        Self { body: Body::Shared(Arc::new(shared)), ..self }
    }

    /// The value's bytes, encoded at the first call if the entry was computed as an object.
    ///
    /// # Errors
    /// `SerializationError` if the object cannot be encoded, the same at every call; `NotFound` for a remembered absence.
    pub fn bytes(&self) -> CacheResult<Bytes> {
        if self.is_absent() { Err(CacheError::NotFound) } else { self.payload() }
    }

    /// The same, empty for a negative entry.
    pub(crate) fn payload(&self) -> CacheResult<Bytes> {
        match &self.body {
            Body::Bytes(bytes) => Ok(bytes.clone()),
            Body::Shared(shared) => shared.bytes().clone(),
        }
    }

    /// Whether a typed cache keeps it beyond its fresh time: answered by that cache's rules, and to nobody else.
    #[inline]
    pub(crate) fn is_stale(&self, tick: Tick<'_>) -> bool {
        self.facts().is_some_and(|facts| tick.has_passed(facts.fresh_until))
    }

    /// Whether it is a negative entry.
    pub(crate) fn is_absent(&self) -> bool {
        self.facts().is_some_and(|facts| facts.absent)
    }

    /// The decoded value, if the entry has one and it is a `T`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a part of every hit")]
    pub(crate) fn object_as<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        match &self.body {
            Body::Bytes(_) => None,
            Body::Shared(shared) => Arc::clone(shared.object.as_ref()?).downcast().ok(),
        }
    }

    /// Whether `other` holds the very same value, in whatever form.
    pub(crate) fn is_same_value(&self, other: &Self) -> bool {
        let bytes = |entry: &Self| entry.known_bytes().map(|bytes| (bytes.as_ptr(), bytes.len()));
        match (&self.body, &other.body) {
            (Body::Shared(own), Body::Shared(others)) if Arc::ptr_eq(own, others) => true,
            _ => bytes(self).is_some_and(|own| Some(own) == bytes(other)),
        }
    }

    fn known_bytes(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Bytes(bytes) => Some(bytes),
            Body::Shared(shared) => shared.bytes.get()?.as_ref().ok(),
        }
    }

    /// The value's bytes, if the entry is nothing but bytes.
    #[inline]
    pub(crate) fn plain_bytes(&self) -> Option<Bytes> {
        match &self.body {
            Body::Bytes(bytes) => Some(bytes.clone()),
            Body::Shared(_) => None,
        }
    }

    /// The value's bytes without a second reference to them; see [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    #[inline]
    pub fn into_bytes(self) -> CacheResult<Bytes> {
        match self.body {
            Body::Bytes(bytes) => Ok(bytes),
            Body::Shared(_) => self.bytes(),
        }
    }

    /// Whether the entry has a decoded form.
    pub(crate) fn has_object(&self) -> bool {
        matches!(&self.body, Body::Shared(shared) if shared.object.is_some())
    }

    /// The length of the bytes if they exist already: what a tier bounded by bytes weighs.
    #[must_use]
    pub fn len_hint(&self) -> Option<usize> {
        self.known_bytes().map(Bytes::len)
    }

    /// The moment from which on the entry must not be served.
    #[must_use]
    pub fn expires(&self) -> Moment {
        self.expires
    }

    /// The same value with another deadline.
    #[must_use]
    pub fn expiring(&self, expires: Moment) -> Self {
        Self { body: self.body.clone(), expires, born: self.born }
    }

    /// The moment before the value was read from where it came from: invalidations up to then are reflected.
    #[must_use]
    pub fn born(&self) -> Moment {
        self.born
    }

    /// The same value, read from below after `born`.
    #[must_use]
    pub fn born_at(mut self, born: Moment) -> Self {
        self.born = born;
        self
    }

    /// The names under which the entry can be removed.
    pub(crate) fn tags(&self) -> &[Tag] {
        match &self.body {
            Body::Bytes(_) => &[],
            Body::Shared(shared) => &shared.tags,
        }
    }

    /// The same value under these names.
    pub(crate) fn tagged(self, tags: &[Tag]) -> Self {
        if tags.is_empty() { self } else { self.changed(|shared| shared.tags = tags.into()) }
    }

    /// The time left at `now`; `None` for an entry that does not expire.
    #[must_use]
    pub fn remaining(&self, now: Moment) -> Option<Duration> {
        (self.expires != Moment::NEVER).then(|| self.expires.since(now))
    }
}

impl Shared {
    fn bytes(&self) -> &CacheResult<Bytes> {
        self.bytes.get_or_init(|| match (&self.encode, &self.object) {
            (Some(encode), Some(object)) => encode(object),
            _ => Err(CacheError::InternalError("an entry with neither bytes nor encoder".into())),
        })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("len", &self.len_hint()).field("expires", &self.expires).finish_non_exhaustive()
    }
}
