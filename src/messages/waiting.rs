//! Waiting until a message is as far as a caller wants it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{ClientMessageId, MessageRecord, MessageStatus, Messages, queue::Shared};
use crate::store::{StoreError, UserNumber};

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A final status.
    Final,
    /// A bot's answer, or a final status other than acked.
    Reply,
}

impl Until {
    fn is_over(self, record: &MessageRecord) -> bool {
        match self {
            Self::Final => record.is_final(),
            Self::Reply => {
                !record.replies.is_empty() || (record.is_final() && record.status != MessageStatus::Acked)
            }
        }
    }
}

/// For the API.
impl Messages {
    /// Waits until the message is as far as `until`, or `limit` is over; answers with what is
    /// remembered of it then.
    pub async fn wait(
        &self,
        user: UserNumber,
        id: ClientMessageId,
        until: Until,
        limit: Duration,
    ) -> Result<Option<MessageRecord>, StoreError> {
        let deadline = tokio::time::Instant::now() + limit;
        let watch = self.shared.watch(user, id);
        loop {
            let mut changed = std::pin::pin!(watch.changed.notified());
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            let record = self.find(user, id)?;
            if record.as_ref().is_none_or(|record| until.is_over(record))
                || tokio::time::timeout_at(deadline, changed).await.is_err()
            {
                return Ok(record);
            }
        }
    }
}

/// For events.
impl Messages {
    /// Whether a caller waits for something to become of this message.
    pub fn is_watched(&self, user: UserNumber, id: ClientMessageId) -> bool {
        self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(user, id))
    }
}

impl Shared {
    fn watch(self: &Arc<Self>, user: UserNumber, id: ClientMessageId) -> Watch {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = Arc::clone(watchers.entry((user, id)).or_default());
        Watch { shared: Arc::clone(self), key: (user, id), changed }
    }

    pub(super) fn notify(&self, user: UserNumber, id: ClientMessageId) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = watchers.get(&(user, id)) {
            changed.notify_waiters();
        }
    }
}

/// A caller's interest in one message; forgotten with the last caller.
struct Watch {
    shared: Arc<Shared>,
    key: (UserNumber, ClientMessageId),
    changed: Arc<Notify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one.
        if Arc::strong_count(&self.changed) == 2 {
            watchers.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, store::testing};

    #[tokio::test]
    async fn a_message_is_watched_as_long_as_any_caller_waits() {
        let (directory, store) = testing::store();
        let kept = testing::settings(directory.path());
        let messages = Messages::load(store, config::Messages::default(), &kept).unwrap();
        let (alice, id) = (UserNumber(1), ClientMessageId::new(7).unwrap());
        let [first, second] = [messages.shared.watch(alice, id), messages.shared.watch(alice, id)];
        drop(first);
        assert!(messages.is_watched(alice, id));
        assert!(!messages.is_watched(UserNumber(2), id));
        drop(second);
        assert!(!messages.is_watched(alice, id));
    }
}
