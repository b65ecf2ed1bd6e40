//! Gives back the disk space that a backlog once took: sled's file never shrinks, so its records are
//! copied into a new one beside it, which then takes its place.
//!
//! Whenever this is cut short, one of the two is whole and named: `open::settle_swap` takes it up.

use std::{fs, ops::ControlFlow, path::Path};

use super::{Offline, OfflineError, sync_directory};
use crate::{
    config,
    store::{
        OpenError, backlog,
        database::Handle,
        keys, open,
        worker::{COUNTERS, Counters},
    },
};

/// So many bytes are copied at once.
const BATCH_BYTES: usize = 1 << 20;

/// What a compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// How many records were copied.
    pub records: u64,
    /// Bytes of the database before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

/// How far a compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Copying(u64),
    Copied,
    OldSetAside,
    NewInPlace,
}

/// Rewrites the database of a store; `progress` is told how many records were copied so far.
///
/// # Errors
/// The store doesn't open, is damaged, or the disk fails; the store is as it was then.
pub fn compact(settings: &config::Store, progress: &mut dyn FnMut(u64)) -> Result<Compacted, OfflineError> {
    let compacted = compact_until(settings, &mut |step| {
        if let Step::Copying(records) = step {
            progress(records);
        }
        ControlFlow::Continue(())
    })?;
    Ok(compacted.expect("nothing ends it early"))
}

/// As [`compact`]; none if `go_on` ended it, as a kill would.
pub(super) fn compact_until(
    settings: &config::Store,
    go_on: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Option<Compacted>, OfflineError> {
    let path = &settings.path;
    let (old, new) = (open::database_in(path), open::new_database_in(path));
    let io = |error| OfflineError::io(path, error);
    let store = Offline::open(settings)?;
    if let Some(damage) = store.damage.first() {
        return Err(OfflineError::Damaged(damage.clone()));
    }
    let before = open::size_of(&old);
    let copy = open::make_database(path, settings.cache)?;
    let records = match copy_all(&store, &copy, path, go_on) {
        Ok(Some(records)) => records,
        Ok(None) => return Ok(None),
        Err(error) => {
            // Best effort: the next start clears up, too.
            let _ = fs::remove_dir_all(&new);
            return Err(error);
        }
    };
    // Closed, as is the old one below: nothing writes to either any more.
    drop(copy);
    open::make_database_durable(&new).map_err(io)?;
    if go_on(Step::Copied).is_break() {
        return Ok(None);
    }
    let Offline { db, _lock, .. } = store;
    drop(db);
    fs::rename(&old, open::old_database_in(path)).map_err(io)?;
    if go_on(Step::OldSetAside).is_break() {
        return Ok(None);
    }
    fs::rename(&new, &old).map_err(io)?;
    sync_directory(path).map_err(io)?;
    if go_on(Step::NewInPlace).is_break() {
        return Ok(None);
    }
    fs::remove_dir_all(open::old_database_in(path)).map_err(io)?;
    Ok(Some(Compacted { records, before, after: open::size_of(&old) }))
}

fn copy_all(
    store: &Offline,
    copy: &Handle,
    path: &Path,
    go_on: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Option<u64>, OfflineError> {
    let (mut batch, mut bytes, mut records, mut waiting) = (sled::Batch::default(), 0, 0, 0u64);
    let flush = |batch: sled::Batch| {
        let written = copy.db().apply_batch(batch).and_then(|()| copy.db().flush());
        written.map(drop).map_err(|error| OfflineError::from(OpenError::of_sled(path, error)))
    };
    for entry in store.db.all() {
        let (key, value) = entry?;
        let size = key.len() + value.len();
        waiting += backlog::of(&key, &value)?;
        (bytes, records) = (bytes + size, records + 1);
        batch.insert(key, value);
        if bytes >= BATCH_BYTES {
            flush(std::mem::take(&mut batch))?;
            bytes = 0;
            if go_on(Step::Copying(records)).is_break() {
                return Ok(None);
            }
        }
    }
    // Counted anew. The log has nothing that is not copied.
    batch.insert(keys::meta(COUNTERS), Counters { commits: store.commits, backlog: waiting }.to_bytes());
    flush(batch)?;
    Ok(Some(records))
}
