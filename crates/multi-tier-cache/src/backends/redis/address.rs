//! Which Redis server: where its address is looked for, how it is read, and how it is shown without its secrets.

use std::env::{self, VarError};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::defaults;
use crate::error::{CacheError, CacheResult};

const VARIABLE: &str = "REDIS_URL";
const DEFAULT_URL: &str = "redis://127.0.0.1:6379";
const HIDDEN: &str = "***";

/// The address of a Redis server, parsed. Shown without its password.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    shown: String,
    info: ConnectionInfo,
}

impl RedisAddress {
    /// The address given, else that of the environment variable `REDIS_URL`, else that of `REDIS_URL` in the nearest
    /// `.env` file of the current directory or one above, else `redis://127.0.0.1:6379`.
    pub(crate) fn resolve(explicit: Option<&str>) -> CacheResult<Self> {
        let variable = match env::var(VARIABLE) {
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) if explicit.is_some() => None,
            Err(VarError::NotUnicode(_)) => {
                return Err(CacheError::ConfigError(format!("the environment variable {VARIABLE} is not valid UTF-8")));
            }
        };
        Self::lookup(explicit, variable.as_deref(), nearest_dotenv().as_deref())
    }

    /// [`resolve`](Self::resolve) as a function of its inputs. Blank values of the variable and the file count as
    /// absent.
    fn lookup(explicit: Option<&str>, variable: Option<&str>, dotenv: Option<&Path>) -> CacheResult<Self> {
        let given = |url: &&str| !url.trim().is_empty();
        if let Some(url) = explicit {
            return Self::parse(url, "given");
        }
        if let Some(url) = variable.filter(given) {
            return Self::parse(url, "from the environment variable REDIS_URL");
        }
        let from_file = dotenv.and_then(read_dotenv);
        match from_file.as_deref().filter(given) {
            Some(url) => Self::parse(url, "from REDIS_URL in the .env file"),
            None => Self::parse(DEFAULT_URL, "used by default"),
        }
    }

    fn parse(url: &str, origin: &str) -> CacheResult<Self> {
        let url = url.trim();
        let shown = redact_url(url);
        let info = connection_info(url).map_err(|reason| {
            CacheError::ConfigError(format!(
                "the Redis URL {origin}, `{shown}`, is not usable: {reason}; expected \
                 redis://[[user]:password@]host[:port][/database], or rediss:// for TLS, with special characters of \
                 user and password percent-encoded"
            ))
        })?;
        Ok(Self { shown, info })
    }

    /// A client of this server; `root_certificate` (PEM) replaces the system's certificate authorities.
    pub(crate) fn client(&self, root_certificate: Option<&[u8]>) -> CacheResult<Client> {
        let Some(pem) = root_certificate else {
            return Ok(Client::open(self.info.clone())?);
        };
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) };
        Client::build_with_tls(self.info.clone(), certificates).map_err(|error| {
            CacheError::ConfigError(format!("the root certificate cannot be used with `{}`: {error}", self.shown))
        })
    }

    /// Whether `other` is the same database of the same server.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.info.addr() == other.info.addr() && self.info.redis_settings().db() == other.info.redis_settings().db()
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisAddress").field(&self.shown).finish()
    }
}

/// `text` with the passwords of all URLs in it hidden.
pub(crate) fn redact(text: &str) -> String {
    let redact_word = |word: &str| {
        // What follows a URL in a sentence is not its port.
        let url = word.trim_end_matches(|end: char| end.is_whitespace() || matches!(end, ':' | ',' | ';' | ')'));
        let rest = word.get(url.len()..).unwrap_or_default();
        if url.contains("://") { format!("{}{rest}", redact_url(url)) } else { word.to_owned() }
    };
    text.split_inclusive(char::is_whitespace).map(redact_word).collect()
}

/// Hides what is, or in a malformed URL may be, a password: all between the first colon after the scheme and the
/// last `@`, a port that is not a number, and the `pass` of a socket's query.
pub(super) fn redact_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let rest = match rest.rsplit_once('@') {
        Some((user_info, host)) => {
            let user = user_info.split_once(':').map_or(user_info, |(user, _)| user);
            let hidden = if user_info.contains(':') { format!("{user}:{HIDDEN}") } else { HIDDEN.to_owned() };
            format!("{hidden}@{host}")
        }
        None => hide_odd_port(rest),
    };
    let rest = match rest.split_once("pass=") {
        Some((before, after)) => {
            let tail = after.find('&').and_then(|at| after.get(at..)).unwrap_or_default();
            format!("{before}pass={HIDDEN}{tail}")
        }
        None => rest,
    };
    format!("{scheme}{separator}{rest}")
}

fn hide_odd_port(rest: &str) -> String {
    let Some((host, port)) = rest.split_once(':').filter(|_| !rest.starts_with('[')) else {
        return rest.to_owned();
    };
    let port = port.split(['/', '?', '#']).next().unwrap_or_default();
    if port.bytes().all(|byte| byte.is_ascii_digit()) { rest.to_owned() } else { format!("{host}:{HIDDEN}") }
}

fn connection_info(url: &str) -> Result<ConnectionInfo, String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix" | "valkey+unix")) {
        return Err("it does not begin with redis:// or rediss://".to_owned());
    }
    let info = url.into_connection_info().map_err(|error| match error.detail() {
        Some(detail) => format!("{} ({detail})", error.category()),
        None => error.to_string(),
    })?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err("`#insecure` is not supported: give the certificate authority instead".to_owned());
    }
    if info.redis_settings().db() < 0 {
        return Err("its database number is negative".to_owned());
    }
    let keepalive = TcpKeepalive::new().with_time(defaults::KEEPALIVE_IDLE).with_interval(defaults::KEEPALIVE_INTERVAL);
    let library = info.redis_settings().clone().set_lib_name("multi-tier-cache", env!("CARGO_PKG_VERSION"));
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    Ok(info.set_tcp_settings(tcp).set_redis_settings(library))
}

fn nearest_dotenv() -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    here.ancestors().map(|directory| directory.join(".env")).find(|path| path.is_file())
}

/// The first `REDIS_URL` of the file. Lines that do not parse are none of ours and may hold secrets: passed over.
fn read_dotenv(path: &Path) -> Option<String> {
    let lines = match dotenvy::from_path_iter(path) {
        Ok(lines) => lines,
        Err(error) => {
            let reason = match error {
                dotenvy::Error::Io(error) => error,
                _ => io::Error::other("not a list of variables"),
            };
            tracing::debug!(path = %path.display(), %reason, "the .env file cannot be read");
            return None;
        }
    };
    lines
        .take_while(|line| !matches!(line, Err(dotenvy::Error::Io(_))))
        .flatten()
        .find_map(|(name, value)| (name == VARIABLE).then_some(value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shown(explicit: Option<&str>, variable: Option<&str>, dotenv: Option<&Path>) -> String {
        RedisAddress::lookup(explicit, variable, dotenv).unwrap().to_string()
    }

    #[test]
    fn the_explicit_url_wins_then_the_variable_then_the_file_then_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".env");
        fs::write(
            &file,
            "# comment\nthis is not a variable\nOTHER=1\nREDIS_URL=\"redis://file:1\"\nREDIS_URL=redis://late:1\n",
        )
        .unwrap();
        let (given, variable) = (Some("redis://given:1"), Some("redis://variable:1"));
        assert_eq!(shown(given, variable, Some(&file)), "redis://given:1");
        assert_eq!(shown(None, variable, Some(&file)), "redis://variable:1");
        assert_eq!(shown(None, Some(" "), Some(&file)), "redis://file:1");
        assert_eq!(shown(None, None, Some(&file)), "redis://file:1");
        assert_eq!(shown(None, None, Some(&directory.path().join("absent"))), DEFAULT_URL);
        assert_eq!(shown(None, None, Some(directory.path())), DEFAULT_URL);
        assert_eq!(shown(None, None, None), DEFAULT_URL);
    }

    #[test]
    fn the_environment_is_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".env");
        fs::write(&file, "MTC_TEST_ONLY_IN_FILE=1\nREDIS_URL=redis://file:1\n").unwrap();
        assert_eq!(shown(None, None, Some(&file)), "redis://file:1");
        assert!(env::var_os("MTC_TEST_ONLY_IN_FILE").is_none());
    }

    #[test]
    fn user_password_and_database_come_from_the_url() {
        let address = RedisAddress::lookup(Some("rediss://al%40ice:s%3Aecret@example.org:7000/5"), None, None).unwrap();
        let settings = address.info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("al@ice"), Some("s:ecret"), 5));
        assert!(address.is_tls());
        assert_eq!(address.info.addr().to_string(), "example.org:7000");
    }

    #[test]
    fn a_malformed_url_is_a_configuration_error_that_says_what_where_and_what_to_do() {
        for (url, reason) in [
            ("localhost:6379", "does not begin with"),
            ("http://localhost", "does not begin with"),
            ("redis://:6379", "redis://"),
            ("redis://localhost:99999", "redis://"),
            ("redis://localhost/one", "database"),
            ("redis://localhost/-1", "negative"),
            ("rediss://localhost#insecure", "#insecure"),
            ("", "does not begin with"),
        ] {
            let error = RedisAddress::lookup(Some(url), None, None).unwrap_err();
            assert!(matches!(error, CacheError::ConfigError(_)), "{url}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(reason) && text.contains("expected redis://"), "{url}: {text}");
        }
        let text = RedisAddress::lookup(None, Some("nonsense"), None).unwrap_err().to_string();
        assert!(text.contains("environment variable REDIS_URL"), "{text}");
    }

    #[test]
    fn no_error_and_no_rendering_shows_a_password() {
        for url in [
            "redis://user:hunter2@localhost:6379",
            "redis://:hunter2@localhost",
            "redis://:hunter2@/",
            "redis://user:hunter2",
            "redis://user:1hunter2",
            "redis://:hun/hunter2@host",
            "redis://:hun#hunter2@host:1",
            "redis://:hunter2@a@hunter2@host:1",
            "user:hunter2@localhost",
            "postgres://user:hunter2@localhost",
            "redis://:hun hunter2@host/x",
            "unix:///tmp/redis.sock?user=u&pass=hunter2&db=x",
            "unix:///tmp/redis.sock?pass=hunter2",
        ] {
            let text = match RedisAddress::lookup(Some(url), None, None) {
                Ok(address) => format!("{address} {address:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!text.contains("hunter2"), "{url}: {text}");
            assert!(!redact_url(url).contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn redaction_keeps_the_rest_of_a_text() {
        assert_eq!(
            redact("no answer from rediss://me:secret@host:1/2 (see http://docs)\n"),
            "no answer from rediss://me:***@host:1/2 (see http://docs)\n"
        );
        assert_eq!(redact("at redis://127.0.0.1:6379: refused"), "at redis://127.0.0.1:6379: refused");
        assert_eq!(redact("redis://[::1]:6379 and redis://host:6379/1"), "redis://[::1]:6379 and redis://host:6379/1");
    }
}
