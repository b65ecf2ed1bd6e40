//! Dead letters: events that a webhook did not get.

use bytes::Bytes;
use sled::IVec;

use super::{
    BotNumber, LaneRecord, Position, Store, StoreError, StoredEvent, UserNumber, WebhookNumber,
    commit::{Transaction, Write},
    keys,
    payload::PayloadId,
    records::{BodyPlace, DeadLetterRecord, decode_with, encode_with},
};
use crate::{clock::Timestamp, config::BodyFormat};

/// A dead letter's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId(pub u64);

/// A dead letter about to be kept.
#[derive(Debug, Clone)]
pub struct NewDeadLetter {
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
    /// The start of the last answer.
    pub answer: String,
    /// When it died.
    pub dead_at: Timestamp,
    /// The event.
    pub event: StoredEvent,
}

/// A dead letter as it lies in the store.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its number.
    pub id: DeadLetterId,
    /// What it is; its event has no places in lanes.
    pub letter: NewDeadLetter,
}

/// Dead letters.
impl Store {
    /// Keeps a dead letter, and moves its lane past it, in one commit. A crash soon after may forget
    /// both, and the last attempt is repeated. Letters are numbered by the event's place in its lane,
    /// so that one that is kept twice is kept once.
    pub fn add_dead_letter(&self, letter: &NewDeadLetter, lane: &LaneRecord) -> DeadLetterId {
        let id = DeadLetterId(letter_number(letter.webhook, letter.position.event));
        let frame = letter.event.frame.clone();
        let body = BodyPlace::of(frame.len());
        let inline: &[u8] = if body == BodyPlace::Inline { &frame } else { &[] };
        let record = record(letter, body);
        let value = IVec::from(encode_with(DeadLetterRecord::VERSION, &record, inline));
        let transaction = Transaction {
            writes: vec![
                Write::Put(keys::dead(id.0), value),
                Self::put(keys::lane(letter.webhook, letter.user), LaneRecord::VERSION, lane),
            ],
            new_payload: (body == BodyPlace::File).then_some((PayloadId::DeadLetter(id.0), frame)),
            ..Transaction::default()
        };
        // While the store fails or closes both are lost: the next start tries the event again.
        let _ = self.committer.submit(transaction);
        id
    }

    /// All dead letters, oldest event first.
    pub fn dead_letters(&self) -> impl Iterator<Item = Result<DeadLetter, StoreError>> + '_ {
        self.db.scan_prefix([keys::kind::DEAD]).map(|entry| {
            let (key, value) = entry?;
            let id = keys::trailing_u64(&key)
                .ok_or_else(|| StoreError::Unreadable("a dead letter's key is damaged".to_owned()))?;
            self.read_dead_letter(DeadLetterId(id), value)
        })
    }

    fn read_dead_letter(&self, id: DeadLetterId, value: IVec) -> Result<DeadLetter, StoreError> {
        let (record, body) =
            decode_with::<DeadLetterRecord>(DeadLetterRecord::VERSION, "dead letter", &value)?;
        let frame = match record.body {
            BodyPlace::Inline => Bytes::from_owner(value).slice(body..),
            BodyPlace::File => Bytes::from(self.payloads.read(PayloadId::DeadLetter(id.0))?),
        };
        let event = StoredEvent {
            number: record.position.event,
            bot: BotNumber(record.bot),
            kind: record.kind,
            received_at: record.received_at,
            in_reply_to: record.in_reply_to.and_then(|id| crate::messages::ClientMessageId::new(id).ok()),
            source: record.source,
            speaker: record.speaker,
            slots: Vec::new(),
            frame,
        };
        let letter = NewDeadLetter {
            webhook: record.webhook,
            user: record.user,
            position: record.position,
            format: record.format,
            attempts: record.attempts,
            last_status: record.last_status,
            reason: record.reason,
            answer: record.answer,
            dead_at: record.dead_at,
            event,
        };
        Ok(DeadLetter { id, letter })
    }
}

/// Events are numbered without gaps from 1, so 40 bits last for a trillion of them; the webhook's
/// number takes the rest.
fn letter_number(webhook: WebhookNumber, event: u64) -> u64 {
    (event << 24) | u64::from(webhook.0 & 0xff_ffff)
}

fn record(letter: &NewDeadLetter, body: BodyPlace) -> DeadLetterRecord {
    DeadLetterRecord {
        webhook: letter.webhook,
        user: letter.user,
        position: letter.position,
        format: letter.format,
        attempts: letter.attempts,
        last_status: letter.last_status,
        reason: letter.reason.clone(),
        answer: letter.answer.clone(),
        dead_at: letter.dead_at,
        received_at: letter.event.received_at,
        bot: letter.event.bot.0,
        kind: letter.event.kind.clone(),
        in_reply_to: letter.event.in_reply_to.map(crate::messages::ClientMessageId::get),
        source: letter.event.source,
        speaker: letter.event.speaker,
        body,
    }
}
