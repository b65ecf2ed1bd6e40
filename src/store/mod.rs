//! The store: the only place that knows sled.
//!
//! It speaks of messages, events, lanes and dead letters, never of trees and keys. Everything that
//! must be durable goes through one commit thread (`commit`), into a log first (`wal`), and what is
//! still there after a while into the database (`checkpoint`); readers find it in either (`overlay`).
//! Bodies above 4 KiB are files beside (`payload`); templates are kept in parts (`templates`); `durability` makes sled's flush what it claims to be.
//!
//! On disk:
//!
//! ```text
//! data/lock        held by the one process that has the store open
//! data/tip         the number of the last commit, by which a loss is noticed
//! data/wal/        the latest commits, in files of 4 MiB that take turns
//! data/sled/       the database: one tree, keys as in `keys`, values as in `records`
//! data/payloads/   one file per large body
//! data/sled.new/   only while `store compact` or `store import` makes another database
//! data/sled.old/   only for the moment in which that takes the first one's place
//! ```

mod backlog;
mod checkpoint;
mod commit;
mod database;
mod dead_letters;
mod durability;
mod events;
mod identities;
mod keys;
mod messages;
mod names;
mod nudge;
mod numbers;
pub mod offline;
mod open;
mod overlay;
mod payload;
mod recent;
mod records;
mod room;
mod segments;
mod streams;
mod templates;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tip;
mod traces;
mod trouble;
mod user_record;
mod wal;
mod worker;

pub use commit::{OnDurable, Reserved, Urgency};
pub use events::{EncodedEvent, Journal, NewEvent, StoredEvent};
pub use messages::{
    AcceptedJournal, AcceptedMessage, EncodedMessage, Footprint, Idempotency, KnownKey, MessageEnd,
    NewMessage, QueuedRecord,
};
pub use numbers::{BotNumber, ByUser, ClientNumber, NumberHasher, UserNumber, WebhookNumber};
pub use open::OpenError;
pub use recent::RecentBounds;
pub use records::{
    Attempted, DeadLetter, DeadLetterId, InvalidDeadLetterId, JournalEntry, LaneRecord, LaneSlot, LaneSlots,
    Position, ReplayMark, Said, Wanted, WebhookRecord,
};
pub use room::Standing;
pub use streams::StreamMark;
pub use user_record::{Access, ConnectHistory, Hole, Seen, UserRecord};

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use sled::IVec;
use smallvec::smallvec;
use tokio::sync::{oneshot, watch};

use self::{
    commit::{Committer, Done, Transaction, Write},
    database::Database,
    identities::Identities,
    names::Directory,
    payload::{PayloadId, Payloads},
    records::{UserRecordV1, decode},
    worker::{Disk, Sync, Worker},
};
use crate::{config, metrics::Observed};

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It takes nothing more for now (disk full or failing, shutting down).
    #[error("the store can't take it now: {0}")]
    Unavailable(String),
    /// Nobody knows whether it took it: its disk failed in between, and only the next start finds out.
    #[error("the store failed while it took it, and may have it or not: {0}")]
    Doubtful(String),
    /// What it holds can't be read.
    #[error("the store holds something unreadable: {0}")]
    Unreadable(String),
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The meta record of a store that was closed in order.
const CLOSED: &str = "closed";

/// How the store's last use ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRun {
    /// It was closed: everything that was handed over is there.
    Closed,
    /// It is new, or its process was killed: writes that may be lost may be lost.
    Cut,
}

/// The store. One process at a time has it open.
pub struct Store {
    committer: Committer,
    path: PathBuf,
    db: Arc<Database>,
    payloads: Arc<Payloads>,
    names: Directory,
    identities: Identities,
    nonce: u32,
    past: LastRun,
    /// Whether any message may have a trace.
    traces: AtomicBool,
    /// Held until the store is dropped; declared last, so that it is released last.
    _lock: fs::File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("payloads", &self.payloads.path()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, or makes a new one where there is none.
    pub fn open(config: &config::Store) -> Result<Arc<Self>, OpenError> {
        let open::Opened { handle, overlay, log, lock, nonce, tip, counters } = open::open(config)?;
        let io = |error| OpenError::Io { path: config.path.clone(), error };
        let damaged =
            |error: StoreError| OpenError::Damaged { path: config.path.clone(), detail: error.to_string() };
        let db = Arc::new(Database::new(Arc::clone(&handle), overlay));
        let payloads = Arc::new(Payloads::open(config.path.join("payloads")).map_err(io)?);
        let swept = payloads.sweep(|id| db.contains_key(record_of(id))).map_err(damaged)?;
        if swept > 0 {
            tracing::info!(files = swept, "payload files that a crash left behind were removed");
        }
        let names = Directory::load(&db).map_err(damaged)?;
        let next_event = events::next_number(&db).map_err(damaged)?;
        let sync = match config.durability {
            config::Durability::Fsync => Sync::Disk,
            config::Durability::Os => Sync::System,
        };
        let closed = db.contains_key(keys::meta(CLOSED)).map_err(damaged)?;
        let has_traces = db.scan_prefix([keys::kind::TRACE]).next().is_some();
        let past = if closed { LastRun::Closed } else { LastRun::Cut };
        let disk = Disk {
            path: config.path.clone(),
            cache: config.cache,
            max_size: config.max_size,
            handle: Some(handle),
            payloads: Arc::clone(&payloads),
            tip,
            counters,
            sync,
        };
        let readers = Arc::clone(&db);
        let committer =
            Committer::start(|shared| Worker::new(shared, readers, disk, log), next_event).map_err(io)?;
        let path = config.path.clone();
        let traces = AtomicBool::new(has_traces);
        let identities = Identities::default();
        let store =
            Self { committer, path, db, payloads, names, identities, nonce, past, traces, _lock: lock };
        let reopened = smallvec![Write::Remove(keys::meta(CLOSED))];
        store
            .committer
            .submit(Transaction { writes: reopened, ..Transaction::default() })
            .map_err(damaged)?;
        Ok(Arc::new(store))
    }

    /// Commits what is queued, and that nothing was left over; afterwards nothing more is taken.
    pub fn close(&self) {
        let closed = smallvec![Write::Put(keys::meta(CLOSED), IVec::from(&[1]))];
        // Refused only where it is closed already, or failed: then it was not closed in order.
        let _ = self.committer.submit(Transaction { writes: closed, ..Transaction::default() });
        self.committer.close();
    }

    /// How the store's last use ended.
    pub fn last_run(&self) -> LastRun {
        self.past
    }

    /// Waits until `bytes` more may wait for their commit; refused at once while the store is full or
    /// can't be written.
    pub async fn reserve(&self, bytes: usize) -> Result<Reserved, StoreError> {
        self.committer.reserve(bytes).await
    }

    /// The usual case of [`Store::reserve`], in which nobody has to wait for anything.
    pub fn reserve_now(&self, bytes: usize) -> Option<Reserved> {
        self.committer.reserve_now(bytes)
    }

    /// As [`Store::reserve`], for what replaces something that is there: a full store must not refuse it.
    pub async fn reserve_to_move(&self, bytes: usize) -> Result<Reserved, StoreError> {
        self.committer.reserve_to_move(bytes).await
    }

    /// Whether the store takes writes: changes by itself when a disk fills up and has space again.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.committer.standing()
    }

    /// Counts commits: a sign of life.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.committer.commits()
    }

    /// How long commits took, since the start.
    pub fn commit_seconds(&self) -> Observed {
        self.committer.commit_seconds()
    }

    /// Whether anybody waits for a commit now.
    pub fn is_awaited(&self) -> bool {
        self.committer.is_awaited()
    }

    /// Bytes on disk.
    pub fn size_on_disk(&self) -> u64 {
        open::database_size(&self.path) + self.payloads.bytes()
    }

    fn put<T: serde::Serialize>(key: IVec, version: u8, record: &T) -> Write {
        Write::Put(key, records::value(version, record, &[]))
    }
}

/// What is remembered of users.
impl Store {
    /// What is remembered of this user; the default for one who was never seen.
    pub fn user(&self, number: UserNumber) -> Result<UserRecord, StoreError> {
        match self.db.get(keys::user(number))? {
            Some(bytes) => {
                decode::<UserRecordV1>(UserRecordV1::VERSION, "user", &bytes).map(UserRecord::from)
            }
            None => Ok(UserRecord::default()),
        }
    }

    /// Remembers this of the user; answers when it is on stable storage, which most callers don't
    /// wait for. No answer comes while the store fails or closes.
    pub fn save_user(&self, number: UserNumber, record: &UserRecord) -> oneshot::Receiver<()> {
        let write = Self::put(keys::user(number), UserRecordV1::VERSION, &UserRecordV1::from(record));
        let (sender, durable) = oneshot::channel();
        let done = Done::told(move |result| {
            if result.is_ok() {
                let _ = sender.send(());
            }
        });
        // Lost while the store fails or closes: the next start signs in once more.
        let _ = self.committer.submit(Transaction {
            writes: smallvec![write],
            done: Some(done),
            ..Transaction::default()
        });
        durable
    }

    /// Answers when everything that was handed over before is on stable storage. No answer comes while
    /// the store fails or closes.
    pub fn settled(&self) -> oneshot::Receiver<()> {
        let (sender, durable) = oneshot::channel();
        let done = Done::told(move |result| {
            if result.is_ok() {
                let _ = sender.send(());
            }
        });
        let _ = self.committer.submit(Transaction { done: Some(done), ..Transaction::default() });
        durable
    }
}

/// The record that a payload file belongs to.
fn record_of(id: PayloadId) -> IVec {
    match id {
        PayloadId::Message(user, number) => keys::queue(user, number),
        PayloadId::Event(user, number) => keys::event(user, number),
        PayloadId::DeadLetter(number) => keys::dead(number),
    }
}
