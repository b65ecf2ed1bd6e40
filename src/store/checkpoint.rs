//! Carries committed writes over to the database, on a thread of its own, so that no commit waits for it.
//!
//! The log has these writes until the database says that it has them: so they need neither be one batch nor
//! be in any order, and whatever is cut short is begun anew, by the next try or the next start.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    database::Handle,
    keys,
    nudge::Nudge,
    overlay::Table,
    trouble::Trouble,
    worker::{COUNTERS, Counters},
};

/// What is to be carried over.
pub(super) struct Job {
    pub handle: Arc<Handle>,
    pub table: Arc<Table>,
    /// As of the last commit in the table.
    pub counters: Counters,
}

/// The thread. Dropping it lets the thread end, and doesn't wait for that.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    stage: Mutex<Stage>,
    changed: Condvar,
}

enum Stage {
    Idle,
    Asked(Job),
    Busy,
    Over(Result<(), Trouble>),
    End,
}

impl Checkpointer {
    /// Starts the thread, which calls `on_over` whenever a job is over.
    pub(super) fn start(on_over: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { stage: Mutex::new(Stage::Idle), changed: Condvar::new() });
        let (own, nudge) = (Arc::clone(&shared), Nudge::start()?);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || own.run(&nudge, &on_over))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins a job; one that is over without having been asked for its outcome is forgotten.
    pub(super) fn begin(&self, job: Job) {
        *self.shared.lock() = Stage::Asked(job);
        self.shared.changed.notify_all();
    }

    /// Whether there is a job that is not over.
    pub(super) fn is_busy(&self) -> bool {
        matches!(*self.shared.lock(), Stage::Asked(_) | Stage::Busy)
    }

    /// What came of the job, if it is over; told once.
    pub(super) fn outcome(&self) -> Option<Result<(), Trouble>> {
        let mut stage = self.shared.lock();
        match std::mem::replace(&mut *stage, Stage::Idle) {
            Stage::Over(outcome) => Some(outcome),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Waits until the job is over; there must be one.
    pub(super) fn wait(&self) -> Result<(), Trouble> {
        let mut stage = self.shared.lock();
        loop {
            match std::mem::replace(&mut *stage, Stage::Idle) {
                Stage::Over(outcome) => return outcome,
                other => *stage = other,
            }
            stage = self.shared.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the thread, which must have nothing to do, and waits for that.
    pub(super) fn end(mut self) {
        let thread = self.thread.take();
        drop(self);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        *self.shared.lock() = Stage::End;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, nudge: &Nudge<Handle>, on_over: &dyn Fn()) {
        while let Some(job) = self.next() {
            let outcome = catch_unwind(AssertUnwindSafe(|| carry_over(&job, nudge)));
            let outcome = outcome.unwrap_or_else(|_| Err(Trouble::Fatal("sled panicked".to_owned())));
            // Whoever is told may want to be the last one with this handle.
            drop(job);
            {
                let mut stage = self.lock();
                if let Stage::Busy = *stage {
                    *stage = Stage::Over(outcome);
                }
            }
            self.changed.notify_all();
            on_over();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut stage = self.lock();
        loop {
            match std::mem::replace(&mut *stage, Stage::Busy) {
                Stage::Asked(job) => return Some(job),
                Stage::End => {
                    *stage = Stage::End;
                    return None;
                }
                other => *stage = other,
            }
            stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Puts everything into the database, and then the number up to which it has everything.
pub(super) fn carry_over(job: &Job, nudge: &Nudge<Handle>) -> Result<(), Trouble> {
    let Job { handle, table, counters } = job;
    table.for_each(|key, value| {
        let replaced = match value {
            Some(value) => handle.db().insert(key, value),
            None => handle.db().remove(key),
        };
        replaced.map(drop)
    })?;
    // The number must not be on disk before what it speaks of.
    nudge.while_waiting(handle, || handle.db().flush())?;
    handle.db().insert(keys::meta(COUNTERS), counters.to_bytes())?;
    nudge.while_waiting(handle, || handle.db().flush())?;
    Ok(())
}
