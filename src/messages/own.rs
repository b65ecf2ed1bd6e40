//! What the bridge itself sent, for recognising it in the platform's history.

use std::time::Duration;

use super::{
    Certainty, ClientMessageId, Expectation, Fingerprint, MessageNumber, MessageRecord, MessageStatus,
    Messages,
};
use crate::{
    clock::Timestamp,
    store::{StoreError, UserNumber},
};

/// A message that reached the platform, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMessage {
    /// Its place in the order of acceptance.
    pub number: MessageNumber,
    /// The id it is known by.
    pub id: ClientMessageId,
    /// Of its plain text.
    pub text: Fingerprint,
    /// When it may have been sent, by our clock: first and last.
    pub sent: (Timestamp, Timestamp),
    /// How often it may have been sent.
    pub sends: u32,
    /// Whether the platform took it.
    pub arrival: Arrival,
}

/// Whether a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrival {
    /// The platform acked it.
    Sure,
    /// It was sent, and nobody knows more; or the platform refused it.
    Unsure,
    /// After a kill, nobody even knows whether it was sent.
    Untold,
}

impl OwnMessage {
    /// None for a message that never left, and for one that the history doesn't have.
    fn of(id: ClientMessageId, record: &MessageRecord, now: Timestamp) -> Option<Self> {
        if record.certainty == Certainty::None || record.expectation == Expectation::Nothing {
            return None;
        }
        // A kill may have forgotten a send, and what is sent again keeps the time of its last send.
        let first = if record.attempts == 1 { record.sent_at } else { None };
        let last = record.sent_at.or(record.final_at).unwrap_or(now);
        Some(Self {
            number: record.number,
            id,
            text: record.text_fingerprint,
            sent: (first.unwrap_or(record.created_at), last),
            sends: record.attempts.max(1),
            arrival: match (record.status, record.sent_at) {
                (MessageStatus::Acked, _) => Arrival::Sure,
                (_, Some(_)) => Arrival::Unsure,
                (_, None) => Arrival::Untold,
            },
        })
    }
}

impl Messages {
    /// The user's message of this id, if it reached the platform or may have.
    pub fn own(&self, user: UserNumber, id: ClientMessageId) -> Result<Option<OwnMessage>, StoreError> {
        let record = self.find(user, id)?;
        Ok(record.and_then(|record| OwnMessage::of(id, &record, Timestamp::now())))
    }

    /// The user's messages that reached the platform, or may have, within the last `span`. Looks at all
    /// that are retained: not for every day.
    pub fn own_within(&self, user: UserNumber, span: Duration) -> Result<Vec<OwnMessage>, StoreError> {
        let since = Timestamp::now().minus(span);
        let mut own = Vec::new();
        for id in self.shared.store.message_ids(user) {
            own.extend(self.own(user, id?)?.filter(|message| message.sent.1 >= since));
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn record(certainty: Certainty, attempts: u32, sent_at: Option<u64>) -> MessageRecord {
        MessageRecord {
            number: MessageNumber(1),
            status: MessageStatus::Sent,
            reason: None,
            certainty,
            expectation: Expectation::Ack,
            attempts,
            created_at: at(100),
            sent_at: sent_at.map(at),
            acked_at: None,
            final_at: None,
            ack: None,
            replies: Vec::new(),
            fingerprint: Fingerprint([1; 16]),
            text_fingerprint: Fingerprint([2; 16]),
        }
    }

    #[test]
    fn what_may_have_left_is_ours_from_its_first_send_to_its_last() {
        let sent = |record: &MessageRecord| {
            let own = OwnMessage::of(ClientMessageId::new(1).unwrap(), record, at(900))?;
            Some((own.sent.0.as_millis(), own.sent.1.as_millis(), own.sends, own.arrival))
        };
        let once = record(Certainty::Unknown, 1, Some(200));
        assert_eq!(sent(&once), Some((200, 200, 1, Arrival::Unsure)));
        let again =
            MessageRecord { status: MessageStatus::Acked, ..record(Certainty::Confirmed, 3, Some(400)) };
        assert_eq!(sent(&again), Some((100, 400, 3, Arrival::Sure)));
        let forgotten = record(Certainty::Unknown, 0, None);
        assert_eq!(sent(&forgotten), Some((100, 900, 1, Arrival::Untold)), "a kill forgot its send");
        assert_eq!(sent(&record(Certainty::None, 0, None)), None);
        let unacked =
            MessageRecord { expectation: Expectation::Nothing, ..record(Certainty::Unknown, 1, Some(200)) };
        assert_eq!(sent(&unacked), None);
    }
}
