//! Messages: their queue, what is remembered of them, and the journal of what was accepted.

use bytes::Bytes;
use sled::IVec;
use smallvec::{SmallVec, smallvec};

use super::{
    ClientNumber, EncodedEvent, Reserved, Store, StoreError, UserNumber, backlog,
    commit::{Done, JournalLine, OnDurable, Transaction, Urgency, Write},
    keys,
    payload::PayloadId,
    records::{
        self, AcceptedEntry, AcceptedRecord, BodyPlace, IdempotencyRecord, QueueRecord, decode, decode_with,
    },
};
use crate::{
    clock::Timestamp,
    messages::{ClientMessageId, Expectation, Fingerprint, MessageContent, MessageNumber, MessageRecord},
    trace::TraceContext,
};

/// The meta record that holds the greatest id that the bridge chose among the forgotten messages.
pub(super) const CHOSEN_UP_TO: &str = "chosen-up-to";

/// An idempotency key as the store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// Whose key; number 0 where no clients are configured.
    pub client: ClientNumber,
    /// The key's fingerprint.
    pub key: Fingerprint,
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKey {
    /// The message.
    pub id: ClientMessageId,
    /// When it was accepted.
    pub at: Timestamp,
    /// The fingerprint of the message it was used with.
    pub fingerprint: Fingerprint,
}

/// A message on its way into the store.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Whose it is.
    pub user: UserNumber,
    /// The id it is known by.
    pub id: ClientMessageId,
    /// Whether the bridge chose that id.
    pub generated: bool,
    /// When it expires.
    pub expires_at: Timestamp,
    /// What is remembered of it.
    pub record: MessageRecord,
    /// What it says.
    pub content: MessageContent,
    /// The caller's key for it.
    pub idempotency: Option<Idempotency>,
    /// The trace that its caller named.
    pub trace: Option<Box<TraceContext>>,
}

/// What a message takes in the store for as long as it is not final: known from its acceptance on, so that
/// nothing has to be read for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// What it adds to the backlog.
    weight: u32,
    body: BodyPlace,
}

impl Footprint {
    fn of(key: &[u8], value: &[u8], body: BodyPlace) -> Self {
        Self { weight: backlog::record(key, value) as u32, body }
    }
}

/// What is remembered of a message, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedMessage {
    number: MessageNumber,
    value: IVec,
}

impl EncodedMessage {
    /// This record, encoded.
    pub fn of(record: &MessageRecord) -> Self {
        Self { number: record.number, value: records::value(MessageRecord::VERSION, record, &[]) }
    }
}

/// The end of a message on its way into the store.
pub struct MessageEnd {
    /// Whose it is.
    pub user: UserNumber,
    /// The id it is known by.
    pub id: ClientMessageId,
    /// What it took so far.
    pub footprint: Footprint,
    /// What is remembered of it, with its final status.
    pub record: EncodedMessage,
    /// Runs on the commit thread when this is on stable storage.
    pub on_durable: Box<dyn FnOnce() + Send>,
}

/// A message that is not final, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRecord {
    /// Whose it is.
    pub user: UserNumber,
    /// Its place in the order.
    pub number: MessageNumber,
    /// The id it is known by.
    pub id: ClientMessageId,
    /// Whether the platform acks it.
    pub expectation: Expectation,
    /// When it expires.
    pub expires_at: Timestamp,
    /// What it takes.
    pub footprint: Footprint,
}

/// The messages that one commit accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedJournal {
    /// The number of the first of them.
    pub first: MessageNumber,
    /// When they were accepted.
    pub at: Timestamp,
    /// They, in order.
    pub messages: Vec<AcceptedMessage>,
}

/// What the journal says of an accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedMessage {
    /// Whose it is.
    pub user: UserNumber,
    /// The id it is known by.
    pub id: ClientMessageId,
    /// Whether the bridge chose that id.
    pub generated: bool,
    /// The caller's key for it.
    pub idempotency: Option<Idempotency>,
}

/// Messages.
impl Store {
    /// Hands a message over; `on_done` runs on the commit thread when it is on stable storage, or
    /// can't be. Messages reach the disk in the order in which they are handed over. Answers with what the
    /// message takes.
    pub fn accept_message(
        &self,
        message: NewMessage,
        reserved: Reserved,
        on_done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<Footprint, StoreError> {
        let NewMessage { user, id, generated, expires_at, record, content, idempotency, trace } = message;
        let number = record.number;
        let custom_data = content.bot_custom_data.as_ref();
        let body = BodyPlace::of(content.fields.len() + custom_data.map_or(0, Bytes::len));
        let queue = QueueRecord {
            id: id.get(),
            expectation: record.expectation,
            expires_at,
            custom_data: custom_data.map(|data| data.len() as u32),
            body,
        };
        let whole = match custom_data {
            Some(data) => Bytes::from([&data[..], &content.fields].concat()),
            None => content.fields.clone(),
        };
        let inline: &[u8] = if body == BodyPlace::Inline { &whole } else { &[] };
        let value = records::value(QueueRecord::VERSION, &queue, inline);
        let key = keys::queue(user, number);
        let footprint = Footprint::of(&key, &value, body);
        let mut writes = smallvec![
            Write::Create(key, value),
            // Whoever decided that it is new has looked: nothing is known of this id.
            Write::Create(keys::message(user, id), records::value(MessageRecord::VERSION, &record, &[])),
        ];
        if let Some(Idempotency { client, key }) = idempotency {
            let known =
                IdempotencyRecord { id: id.get(), at: record.created_at, fingerprint: record.fingerprint };
            writes.push(Self::put(keys::idempotency(client, user, key), IdempotencyRecord::VERSION, &known));
        }
        writes.extend(trace.map(|trace| self.put_trace(user, id, &trace)));
        let idempotency = idempotency.map(|key| (key.client, key.key));
        self.committer.submit(Transaction {
            writes,
            new_payload: (body == BodyPlace::File).then_some((PayloadId::Message(user, number), whole)),
            backlog: i64::from(footprint.weight),
            journal: Some(JournalLine::Message(
                number,
                AcceptedEntry { user, id: id.get(), generated, idempotency },
            )),
            done: Some(Done::told(on_done)),
            reserved: Some(reserved),
            ..Transaction::default()
        })?;
        Ok(footprint)
    }

    /// What is remembered of a message.
    pub fn message(
        &self,
        user: UserNumber,
        id: ClientMessageId,
    ) -> Result<Option<MessageRecord>, StoreError> {
        let key = keys::message(user, id);
        let value = match self.committer.deferred(&key) {
            Some(newer) => Some(newer),
            None => self.db.get(&key)?,
        };
        value.map(|value| decode(MessageRecord::VERSION, "message", &value)).transpose()
    }

    /// The ids of the user's messages, in their order as numbers.
    pub fn message_ids(
        &self,
        user: UserNumber,
    ) -> impl Iterator<Item = Result<ClientMessageId, StoreError>> + '_ {
        self.db.scan_prefix(keys::messages_of(user)).keys().map(|key| {
            let id = keys::trailing_u64(&key?).and_then(|id| ClientMessageId::new(id).ok());
            id.ok_or_else(|| StoreError::Unreadable("a message's key is damaged".to_owned()))
        })
    }

    /// The greatest id of the user's messages.
    pub fn greatest_message_id(&self, user: UserNumber) -> Result<Option<ClientMessageId>, StoreError> {
        let newest = self.db.scan_prefix(keys::messages_of(user)).keys().next_back().transpose()?;
        Ok(newest.and_then(|key| keys::trailing_u64(&key)).and_then(|id| ClientMessageId::new(id).ok()))
    }

    /// Remembers a message's new status; a crash soon after may forget it.
    pub fn save_message(&self, user: UserNumber, id: ClientMessageId, record: &MessageRecord) {
        self.committer.defer(Self::put(keys::message(user, id), MessageRecord::VERSION, record));
    }

    /// Remembers a message's final status and takes it out of the queue, on stable storage a moment
    /// later.
    pub fn finish_message(&self, end: MessageEnd) {
        let (mut transaction, on_durable) = Self::ending(end);
        transaction.done = Some(Done::told(|result| {
            if result.is_ok() {
                on_durable();
            }
        }));
        // While the store fails or closes this is lost: the message is still queued at the next start.
        let _ = self.committer.submit(transaction);
    }

    /// The same together with an event that reports it, which is handed over as by
    /// [`Store::append_event`]: both reach the disk, or neither does.
    pub fn finish_message_with(
        &self,
        end: MessageEnd,
        mut report: EncodedEvent,
        reserved: Reserved,
        on_durable: OnDurable,
    ) -> Result<u64, StoreError> {
        let (transaction, message_is_durable) = Self::ending(end);
        // Who waits for the message's end has been told; a webhook waits for what is on disk.
        if !report.slots.iter().any(|slot| slot.wanted) {
            report.urgency = Urgency::Soon;
        }
        let on_durable = Box::new(move |number| {
            message_is_durable();
            on_durable(number);
        });
        self.append_event_in(transaction, report, reserved, on_durable)
    }

    fn ending(end: MessageEnd) -> (Transaction, Box<dyn FnOnce() + Send>) {
        let MessageEnd { user, id, footprint, record, on_durable } = end;
        let is_a_file = footprint.body == BodyPlace::File;
        // With room for the event that reports it.
        let mut writes = SmallVec::with_capacity(3);
        writes.push(Write::Put(keys::message(user, id), record.value));
        writes.push(Write::Remove(keys::queue(user, record.number)));
        let transaction = Transaction {
            writes,
            backlog: -i64::from(footprint.weight),
            dropped_payload: is_a_file.then_some(PayloadId::Message(user, record.number)),
            ..Transaction::default()
        };
        (transaction, on_durable)
    }

    /// Every message that is not final, in order of user and acceptance.
    pub fn queued_messages(&self) -> impl Iterator<Item = Result<QueuedRecord, StoreError>> + '_ {
        self.db.scan_prefix([keys::kind::QUEUE]).map(|entry| {
            let (key, value) = entry?;
            let damaged = || StoreError::Unreadable("a queue record's key is damaged".to_owned());
            let queue: QueueRecord = decode(QueueRecord::VERSION, "queue", &value)?;
            Ok(QueuedRecord {
                user: UserNumber(keys::leading_u32(&key).ok_or_else(damaged)?),
                number: MessageNumber(keys::trailing_u64(&key).ok_or_else(damaged)?),
                id: ClientMessageId::new(queue.id).map_err(|_| damaged())?,
                expectation: queue.expectation,
                expires_at: queue.expires_at,
                footprint: Footprint::of(&key, &value, queue.body),
            })
        })
    }

    /// What a message that is not final says.
    pub fn message_content(
        &self,
        user: UserNumber,
        number: MessageNumber,
    ) -> Result<MessageContent, StoreError> {
        let Some(value) = self.db.get(keys::queue(user, number))? else {
            return Err(StoreError::Unreadable(format!("message number {} is not in the queue", number.0)));
        };
        let (queue, start) = decode_with::<QueueRecord>(QueueRecord::VERSION, "queue", &value)?;
        let mut body = match queue.body {
            BodyPlace::Inline => Bytes::from_owner(value).slice(start..),
            BodyPlace::File => Bytes::from(self.payloads.read(PayloadId::Message(user, number))?),
        };
        let custom_length = queue.custom_data.map(|length| length as usize);
        if custom_length.is_some_and(|length| length > body.len()) {
            return Err(StoreError::Unreadable(format!("message number {} is cut short", number.0)));
        }
        let bot_custom_data = custom_length.map(|length| body.split_to(length));
        Ok(MessageContent { fields: body, bot_custom_data })
    }

    /// The message that an idempotency key stands for.
    pub fn known_key(&self, user: UserNumber, key: Idempotency) -> Result<Option<KnownKey>, StoreError> {
        let value = self.db.get(keys::idempotency(key.client, user, key.key))?;
        let Some(value) = value else { return Ok(None) };
        let record: IdempotencyRecord = decode(IdempotencyRecord::VERSION, "idempotency", &value)?;
        let id = ClientMessageId::new(record.id)
            .map_err(|_| StoreError::Unreadable("an idempotency record is damaged".to_owned()))?;
        Ok(Some(KnownKey { id, at: record.at, fingerprint: record.fingerprint }))
    }

    /// What was accepted, commit by commit, from the commit after the one that starts with `after`.
    pub fn accepted_after(
        &self,
        after: MessageNumber,
    ) -> impl Iterator<Item = Result<AcceptedJournal, StoreError>> + '_ {
        let range = keys::accepted(MessageNumber(after.0.saturating_add(1)))
            ..=keys::accepted(MessageNumber(u64::MAX));
        self.db.range(range).map(read_accepted)
    }

    /// What was accepted, newest commit first, of the commits that start before this message.
    pub fn accepted_before(
        &self,
        before: MessageNumber,
    ) -> impl Iterator<Item = Result<AcceptedJournal, StoreError>> + '_ {
        let last = MessageNumber(before.0.saturating_sub(1));
        self.db.range(keys::accepted(MessageNumber(0))..=keys::accepted(last)).rev().map(read_accepted)
    }

    /// Forgets the messages of one commit; all of them must be final. `chosen_up_to` is the greatest
    /// id that the bridge ever chose among forgotten messages.
    pub fn forget_accepted(&self, journal: &AcceptedJournal, chosen_up_to: u64) -> Result<(), StoreError> {
        let mut writes = smallvec![
            Write::Remove(keys::accepted(journal.first)),
            Write::Put(keys::meta(CHOSEN_UP_TO), IVec::from(&chosen_up_to.to_be_bytes())),
        ];
        for message in &journal.messages {
            writes.push(Write::Remove(keys::message(message.user, message.id)));
            if self.has_traces() {
                writes.push(Write::Remove(keys::trace(message.user, message.id)));
            }
            // After a day a key may be used for another message, which it stands for from then on.
            if let Some(key) = message.idempotency
                && self.known_key(message.user, key)?.is_some_and(|known| known.id == message.id)
            {
                writes.push(Write::Remove(keys::idempotency(key.client, message.user, key.key)));
            }
        }
        // Nobody waits for it.
        let urgency = Urgency::Soon;
        self.committer.submit(Transaction { writes, urgency, ..Transaction::default() })
    }

    /// The greatest id that the bridge chose among the messages that are forgotten.
    pub fn chosen_up_to(&self) -> Result<u64, StoreError> {
        let value = self.db.get(keys::meta(CHOSEN_UP_TO))?;
        Ok(value.and_then(|value| keys::trailing_u64(&value)).unwrap_or(0))
    }
}

fn read_accepted(entry: Result<(IVec, IVec), StoreError>) -> Result<AcceptedJournal, StoreError> {
    let (key, value) = entry?;
    let damaged = || StoreError::Unreadable("an accepted record is damaged".to_owned());
    let record: AcceptedRecord = decode(AcceptedRecord::VERSION, "accepted", &value)?;
    let first = MessageNumber(keys::trailing_u64(&key).ok_or_else(damaged)?);
    let read = |entry: AcceptedEntry| {
        let id = ClientMessageId::new(entry.id).map_err(|_| damaged())?;
        let idempotency = entry.idempotency.map(|(client, key)| Idempotency { client, key });
        Ok(AcceptedMessage { user: entry.user, id, generated: entry.generated, idempotency })
    };
    let messages = record.entries.into_iter().map(read).collect::<Result<_, StoreError>>()?;
    Ok(AcceptedJournal { first, at: record.at, messages })
}
