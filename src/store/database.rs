//! What readers see: the database, and before it what is committed and not in it yet (`overlay`).
//!
//! sled's handle can be taken away. After a failed write, sled's handle is poisoned: it may show what is not on disk, and takes
//! nothing more. So it is taken away from all readers before anyone is told of the failure, and
//! given back when the database was opened anew and is whole again. In between, reads are refused.

mod backwards;

use std::{
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use sled::IVec;

pub(super) use self::backwards::PAGE;
use self::backwards::{Backwards, Record};
use super::{
    StoreError,
    overlay::{Entry, Keys, Layer, Overlay, Value, is_empty},
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
    overlay: Arc<Overlay>,
}

impl Database {
    /// A database, and what is committed and not in it.
    pub(super) fn new(handle: Arc<Handle>, overlay: Arc<Overlay>) -> Self {
        Self { current: RwLock::new(Ok(handle)), overlay }
    }

    /// What is committed and not in the database.
    pub(super) fn overlay(&self) -> &Arc<Overlay> {
        &self.overlay
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

    /// The value of a key.
    pub(super) fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>, StoreError> {
        value_of(&*self.handle()?, &self.overlay, key.as_ref())
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
            Ok(handle) => Entries::Scan(Box::new(Scan::over(keys, handle, Arc::clone(&self.overlay)))),
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

/// The value of a key, wherever it is.
fn value_of(handle: &Handle, overlay: &Overlay, key: &[u8]) -> Result<Option<IVec>, StoreError> {
    let mut missing = None;
    loop {
        // What is committed first: what leaves that is in the database by then.
        match overlay.get(key) {
            Some(Value::Removed) => return Ok(None),
            Some(Value::Pending(value)) => return Ok(Some(value)),
            Some(Value::Logged(place)) => {
                if let Some(value) = overlay.value(place).map_err(unreadable_log)? {
                    return Ok(Some(IVec::from(value)));
                }
                // It moved while it was looked for, and has another place now.
                if missing.replace(place) == Some(place) {
                    let why = "a record is not where it is known to be; see `rtm-bridge store verify`";
                    return Err(StoreError::Unreadable(format!("the log: {why}")));
                }
            }
            None => return handle.db.get(key).map_err(|error| handle.error(&error)),
        }
    }
}

fn unreadable_log(error: std::io::Error) -> StoreError {
    StoreError::Unreadable(format!("the log: {error}"))
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

/// What is committed and the database as one. What the first says of a key hides what the other does.
pub(super) struct Scan {
    /// What was not told yet.
    keys: Keys,
    /// Newest first.
    layers: [Layer; 3],
    stored: Stored,
    /// [`Overlay::moved`] as it was when the look at `keys` began.
    moved: u64,
    overlay: Arc<Overlay>,
    handle: Arc<Handle>,
}

/// sled counts what its cache has only with every 64th look at one of 256 parts of it, however much each look
/// brought. A scan looks at a page once, so without this a hundred megabytes would go uncounted; with a look
/// for every so many bytes it is 8 MiB at most, as they lie on disk.
const LOOK_EVERY: usize = 512;

/// What the database has, looked at from either end. It may have told from the other end what it finds.
struct Stored {
    /// Bytes that were brought since the last look for the cache's sake.
    unlooked: usize,
    /// None at its end: it must not go on with what is put there meanwhile, which the tables have shown.
    scan: Option<sled::Iter>,
    first: Option<Record>,
    back: Backwards,
}

impl Stored {
    /// The first record, if it is among those that were not told yet.
    fn first(&mut self, untold: &Keys) -> Option<&Record> {
        if self.first.is_none() {
            self.first = self.scan.as_mut().and_then(Iterator::next);
            if self.first.is_none() {
                self.scan = None;
            }
        }
        self.first.as_ref().filter(|record| is_among(record, untold))
    }

    fn pop_first(&mut self, handle: &Handle) -> Option<Record> {
        let record = self.first.take();
        self.count(record.as_ref(), handle);
        record
    }

    /// The last record, if it is among those that were not told yet.
    fn last(&mut self, untold: &Keys, handle: &Handle) -> Option<&Record> {
        self.back.last(&handle.db).filter(|record| is_among(record, untold))
    }

    fn pop_last(&mut self, handle: &Handle) -> Option<Record> {
        let record = self.back.pop();
        self.count(record.as_ref(), handle);
        record
    }

    /// Lets the cache count what was brought; what comes of it doesn't matter.
    fn count(&mut self, brought: Option<&Record>, handle: &Handle) {
        if let Some(Ok((key, value))) = brought {
            self.unlooked += key.len() + value.len();
            for _ in 0..self.unlooked / LOOK_EVERY {
                let _ = handle.db.contains_key(key);
            }
            self.unlooked %= LOOK_EVERY;
        }
    }
}

/// Whether a record's key is one of these; a failure concerns all.
fn is_among(record: &Record, keys: &Keys) -> bool {
    record.as_ref().map_or(true, |(key, _)| keys.contains(key))
}

impl Scan {
    fn over(keys: Keys, handle: Arc<Handle>, overlay: Arc<Overlay>) -> Self {
        let moved = overlay.moved();
        // What is committed first, as in `value_of`; sled panics at an empty range.
        let layers = overlay.layers(&keys);
        let some = (!is_empty(&keys)).then(|| keys.clone());
        let scan = some.clone().map(|keys| handle.db.range(keys));
        let stored = Stored { unlooked: 0, scan, first: None, back: Backwards::over(some) };
        Self { keys, layers, stored, moved, overlay, handle }
    }

    /// Begins anew behind what was told, if something moved: it may be neither where the look is ahead in what is
    /// committed, nor where it is ahead in the database.
    fn follow(&mut self) -> bool {
        let has_moved = self.overlay.moved() != self.moved;
        if has_moved {
            let keys = self.keys.clone();
            *self = Self::over(keys, Arc::clone(&self.handle), Arc::clone(&self.overlay));
        }
        has_moved
    }

    fn next(&mut self) -> Option<Result<(IVec, IVec), StoreError>> {
        loop {
            self.follow();
            let overlay = &*self.overlay;
            let heads = self.layers.iter_mut().filter_map(|layer| layer.first(overlay));
            let committed = heads.map(|(key, _)| key).min().cloned();
            let stored = match self.stored.first(&self.keys) {
                Some(Ok((key, _))) => Some(key.clone()),
                Some(Err(_)) => return self.stored.pop_first(&self.handle).map(|entry| self.told(entry)),
                None => None,
            };
            if self.follow() {
                continue;
            }
            let key = committed.iter().chain(&stored).min()?.clone();
            let from_database =
                (stored.as_ref() == Some(&key)).then(|| self.stored.pop_first(&self.handle)).flatten();
            self.keys.0 = Bound::Excluded(key.clone());
            let newest = self.newest(&key, Layer::first, Layer::pop_first);
            if let Some(told) = self.resolve(key, newest, from_database) {
                return Some(told);
            }
        }
    }

    fn next_back(&mut self) -> Option<Result<(IVec, IVec), StoreError>> {
        loop {
            self.follow();
            let overlay = &*self.overlay;
            let tails = self.layers.iter_mut().filter_map(|layer| layer.last(overlay));
            let committed = tails.map(|(key, _)| key).max().cloned();
            let stored = match self.stored.last(&self.keys, &self.handle) {
                Some(Ok((key, _))) => Some(key.clone()),
                Some(Err(_)) => return self.stored.pop_last(&self.handle).map(|entry| self.told(entry)),
                None => None,
            };
            if self.follow() {
                continue;
            }
            let key = committed.iter().chain(&stored).max()?.clone();
            let from_database =
                (stored.as_ref() == Some(&key)).then(|| self.stored.pop_last(&self.handle)).flatten();
            self.keys.1 = Bound::Excluded(key.clone());
            let newest = self.newest(&key, Layer::last, Layer::pop_last);
            if let Some(told) = self.resolve(key, newest, from_database) {
                return Some(told);
            }
        }
    }

    /// Takes a key out of what is committed; the newest layer's value counts.
    fn newest(
        &mut self,
        key: &IVec,
        peek: for<'a> fn(&'a mut Layer, &Overlay) -> Option<&'a Entry>,
        pop: fn(&mut Layer) -> Option<Entry>,
    ) -> Option<Value> {
        let mut newest = None;
        for layer in &mut self.layers {
            if peek(layer, &self.overlay).is_some_and(|(found, _)| found == key)
                && let Some((_, value)) = pop(layer)
            {
                newest.get_or_insert(value);
            }
        }
        newest
    }

    /// What is to be told of a key: nothing if it is removed.
    fn resolve(
        &self,
        key: IVec,
        committed: Option<Value>,
        from_database: Option<Record>,
    ) -> Option<Result<(IVec, IVec), StoreError>> {
        let value = match committed {
            None => return from_database.map(|entry| self.told(entry)),
            Some(Value::Removed) => return None,
            Some(Value::Pending(value)) => Ok(Some(value)),
            Some(Value::Logged(place)) => match self.overlay.value(place) {
                Ok(Some(value)) => Ok(Some(IVec::from(value))),
                // It moved since it was looked at.
                Ok(None) => value_of(&self.handle, &self.overlay, &key),
                Err(error) => Err(unreadable_log(error)),
            },
        };
        value.map(|value| value.map(|value| (key, value))).transpose()
    }

    fn told(&self, entry: Record) -> Result<(IVec, IVec), StoreError> {
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
mod tests;
