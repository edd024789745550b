//! What an error of the Redis client means to a cache: its code kept, secrets left out, retryable or not.

use std::error::Error;
use std::sync::Arc;

use crate::error::{CacheError, Failure};

/// How the client keeps the cause of an I/O error.
type Shared = Arc<dyn Error + Send + Sync>;

impl From<redis::RedisError> for CacheError {
    fn from(error: redis::RedisError) -> Self {
        let first =
            error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, first)| first.clone()));
        let (code, text) = match &first {
            Some(server) => (server.code(), server.details().unwrap_or_default().to_owned()),
            None => ("", error.to_string()),
        };
        // Redis quotes the arguments of a command it does not know: of AUTH and HELLO they are the password.
        let (text, whole) = match text.split_once(", with args beginning with") {
            Some((before, _)) => (before, false),
            None => (text.as_str(), true),
        };
        let failure = Failure::new(format!("{code} {text}").trim());
        let failure = if redis_retryable(&error, code, text) { failure.retryable() } else { failure };
        Self::BackendError(if whole { failure.caused_by(error) } else { failure })
    }
}

/// An outage, an overload or a failover may end by itself; a refused command stays refused.
fn redis_retryable(error: &redis::RedisError, code: &str, text: &str) -> bool {
    use std::io::ErrorKind::{InvalidData, PermissionDenied, Unsupported};
    match code {
        "" => {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<Shared>());
            let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
            // Invalid data is a certificate that is not trusted.
            // A reply that ends in the middle was cut off.
            let cut = text.contains("Unexpected end of input");
            cut || error.is_io_error() && !matches!(io, Some(InvalidData | PermissionDenied | Unsupported))
        }
        "ERR" => text.starts_with("max number of clients reached"),
        code => {
            let passing = ["LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "OOM", "NOREPLICAS"];
            passing.contains(&code) || code == "MISCONF"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use super::*;

    #[test]
    fn a_redis_error_keeps_its_code_and_says_whether_a_retry_helps() {
        let reply = |code: &str, text: &str| {
            CacheError::from(redis::make_extension_error(code.to_owned(), Some(text.to_owned())))
        };
        for (code, retryable) in
            [("OOM", true), ("READONLY", true), ("LOADING", true), ("WRONGTYPE", false), ("NOAUTH", false)]
        {
            let error = reply(code, "said the server");
            assert_eq!(error.to_string(), format!("Backend error: {code} said the server"));
            assert_eq!(error.is_retryable(), retryable, "{code}");
            assert!(StdError::source(&error).and_then(StdError::source).is_some(), "{code}");
        }
        let io = |kind| CacheError::from(redis::RedisError::from(std::io::Error::from(kind)));
        assert!(io(std::io::ErrorKind::ConnectionReset).is_retryable());
        assert!(!io(std::io::ErrorKind::InvalidData).is_retryable());
        let error = reply("ERR", "unknown command `HELLO`, with args beginning with: `3` `AUTH` `me` `hunter2`");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
