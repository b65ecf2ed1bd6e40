//! The queue of accepted messages.

use std::{sync::Arc, time::Duration};

use super::{ClientMessageId, Draft, MessageContent, MessageNumber, MessageRecord, QueuedMessage, Verdict};
use crate::{
    clock::Timestamp,
    events::EventId,
    names::ClientName,
    store::{StoreError, UserNumber},
    users::User,
};

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The id it is known by from now on.
    pub id: ClientMessageId,
    /// What is remembered of it; for a repeat, as it stands now.
    pub record: MessageRecord,
    /// Whether it was new.
    pub novelty: Novelty,
}

/// Whether a message was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It was accepted just now.
    New,
    /// The same message had been accepted before, under the same id or idempotency key.
    Repeat,
}

/// A caller's name for a request, by which a repeat of it is recognised (kept 24 h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is; none where no clients are configured.
    pub client: Option<ClientName>,
    /// The key, 1 to 255 bytes.
    pub key: String,
}

/// Why a message was not accepted. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The id belongs to another message of this user.
    #[error("clientMessageId {0} belongs to another message of this user")]
    IdTaken(ClientMessageId),
    /// The idempotency key was used for another message.
    #[error("this Idempotency-Key was used for another message")]
    KeyReused,
    /// The user's queue is full.
    #[error(
        "{queued} messages of this user are waiting to be sent, which is the most that may (messages.max_queued)"
    )]
    QueueFull {
        /// How many wait.
        queued: usize,
    },
    /// A frame that is sent only once can't wait for a connection.
    #[error("the user is not connected, and a frame of this kind is not kept for later")]
    NotConnected,
    /// The store can't take it now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A final status.
    Final,
    /// A bot's answer, or a final status other than acked.
    Reply,
}

/// The queue of accepted messages, of all users.
#[derive(Debug)]
pub struct Messages {}

/// For the API.
impl Messages {
    /// Accepts a message: when this returns, it is on stable storage and on its way to its session.
    pub async fn accept(
        &self,
        user: &Arc<User>,
        draft: Draft,
        id: Option<ClientMessageId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted, AcceptError> {
        let _ = (user, draft, id, key);
        todo!()
    }

    /// What is remembered of a message.
    pub fn find(&self, user: UserNumber, id: ClientMessageId) -> Result<Option<MessageRecord>, StoreError> {
        let _ = (user, id);
        todo!()
    }

    /// Waits until the message is as far as `until`, or `limit` is over; answers with what is
    /// remembered of it then.
    pub async fn wait(
        &self,
        user: UserNumber,
        id: ClientMessageId,
        until: Until,
        limit: Duration,
    ) -> Result<Option<MessageRecord>, StoreError> {
        let _ = (user, id, until, limit);
        todo!()
    }

    /// How many messages of the user are not final.
    pub fn queued(&self, user: UserNumber) -> usize {
        let _ = user;
        todo!()
    }
}

/// For sessions.
impl Messages {
    /// The user's messages that are not final, in order: what a session starts with.
    pub fn pending(&self, user: UserNumber) -> Vec<QueuedMessage> {
        let _ = user;
        todo!()
    }

    /// What a waiting message says.
    pub fn content(&self, user: UserNumber, number: MessageNumber) -> Result<MessageContent, StoreError> {
        let _ = (user, number);
        todo!()
    }

    /// Its frame went out on an open socket.
    pub fn sent(&self, user: UserNumber, number: MessageNumber, at: Timestamp) {
        let _ = (user, number, at);
        todo!()
    }

    /// It ended. Being called twice for one message changes nothing the second time.
    pub fn finished(&self, user: UserNumber, number: MessageNumber, at: Timestamp, verdict: Verdict) {
        let _ = (user, number, at, verdict);
        todo!()
    }

    /// The latest message of the user that was sent: what an event answers, as far as anyone knows.
    pub fn last_sent(&self, user: UserNumber) -> Option<ClientMessageId> {
        let _ = user;
        todo!()
    }

    /// An event answers this message.
    pub fn replied(&self, user: UserNumber, id: ClientMessageId, event: EventId) {
        let _ = (user, id, event);
        todo!()
    }
}
