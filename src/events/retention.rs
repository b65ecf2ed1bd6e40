//! How long events stay after their delivery: the recent ones, in bytes, for those who ask for them.
//!
//! The journal tells in which order events came; it is read from its old end as events leave, so
//! nothing is kept in memory per event.

use super::memory::{LIFE, RepeatMemory};
use crate::{
    clock::Timestamp,
    store::{Journal, Store, StoreError, UserNumber},
};

/// Events arriving between two looks at the journal's old end.
const LOOK_EVERY: u32 = 64;

/// Which events are recent.
#[derive(Debug)]
pub(super) struct Retention {
    most_bytes: u64,
    bytes: u64,
    /// Events before this number are no longer recent.
    recent_from: u64,
    /// The first event of the newest journal record that is known.
    newest_journal: u64,
    since_look: u32,
}

impl Retention {
    pub(super) fn new(most_bytes: u64) -> Self {
        Self { most_bytes, bytes: 0, recent_from: 1, newest_journal: 0, since_look: 0 }
    }

    /// Counts the events of a journal that was there at the start. Which of them are gone already is
    /// found out by the first [`Retention::expire`].
    pub(super) fn restore(&mut self, journal: &Journal) {
        self.bytes += journal.entries.iter().map(|entry| u64::from(entry.size)).sum::<u64>();
        if self.newest_journal == 0 {
            self.recent_from = journal.first;
        }
        self.newest_journal = journal.first;
    }

    /// Counts an event that arrived.
    pub(super) fn arrived(&mut self, size: usize) {
        self.bytes += size as u64;
        self.since_look += 1;
    }

    /// Whether an event stays though it is delivered.
    pub(super) fn is_recent(&self, event: u64) -> bool {
        event >= self.recent_from
    }

    /// Forgets, oldest first: events beyond the bytes that may stay, as far as every lane is past
    /// them; and the journal of what is neither recent nor younger than a repeat may be.
    pub(super) fn expire(
        &mut self,
        store: &Store,
        now: Timestamp,
        memory: &mut RepeatMemory,
        is_past: impl Fn(UserNumber, u64) -> bool,
    ) -> Result<(), StoreError> {
        if self.since_look < LOOK_EVERY && self.bytes <= self.most_bytes {
            return Ok(());
        }
        self.since_look = 0;
        self.expire_events(store, is_past)?;
        self.expire_journals(store, now, memory)
    }

    fn expire_events(
        &mut self,
        store: &Store,
        is_past: impl Fn(UserNumber, u64) -> bool,
    ) -> Result<(), StoreError> {
        if self.bytes <= self.most_bytes {
            return Ok(());
        }
        for journal in store.journals_from(self.recent_from) {
            if self.bytes <= self.most_bytes {
                break;
            }
            let journal = journal?;
            for (number, entry) in (journal.first..).zip(&journal.entries) {
                self.bytes = self.bytes.saturating_sub(u64::from(entry.size));
                self.recent_from = number + 1;
                if is_past(entry.user, number) {
                    store.remove_event(entry.user, number, entry.size as usize);
                }
            }
        }
        Ok(())
    }

    fn expire_journals(
        &mut self,
        store: &Store,
        now: Timestamp,
        memory: &mut RepeatMemory,
    ) -> Result<(), StoreError> {
        let mut journals = store.journals().peekable();
        while let Some(journal) = journals.next() {
            let journal = journal?;
            let is_old = now.since(journal.at) >= LIFE || memory.is_crowded();
            let is_recent = journal.first + journal.entries.len() as u64 > self.recent_from;
            // The newest stays: it tells the next start which numbers are taken.
            if !is_old || is_recent || journals.peek().is_none() {
                break;
            }
            memory.forget(&journal);
            store.remove_journal(journal.first);
        }
        Ok(())
    }
}
