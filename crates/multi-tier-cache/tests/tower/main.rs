//! A service as a tier, with middleware around it; and a cache in front of a service.
#![cfg(all(feature = "tower", feature = "test-util"))]
#![allow(clippy::unwrap_used, missing_docs)]

mod layer;
mod tier;

use std::task::{Context, Poll};

use tokio::sync::watch;
use tower::Service;

/// A service that is ready when the test says so, and must not be called before.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    inner: S,
    open: watch::Receiver<bool>,
    /// This very clone was found ready.
    ready: bool,
}

impl<S> Gate<S> {
    pub(crate) fn new(inner: S, open: watch::Receiver<bool>) -> Self {
        Self { inner, open, ready: false }
    }
}

impl<S: Clone> Clone for Gate<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.open.clone())
    }
}

impl<R, S: Service<R>> Service<R> for Gate<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if !*self.open.borrow() {
            let (mut open, waker) = (self.open.clone(), context.waker().clone());
            tokio::spawn(async move {
                let _ = open.wait_for(|open| *open).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        self.ready = true;
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        assert!(self.ready, "it was called before it was ready");
        self.ready = false;
        self.inner.call(request)
    }
}
