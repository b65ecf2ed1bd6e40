//! What readers see: the database, and before it what is committed and not in it yet (`overlay`).
//!
//! sled's handle can be taken away. After a failed write, sled's handle is poisoned: it may show what is not on disk, and takes
//! nothing more. So it is taken away from all readers before anyone is told of the failure, and
//! given back when the database was opened anew and is whole again. In between, reads are refused.

use std::{
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use sled::IVec;

use super::{
    StoreError,
    commit::Write,
    overlay::{Entry, Keys, Layer, Overlay, Table, Tables},
};

/// An open database.
#[derive(Debug)]
pub(super) struct Handle {
    db: sled::Db,
    /// What it was opened with: knows whether one of sled's own threads failed.
    config: sled::Config,
}

impl Handle {
    pub(super) fn new(db: sled::Db, config: sled::Config) -> Self {
        Self { db, config }
    }

    pub(super) fn db(&self) -> &sled::Db {
        &self.db
    }

    /// Why sled takes nothing more, if a write of its failed.
    pub(super) fn failed(&self) -> Option<sled::Error> {
        self.config.global_error().err()
    }

    /// What a failed read means.
    fn error(&self, error: &sled::Error) -> StoreError {
        match self.failed() {
            Some(cause) => StoreError::Unavailable(cause.to_string()),
            None => StoreError::Unreadable(error.to_string()),
        }
    }
}

/// The database, as all who read know it.
#[derive(Debug)]
pub(super) struct Database {
    current: RwLock<Result<Arc<Handle>, String>>,
    overlay: Overlay,
}

impl Database {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self::with(handle, Table::default())
    }

    /// A database, and what is committed and not in it.
    pub(super) fn with(handle: Arc<Handle>, committed: Table) -> Self {
        Self { current: RwLock::new(Ok(handle)), overlay: Overlay::new(Tables::fixed(committed)) }
    }

    /// Takes the handle away from readers; they are told why.
    pub(super) fn take_away(&self, why: &str) {
        let taken = std::mem::replace(&mut *self.write(), Err(why.to_owned()));
        drop(taken);
    }

    /// Gives readers a handle.
    pub(super) fn give_back(&self, handle: Arc<Handle>) {
        *self.write() = Ok(handle);
    }

    /// Shows readers what is committed.
    pub(super) fn apply<'a>(&self, writes: impl Iterator<Item = &'a Write>) {
        self.overlay.apply(writes);
    }

    /// Sets aside what is committed and not in the database, to be carried over to it.
    pub(super) fn freeze(&self) -> Arc<Table> {
        self.overlay.freeze()
    }

    /// What was set aside is in the database.
    pub(super) fn thaw(&self) {
        self.overlay.thaw();
    }

    /// The value of a key.
    pub(super) fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>, StoreError> {
        let handle = self.handle()?;
        // The tables first: what leaves them is in the database by then.
        match self.overlay.tables().get(key.as_ref()) {
            Some(committed) => Ok(committed),
            None => handle.db.get(key).map_err(|error| handle.error(&error)),
        }
    }

    /// Whether there is such a key.
    pub(super) fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool, StoreError> {
        self.get(key).map(|value| value.is_some())
    }

    /// Every record, in order of keys.
    pub(super) fn all(&self) -> Entries {
        self.entries((Bound::Unbounded, Bound::Unbounded))
    }

    /// Every record whose key starts so, in order of keys.
    pub(super) fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Entries {
        let prefix = prefix.as_ref();
        let end = end_of(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        self.entries((Bound::Included(IVec::from(prefix)), end))
    }

    /// Every record whose key lies there, in order of keys.
    pub(super) fn range(&self, keys: impl RangeBounds<IVec>) -> Entries {
        self.entries((keys.start_bound().cloned(), keys.end_bound().cloned()))
    }

    fn entries(&self, keys: Keys) -> Entries {
        match self.handle() {
            Ok(handle) => {
                // The tables first, as in `get`.
                let layers = Layer::over(&self.overlay.tables(), &keys);
                let scan = Some(handle.db.range(keys));
                Entries::Scan(Box::new(Scan {
                    layers,
                    stored: Stored { scan, first: None, last: None },
                    handle,
                }))
            }
            Err(refusal) => Entries::Refused(Some(refusal)),
        }
    }

    fn handle(&self) -> Result<Arc<Handle>, StoreError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().map_err(StoreError::Unavailable)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Result<Arc<Handle>, String>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first key behind all that start so; none if there is none.
fn end_of(prefix: &[u8]) -> Option<IVec> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(IVec::from(end))
}

/// Records in order of their keys. A long look at it keeps the handle, and so holds up a new one.
pub(super) enum Entries {
    Scan(Box<Scan>),
    /// Nothing but the reason why nothing can be read.
    Refused(Option<StoreError>),
}

/// Tables and database as one. What a table says of a key hides what an older one or the database does.
pub(super) struct Scan {
    /// Newest first.
    layers: Vec<Layer>,
    stored: Stored,
    handle: Arc<Handle>,
}

/// What the database has, looked at one ahead from either end.
struct Stored {
    /// None at its end: it must not go on with what is put there meanwhile, which the tables have shown.
    scan: Option<sled::Iter>,
    first: Option<sled::Result<(IVec, IVec)>>,
    last: Option<sled::Result<(IVec, IVec)>>,
}

impl Stored {
    fn end_at(&mut self, end: bool) {
        if end {
            self.scan = None;
        }
    }

    fn first(&mut self) -> Option<&sled::Result<(IVec, IVec)>> {
        if self.first.is_none() {
            self.first = self.scan.as_mut().and_then(Iterator::next);
            self.end_at(self.first.is_none());
        }
        self.first.as_ref().or(self.last.as_ref())
    }

    fn pop_first(&mut self) -> Option<sled::Result<(IVec, IVec)>> {
        self.first.take().or_else(|| self.last.take())
    }

    fn last(&mut self) -> Option<&sled::Result<(IVec, IVec)>> {
        if self.last.is_none() {
            self.last = self.scan.as_mut().and_then(DoubleEndedIterator::next_back);
            self.end_at(self.last.is_none());
        }
        self.last.as_ref().or(self.first.as_ref())
    }

    fn pop_last(&mut self) -> Option<sled::Result<(IVec, IVec)>> {
        self.last.take().or_else(|| self.first.take())
    }
}

impl Scan {
    fn next(&mut self) -> Option<Result<(IVec, IVec), StoreError>> {
        loop {
            let committed =
                self.layers.iter_mut().filter_map(Layer::first).map(|(key, _)| key).min().cloned();
            let stored = match self.stored.first() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(_)) => return self.stored.pop_first().map(|entry| self.told(entry)),
                None => None,
            };
            let Some(key) = committed.filter(|key| stored.is_none_or(|stored| key <= stored)) else {
                return self.stored.pop_first().map(|entry| self.told(entry));
            };
            if stored == Some(&key) {
                self.stored.pop_first();
            }
            if let Some(value) = self.newest(&key, Layer::first, Layer::pop_first) {
                return Some(Ok((key, value)));
            }
        }
    }

    fn next_back(&mut self) -> Option<Result<(IVec, IVec), StoreError>> {
        loop {
            let committed = self.layers.iter_mut().filter_map(Layer::last).map(|(key, _)| key).max().cloned();
            let stored = match self.stored.last() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(_)) => return self.stored.pop_last().map(|entry| self.told(entry)),
                None => None,
            };
            let Some(key) = committed.filter(|key| stored.is_none_or(|stored| key >= stored)) else {
                return self.stored.pop_last().map(|entry| self.told(entry));
            };
            if stored == Some(&key) {
                self.stored.pop_last();
            }
            if let Some(value) = self.newest(&key, Layer::last, Layer::pop_last) {
                return Some(Ok((key, value)));
            }
        }
    }

    /// Takes a key out of all tables; the newest one's value counts, if it isn't a removal.
    fn newest(
        &mut self,
        key: &IVec,
        peek: fn(&mut Layer) -> Option<&Entry>,
        pop: fn(&mut Layer) -> Option<Entry>,
    ) -> Option<IVec> {
        let mut newest = None;
        for layer in &mut self.layers {
            if peek(layer).is_some_and(|(found, _)| found == key)
                && let Some((_, value)) = pop(layer)
            {
                newest.get_or_insert(value);
            }
        }
        newest.flatten()
    }

    fn told(&self, entry: sled::Result<(IVec, IVec)>) -> Result<(IVec, IVec), StoreError> {
        entry.map_err(|error| self.handle.error(&error))
    }
}

impl Entries {
    /// Their keys alone.
    pub(super) fn keys(self) -> impl DoubleEndedIterator<Item = Result<IVec, StoreError>> {
        self.map(|entry| entry.map(|(key, _)| key))
    }
}

impl Iterator for Entries {
    type Item = Result<(IVec, IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Scan(scan) => scan.next(),
            Self::Refused(refusal) => refusal.take().map(Err),
        }
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Scan(scan) => scan.next_back(),
            Self::Refused(refusal) => refusal.take().map(Err),
        }
    }
}

/// How long sled's log is.
pub(super) fn log_size(database: &Path) -> u64 {
    std::fs::metadata(database.join("db")).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u8, Option<u8>),
        /// A key that never was, and its removal a little later.
        Create(u8),
        RemoveCreated,
        Freeze,
        /// What is frozen gets into the database.
        CarryOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            20 => (0u8..60, prop::option::weighted(0.7, any::<u8>())).prop_map(|(key, value)| Step::Write(key, value)),
            4 => any::<u8>().prop_map(Step::Create),
            4 => Just(Step::RemoveCreated),
            1 => Just(Step::Freeze),
            1 => Just(Step::CarryOver),
        ];
        prop::collection::vec(step, 0..300)
    }

    struct World {
        database: Database,
        handle: Arc<Handle>,
        frozen: Option<Arc<Table>>,
        model: BTreeMap<u8, u8>,
        /// Keys from 60 to 255 are created once each.
        created: std::ops::Range<u8>,
    }

    impl World {
        fn new() -> Self {
            let config = sled::Config::new().temporary(true);
            let handle = Arc::new(Handle::new(config.open().unwrap(), config));
            let database = Database::new(Arc::clone(&handle));
            Self { database, handle, frozen: None, model: BTreeMap::new(), created: 60..60 }
        }

        fn act(&mut self, step: &Step) {
            match *step {
                Step::Write(key, Some(value)) => {
                    self.model.insert(key, value);
                    self.database.apply([Write::Put(IVec::from(&[key]), IVec::from(&[value]))].iter());
                }
                Step::Write(key, None) => {
                    self.model.remove(&key);
                    self.database.apply([Write::Remove(IVec::from(&[key]))].iter());
                }
                Step::Create(value) if self.created.end < u8::MAX => {
                    let key = self.created.end;
                    self.created.end += 1;
                    self.model.insert(key, value);
                    self.database.apply([Write::Create(IVec::from(&[key]), IVec::from(&[value]))].iter());
                }
                Step::RemoveCreated => {
                    let Some(key) = self.created.next() else { return };
                    self.act(&Step::Write(key, None));
                }
                Step::Freeze if self.frozen.is_none() => self.frozen = Some(self.database.freeze()),
                Step::CarryOver => {
                    let Some(frozen) = self.frozen.take() else { return };
                    let carried_over = frozen.for_each(|key, value| match value {
                        Some(value) => self.handle.db().insert(key, value).map(drop),
                        None => self.handle.db().remove(key).map(drop),
                    });
                    carried_over.unwrap();
                    self.database.thaw();
                }
                Step::Freeze | Step::Create(_) => {}
            }
        }
    }

    fn plain(entry: Result<(IVec, IVec), StoreError>) -> (u8, u8) {
        let (key, value) = entry.unwrap();
        (key[0], value[0])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tables_and_database_look_like_one(steps in steps(), from in 0u8..90, length in 0u8..90, ends: Vec<bool>) {
            let mut world = World::new();
            for step in &steps {
                world.act(step);
            }
            let to = from.saturating_add(length);
            let keys = IVec::from(&[from])..IVec::from(&[to]);
            let expected: Vec<_> = world.model.range(from..to).map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(world.database.range(keys.clone()).map(plain).collect::<Vec<_>>(), &expected[..]);
            let mut reversed: Vec<_> = world.database.range(keys.clone()).rev().map(plain).collect();
            reversed.reverse();
            prop_assert_eq!(&reversed, &expected);
            // From both ends, in any turn.
            let (mut scan, mut rest) = (world.database.range(keys), &expected[..]);
            for front in ends.into_iter().chain([true, false].into_iter().cycle().take(2 * expected.len() + 2)) {
                let (found, wanted) = if front {
                    (scan.next(), rest.split_off_first())
                } else {
                    (scan.next_back(), rest.split_off_last())
                };
                prop_assert_eq!(found.map(plain), wanted.copied());
            }
            for key in 0..=u8::MAX {
                let found = world.database.get([key]).unwrap().map(|value| value[0]);
                prop_assert_eq!(found, world.model.get(&key).copied());
            }
        }
    }

    #[test]
    fn a_look_misses_nothing_that_moves_meanwhile() {
        let mut world = World::new();
        for key in 0..200 {
            world.act(&Step::Write(key, Some(key)));
        }
        let mut scan = world.database.all();
        assert_eq!(scan.next().map(plain), Some((0, 0)));
        world.act(&Step::Freeze);
        world.act(&Step::CarryOver);
        assert_eq!(scan.map(plain).map(|(key, _)| key).collect::<Vec<_>>(), (1..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_prefix_ends_where_others_begin() {
        assert_eq!(end_of(&[1, 2]), Some(IVec::from(&[1, 3])));
        assert_eq!(end_of(&[1, 255, 255]), Some(IVec::from(&[2])));
        assert_eq!(end_of(&[255]), None);
        assert_eq!(end_of(&[]), None);
    }
}
