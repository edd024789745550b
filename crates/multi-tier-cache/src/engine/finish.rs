//! Work that is carried out even if its caller goes away, and what is done where even that is not possible.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use super::Engine;
use crate::backends::glob::Glob;
use crate::coordinator::Tag;

/// Polls `work` within its caller; dropped before it is done, it goes on in a task of its own. Outside a Tokio runtime
/// it ends with its caller.
pub(crate) fn finish<F>(work: F) -> Finish<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    Finish { work: Some(Box::pin(work)), runtime: Handle::try_current().ok() }
}

pub(crate) struct Finish<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    work: Option<Pin<Box<F>>>,
    runtime: Option<Handle>,
}

impl<F> Finish<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// Ends the work where it is.
    pub(crate) fn abandon(mut self) {
        self.work = None;
    }
}

impl<F> Future for Finish<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out, so that work which panics is not polled again by `drop`.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let poll = work.as_mut().poll(context);
        if poll.is_pending() {
            self.work = Some(work);
        }
        poll
    }
}

impl<F> Drop for Finish<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        if let (Some(work), Some(runtime)) = (self.work.take(), self.runtime.take()) {
            runtime.spawn(work);
        }
    }
}

/// A change that has begun. Dropped before it is done (outside Tokio, or as a runtime shuts down), it leaves this
/// process clean and every awaited tier owing the removal.
pub(super) struct Unfinished<'a> {
    engine: &'a Engine,
    what: What<'a>,
    done: bool,
}

enum What<'a> {
    Key(Arc<str>),
    Pattern(&'a str, &'a Glob),
    Tag(&'a Tag),
}

impl<'a> Unfinished<'a> {
    pub(super) fn key(engine: &'a Engine, key: &Arc<str>) -> Self {
        Self { engine, what: What::Key(Arc::clone(key)), done: false }
    }

    pub(super) fn pattern(engine: &'a Engine, pattern: &'a str, glob: &'a Glob) -> Self {
        Self { engine, what: What::Pattern(pattern, glob), done: false }
    }

    pub(super) fn tag(engine: &'a Engine, tag: &'a Tag) -> Self {
        Self { engine, what: What::Tag(tag), done: false }
    }

    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match &self.what {
            What::Key(key) => {
                self.engine.remotes().for_each(|(_, remote)| remote.owe(key));
                self.engine.local.revoke(key);
            }
            What::Pattern(pattern, glob) => {
                self.engine.remotes().for_each(|(_, remote)| remote.owe_pattern(pattern));
                self.engine.local.revoke_where(&|key| glob.matches(key));
            }
            What::Tag(tag) => {
                if let Some(shared) = &self.engine.shared {
                    shared.remote.owe_tag(tag);
                }
                self.engine.local.revoke_tag(tag);
            }
        }
    }
}
