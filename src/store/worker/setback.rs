//! A disk that takes nothing.
//!
//! When a commit or a checkpoint fails for a reason that can pass (`trouble`), the thread waits for it to pass:
//!
//! 1. If it was the database that failed, readers lose sled's handle: it is poisoned.
//! 2. Messages that wait for their commit are refused: their callers are told to come back, and what
//!    the failed commit may have left of them on disk is removed with the next commit. Everything else
//!    that was handed over (events, final statuses, lanes) has nobody to give it back to, and is kept.
//! 3. When a probe can be written, sled is opened anew if need be, and the same commit or checkpoint is
//!    tried again. A commit takes the place of its first try in the log; of a checkpoint every write sets a
//!    key to a value or removes it, so the second time changes nothing.
//! 4. Only then messages and events are taken again.
//!
//! Memory stays bounded meanwhile: what waits has its share of the bytes that may wait.

use std::{
    fs,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Counters, Worker};
use crate::store::{
    StoreError,
    commit::{Deferred, Done, Item, JournalLine, State, Transaction, Write},
    keys, open,
    room::Standing,
    trouble::Trouble,
};

/// The pause between two probes of a disk that takes nothing.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// What must fit on the disk before the database is opened anew: it writes a snapshot, and then the
/// commit or the checkpoint that failed.
const PROBE_BYTES: usize = 8 << 20;

impl Worker {
    /// Waits until a trouble has passed; tells why that can't be waited for.
    pub(super) fn wait_out(&mut self, trouble: Trouble, items: &mut Vec<Item>) -> Result<(), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| match trouble {
            Trouble::Passing(why) => {
                self.step_back(&why, items);
                self.wait_for_disk().map_err(|trouble| trouble.to_string())
            }
            Trouble::Fatal(why) => Err(why),
        }));
        outcome.unwrap_or_else(|_| Err("a follow-up of a failed write panicked".to_owned()))
    }

    /// Nothing can be committed for now: takes the database away from readers if it failed, and refuses
    /// the messages that wait for their commit.
    fn step_back(&mut self, why: &str, items: &mut Vec<Item>) {
        if self.disk.handle.as_ref().is_some_and(|handle| handle.failed().is_some()) {
            self.database.take_away(why);
            // It is let go of only with its failure noted: in good health it would sync once more at its
            // end, and panic where that fails.
            self.disk.handle = None;
        }
        let mut refused: Vec<Done> = withdraw_messages(items);
        {
            let mut queue = self.shared.lock();
            if queue.state == State::Open {
                queue.state = State::Waiting(why.to_owned());
            }
            refused.extend(queue.take_messages().into_iter().filter_map(|message| message.done));
        }
        let before = self.shared.standing.send_replace(Standing::Unwritable(why.to_owned()));
        if !matches!(before, Standing::Unwritable(_)) {
            tracing::error!(error = why, "the store can't be written; nothing new is accepted until it can");
        }
        for done in refused {
            done.tell(Err(StoreError::Unavailable(why.to_owned())));
        }
    }

    /// Waits until the disk takes something, and opens the database anew. Gives up when the store is
    /// closed meanwhile.
    fn wait_for_disk(&mut self) -> Result<(), Trouble> {
        loop {
            let closing = self.pause(PROBE_EVERY);
            match self.reopen() {
                Ok(()) => return Ok(()),
                Err(Trouble::Passing(why)) if !closing => {
                    tracing::debug!(error = why, "the store still can't be written");
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Waits so long, or until the store is closed; tells whether it is.
    fn pause(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        let mut queue = self.shared.lock();
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if queue.state == State::Closing || rest.is_zero() {
                return queue.state == State::Closing;
            }
            queue = self.wait(queue, rest);
        }
    }

    fn reopen(&mut self) -> Result<(), Trouble> {
        self.probe()?;
        if self.disk.handle.is_none() {
            self.open_database()?;
        }
        self.segments.prepare(self.disk.handle.as_ref());
        Ok(())
    }

    fn open_database(&mut self) -> Result<(), Trouble> {
        let handle = open::reopen(&self.disk.path, self.disk.cache)?;
        let found = Counters::of(&handle)?.commits;
        // The task that failed may be there or not; what was there before must be.
        if !self.segments.may_have_carried_over().any(|commits| commits == found) {
            return Err(Trouble::Fatal(format!(
                "opened anew, the database has {found} commits, which is not what it had"
            )));
        }
        let handle = Arc::new(handle);
        self.disk.handle = Some(Arc::clone(&handle));
        self.database.give_back(handle);
        Ok(())
    }

    /// Finds out whether the disk takes something, which is cheaper than to open the database.
    fn probe(&self) -> Result<(), Trouble> {
        let path = self.disk.path.join(open::PROBE);
        let written =
            fs::write(&path, vec![0; PROBE_BYTES]).and_then(|()| fs::File::open(&path)?.sync_data());
        let removed = fs::remove_file(&path);
        written.and(removed).map_err(|error| Trouble::of_io("a probe", &error))
    }

    /// The disk takes writes. If it took none before, all is as it was.
    pub(super) fn come_back(&mut self) {
        if !matches!(*self.shared.standing.borrow(), Standing::Unwritable(_)) {
            return;
        }
        {
            let mut queue = self.shared.lock();
            if matches!(queue.state, State::Waiting(_)) {
                queue.state = State::Open;
            }
        }
        self.shared.standing.send_replace(Standing::Writable);
        tracing::info!("the store can be written again");
        self.measure();
    }

    /// After this the handle must not be used again: everyone is told, and the daemon ends.
    pub(super) fn fail(&mut self, items: Vec<Item>, why: &str) -> ControlFlow<()> {
        tracing::error!(error = why, "the store could not write; nothing more is accepted");
        self.database.take_away(why);
        // Not even dropped: sled would sync once more.
        std::mem::forget(self.disk.handle.take());
        let waiting = {
            let mut queue = self.shared.lock();
            queue.state = State::Failed(why.to_owned());
            std::mem::take(&mut queue.items)
        };
        self.shared.space.close();
        self.shared.standing.send_replace(Standing::Failed(why.to_owned()));
        // What was being committed may be on disk; what waited behind it is not.
        tell(items, &StoreError::Doubtful(why.to_owned()));
        tell(waiting, &StoreError::Unavailable(why.to_owned()));
        ControlFlow::Break(())
    }
}

/// Puts in the place of each message what removes it, and answers with those to tell. What the
/// journal says of them is removed as well.
fn withdraw_messages(items: &mut Vec<Item>) -> Vec<Done> {
    let mut refused = Vec::new();
    let mut first = None;
    for item in items.iter_mut() {
        if let Item::Transaction(transaction) = item
            && let Some(JournalLine::Message(number, _)) = &transaction.journal
        {
            first.get_or_insert(*number);
            let undone = transaction.undone();
            let message = std::mem::replace(transaction, undone);
            refused.extend(message.done);
        }
    }
    if let Some(first) = first {
        let write = Write::Remove(keys::accepted(first));
        items.push(Item::Deferred(Deferred { write, dropped_payload: None, released: 0 }));
    }
    refused
}

fn tell(items: impl IntoIterator<Item = Item>, error: &StoreError) {
    for item in items {
        if let Item::Transaction(Transaction { done: Some(done), .. }) = item {
            done.tell(Err(error.clone()));
        }
    }
}
