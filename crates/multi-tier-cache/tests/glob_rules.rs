//! The glob rules agree with those of a real redis-server.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use multi_tier_cache::backends::glob::Glob;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use test_servers::RedisServer;

const ROUNDS: u32 = 200;

#[test]
fn random_patterns_match_the_keys_that_redis_answers() {
    let server = RedisServer::start().unwrap();
    let redis = RefCell::new(Connection::open(server.port()));
    let texts = |length, count| prop::collection::vec(nasty(length), count);
    let config = Config { cases: ROUNDS, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(texts(6, 40), texts(9, 60)), |(keys, patterns)| {
            let answers = redis.borrow_mut().keys(&keys, &patterns);
            for (pattern, theirs) in patterns.iter().zip(answers) {
                let glob = Glob::new(pattern);
                let ours: BTreeSet<_> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
                prop_assert_eq!(&ours, &theirs, "{:?}", pattern);
                prop_assert!(ours.iter().all(|key| key.starts_with(glob.literal_prefix())));
            }
            Ok(())
        })
        .unwrap();
}

/// Texts over few characters, most of them special, so that patterns and keys meet often.
fn nasty(length: usize) -> impl Strategy<Value = String> {
    let character = prop::sample::select(vec!['a', 'b', 'c', '*', '*', '?', '[', ']', '^', '-', '\\', 'é', '\0']);
    prop::collection::vec(character, 0..=length).prop_map(String::from_iter)
}

/// One connection; requests are pipelined.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()))
    }

    /// The answers of `KEYS` to each pattern when exactly `keys` exist.
    fn keys(&mut self, keys: &[String], patterns: &[String]) -> Vec<BTreeSet<String>> {
        let mut request = Vec::new();
        encode(&mut request, &["FLUSHALL"]);
        let mut mset = vec!["MSET"];
        mset.extend(keys.iter().flat_map(|key| [key.as_str(), "1"]));
        encode(&mut request, &mset);
        for pattern in patterns {
            encode(&mut request, &["KEYS", pattern]);
        }
        self.0.get_mut().write_all(&request).unwrap();
        assert_eq!(self.line(), "+OK");
        assert_eq!(self.line(), "+OK");
        patterns.iter().map(|_| self.array()).collect()
    }

    fn array(&mut self) -> BTreeSet<String> {
        let count: usize = self.line().strip_prefix('*').unwrap().parse().unwrap();
        (0..count).map(|_| self.bulk()).collect()
    }

    fn bulk(&mut self) -> String {
        let length: usize = self.line().strip_prefix('$').unwrap().parse().unwrap();
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).unwrap();
        bytes.truncate(length);
        String::from_utf8(bytes).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

fn encode(request: &mut Vec<u8>, parts: &[&str]) {
    request.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        request.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
}
