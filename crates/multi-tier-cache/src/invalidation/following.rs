//! The two loops of a bus: one hears messages, the other polls the log.
//!
//! They hold the bus only while they use it, so that it ends with its last handle.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, join, select};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::bus::Bus;
use crate::coordinator::{Messages, SharedCoordinator};
use crate::defaults;

/// What the loops wait for; apart from the bus, so that waiting does not keep it alive.
#[derive(Default)]
pub(super) struct Signals {
    /// Asks for a poll at once.
    pub(super) attention: Notify,
    /// The log goes on but no message comes: subscribe anew.
    deaf: Notify,
}

/// Follows the log for as long as there is such a bus.
pub(super) fn follow(
    bus: Weak<Bus>,
    log: SharedCoordinator,
    signals: Arc<Signals>,
    pause: Duration,
) -> impl Future<Output = ()> + Send + 'static {
    // Made here, so that it is dropped with the task even if that is never polled.
    let running = Running(Weak::clone(&bus));
    async move {
        let _running = running;
        join(listen_forever(Weak::clone(&bus), log, &signals), poll_forever(bus, &signals, pause)).await;
    }
}

/// Lets another runtime follow when the one that did has ended.
struct Running(Weak<Bus>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(bus) = self.0.upgrade() {
            bus.stopped_running();
        }
    }
}

async fn poll_forever(bus: Weak<Bus>, signals: &Signals, pause: Duration) {
    let (mut heard, mut behind) = (0, false);
    while let Some(bus) = bus.upgrade() {
        bus.catch_up().await;
        // Entries in the log of which no message came, twice in a row: nobody speaks on this subscription.
        let (received, lags) = (bus.counts().received.get(), bus.counts().lag.get() > 0);
        if lags && behind && received == heard {
            signals.deaf.notify_one();
        }
        (heard, behind) = (received, lags);
        drop(bus);
        let (Some(least), Some(timer)) = (timer(defaults::POLL_PAUSE_MIN.min(pause)), timer(pause)) else { return };
        least.await;
        select(pin!(signals.attention.notified()), pin!(timer)).await;
    }
}

async fn listen_forever(bus: Weak<Bus>, log: SharedCoordinator, signals: &Signals) {
    let mut pause = defaults::RECONNECT_PAUSE_MIN;
    loop {
        if let Ok(messages) = log.listen().await {
            pause = defaults::RECONNECT_PAUSE_MIN;
            if listen(&bus, messages, signals).await.is_none() {
                return;
            }
        }
        let Some(timer) = timer(pause) else { return };
        timer.await;
        pause = (pause * 2).min(defaults::RECONNECT_PAUSE_MAX);
    }
}

/// Reads messages until their stream ends or nothing comes of it; `None` once there is no bus any more.
async fn listen(bus: &Weak<Bus>, mut messages: Messages, signals: &Signals) -> Option<()> {
    let subscribed = bus.upgrade()?;
    subscribed.counts().subscriptions.one();
    signals.attention.notify_one();
    drop(subscribed);
    while let Either::Left((Some(payload), _)) = select(messages.next(), pin!(signals.deaf.notified())).await {
        bus.upgrade()?.receive(&payload);
    }
    Some(())
}

pub(super) fn timer(pause: Duration) -> Option<Sleep> {
    catch_unwind(|| sleep(pause)).ok()
}
