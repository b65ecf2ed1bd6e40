//! What becomes of the events that a webhook had not got when it was taken out of the configuration:
//! dead letters, which can be replayed when it returns.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::dispatcher::restore;
use crate::{
    clock::Timestamp,
    config::BodyFormat,
    events::{
        Ahead, DeliveryCounts, Event, Events, LanePlace, Source, Subscriber, WebhookState, WebhookStatus,
        lanes::{Lanes, Order},
    },
    letters::DeadLetters,
    names::WebhookName,
    store::{
        DeadLetter, LaneRecord, LaneSlot, Position, Store, StoreError, StoredEvent, UserNumber, WebhookNumber,
    },
};

/// How long to wait before a store that can't be read is asked again.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// A webhook that is no longer configured and has a backlog. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct RemovedWebhook {
    name: WebhookName,
    number: WebhookNumber,
    store: Arc<Store>,
    letters: DeadLetters,
    /// The shape of the bodies that it got.
    format: BodyFormat,
    /// The lanes that have events left, and how far each is.
    lanes: Arc<Mutex<BTreeMap<UserNumber, LaneRecord>>>,
}

impl RemovedWebhook {
    /// The removed webhook of this number, if it has a backlog.
    pub fn load(
        store: &Arc<Store>,
        letters: &DeadLetters,
        number: WebhookNumber,
    ) -> Result<Option<Self>, StoreError> {
        let mut lanes = Lanes::new(Order::Kept, Arc::default());
        for user in store.known_users() {
            restore(store, &mut lanes, number, user, None)?;
        }
        let mut left = BTreeMap::new();
        for user in lanes.users_with_backlog() {
            left.insert(user, store.lane(number, user)?.unwrap_or_default());
        }
        if left.is_empty() {
            return Ok(None);
        }
        let name = store.webhook_name(number)?;
        let (store, letters, lanes) = (store.clone(), letters.clone(), Arc::new(Mutex::new(left)));
        let format = store.webhook(number)?.format.unwrap_or(BodyFormat::Envelope);
        Ok(Some(Self { name, number, store, letters, format, lanes }))
    }

    /// What it was called.
    pub fn name(&self) -> &WebhookName {
        &self.name
    }

    /// Users whose events it has.
    pub fn users(&self) -> Vec<UserNumber> {
        self.lock().keys().copied().collect()
    }

    /// Makes dead letters of its backlog, at the store's pace; a restart goes on where this was stopped.
    pub async fn bury(self, events: Events, stop: CancellationToken) {
        let outcome = tokio::select! {
            biased;
            outcome = self.bury_all(&events) => outcome,
            () = stop.cancelled() => return,
        };
        match outcome {
            Ok(letters) => {
                tracing::warn!(webhook = %self.name, letters, "the backlog of a removed webhook became dead letters");
            }
            Err(error) => {
                tracing::error!(webhook = %self.name, %error, "the backlog of a removed webhook stays as it is");
            }
        }
    }

    async fn bury_all(&self, events: &Events) -> Result<u64, StoreError> {
        let mut letters = 0;
        for user in self.users() {
            loop {
                let done = self.lock().get(&user).map_or(0, |lane| lane.done.event);
                let next = match self.next_after(user, done) {
                    Err(StoreError::Unavailable(_)) => {
                        tokio::time::sleep(STORE_PAUSE).await;
                        continue;
                    }
                    next => next?,
                };
                let Some(event) = next else { break };
                // The store's room is the pace.
                let _room = self.store.reserve_to_move(event.frame.len() + 512).await?;
                letters += u64::from(self.bury_one(user, &event));
                events.passed(user, event.number, event.frame.len());
            }
            self.lock().remove(&user);
        }
        Ok(letters)
    }

    fn next_after(&self, user: UserNumber, after: u64) -> Result<Option<StoredEvent>, StoreError> {
        for event in self.store.events_after(user, after) {
            let event = event?;
            if event.slots.iter().any(|slot| slot.webhook == self.number && slot.wanted) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Makes a dead letter of an event, unless it was delivered out of order. Tells whether it did.
    fn bury_one(&self, user: UserNumber, event: &StoredEvent) -> bool {
        let mut lanes = self.lock();
        let Some(lane) = lanes.get_mut(&user) else { return false };
        let slot = event.slots.iter().find(|slot| slot.webhook == self.number);
        let position = Position { event: event.number, sequence: slot.map_or(0, |slot| slot.sequence) };
        let was_finished = lane.done_ahead.iter().any(|ahead| ahead.event == event.number);
        let tried = lane.attempted.iter().find(|tried| tried.event == event.number).cloned();
        lane.done = position;
        lane.done_ahead.retain(|ahead| ahead.event > event.number);
        lane.attempted.retain(|tried| tried.event > event.number);
        if was_finished {
            self.store.save_lane(self.number, user, lane);
            return false;
        }
        let letter = DeadLetter {
            webhook: self.number,
            user,
            position,
            format: tried.as_ref().map_or(self.format, |tried| tried.format),
            attempts: tried.as_ref().map_or(0, |tried| tried.attempts),
            last_status: tried.and_then(|tried| tried.last_status),
            reason: "the webhook is no longer configured".to_owned(),
            dead_at: Timestamp::now(),
            received_at: event.received_at,
            bot: event.bot,
            kind: event.kind.clone(),
            in_reply_to: event.in_reply_to,
            source: event.source,
            speaker: event.speaker,
            frame_length: event.frame.len() as u32,
        };
        self.letters.bury(&letter, event.frame.clone(), lane);
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<UserNumber, LaneRecord>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for RemovedWebhook {
    fn webhook(&self) -> WebhookNumber {
        self.number
    }

    fn give(&self, user: UserNumber, _: &str, _: Source) -> LanePlace {
        // Never asked: it wants no more.
        LanePlace { slot: self.pass_by(user), ahead: Ahead::Little }
    }

    fn pass_by(&self, _: UserNumber) -> LaneSlot {
        LaneSlot { webhook: self.number, sequence: 0, wanted: false }
    }

    fn assembles(&self, _: &str) -> bool {
        false
    }

    fn arrived(&self, _: UserNumber, _: &Arc<Event>, _: u64) {}

    fn is_past(&self, user: UserNumber, event: u64) -> bool {
        self.lock().get(&user).is_none_or(|lane| event <= lane.done.event)
    }

    fn undelivered(&self, _: UserNumber) -> u64 {
        0
    }

    fn status(&self) -> WebhookStatus {
        WebhookStatus {
            name: self.name.clone(),
            state: WebhookState::Disabled,
            backlog: 0,
            last_outcome: None,
            counts: DeliveryCounts::default(),
        }
    }

    fn enable(&self) {}
}
