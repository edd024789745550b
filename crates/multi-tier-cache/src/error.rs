//! Errors: what failed, in which tier, during which operation, and whether a retry can help.
//!
//! A miss is not an error and an outage is not a miss: reads answer `Ok(None)` only when every tier said so.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Result of a cache operation.
pub type CacheResult<T> = Result<T, CacheError>;

type Cause = Arc<dyn StdError + Send + Sync + 'static>;
type Payload = Arc<dyn Any + Send + Sync>;

/// Everything a cache operation can fail with.
///
/// Cloneable, because one failed computation is reported to every caller that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// A tier could not be reached, refused the operation, or cannot perform it.
    #[error("Backend error: {0}")]
    BackendError(#[source] Failure),
    /// A value could not be encoded or decoded.
    #[error("Serialization error: {0}")]
    SerializationError(#[source] Failure),
    /// An invalidation could not be carried out everywhere it had to be.
    #[error("Invalidation error: {0}")]
    InvalidationError(#[source] Failure),
    /// The configuration or an argument is not usable; the text says which, and what would be.
    #[error("Configuration error: {0}")]
    ConfigError(String),
    /// The key is in no tier.
    #[error("Key not found")]
    NotFound,
    /// The library or a loader broke a promise (a loader panicked, a task was aborted).
    #[error("Internal error: {0}")]
    InternalError(String),
}

impl CacheError {
    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::BackendError(f) | Self::SerializationError(f) | Self::InvalidationError(f) => f.is_retryable(),
            Self::ConfigError(_) | Self::NotFound | Self::InternalError(_) => false,
        }
    }

    /// The error of an operation that `backend` has no way to perform.
    #[must_use]
    pub fn unsupported(backend: &'static str, operation: &'static str) -> Self {
        let failure =
            Failure::new(format!("{backend} cannot perform `{operation}`")).in_tier(backend).during(operation);
        Self::BackendError(failure.unsupported())
    }

    /// Whether the operation was turned down before anything was done.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::ConfigError(_) => true,
            Self::BackendError(failure) => failure.0.unsupported,
            _ => false,
        }
    }

    /// What a failure carries, if that is a `T`.
    pub(crate) fn payload<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let Self::BackendError(failure) = self else { return None };
        Arc::clone(failure.0.payload.as_ref()?).downcast().ok()
    }

    /// Adds tier and operation to a failure that does not name them yet.
    #[must_use]
    pub(crate) fn at(self, tier: &str, operation: &'static str) -> Self {
        let place = |f: Failure| f.or_tier(tier).or_operation(operation);
        match self {
            Self::BackendError(f) => Self::BackendError(place(f)),
            Self::SerializationError(f) => Self::SerializationError(place(f)),
            Self::InvalidationError(f) => Self::InvalidationError(place(f)),
            other => other,
        }
    }
}

/// What went wrong, with its cause.
///
/// Displays its message only; [`source`](StdError::source) gives the cause, the accessors the rest.
#[derive(Clone)]
pub struct Failure(Box<Details>);

#[derive(Clone)]
struct Details {
    message: String,
    cause: Option<Cause>,
    tier: Option<String>,
    operation: Option<&'static str>,
    retryable: bool,
    unsupported: bool,
    /// What a loader's own error type was, for callers that know it.
    payload: Option<Payload>,
}

impl Failure {
    /// A failure that a retry does not mend, without cause, tier or operation.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            message: message.into(),
            cause: None,
            tier: None,
            operation: None,
            retryable: false,
            unsupported: false,
            payload: None,
        }))
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// Names the tier (a backend's [`name`](crate::traits::CacheBackend::name), or its level).
    #[must_use]
    pub fn in_tier(mut self, tier: impl Into<String>) -> Self {
        self.0.tier = Some(tier.into());
        self
    }

    /// Names the operation, such as `get` or `set`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation = Some(operation);
        self
    }

    /// Marks the failure as one that a later retry may mend: an outage, a timeout, an overload.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Carries something for those who know its type.
    pub(crate) fn carrying<T: Any + Send + Sync>(mut self, payload: Arc<T>) -> Self {
        self.0.payload = Some(payload);
        self
    }

    fn unsupported(mut self) -> Self {
        self.0.unsupported = true;
        self
    }

    /// The tier that failed, where known.
    #[must_use]
    pub fn tier(&self) -> Option<&str> {
        self.0.tier.as_deref()
    }

    /// The operation that failed, where known.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The same failure in other words.
    #[cfg(feature = "redis")]
    pub(crate) fn saying(mut self, message: String) -> Self {
        self.0.message = message;
        self
    }

    fn or_tier(mut self, tier: &str) -> Self {
        self.0.tier.get_or_insert_with(|| tier.to_owned());
        self
    }

    fn or_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .field("tier", &self.0.tier)
            .field("operation", &self.0.operation)
            .field("retryable", &self.0.retryable)
            .finish()
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<serde_json::Error> for CacheError {
    fn from(error: serde_json::Error) -> Self {
        Self::SerializationError(Failure::new(error.to_string()).caused_by(error))
    }
}

#[cfg(feature = "bincode")]
impl From<bincode::Error> for CacheError {
    fn from(error: bincode::Error) -> Self {
        Self::SerializationError(Failure::new(error.to_string()).caused_by(error))
    }
}

#[cfg(feature = "msgpack")]
impl From<rmp_serde::encode::Error> for CacheError {
    fn from(error: rmp_serde::encode::Error) -> Self {
        Self::SerializationError(Failure::new(error.to_string()).caused_by(error))
    }
}

#[cfg(feature = "msgpack")]
impl From<rmp_serde::decode::Error> for CacheError {
    fn from(error: rmp_serde::decode::Error) -> Self {
        Self::SerializationError(Failure::new(error.to_string()).caused_by(error))
    }
}

#[cfg(feature = "postcard")]
impl From<postcard::Error> for CacheError {
    fn from(error: postcard::Error) -> Self {
        Self::SerializationError(Failure::new(error.to_string()).caused_by(error))
    }
}

impl From<std::num::TryFromIntError> for CacheError {
    fn from(error: std::num::TryFromIntError) -> Self {
        Self::ConfigError(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_the_established_crate_did() {
        assert_eq!(CacheError::BackendError("down".into()).to_string(), "Backend error: down");
        assert_eq!(CacheError::ConfigError("bad".into()).to_string(), "Configuration error: bad");
        assert_eq!(CacheError::NotFound.to_string(), "Key not found");
    }

    #[test]
    fn keeps_cause_tier_operation_and_retryability() {
        let cause = std::io::Error::other("reset");
        let error =
            CacheError::BackendError(Failure::new("read failed").caused_by(cause).retryable()).at("L2 Redis", "get");
        assert!(error.is_retryable());
        let CacheError::BackendError(failure) = &error else { panic!("{error:?}") };
        assert_eq!(failure.tier(), Some("L2 Redis"));
        assert_eq!(failure.operation(), Some("get"));
        assert_eq!(failure.source().map(ToString::to_string).as_deref(), Some("reset"));
    }

    #[test]
    fn the_first_tier_named_stays() {
        let failure = Failure::new("x").in_tier("Redis");
        let CacheError::BackendError(failure) = CacheError::BackendError(failure).at("L2", "get") else { panic!() };
        assert_eq!(failure.tier(), Some("Redis"));
    }
}
