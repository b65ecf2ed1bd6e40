//! What people and programs are shown of a message.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Certainty, ClientMessageId, FinalReason, MessageRecord, MessageStatus};
use crate::{clock::Timestamp, names::UserName};

/// A message's status as JSON: what the API answers and what `bridge.message` carries.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Message"))]
#[serde(rename_all = "camelCase")]
pub struct MessageView<'a> {
    user: &'a UserName,
    client_message_id: ClientMessageId,
    status: MessageStatus,
    /// Why, for `rejected` and `expired`.
    reason: Option<FinalReason>,
    delivery: Certainty,
    /// How often its frame went out on a socket.
    attempts: u32,
    created_at: Timestamp,
    /// When its frame last went out.
    sent_at: Option<Timestamp>,
    acked_at: Option<Timestamp>,
    /// The platform's ack.
    #[cfg_attr(test, schemars(with = "Option<crate::schemas::Frame>"))]
    ack: Option<&'a RawValue>,
    replies: Replies,
}

/// The bot's answers.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Replies {
    /// By their events' ids.
    Ids(#[cfg_attr(test, schemars(with = "Vec<crate::events::EventId>"))] Vec<String>),
    /// In full: for a caller that waited for them with `wait=reply`.
    Frames(#[cfg_attr(test, schemars(with = "Vec<crate::schemas::Frame>"))] Vec<Box<RawValue>>),
}

impl<'a> MessageView<'a> {
    /// What is shown of this record.
    pub fn new(user: &'a UserName, id: ClientMessageId, record: &'a MessageRecord) -> Self {
        Self {
            user,
            client_message_id: id,
            status: record.status,
            reason: record.reason,
            delivery: record.certainty,
            attempts: record.attempts,
            created_at: record.created_at,
            sent_at: record.sent_at,
            acked_at: record.acked_at,
            ack: record.ack.as_deref().and_then(|frame| serde_json::from_str(frame).ok()),
            replies: Replies::Ids(record.replies.iter().map(ToString::to_string).collect()),
        }
    }

    /// The same with the answers in full: for a caller that waited for them.
    #[must_use]
    pub fn with_frames(mut self, frames: Vec<Box<RawValue>>) -> Self {
        self.replies = Replies::Frames(frames);
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        events::EventId,
        messages::{Expectation, Fingerprint, MessageNumber},
    };

    #[test]
    fn shows_every_key_and_the_ack_as_it_came() {
        let at = Timestamp::from_millis(1_466_692_440_896);
        let record = MessageRecord {
            number: MessageNumber(1),
            status: MessageStatus::Acked,
            reason: None,
            certainty: Certainty::Confirmed,
            expectation: Expectation::Ack,
            attempts: 1,
            created_at: at,
            sent_at: Some(at),
            acked_at: Some(at),
            final_at: Some(at),
            ack: Some(r#"{"ok":true,"replyto":1466692440896.50}"#.into()),
            replies: vec![EventId { store: 1, number: 2 }],
            fingerprint: Fingerprint([0; 16]),
            text_fingerprint: Fingerprint([0; 16]),
        };
        let user = UserName::new("alice").unwrap();
        let view = MessageView::new(&user, ClientMessageId::new(7).unwrap(), &record);
        let text = serde_json::to_string(&view).unwrap();
        assert!(text.contains(r#""ack":{"ok":true,"replyto":1466692440896.50}"#), "{text}");
        let time = "2016-06-23T14:34:00.896Z";
        let expected = json!({
            "user": "alice", "clientMessageId": 7, "status": "acked", "reason": null, "delivery": "confirmed",
            "attempts": 1, "createdAt": time, "sentAt": time, "ackedAt": time,
            "ack": {"ok": true, "replyto": 1_466_692_440_896.5_f64}, "replies": ["evt_000000010000000000000002"],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }
}
