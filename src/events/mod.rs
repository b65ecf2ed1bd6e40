//! Received events, and the bridge's own: from the frame on disk to the last webhook that wants it.

pub mod agent;
mod assembly;
mod counters;
mod envelope;
mod id;
mod kept;
mod kind;
pub mod lanes;
mod memory;
mod places;
mod receive;
pub mod recent;
mod rendering;
mod report;
mod retention;
mod streams;
mod subscriber;
mod subscribers;
mod text;
mod traces;

pub use agent::{Agent, AgentRecord, AgentSession, Partner};
pub use counters::EventCounters;
pub use envelope::{Assembled, Body, Completeness, event_type, event_type_label};
pub use id::{EventId, InvalidEventId};
pub use kind::EventKind;
pub use receive::{Awaited, Events, Received, Reception};
pub use rendering::{Unrendered, render};
pub use report::{Gap, Report};
pub use subscriber::{
    Ahead, DeliveryCounts, LanePlace, LastOutcome, Subscriber, WebhookState, WebhookStatus,
};
pub use subscribers::{Route, Subscribers};
pub use text::{Attachment, Choice, Content, content, plain_text, speaker};

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    messages::ClientMessageId,
    names::{BotName, UserName},
    store::{Store, StoreError, StoredEvent, UserNumber},
};

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The socket.
    Live,
    /// The platform's history, after a gap.
    History,
    /// The bridge itself, which reports something.
    Bridge,
    /// The bridge, which made one event of a streamed answer's chunks.
    Assembled,
}

/// Who speaks in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The bot.
    Bot,
    /// A human agent.
    Agent,
    /// The user, on another connection.
    User,
    /// The platform, or the bridge itself.
    Platform,
}

/// An event on stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `webhook-id` it is known by, at every webhook.
    pub id: EventId,
    /// Whose connection it came on.
    pub user: UserName,
    /// That user's bot at the time.
    pub bot: BotName,
    /// The frame's `type`, as it came, empty for none; or the report's.
    pub kind: EventKind,
    /// When it was received.
    pub received_at: Timestamp,
    /// The latest message of the user that was sent before it.
    pub in_reply_to: Option<ClientMessageId>,
    /// Where it came from.
    pub source: Source,
    /// Who speaks.
    pub speaker: Speaker,
    /// The platform's frame, byte for byte; or the report; or what was assembled and its last frame.
    pub frame: Bytes,
}

impl Event {
    /// A user's event, as the store has it.
    pub fn of(store: &Store, user: UserNumber, stored: StoredEvent) -> Result<Self, StoreError> {
        let StoredEvent { number, bot, kind, received_at, in_reply_to, source, speaker, frame, .. } = stored;
        Ok(Self {
            id: store.event_id(number),
            user: store.user_name(user)?,
            bot: store.bot_name(bot)?,
            kind,
            received_at,
            in_reply_to,
            source,
            speaker,
            frame,
        })
    }
}
