//! Dead letters, and their replays.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Position;
use crate::{
    clock::Timestamp,
    config::BodyFormat,
    events::{EventKind, Source, Speaker},
    messages::ClientMessageId,
    store::{BotNumber, UserNumber, WebhookNumber},
};

/// A dead letter's number: made of its event's and its webhook's, so that one that is kept twice is
/// kept once. It orders as the events do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId(pub u64);

impl DeadLetterId {
    /// The number that this event has, or would have, as a dead letter of this webhook.
    ///
    /// Events are numbered without gaps from 1, so 40 bits last for a trillion of them; the webhook's
    /// number takes the rest.
    pub fn of(webhook: WebhookNumber, event: u64) -> Self {
        Self((event << 24) | u64::from(webhook.0 & 0xff_ffff))
    }

    /// The event's number in the log.
    pub fn event(self) -> u64 {
        self.0 >> 24
    }

    /// The webhook's number.
    pub fn webhook(self) -> WebhookNumber {
        WebhookNumber((self.0 & 0xff_ffff) as u32)
    }
}

/// A text that is no dead letter's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter's id looks like dl_000000002a000001")]
pub struct InvalidDeadLetterId;

/// `dl_` and 16 hexadecimal digits.
impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dl_{:016x}", self.0)
    }
}

impl FromStr for DeadLetterId {
    type Err = InvalidDeadLetterId;

    fn from_str(text: &str) -> Result<Self, InvalidDeadLetterId> {
        let digits = text.strip_prefix("dl_").ok_or(InvalidDeadLetterId)?;
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 16 || !digits.bytes().all(lower_hex) {
            return Err(InvalidDeadLetterId);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| InvalidDeadLetterId)
    }
}

/// A dead letter: all that is kept of it but its frame and its failed attempts, which have records of
/// their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it was not delivered.
    pub webhook: WebhookNumber,
    /// Whose event it is.
    pub user: UserNumber,
    /// Its place in the lane.
    pub position: Position,
    /// The body's shape, fixed by the first attempt.
    pub format: BodyFormat,
    /// How many attempts were made.
    pub attempts: u32,
    /// The status of the last answer.
    pub last_status: Option<u16>,
    /// Why it is dead, in plain words.
    pub reason: String,
    /// When it died, the last time if it was replayed in vain.
    pub dead_at: Timestamp,
    /// When the event was received.
    pub received_at: Timestamp,
    /// That user's bot at the time.
    pub bot: BotNumber,
    /// The frame's `type`; empty for none.
    pub kind: EventKind,
    /// The latest message of the user that was sent before the event.
    pub in_reply_to: Option<ClientMessageId>,
    /// Where the event came from.
    pub source: Source,
    /// Who speaks.
    pub speaker: Speaker,
    /// The frame's length in bytes.
    pub frame_length: u32,
}

impl DeadLetter {
    pub(in crate::store) const VERSION: u8 = 1;

    /// Its number.
    pub fn id(&self) -> DeadLetterId {
        DeadLetterId::of(self.webhook, self.position.event)
    }
}

/// That a dead letter is to be delivered after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayMark {
    /// Since when: the webhook's `max_age` counts from here.
    pub requested_at: Timestamp,
    /// Attempts made since then.
    pub attempts: u32,
}

impl ReplayMark {
    pub(in crate::store) const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::records::{decode, encode};

    #[test]
    fn their_forms_are_stable() {
        let letter = DeadLetter {
            webhook: WebhookNumber(3),
            user: UserNumber(2),
            position: Position { event: 42, sequence: 7 },
            format: BodyFormat::Form,
            attempts: 4,
            last_status: Some(422),
            reason: "no".to_owned(),
            dead_at: Timestamp::from_millis(9),
            received_at: Timestamp::from_millis(5),
            bot: BotNumber(1),
            kind: "t".into(),
            in_reply_to: Some(ClientMessageId::new(300).unwrap()),
            source: Source::Live,
            speaker: Speaker::Agent,
            frame_length: 600,
        };
        let bytes = encode(DeadLetter::VERSION, &letter);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 03, 02, 2a, 07, 02, 04, 01, a6, 03, 02, 6e, 6f, 09, 05, 01, 01, 74, 01, ac, 02, 00, 01, d8, 04]");
        assert_eq!(decode::<DeadLetter>(DeadLetter::VERSION, "dead letter", &bytes).unwrap(), letter);

        let mark = ReplayMark { requested_at: Timestamp::from_millis(9), attempts: 2 };
        let bytes = encode(ReplayMark::VERSION, &mark);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 09, 02]");
        assert_eq!(decode::<ReplayMark>(ReplayMark::VERSION, "replay", &bytes).unwrap(), mark);
    }

    proptest! {
        #[test]
        fn an_id_and_back(event in 0u64..1 << 40, webhook in 0u32..1 << 24) {
            let id = DeadLetterId::of(WebhookNumber(webhook), event);
            prop_assert_eq!((id.event(), id.webhook()), (event, WebhookNumber(webhook)));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let _ = decode::<DeadLetter>(DeadLetter::VERSION, "dead letter", &bytes);
            let _ = decode::<ReplayMark>(ReplayMark::VERSION, "replay", &bytes);
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for bad in ["", "dl_", "dl_2a", "dl_000000002A000001", "evt_000000002a000001", "dl_+00000002a000001"]
        {
            assert_eq!(bad.parse::<DeadLetterId>(), Err(InvalidDeadLetterId), "{bad}");
        }
    }
}
