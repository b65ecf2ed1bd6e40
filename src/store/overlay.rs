//! What is committed and not in the database: where each key's newest value is in the log.
//!
//! Who reads looks here before the database. Memory has a key and a place of each, not the values: they are
//! in the log's files, in the system's cache mostly. What is written behind (`commit`) can be seen here with its
//! value while it is on its way.
//!
//! When a segment of the log is carried over to the database (`checkpoint`), its entries leave this, a few at
//! a time. A look over many keys notices by the version that something moved.

mod key;

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry as Slot},
    io,
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use sled::IVec;

use self::key::Key;
use super::{
    commit::Write,
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

#[derive(Debug, Default)]
struct Entries {
    map: BTreeMap<Key, Last>,
    /// How many of them are removals.
    removals: usize,
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
    pub(super) fn new(entries: impl IntoIterator<Item = (IVec, Last)>, files: Arc<Files>) -> Self {
        let map: BTreeMap<_, _> = entries.into_iter().map(|(key, last)| (Key::from(&*key), last)).collect();
        let removals = removals_in(&map);
        let entries = Entries { map, removals };
        Self { entries: RwLock::new(entries), pending: RwLock::default(), moved: AtomicU64::new(0), files }
    }

    /// What a log has, beside the database that it goes with. Most of what was removed was gone before the
    /// database heard of it, and is nothing to remember.
    pub(super) fn beside(db: &sled::Db, writes: BTreeMap<IVec, Last>, files: Arc<Files>) -> Self {
        let tells =
            |(key, last): &(IVec, Last)| last.what != What::Removed || db.contains_key(key).unwrap_or(true);
        Self::new(writes.into_iter().filter(tells), files)
    }

    // ---- Who reads.

    /// What is committed of a key; none if only the database knows.
    pub(super) fn get(&self, key: &[u8]) -> Option<Value> {
        let pending = self.pending().get(key).cloned();
        pending.or_else(|| self.entries().map.get(&Key::from(key)).map(|last| last.value()))
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
        Load { keys: entries.map.len(), removals: entries.removals }
    }

    /// The same, looked at one by one.
    #[cfg(test)]
    pub(super) fn counted(&self) -> Load {
        let entries = self.entries();
        Load { keys: entries.map.len(), removals: removals_in(&entries.map) }
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
            entries.note(write, place);
        }
        drop(entries);
        self.pending.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- The checkpoint.

    /// Which of a segment's writes are still what was last done to their keys. From now on the database may
    /// have these keys.
    pub(super) fn still_valid<'a, T>(&self, mut writes: Vec<(&'a [u8], Last, T)>) -> Vec<(&'a [u8], T)> {
        let mut valid = Vec::new();
        while !writes.is_empty() {
            let mut entries = self.write();
            for (key, last, with) in writes.drain(..writes.len().min(CARRIED_AT_ONCE)) {
                let Some(known) = entries.map.get_mut(&Key::from(key)) else { continue };
                if known.place == last.place && (known.what == What::Removed) == (last.what == What::Removed)
                {
                    if known.what == What::Created {
                        known.what = What::Put;
                    }
                    valid.push((key, with));
                }
            }
        }
        valid
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

fn removals_in(map: &BTreeMap<Key, Last>) -> usize {
    map.values().filter(|last| last.what == What::Removed).count()
}

impl Entries {
    fn note(&mut self, write: &Write, place: Place) {
        let (what, place) = match write {
            Write::Put(..) => (What::Put, place),
            Write::Create(..) => (What::Created, place),
            Write::Remove(_) => (What::Removed, Place::nowhere(place.segment)),
        };
        self.removals += usize::from(what == What::Removed);
        match self.map.entry(Key::from(&**write.key())) {
            Slot::Vacant(slot) => {
                slot.insert(Last { place, what });
            }
            // Nobody but the log will ever have heard of it.
            Slot::Occupied(slot) if what == What::Removed && slot.get().what == What::Created => {
                slot.remove();
                self.removals -= 1;
            }
            Slot::Occupied(mut slot) => {
                let known = slot.get_mut();
                self.removals -= usize::from(known.what == What::Removed);
                // What the database may have, it may still have.
                let what = match (known.what, what) {
                    (What::Created, What::Put | What::Created) => What::Created,
                    (What::Put | What::Removed, What::Put | What::Created) => What::Put,
                    (_, What::Removed) => What::Removed,
                };
                *known = Last { place, what };
            }
        }
    }

    /// Forgets a key if nothing newer than this segment is known of it.
    fn forget(&mut self, key: &[u8], segment: Segment) {
        if let Slot::Occupied(slot) = self.map.entry(Key::from(key))
            && slot.get().place.segment == segment
        {
            self.removals -= usize::from(slot.remove().what == What::Removed);
        }
    }
}

/// Which keys a look is over.
pub(super) type Keys = (Bound<IVec>, Bound<IVec>);

/// A look over some keys, from both ends.
pub(super) struct Layer {
    /// What was not taken out yet, if anything is left.
    rest: Option<Keys>,
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
}

impl Overlay {
    /// Looks over these keys, newest first. To be asked for anew when something moved.
    pub(super) fn layers(&self, keys: &Keys) -> [Layer; 2] {
        if is_empty(keys) {
            return [Layer::of(None, VecDeque::new()), Layer::of(None, VecDeque::new())];
        }
        // Taken as a whole, and first: it is emptied into the entries.
        let pending = self.pending();
        let pending = pending.range::<IVec, _>(keys.clone()).map(|(key, value)| (key.clone(), value.clone()));
        let pending = Layer::of(None, pending.collect());
        [pending, Layer::of(Some(keys.clone()), VecDeque::new())]
    }
}

impl Layer {
    fn of(rest: Option<Keys>, front: VecDeque<Entry>) -> Self {
        Self { rest, front, back: VecDeque::new() }
    }

    pub(super) fn first(&mut self, overlay: &Overlay) -> Option<&Entry> {
        if self.front.is_empty()
            && let Some(keys) = self.rest.take()
        {
            let entries = overlay.entries();
            let page = entries.map.range(key::range(&keys)).take(PAGE);
            self.front.extend(page.map(|(key, last)| (IVec::from(&**key), last.value())));
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
            let entries = overlay.entries();
            for (key, last) in entries.map.range(key::range(&keys)).rev().take(PAGE) {
                self.back.push_front((IVec::from(&**key), last.value()));
            }
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
