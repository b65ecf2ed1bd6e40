//! The commit thread.
//!
//! A commit is a record of the log (`wal`), synced; then readers see it (`overlay`), and those who wait for it
//! are told. When a segment of the log is full, it goes on in another one (`segments`); a commit waits only
//! when none is free.
//!
//! What the thread does when the disk takes nothing is in `setback`.

mod setback;

use std::{
    collections::HashMap,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use sled::IVec;

use super::{
    backlog::{self, Removed},
    commit::{Item, JournalLine, Queue, SOON, Shared, State, Transaction, Write},
    database::{Database, Handle},
    keys,
    open::{self, Log},
    payload::{PayloadId, Payloads},
    records::{AcceptedRecord, JournalEntry, JournalRecord, value},
    room::{Before, DiskSpace, Measured, Standing, fullness},
    segments::Segments,
    tip::Tip,
    trouble::Trouble,
};
use crate::clock::Timestamp;

/// The meta record that each checkpoint writes: [`Counters`].
pub(super) const COUNTERS: &str = "commits";

/// Room is measured at most so often while commits go on...
const MEASURE_EVERY: Duration = Duration::from_millis(50);
/// ... so often while nothing happens here (others fill a disk, too)...
const MEASURE_IDLE: Duration = Duration::from_secs(5);
/// ... and so often while there is none: nobody tells when a disk has space again.
const MEASURE_FULL: Duration = Duration::from_millis(500);

/// So many events, at most, share a journal record: some 2 KiB. The database reads 16 records at once, and is late to notice
/// what those it keeps take; of a thousand events each, a start that reads all journals had 20 MiB of them.
const JOURNAL_EVENTS: usize = 64;

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
    /// The store's directory.
    pub path: PathBuf,
    /// sled's cache in bytes.
    pub cache: u64,
    /// `store.max_size`.
    pub max_size: u64,
    /// None while it is not open.
    pub handle: Option<Arc<Handle>>,
    pub payloads: Arc<Payloads>,
    pub tip: Tip,
    /// As of the last commit.
    pub counters: Counters,
    pub sync: Sync,
}

/// See the [module](self).
pub(super) struct Worker {
    shared: Arc<Shared>,
    /// What readers see.
    database: Arc<Database>,
    disk: Disk,
    segments: Segments,
    measured_at: Instant,
    /// So long after a commit the thread looks by itself, and needn't be woken for what can wait.
    dozes_until: Instant,
    removed: Removed,
    /// What the commit under way was taken from the queue for.
    taken: Vec<Item>,
}

/// What there is to do.
enum Work {
    /// What was taken.
    Commit,
    /// A task of the log's is over.
    Checkpointed,
    /// Nothing, for so long that it is time to look how much room there is.
    Measure,
    End,
}

impl Worker {
    /// A thread's work; [`Worker::run`] is to be called on a thread of its own.
    pub(super) fn new(
        shared: Arc<Shared>,
        database: Arc<Database>,
        disk: Disk,
        log: Log,
    ) -> std::io::Result<Self> {
        let notified = Arc::clone(&shared);
        let segments = Segments::new(log, Arc::clone(database.overlay()), move || {
            notified.lock().checkpointed = true;
            notified.wake.notify_one();
        })?;
        let (now, removed, taken) = (Instant::now(), Removed::default(), Vec::new());
        let (measured_at, dozes_until) = (now, now);
        let mut worker = Self { shared, database, disk, segments, measured_at, dozes_until, removed, taken };
        worker.measure();
        Ok(worker)
    }

    /// Commits what is handed over, until the store is closed or fails.
    pub(super) fn run(mut self) {
        loop {
            let over = match self.take() {
                Work::Commit => {
                    let mut items = std::mem::take(&mut self.taken);
                    let over = self.settle(&mut items);
                    // Empty by now; its space is used again.
                    self.taken = items;
                    over
                }
                Work::Checkpointed => self.checkpointed(),
                Work::Measure => {
                    self.measure();
                    ControlFlow::Continue(())
                }
                Work::End => {
                    self.end();
                    return;
                }
            };
            if over.is_break() {
                return;
            }
        }
    }

    /// Waits for something to commit, and takes as much of it as one commit may hold, into `taken`.
    fn take(&mut self) -> Work {
        let measure_at = self.measured_at + self.measure_pause();
        let mut queue = self.shared.lock();
        loop {
            if std::mem::take(&mut queue.checkpointed) {
                return Work::Checkpointed;
            }
            let closing = queue.state == State::Closing;
            if queue.urgent > 0 || (closing && !queue.items.is_empty()) {
                take_front(&self.database, &mut queue, &mut self.taken);
                return Work::Commit;
            }
            if closing {
                return Work::End;
            }
            let now = Instant::now();
            if queue.due.is_some_and(|due| due <= now) {
                take_front(&self.database, &mut queue, &mut self.taken);
                return Work::Commit;
            }
            if measure_at <= now {
                return Work::Measure;
            }
            // Whoever puts something off wakes the thread only if it sleeps longer than that.
            let dozes_until = Some(self.dozes_until).filter(|until| now < *until);
            let until = [queue.due, dozes_until].into_iter().flatten().fold(measure_at, Instant::min);
            queue.sleeps_until = Some(until);
            queue = self.wait(queue, until - now);
            queue.sleeps_until = None;
        }
    }

    fn wait<'a>(
        &self,
        queue: std::sync::MutexGuard<'a, Queue>,
        limit: Duration,
    ) -> std::sync::MutexGuard<'a, Queue> {
        self.shared.wake.wait_timeout(queue, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Commits these, however long the disk takes nothing.
    fn settle(&mut self, items: &mut Vec<Item>) -> ControlFlow<()> {
        self.count_removals_once(items);
        loop {
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| self.commit(items)));
            let trouble = match outcome {
                Ok(Ok(())) => {
                    self.shared.commit_seconds.observe(began.elapsed());
                    break;
                }
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Fatal("a commit panicked".to_owned()),
            };
            if let Err(why) = self.wait_out(trouble, items) {
                return self.fail(std::mem::take(items), &why);
            }
        }
        self.come_back();
        if catch_unwind(AssertUnwindSafe(|| self.finish(items))).is_err() {
            // Someone was not told of what is on disk: only a restart puts that right.
            return self.fail(Vec::new(), "a follow-up of a commit panicked");
        }
        let now = Instant::now();
        self.dozes_until = now + SOON;
        if now - self.measured_at >= MEASURE_EVERY {
            self.measure();
        }
        ControlFlow::Continue(())
    }

    // ---- One commit.

    fn count_removals_once(&mut self, items: &mut [Item]) {
        for item in items {
            if let Item::Deferred(deferred) = item
                && deferred.released > 0
                && !self.removed.is_first(deferred.write.key())
            {
                deferred.released = 0;
            }
        }
    }

    fn commit(&mut self, items: &[Item]) -> Result<(), Trouble> {
        self.write_payloads(items)?;
        let journals = journals(items);
        // Reckoned from the last commit that is known: what a failed try may have left is not in it.
        let added: i64 = items.iter().map(Item::added).sum();
        let added = added.saturating_add(self.added_by_dead_letters(items)?);
        let Counters { commits, backlog } = self.disk.counters;
        let counters = Counters { commits: commits + 1, backlog: backlog.saturating_add_signed(added) };
        let own = || writes(items).chain(&journals);
        let mut moving = self.segments.begin(own());
        if !self.segments.has_room() {
            self.segments.switch(self.disk.handle.as_ref())?;
            // What was to stay in the log may be in the database by now.
            moving = self.segments.begin(own());
        }
        let wal = &mut self.segments.wal;
        wal.append(counters, self.disk.sync).map_err(|error| Trouble::of_io("the log", &error))?;
        self.disk.counters = counters;
        self.database.overlay().committed(moving.iter().chain(own()).zip(wal.places()));
        self.segments.committed(self.disk.handle.as_ref());
        match self.disk.tip.advance(counters.commits) {
            Ok(()) => Ok(()),
            Err(error) => match Trouble::of_io("the file of the last commit's number", &error) {
                // The commit is on disk, and this number may lag behind: the next commit writes it anew.
                Trouble::Passing(_) => Ok(()),
                fatal @ Trouble::Fatal(_) => Err(fatal),
            },
        }
    }

    fn write_payloads(&self, items: &[Item]) -> Result<(), Trouble> {
        let (payloads, durable) = (&self.disk.payloads, self.disk.sync == Sync::Disk);
        let mut wrote = false;
        for item in items {
            if let Item::Transaction(Transaction { new_payload: Some((id, body)), .. }) = item {
                let written = payloads.write(*id, body, durable);
                written.map_err(|error| Trouble::of_io("a payload file", &error))?;
                wrote = true;
            }
        }
        if wrote && durable {
            let synced = payloads.sync();
            synced.map_err(|error| Trouble::of_io("the directory of payload files", &error))?;
        }
        Ok(())
    }

    /// What dead letters add to the backlog: few come and go, so what was there is looked up.
    fn added_by_dead_letters(&self, items: &[Item]) -> Result<i64, Trouble> {
        let is_dead_letter =
            |key: &IVec| matches!(key.first(), Some(&(keys::kind::DEAD | keys::kind::DEAD_FRAME)));
        let mut known: HashMap<&IVec, i64> = HashMap::new();
        let mut added = 0;
        for write in writes(items).filter(|write| is_dead_letter(write.key())) {
            let weight = |value: &IVec| backlog::record(write.key(), value) as i64;
            let before = match known.get(write.key()) {
                Some(before) => *before,
                None => self.database.get(write.key())?.as_ref().map_or(0, weight),
            };
            let after = match write {
                Write::Put(_, value) | Write::Create(_, value) => weight(value),
                Write::Remove(_) => 0,
            };
            known.insert(write.key(), after);
            added += after - before;
        }
        Ok(added)
    }

    fn finish(&self, items: &mut Vec<Item>) {
        self.shared.commits.send_modify(|count| *count += 1);
        for item in items.drain(..) {
            match item {
                Item::Deferred(deferred) => self.drop_payload(deferred.dropped_payload),
                Item::Transaction(transaction) => {
                    self.drop_payload(transaction.dropped_payload);
                    drop(transaction.reserved);
                    if let Some(done) = transaction.done {
                        done.tell(Ok(()));
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

    // ---- The log's segments.

    fn checkpointed(&mut self) -> ControlFlow<()> {
        if let Err(trouble) = self.segments.outcome() {
            if let Err(why) = self.wait_out(trouble, &mut Vec::new()) {
                return self.fail(Vec::new(), &why);
            }
            self.come_back();
        }
        self.segments.prepare(self.disk.handle.as_ref());
        ControlFlow::Continue(())
    }

    /// What the log has stays there: the next start takes it up.
    fn end(self) {
        let Self { segments, database, mut disk, .. } = self;
        if let Err(trouble) = segments.end() {
            tracing::warn!(%trouble, "the log could not be carried over; the next start goes on with that");
            database.take_away("it is shutting down");
            // Not even dropped: sled would sync once more.
            std::mem::forget(disk.handle.take());
        }
    }

    // ---- Room.

    fn measure_pause(&self) -> Duration {
        match *self.shared.standing.borrow() {
            Standing::Writable => MEASURE_IDLE,
            Standing::Full(_) | Standing::Unwritable(_) | Standing::Failed(_) => MEASURE_FULL,
        }
    }

    /// Looks how much room there is, and lets new messages and events in or not.
    fn measure(&mut self) {
        self.measured_at = Instant::now();
        let before = match *self.shared.standing.borrow() {
            Standing::Writable => Before::Usable,
            Standing::Full(_) => Before::Full,
            Standing::Unwritable(_) | Standing::Failed(_) => return,
        };
        let measured = Measured {
            backlog: self.disk.counters.backlog,
            payloads: self.disk.payloads.bytes(),
            file: open::database_size(&self.disk.path),
            disk: disk_space(&self.disk.path),
        };
        match (fullness(self.disk.max_size, &measured, before), before) {
            (Some(why), before) => {
                if before == Before::Usable {
                    tracing::error!(
                        reason = why,
                        "the store is full; nothing new is accepted until there is room"
                    );
                }
                self.shared.standing.send_replace(Standing::Full(why));
            }
            (None, Before::Full) => {
                tracing::info!("the store has room again");
                self.shared.standing.send_replace(Standing::Writable);
            }
            (None, Before::Usable) => {}
        }
    }
}

/// Takes what one commit may hold. Whoever no longer finds a write that was put off in the queue finds it on its
/// way: there is no moment in which it is nowhere.
fn take_front(database: &Database, queue: &mut Queue, taken: &mut Vec<Item>) {
    queue.take_front(taken);
    database.overlay().announce(taken.iter().filter_map(Item::deferred));
}

fn disk_space(path: &std::path::Path) -> Option<DiskSpace> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(DiskSpace {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// What is counted as commits go on; as a record 16 bytes, big-endian.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// The number of the last commit.
    pub commits: u64,
    /// Bytes of the records that wait for something (`backlog`).
    pub backlog: u64,
}

impl Counters {
    /// As of the last commit that a database has; nothing in a new one.
    pub(super) fn of(handle: &Handle) -> Result<Self, sled::Error> {
        let value = handle.db().get(keys::meta(COUNTERS))?;
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).ok().map(u64::from_be_bytes);
        let read = |value: IVec| {
            let (commits, backlog) = value.split_at_checked(8)?;
            Some(Self { commits: number(commits)?, backlog: number(backlog)? })
        };
        Ok(value.and_then(read).unwrap_or_default())
    }

    pub(super) fn to_bytes(self) -> IVec {
        IVec::from([self.commits.to_be_bytes(), self.backlog.to_be_bytes()].as_flattened())
    }
}

/// All writes of a commit, in order.
fn writes(items: &[Item]) -> impl Iterator<Item = &Write> {
    items.iter().flat_map(Item::writes)
}

/// Journal records of all events of the commit, and one of all its messages.
fn journals(items: &[Item]) -> Vec<Write> {
    let at = Timestamp::now();
    let mut events: Vec<(u64, Vec<JournalEntry>)> = Vec::new();
    let (mut messages, mut first_message) = (Vec::new(), None);
    for item in items {
        match item {
            Item::Transaction(Transaction { journal: Some(JournalLine::Event(number, entry)), .. }) => {
                match events.last_mut() {
                    Some((_, entries)) if entries.len() < JOURNAL_EVENTS => entries.push(*entry),
                    _ => {
                        let mut entries = Vec::with_capacity(items.len().min(JOURNAL_EVENTS));
                        entries.push(*entry);
                        events.push((*number, entries));
                    }
                }
            }
            Item::Transaction(Transaction { journal: Some(JournalLine::Message(number, entry)), .. }) => {
                first_message.get_or_insert(*number);
                messages.push(*entry);
            }
            Item::Transaction(_) | Item::Deferred(_) => {}
        }
    }
    let of_events = |(first, entries)| {
        let record = JournalRecord { at, entries };
        Write::Create(keys::journal(first), value(JournalRecord::VERSION, &record, &[]))
    };
    let mut journals: Vec<_> = events.into_iter().map(of_events).collect();
    if let Some(first) = first_message {
        let record = AcceptedRecord { at, entries: messages };
        journals.push(Write::Create(keys::accepted(first), value(AcceptedRecord::VERSION, &record, &[])));
    }
    journals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{UserNumber, Wanted};

    #[test]
    fn the_events_of_a_commit_are_in_records_of_64() {
        let entry = |user| JournalEntry {
            user: UserNumber(user),
            size: 1,
            identity: 0,
            content: 0,
            said: None,
            wanted: Wanted::UNKNOWN,
        };
        let event = |number: u64| {
            let journal = Some(JournalLine::Event(number, entry(number as u32)));
            Item::Transaction(Transaction { journal, ..Transaction::default() })
        };
        let items: Vec<_> = (1_000..1_130).map(event).collect();
        let records: Vec<_> = journals(&items)
            .into_iter()
            .map(|write| match write {
                Write::Create(key, value) => (key, JournalRecord::read(&value).unwrap().entries),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [1_000..1_064, 1_064..1_128, 1_128..1_130].map(|numbers| {
            (keys::journal(numbers.start), numbers.map(|number| entry(number as u32)).collect::<Vec<_>>())
        });
        assert_eq!(records, expected);
    }
}
