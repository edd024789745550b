//! The proxy's thread: accepts, forwards, obeys, sleeps until there is something to do.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Direction;
use super::connection::{Connection, Fate};
use super::flow::Mode;

const CONNECT_BUDGET: Duration = Duration::from_secs(1);
const AFTER_ERROR: Duration = Duration::from_millis(1);

pub(super) type Order = Box<dyn FnOnce(&mut Relay) + Send>;

#[derive(Debug)]
pub(super) struct Relay {
    listener: TcpListener,
    woken: UnixStream,
    connections: Vec<Connection>,
    modes: Modes,
    budget: Option<usize>,
    pub(super) upstream: u16,
    pub(super) refuse: bool,
    pub(super) deaf_subscriptions: bool,
    pub(super) forwarded: Forwarded,
    pub(super) stopped: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Modes {
    pub(super) to_server: Mode,
    pub(super) to_client: Mode,
}

/// Bytes written since the start.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    pub(super) to_server: u64,
    pub(super) to_client: u64,
}

const PASS: Modes = Modes { to_server: Mode::PASS, to_client: Mode::PASS };

impl Relay {
    pub(super) fn new(upstream: u16, woken: UnixStream) -> io::Result<(u16, Self)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let relay = Self {
            listener,
            woken,
            connections: Vec::new(),
            modes: PASS,
            budget: None,
            upstream,
            refuse: false,
            deaf_subscriptions: false,
            forwarded: Forwarded::default(),
            stopped: false,
        };
        Ok((port, relay))
    }

    pub(super) fn run(&mut self, orders: &Receiver<Order>) {
        while !self.stopped {
            self.turn();
            self.sleep();
            let _ = self.woken.read(&mut [0; 64]);
            while let Ok(order) = orders.try_recv() {
                order(self);
            }
        }
    }

    /// Accepts who waits and forwards what can be read and written now.
    pub(super) fn turn(&mut self) {
        while let Ok((client, _)) = self.listener.accept() {
            if !self.refuse
                && let Ok(connection) = self.admit(client)
            {
                self.connections.push(connection);
            }
        }
        let (modes, deaf, now) = (self.modes, self.deaf_subscriptions, Instant::now());
        let forwarded = &mut self.forwarded;
        self.connections.retain_mut(|connection| match connection.turn(modes, deaf, now, forwarded) {
            Fate::Lives => true,
            Fate::Ends => false,
            Fate::Fails => {
                connection.reset_on_close();
                false
            }
        });
    }

    pub(super) fn pass(&mut self) {
        self.modes = PASS;
        self.refuse = false;
        self.deaf_subscriptions = false;
        self.set_budget(None);
    }

    pub(super) fn set(&mut self, direction: Direction, mode: Mode) {
        if direction != Direction::ToClient {
            self.modes.to_server = mode;
        }
        if direction != Direction::ToServer {
            self.modes.to_client = mode;
        }
    }

    /// How many more bytes may reach each client.
    pub(super) fn set_budget(&mut self, budget: Option<usize>) {
        self.budget = budget;
        self.connections.iter_mut().for_each(|connection| connection.budget = budget);
    }

    /// Cuts the connections that `chosen` accepts, and counts those whose client was still there.
    pub(super) fn reset_where(&mut self, chosen: impl Fn(&Connection) -> bool) -> usize {
        let live = self.live(&chosen);
        for connection in self.connections.extract_if(.., |connection| chosen(connection)) {
            connection.reset_on_close();
        }
        live
    }

    pub(super) fn live(&self, chosen: impl Fn(&Connection) -> bool) -> usize {
        self.connections.iter().filter(|connection| connection.client_is_there() && chosen(connection)).count()
    }

    fn admit(&self, client: TcpStream) -> io::Result<Connection> {
        Connection::new(client, self.reach().ok(), self.budget)
    }

    fn reach(&self) -> io::Result<TcpStream> {
        let server = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, self.upstream).into(), CONNECT_BUDGET)?;
        // Where nobody listens, a socket whose own port happens to be that one connects to itself.
        if server.local_addr()? == server.peer_addr()? { Err(ErrorKind::ConnectionRefused.into()) } else { Ok(server) }
    }

    /// Until an order, a client, bytes, room for bytes, or the time of a delayed chunk.
    fn sleep(&self) {
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        let now = Instant::now();
        let mut due = None;
        for connection in &self.connections {
            let modes = connection.effective(self.modes, self.deaf_subscriptions);
            connection.watch(modes, now, &mut fds);
            due = due.into_iter().chain(connection.due(modes, now)).min();
        }
        let timeout = due.and_then(|due| Timespec::try_from(due.duration_since(now)).ok());
        if let Err(error) = poll(&mut fds, timeout.as_ref())
            && error != Errno::INTR
        {
            thread::sleep(AFTER_ERROR);
        }
    }
}
