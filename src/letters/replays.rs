//! Delivering dead letters after all.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    DeadLetters, FailedAttempt, Filter,
    shelf::{Change, Shared, settled},
};
use crate::{
    clock::Timestamp,
    events::Event,
    store::{DeadLetter, DeadLetterId, ReplayMark, StoreError, UserNumber, WebhookNumber},
};

/// Whoever delivers a webhook's dead letters: the webhook.
pub trait Replayer: fmt::Debug + Send + Sync {
    /// There is something to replay of these users: see [`DeadLetters::next_replay`].
    fn replay(&self, users: &[UserNumber]);
}

/// A dead letter that is to be delivered after all.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The letter.
    pub letter: DeadLetter,
    /// How far its replay is.
    pub mark: ReplayMark,
    /// Its event.
    pub event: Arc<Event>,
}

/// What became of a wish to replay a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// It will be delivered, or become a dead letter again, whatever happens.
    Marked,
    /// There is no such letter.
    NotThere,
    /// Its webhook is not configured.
    WebhookNotConfigured(WebhookNumber),
}

/// What became of a wish to replay many letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// So many will be delivered, or become dead letters again.
    pub marked: u64,
    /// So many were left alone: their webhooks are not configured.
    pub left_alone: u64,
}

/// Replays, as callers of the API ask for them.
impl DeadLetters {
    /// From now on, this webhook's dead letters can be replayed.
    pub fn connect(&self, webhook: WebhookNumber, replayer: Arc<dyn Replayer>) {
        let mut replayers = self.shared.replayers.write().unwrap_or_else(PoisonError::into_inner);
        replayers.insert(webhook, replayer);
    }

    /// From now on, this webhook's dead letters can't be replayed: it is no longer configured.
    pub fn disconnect(&self, webhook: WebhookNumber) {
        self.shared.replayers.write().unwrap_or_else(PoisonError::into_inner).remove(&webhook);
    }

    /// Whether a webhook's dead letters can be replayed.
    pub fn is_connected(&self, webhook: WebhookNumber) -> bool {
        self.shared.replayer(webhook).is_some()
    }

    /// Marks a dead letter for delivery, if it is there and meant. When this returns, the mark is on
    /// stable storage. One that is marked already stays as it is.
    pub async fn replay(&self, filter: &mut Filter, id: DeadLetterId) -> Result<ReplayOutcome, StoreError> {
        let Some(letter) = self.shared.look_up(id, filter)? else { return Ok(ReplayOutcome::NotThere) };
        let Some(replayer) = self.shared.replayer(letter.webhook) else {
            return Ok(ReplayOutcome::WebhookNotConfigured(letter.webhook));
        };
        match self.shared.mark(&letter)? {
            Mark::Gone => return Ok(ReplayOutcome::NotThere),
            Mark::There => {}
            Mark::New(durable) => settled(durable).await?,
        }
        replayer.replay(&[letter.user]);
        Ok(ReplayOutcome::Marked)
    }

    /// Marks all that are meant, batch by batch, oldest event first; when this returns, the marks are
    /// on stable storage. Letters that come meanwhile are left alone.
    pub async fn replay_all(&self, filter: &mut Filter) -> Result<Replayed, StoreError> {
        let mut replayed = Replayed::default();
        let last = self.shared.newest()?;
        let mut after = DeadLetterId(0);
        while let Some(batch) = self.shared.batch(after, last)? {
            let mut durable = None;
            let mut marked: Vec<(Arc<dyn Replayer>, UserNumber)> = Vec::new();
            for letter in &batch {
                after = letter.id();
                if !filter.matches(letter) {
                    continue;
                }
                let Some(replayer) = self.shared.replayer(letter.webhook) else {
                    replayed.left_alone += 1;
                    continue;
                };
                match self.shared.mark(letter)? {
                    Mark::Gone => continue,
                    Mark::There => {}
                    Mark::New(receiver) => durable = Some(receiver),
                }
                replayed.marked += 1;
                marked.push((replayer, letter.user));
            }
            // Commits are made in order: the last one's is the batch's.
            match durable {
                Some(durable) => settled(durable).await?,
                None => tokio::task::yield_now().await,
            }
            for (replayer, user) in marked {
                replayer.replay(&[user]);
            }
        }
        Ok(replayed)
    }
}

/// Replays, as the webhooks make them.
impl DeadLetters {
    /// Users with something to replay at this webhook.
    pub fn users_with_replays(&self, webhook: WebhookNumber) -> Result<Vec<UserNumber>, StoreError> {
        self.shared.store.users_with_replays(webhook).collect()
    }

    /// What to replay of this user next at this webhook: the oldest event.
    pub fn next_replay(
        &self,
        webhook: WebhookNumber,
        user: UserNumber,
    ) -> Result<Option<Replay>, StoreError> {
        let store = &self.shared.store;
        for id in store.replays_of(webhook, user) {
            let id = id?;
            // What is being changed is over, whatever the store shows.
            if self.shared.lock().unsettled.contains_key(&id) {
                continue;
            }
            let Some(letter) = store.dead_letter(id)? else { continue };
            let Some(mark) = store.replay_of(&letter)? else { continue };
            let frame = match store.dead_letter_frame(&letter) {
                Ok(frame) => frame,
                // Removed in between.
                Err(_) if store.dead_letter(id)?.is_none() => continue,
                Err(error) => return Err(error),
            };
            let event = Arc::new(self.shared.event_of(&letter, frame)?);
            return Ok(Some(Replay { letter, mark, event }));
        }
        Ok(None)
    }

    /// A replay got through: the letter goes.
    pub fn delivered(&self, letter: &DeadLetter) {
        let mut state = self.shared.lock();
        if self.shared.is_there(&state, letter.id()) {
            // While the store fails or closes this is lost, and the replay is repeated.
            let _ = Shared::let_go(&self.shared, &mut state, letter, None);
        }
    }

    /// An attempt of a replay failed, and another will follow. Nothing happens to a letter that
    /// somebody removed meanwhile.
    pub fn replay_failed(&self, letter: &DeadLetter, mark: ReplayMark, attempt: FailedAttempt) {
        let state = self.shared.lock();
        if self.shared.is_there(&state, letter.id()) {
            self.shared.note_attempt(letter.user, letter.id(), attempt);
            self.shared.store.save_replay(letter, mark);
        }
    }

    /// The shape of a letter's body is another one: nothing was sent in that which it had. Nothing happens to
    /// one that somebody removed meanwhile.
    pub fn reshape(&self, letter: &DeadLetter) {
        let state = self.shared.lock();
        if self.shared.is_there(&state, letter.id()) {
            self.shared.store.save_dead_letter(letter);
        }
    }

    /// A replay was in vain: `letter` is a dead letter again. Nothing happens to one that somebody
    /// removed meanwhile.
    pub fn died_again(&self, letter: &DeadLetter, attempt: FailedAttempt) {
        let id = letter.id();
        let mut state = self.shared.lock();
        if !self.shared.is_there(&state, id) {
            return;
        }
        self.shared.note_attempt(letter.user, id, attempt);
        let shared = Arc::clone(&self.shared);
        let ended = self.shared.store.end_replay(letter, move |_| {
            let mut state = shared.lock();
            if state.unsettled.get(&id) == Some(&Change::DeadAgain) {
                state.unsettled.remove(&id);
            }
        });
        // While the store fails or closes this is lost, and the replay is repeated.
        if ended.is_ok() {
            state.unsettled.insert(id, Change::DeadAgain);
        }
    }
}

/// What became of a mark.
enum Mark {
    /// The letter goes, or is gone.
    Gone,
    /// It was there already.
    There,
    /// It is on its way to stable storage.
    New(oneshot::Receiver<()>),
}

impl Shared {
    fn replayer(&self, webhook: WebhookNumber) -> Option<Arc<dyn Replayer>> {
        self.replayers.read().unwrap_or_else(PoisonError::into_inner).get(&webhook).cloned()
    }

    fn mark(&self, letter: &DeadLetter) -> Result<Mark, StoreError> {
        let state = self.lock();
        let id = letter.id();
        if !self.is_there(&state, id) {
            return Ok(Mark::Gone);
        }
        // A mark whose replay just ended in vain is on its way out.
        if !state.unsettled.contains_key(&id) && self.store.replay_of(letter)?.is_some() {
            return Ok(Mark::There);
        }
        let (sender, durable) = oneshot::channel();
        let mark = ReplayMark { requested_at: Timestamp::now(), attempts: 0 };
        self.store.mark_replay(letter, mark, move |result| {
            if result.is_ok() {
                // Whoever asked may have gone away.
                let _ = sender.send(());
            }
        })?;
        Ok(Mark::New(durable))
    }
}
