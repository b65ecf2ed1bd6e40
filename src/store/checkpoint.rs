//! Makes room in the log, on a thread of its own, so that no commit waits for it: makes its files, and carries
//! over to the database what is left of its oldest segment.
//!
//! The log has these writes until the database says that it has them: so they need neither be one batch nor
//! be in any order, and whatever is cut short is begun anew, by the next try or the next start. The database
//! says so (it has a record of the last commit that it has) along with the next segment's writes: one more sync
//! would cost more than to keep a segment a little longer.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    database::Handle,
    keys,
    nudge::Nudge,
    overlay::{Last, Overlay, Stay, Staying, StillValid},
    trouble::Trouble,
    wal::{Change, Closed, Content, Files, Place},
    worker::{COUNTERS, Counters},
};
use crate::allocator;

/// So many bytes are flushed at once: a commit that is synced meanwhile waits for no more than that.
const FLUSHED_AT_ONCE: usize = 512 << 10;

/// So many bytes of records put into the database, or of keys removed from it, leave much free memory behind, in many pieces.
const MUCH: usize = 1 << 20;

/// What is to be done.
pub(super) enum Job {
    /// A file for a slot that has none.
    Make { files: Arc<Files>, slot: usize },
    /// What is left of the oldest segment, and the number up to which the database has everything already.
    CarryOver(CarryOver),
}

/// What is to be carried over, from where to where.
pub(super) struct CarryOver {
    /// As of the last commit that the database has, if it doesn't say so yet.
    pub before: Option<Counters>,
    /// The segment; without one, there is only a number to be noted.
    pub closed: Option<Closed>,
    /// Whether some of it may stay in the log.
    pub stay: Stay,
    pub files: Arc<Files>,
    pub overlay: Arc<Overlay>,
    pub handle: Arc<Handle>,
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

/// What a job left to be written once more.
type Outcome = Result<Vec<Staying>, Trouble>;

/// What became of a segment.
#[derive(Default)]
pub(super) struct CarriedOver {
    /// What is to be written once more instead, before the segment may go.
    pub staying: Vec<Staying>,
    /// Bytes of what the database was told.
    bytes: usize,
}

enum Stage {
    Idle,
    Asked(Job),
    Busy,
    Over(Outcome),
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

    /// Begins a job, after the last one's outcome was asked for.
    pub(super) fn begin(&self, job: Job) {
        *self.shared.lock() = Stage::Asked(job);
        self.shared.changed.notify_all();
    }

    /// What came of the job, if it is over; told once.
    pub(super) fn outcome(&self) -> Option<Outcome> {
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
    pub(super) fn wait(&self) -> Outcome {
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
        let mut since_given_back = 0;
        while let Some(job) = self.next() {
            let outcome = catch_unwind(AssertUnwindSafe(|| match &job {
                Job::Make { files, slot } => {
                    let made = files.make(*slot).map(|()| CarriedOver::default());
                    made.map_err(|error| Trouble::of_io("a new file of the log", &error))
                }
                Job::CarryOver(task) => carry_over(task, nudge),
            }));
            let outcome =
                outcome.unwrap_or_else(|_| Err(Trouble::Fatal("the checkpoint panicked".to_owned())));
            // Whoever is told may want to be the last one with this handle.
            drop(job);
            since_given_back += outcome.as_ref().map_or(0, |carried| carried.bytes);
            {
                let mut stage = self.lock();
                if let Stage::Busy = *stage {
                    *stage = Stage::Over(outcome.map(|carried| carried.staying));
                }
            }
            self.changed.notify_all();
            on_over();
            if since_given_back >= MUCH {
                allocator::give_back();
                since_given_back = 0;
            }
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

/// Puts what is left of a segment into the database; only then readers look for it there.
pub(super) fn carry_over(task: &CarryOver, nudge: &Nudge<Handle>) -> Result<CarriedOver, Trouble> {
    let began = Instant::now();
    let CarryOver { before, closed, stay, files, overlay, handle } = task;
    let flush = || nudge.while_waiting(handle, || handle.db().flush()).map(drop);
    if let Some(counters) = before {
        // What it speaks of is on disk.
        handle.db().insert(keys::meta(COUNTERS), counters.to_bytes())?;
    }
    let Some(closed) = closed else {
        flush()?;
        return Ok(CarriedOver::default());
    };
    let content = files.content(closed).map_err(|error| Trouble::of_io("the log", &error))?;
    let Left { for_database, staying } = left_of(&content, closed, overlay, *stay)?;
    let (mut bytes, mut unflushed) = (0, 0);
    for (key, value) in in_filling_order(&for_database) {
        match value {
            Some(value) => handle.db().insert(key, content.value(value.clone())).map(drop)?,
            None => handle.db().remove(key).map(drop)?,
        }
        let size = key.len() + value.as_ref().map_or(0, Range::len);
        (bytes, unflushed) = (bytes + size, unflushed + size);
        if unflushed >= FLUSHED_AT_ONCE {
            flush()?;
            unflushed = 0;
        }
    }
    flush()?;
    overlay.carried_over(for_database.iter().map(|(key, _)| *key), closed.segment);
    tracing::debug!(
        carried_over = for_database.len(),
        staying = staying.len(),
        only_in_log = overlay.load().keys,
        took = ?began.elapsed(),
        "a segment of the log was carried over to the database"
    );
    Ok(CarriedOver { staying, bytes })
}

/// What is in order as it fills the database's pages best. A page that gets its 17th record is divided in the middle,
/// and what comes in order leaves halves behind: so of each 16 the first nine come first, and the others into the pages
/// that those have made.
fn in_filling_order<T>(sorted: &[T]) -> impl Iterator<Item = &T> {
    const PAGE: usize = 16;
    const LEFT_BEHIND: usize = PAGE / 2 + 1;
    let pages = || sorted.chunks(PAGE);
    let first = pages().flat_map(|page| &page[..page.len().min(LEFT_BEHIND)]);
    first.chain(pages().flat_map(|page| &page[page.len().min(LEFT_BEHIND)..]))
}

/// What of a segment is still what was last done to its keys.
struct Left<'a> {
    /// Keys in their order, as the database changes one page after the other; and where their values are in the segment,
    /// or none if a key was removed.
    for_database: Vec<(&'a [u8], Option<Range<usize>>)>,
    staying: Vec<Staying>,
}

fn left_of<'a>(
    content: &'a Content,
    closed: &Closed,
    overlay: &Overlay,
    stay: Stay,
) -> Result<Left<'a>, Trouble> {
    let unreadable = || Trouble::Fatal("a segment of the log can't be read any more".to_owned());
    let writes = content.writes().ok_or_else(unreadable)?;
    let place = |value: &Range<usize>| Place::of(closed.segment, value);
    let writes = writes.into_iter().map(|write| match write.change {
        Change::Put(value) | Change::Create(value) => (write.key, Last::put(place(&value)), Some(value)),
        Change::Remove => (write.key, Last::removed(closed.segment), None),
    });
    let StillValid { mut for_database, staying } = overlay.still_valid(writes.collect(), stay);
    for_database.sort_unstable_by_key(|(key, _)| *key);
    let staying = staying.into_iter().filter_map(|(key, value)| {
        let value = value?;
        let (place, value) = (place(&value), content.value(value));
        Some(Staying { key: key.into(), value: value.into(), place })
    });
    Ok(Left { for_database, staying: staying.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filling_order_has_everything_once() {
        for length in 0..100 {
            let sorted: Vec<usize> = (0..length).collect();
            let mut filled: Vec<_> = in_filling_order(&sorted).copied().collect();
            filled.sort_unstable();
            assert_eq!(filled, sorted);
        }
    }

    #[test]
    fn later_records_go_into_pages_that_are_there() {
        let sorted: Vec<usize> = (0..40).collect();
        let filled: Vec<_> = in_filling_order(&sorted).copied().collect();
        assert_eq!(filled[..18], [(0..9).collect::<Vec<_>>(), (16..25).collect()].concat());
        assert_eq!(filled[18..26], (32..40).collect::<Vec<_>>());
        assert_eq!(filled[26..], [(9..16).collect::<Vec<_>>(), (25..32).collect()].concat());
    }
}
