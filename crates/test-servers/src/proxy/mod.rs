//! A TCP proxy that misbehaves on request.
//!
//! One thread owns the listener and every connection. A call sends it an order and waits for the answer. The thread
//! first takes in whatever had reached it before the call, under the modes of before; then it obeys, and answers when
//! the new modes have had their effect. So a test that wrote, then called, knows which mode its bytes met.

mod connection;
mod flow;
mod relay;
mod scan;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use connection::Connection;
use flow::Mode;
use relay::{Order, Relay};

/// A TCP proxy on a free port of 127.0.0.1 that can hold, delay, swallow and cut what passes; ended on drop.
///
/// Each direction has one mode at a time, and the last call decides it. Every call takes effect before it returns, on
/// existing and on new connections. A connection that one side closes is closed on the other after the bytes before.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    orders: Sender<Order>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Both ways.
    Both,
}

impl FaultProxy {
    /// Starts a proxy that passes everything to and from `127.0.0.1:upstream_port`, where nothing need listen yet.
    ///
    /// # Errors
    /// When there is no free port, or no thread or socket can be had.
    pub fn start(upstream_port: u16) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (wake, woken) = UnixStream::pair()?;
        let (port, mut relay) = Relay::new(upstream_port, woken)?;
        let thread = thread::Builder::new().name("fault-proxy".to_owned()).spawn(move || relay.run(&received))?;
        Ok(Self { port, orders, wake, thread: Some(thread) })
    }

    /// The TCP port on 127.0.0.1 that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:port`, without a password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Connects new clients to `127.0.0.1:upstream_port`; existing connections stay where they are.
    pub fn retarget(&self, upstream_port: u16) {
        self.order(move |relay| relay.upstream = upstream_port);
    }

    /// Ends every fault: releases what is held, in order, and delivers the ends of connections that were kept back.
    pub fn pass(&self) {
        self.order(Relay::pass);
    }

    /// Reads and keeps what travels this way, up to 16 MiB a connection, until the mode changes.
    pub fn hold(&self, direction: Direction) {
        self.order(move |relay| relay.set(direction, Mode::Hold));
    }

    /// Swallows what travels this way, held bytes included, and lets nobody notice the end of a connection.
    ///
    /// A silent partition: connections stay open, new ones are accepted, even without a server.
    pub fn blackhole(&self, direction: Direction) {
        self.order(move |relay| relay.set(direction, Mode::Blackhole));
    }

    /// Forwards each chunk, and the end of a connection, in order and this long after its arrival.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.order(move |relay| relay.set(direction, Mode::Pass(delay)));
    }

    /// Cuts every live connection with RST on both sides and answers how many; new ones work.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn reset(&self) -> usize {
        self.order(|relay| relay.reset_where(|_| true))
    }

    /// Accepts new connections and closes them at once, or no longer; existing ones stay.
    pub fn refuse(&self, refuse: bool) {
        self.order(move |relay| relay.refuse = refuse);
    }

    /// Cuts each connection, new ones too until [`pass`](Self::pass), when its next `bytes` bytes reached the client.
    ///
    /// With 0 a connection is cut when the server answers, instead of the answer.
    pub fn cut_after(&self, bytes: usize) {
        self.order(move |relay| relay.set_budget(Some(bytes)));
    }

    /// Cuts with RST the connections whose client has sent a `SUBSCRIBE` of any kind, and answers how many.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn reset_subscriptions(&self) -> usize {
        self.order(|relay| relay.reset_where(Connection::subscribed))
    }

    /// Swallows bytes to clients that have subscribed, or subscribe later, until [`pass`](Self::pass).
    pub fn blackhole_subscriptions(&self) {
        self.order(|relay| relay.deaf_subscriptions = true);
    }

    /// How many clients are connected: accepted, not cut, and not closed by themselves.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.order(|relay| relay.live(|_| true))
    }

    /// How many of the [`connections`](Self::connections) have subscribed.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.order(|relay| relay.live(Connection::subscribed))
    }

    /// How many bytes were forwarded to the server so far; swallowed and held ones do not count.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.order(|relay| relay.forwarded.to_server)
    }

    /// How many bytes were forwarded to clients so far; swallowed and held ones do not count.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.order(|relay| relay.forwarded.to_client)
    }

    /// The default, should the thread be gone: a proxy without a thread has no connections.
    fn order<R: Default + Send + 'static>(&self, act: impl FnOnce(&mut Relay) -> R + Send + 'static) -> R {
        let (answer, answered) = mpsc::channel();
        let order = move |relay: &mut Relay| {
            relay.turn();
            let result = act(relay);
            relay.turn();
            let _ = answer.send(result);
        };
        let _ = self.orders.send(Box::new(order));
        let _ = (&self.wake).write(&[0]);
        answered.recv().unwrap_or_default()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.order(|relay| relay.stopped = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
