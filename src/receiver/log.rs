//! What a receiver remembers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::ReceivedEvent;

/// Bytes of requests that are remembered, at most.
const KEPT_BYTES: usize = 256 * 1024 * 1024;

/// How many there ever were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) attempts: usize,
    pub(super) events: usize,
}

#[derive(Debug)]
pub(super) struct Log {
    rings: Mutex<Rings>,
    totals: watch::Sender<Totals>,
}

#[derive(Debug)]
struct Rings {
    attempts: Ring,
    events: Ring,
}

impl Log {
    pub(super) fn new(keep: usize) -> Self {
        let rings = Rings { attempts: Ring::new(keep), events: Ring::new(keep) };
        Self { rings: Mutex::new(rings), totals: watch::channel(Totals::default()).0 }
    }

    pub(super) fn attempt(&self, event: Arc<ReceivedEvent>) {
        self.lock().attempts.push(event);
        self.totals.send_modify(|totals| totals.attempts += 1);
    }

    pub(super) fn event(&self, event: Arc<ReceivedEvent>) {
        self.lock().events.push(event);
        self.totals.send_modify(|totals| totals.events += 1);
    }

    pub(super) fn attempts(&self) -> Vec<Arc<ReceivedEvent>> {
        self.lock().attempts.events.iter().cloned().collect()
    }

    /// How many attempts are remembered no more.
    pub(super) fn forgotten(&self) -> usize {
        self.lock().attempts.forgotten
    }

    pub(super) fn events(&self) -> Vec<Arc<ReceivedEvent>> {
        self.lock().events.events.iter().cloned().collect()
    }

    /// Waits until this holds.
    pub(super) async fn changed_until(&self, holds: impl Fn(&Totals) -> bool) {
        let waited = self.totals.subscribe().wait_for(|totals| holds(totals)).await.map(drop);
        waited.expect("its sender lives as long as this log");
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The latest of them, limited in number and in bytes.
#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<ReceivedEvent>>,
    keep: usize,
    bytes: usize,
    forgotten: usize,
}

impl Ring {
    fn new(keep: usize) -> Self {
        Self { events: VecDeque::new(), keep, bytes: 0, forgotten: 0 }
    }

    fn push(&mut self, event: Arc<ReceivedEvent>) {
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > self.keep || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.size();
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::event::tests::event;

    #[test]
    fn only_the_latest_are_kept() {
        let mut ring = Ring::new(2);
        for attempt in 1..=5 {
            ring.push(Arc::new(ReceivedEvent { attempt: Some(attempt), ..event() }));
        }
        let kept: Vec<_> = ring.events.iter().map(|event| event.attempt).collect();
        assert_eq!((kept, ring.forgotten), (vec![Some(4), Some(5)], 3));
        assert_eq!(ring.bytes, ring.events.iter().map(|event| event.size()).sum::<usize>());
    }
}
