//! Forgetting final messages: after `store.retention`, or beyond `store.max_messages`.

use std::time::Duration;

use super::{ClientMessageId, MessageNumber, queue::KEY_LIFE};
use crate::{
    clock::Timestamp,
    config,
    store::{AcceptedJournal, Store, StoreError, UserNumber},
};

/// How many accepted messages pass between two looks for old ones.
const LOOK_EVERY: usize = 256;

/// What is retained, and what may go.
#[derive(Debug)]
pub(super) struct Retention {
    life: Duration,
    most: usize,
    /// How many messages are retained, final or not.
    count: usize,
    since_look: usize,
    /// The greatest number given.
    last: MessageNumber,
    /// The journal is forgotten up to and with the commit that starts here.
    forgotten: MessageNumber,
    /// The greatest id that the bridge chose among the forgotten.
    chosen_up_to: u64,
}

impl Retention {
    pub(super) fn new(kept: &config::Store, chosen_up_to: u64) -> Self {
        Self {
            life: kept.retention,
            most: kept.max_messages,
            count: 0,
            since_look: 0,
            last: MessageNumber(0),
            forgotten: MessageNumber(0),
            chosen_up_to,
        }
    }

    /// Counts messages, the first of which has this number.
    pub(super) fn accepted(&mut self, first: MessageNumber, count: usize) {
        self.count += count;
        self.since_look += count;
        self.last = self.last.max(MessageNumber(first.0 + count as u64 - 1));
    }

    /// A message that was counted could not be stored. Its number is not given again.
    pub(super) fn withdrawn(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// The number that the next message gets.
    pub(super) fn next_number(&self) -> u64 {
        self.last.0 + 1
    }

    pub(super) fn chosen_up_to(&self) -> u64 {
        self.chosen_up_to
    }

    /// Whether it is time to look for what may be forgotten.
    pub(super) fn is_crowded(&self) -> bool {
        self.since_look >= LOOK_EVERY
    }

    /// Forgets commit by commit, oldest first, until all that is left is young, few, or not final.
    pub(super) fn forget_old(
        &mut self,
        store: &Store,
        now: Timestamp,
        is_live: impl Fn(UserNumber, ClientMessageId) -> bool,
    ) -> Result<(), StoreError> {
        self.since_look = 0;
        for journal in store.accepted_after(self.forgotten) {
            let journal = journal?;
            let is_old = now.since(journal.at) > life_of(&journal, self.life) || self.count > self.most;
            let is_newest = journal.first.0 + journal.messages.len() as u64 > self.last.0;
            // The newest commit stays: it tells the next start which numbers are taken.
            if !is_old
                || is_newest
                || journal.messages.iter().any(|message| is_live(message.user, message.id))
            {
                break;
            }
            self.forget(store, &journal)?;
        }
        Ok(())
    }

    fn forget(&mut self, store: &Store, journal: &AcceptedJournal) -> Result<(), StoreError> {
        let chosen =
            journal.messages.iter().filter(|message| message.generated).map(|message| message.id.get());
        self.chosen_up_to = chosen.fold(self.chosen_up_to, u64::max);
        store.forget_accepted(journal, self.chosen_up_to)?;
        self.count = self.count.saturating_sub(journal.messages.len());
        self.forgotten = journal.first;
        Ok(())
    }
}

/// How long the messages of this commit are retained: a key that is still good keeps its message.
fn life_of(journal: &AcceptedJournal, retention: Duration) -> Duration {
    let has_keys = journal.messages.iter().any(|message| message.idempotency.is_some());
    if has_keys { retention.max(KEY_LIFE) } else { retention }
}
