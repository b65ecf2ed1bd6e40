//! The commit thread: group commit.
//!
//! Whoever must write hands over a [`Transaction`]; one thread takes everything that has queued up,
//! writes it to the log as one commit, syncs once, and then runs what waits for each transaction, in
//! order. For what somebody waits for there is no timer: the commit in progress is the window in which the
//! next one gathers.
//!
//! What nobody waits for rides along with the next commit, or goes a little later on its own: a transaction
//! that is for [`Urgency::Soon`], and writes that may be lost (*deferred*: a crash then repeats a delivery or
//! forgets a `sent`). Deferred writes of one key replace each other, so they are bounded by the number of
//! keys, whatever their rate; and a transaction replaces what was deferred of its keys. Writes of one key
//! always reach the disk in the order in which they were handed over.
//!
//! This is the way to the thread; what the thread does is in `worker`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sled::IVec;
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    StoreError,
    payload::PayloadId,
    records::{AcceptedEntry, JournalEntry},
    room::Standing,
    worker::Worker,
};
use crate::{
    messages::MessageNumber,
    metrics::{Histogram, Observed},
};

/// A commit takes at most this many writes...
const COMMIT_WRITES: usize = 1024;
/// ... and this many bytes (a single larger transaction goes alone).
const COMMIT_BYTES: usize = 4 << 20;
/// Bytes that may wait for their commit.
const QUEUE_BYTES: usize = 16 << 20;
/// How long a deferred write waits for company.
const DEFER_AT_MOST: Duration = Duration::from_millis(10);
/// How long a transaction does that nobody waits for.
pub(super) const SOON: Duration = Duration::from_millis(2);

/// What runs on the commit thread once a transaction is on disk, or has failed.
pub(super) enum Done {
    /// This is told which.
    Told(Box<dyn FnOnce(Result<(), StoreError>) + Send>),
    /// This is told the event's number if the event is on disk, and nothing else.
    Event(u64, OnDurable),
}

/// What is called on the commit thread with an event's number once the event is on stable storage.
pub type OnDurable = Box<dyn FnOnce(u64) + Send>;

impl Done {
    pub(super) fn told(outcome: impl FnOnce(Result<(), StoreError>) + Send + 'static) -> Self {
        Self::Told(Box::new(outcome))
    }

    /// Tells what became of the transaction.
    pub(super) fn tell(self, outcome: Result<(), StoreError>) {
        match self {
            Self::Told(told) => told(outcome),
            Self::Event(number, on_durable) => {
                if outcome.is_ok() {
                    on_durable(number);
                }
            }
        }
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Put(IVec, IVec),
    /// The same of a key that never was: if it is removed soon, the database never hears of it.
    Create(IVec, IVec),
    Remove(IVec),
}

impl Write {
    pub(super) fn key(&self) -> &IVec {
        match self {
            Self::Put(key, _) | Self::Create(key, _) | Self::Remove(key) => key,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Put(key, value) | Self::Create(key, value) => key.len() + value.len(),
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

/// When a transaction is to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Urgency {
    /// As soon as can be.
    #[default]
    Now,
    /// With the next one that is urgent, or 2 ms later by itself.
    Soon,
}

/// Writes that reach the disk together or not at all.
#[derive(Default)]
pub(super) struct Transaction {
    pub urgency: Urgency,
    /// An event's only one, as a rule.
    pub writes: SmallVec<[Write; 1]>,
    pub new_payload: Option<(PayloadId, bytes::Bytes)>,
    pub dropped_payload: Option<PayloadId>,
    /// What it adds to the backlog, in bytes (`backlog`); of dead letters the commit itself finds out.
    pub backlog: i64,
    pub journal: Option<JournalLine>,
    pub done: Option<Done>,
    /// Its share of the bytes that may wait.
    pub reserved: Option<Reserved>,
}

impl Transaction {
    /// Whether it accepts a message: its caller can be told to come back, so it is not kept for later
    /// when the disk takes nothing.
    pub(super) fn accepts_message(&self) -> bool {
        matches!(self.journal, Some(JournalLine::Message(..)))
    }

    /// What undoes it, should it be on disk in spite of all.
    pub(super) fn undone(&self) -> Self {
        Self {
            writes: self.writes.iter().map(|write| Write::Remove(write.key().clone())).collect(),
            dropped_payload: self.new_payload.as_ref().map(|(id, _)| *id),
            ..Self::default()
        }
    }

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

pub(super) enum Item {
    Transaction(Transaction),
    Deferred(Deferred),
}

/// A write that may be lost in a crash.
#[derive(Debug)]
pub(super) struct Deferred {
    pub write: Write,
    /// A payload file that goes with it.
    pub dropped_payload: Option<PayloadId>,
    /// What it takes from the backlog, in bytes.
    pub released: u64,
}

impl Item {
    /// Its writes, in order.
    pub(super) fn writes(&self) -> &[Write] {
        match self {
            Self::Transaction(transaction) => &transaction.writes,
            Self::Deferred(deferred) => std::slice::from_ref(&deferred.write),
        }
    }

    /// Its write, if it may be lost.
    pub(super) fn deferred(&self) -> Option<&Write> {
        match self {
            Self::Transaction(_) => None,
            Self::Deferred(deferred) => Some(&deferred.write),
        }
    }

    /// What it adds to the backlog.
    pub(super) fn added(&self) -> i64 {
        match self {
            Self::Transaction(transaction) => transaction.backlog,
            Self::Deferred(deferred) => -(deferred.released as i64),
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<Item>,
    /// The number of the item at the front.
    head: u64,
    /// Deferred writes that may still be replaced, by key: the number of their item.
    replaceable: HashMap<IVec, u64>,
    /// How many transactions can't wait.
    pub(super) urgent: usize,
    /// When something is to be committed that can.
    pub(super) due: Option<Instant>,
    /// Until when the thread sleeps, if nobody wakes it.
    pub(super) sleeps_until: Option<Instant>,
    next_event: u64,
    /// A checkpoint is over, and the thread doesn't know.
    pub(super) checkpointed: bool,
    pub(super) state: State,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Open,
    /// The disk takes nothing for now: no new messages, the rest waits. And why.
    Waiting(String),
    Closing,
    Failed(String),
}

/// What commits take: a fast disk, a slow one, one in trouble.
const COMMIT_SECONDS: &[f64] =
    &[0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

pub(super) struct Shared {
    queue: Mutex<Queue>,
    pub(super) wake: Condvar,
    pub(super) space: Arc<Semaphore>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) commits: watch::Sender<u64>,
    /// How long commits took.
    pub(super) commit_seconds: Histogram,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it would sleep too long for what was put into the queue.
    fn wake_for(&self, mut queue: MutexGuard<'_, Queue>) {
        let (urgent, due) = (queue.urgent > 0, queue.due);
        let oversleeps = |until: &mut Instant| urgent || due.is_some_and(|due| due < *until);
        let woken = queue.sleeps_until.take_if(oversleeps);
        drop(queue);
        if woken.is_some() {
            self.wake.notify_one();
        }
    }
}

/// The way to the commit thread. Dropping it without [`Committer::close`] commits what is queued, too.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread that `worker` makes. The next event gets the number `next_event`.
    pub(super) fn start(
        worker: impl FnOnce(Arc<Shared>) -> std::io::Result<Worker>,
        next_event: u64,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { next_event, ..Queue::default() }),
            wake: Condvar::new(),
            space: Arc::new(Semaphore::new(QUEUE_BYTES)),
            standing: watch::Sender::new(Standing::Writable),
            commits: watch::Sender::new(0),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
        });
        let worker = worker(Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Waits until `bytes` more may wait for their commit; refused at once while the store is full or
    /// can't be written. Larger requests than may ever wait count as the whole: they go alone.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Reserved, StoreError> {
        if let Some(reserved) = self.reserve_now(bytes) {
            return Ok(reserved);
        }
        let refusal = self.wait_for(|standing| *standing != Standing::Writable);
        tokio::select! {
            biased;
            refusal = refusal => Err(match refusal {
                Standing::Full(why) | Standing::Unwritable(why) | Standing::Failed(why) => StoreError::Unavailable(why),
                Standing::Writable => self.unavailable(),
            }),
            reserved = self.reserve_to_move(bytes) => reserved,
        }
    }

    /// The usual case, in which nobody has to wait for anything.
    pub(super) fn reserve_now(&self, bytes: usize) -> Option<Reserved> {
        if *self.shared.standing.borrow() != Standing::Writable {
            return None;
        }
        let permit = Arc::clone(&self.shared.space).try_acquire_many_owned(permits(bytes)).ok()?;
        Some(Reserved { _permit: permit })
    }

    /// Waits until `bytes` more may wait for their commit, whether or not the store takes what is new.
    pub(super) async fn reserve_to_move(&self, bytes: usize) -> Result<Reserved, StoreError> {
        match Arc::clone(&self.shared.space).acquire_many_owned(permits(bytes)).await {
            Ok(permit) => Ok(Reserved { _permit: permit }),
            Err(_) => Err(self.unavailable()),
        }
    }

    async fn wait_for(&self, is_it: impl FnMut(&Standing) -> bool) -> Standing {
        let mut standing = self.shared.standing.subscribe();
        let found = standing.wait_for(is_it).await.map(|standing| standing.clone());
        found.unwrap_or_else(|_| Standing::Failed("its thread ended".to_owned()))
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
        if matches!(queue.state, State::Closing | State::Failed(_)) {
            drop(queue);
            return Err(self.unavailable());
        }
        let transaction = build(&mut queue);
        if transaction.accepts_message() && queue.state != State::Open {
            drop(queue);
            return Err(self.unavailable());
        }
        for write in &transaction.writes {
            queue.supersede(write.key());
        }
        queue.add(transaction);
        self.shared.wake_for(queue);
        Ok(())
    }

    /// Hands over a write that may be lost in a crash.
    pub(super) fn defer(&self, write: Write) {
        self.defer_removal(Deferred { write, dropped_payload: None, released: 0 });
    }

    /// Hands over a removal that may be lost in a crash, with what goes with it.
    pub(super) fn defer_removal(&self, deferred: Deferred) {
        let mut queue = self.shared.lock();
        if matches!(queue.state, State::Failed(_)) {
            return;
        }
        let key = deferred.write.key().clone();
        let earlier = queue.replaceable.get(&key).copied();
        if let Some(number) = earlier {
            let index = (number - queue.head) as usize;
            if let Some(Item::Deferred(old)) = queue.items.get_mut(index)
                && old.dropped_payload.is_none()
            {
                let released = old.released.max(deferred.released);
                *old = Deferred { released, ..deferred };
                return;
            }
        }
        let number = queue.head + queue.items.len() as u64;
        queue.replaceable.insert(key, number);
        queue.items.push_back(Item::Deferred(deferred));
        queue.put_off(DEFER_AT_MOST);
        self.shared.wake_for(queue);
    }

    /// The value of a deferred write of this key that is still waiting: newer than what sled has.
    pub(super) fn deferred(&self, key: &IVec) -> Option<IVec> {
        let queue = self.shared.lock();
        let index = (queue.replaceable.get(key)? - queue.head) as usize;
        match queue.items.get(index)? {
            Item::Deferred(Deferred { write: Write::Put(_, value), .. }) => Some(value.clone()),
            Item::Deferred(_) | Item::Transaction(_) => None,
        }
    }

    /// Whether writes are taken.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Counts commits: a sign of life.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    /// How long commits took.
    pub(super) fn commit_seconds(&self) -> Observed {
        self.shared.commit_seconds.observed()
    }

    /// Whether anybody waits for a commit.
    pub(super) fn is_awaited(&self) -> bool {
        self.shared.space.available_permits() < QUEUE_BYTES || self.shared.lock().urgent > 0
    }

    /// Commits what is queued, and ends the thread.
    pub(super) fn close(&self) {
        {
            let mut queue = self.shared.lock();
            if matches!(queue.state, State::Open | State::Waiting(_)) {
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
            State::Failed(why) | State::Waiting(why) => StoreError::Unavailable(why.clone()),
            State::Closing | State::Open => StoreError::Unavailable("it is shutting down".to_owned()),
        }
    }
}

/// What so many bytes take of those that may wait.
fn permits(bytes: usize) -> u32 {
    bytes.clamp(64, QUEUE_BYTES) as u32
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    /// Takes as much as one commit may hold, from the front.
    pub(super) fn take_front(&mut self, items: &mut Vec<Item>) {
        let (mut writes, mut bytes) = (0, 0);
        while let Some(item) = self.items.front() {
            let (count, size) = match item {
                Item::Transaction(transaction) => (transaction.writes.len(), transaction.size()),
                Item::Deferred(deferred) => (1, deferred.write.size()),
            };
            if !items.is_empty() && (writes + count > COMMIT_WRITES || bytes + size > COMMIT_BYTES) {
                break;
            }
            (writes, bytes) = (writes + count, bytes + size);
            let number = self.head;
            self.head += 1;
            let Some(item) = self.items.pop_front() else { break };
            match &item {
                Item::Transaction(Transaction { urgency: Urgency::Now, .. }) => self.urgent -= 1,
                Item::Transaction(_) => {}
                Item::Deferred(Deferred { write, .. }) => {
                    if self.replaceable.get(write.key()) == Some(&number) {
                        self.replaceable.remove(write.key());
                    }
                }
            }
            items.push(item);
        }
        self.due = self.due.filter(|_| !self.items.is_empty());
    }

    fn add(&mut self, transaction: Transaction) {
        match transaction.urgency {
            Urgency::Now => self.urgent += 1,
            Urgency::Soon => self.put_off(SOON),
        }
        self.items.push_back(Item::Transaction(transaction));
    }

    /// Something newer is put behind what was deferred of this key, if anything was: that is not written any more, and a
    /// later deferral must not move in front of what is newer.
    fn supersede(&mut self, key: &IVec) {
        let Some(number) = self.replaceable.remove(key) else { return };
        if let Some(item) = self.items.get_mut((number - self.head) as usize)
            && matches!(item, Item::Deferred(Deferred { dropped_payload: None, released: 0, .. }))
        {
            // An empty one in its place: the others keep their numbers.
            *item = Item::Transaction(Transaction { urgency: Urgency::Soon, ..Transaction::default() });
        }
    }

    /// What is put into it now can wait so long.
    fn put_off(&mut self, span: Duration) {
        let due = Instant::now() + span;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Takes the messages out that wait for their commit, and leaves everything else where it is.
    pub(super) fn take_messages(&mut self) -> Vec<Transaction> {
        let waiting = self.items.iter_mut().filter_map(|item| match item {
            // An empty one in its place: the others keep their numbers.
            Item::Transaction(transaction) if transaction.accepts_message() => {
                Some(std::mem::take(transaction))
            }
            Item::Transaction(_) | Item::Deferred(_) => None,
        });
        waiting.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(urgencies: &[Urgency]) -> Queue {
        let mut queue = Queue::default();
        for urgency in urgencies {
            queue.add(Transaction { urgency: *urgency, ..Transaction::default() });
        }
        queue
    }

    #[test]
    fn what_can_wait_goes_along_with_what_can_not() {
        let mut queue = queue(&[Urgency::Soon, Urgency::Now, Urgency::Soon]);
        assert_eq!(queue.urgent, 1);
        let mut taken = Vec::new();
        queue.take_front(&mut taken);
        assert_eq!((taken.len(), queue.urgent, queue.due), (3, 0, None));
    }

    #[test]
    fn it_waits_no_longer_than_the_first_of_it_may() {
        let mut queue = queue(&[]);
        queue.put_off(DEFER_AT_MOST);
        let deferred = queue.due.unwrap();
        queue.put_off(SOON);
        let soon = queue.due.unwrap();
        assert!(soon < deferred);
        queue.put_off(DEFER_AT_MOST);
        assert_eq!(queue.due, Some(soon));
    }

    #[test]
    fn what_was_deferred_is_not_written_once_something_newer_is_behind_it() {
        let put = |key: &[u8]| Write::Put(IVec::from(key), IVec::default());
        let defer = |queue: &mut Queue, write: Write, released| {
            queue.replaceable.insert(write.key().clone(), queue.head + queue.items.len() as u64);
            queue.items.push_back(Item::Deferred(Deferred { write, dropped_payload: None, released }));
        };
        let mut queue = queue(&[Urgency::Now]);
        let mut taken = Vec::new();
        queue.take_front(&mut taken);
        defer(&mut queue, put(b"status"), 0);
        defer(&mut queue, put(b"other"), 0);
        defer(&mut queue, Write::Remove(IVec::from(b"event")), 9);
        for key in [&b"status"[..], b"event", b"status", b"unknown"] {
            queue.supersede(&IVec::from(key));
        }
        taken.clear();
        queue.take_front(&mut taken);
        let written: Vec<_> = taken.iter().flat_map(Item::writes).cloned().collect();
        assert_eq!(
            written,
            [put(b"other"), Write::Remove(IVec::from(b"event"))],
            "the backlog counts that one"
        );
        assert_eq!((queue.urgent, queue.replaceable.len()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_into_a_commit_is_still_due() {
        let mut queue = queue(&[Urgency::Soon; COMMIT_WRITES + 1]);
        for item in &mut queue.items {
            let Item::Transaction(transaction) = item else { unreachable!() };
            transaction.writes.push(Write::Remove(IVec::from(b"key")));
        }
        let mut taken = Vec::new();
        queue.take_front(&mut taken);
        assert_eq!((taken.len(), queue.items.len(), queue.due.is_some()), (COMMIT_WRITES, 1, true));
    }
}
