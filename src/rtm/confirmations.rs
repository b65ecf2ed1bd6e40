//! Delivery acks: what is confirmed to the platform once an event is on stable storage, and not
//! before.

use std::{collections::VecDeque, future::pending};

use tokio::sync::oneshot;

/// A delivery ack that waits for its event to be durable.
#[derive(Debug)]
pub(super) struct Confirmation {
    /// Answers when the event is durable.
    pub(super) durable: oneshot::Receiver<()>,
    /// The ack's frame.
    pub(super) frame: String,
}

/// Delivery acks in the order of their events, which is the order in which those become durable.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    waiting: VecDeque<Confirmation>,
    trust: Trust,
}

/// Whether the store keeps what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Trust {
    #[default]
    Kept,
    /// It failed: what it took before may be lost, so nothing is confirmed any more.
    Lost,
}

impl Confirmations {
    /// So many may wait; then frames are left unread until there is room.
    const MOST: usize = 256;

    /// Adds one.
    pub(super) fn push(&mut self, confirmation: Confirmation) {
        if self.trust == Trust::Kept {
            self.waiting.push_back(confirmation);
        }
    }

    /// Whether no more may be added for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= Self::MOST
    }

    /// The frame of the next one, when its event is durable; waits for ever if there is none.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> String {
        loop {
            let Some(first) = self.waiting.front_mut() else { return pending().await };
            if (&mut first.durable).await.is_err() {
                self.distrust();
                continue;
            }
            if let Some(first) = self.waiting.pop_front() {
                if self.waiting.is_empty() {
                    // An idle user holds no buffer.
                    self.waiting = VecDeque::new();
                }
                return first.frame;
            }
        }
    }

    /// The store failed: whatever it took may be lost.
    pub(super) fn distrust(&mut self) {
        self.trust = Trust::Lost;
        self.forget();
    }

    /// The socket is gone: nothing is confirmed on another one.
    pub(super) fn forget(&mut self) {
        self.waiting = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot::channel;

    use super::*;

    fn confirmation(durable: oneshot::Receiver<()>, frame: &str) -> Confirmation {
        Confirmation { durable, frame: frame.into() }
    }

    /// Of what is durable already.
    fn settled(frame: &str) -> Confirmation {
        let (sender, durable) = channel();
        sender.send(()).unwrap();
        confirmation(durable, frame)
    }

    #[tokio::test]
    async fn in_order_and_only_when_durable() {
        let mut confirmations = Confirmations::default();
        let ((first, waits_first), (second, waits_second)) = (channel(), channel());
        confirmations.push(confirmation(waits_first, "1"));
        confirmations.push(confirmation(waits_second, "2"));
        confirmations.push(settled("3"));
        second.send(()).unwrap();
        assert!(confirmations.next().now_or_never().is_none(), "the first is not durable");
        first.send(()).unwrap();
        for expected in ["1", "2", "3"] {
            assert_eq!(confirmations.next().await, expected);
        }
    }

    #[tokio::test]
    async fn once_the_store_failed_nothing_is_confirmed() {
        let mut confirmations = Confirmations::default();
        let (failed, waits) = channel();
        confirmations.push(confirmation(waits, "1"));
        // A repeat of it.
        confirmations.push(settled("1 again"));
        drop(failed);
        assert_eq!(confirmations.next().now_or_never(), None);
        confirmations.push(settled("2"));
        assert_eq!(confirmations.next().now_or_never(), None);
    }
}
