//! The servers' own statistics, over a connection of their own.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::link::{Link, NAME};
use super::servers::Servers;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};

/// More than any server answers.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// The address and the general statistics of each server.
pub(crate) type ServerStats = Vec<(String, HashMap<String, String>)>;

/// Asks one server after another; blocks the thread meanwhile.
pub(crate) fn ask_all(servers: &Servers) -> CacheResult<ServerStats> {
    let one = |link: &Link| Ok((link.address().to_owned(), ask(link.address()).map_err(failed)?));
    servers.links().iter().map(one).collect()
}

fn failed(error: io::Error) -> CacheError {
    let failure = Failure::new(format!("cannot read statistics: {error}")).caused_by(error).retryable();
    CacheError::BackendError(failure.in_tier(NAME).during("stats"))
}

fn ask(server: &str) -> io::Result<HashMap<String, String>> {
    let mut stream = connect(server)?;
    stream.set_read_timeout(Some(defaults::TIER_BUDGET))?;
    stream.set_write_timeout(Some(defaults::TIER_BUDGET))?;
    stream.write_all(b"stats\r\n")?;
    let mut stats = HashMap::new();
    for line in BufReader::new(stream.take(LONGEST_ANSWER)).lines() {
        let line = line?;
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("STAT"), Some(name), value) => stats.insert(name.to_owned(), value.unwrap_or_default().to_owned()),
            (Some("END"), None, None) => return Ok(stats),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to `stats`")),
        };
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn connect(server: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let addresses: Vec<_> = server.to_socket_addrs()?.collect();
    let share = defaults::CONNECT_BUDGET / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    for address in addresses {
        match TcpStream::connect_timeout(&address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
