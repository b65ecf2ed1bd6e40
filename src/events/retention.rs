//! How long events stay after their delivery: the recent ones, in bytes, for those who ask for them.
//!
//! The journal tells in which order events came; it is read from its old end as events leave, so
//! nothing is kept in memory per event.

use super::memory::{LIFE, RepeatMemory};
use crate::{
    clock::Timestamp,
    store::{Store, StoreError, UserNumber},
};

/// Events that arrive between two looks at the journal's old end.
const LOOK_EVERY: u32 = 64;

/// Which events are recent.
#[derive(Debug)]
pub(super) struct Retention {
    most_bytes: u64,
    bytes: u64,
    /// Events before this number are no longer recent.
    recent_from: u64,
    since_look: u32,
}

impl Retention {
    /// Finds the recent events by reading the journal from its new end.
    pub(super) fn load(store: &Store, most_bytes: u64) -> Result<Self, StoreError> {
        let mut retention = Self { most_bytes, bytes: 0, recent_from: 1, since_look: 0 };
        for journal in store.journals().rev() {
            let journal = journal?;
            retention.bytes += journal.entries.iter().map(|entry| u64::from(entry.size)).sum::<u64>();
            retention.recent_from = journal.first;
            if retention.bytes > most_bytes {
                break;
            }
        }
        Ok(retention)
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
        self.expire_events(store, is_past)?;
        if self.since_look < LOOK_EVERY {
            return Ok(());
        }
        self.since_look = 0;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        events::{Source, Speaker},
        store::{BotNumber, JournalEntry, NewEvent, testing},
    };

    const ALICE: UserNumber = UserNumber(1);

    async fn append(store: &Store, size: usize) -> u64 {
        let event = NewEvent {
            user: ALICE,
            bot: BotNumber(1),
            kind: "events".to_owned(),
            received_at: Timestamp::now(),
            in_reply_to: None,
            source: Source::Live,
            speaker: Speaker::Platform,
            slots: Vec::new(),
            journal: JournalEntry { user: ALICE, size: size as u32, identity: 0, content: 0, said: None },
            frame: Bytes::from(vec![b' '; size]),
        };
        let (sender, durable) = tokio::sync::oneshot::channel();
        let reserved = store.reserve(size).await.unwrap();
        store.append_event(event, reserved, move |number| sender.send(number).unwrap()).unwrap();
        durable.await.unwrap()
    }

    #[tokio::test]
    async fn a_start_counts_the_newest_events_and_looks_at_no_older_ones() {
        let (_directory, store) = testing::store();
        for _ in 0..100 {
            append(&store, 100).await;
        }
        let retention = Retention::load(&store, 1_000).unwrap();
        assert!(retention.is_recent(100) && !retention.is_recent(80));
        assert!(retention.bytes <= 1_100, "what is long gone is not counted: {} bytes", retention.bytes);
        assert!(Retention::load(&store, 1_000_000).unwrap().is_recent(1));
    }

    #[tokio::test]
    async fn the_oldest_beyond_the_limit_go_if_everyone_is_past_them() {
        let (_directory, store) = testing::store();
        let mut retention = Retention::load(&store, 1_000).unwrap();
        let mut memory = RepeatMemory::default();
        for _ in 0..50 {
            append(&store, 100).await;
            retention.arrived(100);
            // Somebody still wants number 7.
            retention.expire(&store, Timestamp::now(), &mut memory, |_, event| event != 7).unwrap();
        }
        store.close();
        let left: Vec<u64> = store.events_after(ALICE, 0).map(|event| event.unwrap().number).collect();
        assert_eq!(left.first(), Some(&7));
        assert_eq!(left.len(), 11, "{left:?}");
        assert!(left.contains(&50) && !left.contains(&40));
    }
}
