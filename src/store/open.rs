//! Opening a store: the lock, the damage, the version.

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    checkpoint::{self, CarryOver},
    database::{self, Handle},
    durability::{self, SelfTestError},
    keys,
    nudge::Nudge,
    overlay::{Overlay, Stay},
    tip::Tip,
    trouble::{Trouble, is_passing},
    wal::{self, Closed, Files, Replay, Wal},
    worker::Counters,
};
use crate::config;

/// The layout that this program writes: 5 has a log of up to 32 files beside the database, which says of keys that they
/// are new; 4 had one of up to 28 that doesn't say it, 3 one of up to 24, 2 one of two, 1 had none.
pub(super) const SCHEMA: u32 = 5;
/// The meta record of the layout's version.
pub(super) const SCHEMA_NAME: &str = "schema";
/// The meta record of the store's random number.
pub(super) const NONCE: &str = "nonce";
/// Fixed for ever by the first start: sled refuses to open with another. Far above what a leaf of the
/// largest inline bodies takes, so that nothing ever becomes one of sled's blob files, which it never
/// syncs; and small, because the log's garbage is counted in segments (docs/performance.md).
const SEGMENT_SIZE: usize = 2 << 20;

/// The file that finds out whether a disk takes something.
pub(super) const PROBE: &str = "probe";
/// What the names of sled's snapshots end with until they are whole.
const SNAPSHOT_IN_THE_MAKING: &str = ".in___motion";

/// sled counts what a page's content takes on disk, and notices late: in memory that is more than twice as
/// much (docs/performance.md). So it is told of a part of what it may take.
const CACHE_SHARE: u64 = 8;

/// How often, and how far apart, sled's own lock is tried.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a store did not open. The bridge wrote nothing to it, except where that is said.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the store {path} is in use by another rtm-bridge: stop that one first, or give this one its own [store] path"
    )]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(
        "the store {path} can't be used: {error}. Check that the directory exists, belongs to the daemon's user and has space"
    )]
    Io {
        /// The directory or file at fault.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The disk takes nothing, and even to open the store something must be written.
    #[error(
        "the store {path} can't be opened: {error}. Opening it needs some space to write to: make room on that disk (nothing in the store itself \
         may be deleted), or make it writable for the daemon's user; then start again. Nothing is lost"
    )]
    Unwritable {
        /// The store's directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What it holds can't be read as a store.
    #[error(
        "the store {path} is damaged: {detail}. The bridge wrote nothing to it. Copy the directory away before anything else; then either restore a \
         backup, or save what can be read with `rtm-bridge store export FILE`, and import it into an empty directory with `rtm-bridge store import FILE`"
    )]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A later version wrote it.
    #[error(
        "the store {path} was written by a newer rtm-bridge (layout {found}, this one knows {SCHEMA}): run that version, or give this one its own [store] path"
    )]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The layout it has.
        found: u32,
    },
    /// Writes would not survive a power loss.
    #[error(
        "the store {path} can't be made durable: {detail}. With [store] durability = \"os\" the daemon runs anyway, safe from crashes but not from power loss"
    )]
    NotDurable {
        /// The store's directory.
        path: PathBuf,
        /// What the self-test said.
        detail: String,
    },
}

impl OpenError {
    fn of_io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if is_passing(&error) { Self::Unwritable { path, error } } else { Self::Io { path, error } }
    }

    fn of_trouble(path: &Path, trouble: Trouble) -> Self {
        let path = path.to_owned();
        match trouble {
            Trouble::Passing(why) => Self::Unwritable { path, error: io::Error::other(why) },
            Trouble::Fatal(why) => Self::Io { path, error: io::Error::other(why) },
        }
    }

    pub(super) fn of_sled(path: &Path, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::of_io(path, error),
            error => Self::Damaged { path: path.to_owned(), detail: error.to_string() },
        }
    }

    /// Whether a person must act before a restart can help.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Newer { .. } | Self::NotDurable { .. })
    }
}

/// An opened directory.
pub(super) struct Opened {
    pub handle: Arc<Handle>,
    pub overlay: Arc<Overlay>,
    pub log: Log,
    pub lock: fs::File,
    /// The store's random number.
    pub nonce: u32,
    pub tip: Tip,
    pub counters: Counters,
}

/// The log of an opened store, ready to go on.
pub(super) struct Log {
    pub wal: Wal,
    /// Segments that are not in the database, oldest first.
    pub closed: VecDeque<Closed>,
    /// Slots of files that hold nothing any more.
    pub free: Vec<usize>,
    /// Slots that may get a file.
    pub unmade: Vec<usize>,
    /// The last commit that the database has.
    pub carried_over: u64,
}

pub(super) fn open(config: &config::Store) -> Result<Opened, OpenError> {
    let path = &config.path;
    let failed = |error| OpenError::of_io(path, error);
    make_private_directory(path).map_err(failed)?;
    let lock = lock(path)?;
    durability::choose(config.durability);
    settle_swap(path).map_err(failed)?;
    let database = database_in(path);
    let before = Before::of(&database);
    let _ = fs::remove_file(path.join(PROBE));
    remove_unfinished_snapshots(&database);
    let handle = open_or_set_snapshot_aside(&database, config.cache, path)?;
    make_creation_durable(path, &database).map_err(failed)?;
    let nonce = check_layout(handle.db(), before, path)?;
    if config.durability == config::Durability::Fsync {
        durability::self_test(handle.db(), &keys::meta("self-test"))
            .map_err(|error| self_test_failed(error, path))?;
    }
    let handle = Arc::new(handle);
    let tip_file = path.join("tip");
    let (tip, expected) = Tip::open(&tip_file).map_err(|error| OpenError::of_io(&tip_file, error))?;
    let replay = read_log(&handle, path, expected)?;
    write_layout(handle.db()).map_err(|error| OpenError::of_sled(path, error))?;
    let counters = replay.counters;
    let (overlay, log) = take_up_log(&handle, replay, config)?;
    Ok(Opened { handle, overlay, log, lock, nonce, tip, counters })
}

/// Makes ready to go on where the log ends.
fn take_up_log(
    handle: &Arc<Handle>,
    replay: Replay,
    config: &config::Store,
) -> Result<(Arc<Overlay>, Log), OpenError> {
    let path = &config.path;
    let failed = |error| OpenError::of_io(path, error);
    let in_database = Counters::of(handle).map_err(|error| OpenError::of_sled(path, error))?;
    let (mut free, mut unmade, turn) = (replay.free(), replay.unmade(), replay.turn());
    let Replay { files, writes, mut closed, counters, .. } = replay;
    let overlay = Arc::new(Overlay::beside(handle.db(), writes, Arc::clone(&files)));
    let mut carried_over = in_database.commits;
    wal::make_directory(path).map_err(failed)?;
    // So that there are as many files as the log may have, once all have one.
    unmade.reverse();
    let spare = (unmade.len() + wal::segments_for(config.max_size)).saturating_sub(wal::MOST_SEGMENTS);
    unmade.drain(..unmade.len() - spare.min(unmade.len()));
    let slot = loop {
        if let Some(slot) = free.pop() {
            break slot;
        }
        if let Some(slot) = unmade.pop() {
            files.make(slot).map_err(failed)?;
            break slot;
        }
        let oldest = closed.pop_front().ok_or_else(|| failed(io::Error::other("its log has no files")))?;
        carry_over(oldest, &files, &overlay, handle, path)?;
        carried_over = oldest.counters.commits;
        free.push(oldest.segment.slot());
    };
    let wal = Wal::begin_at(files, turn, slot, counters);
    Ok((overlay, Log { wal, closed, free, unmade, carried_over }))
}

fn carry_over(
    closed: Closed,
    files: &Arc<Files>,
    overlay: &Arc<Overlay>,
    handle: &Arc<Handle>,
    path: &Path,
) -> Result<(), OpenError> {
    let nudge = Nudge::start().map_err(|error| OpenError::of_io(path, error))?;
    let (files, overlay, handle) = (Arc::clone(files), Arc::clone(overlay), Arc::clone(handle));
    let stay = Stay::Refused;
    let mut task = CarryOver { before: None, closed: Some(closed), stay, files, overlay, handle };
    let carried = checkpoint::carry_over(&task, &nudge).and_then(|_| {
        (task.before, task.closed) = (Some(closed.counters), None);
        checkpoint::carry_over(&task, &nudge)
    });
    carried.map(drop).map_err(|trouble| OpenError::of_trouble(path, trouble))
}

/// What the log has that the database doesn't. `expected` is the last commit that was on disk once.
fn read_log(handle: &Handle, path: &Path, expected: u64) -> Result<Replay, OpenError> {
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let in_database = Counters::of(handle).map_err(|error| damaged(error.to_string()))?;
    let replay = wal::read(path, in_database).map_err(|error| OpenError::of_io(path, error))?;
    match missing(&replay, in_database, expected) {
        Some(missing) => Err(damaged(missing)),
        None => Ok(replay),
    }
}

/// Which commits are gone, in words.
pub(super) fn missing(replay: &Replay, in_database: Counters, expected: u64) -> Option<String> {
    let (commits, found) = (in_database.commits, replay.counters.commits);
    if let Some(next) = replay.gap_before {
        return Some(format!(
            "its database ends with commit {commits}, and its log goes on with commit {next}"
        ));
    }
    (found < expected).then(|| {
        let missing = expected - found;
        format!("its last {missing} commits (of {expected}) can't be read any more")
    })
}

/// Bytes of the database's file and the log's.
pub(super) fn database_size(path: &Path) -> u64 {
    database::log_size(&database_in(path)) + wal::size_on_disk(path)
}

/// Where sled's files are.
pub(super) fn database_in(path: &Path) -> PathBuf {
    path.join("sled")
}

/// Where a database is made that is to take the place of another.
pub(super) fn new_database_in(path: &Path) -> PathBuf {
    path.join("sled.new")
}

/// Where a database is for the moment in which another takes its place.
pub(super) fn old_database_in(path: &Path) -> PathBuf {
    path.join("sled.old")
}

/// Takes up what a compaction or an import left that was cut short: the database that had the place
/// has it again, unless the other one has it already.
pub(super) fn settle_swap(path: &Path) -> io::Result<()> {
    let (current, new, old) = (database_in(path), new_database_in(path), old_database_in(path));
    if old.exists() && !current.exists() {
        fs::rename(&old, &current)?;
        fs::File::open(path)?.sync_all()?;
    }
    for left in [old, new] {
        match fs::remove_dir_all(&left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes an empty database in [`new_database_in`]'s place.
pub(super) fn make_database(path: &Path, cache: u64) -> Result<Handle, OpenError> {
    open_sled(&new_database_in(path), cache).map_err(|refusal| match refusal {
        Refusal::Io(error) => OpenError::of_io(path, error),
        Refusal::Damaged(detail) => OpenError::Damaged { path: path.to_owned(), detail },
    })
}

/// Bytes of all files in a directory.
pub(super) fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// Opens the database of an open store anew, after its handle was dropped.
pub(super) fn reopen(path: &Path, cache: u64) -> Result<Handle, Trouble> {
    let database = database_in(path);
    remove_unfinished_snapshots(&database);
    forget_cached(&database).map_err(|error| Trouble::of_io("the database", &error))?;
    match open_or_set_snapshot_aside(&database, cache, path) {
        Ok(handle) => Ok(handle),
        Err(OpenError::Unwritable { error, .. }) => Err(Trouble::of_io("the database", &error)),
        // Somebody still looks at records with the old handle.
        Err(OpenError::Io { error, .. }) if is_lock(&error) => Err(Trouble::Passing(error.to_string())),
        Err(error) => Err(Trouble::Fatal(error.to_string())),
    }
}

/// After a failed sync, the system shows pages that it could not write, and calls them clean. What
/// counts is what is on the disk.
fn forget_cached(database: &Path) -> io::Result<()> {
    let log = fs::File::open(database.join("db"))?;
    Ok(rustix::fs::fadvise(&log, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// On a full disk each try to open would leave one.
fn remove_unfinished_snapshots(database: &Path) {
    for entry in fs::read_dir(database).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(SNAPSHOT_IN_THE_MAKING) {
            // sled ignores one that stays.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A disk that is full says nothing about its syncs: there may be space at the next try.
fn self_test_failed(error: SelfTestError, path: &Path) -> OpenError {
    match error {
        SelfTestError::Sled(sled::Error::Io(error)) => OpenError::of_io(path, error),
        error => OpenError::NotDurable { path: path.to_owned(), detail: error.to_string() },
    }
}

/// What was there before opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing: a new store is made.
    Nothing,
    /// A log: it must have records.
    Log,
}

impl Before {
    fn of(database: &Path) -> Self {
        let length = fs::metadata(database.join("db")).map_or(0, |file| file.len());
        if length == 0 { Self::Nothing } else { Self::Log }
    }
}

pub(super) fn make_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

pub(super) fn lock(path: &Path) -> Result<fs::File, OpenError> {
    let file_path = path.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&file_path);
    let file = file.map_err(|error| OpenError::of_io(&file_path, error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(error) => Err(OpenError::Io { path: file_path, error: error.into() }),
    }
}

/// A crash of the machine can leave a snapshot that sled can't read, though its log is whole: without
/// the snapshot, it reads the log. The file is kept beside, under another name.
pub(super) fn open_or_set_snapshot_aside(
    database: &Path,
    cache: u64,
    path: &Path,
) -> Result<Handle, OpenError> {
    let first = match open_sled(database, cache) {
        Ok(handle) => return Ok(handle),
        Err(Refusal::Io(error)) => return Err(OpenError::of_io(path, error)),
        Err(Refusal::Damaged(detail)) => detail,
    };
    let aside = set_snapshots_aside(database).map_err(|error| OpenError::of_io(database, error))?;
    if aside.is_empty() {
        return Err(OpenError::Damaged { path: path.to_owned(), detail: first });
    }
    match open_sled(database, cache) {
        Ok(handle) => {
            tracing::warn!(path = %path.display(), ?aside, "a damaged snapshot was set aside; the store was read from its log");
            Ok(handle)
        }
        Err(refusal) => {
            for (from, to) in &aside {
                // Back as it was: nothing was changed.
                let _ = fs::rename(to, from);
            }
            let detail = match refusal {
                Refusal::Damaged(detail) => detail,
                Refusal::Io(error) => error.to_string(),
            };
            Err(OpenError::Damaged { path: path.to_owned(), detail })
        }
    }
}

enum Refusal {
    Damaged(String),
    Io(io::Error),
}

/// sled has no error of its own for this.
fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("acquire lock")
}

fn open_sled(database: &Path, cache: u64) -> Result<Handle, Refusal> {
    let config = sled::Config::new()
        .path(database)
        .segment_size(SEGMENT_SIZE)
        .cache_capacity(cache / CACHE_SHARE)
        .flush_every_ms(None)
        .mode(sled::Mode::LowSpace);
    let mut patience = LOCK_TRIES;
    // sled 0.34 asserts its way through damaged files.
    match std::panic::catch_unwind(AssertUnwindSafe(|| {
        loop {
            match config.open() {
                // Ours is the store's own lock: whoever has sled's is this process's last handle, on its
                // way out on another thread.
                Err(sled::Error::Io(error)) if is_lock(&error) && patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                other => return other,
            }
        }
    })) {
        Ok(Ok(db)) => Ok(Handle::new(db, config)),
        Ok(Err(sled::Error::Io(error))) if error.kind() != io::ErrorKind::NotFound => Err(Refusal::Io(error)),
        Ok(Err(error)) => Err(Refusal::Damaged(error.to_string())),
        Err(panic) => {
            let detail =
                panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(Refusal::Damaged(detail.unwrap_or("sled could not read it").to_owned()))
        }
    }
}

fn set_snapshots_aside(database: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    for entry in fs::read_dir(database)? {
        let from = entry?.path();
        let name = from.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") {
            let to = database.join(format!("damaged-{name}"));
            fs::rename(&from, &to)?;
            moved.push((from, to));
        }
    }
    Ok(moved)
}

fn make_creation_durable(path: &Path, database: &Path) -> io::Result<()> {
    make_database_durable(database)?;
    fs::File::open(path)?.sync_all()
}

/// sled syncs neither its `conf` nor the directory that names its files.
pub(super) fn make_database_durable(database: &Path) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600))?;
        }
    }
    for file in ["conf", "db"] {
        fs::File::open(database.join(file))?.sync_all()?;
    }
    fs::File::open(database)?.sync_all()
}

/// Says that this program's layout is used from now on.
fn write_layout(db: &sled::Db) -> sled::Result<()> {
    let (key, layout) = (keys::meta(SCHEMA_NAME), SCHEMA.to_be_bytes());
    if db.get(&key)?.is_none_or(|found| found != layout) {
        db.insert(&key, &layout)?;
        db.flush()?;
    }
    Ok(())
}

/// Checks the layout's version, or writes it into a new store. Answers with the store's random number.
fn check_layout(db: &sled::Db, before: Before, path: &Path) -> Result<u32, OpenError> {
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let read = |name: &str| -> Result<Option<u32>, OpenError> {
        let value = db.get(keys::meta(name)).map_err(|error| damaged(error.to_string()))?;
        let number = |bytes: sled::IVec| <[u8; 4]>::try_from(&*bytes).map(u32::from_be_bytes);
        value.map(number).transpose().map_err(|_| damaged(format!("its {name} is unreadable")))
    };
    match (read(SCHEMA_NAME)?, read(NONCE)?) {
        (Some(found), _) if found > SCHEMA => Err(OpenError::Newer { path: path.to_owned(), found }),
        (Some(_), Some(nonce)) => Ok(nonce),
        (None, None) if before == Before::Nothing => {
            let nonce = fastrand::u32(..);
            let mut batch = sled::Batch::default();
            batch.insert(keys::meta(SCHEMA_NAME), &SCHEMA.to_be_bytes());
            batch.insert(keys::meta(NONCE), &nonce.to_be_bytes());
            db.apply_batch(batch)
                .and_then(|()| db.flush())
                .map_err(|error| OpenError::of_sled(path, error))?;
            Ok(nonce)
        }
        // sled reads a log up to the first damage, and takes what is behind it for never written.
        _ => Err(damaged("its log has no layout version: the start of it can't be read".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_at_the_self_test_is_tried_again_and_a_missing_sync_is_not() {
        let full = sled::Error::Io(io::ErrorKind::StorageFull.into());
        let error = self_test_failed(full.into(), Path::new("data"));
        assert!(matches!(error, OpenError::Unwritable { .. }) && !error.needs_a_person(), "{error}");
        assert!(self_test_failed(SelfTestError::NotInForce, Path::new("data")).needs_a_person());
    }
}
