//! Waiting, also where no runtime has a timer.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

/// A timer, if there is a runtime that has one.
pub(super) fn timer(duration: Duration) -> Option<Sleep> {
    Handle::try_current().ok()?;
    catch_unwind(|| sleep(duration)).ok()
}

/// What `work` gives within `patience`; without a timer, whatever it gives.
pub(crate) async fn within<R>(patience: Option<Duration>, work: impl Future<Output = R>) -> Option<R> {
    match patience.and_then(timer) {
        Some(timer) => match select(pin!(work), pin!(timer)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        },
        None => Some(work.await),
    }
}

/// Pauses where there is a timer, else lets others go on.
pub(super) async fn rest(pause: Duration) {
    match timer(pause) {
        Some(timer) => timer.await,
        None => tokio::task::yield_now().await,
    }
}
