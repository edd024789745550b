//! A client that speaks Redis's inline protocol over a plain socket.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a reply that wrongly gets through to be seen.
const SILENCE: Duration = Duration::from_millis(30);

pub(crate) struct Client(TcpStream);

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).unwrap();
    }

    pub(crate) fn receive(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn expect(&mut self, reply: &str) {
        assert_eq!(self.receive(reply.len()), reply);
    }

    pub(crate) fn ask(&mut self, request: &str, reply: &str) {
        self.send(request);
        self.expect(reply);
    }

    /// The connection is open and nothing arrives.
    pub(crate) fn expect_silence(&mut self) {
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let kind = self.0.read(&mut [0]).map_err(|error| error.kind());
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "not silent: {kind:?}");
    }

    pub(crate) fn end(&mut self) -> End {
        match self.0.read(&mut [0]) {
            Ok(0) => End::Closed,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            other => panic!("not an end: {other:?}"),
        }
    }

    pub(crate) fn close_own_side(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
