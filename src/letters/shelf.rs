//! Where dead letters come and go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{FailedAttempt, Filter, History, Replayer};
use crate::{
    events::{Body, Event, EventId, render},
    names::{UserName, WebhookName},
    store::{DeadLetter, DeadLetterId, LaneRecord, ReplayMark, Store, StoreError, UserNumber, WebhookNumber},
};

/// Dead letters that are looked at in one go: then others have a turn.
pub(super) const STEP: usize = 256;

/// All dead letters. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) state: Mutex<State>,
    /// The configured webhooks.
    pub(super) replayers: RwLock<HashMap<WebhookNumber, Arc<dyn Replayer>>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    counts: HashMap<WebhookNumber, u64>,
    /// Letters with a change that is handed over and not on disk yet: the store shows them as they
    /// were.
    pub(super) unsettled: HashMap<DeadLetterId, Change>,
}

/// What is about to become of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It goes.
    Leaving,
    /// Its replay was in vain.
    DeadAgain,
}

/// A page of dead letters, newest event first.
#[derive(Debug)]
pub struct Page {
    /// The letters.
    pub letters: Vec<Listed>,
    /// Whether there are more behind the last one.
    pub rest: Rest,
}

/// Whether there is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// That was all.
    None,
    /// There is more.
    Some,
}

/// A dead letter, as it is shown.
#[derive(Debug)]
pub struct Listed {
    /// The letter.
    pub letter: DeadLetter,
    /// Its webhook.
    pub webhook: WebhookName,
    /// Its user.
    pub user: UserName,
    /// Its event.
    pub event: EventId,
    /// How far its replay is, if one was asked for.
    pub replay: Option<ReplayMark>,
}

/// A dead letter with all that belongs to it.
#[derive(Debug)]
pub struct Details {
    /// The letter.
    pub listed: Listed,
    /// The body as it was posted; none if there was none to post.
    pub body: Option<Body>,
    /// Its failed attempts.
    pub history: History,
}

/// Whether a letter was there to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was, and is gone for good.
    Done,
    /// There is no such letter.
    NotThere,
}

impl DeadLetters {
    /// Counts what the store holds.
    pub fn load(store: Arc<Store>) -> Result<Self, StoreError> {
        let mut state = State::default();
        for letter in store.dead_letters_after(DeadLetterId(0)) {
            *state.counts.entry(letter?.webhook).or_default() += 1;
        }
        let shared = Shared { store, state: Mutex::new(state), replayers: RwLock::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How many dead letters a webhook has.
    pub fn count(&self, webhook: WebhookNumber) -> u64 {
        self.shared.lock().counts.get(&webhook).copied().unwrap_or_default()
    }

    /// How many dead letters each webhook has that has any, configured or not.
    pub fn counts(&self) -> Vec<(WebhookNumber, u64)> {
        let state = self.shared.lock();
        state
            .counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(webhook, count)| (*webhook, *count))
            .collect()
    }

    /// How many dead letters there are, also of webhooks that are no longer configured.
    pub fn total(&self) -> u64 {
        self.shared.lock().counts.values().sum()
    }

    /// Remembers a failed attempt of an event that waits for its next one.
    pub fn note_attempt(&self, user: UserNumber, id: DeadLetterId, attempt: FailedAttempt) {
        self.shared.note_attempt(user, id, attempt);
    }

    /// Forgets the failed attempts of an event: it was delivered.
    pub fn forget_attempts(&self, user: UserNumber, id: DeadLetterId) {
        self.shared.store.remove_history(user, id);
    }

    /// Keeps a dead letter, and moves its lane past it, in one commit. A crash soon after may forget
    /// both, and the last attempt is repeated.
    pub fn bury(&self, letter: &DeadLetter, frame: Bytes, lane: &LaneRecord) {
        let mut state = self.shared.lock();
        // One that is kept twice (after a crash in between) counts once.
        let is_known = matches!(self.shared.store.dead_letter(letter.id()), Ok(Some(_)));
        *state.counts.entry(letter.webhook).or_default() += u64::from(!is_known);
        self.shared.store.add_dead_letter(letter, frame, lane);
    }

    /// A page of those that are meant, before this one, newest event first.
    pub async fn page(
        &self,
        filter: &mut Filter,
        mut before: DeadLetterId,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let mut letters = Vec::new();
        loop {
            let mut looked_at = 0;
            for letter in self.shared.store.dead_letters_before(before).take(STEP) {
                let letter = letter?;
                looked_at += 1;
                before = letter.id();
                if !filter.matches(&letter) {
                    continue;
                }
                if letters.len() == limit {
                    return Ok(Page { letters, rest: Rest::Some });
                }
                letters.extend(self.shared.listed(letter)?);
            }
            if looked_at < STEP {
                return Ok(Page { letters, rest: Rest::None });
            }
            tokio::task::yield_now().await;
        }
    }

    /// A dead letter with all that belongs to it, if it is there and meant.
    pub fn find(&self, filter: &mut Filter, id: DeadLetterId) -> Result<Option<Details>, StoreError> {
        let store = &self.shared.store;
        let Some(letter) = self.shared.look_up(id, filter)? else { return Ok(None) };
        let frame = match store.dead_letter_frame(&letter) {
            Ok(frame) => frame,
            // Removed in between.
            Err(_) if store.dead_letter(id)?.is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        let event = self.shared.event_of(&letter, frame)?;
        let body = render(letter.webhook, &event, letter.position.sequence, letter.format, None, store).ok();
        let history = store.history(letter.user, id)?;
        Ok(self.shared.listed(letter)?.map(|listed| Details { listed, history, body }))
    }

    /// Removes a dead letter, if it is there and meant; returns when that is on stable storage.
    pub async fn remove(&self, filter: &mut Filter, id: DeadLetterId) -> Result<Removal, StoreError> {
        let (sender, durable) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            let is_there = self.shared.is_there(&state, id);
            let Some(letter) = self.shared.look_up(id, filter)?.filter(|_| is_there) else {
                return Ok(Removal::NotThere);
            };
            Shared::let_go(&self.shared, &mut state, &letter, Some(sender))?;
        }
        settled(durable).await?;
        Ok(Removal::Done)
    }

    /// Removes all that are meant, batch by batch; returns when that is on stable storage. Those that
    /// come meanwhile stay.
    pub async fn remove_all(&self, filter: &mut Filter) -> Result<u64, StoreError> {
        self.remove_where(|letter| Ok(filter.matches(letter))).await
    }

    /// Removes what is `unwanted`, batch by batch, oldest event first.
    pub(super) async fn remove_where(
        &self,
        mut unwanted: impl FnMut(&DeadLetter) -> Result<bool, StoreError>,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        let last = self.shared.newest()?;
        let mut after = DeadLetterId(0);
        while let Some(batch) = self.shared.batch(after, last)? {
            let mut durable = None;
            for letter in &batch {
                after = letter.id();
                if !unwanted(letter)? {
                    continue;
                }
                let mut state = self.shared.lock();
                if !self.shared.is_there(&state, after) {
                    continue;
                }
                let (sender, receiver) = oneshot::channel();
                Shared::let_go(&self.shared, &mut state, letter, Some(sender))?;
                removed += 1;
                durable = Some(receiver);
            }
            // Commits are made in order: the last one's is the batch's.
            match durable {
                Some(durable) => settled(durable).await?,
                None => tokio::task::yield_now().await,
            }
        }
        Ok(removed)
    }

    /// Lets go of the webhooks, at the end: they hold this as well.
    pub fn close(&self) {
        self.shared.replayers.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A letter that is there and meant.
    pub(super) fn look_up(
        &self,
        id: DeadLetterId,
        filter: &mut Filter,
    ) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.store.dead_letter(id)?.filter(|letter| filter.matches(letter)))
    }

    /// A letter that was read just now, with what belongs to it; none if it is gone meanwhile.
    ///
    /// A replay that ended in vain after the letter was read has left another one, that died later: without a replay, it is
    /// read again. Else it would look as if nobody had tried.
    pub(super) fn listed(&self, letter: DeadLetter) -> Result<Option<Listed>, StoreError> {
        let replay = self.store.replay_of(&letter)?;
        let letter = match replay {
            Some(_) => Some(letter),
            None => self.store.dead_letter(letter.id())?,
        };
        let Some(letter) = letter else { return Ok(None) };
        Ok(Some(Listed {
            webhook: self.store.webhook_name(letter.webhook)?,
            user: self.store.user_name(letter.user)?,
            event: self.store.event_id(letter.position.event),
            replay,
            letter,
        }))
    }

    /// Whether a letter is there and stays.
    pub(super) fn is_there(&self, state: &State, id: DeadLetterId) -> bool {
        let is_leaving = state.unsettled.get(&id) == Some(&Change::Leaving);
        !is_leaving && matches!(self.store.dead_letter(id), Ok(Some(_)))
    }

    /// The next letters after this one, none after `last`; nothing if there are no more.
    pub(super) fn batch(
        &self,
        after: DeadLetterId,
        last: DeadLetterId,
    ) -> Result<Option<Vec<DeadLetter>>, StoreError> {
        let letters = self.store.dead_letters_after(after).take(STEP);
        let batch: Vec<_> = letters
            .take_while(|letter| letter.as_ref().map_or(true, |letter| letter.id() <= last))
            .collect::<Result<_, _>>()?;
        Ok((!batch.is_empty()).then_some(batch))
    }

    pub(super) fn newest(&self) -> Result<DeadLetterId, StoreError> {
        let newest = self.store.dead_letters_before(DeadLetterId(u64::MAX)).next().transpose()?;
        Ok(newest.map_or(DeadLetterId(0), |letter| letter.id()))
    }

    pub(super) fn note_attempt(&self, user: UserNumber, id: DeadLetterId, attempt: FailedAttempt) {
        match self.store.history(user, id) {
            Ok(mut history) => {
                history.add(attempt);
                self.store.save_history(user, id, &history);
            }
            Err(error) => tracing::warn!(letter = %id, %error, "a failed attempt could not be noted"),
        }
    }

    /// Hands a letter's removal over; `durable` answers when it is on stable storage.
    pub(super) fn let_go(
        shared: &Arc<Self>,
        state: &mut State,
        letter: &DeadLetter,
        durable: Option<oneshot::Sender<()>>,
    ) -> Result<(), StoreError> {
        let (id, webhook) = (letter.id(), letter.webhook);
        let after = Arc::clone(shared);
        shared.store.remove_dead_letter(letter, move |result| {
            after.lock().unsettled.remove(&id);
            if let (Ok(()), Some(durable)) = (result, durable) {
                // Whoever asked may have gone away.
                let _ = durable.send(());
            }
        })?;
        // Before the lock is given back, and so before the closure above gets it.
        state.unsettled.insert(id, Change::Leaving);
        if let Some(count) = state.counts.get_mut(&webhook) {
            *count = count.saturating_sub(1);
        }
        Ok(())
    }

    /// The event that a letter was made of.
    pub(super) fn event_of(&self, letter: &DeadLetter, frame: Bytes) -> Result<Event, StoreError> {
        Ok(Event {
            id: self.store.event_id(letter.position.event),
            user: self.store.user_name(letter.user)?,
            bot: self.store.bot_name(letter.bot)?,
            kind: letter.kind.clone(),
            received_at: letter.received_at,
            in_reply_to: letter.in_reply_to,
            source: letter.source,
            speaker: letter.speaker,
            frame,
        })
    }
}

/// Waits until a change is on stable storage.
pub(super) async fn settled(durable: oneshot::Receiver<()>) -> Result<(), StoreError> {
    durable.await.map_err(|_| StoreError::Unavailable("it failed before this was stored".to_owned()))
}
