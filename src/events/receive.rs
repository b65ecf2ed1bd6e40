//! From a frame to an event in the store, and from there to its lanes.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::{
    Ahead, Event, EventCounters, EventId, EventKind, Route, Source, Speaker, Subscriber, Subscribers,
    agent::{self, AgentSessions, Desk, Effect, Partner},
    memory::{Mark, RepeatMemory},
    places::Places,
    recent::Bells,
    retention::Retention,
    streams::Streams,
    text::speaker,
};
use crate::{
    clock::Timestamp,
    config,
    messages::{ClientMessageId, Fingerprint, Messages},
    rtm::frame::{FrameHead, Part},
    store::{
        BotNumber, EncodedEvent, JournalEntry, LaneSlot, NewEvent, OnDurable, Said, Store, StoreError,
        StoredEvent, Urgency, UserNumber, Wanted,
    },
    users::User,
};

/// About what an event with a frame of this length takes while it waits for its commit: its record, which the frame
/// is a part of, and what goes to the lanes.
fn waiting_size(frame: usize) -> usize {
    frame + 768
}

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
    /// What it says and when, for a live frame that the history knows by no identity.
    pub said: Option<Said>,
    /// Whether anybody waits until it is on stable storage.
    pub awaited: Awaited,
}

#[cfg(test)]
impl Received {
    /// A frame that came now, awaited.
    pub(super) fn sample(frame: &Bytes) -> Self {
        let (frame, at, source) = (frame.clone(), Timestamp::now(), Source::Live);
        Self { frame, at, in_reply_to: None, source, said: None, awaited: Awaited::Yes }
    }
}

/// Whether anybody waits until an event is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Somebody is to be told.
    Yes,
    /// Nobody: the event goes its way.
    No,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Reception {
    /// It is an event now, on its way to stable storage; await `durable` before telling anyone outside.
    Event {
        /// Its id.
        id: EventId,
        /// Answers when it is on stable storage; there if that was to be [awaited](Received::awaited).
        durable: Option<oneshot::Receiver<()>>,
        /// Whom the user talks to from now on, if that is somebody else.
        partner: Option<Partner>,
    },
    /// The same bytes under the same identity came before, or the bridge itself sent them: nothing
    /// was stored.
    Repeat,
}

/// Received events, of all users.
#[derive(Debug, Clone)]
pub struct Events {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) messages: Messages,
    counters: EventCounters,
    memory: Mutex<RepeatMemory>,
    retention: Mutex<Retention>,
    /// Users whose conversation a human agent has taken over.
    pub(super) agents: AgentSessions,
    /// What their transcripts are made with, once that is there.
    pub(super) desk: OnceLock<Desk>,
    /// Held while an event is given its places and its number: both say the same order, whoever
    /// stores events of a user at the same time.
    numbering: Mutex<()>,
    /// Streamed answers that are not complete.
    pub(super) streams: Streams,
    /// Who waits for events.
    pub(super) bells: Bells,
    /// None once this is closed: nobody is known to be done with anything then.
    subscribers: RwLock<Option<Subscribers>>,
}

/// An event that has no number yet.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) kind: EventKind,
    pub(super) received_at: Timestamp,
    pub(super) in_reply_to: Option<ClientMessageId>,
    pub(super) source: Source,
    pub(super) speaker: Speaker,
    pub(super) journal: JournalEntry,
    pub(super) frame: Bytes,
    pub(super) awaited: Awaited,
}

/// The lanes that a user's next event has a place in, and the user's bot.
#[derive(Debug)]
pub(super) struct LanesOfUser {
    pub(super) subscribers: Route,
    bot: BotNumber,
    pub(super) places: Places,
    pub(super) answers: Answers,
}

/// What the message that an event answers is told, if it is an answer.
#[derive(Debug)]
pub(super) enum Answers {
    /// That this is an answer.
    Itself,
    /// That these events and this one are the answer.
    With(Vec<EventId>),
    /// Nothing: the answer is not complete, or told already.
    Nothing,
}

/// An event on its way to stable storage.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: EventId,
    /// Answers when it is there, if that is awaited.
    pub(super) durable: Option<oneshot::Receiver<()>>,
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
        let (mut memory, mut retention) = (RepeatMemory::default(), Retention::load(&store, kept.recent)?);
        for journal in store.journals() {
            let journal = journal?;
            memory.restore(&journal, now);
            retention.restore(&journal);
        }
        let bells = Bells::new(store.newest_event()?);
        let agents = AgentSessions::load(store.agent_records()?);
        let shared = Shared {
            store,
            messages,
            counters: EventCounters::default(),
            memory: Mutex::new(memory),
            retention: Mutex::new(retention),
            agents,
            desk: OnceLock::new(),
            numbering: Mutex::default(),
            streams: Streams::default(),
            bells,
            subscribers: RwLock::new(Some(subscribers)),
        };
        let events = Self { shared: Arc::new(shared) };
        // Before anything is forgotten: what they begin with must stay.
        events.shared.streams.hold(&events.shared.store.stream_marks()?);
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
        // First what may be refused: a frame that was not stored must not count as known.
        let reserved = self.shared.store.reserve(waiting_size(received.frame.len())).await?;
        let lanes = self.shared.lanes_of(user)?;
        let mark = match received.source {
            Source::Live | Source::Bridge | Source::Assembled => Mark::of(head.identity(), &received.frame),
            Source::History => head.identity().map(Mark::any),
        };
        if let Some(mark) = mark
            && self.shared.memory().is_repeat(user.number, mark)
        {
            tracing::debug!(user = %user.name, bot = %user.bot, "a frame came a second time and was suppressed");
            return Ok(Reception::Repeat);
        }
        if let Some(said) = received.said {
            self.shared.memory().push_said(user.number, said);
        }
        let sign = agent::mark(head, &received.frame);
        let effect = sign.as_ref().map_or(Effect::None, |sign| {
            self.shared.agents.observe(user.number, lanes.bot, sign, received.source, received.at)
        });
        let is_agents = sign.is_some_and(|sign| sign.is_agents);
        let fresh = Fresh {
            kind: head.kind.as_deref().unwrap_or_default().into(),
            received_at: received.at,
            in_reply_to: received.in_reply_to.filter(|_| !head.is("user_message")),
            source: received.source,
            speaker: if is_agents { Speaker::Agent } else { speaker(head) },
            journal: JournalEntry {
                said: received.said,
                ..Mark::entry(mark, user.number, received.frame.len())
            },
            frame: received.frame,
            awaited: received.awaited,
        };
        let store = &self.shared.store;
        let Stored { id, durable } = if head.part != Part::Whole && head.is("bot_response") {
            if effect != Effect::None {
                self.shared.save_agents(user.number)?;
            }
            self.receive_part(user, head, lanes, fresh, reserved).await?
        } else {
            self.shared.hand_over(user, lanes, fresh, |event, on_durable| match effect {
                Effect::None => store.append_event(event, reserved, on_durable),
                Effect::Changed | Effect::Turned(_) => {
                    let record = self.shared.agents.record(user.number);
                    store.append_event_and_agents(event, &record, reserved, on_durable)
                }
            })?
        };
        self.shared.counters.received(head.kind.as_deref().unwrap_or_default());
        let partner = match effect {
            Effect::Turned(partner) => {
                // The event itself is stored; a report that isn't is made up for by the next start.
                if let Err(error) = Box::pin(self.report_agent_session(user)).await {
                    tracing::warn!(user = %user.name, %error, "an agent session can't be reported now");
                }
                Some(partner)
            }
            Effect::None | Effect::Changed => None,
        };
        Ok(Reception::Event { id, durable, partner })
    }

    /// What was counted.
    pub fn counters(&self) -> &EventCounters {
        &self.shared.counters
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
        self.shared.subscribers().iter().flat_map(|of| of.webhooks.values()).cloned().collect()
    }

    /// The webhook of this name, if configured.
    pub fn webhook(&self, name: &str) -> Option<Arc<dyn Subscriber>> {
        self.shared.subscribers().as_ref()?.webhooks.get(name).cloned()
    }

    /// How many events of the user are not delivered, over all webhooks.
    pub fn undelivered(&self, user: UserNumber) -> u64 {
        let subscribers = self.shared.subscribers_of(user).unwrap_or_default();
        subscribers.iter().map(|subscriber| subscriber.undelivered(user)).sum()
    }

    /// Whether an event of this identity came before, as far as that is remembered.
    pub fn knows(&self, user: UserNumber, identity: &str) -> bool {
        self.shared.memory().knows(user, identity)
    }

    /// What was said by live events that the history knows by no identity, oldest first, as far as
    /// that is remembered.
    pub fn said(&self, user: UserNumber) -> Vec<Said> {
        self.shared.memory().said(user)
    }

    /// A lane is past this event: it is forgotten once all lanes are and it is no longer recent.
    pub fn passed(&self, user: UserNumber, event: u64, frame_length: usize) {
        self.shared.passed(user, event, frame_length);
    }

    /// Forgets what every lane is past and is not recent any more; for when the store could not be read
    /// while lanes went on.
    pub fn tidy(&self) {
        if let Err(error) = self.shared.sweep() {
            tracing::warn!(%error, "delivered events could not be forgotten");
        }
    }

    /// From the next event on, these get them. An event that is being handed over meanwhile may still get
    /// its places as they were: whoever had a route has something left, until this is called again.
    pub fn resubscribe(&self, subscribers: Subscribers) {
        let mut current = self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = current.take() {
            *current = Some(subscribers.taking_over(before));
        }
    }

    /// Lets go of the webhooks, at the end: they hold this as well.
    pub fn close(&self) {
        *self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// When an event is to be stored: a little later, if much is ahead of it, nobody awaits it, and nobody waits for what
/// becomes of the message that it answers.
fn urgency(ahead: Ahead, awaited: Awaited, is_watched: impl FnOnce() -> bool) -> Urgency {
    match (ahead, awaited) {
        (Ahead::Much, Awaited::No) if !is_watched() => Urgency::Soon,
        _ => Urgency::Now,
    }
}

impl Fresh {
    /// About what it takes while it waits for its commit.
    pub(super) fn size(&self) -> usize {
        waiting_size(self.frame.len())
    }
}

impl Shared {
    /// Where the user's events go; an error once nothing more is taken.
    pub(super) fn lanes_of(&self, user: &User) -> Result<LanesOfUser, StoreError> {
        let closed = || StoreError::Unavailable("it is shutting down".to_owned());
        let subscribers = self.subscribers_of(user.number).ok_or_else(closed)?;
        let bot = self.store.bot_number(&user.bot)?;
        Ok(LanesOfUser { subscribers, bot, places: Places::All, answers: Answers::Itself })
    }

    /// Gives an event its place in each lane, and hands it to the store by `commit`, which answers with
    /// its number.
    pub(super) fn hand_over(
        self: &Arc<Self>,
        user: &User,
        lanes: LanesOfUser,
        fresh: Fresh,
        commit: impl FnOnce(EncodedEvent, OnDurable) -> Result<u64, StoreError>,
    ) -> Result<Stored, StoreError> {
        let LanesOfUser { subscribers, bot, places, answers } = lanes;
        let Fresh { kind, received_at, in_reply_to, source, speaker, journal, frame, awaited } = fresh;
        let _alone = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        let (slots, ahead) = places.give(&subscribers, user.number, &kind, source);
        let journal = JournalEntry { wanted: Wanted::by(&slots), ..journal };
        let new = NewEvent {
            user: user.number,
            bot,
            kind: kind.clone(),
            received_at,
            in_reply_to,
            source,
            speaker,
            slots: slots.clone(),
            journal,
            frame,
        };
        let mut encoded = new.encode();
        encoded.urgency = urgency(ahead, awaited, || {
            in_reply_to.is_some_and(|message| self.messages.is_watched(user.number, message))
        });
        let mut event = Arc::new(Event {
            // Its number is not known before it has its place in the log.
            id: self.store.event_id(0),
            user: user.name.clone(),
            bot: user.bot.clone(),
            kind,
            received_at,
            in_reply_to,
            source,
            speaker,
            frame: encoded.frame().clone(),
        });
        let (sender, durable) = match awaited {
            Awaited::Yes => {
                let (sender, durable) = oneshot::channel();
                (Some(sender), Some(durable))
            }
            Awaited::No => (None, None),
        };
        let (shared, owner) = (Arc::clone(self), user.number);
        let number = commit(
            encoded,
            Box::new(move |number| {
                let unshared = Arc::get_mut(&mut event).expect("nobody was given it yet");
                unshared.id = shared.store.event_id(number);
                shared.answered(owner, &event, &answers);
                shared.durable(owner, event, &subscribers, &slots);
                if let Some(sender) = sender {
                    // Who waited may have given up.
                    let _ = sender.send(());
                }
            }),
        )?;
        Ok(Stored { id: self.store.event_id(number), durable })
    }

    /// Stores what a part of a streamed answer changed of an agent session: ahead of the part, so that it is never
    /// behind it. In turn with events, since a report that is stored meanwhile changes it too: the later of the
    /// two must not be followed by the earlier.
    fn save_agents(&self, user: UserNumber) -> Result<(), StoreError> {
        let _alone = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.save_agents(user, &self.agents.record(user))
    }

    /// Who wants the user's events; none once this is closed.
    pub(super) fn subscribers_of(&self, user: UserNumber) -> Option<Route> {
        let subscribers = self.subscribers();
        Some(subscribers.as_ref()?.route(user))
    }

    /// Tells the message that an event answers. Runs on the commit thread.
    fn answered(&self, user: UserNumber, event: &Event, answers: &Answers) {
        let Some(message) = event.in_reply_to.filter(|_| event.kind.eq_ignore_ascii_case("bot_response"))
        else {
            return;
        };
        match answers {
            Answers::Nothing => {}
            Answers::Itself => self.messages.replied(user, message, event.id),
            Answers::With(earlier) => {
                self.messages.replied_with(user, message, earlier.iter().copied().chain([event.id]));
            }
        }
    }

    /// Runs on the commit thread, in the order of the events' numbers.
    fn durable(
        &self,
        user: UserNumber,
        event: Arc<Event>,
        subscribers: &[Arc<dyn Subscriber>],
        slots: &[LaneSlot],
    ) {
        let size = event.frame.len();
        // First: whoever begins to look when a webhook has it begins behind it.
        self.bells.ring(user, event.id.number);
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

    fn subscribers(&self) -> RwLockReadGuard<'_, Option<Subscribers>> {
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, RepeatMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn retention(&self) -> MutexGuard<'_, Retention> {
        self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new event, and forgets the oldest where there are too many.
    fn make_room(&self, size: usize) {
        let mut retention = self.retention();
        retention.arrived(size);
        let is_past = |user, event, wanted| self.is_past_everywhere(user, event, wanted);
        let outcome = retention.expire(&self.store, Timestamp::now(), || self.memory(), is_past);
        if let Err(error) = outcome {
            tracing::warn!(%error, "old events could not be forgotten");
        }
    }

    pub(super) fn passed(&self, user: UserNumber, event: u64, frame_length: usize) {
        let is_recent = self.retention().is_recent(event);
        if !is_recent && self.is_past_everywhere(user, event, Wanted::UNKNOWN) {
            self.store.remove_event(user, event, frame_length);
        }
    }

    /// Whether nobody has this event still to finish.
    fn is_past_everywhere(&self, user: UserNumber, event: u64, wanted: Wanted) -> bool {
        if self.streams.holds(user, event) {
            return false;
        }
        let subscribers = self.subscribers();
        let Some(subscribers) = subscribers.as_ref() else { return false };
        subscribers.are_past(user, event, wanted, || self.store.slots(user, event).ok().flatten())
    }

    /// Removes what a crash left: events that every lane is past and that are no longer recent.
    fn sweep(&self) -> Result<(), StoreError> {
        for user in self.store.known_users() {
            for event in self.store.events_after(user, 0) {
                let event = event?;
                if self.retention().is_recent(event.number)
                    || !self.is_past_everywhere(user, event.number, Wanted::by(&event.slots))
                {
                    break;
                }
                self.store.remove_event(user, event.number, event.frame.len());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{DeliveryCounts, LanePlace, WebhookState, WebhookStatus},
        names::{BotName, UserName, WebhookName},
        store::{WebhookNumber, testing},
    };

    /// A webhook that never gets anything through.
    #[derive(Debug)]
    struct Stuck(Mutex<u64>);

    impl Subscriber for Stuck {
        fn webhook(&self) -> WebhookNumber {
            WebhookNumber(1)
        }

        fn give(&self, user: UserNumber, _: &str, _: Source) -> LanePlace {
            LanePlace { slot: self.pass_by(user), ahead: Ahead::Little }
        }

        fn pass_by(&self, _: UserNumber) -> LaneSlot {
            let mut given = self.0.lock().unwrap();
            *given += 1;
            LaneSlot { webhook: WebhookNumber(1), sequence: *given, wanted: true }
        }

        fn assembles(&self, _: &str) -> bool {
            false
        }

        fn arrived(&self, _: UserNumber, _: &Arc<Event>, _: u64) {}

        fn is_past(&self, _: UserNumber, _: u64) -> bool {
            false
        }

        fn undelivered(&self, _: UserNumber) -> u64 {
            *self.0.lock().unwrap()
        }

        fn status(&self) -> WebhookStatus {
            WebhookStatus {
                name: WebhookName::new("stuck").unwrap(),
                state: WebhookState::Failing,
                backlog: 0,
                last_outcome: None,
                counts: DeliveryCounts::default(),
            }
        }

        fn enable(&self) {}
    }

    #[test]
    fn an_event_is_stored_later_only_if_nobody_waits_for_it() {
        assert_eq!(urgency(Ahead::Much, Awaited::No, || false), Urgency::Soon);
        assert_eq!(urgency(Ahead::Much, Awaited::No, || true), Urgency::Now);
        assert_eq!(urgency(Ahead::Much, Awaited::Yes, || false), Urgency::Now);
        assert_eq!(urgency(Ahead::Little, Awaited::No, || false), Urgency::Now);
    }

    #[tokio::test]
    async fn what_is_committed_during_the_end_is_not_taken_for_delivered() {
        let (_directory, store) = testing::store();
        let kept = config::Store { recent: 1, ..testing::settings("unused".as_ref()) };
        let messages = Messages::load(store.clone(), config::Messages::default(), &kept).unwrap();
        let name = UserName::new("alice").unwrap();
        let number = store.user_number(&name).unwrap();
        let user = Arc::new(User::new(name, number, BotName::new("support").unwrap(), Timestamp::now()));
        let stuck: Arc<dyn Subscriber> = Arc::new(Stuck(Mutex::new(0)));
        let subscribers = Subscribers {
            routes: [(number, Route::from([stuck]))].into_iter().collect(),
            ..Subscribers::default()
        };
        let events = Events::load(store.clone(), messages, &kept, subscribers).unwrap();
        let mut last = None;
        for n in 0..300 {
            let frame = Bytes::from(format!(r#"{{"type":"events","n":{n}}}"#));
            let head = FrameHead::parse(&frame).unwrap();
            let received = Received::sample(&frame);
            match events.receive(&user, &head, received).await.unwrap() {
                Reception::Event { durable, .. } => last = durable,
                Reception::Repeat => panic!("no frame is a repeat"),
            }
        }
        events.close();
        last.unwrap().await.unwrap();
        // Whatever was to be removed is removed when the store is closed.
        store.close();
        assert_eq!(store.events_after(number, 0).count(), 300);
    }
}
