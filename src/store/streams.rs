//! Where streamed answers begin that are not assembled yet: what a restart must read again.

use sled::IVec;

use super::{
    EncodedEvent, OnDurable, Reserved, Store, StoreError, UserNumber,
    commit::{Transaction, Write},
    events::number_of,
    keys,
};

/// What an event changes about the user's streamed answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamMark {
    /// Nothing.
    Keep,
    /// All that are not assembled begin behind the event of this number.
    Behind(u64),
    /// All are assembled.
    None,
}

impl Store {
    /// As [`Store::append_event`], for a part of a streamed answer, or what became of one; both reach the
    /// disk together.
    pub fn append_streamed(
        &self,
        event: EncodedEvent,
        mark: StreamMark,
        reserved: Reserved,
        on_durable: OnDurable,
    ) -> Result<u64, StoreError> {
        let write = mark.write(event.user);
        let transaction = Transaction { writes: write.into_iter().collect(), ..Transaction::default() };
        self.append_event_in(transaction, event, reserved, on_durable)
    }

    /// Behind which events of which users there may be streamed answers that are not assembled.
    pub fn stream_marks(&self) -> Result<Vec<(UserNumber, u64)>, StoreError> {
        let marks = self.db.scan_prefix([keys::kind::STREAMS]);
        marks
            .map(|entry| {
                let (key, value) = entry?;
                let damaged = || StoreError::Unreadable("a key is damaged".to_owned());
                let user = keys::leading_u32(&key).map(UserNumber).ok_or_else(damaged)?;
                Ok((user, number_of(&value)?))
            })
            .collect()
    }

    /// Notes that a user has no streamed answers that are not assembled.
    pub fn forget_streams(&self, user: UserNumber) {
        self.committer.defer(Write::Remove(keys::streams(user)));
    }
}

impl StreamMark {
    fn write(self, user: UserNumber) -> Option<Write> {
        match self {
            Self::Keep => None,
            Self::Behind(event) => Some(Write::Put(keys::streams(user), IVec::from(&event.to_be_bytes()))),
            Self::None => Some(Write::Remove(keys::streams(user))),
        }
    }
}
