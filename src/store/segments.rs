//! Which of the log's files is written, which wait to be carried over, and which are free.

use std::{collections::VecDeque, sync::Arc};

use super::{
    checkpoint::{CarryOver, Checkpointer, Job},
    database::Handle,
    open::Log,
    overlay::{Load, Overlay},
    trouble::Trouble,
    wal::{Closed, Wal},
};

/// So many keys are added to the overlay by one segment at most: small writes fill memory before they fill a file.
const MOST_KEYS: usize = 12_000;
/// So many of them for removals of what the database has: to put those off only saves it work on the pages that they share.
const MOST_REMOVALS: usize = 6_000;

/// What the checkpoint thread is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Make(usize),
    CarryOver,
}

/// The log's segments. There is always one to go on in, or a task under way that frees one.
pub(super) struct Segments {
    pub wal: Wal,
    overlay: Arc<Overlay>,
    checkpointer: Checkpointer,
    /// Those that take no more commits and are not in the database, oldest first.
    closed: VecDeque<Closed>,
    /// The one before them: the database has it, and doesn't say so yet.
    carried: Option<Closed>,
    /// Slots that can be begun.
    free: Vec<usize>,
    /// Slots that have no file, and may get one.
    unmade: Vec<usize>,
    task: Option<Task>,
    /// The last commit that the database says it has.
    carried_over: u64,
    /// What the overlay had when the current segment was begun.
    before: Load,
}

impl Segments {
    /// `on_over` is called whenever [`Segments::outcome`] has something to tell.
    pub(super) fn new(
        log: Log,
        overlay: Arc<Overlay>,
        on_over: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let Log { wal, closed, free, unmade, carried_over } = log;
        let checkpointer = Checkpointer::start(on_over)?;
        let before = overlay.load();
        let (carried, task) = (None, None);
        Ok(Self { wal, overlay, checkpointer, closed, carried, free, unmade, task, carried_over, before })
    }

    /// Whether the current segment takes the commit that was begun.
    pub(super) fn has_room(&self) -> bool {
        let load = self.overlay.load();
        let is_small =
            load.keys < self.before.keys + MOST_KEYS && load.removals < self.before.removals + MOST_REMOVALS;
        self.wal.is_empty() || (self.wal.has_room() && is_small)
    }

    /// Goes on in another segment. Waits until there is one.
    pub(super) fn switch(&mut self, handle: Option<&Arc<Handle>>) -> Result<(), Trouble> {
        let slot = loop {
            if let Some(slot) = self.free.pop() {
                break slot;
            }
            self.prepare(handle);
            if self.task.is_none() {
                return Err(Trouble::Passing("the log is full, and the database is not open".to_owned()));
            }
            let outcome = self.checkpointer.wait();
            self.settle(outcome)?;
        };
        let closed = self.wal.switch(slot);
        self.closed.push_back(closed);
        self.before = self.overlay.load();
        self.prepare(handle);
        Ok(())
    }

    /// Has room made, if there is none for the time when the current segment is full.
    pub(super) fn prepare(&mut self, handle: Option<&Arc<Handle>>) {
        if self.task.is_some() || !self.free.is_empty() {
            return;
        }
        let files = Arc::clone(self.wal.files());
        if let Some(slot) = self.unmade.pop() {
            self.task = Some(Task::Make(slot));
            self.checkpointer.begin(Job::Make { files, slot });
        } else if let Some(handle) = handle
            && (self.carried.is_some() || !self.closed.is_empty())
        {
            let (overlay, handle) = (Arc::clone(&self.overlay), Arc::clone(handle));
            let before = self.carried.map(|carried| carried.counters);
            let closed = self.closed.front().copied();
            self.task = Some(Task::CarryOver);
            self.checkpointer.begin(Job::CarryOver(CarryOver { before, closed, files, overlay, handle }));
        }
    }

    /// What came of the task, if that is over.
    pub(super) fn outcome(&mut self) -> Result<(), Trouble> {
        match self.checkpointer.outcome() {
            Some(outcome) => self.settle(outcome),
            // Whoever waited for it knows.
            None => Ok(()),
        }
    }

    fn settle(&mut self, outcome: Result<(), Trouble>) -> Result<(), Trouble> {
        match (self.task.take(), outcome) {
            (Some(Task::Make(slot)), Ok(())) => self.free.push(slot),
            (Some(Task::Make(_)), Err(Trouble::Passing(why)))
                if !self.closed.is_empty() || self.carried.is_some() =>
            {
                tracing::debug!(error = why, "the log does not grow: it goes on in the files that it has");
                self.unmade.clear();
            }
            (Some(Task::CarryOver), Ok(())) => {
                if let Some(carried) = std::mem::replace(&mut self.carried, self.closed.pop_front()) {
                    self.carried_over = carried.counters.commits;
                    self.free.push(carried.segment.slot());
                }
            }
            (_, outcome) => return outcome,
        }
        Ok(())
    }

    /// Which commit the database may say is the last that it has, when a task that carried over may have failed.
    pub(super) fn may_have_carried_over(&self) -> impl Iterator<Item = u64> {
        let carried = self.carried.map(|carried| carried.counters.commits);
        [Some(self.carried_over), carried].into_iter().flatten()
    }

    /// Waits for the task that is under way, and ends the thread. What the log has stays there.
    pub(super) fn end(mut self) -> Result<(), Trouble> {
        if self.task.is_some() {
            let outcome = self.checkpointer.wait();
            self.settle(outcome)?;
        }
        self.checkpointer.end();
        Ok(())
    }
}
