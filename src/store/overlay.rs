//! What is committed and not in the database yet.
//!
//! Commits are gathered in a table in memory. When its file of the log is full, the table is frozen and
//! carried over to the database (`checkpoint`), and another one is begun. Who reads looks into both before
//! the database; a look over many keys keeps the tables that it began with, so that nothing that moves
//! meanwhile is missed.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry as Slot},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use sled::IVec;

use super::commit::Write;

/// So many entries are taken out of a table at once.
const PAGE: usize = 32;

/// A key with its value, or none if the key is removed.
pub(super) type Entry = (IVec, Option<IVec>);

/// What was last done to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    Put(IVec),
    /// Put, and no older table and no database has the key.
    Created(IVec),
    Removed,
}

impl Last {
    fn value(&self) -> Option<&IVec> {
        match self {
            Self::Put(value) | Self::Created(value) => Some(value),
            Self::Removed => None,
        }
    }
}

/// The newest values of some keys.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: RwLock<BTreeMap<IVec, Last>>,
}

impl Table {
    pub(super) fn new(entries: BTreeMap<IVec, Option<IVec>>) -> Self {
        let last = |value: Option<IVec>| value.map_or(Last::Removed, Last::Put);
        let entries = entries.into_iter().map(|(key, value)| (key, last(value))).collect();
        Self { entries: RwLock::new(entries) }
    }

    /// Hands every entry over, in order of keys, until one fails.
    pub(super) fn for_each<E>(
        &self,
        mut each: impl FnMut(&IVec, Option<&IVec>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries().iter().try_for_each(|(key, last)| each(key, last.value()))
    }

    fn entries(&self) -> RwLockReadGuard<'_, BTreeMap<IVec, Last>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply<'a>(&self, writes: impl Iterator<Item = &'a Write>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for write in writes {
            match (entries.entry(write.key().clone()), write) {
                (Slot::Vacant(slot), Write::Create(_, value)) => {
                    slot.insert(Last::Created(value.clone()));
                }
                (Slot::Vacant(slot), Write::Put(_, value)) => {
                    slot.insert(Last::Put(value.clone()));
                }
                (Slot::Vacant(slot), Write::Remove(_)) => {
                    slot.insert(Last::Removed);
                }
                (Slot::Occupied(slot), Write::Remove(_)) if matches!(slot.get(), Last::Created(_)) => {
                    slot.remove();
                }
                (Slot::Occupied(mut slot), Write::Remove(_)) => {
                    slot.insert(Last::Removed);
                }
                (Slot::Occupied(mut slot), Write::Put(_, value) | Write::Create(_, value)) => {
                    match slot.get_mut() {
                        Last::Put(known) | Last::Created(known) => *known = value.clone(),
                        removed @ Last::Removed => *removed = Last::Put(value.clone()),
                    }
                }
            }
        }
    }
}

/// The tables that hide the database, newest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    active: Arc<Table>,
    frozen: Option<Arc<Table>>,
}

impl Tables {
    /// Of a database that nothing writes to.
    pub(super) fn fixed(table: Table) -> Self {
        Self { active: Arc::new(table), frozen: None }
    }

    /// What is committed of a key and not in the database; none if only the database knows.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<IVec>> {
        let of = |table: &Table| table.entries().get(key).map(|last| last.value().cloned());
        of(&self.active).or_else(|| of(self.frozen.as_deref()?))
    }

    fn layers(&self) -> impl Iterator<Item = &Arc<Table>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }
}

/// The tables of an open store.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    tables: RwLock<Tables>,
}

impl Overlay {
    pub(super) fn new(tables: Tables) -> Self {
        Self { tables: RwLock::new(tables) }
    }

    pub(super) fn tables(&self) -> Tables {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows these to readers, in this order.
    pub(super) fn apply<'a>(&self, writes: impl Iterator<Item = &'a Write>) {
        self.tables().active.apply(writes);
    }

    /// Freezes what was gathered, and begins anew.
    pub(super) fn freeze(&self) -> Arc<Table> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = std::mem::take(&mut tables.active);
        tables.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// What is frozen is in the database.
    pub(super) fn thaw(&self) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let thawed = tables.frozen.take();
        drop(tables);
        // Freeing its entries takes a while: nobody waits for the lock meanwhile.
        drop(thawed);
    }
}

/// Which keys a look is over.
pub(super) type Keys = (Bound<IVec>, Bound<IVec>);

/// A look over the entries of one table, from both ends.
pub(super) struct Layer {
    table: Arc<Table>,
    /// What was not taken out yet, if anything is left.
    rest: Option<Keys>,
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
}

impl Layer {
    /// A look over these keys, for each table that isn't empty, newest first.
    pub(super) fn over(tables: &Tables, keys: &Keys) -> Vec<Self> {
        let layer = |table: &Arc<Table>| Self {
            table: Arc::clone(table),
            rest: (!is_empty(keys)).then(|| keys.clone()),
            front: VecDeque::new(),
            back: VecDeque::new(),
        };
        tables.layers().filter(|table| !table.entries().is_empty()).map(layer).collect()
    }

    pub(super) fn first(&mut self) -> Option<&Entry> {
        if self.front.is_empty()
            && let Some(keys) = self.rest.take()
        {
            let entries = self.table.entries();
            let page = entries.range::<IVec, _>(keys.clone()).take(PAGE);
            self.front.extend(page.map(|(key, last)| (key.clone(), last.value().cloned())));
            let rest = self.front.back().map(|(last, _)| (Bound::Excluded(last.clone()), keys.1));
            self.rest = rest.filter(|keys| !is_empty(keys));
        }
        self.front.front().or(self.back.front())
    }

    pub(super) fn pop_first(&mut self) -> Option<Entry> {
        self.front.pop_front().or_else(|| self.back.pop_front())
    }

    pub(super) fn last(&mut self) -> Option<&Entry> {
        if self.back.is_empty()
            && let Some(keys) = self.rest.take()
        {
            let entries = self.table.entries();
            for (key, last) in entries.range::<IVec, _>(keys.clone()).rev().take(PAGE) {
                self.back.push_front((key.clone(), last.value().cloned()));
            }
            let rest = self.back.front().map(|(first, _)| (keys.0, Bound::Excluded(first.clone())));
            self.rest = rest.filter(|keys| !is_empty(keys));
        }
        self.back.back().or(self.front.back())
    }

    pub(super) fn pop_last(&mut self) -> Option<Entry> {
        self.back.pop_back().or_else(|| self.front.pop_back())
    }
}

/// Whether no key can lie there: a map would panic if it were asked.
fn is_empty(keys: &Keys) -> bool {
    match keys {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from), Bound::Excluded(to)) | (Bound::Excluded(from), Bound::Included(to)) => {
            from >= to
        }
        (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}
