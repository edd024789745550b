//! What the subscribers of users' programs share: how long they run, what a message means to them, and the handler.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::str;
use std::sync::Arc;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time::sleep;

use super::message::InvalidationMessage;
use super::stats::Counts;
use crate::coordinator::Recorded;
use crate::coordinator::message::{Message, parse};
use crate::defaults;
use crate::error::{CacheError, CacheResult};

/// How long the tasks of a subscriber run: until it is ended or dropped.
#[derive(Debug, Default)]
pub(super) struct Lifetime(watch::Sender<bool>);

impl Lifetime {
    pub(super) fn end(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn watch(&self) -> End {
        End(self.0.subscribe())
    }
}

/// The end of a [`Lifetime`], as its tasks see it.
pub(super) struct End(watch::Receiver<bool>);

impl End {
    /// What `work` gives; `None`, with `work` dropped, if the end comes first.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        // Fails when the sender is gone, which is the end too.
        match select(pin!(self.0.wait_for(|ended| *ended)), pin!(work)).await {
            Either::Left(_) => None,
            Either::Right((given, _)) => Some(given),
        }
    }
}

/// Jittered pauses between attempts, without a last one.
pub(super) fn pauses() -> ExponentialBackoff {
    // The jitter adds up to as much again.
    let pauses = ExponentialBuilder::new()
        .with_min_delay(defaults::RECONNECT_PAUSE_MIN)
        .with_max_delay(defaults::RECONNECT_PAUSE_MAX / 2)
        .with_jitter()
        .without_max_times();
    pauses.build()
}

/// Waits before the next attempt.
pub(super) async fn pause(pauses: &mut ExponentialBackoff) {
    sleep(pauses.next().unwrap_or(defaults::RECONNECT_PAUSE_MAX)).await;
}

/// A user's handler, and what was given to it.
pub(super) struct Delivery<F> {
    handler: F,
    counts: Arc<Counts>,
}

impl<F, Fut> Delivery<F>
where
    F: Fn(InvalidationMessage) -> Fut,
    Fut: Future<Output = CacheResult<()>>,
{
    pub(super) fn new(handler: F, counts: &Arc<Counts>) -> Self {
        Self { handler, counts: Arc::clone(counts) }
    }

    /// Hands over what came through the channel.
    pub(super) async fn payload(&self, payload: &[u8]) {
        self.counts.received.one();
        let outcome = match understand(payload) {
            Ok(Some(heard)) => {
                self.count(&heard);
                self.hand_over(heard.message).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.failed(&error);
        }
    }

    /// Hands over an entry of the log, and again while its handler fails, up to [`defaults::HANDLER_ATTEMPTS`] times.
    /// `None` if the end came before the handler was done with it.
    pub(super) async fn entry(&self, change: &Recorded, end: &mut End) -> Option<()> {
        self.counts.received.one();
        let Some(heard) = Heard::of(change) else { return Some(()) };
        self.count(&heard);
        let mut pauses = pauses();
        for _ in 1..defaults::HANDLER_ATTEMPTS {
            match self.hand_over(heard.message.clone()).await {
                Ok(()) => return Some(()),
                Err(error) => tracing::debug!(%error, "the handler of a subscriber failed, retrying"),
            }
            end.or(pause(&mut pauses)).await?;
        }
        if let Err(error) = self.hand_over(heard.message).await {
            self.failed(&error);
        }
        Some(())
    }

    /// # Errors
    /// The handler's; `InternalError` if it panicked.
    async fn hand_over(&self, message: InvalidationMessage) -> CacheResult<()> {
        let outcome = AssertUnwindSafe(async { (self.handler)(message).await }).catch_unwind().await;
        outcome.unwrap_or_else(|_| Err(CacheError::InternalError("the handler of a subscriber panicked".to_owned())))
    }

    fn failed(&self, error: &CacheError) {
        tracing::warn!(%error, "an invalidation message was not handled");
        self.counts.errors.one();
    }

    fn count(&self, heard: &Heard) {
        match &heard.message {
            _ if heard.updated => self.counts.updates.one(),
            InvalidationMessage::Remove { .. } => self.counts.removes.one(),
            InvalidationMessage::Update { .. } => self.counts.updates.one(),
            InvalidationMessage::RemovePattern { .. } => self.counts.patterns.one(),
            InvalidationMessage::RemoveBulk { .. } => self.counts.bulk_removes.one(),
        }
    }
}

/// A message in users' terms. `updated` if its author announced a new value.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    message: InvalidationMessage,
    updated: bool,
}

impl Heard {
    /// `None` for the revocation of a tag, which users' programs have no message for: they do not know the tags of
    /// keys.
    fn of(change: &Recorded) -> Option<Self> {
        let message = match change {
            Recorded::Keys(keys) => match keys.as_slice() {
                [key] => InvalidationMessage::remove(&**key),
                keys => InvalidationMessage::remove_bulk(keys.iter().map(ToString::to_string).collect()),
            },
            Recorded::Put(key) => InvalidationMessage::remove(&**key),
            Recorded::Pattern(pattern) => InvalidationMessage::remove_pattern(&**pattern),
            Recorded::Clear | Recorded::Unknown => InvalidationMessage::remove_pattern("*"),
            Recorded::Tag(_) => return None,
        };
        Some(Self { message, updated: matches!(change, Recorded::Put(_)) })
    }
}

/// # Errors
/// `SerializationError` for what is no message.
fn understand(payload: &[u8]) -> CacheResult<Option<Heard>> {
    if payload.len() > defaults::MESSAGE_BYTES_MAX {
        return Err(CacheError::SerializationError("an invalidation message is over the limit".into()));
    }
    let (change, updated) = match parse(payload)? {
        Message::Logged(record) => return Ok(Heard::of(&record.change)),
        Message::Foreign { change, updated } => (change, updated),
    };
    // As it was written: with the value of an `Update`.
    let plain = str::from_utf8(payload).ok().and_then(|json| InvalidationMessage::from_json(json).ok());
    Ok(plain.map(|message| Heard { message, updated }).or_else(|| Heard::of(&change)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::Position;
    use crate::coordinator::message::{body, chained};

    fn heard(json: &str) -> Option<InvalidationMessage> {
        understand(json.as_bytes()).unwrap().map(|heard| heard.message)
    }

    #[test]
    fn what_a_cache_says_is_told_in_the_four_messages() {
        let at = Position { epoch: 1, seq: 2, nonce: 3 };
        let said = |change: Recorded| understand(chained(&body(&change), at, 0).as_bytes()).unwrap();
        let everything = InvalidationMessage::remove_pattern("*");
        for (change, message, updated) in [
            (Recorded::Keys(vec!["k".into()]), InvalidationMessage::remove("k"), false),
            (Recorded::Put("k".into()), InvalidationMessage::remove("k"), true),
            (
                Recorded::Keys(vec!["a".into(), "b".into()]),
                InvalidationMessage::remove_bulk(vec!["a".into(), "b".into()]),
                false,
            ),
            (Recorded::Pattern("p*".into()), InvalidationMessage::remove_pattern("p*"), false),
            (Recorded::Clear, everything.clone(), false),
        ] {
            assert_eq!(said(change), Some(Heard { message, updated }));
        }
        assert_eq!(said(Recorded::Tag("t".into())), None);
        assert_eq!(heard(&chained(r#"{"type":"RemoveLater"}"#, at, 0)), Some(everything));
    }

    #[test]
    fn a_plain_message_is_told_as_it_was_written() {
        let update = InvalidationMessage::update("k", bytes::Bytes::from_static(b"\x01"), None);
        assert_eq!(heard(&update.to_json().unwrap()), Some(update));
        assert_eq!(heard(r#"{"type":"Update","key":"k"}"#), Some(InvalidationMessage::remove("k")));
        assert_eq!(heard(r#"{"type":"Clear"}"#), Some(InvalidationMessage::remove_pattern("*")));
        assert!(understand(b"{}").is_err());
        assert!(understand(&vec![b' '; defaults::MESSAGE_BYTES_MAX + 1]).is_err());
    }
}
