//! What is done once an event is on stable storage, and not before: confirming it to the platform,
//! and telling whoever waits for an answer.

use std::{collections::VecDeque, future::pending};

use tokio::sync::oneshot;

use crate::{events::EventId, messages::ClientMessageId};

/// What waits for an event to be durable.
#[derive(Debug)]
pub(super) struct Sequel {
    /// Answers when the event is durable; nothing to wait for where it was before.
    pub(super) durable: Option<oneshot::Receiver<()>>,
    /// The delivery ack's frame, if one is to be sent.
    pub(super) delivery_ack: Option<String>,
    /// The message that the event answers.
    pub(super) replied: Option<(ClientMessageId, EventId)>,
}

/// Sequels in the order of their events, which is the order in which those become durable.
#[derive(Debug, Default)]
pub(super) struct Aftermath(VecDeque<Sequel>);

impl Aftermath {
    /// So many may wait; then frames are left unread until there is room.
    const MOST: usize = 256;

    /// Adds one, unless it has nothing to do.
    pub(super) fn push(&mut self, sequel: Sequel) {
        if sequel.delivery_ack.is_some() || sequel.replied.is_some() {
            self.0.push_back(sequel);
        }
    }

    /// Whether no more may be added for now.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= Self::MOST
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one, when its event is durable; waits for ever if there is none. Those whose event
    /// never became durable are dropped: the store failed. Cancel-safe.
    pub(super) async fn next(&mut self) -> Sequel {
        loop {
            let Some(first) = self.0.front_mut() else { return pending().await };
            let durable = match &mut first.durable {
                Some(durable) => durable.await.is_ok(),
                None => true,
            };
            let first = self.0.pop_front();
            if self.0.is_empty() {
                // An idle user holds no buffer.
                self.0 = VecDeque::new();
            }
            if let (true, Some(mut first)) = (durable, first) {
                first.durable = None;
                return first;
            }
        }
    }

    /// The socket is gone: nothing is confirmed on another one.
    pub(super) fn forget_acks(&mut self) {
        for sequel in &mut self.0 {
            sequel.delivery_ack = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot::channel;

    use super::*;

    fn sequel(durable: Option<oneshot::Receiver<()>>, ack: &str) -> Sequel {
        Sequel { durable, delivery_ack: Some(ack.into()), replied: None }
    }

    #[tokio::test]
    async fn in_order_and_only_when_durable() {
        let mut aftermath = Aftermath::default();
        let ((first, waits_first), (second, waits_second)) = (channel(), channel());
        aftermath.push(sequel(Some(waits_first), "1"));
        aftermath.push(sequel(Some(waits_second), "2"));
        aftermath.push(sequel(None, "3"));
        second.send(()).unwrap();
        assert!(aftermath.next().now_or_never().is_none(), "the first is not durable");
        first.send(()).unwrap();
        for expected in ["1", "2", "3"] {
            assert_eq!(aftermath.next().await.delivery_ack.as_deref(), Some(expected));
        }
        assert!(aftermath.is_empty());
    }

    #[tokio::test]
    async fn nothing_follows_an_event_that_was_never_stored() {
        let mut aftermath = Aftermath::default();
        let (failed, waits) = channel();
        aftermath.push(sequel(Some(waits), "1"));
        aftermath.push(sequel(None, "2"));
        drop(failed);
        assert_eq!(aftermath.next().await.delivery_ack.as_deref(), Some("2"));
    }
}
