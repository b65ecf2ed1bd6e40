//! What is committed and not in the database: where each key's newest value is in the log.
//!
//! Who reads looks here before the database. Memory has a key and a place of each, not the values: they are
//! in the log's files, in the system's cache mostly. What is written behind (`commit`) can be seen here with its
//! value while it is on its way.
//!
//! When a segment of the log is carried over to the database (`checkpoint`), its entries leave this, a few at
//! a time, but for those that stay in the log (`segments`). A look over many keys notices by the version that something moved.

mod groups;
mod key;
mod run;
mod table;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use sled::IVec;

use self::table::Table;
use super::{
    commit::Write,
    keys::kind,
    wal::{Files, Place, Segment},
};

/// So many entries are taken out, or looked at, under one lock.
const PAGE: usize = 32;
/// So many entries of a segment are looked for, or forgotten, under one lock.
const CARRIED_AT_ONCE: usize = 128;

/// What was last done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    /// Of a removal, only its segment means something.
    place: Place,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Put,
    /// Put, and the database has no such key.
    Created,
    Removed,
}

impl Last {
    /// Put there.
    pub(super) fn put(place: Place) -> Self {
        Self { place, what: What::Put }
    }

    /// Put there, where the database has no such key.
    pub(super) fn created(place: Place) -> Self {
        Self { place, what: What::Created }
    }

    /// Removed by a write of this segment.
    pub(super) fn removed(segment: Segment) -> Self {
        Self { place: Place::nowhere(segment), what: What::Removed }
    }

    fn value(self) -> Value {
        match self.what {
            What::Put | What::Created => Value::Logged(self.place),
            What::Removed => Value::Removed,
        }
    }
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Removed,
    /// It is on its way to the log.
    Pending(IVec),
    /// It is in the log.
    Logged(Place),
}

impl Value {
    fn of(write: &Write) -> Self {
        match write {
            Write::Put(_, value) | Write::Create(_, value) => Self::Pending(value.clone()),
            Write::Remove(_) => Self::Removed,
        }
    }
}

/// A key with its value.
pub(super) type Entry = (IVec, Value);

/// What was last done to each key.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    table: Table,
    /// How many of them are removals.
    removals: usize,
}

/// What may become of a segment's keys that are new to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Those that go soon are written once more instead, at the log's end: the database never hears of them.
    Allowed,
    /// The database gets them.
    Refused,
}

/// Whether keys of this kind mostly go while the log is written over once or twice, and are small: to write them once more
/// costs far less than to put them into the database and to remove them from there.
fn goes_soon(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(kind::MESSAGE | kind::ACCEPTED)))
}

/// What of a segment is still what was last done to its keys.
pub(super) struct StillValid<'a, T> {
    pub for_database: Vec<(&'a [u8], T)>,
    /// To be written once more.
    pub staying: Vec<(&'a [u8], T)>,
}

/// A key that stays in the log, where it is to be written once more.
#[derive(Debug)]
pub(super) struct Staying {
    pub key: IVec,
    pub value: IVec,
    /// Where it is.
    pub place: Place,
}

/// How many keys an overlay has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub keys: usize,
    /// Those that were removed, and that the database may still have.
    pub removals: usize,
}

/// What an open store, or one that is looked at, has beside its database.
#[derive(Debug)]
pub(super) struct Overlay {
    entries: RwLock<Entries>,
    /// What is written behind, of the commit under way. It hides the entries.
    pending: RwLock<BTreeMap<IVec, Value>>,
    /// Counts what moved to the database.
    moved: AtomicU64,
    files: Arc<Files>,
}

impl Overlay {
    pub(super) fn new(entries: Entries, files: Arc<Files>) -> Self {
        Self { entries: RwLock::new(entries), pending: RwLock::default(), moved: AtomicU64::new(0), files }
    }

    /// What a log has, beside the database that it goes with. Of what was removed, most was gone before the
    /// database heard of it, and is nothing to remember.
    pub(super) fn beside(db: &sled::Db, mut entries: Entries, files: Arc<Files>) -> Self {
        entries.forget_removals(|key| !db.contains_key(key).unwrap_or(true));
        Self::new(entries, files)
    }

    // ---- Who reads.

    /// What is committed of a key; none if only the database knows.
    pub(super) fn get(&self, key: &[u8]) -> Option<Value> {
        let pending = self.pending().get(key).cloned();
        pending.or_else(|| self.entries().table.get(key).map(Last::value))
    }

    /// The value at a place; none if it moved to the database meanwhile, or something newer took its place.
    pub(super) fn value(&self, place: Place) -> io::Result<Option<Vec<u8>>> {
        self.files.value(place)
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> RwLockReadGuard<'_, BTreeMap<IVec, Value>> {
        self.pending.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much there is.
    pub(super) fn load(&self) -> Load {
        let entries = self.entries();
        Load { keys: entries.table.len(), removals: entries.removals }
    }

    /// The same, looked at one by one.
    #[cfg(test)]
    pub(super) fn counted(&self) -> Load {
        let entries = self.entries();
        let every = entries.all().count();
        Load { keys: every, removals: entries.all().filter(|(_, last)| last.what == What::Removed).count() }
    }

    /// How often something moved to the database.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Acquire)
    }

    // ---- The commit thread.

    /// Shows writes that are on their way, in this order, until [`Overlay::committed`].
    pub(super) fn announce<'a>(&self, writes: impl Iterator<Item = &'a Write>) {
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.extend(writes.map(|write| (write.key().clone(), Value::of(write))));
    }

    /// Shows writes that are in the log, in this order, each with its value's place.
    pub(super) fn committed<'a>(&self, writes: impl Iterator<Item = (&'a Write, Place)>) {
        let mut entries = self.write();
        for (write, place) in writes {
            let last = match write {
                Write::Put(..) => Last::put(place),
                Write::Create(..) => Last::created(place),
                Write::Remove(_) => Last::removed(place.segment),
            };
            entries.note(write.key(), last);
        }
        drop(entries);
        self.pending.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- The checkpoint.

    /// Which of a segment's writes are still what was last done to their keys. From now on the database may
    /// have those keys that it is to have.
    pub(super) fn still_valid<'a, T>(
        &self,
        mut writes: Vec<(&'a [u8], Last, T)>,
        stay: Stay,
    ) -> StillValid<'a, T> {
        let mut valid = StillValid { for_database: Vec::new(), staying: Vec::new() };
        while !writes.is_empty() {
            let mut entries = self.write();
            for (key, last, with) in writes.drain(..writes.len().min(CARRIED_AT_ONCE)) {
                entries.table.update(key, |known| {
                    let mut known = known?;
                    if known.place != last.place
                        || (known.what == What::Removed) != (last.what == What::Removed)
                    {
                        return Some(known);
                    }
                    if stay == Stay::Allowed && known.what == What::Created && goes_soon(key) {
                        valid.staying.push((key, with));
                        return Some(known);
                    }
                    if known.what == What::Created {
                        known.what = What::Put;
                    }
                    valid.for_database.push((key, with));
                    Some(known)
                });
            }
        }
        valid
    }

    /// Those that nothing was done to since.
    pub(super) fn still_there<'a>(&self, staying: &'a [Staying]) -> impl Iterator<Item = &'a Staying> {
        let entries = self.entries();
        staying
            .iter()
            .filter(move |one| entries.table.get(&one.key).is_some_and(|last| last.place == one.place))
    }

    /// The database has these keys as this segment left them.
    pub(super) fn carried_over<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>, segment: Segment) {
        loop {
            let mut entries = self.write();
            let mut some = false;
            for key in keys.by_ref().take(CARRIED_AT_ONCE) {
                some = true;
                entries.forget(key, segment);
            }
            // While nobody looks: whoever finds an entry gone finds this as well.
            self.moved.fetch_add(1, Ordering::Release);
            if !some {
                return;
            }
        }
    }
}

impl Entries {
    /// Notes what was done to a key after all that was noted before.
    pub(super) fn note(&mut self, key: &[u8], last: Last) {
        let Self { table, removals } = self;
        table.update(key, |known| {
            *removals -= usize::from(known.is_some_and(|known| known.what == What::Removed));
            let known = known.map(|known| known.what);
            let what = match (known, last.what) {
                // Nobody but the log will ever have heard of it.
                (Some(What::Created), What::Removed) => return None,
                (None | Some(What::Created), What::Created) | (Some(What::Created), What::Put) => {
                    What::Created
                }
                (_, What::Removed) => What::Removed,
                // What the database may have, it may still have.
                (_, What::Put | What::Created) => What::Put,
            };
            *removals += usize::from(what == What::Removed);
            Some(Last { what, ..last })
        });
    }

    /// Forgets a key if nothing newer than this segment is known of it.
    fn forget(&mut self, key: &[u8], segment: Segment) {
        let Self { table, removals } = self;
        table.update(key, |known| {
            let known = known?;
            if known.place.segment != segment {
                return Some(known);
            }
            *removals -= usize::from(known.what == What::Removed);
            None
        });
    }

    /// Forgets the removals of keys of which this is true.
    fn forget_removals(&mut self, is_nothing: impl Fn(&IVec) -> bool) {
        let removals = self.all().filter(|(_, last)| last.what == What::Removed);
        let forgotten: Vec<IVec> = removals.map(|(key, _)| key).filter(is_nothing).collect();
        self.removals -= forgotten.len();
        for key in forgotten {
            self.table.update(&key, |_| None);
        }
    }

    /// Every key: the numbered ones in order, and the others.
    pub(super) fn all(&self) -> impl Iterator<Item = (IVec, Last)> + '_ {
        const ALL: Keys = (Bound::Unbounded, Bound::Unbounded);
        self.table.numbered(&ALL).chain(self.table.others(&ALL))
    }
}

/// Which keys a look is over.
pub(super) type Keys = (Bound<IVec>, Bound<IVec>);

/// A look over some keys, from both ends.
pub(super) struct Layer {
    of: Part,
    /// What was not taken out yet, if anything is left.
    rest: Option<Keys>,
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
}

/// What a layer looks at.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// What is on its way, which was taken out as a whole.
    Pending,
    Numbered,
    Others,
}

impl Overlay {
    /// Looks over these keys, newest first. To be asked for anew when something moved.
    pub(super) fn layers(&self, keys: &Keys) -> [Layer; 3] {
        if is_empty(keys) {
            return [Part::Pending, Part::Numbered, Part::Others].map(|of| Layer::of(of, None));
        }
        let mut pending = Layer::of(Part::Pending, None);
        // First, and as a whole: it is emptied into the entries.
        let known = self.pending();
        pending
            .front
            .extend(known.range::<IVec, _>(keys.clone()).map(|(key, value)| (key.clone(), value.clone())));
        drop(known);
        let [numbered, others] = [Part::Numbered, Part::Others].map(|of| Layer::of(of, Some(keys.clone())));
        [pending, numbered, others]
    }
}

impl Layer {
    fn of(of: Part, rest: Option<Keys>) -> Self {
        Self { of, rest, front: VecDeque::new(), back: VecDeque::new() }
    }

    pub(super) fn first(&mut self, overlay: &Overlay) -> Option<&Entry> {
        if self.front.is_empty()
            && let Some(keys) = self.rest.take()
        {
            let table = &overlay.entries().table;
            let told = |(key, last): (IVec, Last)| (key, last.value());
            match self.of {
                Part::Pending => {}
                Part::Numbered => self.front.extend(table.numbered(&keys).take(PAGE).map(told)),
                Part::Others => self.front.extend(table.others(&keys).take(PAGE).map(told)),
            }
            let rest = self.front.back().map(|(last, _)| (Bound::Excluded(last.clone()), keys.1));
            self.rest = rest.filter(|keys| self.front.len() == PAGE && !is_empty(keys));
        }
        self.front.front().or(self.back.front())
    }

    pub(super) fn pop_first(&mut self) -> Option<Entry> {
        self.front.pop_front().or_else(|| self.back.pop_front())
    }

    pub(super) fn last(&mut self, overlay: &Overlay) -> Option<&Entry> {
        if self.back.is_empty()
            && let Some(keys) = self.rest.take()
        {
            let table = &overlay.entries().table;
            let told = |(key, last): (IVec, Last)| (key, last.value());
            match self.of {
                Part::Pending => {}
                Part::Numbered => self.back.extend(table.numbered(&keys).rev().take(PAGE).map(told)),
                Part::Others => self.back.extend(table.others(&keys).rev().take(PAGE).map(told)),
            }
            self.back.make_contiguous().reverse();
            let rest = self.back.front().map(|(first, _)| (keys.0, Bound::Excluded(first.clone())));
            self.rest = rest.filter(|keys| self.back.len() == PAGE && !is_empty(keys));
        }
        self.back.back().or(self.front.back())
    }

    pub(super) fn pop_last(&mut self) -> Option<Entry> {
        self.back.pop_back().or_else(|| self.front.pop_back())
    }
}

/// Whether no key can lie there: a map would panic if it were asked.
pub(super) fn is_empty(keys: &Keys) -> bool {
    match keys {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from), Bound::Excluded(to)) | (Bound::Excluded(from), Bound::Included(to)) => {
            from >= to
        }
        (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}
