//! Streamed answers that are under way: their chunks are events like any other, and when the last one is
//! there, webhooks that want it so get one event of them all.
//!
//! That event is stored in one commit with the note that its chunks need not be read again; until then
//! they stay in the store, and a restart reads them again from there. It comes behind the last chunk, and
//! before whatever the user receives next.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Assembled, Awaited, EventId, EventKind, Events, Source, Speaker,
    assembly::Assembly,
    memory::Mark,
    places::Places,
    receive::{Answers, Fresh, LanesOfUser, Shared, Stored},
};
use crate::{
    clock::Timestamp,
    messages::{ClientMessageId, MessageRecord},
    rtm::frame::{FrameHead, Part},
    store::{Reserved, StoreError, StoredEvent, StreamMark, UserNumber, WebhookNumber},
    users::User,
};

/// An answer that has been silent for so long is not waited for any longer.
const SILENCE: Duration = Duration::from_secs(60);
/// So many answers of one user may be under way at once; the chunks of others are taken for events alone.
const MOST: usize = 16;
/// How long to wait before a store is tried again that takes nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// The streamed answers that are under way, of all users.
#[derive(Debug, Default)]
pub(super) struct Streams {
    state: Mutex<State>,
    /// How many users there are whose events are held.
    holding: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<UserNumber, Vec<Stream>>,
    /// Behind which events nothing may be forgotten.
    marks: HashMap<UserNumber, u64>,
}

/// An answer that is under way.
#[derive(Debug)]
struct Stream {
    user: Arc<User>,
    /// The `messageId` of its chunks.
    id: String,
    /// The webhooks that get it as one event, from its first chunk to its end. For none, nothing is assembled.
    assemblers: Vec<WebhookNumber>,
    assembly: Assembly,
    /// The newest event before its first chunk, or one before that.
    after: u64,
    /// Its chunks but the last, as far as a message's replies have room.
    parts: Vec<EventId>,
    kind: EventKind,
    in_reply_to: Option<ClientMessageId>,
    speaker: Speaker,
    /// When its latest chunk came.
    at: Timestamp,
    heard: Instant,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nothing be forgotten that came behind these events.
    pub(super) fn hold(&self, marks: &[(UserNumber, u64)]) {
        let mut state = self.lock();
        state.marks.extend(marks.iter().copied());
        self.holding.store(state.marks.len(), SeqCst);
    }

    /// Whether an answer may begin with this event, or with an earlier one, that is not assembled.
    pub(super) fn holds(&self, user: UserNumber, event: u64) -> bool {
        self.holding.load(SeqCst) > 0 && self.lock().marks.get(&user).is_some_and(|after| event > *after)
    }

    fn set_mark(&self, state: &mut State, user: UserNumber, mark: StreamMark) {
        match mark {
            StreamMark::Keep => {}
            StreamMark::Behind(event) => drop(state.marks.insert(user, event)),
            StreamMark::None => drop(state.marks.remove(&user)),
        }
        self.holding.store(state.marks.len(), SeqCst);
    }

    /// When the answer will have been silent for too long, or now if it is over; none if there is none.
    fn due(&self, user: UserNumber, id: &str) -> Option<Instant> {
        let mut state = self.lock();
        let stream = state.find(user, id)?;
        Some(if stream.assembly.is_over() { stream.heard } else { stream.heard + SILENCE })
    }
}

impl State {
    fn find(&mut self, user: UserNumber, id: &str) -> Option<&mut Stream> {
        self.open.get_mut(&user)?.iter_mut().find(|stream| stream.id == id)
    }

    fn take(&mut self, user: UserNumber, id: &str) -> Option<Stream> {
        let streams = self.open.get_mut(&user)?;
        let place = streams.iter().position(|stream| stream.id == id)?;
        let taken = streams.remove(place);
        if streams.is_empty() {
            self.open.remove(&user);
        }
        Some(taken)
    }

    fn put(&mut self, stream: Stream) {
        self.open.entry(stream.user.number).or_default().push(stream);
    }

    /// What is to be noted while these are under way, and no others.
    fn mark_of(&self, user: UserNumber) -> StreamMark {
        self.mark_without(user, None)
    }

    /// The same without one of them.
    fn mark_without(&self, user: UserNumber, id: Option<&str>) -> StreamMark {
        let streams = self.open.get(&user).into_iter().flatten();
        let assembled = streams.filter(|stream| !stream.assemblers.is_empty() && id != Some(&stream.id));
        assembled.map(|stream| stream.after).min().map_or(StreamMark::None, StreamMark::Behind)
    }
}

impl Stream {
    fn add(&mut self, number: EventId, frame: &bytes::Bytes, part: Part, at: Timestamp) {
        if self.assemblers.is_empty() {
            // Nobody asks what it says.
            self.assembly.pass(part);
        } else {
            self.assembly.add(frame, part);
        }
        // The last one has a place of its own.
        if self.parts.len() + 1 < MessageRecord::MAX_REPLIES {
            self.parts.push(number);
        }
        self.at = at;
        self.heard = Instant::now();
    }
}

impl Stream {
    /// The event that is made of it.
    fn assembled(&self) -> Fresh {
        let (whole, last) = self.assembly.assembled();
        let frame = whole.pack(last);
        Fresh {
            kind: self.kind.clone(),
            received_at: self.at,
            in_reply_to: self.in_reply_to,
            source: Source::Assembled,
            speaker: self.speaker,
            journal: Mark::entry(None, self.user.number, frame.len()),
            frame,
            awaited: Awaited::No,
        }
    }
}

impl Events {
    /// Takes a part of a streamed answer.
    pub(super) async fn receive_part(
        &self,
        user: &Arc<User>,
        head: &FrameHead<'_>,
        lanes: LanesOfUser,
        fresh: Fresh,
        reserved: Reserved,
    ) -> Result<Stored, StoreError> {
        let shared = &self.shared;
        let Some(id) = head.message_id.as_deref().filter(|_| fresh.source == Source::Live) else {
            return shared.hand_over(user, lanes, fresh, |event, on_durable| {
                shared.store.append_event(event, reserved, on_durable)
            });
        };
        let stored = shared.store_part(user, id, head.part, lanes, fresh, reserved)?;
        let is_over = shared.streams.due(user.number, id).is_some_and(|due| due <= Instant::now());
        if is_over && let Err(error) = shared.finish(user.number, id).await {
            // Its watch tries again, and so does the next start.
            tracing::warn!(user = %user.name, %error, "a streamed answer could not be stored as one event yet");
        }
        Ok(stored)
    }

    /// What the platform's history says of an event that came live: all of a streamed answer, perhaps.
    pub fn told_by_history(&self, user: UserNumber, identity: &str, text: &str) {
        if let Some(stream) = self.shared.streams.lock().find(user, identity) {
            stream.assembly.told_by_history(text);
        }
    }

    /// Takes up the answers that were under way when the last run ended; before anything is received.
    pub async fn resume_streams(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        for (user, after) in shared.store.stream_marks()? {
            for id in shared.reopen(user, after)? {
                if shared.streams.due(user, &id).is_some_and(|due| due <= Instant::now()) {
                    shared.finish(user, &id).await?;
                } else {
                    shared.watch(user, id, after);
                }
            }
            let mut state = shared.streams.lock();
            if state.mark_of(user) == StreamMark::None {
                shared.streams.set_mark(&mut state, user, StreamMark::None);
                shared.store.forget_streams(user);
            }
        }
        Ok(())
    }
}

impl Shared {
    fn store_part(
        self: &Arc<Self>,
        user: &Arc<User>,
        id: &str,
        part: Part,
        mut lanes: LanesOfUser,
        fresh: Fresh,
        reserved: Reserved,
    ) -> Result<Stored, StoreError> {
        let mut state = self.streams.lock();
        let number = user.number;
        if state.find(number, id).is_none() {
            if state.open.get(&number).is_some_and(|streams| streams.len() >= MOST) {
                drop(state);
                return self.hand_over(user, lanes, fresh, |event, on_durable| {
                    self.store.append_event(event, reserved, on_durable)
                });
            }
            let assemblers = lanes.subscribers.iter().filter(|lane| lane.assembles(&fresh.kind));
            let after = self.bells.newest();
            state.put(Stream {
                user: Arc::clone(user),
                id: id.to_owned(),
                assemblers: assemblers.map(|lane| lane.webhook()).collect(),
                assembly: Assembly::default(),
                after,
                parts: Vec::new(),
                kind: fresh.kind.clone(),
                in_reply_to: fresh.in_reply_to,
                speaker: fresh.speaker,
                at: fresh.received_at,
                heard: Instant::now(),
            });
            self.watch(number, id.to_owned(), after);
        }
        let mark = match (state.marks.contains_key(&number), state.mark_of(number)) {
            (false, StreamMark::Behind(event)) => StreamMark::Behind(event),
            _ => StreamMark::Keep,
        };
        let stream = state.find(number, id).expect("it was found, or put there");
        lanes.places = Places::AllBut(stream.assemblers.clone());
        lanes.answers = match part {
            Part::Last => Answers::With(stream.parts.clone()),
            Part::Chunk | Part::Whole => Answers::Nothing,
        };
        let (frame, at, is_first) = (fresh.frame.clone(), fresh.received_at, stream.assembly.is_empty());
        // First: once it is committed, whoever forgets events must know that this one is to stay.
        self.streams.set_mark(&mut state, number, mark);
        let stored = self.hand_over(user, lanes, fresh, |event, on_durable| {
            self.store.append_streamed(event, mark, reserved, on_durable)
        });
        if stored.is_err() {
            if is_first {
                drop(state.take(number, id));
            }
            if mark != StreamMark::Keep {
                self.streams.set_mark(&mut state, number, StreamMark::None);
            }
        }
        let stored = stored?;
        let stream = state.find(number, id).expect("it was found, or put there");
        stream.add(stored.id, &frame, part, at);
        Ok(stored)
    }

    /// Makes one event of an answer, as it is now.
    async fn finish(self: &Arc<Self>, user: UserNumber, id: &str) -> Result<(), StoreError> {
        let size = self.streams.lock().find(user, id).map(|stream| stream.assembly.size());
        let Some(size) = size else { return Ok(()) };
        let reserved = self.store.reserve(size).await?;
        let mut state = self.streams.lock();
        let mark = state.mark_without(user, Some(id));
        let Some(stream) = state.find(user, id) else { return Ok(()) };
        if !stream.assemblers.is_empty() {
            let mut lanes = self.lanes_of(&stream.user)?;
            lanes.places = Places::Only(stream.assemblers.clone());
            lanes.answers = Answers::Nothing;
            self.hand_over(&stream.user, lanes, stream.assembled(), |event, on_durable| {
                self.store.append_streamed(event, mark, reserved, on_durable)
            })?;
        }
        let ended = state.take(user, id);
        self.streams.set_mark(&mut state, user, mark);
        drop(state);
        if let Some(Stream { in_reply_to: Some(message), parts, assembly, .. }) = ended
            && !assembly.has_end()
        {
            // Its last chunk would have done this.
            self.messages.replied_with(user, message, parts);
        }
        Ok(())
    }

    /// Ends the answer when it has been silent for too long, and forgets what was kept for it only.
    fn watch(self: &Arc<Self>, user: UserNumber, id: String, after: u64) {
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(wait) = step(&shared, user, &id).await {
                match wait {
                    Wait::Until(at) => sleep_until(at).await,
                    Wait::Pause => sleep(PAUSE).await,
                }
            }
            if let Some(shared) = shared.upgrade() {
                shared.tidy_behind(user, after);
            }
        });
    }

    /// Forgets events that were kept for an answer only.
    fn tidy_behind(&self, user: UserNumber, after: u64) {
        for event in self.store.events_after(user, after) {
            match event {
                Ok(event) if !self.streams.holds(user, event.number) => {
                    self.passed(user, event.number, event.frame.len());
                }
                _ => return,
            }
        }
    }

    /// Reads again what of a user's answers came before a restart; answers with their ids.
    fn reopen(&self, user: UserNumber, after: u64) -> Result<Vec<String>, StoreError> {
        let name = self.store.user_name(user)?;
        let mut state = self.streams.lock();
        for event in self.store.events_after(user, after) {
            let event = event?;
            let owner = || -> Result<_, StoreError> {
                let bot = self.store.bot_name(event.bot)?;
                Ok(Arc::new(User::new(name.clone(), user, bot, event.received_at)))
            };
            match event.source {
                Source::Assembled => {
                    let last = Assembled::last_frame(&event.frame);
                    if let Some(id) = FrameHead::parse(&last).ok().and_then(|head| head.message_id) {
                        drop(state.take(user, &id));
                    }
                }
                Source::Live => self.reopen_with(&mut state, user, &event, owner)?,
                Source::History | Source::Bridge => {}
            }
        }
        let streams = state.open.get(&user).into_iter().flatten();
        Ok(streams.map(|stream| stream.id.clone()).collect())
    }

    fn reopen_with(
        &self,
        state: &mut State,
        user: UserNumber,
        event: &StoredEvent,
        owner: impl FnOnce() -> Result<Arc<User>, StoreError>,
    ) -> Result<(), StoreError> {
        let Ok(head) = FrameHead::parse(&event.frame) else { return Ok(()) };
        let Some(id) = head.message_id.as_deref().filter(|_| head.part != Part::Whole) else { return Ok(()) };
        if !head.is("bot_response") {
            return Ok(());
        }
        if state.find(user, id).is_none() {
            let lanes = self.subscribers_of(user).unwrap_or_default();
            // Those that were passed by when it came.
            let was_given =
                |lane: WebhookNumber| event.slots.iter().any(|slot| slot.webhook == lane && slot.wanted);
            let assemblers =
                lanes.iter().filter(|lane| lane.assembles(&event.kind) && !was_given(lane.webhook()));
            let assemblers: Vec<_> = assemblers.map(|lane| lane.webhook()).collect();
            if assemblers.is_empty() {
                return Ok(());
            }
            state.put(Stream {
                user: owner()?,
                id: id.to_owned(),
                assemblers,
                assembly: Assembly::default(),
                after: event.number - 1,
                parts: Vec::new(),
                kind: event.kind.clone(),
                in_reply_to: event.in_reply_to,
                speaker: event.speaker,
                at: event.received_at,
                heard: Instant::now(),
            });
        }
        if let Some(stream) = state.find(user, id) {
            stream.add(self.store.event_id(event.number), &event.frame, head.part, event.received_at);
        }
        Ok(())
    }
}

/// What a watch does next.
enum Wait {
    Until(Instant),
    Pause,
}

/// Ends an answer that is over or was silent for too long; none once there is nothing to watch.
async fn step(shared: &Weak<Shared>, user: UserNumber, id: &str) -> Option<Wait> {
    let shared = shared.upgrade()?;
    let due = shared.streams.due(user, id)?;
    if due > Instant::now() {
        return Some(Wait::Until(due));
    }
    match shared.finish(user, id).await {
        Ok(()) => None,
        Err(_) => Some(Wait::Pause),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use bytes::Bytes;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        config::{self, PlainFormat},
        events::{
            Ahead, Body, DeliveryCounts, Event, LanePlace, Received, Reception, Route, Subscriber,
            Subscribers, WebhookState, WebhookStatus,
        },
        messages::Messages,
        names::{BotName, UserName, WebhookName},
        store::{LaneSlot, Store, testing},
    };

    /// A webhook that assembles, and is done with nothing.
    #[derive(Debug)]
    struct Lane {
        given: Mutex<u64>,
        arrived: mpsc::UnboundedSender<Value>,
        shared: OnceLock<Weak<Shared>>,
        /// Of how many users something was held when it was asked for a place.
        held: Arc<Mutex<Vec<usize>>>,
    }

    impl Subscriber for Lane {
        fn webhook(&self) -> WebhookNumber {
            WebhookNumber(1)
        }

        fn give(&self, _: UserNumber, _: &str, _: Source) -> LanePlace {
            *self.given.lock().unwrap() += 1;
            let slot = LaneSlot { wanted: true, ..self.pass_by(UserNumber(1)) };
            LanePlace { slot, ahead: Ahead::Little }
        }

        fn pass_by(&self, _: UserNumber) -> LaneSlot {
            if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
                self.held.lock().unwrap().push(shared.streams.holding.load(SeqCst));
            }
            LaneSlot { webhook: WebhookNumber(1), sequence: *self.given.lock().unwrap(), wanted: false }
        }

        fn assembles(&self, event_type: &str) -> bool {
            event_type == "bot_response"
        }

        fn arrived(&self, _: UserNumber, event: &Arc<Event>, sequence: u64) {
            let body = Body::render(event, Some(sequence), PlainFormat::Envelope);
            // Nobody listens any more at the end of a test.
            let _ = self.arrived.send(serde_json::from_slice(&body.bytes).unwrap());
        }

        fn is_past(&self, _: UserNumber, _: u64) -> bool {
            true
        }

        fn undelivered(&self, _: UserNumber) -> u64 {
            0
        }

        fn status(&self) -> WebhookStatus {
            WebhookStatus {
                name: WebhookName::new("lane").unwrap(),
                state: WebhookState::Ok,
                backlog: 0,
                last_outcome: None,
                counts: DeliveryCounts::default(),
            }
        }

        fn enable(&self) {}
    }

    struct Run {
        events: Events,
        user: Arc<User>,
        arrived: mpsc::UnboundedReceiver<Value>,
        held: Arc<Mutex<Vec<usize>>>,
    }

    impl Run {
        /// Keeps nothing for being recent.
        fn start(store: &Arc<Store>) -> Self {
            let kept = config::Store { recent: 1, ..testing::settings("unused".as_ref()) };
            let messages = Messages::load(store.clone(), config::Messages::default(), &kept).unwrap();
            let name = UserName::new("alice").unwrap();
            let number = store.user_number(&name).unwrap();
            let user = Arc::new(User::new(name, number, BotName::new("support").unwrap(), Timestamp::now()));
            let (sender, arrived) = mpsc::unbounded_channel();
            let (shared, held) = (OnceLock::new(), Arc::default());
            let lane =
                Arc::new(Lane { given: Mutex::default(), arrived: sender, shared, held: Arc::clone(&held) });
            let subscribers = Subscribers {
                routes: [(number, Route::from([Arc::clone(&lane) as Arc<dyn Subscriber>]))]
                    .into_iter()
                    .collect(),
                ..Subscribers::default()
            };
            let events = Events::load(store.clone(), messages, &kept, subscribers).unwrap();
            lane.shared.set(Arc::downgrade(&events.shared)).unwrap();
            Self { events, user, arrived, held }
        }

        async fn receives(&self, id: &str, text: &str, part: Part) -> EventId {
            let frame = json!({"type": "bot_response", "messageId": id, "sM": true, "endChunk": part == Part::Last,
                "message": [{"cInfo": {"body": text}}]});
            let frame = Bytes::from(frame.to_string());
            let head = FrameHead::parse(&frame).unwrap();
            let received = Received::sample(&frame);
            match self.events.receive(&self.user, &head, received).await.unwrap() {
                Reception::Event { id, .. } => id,
                Reception::Repeat => panic!("no frame is a repeat"),
            }
        }

        async fn arrival(&mut self) -> (Value, Value, Value, Value) {
            let event = self.arrived.recv().await.unwrap();
            (
                event["text"].clone(),
                event["chunks"].clone(),
                event["complete"].clone(),
                event["sequence"].clone(),
            )
        }

        /// Ends without an end: nothing of what is in memory lasts.
        async fn stop(self, store: &Store) {
            store.settled().await.unwrap();
            self.events.close();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fell_silent_is_delivered_as_far_as_it_came() {
        let (_directory, store) = testing::store();
        let mut run = Run::start(&store);
        run.receives("ms-1", "Once ", Part::Chunk).await;
        run.receives("ms-2", "Two", Part::Chunk).await;
        run.receives("ms-1", "upon", Part::Chunk).await;
        run.events.told_by_history(run.user.number, "ms-2", "Two of two");
        let began = Instant::now();
        let mut both = [run.arrival().await, run.arrival().await];
        both.sort_by_key(|(text, ..)| text.to_string());
        assert!(began.elapsed() >= SILENCE);
        assert_eq!((&both[0].0, &both[0].1, &both[0].2), (&json!("Once upon"), &json!(2), &json!(false)));
        assert_eq!((&both[1].0, &both[1].1, &both[1].2), (&json!("Two of two"), &json!(1), &json!(true)));
        // What comes after all is no part of it.
        run.receives("ms-1", " a time", Part::Last).await;
        assert_eq!(run.arrival().await, (json!(" a time"), json!(1), json!(true), json!(3)));
        store.settled().await.unwrap();
        assert_eq!(store.stream_marks().unwrap(), []);
    }

    /// A commit may be quicker than whoever handed it over, and what nobody holds and is not recent goes with it.
    #[tokio::test]
    async fn a_first_chunk_is_held_before_it_can_be_committed() {
        let (_directory, store) = testing::store();
        let mut run = Run::start(&store);
        run.receives("ms-1", "Once ", Part::Chunk).await;
        assert_eq!(*run.held.lock().unwrap(), [1]);
        run.receives("ms-1", "upon", Part::Last).await;
        run.arrival().await;
        run.receives("ms-2", "Two", Part::Chunk).await;
        assert_eq!(*run.held.lock().unwrap(), [1, 1, 1, 1]);
    }

    #[tokio::test]
    async fn chunks_stay_until_their_answer_is_stored_and_are_read_again_after_a_crash() {
        let (_directory, store) = testing::store();
        let run = Run::start(&store);
        let first = run.receives("ms-1", "Once ", Part::Chunk).await;
        for n in 0..20 {
            run.receives(&format!("other-{n}"), "x", Part::Last).await;
        }
        run.receives("ms-1", "upon ", Part::Chunk).await;
        run.stop(&store).await;
        assert_eq!(store.stream_marks().unwrap(), [(UserNumber(1), first.number - 1)]);

        let mut run = Run::start(&store);
        run.events.resume_streams().await.unwrap();
        run.receives("ms-1", "a time", Part::Last).await;
        assert_eq!(run.arrival().await.0, "Once upon a time", "and none of the others again");
        run.stop(&store).await;
        assert_eq!(store.stream_marks().unwrap(), []);
        let run = Run::start(&store);
        run.events.resume_streams().await.unwrap();
        // What a start removes goes along with the next commit.
        store.settled().await.unwrap();
        assert_eq!(store.events_after(UserNumber(1), 0).count(), 0, "nothing is kept for longer");
        run.stop(&store).await;
    }

    #[tokio::test]
    async fn an_answer_whose_end_was_stored_is_made_after_a_crash() {
        let (_directory, store) = testing::store();
        let run = Run::start(&store);
        run.receives("ms-1", "Once ", Part::Chunk).await;
        {
            // The crash comes between the last chunk and its assembly.
            let shared = &run.events.shared;
            let frame = Bytes::from(
                json!({"type": "bot_response", "messageId": "ms-1", "sM": true, "endChunk": true,
                    "message": [{"cInfo": {"body": "upon"}}]})
                .to_string(),
            );
            let fresh = Fresh {
                kind: "bot_response".into(),
                received_at: Timestamp::now(),
                in_reply_to: None,
                source: Source::Live,
                speaker: Speaker::Bot,
                journal: Mark::entry(None, run.user.number, frame.len()),
                frame,
                awaited: Awaited::No,
            };
            let reserved = store.reserve(fresh.size()).await.unwrap();
            let lanes = shared.lanes_of(&run.user).unwrap();
            shared.store_part(&run.user, "ms-1", Part::Last, lanes, fresh, reserved).unwrap();
            // With all that is in memory.
            assert!(shared.streams.lock().take(run.user.number, "ms-1").is_some());
        }
        run.stop(&store).await;
        let mut run = Run::start(&store);
        run.events.resume_streams().await.unwrap();
        assert_eq!(run.arrival().await, (json!("Once upon"), json!(2), json!(true), json!(1)));
        run.stop(&store).await;
        assert_eq!(store.stream_marks().unwrap(), []);
    }
}
