//! Keys by pattern: Redis's glob within one prefix, never the library's own keys, in bounded batches.

use std::ops::ControlFlow;

use redis::{Cmd, cmd};

use super::config::RESERVED;
use super::connection::Supervisor;
use crate::defaults;
use crate::error::{CacheError, CacheResult};

/// A pattern that is safe to scan for.
#[derive(Debug)]
pub(crate) struct KeyPattern {
    /// What Redis is asked to match: the prefix literally, then the pattern.
    glob: String,
    /// The one key the pattern can match, if it has no wildcard.
    literal: Option<String>,
}

impl KeyPattern {
    /// `pattern` under `prefix`.
    ///
    /// # Errors
    /// `ConfigError` without a prefix if the pattern does not begin literally: it could reach keys of other programs.
    pub(crate) fn new(prefix: &str, pattern: &str) -> CacheResult<Self> {
        if prefix.is_empty() && matches!(pattern.chars().next(), None | Some('*' | '?' | '[')) {
            return Err(CacheError::ConfigError(format!(
                "the pattern `{}` could match keys of other programs in a shared Redis: set a key prefix, or begin the \
                 pattern with literal characters",
                pattern.escape_debug()
            )));
        }
        let literal = (!pattern.contains(['*', '?', '[', '\\'])).then(|| format!("{prefix}{pattern}"));
        Ok(Self { glob: format!("{}{pattern}", escape(prefix)), literal })
    }

    /// Everything under `prefix`.
    ///
    /// # Errors
    /// `ConfigError` if the prefix is empty.
    pub(crate) fn everything(prefix: &str) -> CacheResult<Self> {
        Self::new(prefix, "*")
    }

    /// What Redis is asked to match.
    pub(crate) fn into_glob(self) -> String {
        self.glob
    }

    /// Removes every matching key that is there from the beginning of the call to its end, batch by batch.
    pub(crate) async fn remove(&self, server: &Supervisor) -> CacheResult<()> {
        if let Some(key) = self.literal.as_ref().filter(|key| !key.starts_with(RESERVED)) {
            return remove_raw(server, &[key]).await.map(drop);
        }
        let mut cursor = Cursor::start();
        while let ControlFlow::Continue(keys) = cursor.next(self, server).await? {
            remove_raw(server, &keys).await?;
        }
        Ok(())
    }

    /// Hands every batch of matching keys to `take`. A key may come more than once.
    pub(crate) async fn scan(&self, server: &Supervisor, mut take: impl FnMut(Vec<Vec<u8>>) + Send) -> CacheResult<()> {
        let mut cursor = Cursor::start();
        while let ControlFlow::Continue(keys) = cursor.next(self, server).await? {
            take(keys);
        }
        Ok(())
    }
}

/// Removes keys as they are in Redis, in bounded commands, and counts those that existed.
pub(crate) async fn remove_raw<K: AsRef<[u8]>>(server: &Supervisor, keys: &[K]) -> CacheResult<usize> {
    let mut removed = 0;
    for chunk in keys.chunks(defaults::KEY_CHUNK) {
        let mut unlink = cmd("UNLINK");
        for key in chunk {
            unlink.arg(key.as_ref());
        }
        removed += server.query::<usize>(&unlink).await?;
    }
    Ok(removed)
}

/// Where a scan stands; `None` once Redis has told its end.
struct Cursor(Option<u64>);

impl Cursor {
    fn start() -> Self {
        Self(Some(0))
    }

    async fn next(&mut self, pattern: &KeyPattern, server: &Supervisor) -> CacheResult<ControlFlow<(), Vec<Vec<u8>>>> {
        let Some(at) = self.0 else { return Ok(ControlFlow::Break(())) };
        let (next, mut keys): (u64, Vec<Vec<u8>>) = server.query(&scan(at, &pattern.glob)).await?;
        self.0 = (next != 0).then_some(next);
        keys.retain(|key| !key.starts_with(RESERVED.as_bytes()));
        Ok(ControlFlow::Continue(keys))
    }
}

fn scan(cursor: u64, glob: &str) -> Cmd {
    let mut scan = cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(glob).arg("COUNT").arg(defaults::SCAN_BATCH);
    scan
}

/// `text` as a glob that matches it only.
fn escape(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_prefix_a_pattern_must_begin_literally() {
        for pattern in ["", "*", "?x", "[ab]*", "*user"] {
            let error = KeyPattern::new("", pattern).unwrap_err();
            assert!(matches!(&error, CacheError::ConfigError(text) if text.contains("prefix")), "{pattern}: {error}");
        }
        for pattern in ["user:*", "u?", "u[ab]", r"\*literal*", "plain"] {
            assert_eq!(KeyPattern::new("", pattern).unwrap().glob, pattern);
        }
    }

    #[test]
    fn a_prefix_is_matched_literally() {
        assert_eq!(KeyPattern::new("a*b[c]\\:", "?").unwrap().glob, r"a\*b\[c\]\\:?");
        assert_eq!(KeyPattern::everything("app:").unwrap().glob, "app:*");
        assert!(KeyPattern::everything("").is_err());
        assert_eq!(KeyPattern::new("a*", "k").unwrap().literal.as_deref(), Some("a*k"));
        assert_eq!(KeyPattern::new("", r"k\*").unwrap().literal, None);
    }
}
