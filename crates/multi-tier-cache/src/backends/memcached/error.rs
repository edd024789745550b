//! What an error of the Memcached client means to a cache.

use crate::error::{CacheError, Failure};

/// A request that timed out is told by its kind alone: the client's own error repeats the key.
impl From<memcache::exp::Error> for CacheError {
    fn from(error: memcache::exp::Error) -> Self {
        use memcache::exp::Error;
        let failure = match error {
            Error::Ambiguous { source, .. } => return Self::from(*source),
            Error::Timeout { .. } => {
                Failure::new("timed out").caused_by(std::io::Error::from(std::io::ErrorKind::TimedOut)).retryable()
            }
            Error::Io(error) => Failure::new(error.to_string()).caused_by(error).retryable(),
            Error::Server(ref message) if message.contains("too large") => {
                Failure::new("the value is larger than the server accepts").caused_by(error)
            }
            Error::Server(_) | Error::Protocol(_) | Error::Conflict => {
                Failure::new(error.to_string()).caused_by(error).retryable()
            }
            _ => Failure::new(error.to_string()).caused_by(error),
        };
        Self::BackendError(failure)
    }
}

impl From<memcache::MemcacheError> for CacheError {
    fn from(error: memcache::MemcacheError) -> Self {
        let outage = matches!(error, memcache::MemcacheError::IOError(_) | memcache::MemcacheError::PoolError(_));
        let failure = Failure::new(error.to_string()).caused_by(error);
        Self::BackendError(if outage { failure.retryable() } else { failure })
    }
}
