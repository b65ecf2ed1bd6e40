//! sled's handle, which can be taken away.
//!
//! After a failed write, sled's handle is poisoned: it may show what is not on disk, and takes
//! nothing more. So it is taken away from all readers before anyone is told of the failure, and
//! given back when the database was opened anew and is whole again. In between, reads are refused.

use std::{
    ops::RangeBounds,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use sled::IVec;

use super::StoreError;

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
}

impl Database {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self { current: RwLock::new(Ok(handle)) }
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
        let handle = self.handle()?;
        handle.db.get(key).map_err(|error| handle.error(&error))
    }

    /// Whether there is such a key.
    pub(super) fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool, StoreError> {
        self.get(key).map(|value| value.is_some())
    }

    /// Every record whose key starts so, in order of keys.
    pub(super) fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Entries {
        self.entries(|db| db.scan_prefix(prefix))
    }

    /// Every record whose key lies there, in order of keys.
    pub(super) fn range(&self, keys: impl RangeBounds<IVec>) -> Entries {
        self.entries(|db| db.range(keys))
    }

    fn entries(&self, scan: impl FnOnce(&sled::Db) -> sled::Iter) -> Entries {
        match self.handle() {
            Ok(handle) => Entries::Scan(Box::new(scan(&handle.db)), handle),
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

/// Records in order of their keys. A long look at it keeps the handle, and so holds up a new one.
pub(super) enum Entries {
    Scan(Box<sled::Iter>, Arc<Handle>),
    /// Nothing but the reason why nothing can be read.
    Refused(Option<StoreError>),
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
            Self::Scan(iter, handle) => Some(iter.next()?.map_err(|error| handle.error(&error))),
            Self::Refused(refusal) => refusal.take().map(Err),
        }
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Scan(iter, handle) => Some(iter.next_back()?.map_err(|error| handle.error(&error))),
            Self::Refused(refusal) => refusal.take().map(Err),
        }
    }
}

/// How long sled's log is.
pub(super) fn log_size(database: &Path) -> u64 {
    std::fs::metadata(database.join("db")).map_or(0, |file| file.len())
}
