//! How long events stay after their delivery: the recent ones, in bytes, for those who ask for them.
//!
//! The journal tells in which order events came; it is read from its old end as events leave, so
//! nothing is kept in memory per event.

use std::{collections::VecDeque, ops::DerefMut};

use super::{
    kept::Kept,
    memory::{LIFE, RepeatMemory},
};
use crate::{
    clock::Timestamp,
    store::{Journal, RecentBounds, Store, StoreError, UserNumber, Wanted},
};

/// Events that arrive between two looks at the journal's old end.
const LOOK_EVERY: u32 = 64;

/// So many commits' journals are read at once.
const AHEAD: usize = 16;

/// The journal from somewhere on, read once: what was taken from it is not looked at again. Where commits'
/// journals were removed, a look from the journal's old end would go over each of them for as long as the log says that
/// they are gone.
#[derive(Debug)]
struct Reader {
    /// Nothing before this event was left to be read.
    from: u64,
    ahead: VecDeque<Journal>,
}

impl Reader {
    fn new(from: u64) -> Self {
        Self { from, ahead: VecDeque::new() }
    }

    /// Those that come next, at least so many if there are.
    fn ahead(&mut self, count: usize, store: &Store) -> Result<&mut VecDeque<Journal>, StoreError> {
        if self.ahead.len() < count {
            let read: Vec<_> = store.journals_from(self.from).take(AHEAD).collect::<Result<_, _>>()?;
            self.from = read.last().map_or(self.from, |last| last.first + 1);
            self.ahead.extend(read);
        }
        Ok(&mut self.ahead)
    }
}

/// Which events are recent.
#[derive(Debug)]
pub(super) struct Retention {
    most_bytes: u64,
    /// The recent events'. Below zero while a commit of which they are the whole is counted.
    bytes: i64,
    /// What is recent, and of whom something no longer is.
    kept: Kept,
    since_look: u32,
    /// The journal from the oldest recent event on.
    recent: Reader,
    /// All of it.
    whole: Reader,
}

impl Retention {
    /// Finds the recent events by reading the journal from its new end. What was before them [`Retention::restore`] is
    /// to be told.
    pub(super) fn load(store: &Store, most_bytes: u64) -> Result<Self, StoreError> {
        let bounds = RecentBounds { bytes: most_bytes, floor: 0 };
        match store.recent_bounds()? {
            Some(before) if before.bytes == most_bytes => Self::within(store, before),
            Some(before) => {
                // What was no longer recent then may be gone, and is not recent now either.
                let floor = Self::within(store, before)?.kept.first();
                let bounds = RecentBounds { floor, ..bounds };
                store.save_recent_bounds(bounds)?;
                Self::within(store, bounds)
            }
            None => {
                store.save_recent_bounds(bounds)?;
                Self::within(store, bounds)
            }
        }
    }

    /// The newest commits' events that are within these bounds: the same that a running bridge keeps.
    fn within(
        store: &Store,
        RecentBounds { bytes: most_bytes, floor }: RecentBounds,
    ) -> Result<Self, StoreError> {
        let (mut bytes, mut kept) = (0, Kept::from(store.newest_event()? + 1));
        let mut journals = store.journals().rev().peekable();
        while let Some(Ok(journal)) = journals.peek() {
            let with_it = bytes + size_of(journal);
            if with_it > most_bytes as i64 || journal.first < floor {
                break;
            }
            (bytes, kept) = (with_it, Kept::from(journal.first));
            journals.next();
        }
        if let Some(Err(error)) = journals.next() {
            return Err(error);
        }
        let (recent, whole) = (Reader::new(kept.first()), Reader::new(0));
        Ok(Self { most_bytes, bytes, kept, since_look: 0, recent, whole })
    }

    /// Takes note of a commit's events if they are not recent. For the start, which reads the whole journal once, from its
    /// old end: to be told of all of it.
    pub(super) fn restore(&mut self, journal: &Journal) {
        if journal.first < self.kept.first() {
            for (number, entry) in (journal.first..).zip(&journal.entries) {
                self.kept.was_before(entry.user, number);
            }
        }
    }

    /// Counts an event that arrived.
    pub(super) fn arrived(&mut self, size: usize) {
        self.bytes += size as i64;
        self.since_look += 1;
    }

    /// Whether an event stays though it is delivered.
    pub(super) fn is_recent(&self, event: u64) -> bool {
        event >= self.kept.first()
    }

    /// What is recent, and of whom something no longer is.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Forgets, oldest first: events beyond the bytes that may stay, as far as every lane is past
    /// them; and the journal of what is neither recent nor younger than a repeat may be.
    /// `memory` is asked for only when it is the journal's turn: others wait for it.
    pub(super) fn expire<M: DerefMut<Target = RepeatMemory>>(
        &mut self,
        store: &Store,
        now: Timestamp,
        memory: impl FnOnce() -> M,
        is_past: impl Fn(UserNumber, u64, Wanted) -> bool,
    ) -> Result<(), StoreError> {
        self.expire_events(store, is_past)?;
        if self.since_look < LOOK_EVERY {
            return Ok(());
        }
        self.since_look = 0;
        self.expire_journals(store, now, &mut memory())
    }

    fn expire_events(
        &mut self,
        store: &Store,
        is_past: impl Fn(UserNumber, u64, Wanted) -> bool,
    ) -> Result<(), StoreError> {
        let most_bytes = self.most_bytes as i64;
        if self.bytes <= most_bytes {
            return Ok(());
        }
        while self.bytes > most_bytes {
            let Some(journal) = self.recent.ahead(1, store)?.pop_front() else { break };
            self.bytes -= size_of(&journal);
            for (number, entry) in (journal.first..).zip(&journal.entries) {
                self.kept.expire(entry.user, number);
                if is_past(entry.user, number, entry.wanted) {
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
        let first_recent = self.kept.first();
        let is_over = |journal: &Journal, memory: &RepeatMemory| {
            let is_old = now.since(journal.at) >= LIFE || memory.is_crowded();
            is_old && journal.first + journal.entries.len() as u64 <= first_recent
        };
        // The newest stays: it tells the next start which numbers are taken.
        while let ahead = self.whole.ahead(2, store)?
            && ahead.len() > 1
            && ahead.front().is_some_and(|oldest| is_over(oldest, memory))
            && let Some(oldest) = ahead.pop_front()
        {
            memory.forget(&oldest);
            store.remove_journal(oldest.first);
        }
        Ok(())
    }
}

/// The bytes of a commit's events.
fn size_of(journal: &Journal) -> i64 {
    journal.entries.iter().map(|entry| i64::from(entry.size)).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        events::{Source, Speaker, kept::Resumption},
        store::{BotNumber, JournalEntry, LaneSlots, NewEvent, testing},
    };

    const ALICE: UserNumber = UserNumber(1);

    async fn append(store: &Store, size: usize) -> u64 {
        let event = NewEvent {
            user: ALICE,
            bot: BotNumber(1),
            kind: "events".into(),
            received_at: Timestamp::now(),
            in_reply_to: None,
            source: Source::Live,
            speaker: Speaker::Platform,
            slots: LaneSlots::new(),
            journal: JournalEntry {
                user: ALICE,
                size: size as u32,
                identity: 0,
                content: 0,
                said: None,
                wanted: Wanted::UNKNOWN,
            },
            frame: Bytes::from(vec![b' '; size]),
        };
        let (sender, durable) = tokio::sync::oneshot::channel();
        let reserved = store.reserve(size).await.unwrap();
        store
            .append_event(event.encode(), reserved, Box::new(move |number| sender.send(number).unwrap()))
            .unwrap();
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
    }

    #[tokio::test]
    async fn a_start_finds_recent_what_the_last_run_kept_whatever_the_limit_is_now() {
        let (_directory, store) = testing::store();
        let mut retention = Retention::load(&store, 1_000).unwrap();
        let mut memory = RepeatMemory::default();
        for size in (1..60).map(|n| 37 * n % 150) {
            append(&store, size).await;
            retention.arrived(size);
            retention.expire(&store, Timestamp::now(), || &mut memory, |_, _, _| true).unwrap();
        }
        let first = |most| Retention::load(&store, most).unwrap().kept().first();
        assert_eq!(first(1_000), retention.kept().first());
        let smaller = first(300);
        assert!(smaller > retention.kept().first());
        // What was let go of does not come back with more room, nor with the room of before.
        store.settled().await.unwrap();
        assert_eq!((first(1_000_000), first(1_000)), (smaller, smaller));
        store.settled().await.unwrap();
        let mut loaded = Retention::load(&store, 1_000).unwrap();
        store.journals().for_each(|journal| loaded.restore(&journal.unwrap()));
        assert_eq!(loaded.kept().resumption(ALICE, smaller - 1), Resumption::Good);
        assert_eq!(loaded.kept().resumption(ALICE, smaller - 2), Resumption::Bad);
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
            retention.expire(&store, Timestamp::now(), || &mut memory, |_, event, _| event != 7).unwrap();
        }
        store.close();
        let left: Vec<u64> = store.events_after(ALICE, 0).map(|event| event.unwrap().number).collect();
        assert_eq!(left.first(), Some(&7));
        assert_eq!(left.len(), 11, "{left:?}");
        assert!(left.contains(&50) && !left.contains(&40));
    }

    #[tokio::test]
    async fn the_journal_is_read_once_while_it_is_added_to_and_taken_from() {
        let (_directory, store) = testing::store();
        let (mut reader, mut seen) = (Reader::new(0), Vec::new());
        for event in 1..=50 {
            append(&store, 10).await;
            while event % 20 == 0
                && let Some(journal) = reader.ahead(1, &store).unwrap().pop_front()
            {
                store.remove_journal(journal.first);
                seen.push(journal.first);
            }
        }
        assert_eq!(reader.ahead(20, &store).unwrap().len(), 10);
        assert_eq!(seen, (1..=40).collect::<Vec<_>>());
        assert_eq!(reader.from, 51, "what was taken is behind it");
    }

    #[tokio::test]
    async fn what_is_too_old_to_be_repeated_leaves_the_journal_but_for_the_newest() {
        let (_directory, store) = testing::store();
        let mut retention = Retention::load(&store, 1).unwrap();
        let mut memory = RepeatMemory::default();
        let mut left = Vec::new();
        for event in 1..=100 {
            append(&store, 10).await;
            retention.arrived(10);
            retention.expire_events(&store, |_, _, _| true).unwrap();
            if event % 40 == 0 {
                let now = Timestamp::now();
                let now = if event == 40 { now } else { now.plus(LIFE) };
                retention.expire_journals(&store, now, &mut memory).unwrap();
                store.settled().await.unwrap();
                left.push(store.journals().map(|journal| journal.unwrap().first).collect::<Vec<_>>());
            }
        }
        assert_eq!(left, [(1..=40).collect::<Vec<_>>(), vec![80]], "nothing was old enough at first");
    }
}
