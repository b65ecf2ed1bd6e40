//! Which of the log's files is written, which wait to be carried over, and which are free.
//!
//! Not all of a file goes into the database when its turn is over. What most likely goes before long, final messages'
//! statuses above all, stays in the log: the commits that come next write it once more, some of it each, and only when
//! all of it was written does the file count as carried over.

use std::{collections::VecDeque, sync::Arc};

use super::{
    checkpoint::{CarryOver, Checkpointer, Job},
    commit::Write,
    database::Handle,
    open::Log,
    overlay::{Load, Overlay, Stay, Staying},
    trouble::Trouble,
    wal::{Closed, Wal},
};

/// So many keys are added to the overlay by one segment at most: small writes fill memory before they fill a file.
const MOST_KEYS: usize = 12_000;
/// So many of them for removals of what the database has: to put those off only saves it work on the pages that they share.
const MOST_REMOVALS: usize = 6_000;

/// So many keys that stay are written once more by one commit.
const MOVED_AT_ONCE: usize = 128;

/// Behind a start, room is made only when the current segment has so many bytes: a start has enough to do.
const FIRST_LOOK: u64 = 256 << 10;

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
    /// What of the oldest closed one is to be written once more, while that is under way; nothing else keeps it.
    staying: Vec<Staying>,
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
        let (carried, task, staying) = (None, None, Vec::new());
        Ok(Self {
            wal,
            overlay,
            checkpointer,
            closed,
            carried,
            staying,
            free,
            unmade,
            task,
            carried_over,
            before,
        })
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
            // There is no time to write it once more.
            let stay = if self.staying.is_empty() { self.stay() } else { Stay::Refused };
            self.staying.clear();
            self.make_room(handle, stay);
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
        if self.staying.is_empty() && self.needs_room() {
            self.make_room(handle, self.stay());
        }
    }

    fn needs_room(&self) -> bool {
        self.task.is_none() && self.free.is_empty()
    }

    /// What stays in the log is bounded as all keys are that are only there.
    fn stay(&self) -> Stay {
        let slots = self.closed.len() + 1 + usize::from(self.carried.is_some()) + self.free.len();
        if self.overlay.load().keys < slots * MOST_KEYS { Stay::Allowed } else { Stay::Refused }
    }

    fn make_room(&mut self, handle: Option<&Arc<Handle>>, stay: Stay) {
        if !self.needs_room() {
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
            self.checkpointer.begin(Job::CarryOver(CarryOver {
                before,
                closed,
                stay,
                files,
                overlay,
                handle,
            }));
        }
    }

    /// Begins a commit of these writes. Answers with those that it has before them: of what stays in the log.
    pub(super) fn begin<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) -> Vec<Write> {
        let moving = self.moving();
        self.wal.begin();
        moving.iter().for_each(|write| self.wal.add(write));
        writes.for_each(|write| self.wal.add(write));
        moving
    }

    fn moving(&self) -> Vec<Write> {
        let rest = self.staying.len().saturating_sub(MOVED_AT_ONCE);
        let moving = &self.staying[rest..];
        if moving.is_empty() {
            return Vec::new();
        }
        // Not as new: while a commit is tried again, the database may get them after all.
        self.overlay.still_there(moving).map(|one| Write::Put(one.key.clone(), one.value.clone())).collect()
    }

    /// The commit that was begun is on disk.
    pub(super) fn committed(&mut self, handle: Option<&Arc<Handle>>) {
        if !self.staying.is_empty() {
            self.staying.truncate(self.staying.len().saturating_sub(MOVED_AT_ONCE));
            if self.staying.is_empty() {
                self.staying = Vec::new();
                self.carried = self.closed.pop_front();
            }
        }
        if self.wal.end() >= FIRST_LOOK {
            self.prepare(handle);
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

    fn settle(&mut self, outcome: Result<Vec<Staying>, Trouble>) -> Result<(), Trouble> {
        match (self.task.take(), outcome) {
            (Some(Task::Make(slot)), Ok(_)) => self.free.push(slot),
            (Some(Task::Make(_)), Err(Trouble::Passing(why)))
                if !self.closed.is_empty() || self.carried.is_some() =>
            {
                tracing::debug!(error = why, "the log does not grow: it goes on in the files that it has");
                self.unmade.clear();
            }
            (Some(Task::CarryOver), Ok(staying)) => {
                if let Some(carried) = self.carried.take() {
                    self.carried_over = carried.counters.commits;
                    self.free.push(carried.segment.slot());
                }
                if staying.is_empty() {
                    self.carried = self.closed.pop_front();
                }
                self.staying = staying;
            }
            (_, outcome) => return outcome.map(drop),
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
