//! One client, its connection to the server, and the two ways between them.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::set_socket_linger;

use super::flow::{Flow, Mode};
use super::relay::{Forwarded, Modes};
use super::scan::SubscribeScan;

#[derive(Debug)]
pub(super) struct Connection {
    client: TcpStream,
    /// None where nobody listened: the way to the client then begins with a failure.
    server: Option<TcpStream>,
    to_server: Flow,
    to_client: Flow,
    scan: SubscribeScan,
    /// How many more bytes may reach the client.
    pub(super) budget: Option<usize>,
}

/// What becomes of a connection after a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// Close it; what was written arrives.
    Ends,
    /// Cut it with RST.
    Fails,
}

impl Connection {
    pub(super) fn new(client: TcpStream, server: Option<TcpStream>, budget: Option<usize>) -> io::Result<Self> {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        let to_client = if server.is_some() { Flow::default() } else { Flow::failed() };
        Ok(Self { client, server, to_server: Flow::default(), to_client, scan: SubscribeScan::default(), budget })
    }

    /// Reads and writes what can be, without waiting.
    pub(super) fn turn(&mut self, modes: Modes, deaf: bool, now: Instant, forwarded: &mut Forwarded) -> Fate {
        let scan = &mut self.scan;
        self.to_server.read(&self.client, now, |bytes| scan.see(bytes));
        if let Some(server) = &self.server {
            self.to_client.read(server, now, |_| ());
        }
        let modes = self.effective(modes, deaf);
        let mut room = usize::MAX;
        let sent = self.to_server.write(self.server.as_ref(), modes.to_server, now, &mut room);
        let answered = {
            let room = self.budget.as_mut().unwrap_or(&mut room);
            self.to_client.write(Some(&self.client), modes.to_client, now, room)
        };
        forwarded.to_server += sent.bytes;
        forwarded.to_client += answered.bytes;
        if sent.failed || answered.failed {
            return Fate::Fails;
        }
        let spent = self.budget == Some(0) && (answered.bytes > 0 || self.to_client.ready(modes.to_client, now));
        if spent || (self.to_server.is_over() && self.to_client.is_over()) { Fate::Ends } else { Fate::Lives }
    }

    pub(super) fn effective(&self, modes: Modes, deaf: bool) -> Modes {
        if deaf && self.subscribed() { Modes { to_client: Mode::Blackhole, ..modes } } else { modes }
    }

    pub(super) fn subscribed(&self) -> bool {
        self.scan.found
    }

    pub(super) fn client_is_there(&self) -> bool {
        !self.to_server.has_ended()
    }

    /// Makes dropping it an RST, on both sides.
    pub(super) fn reset_on_close(&self) {
        for stream in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            let _ = set_socket_linger(stream, Some(Duration::ZERO));
        }
    }

    /// Adds only sockets from which or to which something is wanted: a closed one would wake at once, for ever.
    pub(super) fn watch<'a>(&'a self, modes: Modes, now: Instant, fds: &mut Vec<PollFd<'a>>) {
        let client = interest(&self.to_server, &self.to_client, modes.to_client, now);
        let server = interest(&self.to_client, &self.to_server, modes.to_server, now);
        let sockets = [(Some(&self.client), client), (self.server.as_ref(), server)];
        for (socket, interest) in sockets {
            if let Some(socket) = socket
                && !interest.is_empty()
            {
                fds.push(PollFd::new(socket, interest));
            }
        }
    }

    /// When the next delayed chunk is due; what is due already waits for its socket instead.
    pub(super) fn due(&self, modes: Modes, now: Instant) -> Option<Instant> {
        let due = [self.to_server.due(modes.to_server), self.to_client.due(modes.to_client)];
        due.into_iter().flatten().filter(|due| *due > now).min()
    }
}

fn interest(from: &Flow, to: &Flow, mode: Mode, now: Instant) -> PollFlags {
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::IN, from.wants_more());
    interest.set(PollFlags::OUT, to.ready(mode, now));
    interest
}
