//! From a frame to an event in the store, and from there to its lanes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::{
    Event, EventId, Source, Subscriber,
    memory::{Mark, RepeatMemory},
    retention::Retention,
    text::speaker,
};
use crate::{
    clock::Timestamp,
    config,
    messages::{ClientMessageId, Fingerprint, Messages},
    names::WebhookName,
    rtm::frame::FrameHead,
    store::{LaneSlot, NewEvent, Store, StoreError, StoredEvent, UserNumber},
    users::User,
};

/// A frame as its session hands it over.
#[derive(Debug, Clone)]
pub struct Received {
    /// The frame, byte for byte; a JSON object.
    pub frame: Bytes,
    /// When it was read from the socket.
    pub at: Timestamp,
    /// The user's latest message that was sent before it.
    pub in_reply_to: Option<ClientMessageId>,
    /// Where it came from.
    pub source: Source,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Reception {
    /// It is an event now, on its way to stable storage; await `durable` before telling anyone.
    Event {
        /// Its id.
        id: EventId,
        /// Answers when it is on stable storage.
        durable: oneshot::Receiver<()>,
    },
    /// The same bytes under the same identity came before, or the bridge itself sent them: nothing
    /// was stored.
    Repeat,
}

/// Received events, of all users.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    messages: Messages,
    memory: Mutex<RepeatMemory>,
    retention: Mutex<Retention>,
    /// Users whose conversation a human agent has taken over.
    agent_sessions: Mutex<HashSet<UserNumber>>,
    subscribers: RwLock<Subscribers>,
}

/// Who wants events.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Every configured webhook.
    pub webhooks: BTreeMap<WebhookName, Arc<dyn Subscriber>>,
    /// Which of them want which user's events.
    pub routes: HashMap<UserNumber, Vec<Arc<dyn Subscriber>>>,
}

impl Events {
    /// Reads what the store holds.
    pub fn load(
        store: Arc<Store>,
        messages: Messages,
        kept: &config::Store,
        subscribers: Subscribers,
    ) -> Result<Self, StoreError> {
        let now = Timestamp::now();
        let mut memory = RepeatMemory::default();
        let mut retention = Retention::new(kept.recent);
        for journal in store.journals() {
            let journal = journal?;
            memory.restore(&journal, now);
            retention.restore(&journal);
        }
        let shared = Shared {
            store,
            messages,
            memory: Mutex::new(memory),
            retention: Mutex::new(retention),
            agent_sessions: Mutex::default(),
            subscribers: RwLock::new(subscribers),
        };
        let events = Self { shared: Arc::new(shared) };
        events.shared.sweep()?;
        Ok(events)
    }

    /// Takes a frame. Waits while the store has too much to write already, so that a caller that
    /// reads its socket only after this returns never reads more than memory allows. Frames of one
    /// user must be handed over one after the other; they need not be awaited to be durable.
    pub async fn receive(
        &self,
        user: &Arc<User>,
        head: &FrameHead<'_>,
        received: Received,
    ) -> Result<Reception, StoreError> {
        if self.shared.is_own(user, head, &received.frame)? {
            return Ok(Reception::Repeat);
        }
        // First, because it may be refused: a frame that was not stored must not count as known.
        let reserved = self.shared.store.reserve(received.frame.len() + 256).await?;
        let mark = Mark::of(head.identity(), &received.frame);
        if let Some(mark) = mark
            && self.shared.memory().is_repeat(user.number, mark)
        {
            tracing::debug!(user = %user.name, "a frame came a second time and was suppressed");
            return Ok(Reception::Repeat);
        }
        self.shared.note_agent_session(user.number, head);
        let kind = head.kind.as_deref().unwrap_or_default();
        let subscribers = self.subscribers(user.number);
        let slots: Vec<LaneSlot> = subscribers.iter().map(|s| s.give(user.number, kind)).collect();
        let bot = self.shared.store.bot_number(&user.bot)?;
        let in_reply_to = received.in_reply_to.filter(|_| !head.is("user_message"));
        let new = NewEvent {
            user: user.number,
            bot,
            kind: kind.to_owned(),
            received_at: received.at,
            in_reply_to,
            source: received.source,
            speaker: speaker(head),
            slots: slots.clone(),
            journal: Mark::entry(mark, user.number, received.frame.len()),
            frame: received.frame.clone(),
        };
        let event = Event {
            // Its number is not known before it has its place in the log.
            id: self.shared.store.event_id(0),
            user: user.name.clone(),
            bot: user.bot.clone(),
            kind: new.kind.clone(),
            received_at: received.at,
            in_reply_to,
            source: received.source,
            speaker: new.speaker,
            frame: received.frame,
        };
        let (sender, durable) = oneshot::channel();
        let (shared, owner) = (Arc::clone(&self.shared), user.number);
        let number = self.shared.store.append_event(new, reserved, move |number| {
            shared.durable(owner, number, event, &subscribers, &slots);
            // Most callers don't wait.
            let _ = sender.send(());
        })?;
        let id = self.shared.store.event_id(number);
        Ok(Reception::Event { id, durable })
    }

    /// An event of the user, as long as it is kept.
    pub fn find(&self, user: UserNumber, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        if id.store != self.shared.store.event_id(0).store {
            return Ok(None);
        }
        self.shared.store.event(user, id.number)
    }

    /// Every configured webhook, by name.
    pub fn webhooks(&self) -> Vec<Arc<dyn Subscriber>> {
        self.shared.subscribers().webhooks.values().cloned().collect()
    }

    /// The webhook of this name, if configured.
    pub fn webhook(&self, name: &str) -> Option<Arc<dyn Subscriber>> {
        self.shared.subscribers().webhooks.get(name).cloned()
    }

    /// How many events of the user are not delivered, over all webhooks.
    pub fn undelivered(&self, user: UserNumber) -> u64 {
        self.subscribers(user).iter().map(|subscriber| subscriber.undelivered(user)).sum()
    }

    /// Whether a human agent has taken over the user's conversation, as far as this run has seen.
    pub fn in_agent_session(&self, user: UserNumber) -> bool {
        self.shared.agent_sessions.lock().unwrap_or_else(PoisonError::into_inner).contains(&user)
    }

    /// A lane is past this event: it is forgotten once all lanes are and it is no longer recent.
    pub fn passed(&self, user: UserNumber, event: u64, frame_length: usize) {
        self.shared.passed(user, event, frame_length);
    }

    /// Lets go of the webhooks, at the end: they hold this as well.
    pub fn close(&self) {
        *self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner) = Subscribers::default();
    }

    fn subscribers(&self, user: UserNumber) -> Vec<Arc<dyn Subscriber>> {
        self.shared.subscribers().routes.get(&user).cloned().unwrap_or_default()
    }
}

impl Shared {
    /// Runs on the commit thread, in the order of the events' numbers.
    fn durable(
        &self,
        user: UserNumber,
        number: u64,
        mut event: Event,
        subscribers: &[Arc<dyn Subscriber>],
        slots: &[LaneSlot],
    ) {
        event.id = self.store.event_id(number);
        let size = event.frame.len();
        if let Some(message) = event.in_reply_to
            && event.kind.eq_ignore_ascii_case("bot_response")
        {
            self.messages.replied(user, message, event.id);
        }
        let event = Arc::new(event);
        for (subscriber, slot) in subscribers.iter().zip(slots) {
            if slot.wanted {
                subscriber.arrived(user, &event, slot.sequence);
            }
        }
        self.make_room(size);
    }

    /// Whether the bridge itself sent this: the same id and the same text as a message it remembers.
    fn is_own(&self, user: &User, head: &FrameHead<'_>, frame: &[u8]) -> Result<bool, StoreError> {
        #[derive(Deserialize)]
        struct UserMessage {
            message: Text,
        }
        #[derive(Deserialize)]
        struct Text {
            #[serde(default)]
            body: String,
        }
        if !head.is("user_message") {
            return Ok(false);
        }
        let Some(id) = head.id.as_deref().and_then(|id| id.parse::<ClientMessageId>().ok()) else {
            return Ok(false);
        };
        let Some(message) = self.messages.find(user.number, id)? else { return Ok(false) };
        let text = serde_json::from_slice::<UserMessage>(frame).map(|frame| frame.message.body);
        Ok(text.is_ok_and(|text| Fingerprint::of(text.as_bytes()) == message.text_fingerprint))
    }

    fn subscribers(&self) -> RwLockReadGuard<'_, Subscribers> {
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_agent_session(&self, user: UserNumber, head: &FrameHead<'_>) {
        if head.is("agent_session_start") {
            self.agent_sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(user);
        } else if head.is("agent_session_end") {
            self.agent_sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&user);
        }
    }

    fn memory(&self) -> MutexGuard<'_, RepeatMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retention(&self) -> MutexGuard<'_, Retention> {
        self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new event, and forgets the oldest where there are too many.
    fn make_room(&self, size: usize) {
        let mut retention = self.retention();
        retention.arrived(size);
        let outcome = retention.expire(&self.store, Timestamp::now(), &mut self.memory(), |user, event| {
            self.is_past_everywhere(user, event)
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "old events could not be forgotten");
        }
    }

    fn passed(&self, user: UserNumber, event: u64, frame_length: usize) {
        let is_recent = self.retention().is_recent(event);
        if !is_recent && self.is_past_everywhere(user, event) {
            self.store.remove_event(user, event, frame_length);
        }
    }

    fn is_past_everywhere(&self, user: UserNumber, event: u64) -> bool {
        self.subscribers()
            .routes
            .get(&user)
            .is_none_or(|subscribers| subscribers.iter().all(|s| s.is_past(user, event)))
    }

    /// Removes what a crash left: events that every lane is past and that are no longer recent.
    fn sweep(&self) -> Result<(), StoreError> {
        let users: Vec<UserNumber> = self.subscribers().routes.keys().copied().collect();
        for user in users {
            for event in self.store.events_after(user, 0) {
                let event = event?;
                if self.retention().is_recent(event.number) || !self.is_past_everywhere(user, event.number) {
                    break;
                }
                self.store.remove_event(user, event.number, event.frame.len());
            }
        }
        Ok(())
    }
}
