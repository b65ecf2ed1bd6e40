//! Wakes a flush that nobody else would wake.
//!
//! sled 0.34.7 writes on threads of its own. When a write fails there that was begun by the end of a
//! batch (`exit_reservation`), the error is noted, but whoever waits in `flush` is not woken, and may
//! wait for ever. Any other flush that finds the error wakes all who wait; so a thread looks for
//! the error while a flush takes long.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::database::Handle;

/// A flush that takes longer is looked after, so often. Nothing tells of the error but a look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The thread, while it is kept.
#[derive(Debug)]
pub(super) struct Nudge {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Watched>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Watched {
    /// Whose flush is under way.
    handle: Option<Arc<Handle>>,
    /// Whether the thread sleeps until it is woken.
    asleep: bool,
    over: bool,
}

impl Nudge {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("commit-nudge".to_owned()).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Looks after this handle until `flush` is over.
    pub(super) fn while_waiting<T>(&self, handle: &Arc<Handle>, flush: impl FnOnce() -> T) -> T {
        let sleeps = {
            let mut watched = self.shared.lock();
            watched.handle = Some(Arc::clone(handle));
            std::mem::take(&mut watched.asleep)
        };
        if sleeps {
            self.shared.wake.notify_one();
        }
        let _watch = Watch(&self.shared);
        flush()
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks after flushes panicked");
        }
    }
}

/// Ends the watch, also where a flush panics.
struct Watch<'a>(&'a Shared);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.lock().handle = None;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched = self.lock();
        while !watched.over {
            if let Some(handle) = watched.handle.clone()
                && handle.failed().is_some()
            {
                drop(watched);
                // Finds the error, wakes the others, and fails; it writes nothing any more.
                let _ = handle.db().flush();
                drop(handle);
                watched = self.lock();
            }
            watched = if watched.handle.is_some() {
                self.wake.wait_timeout(watched, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0
            } else {
                watched.asleep = true;
                self.wake.wait(watched).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}
