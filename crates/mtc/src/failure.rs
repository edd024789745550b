//! What ends a command before its answer, and the exit codes.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use multi_tier_cache::CacheError;

/// How a command ended that gave its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    Trouble,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fine => Self::SUCCESS,
            Verdict::Trouble => Kind::Trouble.exit_code(),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Trouble,
    Usage,
    Unreachable,
    /// Nobody reads the answer any more, as in `mtc tail | head`: no failure of anybody.
    Closed,
}

impl Kind {
    fn exit_code(self) -> ExitCode {
        ExitCode::from(self.number())
    }

    /// The exit code.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Trouble => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }
}

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) advice: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), advice: None }
    }

    pub(crate) fn trouble(message: impl Into<String>) -> Self {
        Self::new(Kind::Trouble, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn advising(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        self.kind.exit_code()
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        let kind = match &error {
            CacheError::ConfigError(_) => Kind::Usage,
            error if error.is_retryable() => Kind::Unreachable,
            _ => Kind::Trouble,
        };
        let message = match &error {
            CacheError::ConfigError(text) => text.clone(),
            CacheError::BackendError(failure)
            | CacheError::SerializationError(failure)
            | CacheError::InvalidationError(failure) => with_causes(failure),
            other => other.to_string(),
        };
        Self::new(kind, message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { Kind::Closed } else { Kind::Trouble };
        Self::new(kind, error.to_string())
    }
}

/// The message of `error`, and of its causes as far as it does not tell them itself.
fn with_causes(error: &dyn Error) -> String {
    let mut text = in_one_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = in_one_line(error);
        // The client puts a category in front of what the server said.
        let said = words.split_once(": ").map_or(&*words, |(_, said)| said);
        if !text.contains(said) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

fn in_one_line(error: &dyn Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use multi_tier_cache::error::Failure as Cause;

    use super::*;

    #[test]
    fn errors_of_the_library_have_an_exit_code() {
        let away = CacheError::BackendError(Cause::new("away").retryable());
        for (error, kind) in [
            (CacheError::ConfigError("bad".into()), Kind::Usage),
            (away, Kind::Unreachable),
            (CacheError::BackendError("refused".into()), Kind::Trouble),
            (CacheError::NotFound, Kind::Trouble),
        ] {
            assert_eq!(Failure::from(error).kind, kind);
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = Cause::new("a removal failed").caused_by(io::Error::other("it was reset"));
        assert_eq!(with_causes(&error), "a removal failed: it was reset");
        let error = Cause::new("refused: NOPERM no").caused_by(io::Error::other("NoPerm: no"));
        assert_eq!(with_causes(&error), "refused: NOPERM no");
        let error = Cause::new("failed: it was reset").caused_by(io::Error::other("it was reset"));
        assert_eq!(with_causes(&error), "failed: it was reset");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.kind.number(), 0);
    }
}
