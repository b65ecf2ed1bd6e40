//! The queue of accepted messages, and how they get into it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{
    ClientMessageId, Draft, Expectation, Fingerprint, MessageCounters, MessageNumber, MessageRecord,
    fresh::Fresh,
    retention::Retention,
    turns::{ReplyTurn, Turns},
};
use crate::{
    clock::Timestamp,
    config,
    names::ClientName,
    store::{
        ByUser, ClientNumber, Footprint, Idempotency, NewMessage, Reserved, Store, StoreError, UserNumber,
    },
    users::{Command, User},
};

/// How long a repeat of an idempotency key is recognised.
pub(super) const KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a caller waits for the store to have room before it is told to come back.
const RESERVE_LIMIT: Duration = Duration::from_secs(5);

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The id it is known by from now on.
    pub id: ClientMessageId,
    /// What is remembered of it; for a repeat, as it stands now.
    pub record: MessageRecord,
    /// Whether it was new.
    pub novelty: Novelty,
}

/// Whether a message was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It was accepted just now.
    New,
    /// The same message had been accepted before, under the same id or idempotency key.
    Repeat,
}

/// A caller's name for a request, by which a repeat of it is recognised (kept 24 h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is; none where no clients are configured.
    pub client: Option<ClientName>,
    /// The key, 1 to 255 bytes.
    pub key: String,
}

/// Why a message was not accepted. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The id belongs to another message of this user.
    #[error("clientMessageId {0} belongs to another message of this user")]
    IdTaken(ClientMessageId),
    /// The idempotency key was used for another message.
    #[error("this Idempotency-Key was used for another message")]
    KeyReused,
    /// The user's queue is full.
    #[error(
        "{queued} messages of this user are waiting to be sent, which is the most that may (messages.max_queued)"
    )]
    QueueFull {
        /// How many wait.
        queued: usize,
    },
    /// A frame that is sent only once can't wait for a connection.
    #[error("the user is not connected, and a frame of this kind is not kept for later")]
    NotConnected,
    /// The user was taken out of the configuration meanwhile.
    #[error("the user is no longer configured")]
    UserRemoved,
    /// The store can't take it now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The queue of accepted messages, of all users.
#[derive(Debug, Clone)]
pub struct Messages {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) counters: MessageCounters,
    pub(super) fresh: Fresh,
    pub(super) state: Mutex<State>,
    pub(super) watchers: Mutex<HashMap<(UserNumber, ClientMessageId), Arc<Notify>>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: config::Messages,
    pub(super) next_number: u64,
    pub(super) users: ByUser<UserQueue>,
    /// Final messages whose last write is on its way: newer than what the store tells.
    pub(super) finishing: HashMap<(UserNumber, ClientMessageId), MessageRecord>,
    pub(super) retention: Retention,
    /// The messages whose answers callers wait for.
    pub(super) turns: Turns,
}

/// What is kept in memory of one user's messages.
#[derive(Debug, Default)]
pub(super) struct UserQueue {
    /// The greatest id that the bridge chose.
    pub(super) chosen_up_to: u64,
    /// No message has this id or a greater one; none while nobody asked.
    free_from: Option<u64>,
    /// The messages that are not final, in order.
    pub(super) live: BTreeMap<MessageNumber, Live>,
    pub(super) by_id: HashMap<ClientMessageId, MessageNumber>,
    pub(super) last_sent: Option<ClientMessageId>,
    /// A message that needn't be told of further answers: it has all that are noted, or it is forgotten. Whoever
    /// talks on without being asked would have it read each time.
    pub(super) told_enough: Option<ClientMessageId>,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: ClientMessageId,
    pub(super) expires_at: Timestamp,
    pub(super) record: MessageRecord,
    pub(super) footprint: Footprint,
    pub(super) key: Option<Idempotency>,
    pub(super) commit: Commit,
}

/// Whether a live message is on stable storage.
#[derive(Debug)]
pub(super) enum Commit {
    /// Not yet; these callers repeat it and wait for the same commit.
    Pending(Vec<oneshot::Sender<Result<(), StoreError>>>),
    Done,
}

/// What a caller wants of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// That it is accepted.
    Acceptance,
    /// The bot's answer to it.
    Answer,
}

/// What `take` decided while it had the lock.
pub(super) enum Decision {
    New(ClientMessageId, MessageRecord, oneshot::Receiver<Result<(), StoreError>>),
    RepeatInCommit(ClientMessageId, oneshot::Receiver<Result<(), StoreError>>),
    Repeat(ClientMessageId, MessageRecord),
}

/// For the API.
impl Messages {
    /// Accepts a message: when this returns, it is on stable storage and on its way to its session.
    pub async fn accept(
        &self,
        user: &Arc<User>,
        draft: Draft,
        id: Option<ClientMessageId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted, AcceptError> {
        Ok(self.take(user, draft, id, key, Interest::Acceptance).await?.0)
    }

    /// The same for a caller that then waits for the bot's answer: until it lets go of the turn, if one
    /// can come, the user's later messages wait.
    pub async fn accept_awaited(
        &self,
        user: &Arc<User>,
        draft: Draft,
        id: Option<ClientMessageId>,
        key: Option<IdempotencyKey>,
    ) -> Result<(Accepted, Option<ReplyTurn>), AcceptError> {
        self.take(user, draft, id, key, Interest::Answer).await
    }

    async fn take(
        &self,
        user: &Arc<User>,
        draft: Draft,
        id: Option<ClientMessageId>,
        key: Option<IdempotencyKey>,
        interest: Interest,
    ) -> Result<(Accepted, Option<ReplyTurn>), AcceptError> {
        let key = key.map(|key| self.shared.idempotency(&key)).transpose()?;
        let reserved = self.shared.reserve(draft.content.fields.len() + 512).await?;
        let (decision, turn) = self.shared.decide(user, draft, id, key, reserved, interest)?;
        Ok((self.settle(user, decision).await?, turn))
    }

    /// Waits for the commit that a decision depends on.
    pub(super) async fn settle(&self, user: &User, decision: Decision) -> Result<Accepted, AcceptError> {
        Ok(match decision {
            Decision::New(id, record, committed) => {
                committed.await.unwrap_or_else(|_| Err(closed()))?;
                Accepted { id, record, novelty: Novelty::New }
            }
            Decision::RepeatInCommit(id, committed) => {
                committed.await.unwrap_or_else(|_| Err(closed()))?;
                let record = self.find(user.number, id)?.ok_or_else(closed)?;
                Accepted { id, record, novelty: Novelty::Repeat }
            }
            Decision::Repeat(id, record) => Accepted { id, record, novelty: Novelty::Repeat },
        })
    }

    /// What is remembered of a message.
    pub fn find(&self, user: UserNumber, id: ClientMessageId) -> Result<Option<MessageRecord>, StoreError> {
        let state = self.shared.lock();
        self.shared.find(&state, user, id)
    }

    /// Goes by other settings from the next message on.
    pub fn reload(&self, settings: config::Messages) {
        self.shared.lock().settings = settings;
    }

    /// What was counted.
    pub fn counters(&self) -> &MessageCounters {
        &self.shared.counters
    }

    /// How many messages of all users are not final.
    pub fn queued_of_all(&self) -> usize {
        self.shared.lock().users.values().map(|queue| queue.live.len()).sum()
    }

    /// How many messages of the user are not final.
    pub fn queued(&self, user: UserNumber) -> usize {
        self.shared.lock().users.get(&user).map_or(0, |queue| queue.live.len())
    }
}

impl Decision {
    fn id(&self) -> ClientMessageId {
        match self {
            Self::New(id, ..) | Self::RepeatInCommit(id, _) | Self::Repeat(id, _) => *id,
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room in the store for so many bytes.
    async fn reserve(&self, bytes: usize) -> Result<Reserved, StoreError> {
        if let Some(reserved) = self.store.reserve_now(bytes) {
            return Ok(reserved);
        }
        // Boxed, as it is rare, and would make each request larger.
        let reserve = Box::pin(self.store.reserve(bytes));
        match tokio::time::timeout(RESERVE_LIMIT, reserve).await {
            Ok(reserved) => reserved,
            Err(_) => Err(StoreError::Unavailable("its disk is too slow for what comes in".to_owned())),
        }
    }

    /// For the log.
    pub(super) fn name_of(&self, user: UserNumber) -> String {
        self.store.user_name(user).map_or_else(|_| format!("number {}", user.0), |name| name.to_string())
    }

    /// For the log.
    pub(super) fn trace_id(&self, user: UserNumber, id: ClientMessageId) -> Option<impl tracing::Value> {
        self.store.trace(user, id).map(|context| tracing::field::display(context.trace))
    }

    pub(super) fn idempotency(&self, key: &IdempotencyKey) -> Result<Idempotency, StoreError> {
        let client = match &key.client {
            Some(name) => self.store.client_number(name)?,
            None => ClientNumber(0),
        };
        Ok(Idempotency { client, key: Fingerprint::of(key.key.as_bytes()) })
    }

    /// Decides, in one step for all callers at once, what a request is: new, a repeat, or a mistake.
    fn decide(
        self: &Arc<Self>,
        user: &Arc<User>,
        draft: Draft,
        id: Option<ClientMessageId>,
        key: Option<Idempotency>,
        reserved: Reserved,
        interest: Interest,
    ) -> Result<(Decision, Option<ReplyTurn>), AcceptError> {
        let mut state = self.lock();
        // Under the lock: once a removed user's messages were ended, none follows.
        if user.is_removed() {
            return Err(AcceptError::UserRemoved);
        }
        let state = &mut *state;
        let decision = match self.known(state, user.number, &draft, id, key)? {
            Some(repeat) => repeat,
            None => self.decide_on_new(state, user, draft, id, key, reserved)?,
        };
        let turn = self.turn_for(state, user, &decision, interest)?;
        Ok((decision, turn))
    }

    /// The turn that a caller takes who wants this of a message.
    pub(super) fn turn_for(
        self: &Arc<Self>,
        state: &mut State,
        user: &Arc<User>,
        decision: &Decision,
        interest: Interest,
    ) -> Result<Option<ReplyTurn>, StoreError> {
        match interest {
            Interest::Acceptance => Ok(None),
            Interest::Answer => self.begin_turn(state, user, decision.id()),
        }
    }

    /// The message that a request repeats, if it does.
    pub(super) fn known(
        &self,
        state: &mut State,
        user: UserNumber,
        draft: &Draft,
        id: Option<ClientMessageId>,
        key: Option<Idempotency>,
    ) -> Result<Option<Decision>, AcceptError> {
        if let Some(key) = key
            && let Some((known, fingerprint)) = self.known_key(state, user, key)?
        {
            // With another id it is meant to be another message.
            if fingerprint != draft.fingerprint || id.is_some_and(|id| id != known) {
                return Err(AcceptError::KeyReused);
            }
            if let Some(repeat) = self.repeat(state, user, known)? {
                return Ok(Some(repeat));
            }
        }
        if let Some(id) = id
            && let Some(record) = self.find(state, user, id)?
        {
            if record.fingerprint != draft.fingerprint {
                return Err(AcceptError::IdTaken(id));
            }
            return Ok(self.repeat(state, user, id)?);
        }
        Ok(None)
    }

    fn decide_on_new(
        self: &Arc<Self>,
        state: &mut State,
        user: &Arc<User>,
        draft: Draft,
        id: Option<ClientMessageId>,
        key: Option<Idempotency>,
        reserved: Reserved,
    ) -> Result<Decision, AcceptError> {
        let queued = state.users.get(&user.number).map_or(0, |queue| queue.live.len());
        if queued >= state.settings.max_queued {
            return Err(AcceptError::QueueFull { queued });
        }
        if draft.expectation == Expectation::Nothing && !user.is_connected() {
            return Err(AcceptError::NotConnected);
        }
        Ok(self.take_new(state, user, draft, id, key, reserved)?)
    }

    fn take_new(
        self: &Arc<Self>,
        state: &mut State,
        user: &Arc<User>,
        draft: Draft,
        given: Option<ClientMessageId>,
        key: Option<Idempotency>,
        reserved: Reserved,
    ) -> Result<Decision, StoreError> {
        let now = Timestamp::now();
        let id = match given {
            Some(id) => id,
            None => self.choose_id(state, user.number, now)?,
        };
        let number = MessageNumber(state.next_number);
        let record = draft.record(number, now);
        let expires_at = now.plus(state.settings.ttl);
        let is_idle = state.users.get(&user.number).is_none_or(|queue| queue.live.is_empty());
        let sent_at_once = (is_idle && user.is_connected()).then(|| draft.content.clone());
        let new = NewMessage {
            user: user.number,
            id,
            generated: given.is_none(),
            expires_at,
            record: record.clone(),
            content: draft.content,
            idempotency: key,
            trace: draft.trace,
        };
        let (sender, committed) = oneshot::channel();
        let (shared, addressee) = (Arc::clone(self), Arc::clone(user));
        let footprint = self.store.accept_message(new, reserved, move |result| {
            shared.committed(&addressee, number, &result);
            // A caller that hung up no longer cares; its message goes on.
            let _ = sender.send(result);
        })?;
        if let Some(content) = sent_at_once {
            self.fresh.put(number, content);
        }
        state.next_number += 1;
        state.retention.accepted(number, 1);
        let queue = state.users.entry(user.number).or_default();
        if given.is_none() {
            queue.chosen_up_to = id.get();
        }
        queue.free_from = queue.free_from.map(|known| known.max(id.get() + 1));
        let (record_now, commit) = (record.clone(), Commit::Pending(Vec::new()));
        let live = Live { id, expires_at, record: record_now, footprint, key, commit };
        queue.by_id.insert(id, number);
        queue.live.insert(number, live);
        Ok(Decision::New(id, record, committed))
    }

    /// Runs on the commit thread, in the order of acceptance.
    fn committed(self: &Arc<Self>, user: &User, number: MessageNumber, result: &Result<(), StoreError>) {
        let mut state = self.lock();
        let is_awaited = state.turns.has(user.number, number);
        let Some(queue) = state.users.get_mut(&user.number) else { return };
        let waiting = match result {
            Ok(()) => {
                let Some(live) = queue.live.get_mut(&number) else { return };
                if is_awaited {
                    user.mailbox.post(Command::BeginTurn(number));
                }
                user.mailbox.post(Command::Send(live.queued(number)));
                self.counters.accepted.add_one();
                std::mem::replace(&mut live.commit, Commit::Done)
            }
            Err(_) => {
                let Some(live) = queue.live.remove(&number) else { return };
                queue.by_id.remove(&live.id);
                self.fresh.take(number);
                state.retention.withdrawn();
                live.commit
            }
        };
        let crowded = state.retention.is_crowded();
        drop(state);
        if let Commit::Pending(waiting) = waiting {
            for caller in waiting {
                let _ = caller.send(result.clone());
            }
        }
        if crowded {
            self.forget_old();
        }
    }

    /// The message that a key stands for, and the fingerprint it was used with.
    pub(super) fn known_key(
        &self,
        state: &State,
        user: UserNumber,
        key: Idempotency,
    ) -> Result<Option<(ClientMessageId, Fingerprint)>, StoreError> {
        let live =
            state.users.get(&user).and_then(|queue| queue.live.values().find(|live| live.key == Some(key)));
        if let Some(live) = live {
            return Ok(Some((live.id, live.record.fingerprint)));
        }
        let known = self.store.known_key(user, key)?;
        let young = known.filter(|known| Timestamp::now().since(known.at) < KEY_LIFE);
        Ok(young.map(|known| (known.id, known.fingerprint)))
    }

    /// The answer to a repeat of this message; none if it has been forgotten meanwhile.
    fn repeat(
        &self,
        state: &mut State,
        user: UserNumber,
        id: ClientMessageId,
    ) -> Result<Option<Decision>, StoreError> {
        if let Some(queue) = state.users.get_mut(&user)
            && let Some(live) = queue.by_id.get(&id).and_then(|number| queue.live.get_mut(number))
            && let Commit::Pending(waiting) = &mut live.commit
        {
            let (sender, committed) = oneshot::channel();
            waiting.push(sender);
            return Ok(Some(Decision::RepeatInCommit(id, committed)));
        }
        Ok(self.find(state, user, id)?.map(|record| Decision::Repeat(id, record)))
    }

    /// The time in ms, strictly greater than the last id chosen for this user, and not in use.
    fn choose_id(
        &self,
        state: &mut State,
        user: UserNumber,
        now: Timestamp,
    ) -> Result<ClientMessageId, StoreError> {
        let last = state.users.get(&user).map_or(0, |queue| queue.chosen_up_to);
        let free_from = self.free_from(state, user)?;
        let mut candidate = now.as_millis().max(last + 1).max(state.retention.chosen_up_to() + 1);
        loop {
            let id = ClientMessageId::new(candidate)
                .map_err(|_| StoreError::Unavailable("its clock is beyond the year 285,000".to_owned()))?;
            if candidate >= free_from || self.find(state, user, id)?.is_none() {
                return Ok(id);
            }
            candidate += 1;
        }
    }

    /// From which id on no message of the user is: so that only ids that a caller chose, and those in the past,
    /// have to be looked up.
    fn free_from(&self, state: &mut State, user: UserNumber) -> Result<u64, StoreError> {
        let queue = state.users.entry(user).or_default();
        if let Some(known) = queue.free_from {
            return Ok(known);
        }
        let stored = self.store.greatest_message_id(user)?;
        let newest = queue.by_id.keys().copied().chain(stored).max();
        let free_from = newest.map_or(0, |id| id.get() + 1);
        queue.free_from = Some(free_from);
        Ok(free_from)
    }

    pub(super) fn find(
        &self,
        state: &State,
        user: UserNumber,
        id: ClientMessageId,
    ) -> Result<Option<MessageRecord>, StoreError> {
        if let Some(queue) = state.users.get(&user)
            && let Some(live) = queue.by_id.get(&id).and_then(|number| queue.live.get(number))
        {
            return Ok(Some(live.record.clone()));
        }
        match state.finishing.get(&(user, id)) {
            Some(record) => Ok(Some(record.clone())),
            None => self.store.message(user, id),
        }
    }

    /// Forgets final messages that are too old or too many, oldest first.
    pub(super) fn forget_old(&self) {
        let mut state = self.lock();
        let State { retention, users, .. } = &mut *state;
        let is_live =
            |user, id| users.get(&user).is_some_and(|queue: &UserQueue| queue.by_id.contains_key(&id));
        if let Err(error) = retention.forget_old(&self.store, Timestamp::now(), is_live) {
            tracing::warn!(%error, "old messages could not be forgotten");
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is shutting down".to_owned())
}
