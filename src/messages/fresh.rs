//! What messages say that are about to be sent: kept for the moment between their commit and their frame, so that
//! it needs not be read back from the store.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{MessageContent, MessageNumber};

/// So many bytes of all users are kept; whatever is beyond that is read from the store.
const MOST_BYTES: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Fresh(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    contents: HashMap<MessageNumber, MessageContent>,
    bytes: usize,
}

impl Fresh {
    /// Keeps what a message says, if there is room.
    pub(super) fn put(&self, number: MessageNumber, content: MessageContent) {
        let mut kept = self.lock();
        let bytes = kept.bytes + size_of(&content);
        if bytes <= MOST_BYTES {
            kept.contents.insert(number, content);
            kept.bytes = bytes;
        }
    }

    /// What a message says, if it is kept; from now on it is not.
    pub(super) fn take(&self, number: MessageNumber) -> Option<MessageContent> {
        let mut kept = self.lock();
        let content = kept.contents.remove(&number)?;
        kept.bytes -= size_of(&content);
        Some(content)
    }

    /// How much is kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With what it takes beside its bytes.
fn size_of(content: &MessageContent) -> usize {
    256 + content.fields.len() + content.bot_custom_data.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn content(length: usize) -> MessageContent {
        MessageContent { fields: Bytes::from(vec![b'x'; length]), bot_custom_data: None }
    }

    #[test]
    fn what_is_put_can_be_taken_once() {
        let fresh = Fresh::default();
        fresh.put(MessageNumber(1), content(10));
        assert_eq!(fresh.take(MessageNumber(2)), None);
        assert_eq!(fresh.take(MessageNumber(1)), Some(content(10)));
        assert_eq!(fresh.take(MessageNumber(1)), None);
    }

    #[test]
    fn there_is_a_limit_to_all_together() {
        let fresh = Fresh::default();
        for number in 0..100 {
            fresh.put(MessageNumber(number), content(100_000));
        }
        assert_eq!(fresh.lock().contents.len(), 10);
        fresh.put(MessageNumber(100), content(100));
        assert_eq!(fresh.take(MessageNumber(100)), Some(content(100)), "a small one still fits");
        for number in 0..100 {
            fresh.take(MessageNumber(number));
        }
        assert_eq!(fresh.bytes(), 0);
    }
}
