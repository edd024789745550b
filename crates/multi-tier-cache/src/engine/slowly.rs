//! What most calls never come to, kept out of what they do come to.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Makes a future that lives in a box and is made and polled out of line. A call that ends before it is small, and moves
/// nothing that is meant for it.
#[cold]
#[inline(never)]
pub(crate) fn slowly<F: Future>(make: impl FnOnce() -> F) -> Slowly<F> {
    Slowly(Box::pin(make()))
}

pub(crate) struct Slowly<F>(Pin<Box<F>>);

impl<F: Future> Future for Slowly<F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(context)
    }
}
