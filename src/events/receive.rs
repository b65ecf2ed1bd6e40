//! From a frame to an event in the store.

use std::sync::Arc;

use bytes::Bytes;

use super::{EventId, Source};
use crate::{clock::Timestamp, messages::ClientMessageId, store::StoreError, users::User};

/// A frame as its session hands it over.
#[derive(Debug, Clone)]
pub struct Received {
    /// The frame, byte for byte; a JSON object.
    pub frame: Bytes,
    /// When it was read from the socket.
    pub at: Timestamp,
    /// The user's latest message that was sent before it.
    pub in_reply_to: Option<ClientMessageId>,
    /// Where it came from.
    pub source: Source,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Reception {
    /// It is an event now, on its way to stable storage; await `durable` before telling anyone.
    Event {
        /// Its id.
        id: EventId,
        /// Answers when it is on stable storage.
        durable: tokio::sync::oneshot::Receiver<()>,
    },
    /// The same bytes under the same identity came before, or the bridge itself sent them: nothing
    /// was stored.
    Repeat,
}

/// Received events, of all users.
#[derive(Debug)]
pub struct Events {}

impl Events {
    /// Takes a frame. Waits while the store has too much to write already, so that a caller that
    /// reads its socket only after this returns never reads more than memory allows. Frames of one
    /// user must be handed over one after the other; they need not be awaited to be durable.
    pub async fn receive(&self, user: &Arc<User>, received: Received) -> Result<Reception, StoreError> {
        let _ = (user, received);
        todo!()
    }
}
