//! The messages of one pub/sub channel, on a connection of their own.

use std::pin::pin;

use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream, StreamExt};
use redis::aio::PubSub;
use tokio::sync::mpsc::{self, Sender};

use super::connection::Supervisor;
use crate::defaults;
use crate::error::CacheResult;

impl Supervisor {
    /// The payloads published in `channel` from now on. Ends with the connection, when the connections are closed for
    /// good, and when more than [`defaults::MESSAGES_WAITING`] wait to be taken: whoever listens must then find out
    /// otherwise what was missed.
    ///
    /// # Errors
    /// As [`query`](Self::query), at once while the server is known to be away.
    pub(crate) async fn subscribe(&self, channel: &str) -> CacheResult<BoxStream<'static, Vec<u8>>> {
        let server = self.reachable().await?;
        let subscription = server.open_subscription(channel).await?;
        let (sender, receiver) = mpsc::channel(defaults::MESSAGES_WAITING);
        // The client itself would let messages wait without bound.
        tokio::spawn(async move {
            select(pin!(pass_on(subscription, sender)), pin!(server.closing())).await;
        });
        let payloads = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        Ok(payloads.boxed())
    }
}

/// Until the connection ends, nobody listens any more, or too much waits.
async fn pass_on(subscription: PubSub, sender: Sender<Vec<u8>>) {
    let mut messages = subscription.into_on_message();
    loop {
        match select(messages.next(), pin!(sender.closed())).await {
            Either::Left((Some(message), _)) if sender.try_send(message.get_payload_bytes().to_vec()).is_ok() => {}
            _ => return,
        }
    }
}
