//! The store's own tools, for a store that no daemon has open: check it, save it as text, make one from
//! such text, give back disk space.

mod compact;
mod export;
mod import;
mod kinds;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use compact::{Compacted, compact};
pub use export::{Exported, export};
pub use import::{Imported, import};
pub use verify::{Verified, verify};

use super::{
    CLOSED, OpenError, StoreError,
    database::Database,
    keys, open,
    overlay::Overlay,
    payload::Payloads,
    tip::Tip,
    wal::{self, Replay},
    worker::Counters,
};
use crate::config;

/// Why a tool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no store.
    #[error("there is no store at {0}: name it with --path DIR, or [store] path of the configuration")]
    Missing(PathBuf),
    /// An import must not mix two stores.
    #[error("there is a store at {0} already: import into an empty directory")]
    NotEmpty(PathBuf),
    /// A file can't be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The export is not one, or is damaged.
    #[error("line {line} of the export can't be imported: {why}. Nothing was imported")]
    BadLine {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A damaged store must be saved, not rewritten.
    #[error(
        "the store is damaged: {0}. Save what can be read with `rtm-bridge store export FILE`; nothing was changed"
    )]
    Damaged(String),
}

impl OfflineError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    /// Whether a person must act before another try can help.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Open(error) => error.needs_a_person(),
            Self::Missing(_) | Self::NotEmpty(_) | Self::BadLine { .. } | Self::Damaged(_) => true,
            Self::Io { .. } => false,
        }
    }
}

/// A store that this process alone has open, whatever state it is in.
struct Offline {
    /// With what the log has beyond it.
    db: Database,
    payloads: Payloads,
    nonce: u32,
    /// The number of its last commit.
    commits: u64,
    /// Whether its last use ended in order.
    closed: bool,
    /// What is wrong with the store as a whole.
    damage: Vec<String>,
    /// Declared last, so that it is released last.
    _lock: fs::File,
}

impl Offline {
    /// Opens what is there, and makes nothing new.
    fn open(settings: &config::Store) -> Result<Self, OfflineError> {
        let path = &settings.path;
        if !path.is_dir() {
            return Err(OfflineError::Missing(path.clone()));
        }
        let lock = open::lock(path)?;
        let io = |error| OfflineError::io(path, error);
        open::settle_swap(path).map_err(io)?;
        if !open::database_in(path).join("db").is_file() {
            return Err(OfflineError::Missing(path.clone()));
        }
        let handle = open::open_or_set_snapshot_aside(&open::database_in(path), settings.cache, path)?;
        let payloads = Payloads::open(path.join("payloads")).map_err(io)?;
        let unreadable = |error: sled::Error| OfflineError::Damaged(error.to_string());
        let in_database = Counters::of(&handle).map_err(unreadable)?;
        let replay = wal::read(path, in_database).map_err(io)?;
        let expected = Tip::open(&path.join("tip")).map_or(0, |(_, expected)| expected);
        let mut damage: Vec<String> = open::missing(&replay, in_database, expected).into_iter().collect();
        let Replay { writes, counters, files, .. } = replay;
        let db = Database::new(Arc::new(handle), Arc::new(Overlay::new(writes, files)));
        let nonce = db.get(keys::meta(open::NONCE))?;
        let nonce = nonce.and_then(|value| <[u8; 4]>::try_from(&*value).ok()).map(u32::from_be_bytes);
        if nonce.is_none() {
            damage.push("its log has no layout version: the start of it can't be read".to_owned());
        }
        let closed = db.contains_key(keys::meta(CLOSED))?;
        let nonce = nonce.unwrap_or_default();
        Ok(Self { db, payloads, nonce, commits: counters.commits, closed, damage, _lock: lock })
    }
}

/// Tells of a damage without filling a terminal.
const MOST_TOLD: usize = 100;

/// What was found to be damaged: the first of it in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damages {
    /// How many there are.
    pub count: u64,
    /// The first hundred.
    pub first: Vec<String>,
}

impl Damages {
    fn add(&mut self, what: String) {
        self.count += 1;
        if self.first.len() < MOST_TOLD {
            self.first.push(what);
        }
    }
}

impl From<StoreError> for OfflineError {
    fn from(error: StoreError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Makes a file's content and its name durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
