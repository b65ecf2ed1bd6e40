//! What is remembered of a message, from acceptance until its retention ends.

use serde::{Deserialize, Serialize};

use super::{Draft, MessageNumber};
use crate::{clock::Timestamp, events::EventId};

/// A message's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// On stable storage, waiting for its turn.
    Queued,
    /// Its frame went out; for a frame that the platform doesn't ack, that is final.
    Sent,
    /// The platform took it.
    Acked,
    /// The platform refused it.
    Rejected,
    /// Nothing final came in time.
    Expired,
}

/// Why a message was rejected or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FinalReason {
    /// Its time to live was over.
    Ttl,
    /// It was sent as often as allowed, and no ack came.
    NoAck,
    /// The platform answered that it refuses it.
    RefusedByPlatform,
    /// The platform closed the connection because the frame was too large (1009).
    TooLarge,
    /// The connection dropped before a frame that is sent only once could be.
    Disconnected,
    /// Its user is no longer configured.
    UserRemoved,
}

/// Whether the platform got the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It never left: safe to send again.
    None,
    /// It left, or may have; nobody confirmed it.
    Unknown,
    /// The platform acked or refused it.
    Confirmed,
}

/// Whether the platform acks a frame of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expectation {
    /// A `/bot.message` with a body or attachments: sent until it is acked or final.
    Ack,
    /// Any other frame: sent once, final at `sent`.
    Nothing,
}

/// The first half of a SHA-256: equal fingerprints mean equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&digest.as_ref()[..16]);
        Self(half)
    }
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The platform took it; with its ack frame.
    Acked(String),
    /// The platform's history has it: the platform took it, and its ack was lost.
    Found,
    /// A frame that isn't acked went out.
    Sent,
    /// The platform refused it; with its ack frame where that said so.
    Rejected(FinalReason, Option<String>),
    /// Nothing final came in time.
    Expired(FinalReason),
}

/// What is remembered of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// Its place in the order of acceptance.
    pub number: MessageNumber,
    /// Where it stands.
    pub status: MessageStatus,
    /// Why, for `rejected` and `expired`.
    pub reason: Option<FinalReason>,
    /// Whether the platform got it.
    pub certainty: Certainty,
    /// Whether it awaits an ack.
    pub expectation: Expectation,
    /// How often its frame went out on a socket.
    pub attempts: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its frame last went out.
    pub sent_at: Option<Timestamp>,
    /// When its ack came.
    pub acked_at: Option<Timestamp>,
    /// When its status became final.
    pub final_at: Option<Timestamp>,
    /// The platform's ack frame, as it came.
    pub ack: Option<String>,
    /// The bot's answers, as far as they are known; at most [`MessageRecord::MAX_REPLIES`].
    pub replies: Vec<EventId>,
    /// Of its content.
    pub fingerprint: Fingerprint,
    /// Of its plain text.
    pub text_fingerprint: Fingerprint,
}

impl MessageRecord {
    /// How many answers are remembered by id. A bot that goes on for ever after one message must
    /// not make that message's record grow for ever.
    pub const MAX_REPLIES: usize = 32;

    /// Whether nothing more happens to it.
    pub fn is_final(&self) -> bool {
        self.final_at.is_some()
    }
}

impl Draft {
    /// What is remembered of the message from its acceptance on.
    pub(super) fn record(&self, number: MessageNumber, now: Timestamp) -> MessageRecord {
        MessageRecord {
            number,
            status: MessageStatus::Queued,
            reason: None,
            certainty: Certainty::None,
            expectation: self.expectation,
            attempts: 0,
            created_at: now,
            sent_at: None,
            acked_at: None,
            final_at: None,
            ack: None,
            replies: Vec::new(),
            fingerprint: self.fingerprint,
            text_fingerprint: self.text_fingerprint,
        }
    }
}

impl Verdict {
    /// The status that it makes final.
    pub(super) fn status(&self) -> MessageStatus {
        match self {
            Self::Acked(_) | Self::Found => MessageStatus::Acked,
            Self::Sent => MessageStatus::Sent,
            Self::Rejected(..) => MessageStatus::Rejected,
            Self::Expired(_) => MessageStatus::Expired,
        }
    }

    /// Writes the end into what is remembered of the message.
    pub(super) fn apply(self, record: &mut MessageRecord, at: Timestamp) {
        record.final_at = Some(at);
        match self {
            Self::Acked(ack) => {
                record.status = MessageStatus::Acked;
                record.certainty = Certainty::Confirmed;
                record.acked_at = Some(at);
                record.ack = Some(ack);
            }
            Self::Found => {
                record.status = MessageStatus::Acked;
                record.certainty = Certainty::Confirmed;
                record.acked_at = Some(at);
            }
            Self::Sent => record.status = MessageStatus::Sent,
            Self::Rejected(reason, ack) => {
                record.status = MessageStatus::Rejected;
                record.reason = Some(reason);
                // Refused by the platform: then it has it. What never left was refused by ourselves.
                if record.certainty == Certainty::Unknown {
                    record.certainty = Certainty::Confirmed;
                }
                record.ack = ack;
            }
            Self::Expired(reason) => {
                record.status = MessageStatus::Expired;
                record.reason = Some(reason);
            }
        }
    }
}
