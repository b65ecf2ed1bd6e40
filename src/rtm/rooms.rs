//! What a connection needs of the daemon's other rooms.
//!
//! A trait, so that a connection can be driven over a real socket in a test without a store.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    clock::Timestamp,
    events::{Events, Received, Reception},
    messages::{ClientMessageId, MessageContent, MessageNumber, Messages, OwnMessage, Verdict},
    rtm::{frame::FrameHead, recovery::Gap},
    store::{Said, Store, StoreError, UserNumber, UserRecord},
    users::User,
};

/// See the [module](self). Each method is that of the same name of [`Messages`], [`Events`] or
/// [`Store`].
pub(super) trait Rooms: Send + Sync + 'static {
    fn content(&self, user: UserNumber, number: MessageNumber) -> Result<MessageContent, StoreError>;
    fn sent(&self, user: UserNumber, number: MessageNumber, at: Timestamp);
    fn finished(&self, user: UserNumber, number: MessageNumber, at: Timestamp, verdict: Verdict);
    fn receive(
        &self,
        user: &Arc<User>,
        head: &FrameHead<'_>,
        received: Received,
    ) -> impl Future<Output = Result<Reception, StoreError>> + Send;
    fn save_user(&self, user: UserNumber, record: &UserRecord) -> oneshot::Receiver<()>;

    // ---- For recovering what was missed.

    fn knows(&self, user: UserNumber, identity: &str) -> bool;
    fn said(&self, user: UserNumber) -> Vec<Said>;
    fn own(&self, user: UserNumber, id: ClientMessageId) -> Result<Option<OwnMessage>, StoreError>;
    fn own_within(&self, user: UserNumber, span: Duration) -> Result<Vec<OwnMessage>, StoreError>;
    /// Something was missed: tells whoever wants to know.
    fn gap(&self, user: &Arc<User>, gap: &Gap);
}

/// The daemon's own rooms.
#[derive(Debug)]
pub(super) struct DaemonRooms {
    pub(super) store: Arc<Store>,
    pub(super) messages: Messages,
    pub(super) events: Events,
}

impl Rooms for DaemonRooms {
    fn content(&self, user: UserNumber, number: MessageNumber) -> Result<MessageContent, StoreError> {
        self.messages.content(user, number)
    }

    fn sent(&self, user: UserNumber, number: MessageNumber, at: Timestamp) {
        self.messages.sent(user, number, at);
    }

    fn finished(&self, user: UserNumber, number: MessageNumber, at: Timestamp, verdict: Verdict) {
        self.messages.finished(user, number, at, verdict);
    }

    fn receive(
        &self,
        user: &Arc<User>,
        head: &FrameHead<'_>,
        received: Received,
    ) -> impl Future<Output = Result<Reception, StoreError>> + Send {
        self.events.receive(user, head, received)
    }

    fn save_user(&self, user: UserNumber, record: &UserRecord) -> oneshot::Receiver<()> {
        self.store.save_user(user, record)
    }

    fn knows(&self, user: UserNumber, identity: &str) -> bool {
        self.events.knows(user, identity)
    }

    fn said(&self, user: UserNumber) -> Vec<Said> {
        self.events.said(user)
    }

    fn own(&self, user: UserNumber, id: ClientMessageId) -> Result<Option<OwnMessage>, StoreError> {
        self.messages.own(user, id)
    }

    fn own_within(&self, user: UserNumber, span: Duration) -> Result<Vec<OwnMessage>, StoreError> {
        self.messages.own_within(user, span)
    }

    fn gap(&self, _user: &Arc<User>, _gap: &Gap) {}
}
