//! Where the servers are.

use crate::error::{CacheError, CacheResult};

const SCHEME: &str = "memcache://";
const PORT: u16 = 11_211;

/// The `host:port` of every server in a comma-separated list, each with or without scheme, path and query.
///
/// The message of an error repeats nothing of the URL, which may hold a password.
pub(crate) fn parse(url: &str) -> CacheResult<Vec<String>> {
    url.split(',').map(|one| server(one.trim()).ok_or_else(refused)).collect()
}

fn refused() -> CacheError {
    CacheError::ConfigError(
        "the Memcached URL must be `host:port`, `memcache://host:port`, or several of them separated by commas, \
         without user or password"
            .into(),
    )
}

fn server(url: &str) -> Option<String> {
    let authority = url.strip_prefix(SCHEME).unwrap_or(url);
    let authority = authority.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => (authority, None),
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = port.map_or(Ok(PORT), str::parse::<u16>).ok()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok().map(|address| format!("[{address}]:{port}")),
        None if host.is_empty() || !host.chars().all(is_host_character) => None,
        None => Some(format!("{host}:{port}")),
    }
}

fn is_host_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_forms() {
        for (url, servers) in [
            ("127.0.0.1:11211", &["127.0.0.1:11211"][..]),
            ("cache.internal", &["cache.internal:11211"]),
            ("memcache://cache_1:2000", &["cache_1:2000"]),
            ("memcache://host:1/?timeout=10&tcp_nodelay=true", &["host:1"]),
            ("memcache://a:1,memcache://b:2 , c", &["a:1", "b:2", "c:11211"]),
            ("[::1]:11300", &["[::1]:11300"]),
            ("memcache://[::1]", &["[::1]:11211"]),
        ] {
            assert_eq!(parse(url).unwrap(), servers, "{url}");
        }
    }

    #[test]
    fn refuses_the_rest_without_repeating_it() {
        for url in [
            "",
            "a,,b",
            "redis://host:1",
            "memcache://",
            "host:port",
            "host:70000",
            "::1",
            "[::x]:1",
            "a b:1",
            "u:secret@h:1",
        ] {
            let error = parse(url).unwrap_err();
            assert!(matches!(error, CacheError::ConfigError(_)), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
