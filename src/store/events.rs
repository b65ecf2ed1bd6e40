//! Events, lanes, and the journal of what was received.

use bytes::Bytes;
use sled::IVec;
use smallvec::smallvec;

use super::{
    BotNumber, JournalEntry, LaneRecord, LaneSlots, Reserved, Store, StoreError, UserNumber, WebhookNumber,
    WebhookRecord, backlog,
    commit::{Deferred, Done, JournalLine, OnDurable, Transaction, Urgency, Write},
    database::Database,
    keys,
    payload::PayloadId,
    records::{self, BodyPlace, EventRecord, JournalRecord, decode, decode_with},
};
use crate::{
    clock::Timestamp,
    events::{AgentRecord, EventId, EventKind, Source, Speaker},
    messages::ClientMessageId,
};

/// An event on its way into the store.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Whose it is.
    pub user: UserNumber,
    /// That user's bot.
    pub bot: BotNumber,
    /// The frame's `type`; empty for none.
    pub kind: EventKind,
    /// When it was received.
    pub received_at: Timestamp,
    /// The latest message of the user that was sent before it.
    pub in_reply_to: Option<ClientMessageId>,
    /// Where it came from.
    pub source: Source,
    /// Who speaks.
    pub speaker: Speaker,
    /// Its places in all lanes of the user.
    pub slots: LaneSlots,
    /// What recognises its repeat.
    pub journal: JournalEntry,
    /// The frame.
    pub frame: Bytes,
}

/// An event as it is written: its record is made, but for its number, which is in the key alone.
#[derive(Debug)]
pub struct EncodedEvent {
    /// At once, unless it is set otherwise.
    pub urgency: Urgency,
    pub(super) user: UserNumber,
    pub(super) slots: LaneSlots,
    journal: JournalEntry,
    body: BodyPlace,
    value: IVec,
    frame: Bytes,
}

/// An event as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number in the log.
    pub number: u64,
    /// That user's bot at the time.
    pub bot: BotNumber,
    /// The frame's `type`; empty for none.
    pub kind: EventKind,
    /// When it was received.
    pub received_at: Timestamp,
    /// The latest message of the user that was sent before it.
    pub in_reply_to: Option<ClientMessageId>,
    /// Where it came from.
    pub source: Source,
    /// Who speaks.
    pub speaker: Speaker,
    /// Its places in all lanes of the user.
    pub slots: LaneSlots,
    /// The frame.
    pub frame: Bytes,
}

/// The events that one commit stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The first event's number; the others follow.
    pub first: u64,
    /// When they were stored.
    pub at: Timestamp,
    /// The events, in order.
    pub entries: Vec<JournalEntry>,
}

impl NewEvent {
    /// Makes the record.
    pub fn encode(self) -> EncodedEvent {
        let Self { user, bot, kind, received_at, in_reply_to, source, speaker, slots, journal, frame } = self;
        let body = BodyPlace::of(frame.len());
        let in_reply_to = in_reply_to.map(ClientMessageId::get);
        let record = EventRecord { received_at, bot: bot.0, kind, in_reply_to, source, speaker, slots, body };
        let (value, frame) = match body {
            BodyPlace::Inline => {
                let value = records::value(EventRecord::VERSION, &record, &frame);
                let head = value.len() - frame.len();
                (value.clone(), Bytes::from_owner(value).slice(head..))
            }
            BodyPlace::File => (records::value(EventRecord::VERSION, &record, &[]), frame),
        };
        EncodedEvent { urgency: Urgency::Now, user, slots: record.slots, journal, body, value, frame }
    }
}

impl EncodedEvent {
    /// The frame. A short one lies in the record: it takes no memory of its own, and that of the socket, which it
    /// was read into, is free.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }
}

/// The log of events.
impl Store {
    /// The id that this store gives to its event of this number.
    pub fn event_id(&self, number: u64) -> EventId {
        EventId { store: self.nonce, number }
    }

    /// Hands an event over; `on_durable` runs on the commit thread when it is on stable storage, in
    /// the order of the events' numbers. Answers with its number.
    pub fn append_event(
        &self,
        event: EncodedEvent,
        reserved: Reserved,
        on_durable: OnDurable,
    ) -> Result<u64, StoreError> {
        self.append_event_in(Transaction::default(), event, reserved, on_durable)
    }

    /// The same together with what is to be remembered of the user's sessions with human agents: both
    /// reach the disk, or neither does.
    pub fn append_event_and_agents(
        &self,
        event: EncodedEvent,
        agents: &AgentRecord,
        reserved: Reserved,
        on_durable: OnDurable,
    ) -> Result<u64, StoreError> {
        let write = Self::agents_write(event.user, agents);
        let transaction = Transaction { writes: smallvec![write], ..Transaction::default() };
        self.append_event_in(transaction, event, reserved, on_durable)
    }

    /// Remembers this of a user's sessions with human agents; on stable storage before any event that is handed
    /// over later.
    pub fn save_agents(&self, user: UserNumber, agents: &AgentRecord) -> Result<(), StoreError> {
        let writes = smallvec![Self::agents_write(user, agents)];
        self.committer.submit(Transaction { writes, ..Transaction::default() })
    }

    fn agents_write(user: UserNumber, agents: &AgentRecord) -> Write {
        let key = keys::agents(user);
        if agents.is_empty() { Write::Remove(key) } else { Self::put(key, AgentRecord::VERSION, agents) }
    }

    /// What is remembered of users' sessions with human agents.
    pub fn agent_records(&self) -> Result<Vec<(UserNumber, AgentRecord)>, StoreError> {
        let damaged = || StoreError::Unreadable("an agents record's key is damaged".to_owned());
        let records = self.db.scan_prefix([keys::kind::AGENTS]).map(|entry| {
            let (key, value) = entry?;
            let user = UserNumber(keys::leading_u32(&key).ok_or_else(damaged)?);
            Ok((user, decode(AgentRecord::VERSION, "agents", &value)?))
        });
        records.collect()
    }

    /// The same as a part of a transaction that has neither a new payload, a journal line nor a follow-up; it is as
    /// urgent as the event.
    pub(super) fn append_event_in(
        &self,
        mut transaction: Transaction,
        event: EncodedEvent,
        reserved: Reserved,
        on_durable: OnDurable,
    ) -> Result<u64, StoreError> {
        let EncodedEvent { urgency, user, slots, journal, body, value, frame } = event;
        transaction.urgency = urgency;
        let inline = if body == BodyPlace::Inline { frame.len() } else { 0 };
        let weight = backlog::event(inline) as i64;
        // A lane's first event makes its record: a lane without one has nothing to look for.
        let new_lanes = slots.iter().filter(|slot| slot.wanted && slot.sequence == 1);
        transaction.writes.extend(new_lanes.map(|slot| {
            Self::put(keys::lane(slot.webhook, user), LaneRecord::VERSION, &LaneRecord::default())
        }));
        transaction.reserved = Some(reserved);
        transaction.backlog += weight;
        self.committer.submit_event(move |number| {
            transaction.writes.push(Write::Create(keys::event(user, number), value));
            transaction.new_payload =
                (body == BodyPlace::File).then_some((PayloadId::Event(user, number), frame));
            transaction.journal = Some(JournalLine::Event(number, journal));
            transaction.done = Some(Done::Event(number, on_durable));
            transaction
        })
    }

    /// The user's event of this number.
    pub fn event(&self, user: UserNumber, number: u64) -> Result<Option<StoredEvent>, StoreError> {
        let value = self.db.get(keys::event(user, number))?;
        value.map(|value| self.read_event(user, number, value)).transpose()
    }

    /// The event's places in all lanes of its user.
    pub fn slots(&self, user: UserNumber, number: u64) -> Result<Option<LaneSlots>, StoreError> {
        let value = self.db.get(keys::event(user, number))?;
        let record =
            value.map(|value| decode::<EventRecord>(EventRecord::VERSION, "event", &value)).transpose()?;
        Ok(record.map(|record| record.slots))
    }

    /// The user's events after this number, oldest first.
    pub fn events_after(
        &self,
        user: UserNumber,
        after: u64,
    ) -> impl Iterator<Item = Result<StoredEvent, StoreError>> + '_ {
        let range = keys::event(user, after.saturating_add(1))..=keys::event(user, u64::MAX);
        self.db.range(range).map(move |entry| {
            let (key, value) = entry?;
            self.read_event(user, number_of(&key)?, value)
        })
    }

    /// The user's events, newest first, with their places in lanes but without their frames.
    pub fn slots_from_newest(
        &self,
        user: UserNumber,
    ) -> impl Iterator<Item = Result<(u64, LaneSlots), StoreError>> + '_ {
        self.db.scan_prefix(keys::events_of(user)).rev().map(|entry| {
            let (key, value) = entry?;
            let record: EventRecord = decode(EventRecord::VERSION, "event", &value)?;
            Ok((number_of(&key)?, record.slots))
        })
    }

    /// Forgets an event; a crash soon after may bring it back.
    pub fn remove_event(&self, user: UserNumber, number: u64, frame_length: usize) {
        let (dropped_payload, inline) = match BodyPlace::of(frame_length) {
            BodyPlace::Inline => (None, frame_length),
            BodyPlace::File => (Some(PayloadId::Event(user, number)), 0),
        };
        let (write, released) = (Write::Remove(keys::event(user, number)), backlog::event(inline));
        self.committer.defer_removal(Deferred { write, dropped_payload, released });
    }

    /// The journal, oldest first.
    pub fn journals(&self) -> impl DoubleEndedIterator<Item = Result<Journal, StoreError>> + '_ {
        self.journals_from(0)
    }

    /// The journal from the commit that starts with this event or later, oldest first.
    pub fn journals_from(
        &self,
        first: u64,
    ) -> impl DoubleEndedIterator<Item = Result<Journal, StoreError>> + '_ {
        self.db.range(keys::journal(first)..=keys::journal(u64::MAX)).map(read_journal)
    }

    /// Forgets a part of the journal.
    pub fn remove_journal(&self, first: u64) {
        self.committer.defer(Write::Remove(keys::journal(first)));
    }

    pub(super) fn read_event(
        &self,
        user: UserNumber,
        number: u64,
        value: IVec,
    ) -> Result<StoredEvent, StoreError> {
        let (record, body) = decode_with::<EventRecord>(EventRecord::VERSION, "event", &value)?;
        let frame = match record.body {
            BodyPlace::Inline => Bytes::from_owner(value).slice(body..),
            BodyPlace::File => Bytes::from(self.payloads.read(PayloadId::Event(user, number))?),
        };
        Ok(StoredEvent {
            number,
            bot: BotNumber(record.bot),
            kind: record.kind,
            received_at: record.received_at,
            in_reply_to: record.in_reply_to.and_then(|id| ClientMessageId::new(id).ok()),
            source: record.source,
            speaker: record.speaker,
            slots: record.slots,
            frame,
        })
    }
}

/// How far the lanes are.
impl Store {
    /// How far a lane is; none for one that never had an event.
    pub fn lane(&self, webhook: WebhookNumber, user: UserNumber) -> Result<Option<LaneRecord>, StoreError> {
        let value = self.db.get(keys::lane(webhook, user))?;
        value.map(|value| decode(LaneRecord::VERSION, "lane", &value)).transpose()
    }

    /// Remembers how far a lane is; a crash soon after may forget it, and deliveries are repeated.
    pub fn save_lane(&self, webhook: WebhookNumber, user: UserNumber, lane: &LaneRecord) {
        self.committer.defer(Self::put(keys::lane(webhook, user), LaneRecord::VERSION, lane));
    }
}

/// What is remembered of webhooks.
impl Store {
    /// What is remembered of a webhook; the default for one that was never seen.
    pub fn webhook(&self, number: WebhookNumber) -> Result<WebhookRecord, StoreError> {
        match self.db.get(keys::webhook(number))? {
            Some(value) => decode(WebhookRecord::VERSION, "webhook", &value),
            None => Ok(WebhookRecord::default()),
        }
    }

    /// Remembers this of the webhook; on stable storage a moment later.
    pub fn save_webhook(&self, number: WebhookNumber, record: &WebhookRecord) {
        let write = Self::put(keys::webhook(number), WebhookRecord::VERSION, record);
        // Lost while the store fails or closes: the webhook will say it again.
        let _ = self.committer.submit(Transaction { writes: smallvec![write], ..Transaction::default() });
    }
}

pub(super) fn read_journal(entry: Result<(IVec, IVec), StoreError>) -> Result<Journal, StoreError> {
    let (key, value) = entry?;
    let record = JournalRecord::read(&value)?;
    Ok(Journal { first: number_of(&key)?, at: record.at, entries: record.entries })
}

pub(super) fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    keys::trailing_u64(key).ok_or_else(|| StoreError::Unreadable("a key is damaged".to_owned()))
}

/// The number that the next event gets: after every number that the journal or the log has seen.
pub(super) fn next_number(db: &Database) -> Result<u64, StoreError> {
    let Some(last) = db.scan_prefix([keys::kind::JOURNAL]).next_back() else { return Ok(1) };
    let (key, value) = last?;
    let record = JournalRecord::read(&value)?;
    Ok(number_of(&key)? + record.entries.len() as u64)
}
