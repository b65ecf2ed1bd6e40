//! Accepted messages: from the `202` to their final status.
//!
//! A message is *queued* when its commit is on disk, *sent* when its frame went out on an open
//! socket, *acked* or *rejected* by the platform's verdict, or *expired*. The last three are final.
//! Per user, messages are sent in the order in which they were accepted.

mod content;
mod counters;
mod draft;
mod fresh;
mod id;
mod json;
mod list;
mod load;
mod own;
mod progress;
mod queue;
mod record;
mod repeats;
mod retention;
mod signals;
#[cfg(test)]
mod tests;
mod turns;
pub mod urlencoded;
mod view;
mod waiting;

pub use content::BotInfo;
pub use counters::MessageCounters;
pub use draft::{DraftAndId, DraftError, DraftFault, FilePart};
pub use id::{ClientMessageId, InvalidId};
pub use list::{MessagePage, Selection};
pub use own::{Arrival, OwnMessage};
pub use queue::{AcceptError, Accepted, IdempotencyKey, Interest, Messages, Novelty};
pub use record::{Certainty, Expectation, FinalReason, Fingerprint, MessageRecord, MessageStatus, Verdict};
pub use signals::{SignalError, UserSignal};
pub use turns::ReplyTurn;
pub use view::MessageView;
pub use waiting::Until;

use bytes::Bytes;

use crate::{clock::Timestamp, trace::TraceContext};

/// A message's place in the order of acceptance, over all users, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct MessageNumber(pub u64);

/// What a message says, as it goes into its frame: everything but what is always the bridge's
/// (`id`, `clientMessageId`, `botInfo`, `client`, `meta`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MessageContent {
    /// A JSON object with at least `resourceid`, without white space around it.
    pub fields: Bytes,
    /// A JSON value for `botInfo.customData`.
    pub bot_custom_data: Option<Bytes>,
}

/// A message that was checked and may be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it says.
    pub content: MessageContent,
    /// Whether the platform acks it.
    pub expectation: Expectation,
    /// Its content's fingerprint: equal for the same message, whatever its bytes.
    pub fingerprint: Fingerprint,
    /// The fingerprint of its plain text, by which an echo of it is recognised.
    pub text_fingerprint: Fingerprint,
    /// The trace that its caller named; no part of what makes it the same message.
    pub trace: Option<Box<TraceContext>>,
}

/// A message that waits for its turn, as its session sees it. The content stays behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its place in the order.
    pub number: MessageNumber,
    /// The id it is known by.
    pub id: ClientMessageId,
    /// Whether the platform acks it.
    pub expectation: Expectation,
    /// When it expires if it isn't acked.
    pub expires_at: Timestamp,
    /// Whether it was, or may have been, sent before the daemon's last restart.
    pub certainty: Certainty,
}
