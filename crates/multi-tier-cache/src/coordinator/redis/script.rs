//! The scripts, and how one is run: by its hash, and with its text if the server does not know it (any more).

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, FromRedisValue, Script, ServerErrorKind, cmd};

use crate::backends::redis::connection::Supervisor;
use crate::coordinator::position::parse_hex;
use crate::error::{CacheError, CacheResult, Failure};

/// A script's text and, computed once, its hash.
pub(super) struct Source {
    text: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident $file:literal),* $(,)?) => {
        $(pub(super) static $name: Source = {
            const TEXT: &str = concat!(include_str!("../lua/prelude.lua"), "\n", include_str!(concat!("../lua/", $file)));
            Source { text: TEXT, hash: LazyLock::new(|| Script::new(TEXT).get_hash().to_owned()) }
        };)*
    };
}

scripts! {
    ACQUIRE "acquire.lua",
    FILL "fill.lua",
    RENEW "renew.lua",
    RELEASE "release.lua",
    REPLACE "replace.lua",
    REVOKE "revoke.lua",
    FENCE "fence.lua",
    OPEN_BELOW "open_below.lua",
    POLL "poll.lua",
    TAG_TOKENS "tag_tokens.lua",
}

/// A script with its keys and arguments.
pub(super) struct Call<'a> {
    source: &'static Source,
    keys: Vec<Cow<'a, str>>,
    arguments: Vec<Cow<'a, [u8]>>,
}

impl<'a> Call<'a> {
    pub(super) fn of(source: &'static Source) -> Self {
        Self { source, keys: Vec::new(), arguments: Vec::new() }
    }

    pub(super) fn key(&mut self, key: impl Into<Cow<'a, str>>) -> &mut Self {
        self.keys.push(key.into());
        self
    }

    pub(super) fn keys<K: Into<Cow<'a, str>>>(&mut self, keys: impl IntoIterator<Item = K>) -> &mut Self {
        self.keys.extend(keys.into_iter().map(Into::into));
        self
    }

    pub(super) fn bytes(&mut self, argument: &'a [u8]) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and temporary texts, most of them")]
    pub(super) fn text(&mut self, argument: impl ToString) -> &mut Self {
        self.arguments.push(argument.to_string().into_bytes().into());
        self
    }

    pub(super) fn hex(&mut self, argument: u64) -> &mut Self {
        self.text(format!("{argument:016x}"))
    }

    /// One round trip, and a second one the first time that a server sees the script.
    pub(super) async fn run<T: FromRedisValue>(&self, server: &Supervisor) -> CacheResult<T> {
        let mut lent = server.acquire().await?;
        let outcome = self.command("EVALSHA", &self.source.hash).query_async(lent.connection()).await;
        let outcome = match outcome {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.source.text).query_async(lent.connection()).await
            }
            outcome => outcome,
        };
        lent.conclude(outcome)
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = cmd(verb);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(&**key);
        }
        for argument in &self.arguments {
            command.arg(&**argument);
        }
        command
    }
}

/// What a script answered: texts, of which the first may be the name of the outcome.
pub(super) struct Reply(pub(super) Vec<Option<Bytes>>);

impl Reply {
    pub(super) fn bytes(&mut self, at: usize) -> CacheResult<Bytes> {
        self.0.get_mut(at).and_then(Option::take).ok_or_else(unexpected)
    }

    pub(super) fn text(&self, at: usize) -> CacheResult<&str> {
        let part = self.0.get(at).and_then(Option::as_deref).ok_or_else(unexpected)?;
        std::str::from_utf8(part).map_err(|_| unexpected())
    }

    pub(super) fn hex(&self, at: usize) -> CacheResult<u64> {
        parse_hex(self.text(at)?).ok_or_else(unexpected)
    }

    pub(super) fn number<N: std::str::FromStr>(&self, at: usize) -> CacheResult<N> {
        self.text(at)?.parse().map_err(|_| unexpected())
    }
}

pub(super) fn unexpected() -> CacheError {
    CacheError::BackendError(
        Failure::new("the library's keys in Redis (`mtc:`) hold what it does not write").in_tier("Redis"),
    )
}
