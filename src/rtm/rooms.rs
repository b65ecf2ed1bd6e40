//! What a connection needs of the daemon's other rooms.
//!
//! A trait, so that a connection can be driven over a real socket in a test without a store.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    clock::Timestamp,
    events::{Events, Received, Reception, Report},
    messages::{ClientMessageId, MessageContent, MessageNumber, Messages, OwnMessage, Verdict},
    rtm::frame::FrameHead,
    store::{Said, Store, StoreError, UserNumber, UserRecord},
    users::User,
};

/// See the [module](self). Each method is that of the same name of [`Messages`], [`Events`] or
/// [`Store`].
pub(super) trait Rooms: Send + Sync + 'static {
    fn content(&self, user: UserNumber, number: MessageNumber) -> Result<MessageContent, StoreError>;
    fn sent(&self, user: UserNumber, number: MessageNumber, at: Timestamp);
    fn message_ended(
        &self,
        user: &Arc<User>,
        number: MessageNumber,
        at: Timestamp,
        verdict: Verdict,
    ) -> impl Future<Output = ()> + Send;
    fn announce(
        &self,
        user: &Arc<User>,
        report: Report,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    fn receive(
        &self,
        user: &Arc<User>,
        head: &FrameHead<'_>,
        received: Received,
    ) -> impl Future<Output = Result<Reception, StoreError>> + Send;
    fn save_user(&self, user: UserNumber, record: &UserRecord) -> oneshot::Receiver<()>;
    fn settled(&self) -> oneshot::Receiver<()>;

    // ---- For recovering what was missed.

    fn knows(&self, user: UserNumber, identity: &str) -> bool;
    /// What the history says of an event that came live.
    fn told_by_history(&self, user: UserNumber, identity: &str, text: &str);
    fn said(&self, user: UserNumber) -> Vec<Said>;
    fn own(&self, user: UserNumber, id: ClientMessageId) -> Result<Option<OwnMessage>, StoreError>;
    fn own_within(&self, user: UserNumber, span: Duration) -> Result<Vec<OwnMessage>, StoreError>;
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

    fn message_ended(
        &self,
        user: &Arc<User>,
        number: MessageNumber,
        at: Timestamp,
        verdict: Verdict,
    ) -> impl Future<Output = ()> + Send {
        self.events.message_ended(user, number, at, verdict)
    }

    fn announce(
        &self,
        user: &Arc<User>,
        report: Report,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.events.announce(user, report)
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

    fn settled(&self) -> oneshot::Receiver<()> {
        self.store.settled()
    }

    fn knows(&self, user: UserNumber, identity: &str) -> bool {
        self.events.knows(user, identity)
    }

    fn told_by_history(&self, user: UserNumber, identity: &str, text: &str) {
        self.events.told_by_history(user, identity, text);
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
}
