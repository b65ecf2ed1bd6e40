//! Events, and the journal of what each commit stored.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{BodyPlace, decode};
use crate::{
    clock::Timestamp,
    events::{EventKind, Source, Speaker},
    store::{StoreError, UserNumber, WebhookNumber},
};

/// An event's place in one lane.
///
/// Every event names *all* lanes that its user has, also those whose webhook doesn't want it, with
/// the last sequence given in each: so the user's newest event alone tells where every lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSlot {
    /// The lane's webhook.
    pub webhook: WebhookNumber,
    /// The last sequence number given in that lane; this event's own if it is wanted.
    pub sequence: u64,
    /// Whether the webhook wants this event.
    pub wanted: bool,
}

/// An event's places in all lanes of its user; few users have more than two.
pub type LaneSlots = SmallVec<[LaneSlot; 2]>;

/// An event's record; its frame follows, or is a payload file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct EventRecord {
    pub received_at: Timestamp,
    pub bot: u32,
    pub kind: EventKind,
    pub in_reply_to: Option<u64>,
    pub source: Source,
    pub speaker: Speaker,
    pub slots: LaneSlots,
    pub body: BodyPlace,
}

impl EventRecord {
    pub(in crate::store) const VERSION: u8 = 1;
}

/// What the journal says of one event: enough to recognise its repeat and to forget it in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Whose event it was.
    pub user: UserNumber,
    /// The frame's size in bytes.
    pub size: u32,
    /// Half a fingerprint of the frame's identity; 0 for a frame without one.
    pub identity: u64,
    /// Half a fingerprint of the frame's bytes; 0 if any bytes under this identity are its repeat.
    pub content: u64,
    /// What was said and when, for a frame that the platform's history tells by nothing else.
    pub said: Option<Said>,
    /// Which webhooks want it.
    #[serde(default)]
    pub wanted: Wanted,
}

/// Which webhooks want an event, as far as 4 bytes can tell: it spares a look at the event's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted(u32);

impl Wanted {
    /// Only the event's record tells.
    pub const UNKNOWN: Self = Self(u32::MAX);
    /// For all webhooks with this number and larger ones.
    const OTHERS: u32 = 31;

    /// By those whose place says so.
    pub fn by(slots: &[LaneSlot]) -> Self {
        let wanted = slots.iter().filter(|slot| slot.wanted);
        Self(wanted.fold(0, |bits, slot| bits | Self::bit(slot.webhook)))
    }

    /// Whether it is wanted by this webhook; none if only the event's record tells.
    pub fn is_by(self, webhook: WebhookNumber) -> Option<bool> {
        let is_set = self.0 & Self::bit(webhook) != 0;
        let is_exact = self != Self::UNKNOWN && !(is_set && webhook.0 >= Self::OTHERS);
        is_exact.then_some(is_set)
    }

    fn bit(webhook: WebhookNumber) -> u32 {
        1 << webhook.0.min(Self::OTHERS)
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// Something that was said, told by its text and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Half a fingerprint of who said it and the text.
    pub text: u64,
    /// When, by the platform's clock.
    pub at: Timestamp,
}

/// Events of one commit, numbered on from the number in the record's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct JournalRecord {
    pub at: Timestamp,
    pub entries: Vec<JournalEntry>,
}

impl JournalRecord {
    pub(in crate::store) const VERSION: u8 = 2;

    /// Reads this form or the one before.
    pub(in crate::store) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        if bytes.first() != Some(&JournalRecordV1::VERSION) {
            return decode(Self::VERSION, "journal", bytes);
        }
        let JournalRecordV1 { at, entries } = decode(JournalRecordV1::VERSION, "journal", bytes)?;
        let entries = entries.into_iter().map(|entry| {
            let (user, size, identity, content, said) = entry;
            JournalEntry { user, size, identity, content, said, wanted: Wanted::UNKNOWN }
        });
        Ok(Self { at, entries: entries.collect() })
    }
}

/// As it was before [`JournalEntry::wanted`].
#[derive(Debug, Serialize, Deserialize)]
struct JournalRecordV1 {
    at: Timestamp,
    entries: Vec<(UserNumber, u32, u64, u64, Option<Said>)>,
}

impl JournalRecordV1 {
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::records::{decode, decode_with, encode, encode_with};

    #[test]
    fn their_forms_are_stable() {
        let event = EventRecord {
            received_at: Timestamp::from_millis(1_700_000_000_000),
            bot: 1,
            kind: "bot_response".into(),
            in_reply_to: Some(1_466_692_440_896),
            source: Source::Live,
            speaker: Speaker::Agent,
            slots: [LaneSlot { webhook: WebhookNumber(3), sequence: 300, wanted: true }]
                .into_iter()
                .collect(),
            body: BodyPlace::Inline,
        };
        insta::assert_snapshot!(format!("{:02x?}", encode_with(EventRecord::VERSION, &event, b"{}")), @"[01, 80, d0, 95, ff, bc, 31, 01, 0c, 62, 6f, 74, 5f, 72, 65, 73, 70, 6f, 6e, 73, 65, 01, c0, a6, ba, ed, d7, 2a, 00, 01, 01, 03, ac, 02, 01, 00, 7b, 7d]");
        let wanted = Wanted::by(&event.slots);
        let entry = JournalEntry {
            user: UserNumber(2),
            size: 600,
            identity: 5,
            content: u64::MAX,
            said: None,
            wanted,
        };
        let told = JournalEntry { said: Some(Said { text: 7, at: Timestamp::from_millis(300) }), ..entry };
        let journal = JournalRecord { at: Timestamp::from_millis(1), entries: vec![entry, told] };
        insta::assert_snapshot!(format!("{:02x?}", encode(JournalRecord::VERSION, &journal)), @"[02, 01, 02, 02, d8, 04, 05, ff, ff, ff, ff, ff, ff, ff, ff, ff, 01, 00, 08, 02, d8, 04, 05, ff, ff, ff, ff, ff, ff, ff, ff, ff, 01, 01, 07, ac, 02, 08]");
        assert_eq!(JournalRecord::read(&encode(JournalRecord::VERSION, &journal)).unwrap(), journal);
    }

    #[test]
    fn a_journal_of_the_form_before_is_read() {
        let bytes = [
            1, 1, 2, 2, 0xd8, 4, 5, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 2, 0xd8, 4, 5, 255,
            255, 255, 255, 255, 255, 255, 255, 255, 1, 1, 7, 0xac, 2,
        ];
        let journal = JournalRecord::read(&bytes).unwrap();
        assert_eq!((journal.at, journal.entries.len()), (Timestamp::from_millis(1), 2));
        assert_eq!(journal.entries[1].said, Some(Said { text: 7, at: Timestamp::from_millis(300) }));
        assert_eq!(journal.entries[0].wanted, Wanted::UNKNOWN);
    }

    #[test]
    fn who_wants_an_event_is_told_or_is_not_known() {
        let slot = |webhook, wanted| LaneSlot { webhook: WebhookNumber(webhook), sequence: 1, wanted };
        let by = |webhook| {
            Wanted::by(&[slot(3, true), slot(4, false), slot(70, true)]).is_by(WebhookNumber(webhook))
        };
        assert_eq!([by(3), by(4), by(5)], [Some(true), Some(false), Some(false)]);
        assert_eq!([by(70), by(71)], [None, None]);
        assert_eq!(Wanted::by(&[slot(3, true)]).is_by(WebhookNumber(71)), Some(false));
        assert_eq!(Wanted::UNKNOWN.is_by(WebhookNumber(3)), None);
    }

    proptest! {
        #[test]
        fn an_event_and_back(kind in ".{0,80}", reply: Option<u64>, sequence: u64, frame: Vec<u8>) {
            let event = EventRecord {
                received_at: Timestamp::from_millis(sequence),
                bot: 1,
                kind: kind.into(),
                in_reply_to: reply,
                source: Source::History,
                speaker: Speaker::Bot,
                slots: [LaneSlot { webhook: WebhookNumber(3), sequence, wanted: false }].into_iter().collect(),
                body: BodyPlace::of(frame.len()),
            };
            let bytes = encode_with(EventRecord::VERSION, &event, &frame);
            let (back, body) = decode_with::<EventRecord>(EventRecord::VERSION, "event", &bytes).unwrap();
            prop_assert_eq!(back, event);
            prop_assert_eq!(&bytes[body..], &frame[..]);
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let _ = decode::<EventRecord>(EventRecord::VERSION, "event", &bytes);
            let _ = decode::<JournalRecord>(JournalRecord::VERSION, "journal", &bytes);
        }
    }
}
