//! Delivers one webhook's events: takes them out of their lanes, has them posted, and acts on what
//! comes of it.
//!
//! There is no task per lane or event that waits. An event that arrives, and a delivery that ends,
//! take what may go next; one task per webhook sleeps until the next retry is due.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    AttemptResult, Delivery, Outcome, Sender, SenderError,
    gate::{Admission, Gate, Recovery},
    visible,
};
use crate::{
    clock::{Now, Timestamp},
    config,
    events::{
        Body, DeliveryCounts, Event, Events, LastOutcome, Subscriber, WebhookState, WebhookStatus,
        lanes::{LaneEvent, Lanes, Next, Order, Started, WINDOW},
    },
    names::WebhookName,
    retry::Backoff,
    store::{
        LaneSlot, NewDeadLetter, Store, StoreError, StoredEvent, UserNumber, WebhookNumber, WebhookRecord,
    },
};

/// How long to wait before a store that can't be read is asked again.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// Events of one lane that are looked at in one go while looking for those that are wanted.
const LOOK_AT_MOST: usize = 256;
/// An event's failed attempts that the log tells of.
const WORTH_TELLING: u32 = 3;

/// Delivers one webhook's events. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: WebhookName,
    number: WebhookNumber,
    settings: config::Webhook,
    sender: Sender,
    store: Arc<Store>,
    events: OnceLock<Events>,
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Deliveries under way end without an outcome.
    give_up: CancellationToken,
    /// Something is due earlier than it was.
    earlier: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    gate: Gate,
    /// What a restart must know of the gate.
    record: WebhookRecord,
    /// Started events that wait for their next attempt, by when it is due.
    due: BTreeMap<(Instant, u64), UserNumber>,
    /// When the store is asked again for waiting events, after it could not be read.
    load_again: Option<Instant>,
    rng: fastrand::Rng,
    last_outcome: Option<LastOutcome>,
    trouble: Trouble,
    counts: DeliveryCounts,
}

/// Whether the log says that the webhook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Told,
}

/// An event on its way out.
#[derive(Debug)]
struct Job {
    user: UserNumber,
    started: Started,
}

impl Dispatcher {
    /// Takes up the webhook's lanes where the last run left them. Nothing is sent before
    /// [`Dispatcher::start`].
    pub fn load(
        name: &WebhookName,
        settings: &config::Webhook,
        store: Arc<Store>,
    ) -> Result<Self, LoadError> {
        let sender = Sender::new(name, settings)?;
        let number = store.webhook_number(name)?;
        let mut lanes = Lanes::new(if settings.ordered { Order::Kept } else { Order::Lifted });
        // Also of users who no longer have this webhook, or are gone: what they received is delivered.
        for user in store.known_users() {
            restore(&store, &mut lanes, number, user)?;
        }
        let mut gate = Gate::new(settings.max_in_flight, settings.backoff_min, settings.backoff_max);
        let record = restore_gate(&store, &mut gate, number)?;
        let state = State {
            lanes,
            gate,
            record,
            due: BTreeMap::new(),
            load_again: None,
            rng: fastrand::Rng::new(),
            last_outcome: None,
            trouble: Trouble::None,
            counts: DeliveryCounts::default(),
        };
        let shared = Shared {
            name: name.clone(),
            number,
            settings: settings.clone(),
            sender,
            store,
            events: OnceLock::new(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            earlier: Notify::new(),
            state: Mutex::new(state),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Starts delivering. `events` is told of what is delivered.
    pub fn start(&self, events: Events) {
        // Started once; a second start would change nothing.
        let _ = self.shared.events.set(events);
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move { shared.keep_time().await });
        self.shared.pump(&mut self.shared.lock());
    }

    /// Users whose events are still to be delivered.
    pub fn users_with_backlog(&self) -> Vec<UserNumber> {
        self.shared.lock().lanes.users_with_backlog().collect()
    }

    /// Starts no more deliveries.
    pub fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
    }

    /// Waits for the deliveries under way after [`Dispatcher::stop`], as long as `limit`. What isn't
    /// done then is repeated by the next start.
    pub async fn finish(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(webhook = %self.shared.name, "deliveries under way were given up; they are repeated after the next start");
            self.shared.give_up.cancel();
            self.shared.tasks.wait().await;
        }
    }
}

/// Why a webhook's lanes could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its client can't be built.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes up a user's lane where the last run left it.
pub(super) fn restore(
    store: &Store,
    lanes: &mut Lanes,
    webhook: WebhookNumber,
    user: UserNumber,
) -> Result<(), StoreError> {
    // A lane has a record from its first event on.
    let Some(mut record) = store.lane(webhook, user)? else { return Ok(()) };
    let (mut newest, mut given) = (0, None);
    for event in store.slots_from_newest(user) {
        let (number, slots) = event?;
        newest = newest.max(number);
        given = slots.iter().find(|slot| slot.webhook == webhook).map(|slot| slot.sequence);
        if given.is_some() || number <= record.done.event {
            break;
        }
    }
    let is_finished = given.is_none() && record.done_ahead.is_empty();
    if is_finished && newest > record.done.event {
        // Nothing newer is for this lane: the next start need not look again.
        record.done.event = newest;
        store.save_lane(webhook, user, &record);
    }
    lanes.restore(user, record, given.unwrap_or_default(), newest);
    Ok(())
}

fn restore_gate(store: &Store, gate: &mut Gate, webhook: WebhookNumber) -> Result<WebhookRecord, StoreError> {
    let record = store.webhook(webhook)?;
    let now = Now::read();
    if let Some(since) = record.disabled_since {
        gate.disable(since);
    }
    if let Some(until) = record.held_until
        && until > now.wall
    {
        gate.hold(now.wall, now.mono + until.since(now.wall));
    }
    Ok(record)
}

impl Subscriber for Dispatcher {
    fn webhook(&self) -> WebhookNumber {
        self.shared.number
    }

    fn give(&self, user: UserNumber, event_type: &str) -> LaneSlot {
        let wanted = self.shared.settings.events.wants(event_type);
        let sequence = self.shared.lock().lanes.give(user, wanted);
        LaneSlot { webhook: self.shared.number, sequence, wanted }
    }

    fn arrived(&self, user: UserNumber, event: &Arc<Event>, sequence: u64) {
        let mut state = self.shared.lock();
        state.lanes.arrived(user, LaneEvent { event: Arc::clone(event), sequence });
        self.shared.pump(&mut state);
    }

    fn is_past(&self, user: UserNumber, event: u64) -> bool {
        self.shared.lock().lanes.is_past(user, event)
    }

    fn undelivered(&self, user: UserNumber) -> u64 {
        self.shared.lock().lanes.undelivered(user)
    }

    fn enable(&self) {
        let mut state = self.shared.lock();
        state.gate.enable(Timestamp::now());
        state.record = WebhookRecord::default();
        self.shared.store.save_webhook(self.shared.number, &state.record);
        state.everything_is_due(Instant::now());
        tracing::info!(webhook = %self.shared.name, backlog = state.lanes.backlog(), "webhook enabled");
        self.shared.pump(&mut state);
    }

    fn status(&self) -> WebhookStatus {
        let state = self.shared.lock();
        let condition = if state.gate.is_disabled() {
            WebhookState::Disabled
        } else if state.gate.is_failing() {
            WebhookState::Failing
        } else {
            WebhookState::Ok
        };
        WebhookStatus {
            name: self.shared.name.clone(),
            state: condition,
            backlog: state.lanes.backlog(),
            last_outcome: state.last_outcome.clone(),
            counts: state.counts,
        }
    }
}

impl State {
    /// Takes what may go next: a retry that is due, else the next event of the lane whose turn it is.
    fn take(&mut self, shared: &Shared, now: Now) -> Option<Job> {
        self.gate.tick(now.mono, now.wall);
        loop {
            match self.gate.admission(now.mono) {
                Admission::Go => {}
                Admission::NotBefore(_) | Admission::Wait => return None,
            }
            let job = match self.take_due(now.mono) {
                Some(job) => job,
                None => self.take_fresh(shared, now.mono)?,
            };
            match self.gate.admission_of(job.user, now.mono) {
                Admission::Go => return Some(job),
                Admission::NotBefore(at) => self.park(&job, at),
                Admission::Wait => self.park(&job, now.mono),
            }
        }
    }

    fn take_due(&mut self, now: Instant) -> Option<Job> {
        loop {
            let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
            let ((_, event), user) = entry.remove_entry();
            if let Some(started) = self.lanes.started(user, event) {
                return Some(Job { user, started });
            }
        }
    }

    fn take_fresh(&mut self, shared: &Shared, now: Instant) -> Option<Job> {
        self.load_again = None;
        loop {
            match self.lanes.next(shared.settings.format) {
                Next::Nothing => return None,
                Next::Start { user, started } => return Some(Job { user, started }),
                Next::Load { user, after } => match shared.load(user, after) {
                    Ok((items, more_after)) => self.lanes.loaded(user, items, more_after),
                    Err(StoreError::Unavailable(_)) => {
                        // The store says so itself. The lane is asked first the next time.
                        self.load_again = Some(now + STORE_PAUSE);
                        return None;
                    }
                    Err(error) => {
                        tracing::error!(webhook = %shared.name, user = user.0, %error, "waiting events can't be read; this lane stands still");
                        self.lanes.loaded(user, Vec::new(), None);
                    }
                },
            }
        }
    }

    fn park(&mut self, job: &Job, until: Instant) {
        self.due.insert((until, job.started.item.event.id.number), job.user);
    }

    fn everything_is_due(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.due);
        self.due = waiting.into_iter().map(|((at, event), user)| ((at.min(now), event), user)).collect();
    }

    /// When something may be sent again that may not be now.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        match self.gate.admission(now) {
            Admission::NotBefore(at) => Some(at),
            Admission::Wait => None,
            Admission::Go => {
                let due = self.due.keys().next().map(|(at, _)| *at);
                due.into_iter().chain(self.load_again).min()
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts everything that may go now.
    fn pump(self: &Arc<Self>, state: &mut State) {
        if self.events.get().is_none() || self.stop.is_cancelled() {
            return;
        }
        self.start_all(state);
        if state.wake_at(Instant::now()).is_some() {
            self.earlier.notify_one();
        }
    }

    /// Sleeps until something is due, and starts it.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let wake_at = self.lock().wake_at(Instant::now());
            let due = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.earlier.notified() => continue,
                () = due => {}
            }
            self.start_all(&mut self.lock());
        }
    }

    fn start_all(self: &Arc<Self>, state: &mut State) {
        while let Some(job) = state.take(self, Now::read()) {
            state.gate.started();
            self.tasks.spawn_on(Arc::clone(self).work(job), &self.runtime);
        }
    }

    /// Delivers one event, and then whatever may go next.
    async fn work(self: Arc<Self>, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            let delivery = Delivery {
                event_id: job.started.item.event.id,
                user: job.started.item.event.user.clone(),
                event_type: job.started.item.event.kind.clone(),
                attempt: job.started.attempts.saturating_add(1),
                body: Body::render(
                    &job.started.item.event,
                    Some(job.started.item.sequence),
                    job.started.format,
                ),
                at: Timestamp::now(),
            };
            let result = tokio::select! {
                result = self.sender.attempt(&delivery) => result,
                () = self.give_up.cancelled() => return,
            };
            next = self.ended(&job, &result);
        }
    }

    /// Acts on what came of a delivery; answers with what this task may deliver next.
    fn ended(self: &Arc<Self>, job: &Job, result: &AttemptResult) -> Option<Job> {
        let now = Now::read();
        let mut state = self.lock();
        state.gate.ended();
        self.note(&mut state, job, result, now.wall);
        match result.outcome {
            Outcome::Delivered => self.delivered(&mut state, job, now),
            Outcome::Refused => {
                self.answered(&mut state, now);
                self.bury(&mut state, job, result, now.wall, "the receiver refuses this event");
            }
            Outcome::Gone => self.gone(&mut state, job, result, now),
            Outcome::Retry { hold, .. } => self.failed(&mut state, job, result, hold, now),
        }
        let next = if self.stop.is_cancelled() { None } else { state.take(self, now) };
        if next.is_some() {
            state.gate.started();
            // A success may have opened the gate for others, too.
            self.pump(&mut state);
        }
        drop(state);
        let event = &job.started.item.event;
        if let Some(events) = self.events.get() {
            events.passed(job.user, event.id.number, event.frame.len());
        }
        next
    }

    /// Notes the outcome. A webhook that fails now and then is no news; one that an event was sent to
    /// in vain several times is, and so is its return.
    fn note(&self, state: &mut State, job: &Job, result: &AttemptResult, at: Timestamp) {
        let summary = result.summary();
        let attempts = job.started.attempts.saturating_add(1);
        match (result.outcome, state.trouble) {
            (Outcome::Delivered, Trouble::Told) => {
                state.trouble = Trouble::None;
                tracing::info!(webhook = %self.name, backlog = state.lanes.backlog(), "webhook takes events again");
            }
            (Outcome::Retry { .. }, Trouble::None) if attempts >= WORTH_TELLING => {
                state.trouble = Trouble::Told;
                tracing::warn!(webhook = %self.name, attempts, outcome = %summary, "webhook fails; its events are kept and tried again");
            }
            (Outcome::Delivered, Trouble::None) => {}
            _ => {
                tracing::debug!(webhook = %self.name, event = %job.started.item.event.id, attempts, outcome = %summary, "delivery failed");
            }
        }
        state.last_outcome = Some(LastOutcome { summary, at });
    }

    fn answered(&self, state: &mut State, now: Now) {
        if state.gate.answered() == Recovery::Back {
            state.everything_is_due(now.mono);
        }
    }

    fn delivered(&self, state: &mut State, job: &Job, now: Now) {
        self.answered(state, now);
        state.counts.delivered += 1;
        let event = &job.started.item.event;
        if let Some((_, record)) = state.lanes.finished(job.user, event.id.number) {
            self.store.save_lane(self.number, job.user, &record);
        }
    }

    fn failed(&self, state: &mut State, job: &Job, result: &AttemptResult, hold: Option<Duration>, now: Now) {
        let State { gate, record, rng, .. } = state;
        gate.failed(job.user, now.mono, rng);
        if let Some(hold) = hold {
            gate.hold(now.wall, now.mono + hold);
            record.hold(now.wall.plus(hold));
            self.store.save_webhook(self.number, record);
            tracing::warn!(webhook = %self.name, seconds = hold.as_secs(), "webhook asked to be left alone for a while");
        }
        let event = &job.started.item.event;
        if state.gate.age(event.received_at, now.wall) >= self.settings.max_age {
            self.bury(state, job, result, now.wall, "it could not be delivered in time");
            return;
        }
        state.counts.retried += 1;
        self.remember_attempt(state, job, result);
        let config::Webhook { backoff_min, backoff_max, .. } = self.settings;
        let delay = Backoff::resumed(backoff_min, backoff_max, job.started.attempts).next(&mut state.rng);
        state.park(job, now.mono + delay);
        self.earlier.notify_one();
    }

    fn gone(&self, state: &mut State, job: &Job, result: &AttemptResult, now: Now) {
        state.gate.disable(now.wall);
        state.record.disable(now.wall);
        self.store.save_webhook(self.number, &state.record);
        tracing::warn!(webhook = %self.name, "webhook says that it is gone (410): disabled until it is enabled again");
        state.counts.retried += 1;
        self.remember_attempt(state, job, result);
        state.park(job, now.mono);
    }

    fn remember_attempt(&self, state: &mut State, job: &Job, result: &AttemptResult) {
        let number = job.started.item.event.id.number;
        if let Some(record) = state.lanes.attempted(job.user, number, result.status) {
            self.store.save_lane(self.number, job.user, &record);
        }
    }

    /// Makes a dead letter of an event; its lane goes on.
    fn bury(&self, state: &mut State, job: &Job, result: &AttemptResult, at: Timestamp, reason: &str) {
        state.counts.dead += 1;
        let event = &job.started.item.event;
        let Some((started, lane)) = state.lanes.finished(job.user, event.id.number) else { return };
        let attempts = started.attempts.saturating_add(1);
        let reason = format!("{reason}: {}", result.summary());
        tracing::warn!(webhook = %self.name, user = %event.user, event = %event.id, attempts, %reason, "event became a dead letter");
        match self.letter(job, &started, attempts, result, at, reason) {
            Ok(letter) => drop(self.store.add_dead_letter(&letter, &lane)),
            Err(error) => {
                tracing::error!(event = %event.id, %error, "a dead letter could not be kept; it is tried again after the next start");
            }
        }
    }

    fn letter(
        &self,
        job: &Job,
        started: &Started,
        attempts: u32,
        result: &AttemptResult,
        at: Timestamp,
        reason: String,
    ) -> Result<NewDeadLetter, StoreError> {
        let event = &started.item.event;
        let stored = StoredEvent {
            number: event.id.number,
            bot: self.store.bot_number(&event.bot)?,
            kind: event.kind.clone(),
            received_at: event.received_at,
            in_reply_to: event.in_reply_to,
            source: event.source,
            speaker: event.speaker,
            slots: Vec::new(),
            frame: event.frame.clone(),
        };
        Ok(NewDeadLetter {
            webhook: self.number,
            user: job.user,
            position: started.item.position(),
            format: started.format,
            attempts,
            last_status: result.status,
            reason,
            answer: visible(&String::from_utf8_lossy(&result.answer)),
            dead_at: at,
            event: stored,
        })
    }

    /// Reads waiting events of a lane from the store.
    fn load(&self, user: UserNumber, after: u64) -> Result<(Vec<LaneEvent>, Option<u64>), StoreError> {
        let user_name = self.store.user_name(user)?;
        let mut items = Vec::new();
        let mut looked_at = None;
        for stored in self.store.events_after(user, after).take(LOOK_AT_MOST) {
            let stored = stored?;
            looked_at = Some(stored.number);
            let slot = stored.slots.iter().find(|slot| slot.webhook == self.number && slot.wanted);
            if let Some(slot) = slot.copied() {
                let event = Event {
                    id: self.store.event_id(stored.number),
                    user: user_name.clone(),
                    bot: self.store.bot_name(stored.bot)?,
                    kind: stored.kind,
                    received_at: stored.received_at,
                    in_reply_to: stored.in_reply_to,
                    source: stored.source,
                    speaker: stored.speaker,
                    frame: stored.frame,
                };
                items.push(LaneEvent { event: Arc::new(event), sequence: slot.sequence });
                if items.len() == WINDOW {
                    break;
                }
            }
        }
        // Nothing looked at: nothing is there. Otherwise there may be more.
        Ok((items, looked_at))
    }
}
