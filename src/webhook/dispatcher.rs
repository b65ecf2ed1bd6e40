//! Delivers one webhook's events: takes them out of their lanes, has them posted, and acts on what
//! comes of it. Dead letters that are replayed go the same way.
//!
//! There is no task per lane or event that waits. A delivery that ends takes what may go next; one task
//! per webhook starts what arrives meanwhile, and sleeps until the next retry is due.

mod ended;
mod replayed;
mod restore;
mod state;
mod templated;

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::field;

pub(super) use self::restore::restore;
use self::{
    ended::Ended,
    restore::{FormatChange, restore_gate},
    state::{Job, State, Turn},
    templated::keep_template,
};
use super::{
    AttemptResult, Delivery, Sender, SenderError,
    client::LONGEST_IDLE,
    gate::{Admission, Gate},
};
use crate::{
    clock::{Now, Timestamp},
    config,
    events::{
        Body, Event, Events, LanePlace, Source, Subscriber, WebhookState, WebhookStatus,
        lanes::{Given, InStore, LaneEvent, LaneRoom, Lanes, Loaded, Order, WINDOW},
    },
    letters::{DeadLetters, Replayer},
    metrics::{Histogram, Observed},
    names::WebhookName,
    spans,
    store::{LaneSlot, Store, StoreError, StoredEvent, UserNumber, WebhookNumber},
};

/// From an event's receipt to its 2xx: at once, after a few retries, after an outage.
const DELIVERY_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0,
    86_400.0,
];
/// Events of one lane that are looked at in one go while looking for those that are wanted.
const LOOK_AT_MOST: usize = 256;

/// What of the configuration a delivery goes by: a reload replaces it, and what is under way ends as it
/// began.
#[derive(Debug)]
struct Setup {
    settings: config::Webhook,
    sender: Sender,
}

/// Delivers one webhook's events. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: WebhookName,
    number: WebhookNumber,
    store: Arc<Store>,
    letters: DeadLetters,
    events: OnceLock<Events>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Deliveries under way end without an outcome.
    give_up: CancellationToken,
    /// From an event's receipt to its 2xx.
    delivery_seconds: Histogram,
    /// There may be something to start, or something is due earlier than it was.
    news: Notify,
    state: Mutex<State>,
}

impl Dispatcher {
    /// Takes up the webhook's lanes and replays where the last run left them. Nothing is sent before
    /// [`Dispatcher::start`]. What waits for it takes its share of `room`.
    pub fn load(
        name: &WebhookName,
        settings: &config::Webhook,
        store: Arc<Store>,
        letters: DeadLetters,
        room: Arc<LaneRoom>,
    ) -> Result<Self, LoadError> {
        let sender = Sender::new(name, settings)?;
        let number = store.webhook_number(name)?;
        keep_template(&store, name, settings);
        let mut gate = Gate::new(settings);
        let mut record = restore_gate(&store, &mut gate, number)?;
        let change = FormatChange::since_last_run(&record, settings);
        let mut lanes = Lanes::new(order_of(settings), room);
        // Also of users who no longer have this webhook, or are gone: what they received is delivered.
        for user in store.known_users() {
            restore(&store, &mut lanes, number, user, change)?;
        }
        if record.format != Some(settings.format) {
            record.format = Some(settings.format);
            store.save_webhook(number, &record);
        }
        let setup = Arc::new(Setup { settings: settings.clone(), sender });
        let mut state = State::new(lanes, gate, record, setup);
        for user in letters.users_with_replays(number)? {
            state.replays.add(user);
        }
        let shared = Shared {
            name: name.clone(),
            number,
            store,
            letters,
            events: OnceLock::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
            news: Notify::new(),
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
    }

    /// Goes by other settings from the next attempt on. Events, their order and their numbers stay, and so
    /// do a hold, a disabling, and the body of what was begun.
    pub fn reconfigure(&self, settings: &config::Webhook, sender: Sender) {
        let shared = &self.shared;
        keep_template(&shared.store, &shared.name, settings);
        let mut state = shared.lock();
        if state.record.format != Some(settings.format) {
            for (user, lane) in state.lanes.pin_formats() {
                // Handed over before the record of the new format: it can't be lost without that one.
                shared.store.save_lane(shared.number, user, &lane);
            }
            state.record.format = Some(settings.format);
            shared.store.save_webhook(shared.number, &state.record);
        }
        let now = Instant::now();
        state.lanes.set_order(order_of(settings));
        let before = Arc::clone(&state.setup);
        state.gate.reconfigure(&before.settings, settings, now);
        state.replays.set_most(settings.max_in_flight);
        state.setup = Arc::new(Setup { settings: settings.clone(), sender });
        // What made deliveries fail is put right, perhaps.
        state.everything_is_due(now);
        shared.news.notify_one();
    }

    /// How many attempts were begun so far, if something may go out now and doesn't, or is being loaded: if that
    /// lasts, the dispatcher hangs.
    pub fn lingers_after(&self) -> Option<u64> {
        let lingers = self.shared.lock().lingers_after(Instant::now());
        lingers.filter(|_| self.shared.events.get().is_some() && !self.shared.stop.is_cancelled())
    }

    /// How long deliveries took.
    pub fn delivery_seconds(&self) -> Observed {
        self.shared.delivery_seconds.observed()
    }

    /// When the oldest event was received that is not delivered. Reads the store.
    pub fn oldest_undelivered(&self) -> Option<Timestamp> {
        let (user, first) = self.shared.lock().lanes.oldest()?;
        let wanted = |event: &StoredEvent| {
            event.slots.iter().any(|slot| slot.webhook == self.shared.number && slot.wanted)
        };
        let stored = self.shared.store.events_after(user, first.saturating_sub(1)).take(LOOK_AT_MOST);
        stored.filter_map(Result::ok).find(wanted).map(|event| event.received_at)
    }

    /// Takes no more events: it is no longer configured. What it has stays its own until it is stopped.
    pub fn retire(&self) {
        self.shared.lock().is_retired = true;
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

fn order_of(settings: &config::Webhook) -> Order {
    if settings.ordered { Order::Kept } else { Order::Lifted }
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

impl Subscriber for Dispatcher {
    fn webhook(&self) -> WebhookNumber {
        self.shared.number
    }

    fn give(&self, user: UserNumber, event_type: &str, source: Source) -> LanePlace {
        let mut state = self.shared.lock();
        let filter = &state.setup.settings.events;
        let wanted = !state.is_retired
            && match source {
                Source::Live | Source::History | Source::Assembled => filter.wants_frame(event_type),
                Source::Bridge => filter.wants_report(event_type),
            };
        let (sequence, ahead) = state.give(user, wanted);
        LanePlace { slot: LaneSlot { webhook: self.shared.number, sequence, wanted }, ahead }
    }

    fn pass_by(&self, user: UserNumber) -> LaneSlot {
        let Given { sequence, .. } = self.shared.lock().lanes.give(user, false);
        LaneSlot { webhook: self.shared.number, sequence, wanted: false }
    }

    fn assembles(&self, event_type: &str) -> bool {
        let state = self.shared.lock();
        let config::Webhook { streaming, events, .. } = &state.setup.settings;
        !state.is_retired && *streaming == config::Streaming::Assembled && events.wants_frame(event_type)
    }

    fn arrived(&self, user: UserNumber, event: &Arc<Event>, sequence: u64) {
        let mut state = self.shared.lock();
        state.lanes.arrived(user, LaneEvent { event: Arc::clone(event), sequence });
        // As long as there is no place for it, whoever ends takes it.
        if state.gate.admission(Instant::now()) != Admission::Wait {
            self.shared.news.notify_one();
        }
    }

    fn is_past(&self, user: UserNumber, event: u64) -> bool {
        self.shared.lock().lanes.is_past(user, event)
    }

    fn undelivered(&self, user: UserNumber) -> u64 {
        self.shared.lock().lanes.undelivered(user)
    }

    fn transcript(&self) -> usize {
        let state = self.shared.lock();
        let settings = &state.setup.settings;
        if settings.events.wants_report("bridge.agent_session") { settings.transcript } else { 0 }
    }

    fn enable(&self) {
        let mut state = self.shared.lock();
        state.gate.enable(Timestamp::now());
        state.record.enable();
        self.shared.store.save_webhook(self.shared.number, &state.record);
        state.everything_is_due(Instant::now());
        tracing::info!(webhook = %self.shared.name, backlog = state.lanes.backlog(), "webhook enabled");
        self.shared.news.notify_one();
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
            last_outcome: state.last_outcome(),
            counts: state.counts,
        }
    }
}

impl Replayer for Dispatcher {
    fn replay(&self, users: &[UserNumber]) {
        let mut state = self.shared.lock();
        users.iter().for_each(|user| state.replays.add(*user));
        self.shared.news.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what may go, sleeps until there is more, and closes what nobody needs any more.
    async fn keep_time(self: Arc<Self>) {
        let mut stop = pin!(self.stop.cancelled());
        // One timer for all of it: it is set anew only when it has to be.
        let mut alarm = pin!(sleep_until(Instant::now()));
        let mut close_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if close_at.is_some_and(|at| at <= now) {
                // Those of an earlier configuration went with it.
                let setup = Arc::clone(&self.lock().setup);
                close_at = setup.sender.close_idle(now);
            }
            let wake_at = {
                let mut state = self.lock();
                self.start_all(&mut state);
                if state.gate.is_busy() {
                    // What is under way leaves an idle connection behind.
                    close_at.get_or_insert(now + LONGEST_IDLE);
                }
                state.alarm = state.wake_at(now);
                state.alarm.into_iter().chain(close_at).min()
            };
            if let Some(at) = wake_at.filter(|at| alarm.deadline() != *at) {
                alarm.as_mut().reset(at);
            }
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = self.news.notified() => {}
                () = &mut alarm, if wake_at.is_some() => {}
            }
        }
    }

    /// Starts everything that may go now.
    fn start_all(self: &Arc<Self>, state: &mut State) {
        while !self.stop.is_cancelled()
            && let Some(turn) = state.take(self, Now::read())
        {
            self.tasks.spawn(Arc::clone(self).work(turn));
        }
    }

    /// What the task that just did something may do next; others are told of whatever else may go now.
    fn next_turn(self: &Arc<Self>, state: &mut State, now: Now) -> Option<Turn> {
        let next = if self.stop.is_cancelled() { None } else { state.take(self, now) };
        // A success may have opened the gate for others, too; and while it was full, nobody slept until
        // the next retry.
        self.start_all(state);
        if state.is_due_earlier(now.mono) {
            self.news.notify_one();
        }
        next
    }

    /// Delivers one event, or loads some, and then does whatever may go next.
    async fn work(self: Arc<Self>, first: Turn) {
        let mut give_up = pin!(self.give_up.cancelled());
        let mut next = Some(first);
        // For one body after the other.
        let mut room = Vec::new();
        while let Some(turn) = next {
            let mut job = match turn {
                Turn::Deliver(job) => job,
                Turn::Load { user, these } => {
                    next = self.load(user, these);
                    continue;
                }
            };
            let body = match job.started.format.plain() {
                Ok(format) => {
                    let (sequence, room) = (Some(job.started.item.sequence), std::mem::take(&mut room));
                    Body::render_for(self.number, job.event(), sequence, format, room)
                }
                Err(template) => match self.body_of_template(&mut job, template) {
                    Ok(body) => body,
                    Err(result) => {
                        let now = Now::read();
                        next = self.ended(Ended { job: &job, result: &result, began: now.wall, now });
                        continue;
                    }
                },
            };
            let delivery = Delivery {
                event: Arc::clone(&job.started.item.event),
                attempt: job.attempt(),
                body,
                at: Timestamp::now(),
                trace: spans::trace_of_attempt(self.traced(&job)),
            };
            let result = tokio::select! {
                biased;
                result = job.setup.sender.attempt(&delivery) => result,
                () = &mut give_up => return,
            };
            self.log_attempt(&job, &delivery, &result);
            spans::attempted(self.traced(&job), &delivery, &result);
            next = self.ended(Ended { job: &job, result: &result, began: delivery.at, now: Now::read() });
            room = delivery.body.into_room();
        }
    }

    /// For the log.
    fn name_of(&self, user: UserNumber) -> String {
        self.store.user_name(user).map_or_else(|_| format!("number {}", user.0), |name| name.to_string())
    }

    fn traced<'a>(&'a self, job: &'a Job) -> spans::Delivery<'a> {
        spans::Delivery { webhook: &self.name, events: self.events.get(), user: job.user, event: job.event() }
    }

    fn log_attempt(&self, job: &Job, delivery: &Delivery, result: &AttemptResult) {
        let Event { id, user, bot, .. } = job.event();
        let trace = delivery.trace.as_ref().map(|context| field::display(context.trace));
        tracing::debug!(webhook = %self.name, %user, %bot, event = %id, attempt = delivery.attempt, status = result.status, took = ?result.took, outcome = %result.summary(), traceId = trace, "attempt");
    }

    /// Loads waiting events of a lane, while others go on; answers with what this task may do next.
    fn load(self: &Arc<Self>, user: UserNumber, these: InStore) -> Option<Turn> {
        let loaded = self.waiting(user, these);
        if let Err(error) = &loaded
            && !matches!(error, StoreError::Unavailable(_))
        {
            tracing::error!(webhook = %self.name, user = self.name_of(user), %error, "waiting events can't be read; this lane stands still until the next start, and keeps what it has");
        }
        let now = Now::read();
        let mut state = self.lock();
        state.loaded(user, loaded, now.mono);
        self.next_turn(&mut state, now)
    }

    fn waiting(&self, user: UserNumber, these: InStore) -> Result<Loaded, StoreError> {
        let InStore { after, until, is_one } = these;
        if is_one
            && let Some(stored) = self.store.event(user, until)?
            && let Some(item) = self.wanted(user, stored)?
        {
            return Ok(Loaded { items: vec![item], looked_at: None });
        }
        let mut found = Loaded::default();
        for stored in self.store.events_after(user, after).take(LOOK_AT_MOST) {
            let stored = stored?;
            found.looked_at = Some(stored.number);
            let is_last = stored.number >= until;
            found.items.extend(self.wanted(user, stored)?);
            if is_last || found.items.len() == WINDOW {
                break;
            }
        }
        Ok(found)
    }

    /// A stored event as its lane has it, if this webhook wants it.
    fn wanted(&self, user: UserNumber, stored: StoredEvent) -> Result<Option<LaneEvent>, StoreError> {
        let slot = stored.slots.iter().find(|slot| slot.webhook == self.number && slot.wanted);
        let Some(sequence) = slot.map(|slot| slot.sequence) else { return Ok(None) };
        let event = Arc::new(Event::of(&self.store, user, stored)?);
        Ok(Some(LaneEvent { event, sequence }))
    }
}
