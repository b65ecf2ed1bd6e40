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

/// What may wait for ever in a flush.
pub(super) trait Flushes: Send + Sync + 'static {
    /// Whether a write failed, so that a flush may wait for ever.
    fn is_stuck(&self) -> bool;

    /// Wakes every flush that waits.
    fn wake(&self);
}

impl Flushes for Handle {
    fn is_stuck(&self) -> bool {
        self.failed().is_some()
    }

    fn wake(&self) {
        // Finds the error, wakes the others, and fails; it writes nothing any more.
        let _ = self.db().flush();
    }
}

/// The thread, while it is kept.
#[derive(Debug)]
pub(super) struct Nudge<T: Flushes> {
    shared: Arc<Shared<T>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<T> {
    watched: Mutex<Watched<T>>,
    wake: Condvar,
}

#[derive(Debug)]
struct Watched<T> {
    /// Whose flush is under way.
    handle: Option<Arc<T>>,
    /// Whether the thread sleeps until it is woken.
    asleep: bool,
    over: bool,
}

impl<T: Flushes> Nudge<T> {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let watched = Watched { handle: None, asleep: false, over: false };
        let shared = Arc::new(Shared { watched: Mutex::new(watched), wake: Condvar::new() });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("commit-nudge".to_owned()).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Looks after this handle until `flush` is over.
    pub(super) fn while_waiting<R>(&self, handle: &Arc<T>, flush: impl FnOnce() -> R) -> R {
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

impl<T: Flushes> Drop for Nudge<T> {
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
struct Watch<'a, T: Flushes>(&'a Shared<T>);

impl<T: Flushes> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        self.0.lock().handle = None;
    }
}

impl<T: Flushes> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Watched<T>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched = self.lock();
        // Asked anew under the lock before each wait: the end may have come while it was released.
        while !watched.over {
            match watched.handle.clone() {
                Some(handle) if handle.is_stuck() => {
                    drop(watched);
                    handle.wake();
                    drop(handle);
                    watched = self.lock();
                    // A flush that can't be woken is tried again, but not without a pause.
                    if watched.handle.is_some() && !watched.over {
                        watched = self.pause(watched);
                    }
                }
                Some(_) => watched = self.pause(watched),
                None => {
                    watched.asleep = true;
                    watched = self.wake.wait(watched).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn pause<'a>(&self, watched: MutexGuard<'a, Watched<T>>) -> MutexGuard<'a, Watched<T>> {
        self.wake.wait_timeout(watched, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Its flush waits until it is woken, and whoever wakes it is held up.
    struct Stuck {
        waking: mpsc::SyncSender<()>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl Flushes for Stuck {
        fn is_stuck(&self) -> bool {
            true
        }

        fn wake(&self) {
            let _ = self.waking.send(());
            let _ = self.go_on.lock().unwrap().recv();
        }
    }

    #[test]
    fn it_ends_although_its_end_comes_while_it_wakes_a_flush() {
        let (waking, is_waking) = mpsc::sync_channel(0);
        let (go_on, gate) = mpsc::channel();
        let handle = Arc::new(Stuck { waking, go_on: Mutex::new(gate) });
        let nudge = Nudge::start().unwrap();
        nudge.while_waiting(&handle, || is_waking.recv().unwrap());
        // The flush is over, the thread that woke it is still at it.
        let shared = Arc::clone(&nudge.shared);
        let ending = std::thread::spawn(move || drop(nudge));
        while !shared.lock().over {
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
        ending.join().unwrap();
    }
}
