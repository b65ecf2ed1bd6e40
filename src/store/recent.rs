//! Reading stored events in their order, for those who ask for them: the inbox and the live tail.

use sled::IVec;
use smallvec::smallvec;

use super::{
    Journal, Store, StoreError, StoredEvent, Transaction, UserNumber, Write,
    database::PAGE,
    events::{next_number, number_of, read_journal},
    keys,
};

/// The meta record of how many bytes of recent events the last run kept.
pub(super) const RECENT_BYTES: &str = "recent-bytes";
/// The meta record of the first event that it may have kept, whatever the bytes say.
pub(super) const RECENT_FLOOR: &str = "recent-floor";

/// By what a run decided which events are recent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentBounds {
    /// `store.recent`, in bytes.
    pub bytes: u64,
    /// No event before this number is recent, however few bytes came since.
    pub floor: u64,
}

/// Recent events.
impl Store {
    /// The number of the newest event that was ever stored; 0 before the first. For the start, when
    /// nothing is on its way.
    pub fn newest_event(&self) -> Result<u64, StoreError> {
        Ok(next_number(&self.db)? - 1)
    }

    /// Whether the user's event of this number is stored.
    pub fn has_event(&self, user: UserNumber, number: u64) -> Result<bool, StoreError> {
        self.db.contains_key(keys::event(user, number))
    }

    /// The user's events after one number and up to another, in order.
    pub fn events_between(
        &self,
        user: UserNumber,
        after: u64,
        up_to: u64,
    ) -> impl DoubleEndedIterator<Item = Result<StoredEvent, StoreError>> + '_ {
        // An empty range where the first bound is the greater one: sled panics at such a range.
        let range = (after < up_to).then(|| keys::event(user, after + 1)..=keys::event(user, up_to));
        range.into_iter().flat_map(|range| self.db.range(range)).map(move |entry| {
            let (key, value) = entry?;
            self.read_event(user, number_of(&key)?, value)
        })
    }

    /// Whose the events after one number and up to another are, in order. The events themselves may be
    /// forgotten.
    pub fn arrivals(
        &self,
        after: u64,
        up_to: u64,
    ) -> impl Iterator<Item = Result<(u64, UserNumber), StoreError>> + '_ {
        let journals = self.journals_with(after.saturating_add(1)).flat_map(|journal| {
            let (numbered, error) = match journal {
                Ok(Journal { first, entries, .. }) => (Some((first..).zip(entries)), None),
                Err(error) => (None, Some(Err(error))),
            };
            numbered.into_iter().flatten().map(|(number, entry)| Ok((number, entry.user))).chain(error)
        });
        let is_after = move |arrival: &Result<(u64, UserNumber), _>| {
            arrival.as_ref().map_or(true, |(number, _)| *number > after)
        };
        journals
            .filter(is_after)
            .take_while(move |arrival| arrival.as_ref().map_or(true, |(number, _)| *number <= up_to))
    }

    /// By what the last run decided which events are recent.
    pub fn recent_bounds(&self) -> Result<Option<RecentBounds>, StoreError> {
        let read = |name| -> Result<Option<u64>, StoreError> {
            Ok(self.db.get(keys::meta(name))?.and_then(|value| keys::trailing_u64(&value)))
        };
        Ok(read(RECENT_BYTES)?.zip(read(RECENT_FLOOR)?).map(|(bytes, floor)| RecentBounds { bytes, floor }))
    }

    /// Remembers by what this run decides it: on stable storage before anything that comes later.
    pub fn save_recent_bounds(&self, bounds: RecentBounds) -> Result<(), StoreError> {
        let put = |name, value: u64| Write::Put(keys::meta(name), IVec::from(&value.to_be_bytes()));
        let writes = smallvec![put(RECENT_BYTES, bounds.bytes), put(RECENT_FLOOR, bounds.floor)];
        self.committer.submit(Transaction { writes, ..Transaction::default() })
    }

    /// The journal from the commit on that has the event of this number.
    fn journals_with(&self, number: u64) -> impl Iterator<Item = Result<Journal, StoreError>> + '_ {
        // Among the last ones, which are one page, before among all.
        let near = number.saturating_sub(PAGE as u64 - 1);
        let mut before = self.db.range(keys::journal(near)..=keys::journal(number)).next_back();
        if before.is_none() {
            before = self.db.range(keys::journal(0)..=keys::journal(number)).next_back();
        }
        let first = before.map_or(Ok(number), |entry| number_of(&entry?.0));
        let (first, error) = match first {
            Ok(first) => (Some(first), None),
            Err(error) => (None, Some(Err(error))),
        };
        let journals = first.map(|first| self.db.range(keys::journal(first)..=keys::journal(u64::MAX)));
        journals.into_iter().flatten().map(read_journal).chain(error)
    }
}
