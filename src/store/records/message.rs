//! Messages: the queue, the statuses, and the journal of what each commit accepted.

use serde::{Deserialize, Serialize};

use super::BodyPlace;
use crate::{
    clock::Timestamp,
    messages::{Expectation, Fingerprint, MessageRecord},
    store::{ClientNumber, UserNumber},
};

impl MessageRecord {
    pub(in crate::store) const VERSION: u8 = 1;
}

/// A message that is not final. Its content follows: `custom_data` bytes of `botInfo.customData`,
/// then the frame's fields; or both are in a payload file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct QueueRecord {
    pub id: u64,
    pub expectation: Expectation,
    pub expires_at: Timestamp,
    pub custom_data: Option<u32>,
    pub body: BodyPlace,
}

impl QueueRecord {
    pub(in crate::store) const VERSION: u8 = 1;
}

/// One message that a commit accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct AcceptedEntry {
    pub user: UserNumber,
    pub id: u64,
    /// Whether the bridge chose the id: the next one it chooses must be greater.
    pub generated: bool,
    pub idempotency: Option<(ClientNumber, Fingerprint)>,
}

/// The messages of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct AcceptedRecord {
    pub at: Timestamp,
    pub entries: Vec<AcceptedEntry>,
}

impl AcceptedRecord {
    pub(in crate::store) const VERSION: u8 = 1;
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct IdempotencyRecord {
    pub id: u64,
    pub at: Timestamp,
    pub fingerprint: Fingerprint,
}

impl IdempotencyRecord {
    pub(in crate::store) const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::EventId,
        messages::{Certainty, MessageNumber, MessageStatus},
        store::records::{decode, encode},
    };

    #[test]
    fn their_forms_are_stable() {
        let message = MessageRecord {
            number: MessageNumber(9),
            status: MessageStatus::Acked,
            reason: None,
            certainty: Certainty::Confirmed,
            expectation: Expectation::Ack,
            attempts: 1,
            created_at: Timestamp::from_millis(1),
            sent_at: Some(Timestamp::from_millis(2)),
            acked_at: Some(Timestamp::from_millis(3)),
            final_at: Some(Timestamp::from_millis(3)),
            ack: Some("{}".to_owned()),
            replies: vec![EventId { store: 1, number: 2 }],
            fingerprint: Fingerprint([1; 16]),
            text_fingerprint: Fingerprint([2; 16]),
        };
        let bytes = encode(MessageRecord::VERSION, &message);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 09, 02, 00, 02, 00, 01, 01, 01, 02, 01, 03, 01, 03, 01, 02, 7b, 7d, 01, 01, 02, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 01, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02, 02]");
        assert_eq!(decode::<MessageRecord>(MessageRecord::VERSION, "message", &bytes).unwrap(), message);

        let queue = QueueRecord {
            id: 1_466_692_440_896,
            expectation: Expectation::Nothing,
            expires_at: Timestamp::from_millis(1),
            custom_data: Some(2),
            body: BodyPlace::File,
        };
        let bytes = encode(QueueRecord::VERSION, &queue);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, c0, a6, ba, ed, d7, 2a, 01, 01, 01, 02, 01]");
        assert_eq!(decode::<QueueRecord>(QueueRecord::VERSION, "queue", &bytes).unwrap(), queue);

        let entry = AcceptedEntry {
            user: UserNumber(1),
            id: 5,
            generated: true,
            idempotency: Some((ClientNumber(1), Fingerprint([3; 16]))),
        };
        let bytes = encode(
            AcceptedRecord::VERSION,
            &AcceptedRecord { at: Timestamp::from_millis(1), entries: vec![entry] },
        );
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 01, 01, 01, 05, 01, 01, 01, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03, 03]");

        let key =
            IdempotencyRecord { id: 5, at: Timestamp::from_millis(1), fingerprint: Fingerprint([4; 16]) };
        let bytes = encode(IdempotencyRecord::VERSION, &key);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 05, 01, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04, 04]");
    }
}
