//! Waiting for a number to be reached, within a limit.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use crate::Outcome;

/// Without any progress for so long, what is waited for won't come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    value: AtomicU64,
    /// What is waited for; waking somebody for each step would cost more than what is counted.
    goal: AtomicU64,
    reached: Notify,
}

impl Default for Counter {
    fn default() -> Self {
        Self { value: AtomicU64::new(0), goal: AtomicU64::new(u64::MAX), reached: Notify::new() }
    }
}

impl Counter {
    /// One more.
    pub fn add(&self) {
        let value = self.value.fetch_add(1, Ordering::Relaxed) + 1;
        if value >= self.goal.load(Ordering::Relaxed) {
            self.reached.notify_waiters();
        }
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Waits until there were so many, for one waiter at a time. Fails when nothing comes any more.
    pub async fn reach(&self, goal: u64, what: &str) -> Outcome<()> {
        self.goal.store(goal, Ordering::Relaxed);
        loop {
            let before = self.get();
            let mut reached = std::pin::pin!(self.reached.notified());
            reached.as_mut().enable();
            if before >= goal {
                return Ok(());
            }
            let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
            if !in_time && self.get() == before {
                return Err(format!("{before} of {goal} {what}, and no more in {PATIENCE:?}").into());
            }
        }
    }
}
