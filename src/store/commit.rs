//! The commit thread: group commit.
//!
//! Whoever must write hands over a [`Transaction`]; one thread takes everything that has queued up,
//! applies it as one atomic batch, flushes once, and then runs what waits for each transaction, in
//! order. There is no timer in this: the commit in progress is the window in which the next one
//! gathers.
//!
//! Writes that may be lost (*deferred*: a crash then repeats a delivery or forgets a `sent`) ride
//! along with the next commit, or go [`DEFER_AT_MOST`] later on their own. Deferred writes of one
//! key replace each other, so they are bounded by the number of keys, whatever their rate. Writes
//! of one key always reach the disk in the order in which they were handed over.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sled::IVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    StoreError, keys,
    payload::{PayloadId, Payloads},
    records::{AcceptedEntry, AcceptedRecord, JournalEntry, JournalRecord, encode},
    tip::Tip,
};
use crate::{clock::Timestamp, messages::MessageNumber};

/// How long a deferred write waits for company.
const DEFER_AT_MOST: Duration = Duration::from_millis(100);
/// A commit takes at most this many writes...
const COMMIT_WRITES: usize = 1024;
/// ... and this many bytes (a single larger transaction goes alone).
const COMMIT_BYTES: usize = 4 << 20;
/// Bytes that may wait for their commit.
const QUEUE_BYTES: usize = 16 << 20;

/// The meta record that counts commits.
pub(super) const COMMITS: &str = "commits";

/// Runs on the commit thread once its transaction is on disk, or has failed.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A change of one key.
#[derive(Debug)]
pub(super) enum Write {
    Put(IVec, IVec),
    Remove(IVec),
}

impl Write {
    fn key(&self) -> &IVec {
        match self {
            Self::Put(key, _) | Self::Remove(key) => key,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Remove(key) => key.len(),
        }
    }
}

/// What a transaction adds to a journal.
#[derive(Debug)]
pub(super) enum JournalLine {
    Event(u64, JournalEntry),
    Message(MessageNumber, AcceptedEntry),
}

/// Writes that reach the disk together or not at all.
#[derive(Default)]
pub(super) struct Transaction {
    pub writes: Vec<Write>,
    pub new_payload: Option<(PayloadId, bytes::Bytes)>,
    pub dropped_payload: Option<PayloadId>,
    pub journal: Option<JournalLine>,
    pub done: Option<Done>,
    /// Its share of the bytes that may wait.
    pub reserved: Option<Reserved>,
}

impl Transaction {
    fn size(&self) -> usize {
        let payload = self.new_payload.as_ref().map_or(0, |(_, body)| body.len());
        self.writes.iter().map(Write::size).sum::<usize>() + payload
    }
}

/// A share of the bytes that may wait for their commit; given back when the commit is done.
#[derive(Debug)]
pub struct Reserved {
    _permit: OwnedSemaphorePermit,
}

enum Item {
    Transaction(Transaction),
    Deferred(Write, Option<PayloadId>),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// The number of the item at the front.
    head: u64,
    /// Deferred writes that may still be replaced, by key: the number of their item.
    replaceable: HashMap<IVec, u64>,
    transactions: usize,
    deferred_since: Option<Instant>,
    next_event: u64,
    state: State,
}

#[derive(Default, Clone, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Closing,
    Failed(String),
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    space: Arc<Semaphore>,
    failure: watch::Sender<Option<String>>,
    commits: watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the commit thread. Dropping it without [`Committer::close`] commits what is queued, too.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread. The next event gets the number `next_event`.
    pub(super) fn start(disk: Disk, next_event: u64) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { next_event, ..Queue::default() }),
            wake: Condvar::new(),
            space: Arc::new(Semaphore::new(QUEUE_BYTES)),
            failure: watch::Sender::new(None),
            commits: watch::Sender::new(0),
        });
        let mut worker = Worker { shared: Arc::clone(&shared), disk };
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Waits until `bytes` more may wait for their commit. Larger requests than may ever wait count
    /// as the whole: they go alone.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Reserved, StoreError> {
        let permits = bytes.clamp(64, QUEUE_BYTES) as u32;
        match Arc::clone(&self.shared.space).acquire_many_owned(permits).await {
            Ok(permit) => Ok(Reserved { _permit: permit }),
            Err(_) => Err(self.unavailable()),
        }
    }

    /// Hands a transaction over.
    pub(super) fn submit(&self, transaction: Transaction) -> Result<(), StoreError> {
        self.submit_with(|_| transaction)
    }

    /// Hands over a transaction that stores an event: `build` gets the event's number. Events reach
    /// the disk in the order of their numbers.
    pub(super) fn submit_event(&self, build: impl FnOnce(u64) -> Transaction) -> Result<u64, StoreError> {
        let mut number = 0;
        self.submit_with(|queue| {
            number = queue.next_event;
            queue.next_event += 1;
            build(number)
        })?;
        Ok(number)
    }

    fn submit_with(&self, build: impl FnOnce(&mut Queue) -> Transaction) -> Result<(), StoreError> {
        let mut queue = self.shared.lock();
        if queue.state != State::Open {
            drop(queue);
            return Err(self.unavailable());
        }
        let transaction = build(&mut queue);
        for write in &transaction.writes {
            // A later deferral of this key must not move in front of this write.
            queue.replaceable.remove(write.key());
        }
        queue.items.push_back(Item::Transaction(transaction));
        queue.transactions += 1;
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Hands over a write that may be lost in a crash, and a payload file that goes with it.
    pub(super) fn defer(&self, write: Write, dropped_payload: Option<PayloadId>) {
        let mut queue = self.shared.lock();
        if matches!(queue.state, State::Failed(_)) {
            return;
        }
        let earlier = queue.replaceable.get(write.key()).copied();
        if let Some(number) = earlier {
            let index = (number - queue.head) as usize;
            if let Some(Item::Deferred(old, old_payload)) = queue.items.get_mut(index)
                && old_payload.is_none()
            {
                *old = write;
                *old_payload = dropped_payload;
                return;
            }
        }
        let number = queue.head + queue.items.len() as u64;
        queue.replaceable.insert(write.key().clone(), number);
        queue.items.push_back(Item::Deferred(write, dropped_payload));
        if queue.deferred_since.is_none() {
            queue.deferred_since = Some(Instant::now());
            drop(queue);
            self.shared.wake.notify_one();
        }
    }

    /// The value of a deferred write of this key that is still waiting: newer than what sled has.
    pub(super) fn deferred(&self, key: &IVec) -> Option<IVec> {
        let queue = self.shared.lock();
        let index = (queue.replaceable.get(key)? - queue.head) as usize;
        match queue.items.get(index)? {
            Item::Deferred(Write::Put(_, value), _) => Some(value.clone()),
            Item::Deferred(Write::Remove(_), _) | Item::Transaction(_) => None,
        }
    }

    /// Why the thread failed, once it has: nothing is stored any more.
    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.shared.failure.subscribe()
    }

    /// Counts commits: a sign of life.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    /// Commits what is queued, and ends the thread.
    pub(super) fn close(&self) {
        {
            let mut queue = self.shared.lock();
            if queue.state == State::Open {
                queue.state = State::Closing;
            }
        }
        self.shared.space.close();
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the commit thread panicked");
        }
    }

    fn unavailable(&self) -> StoreError {
        match &self.shared.lock().state {
            State::Failed(why) => StoreError::Unavailable(why.clone()),
            State::Closing | State::Open => StoreError::Unavailable("it is shutting down".to_owned()),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the thread does to the disk after each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Payload files are synced, as sled's log is.
    Disk,
    /// Left to the operating system.
    System,
}

/// What the thread writes to.
pub(super) struct Disk {
    pub db: sled::Db,
    pub payloads: Arc<Payloads>,
    pub tip: Tip,
    /// How many commits the database has seen.
    pub commits: u64,
    pub sync: Sync,
}

struct Worker {
    shared: Arc<Shared>,
    disk: Disk,
}

impl Worker {
    fn run(&mut self) {
        while let Some(items) = self.take() {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.commit(&items)));
            let result = match outcome {
                Ok(Ok(())) => Ok(()),
                Ok(Err(why)) => Err(why),
                Err(_) => Err("sled panicked while committing".to_owned()),
            };
            if let Err(why) = result {
                return self.fail(items, &why);
            }
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.finish(items)));
            if told.is_err() {
                // Someone was not told of what is on disk: only a restart puts that right.
                return self.fail(Vec::new(), "a follow-up of a commit panicked");
            }
        }
    }

    /// Waits for something to commit, and takes as much of it as one commit may hold.
    fn take(&self) -> Option<Vec<Item>> {
        let mut queue = self.shared.lock();
        loop {
            if queue.transactions > 0 || (queue.state == State::Closing && !queue.items.is_empty()) {
                break;
            }
            if queue.state == State::Closing {
                return None;
            }
            match queue.deferred_since.map(|since| DEFER_AT_MOST.saturating_sub(since.elapsed())) {
                None => queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(rest) => {
                    let waited = self.shared.wake.wait_timeout(queue, rest);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        Some(take_front(&mut queue))
    }

    fn commit(&mut self, items: &[Item]) -> Result<(), String> {
        let Disk { db, payloads, tip, commits, sync } = &mut self.disk;
        let durable = *sync == Sync::Disk;
        let mut wrote_payload = false;
        let mut batch = sled::Batch::default();
        for item in items {
            match item {
                Item::Deferred(write, _) => add(&mut batch, write),
                Item::Transaction(transaction) => {
                    if let Some((id, body)) = &transaction.new_payload {
                        payloads.write(*id, body, durable).map_err(|e| format!("a payload file: {e}"))?;
                        wrote_payload = true;
                    }
                    for write in &transaction.writes {
                        add(&mut batch, write);
                    }
                }
            }
        }
        add_journals(&mut batch, items);
        *commits += 1;
        batch.insert(keys::meta(COMMITS), &commits.to_be_bytes());
        if wrote_payload && durable {
            payloads.sync().map_err(|e| format!("the directory of payload files: {e}"))?;
        }
        db.apply_batch(batch).map_err(|e| e.to_string())?;
        db.flush().map_err(|e| e.to_string())?;
        tip.advance(*commits).map_err(|e| format!("the file of the last commit's number: {e}"))
    }

    fn finish(&self, items: Vec<Item>) {
        self.shared.commits.send_modify(|count| *count += 1);
        for item in items {
            match item {
                Item::Deferred(_, dropped) => self.drop_payload(dropped),
                Item::Transaction(transaction) => {
                    self.drop_payload(transaction.dropped_payload);
                    drop(transaction.reserved);
                    if let Some(done) = transaction.done {
                        done(Ok(()));
                    }
                }
            }
        }
    }

    fn drop_payload(&self, id: Option<PayloadId>) {
        if let Some(id) = id {
            self.disk.payloads.remove(id);
        }
    }

    /// After a failed write the handle must not be used again: everyone is told, and the daemon ends.
    fn fail(&self, items: Vec<Item>, why: &str) {
        tracing::error!(error = why, "the store could not write; nothing more is accepted");
        let waiting = {
            let mut queue = self.shared.lock();
            queue.state = State::Failed(why.to_owned());
            std::mem::take(&mut queue.items)
        };
        self.shared.space.close();
        self.shared.failure.send_replace(Some(why.to_owned()));
        for item in items.into_iter().chain(waiting) {
            if let Item::Transaction(Transaction { done: Some(done), .. }) = item {
                done(Err(StoreError::Unavailable(why.to_owned())));
            }
        }
    }
}

fn take_front(queue: &mut Queue) -> Vec<Item> {
    let (mut items, mut writes, mut bytes) = (Vec::new(), 0, 0);
    while let Some(item) = queue.items.front() {
        let (count, size) = match item {
            Item::Transaction(transaction) => (transaction.writes.len(), transaction.size()),
            Item::Deferred(write, _) => (1, write.size()),
        };
        if !items.is_empty() && (writes + count > COMMIT_WRITES || bytes + size > COMMIT_BYTES) {
            break;
        }
        (writes, bytes) = (writes + count, bytes + size);
        let number = queue.head;
        queue.head += 1;
        let Some(item) = queue.items.pop_front() else { break };
        match &item {
            Item::Transaction(_) => queue.transactions -= 1,
            Item::Deferred(write, _) => {
                if queue.replaceable.get(write.key()) == Some(&number) {
                    queue.replaceable.remove(write.key());
                }
            }
        }
        items.push(item);
    }
    queue.deferred_since = if queue.items.is_empty() { None } else { queue.deferred_since };
    items
}

fn add(batch: &mut sled::Batch, write: &Write) {
    match write {
        Write::Put(key, value) => batch.insert(key.clone(), value.clone()),
        Write::Remove(key) => batch.remove(key.clone()),
    }
}

/// One journal record for all events of the commit, one for all messages.
fn add_journals(batch: &mut sled::Batch, items: &[Item]) {
    let at = Timestamp::now();
    let (mut events, mut messages) = (Vec::new(), Vec::new());
    let (mut first_event, mut first_message) = (None, None);
    for item in items {
        match item {
            Item::Transaction(Transaction { journal: Some(JournalLine::Event(number, entry)), .. }) => {
                first_event.get_or_insert(*number);
                events.push(*entry);
            }
            Item::Transaction(Transaction { journal: Some(JournalLine::Message(number, entry)), .. }) => {
                first_message.get_or_insert(*number);
                messages.push(*entry);
            }
            Item::Transaction(_) | Item::Deferred(..) => {}
        }
    }
    if let Some(first) = first_event {
        let record = JournalRecord { at, entries: events };
        batch.insert(keys::journal(first), encode(JournalRecord::VERSION, &record));
    }
    if let Some(first) = first_message {
        let record = AcceptedRecord { at, entries: messages };
        batch.insert(keys::accepted(first), encode(AcceptedRecord::VERSION, &record));
    }
}
