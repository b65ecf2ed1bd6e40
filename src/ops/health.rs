//! The daemon's own state, as its parts report it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// How far the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Listeners are not up yet.
    Starting,
    /// Listeners are up.
    Serving,
    /// The shutdown began.
    Draining,
}

/// Whether the store takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreHealth {
    /// It does.
    Writable,
    /// It takes nothing new until there is room; deliveries go on.
    Full,
    /// It can't be written at all.
    Unavailable,
}

/// Whether commits and dispatch go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// They do.
    Moving,
    /// Something hangs: only a restart helps.
    Stalled,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    stage: Stage,
    store: StoreHealth,
    progress: Progress,
}

/// The daemon's own state, written by its parts and read by probes.
#[derive(Debug)]
pub struct Health(Mutex<Report>);

impl Default for Health {
    fn default() -> Self {
        let (store, progress) = (StoreHealth::Unavailable, Progress::Moving);
        Self(Mutex::new(Report { stage: Stage::Starting, store, progress }))
    }
}

impl Health {
    /// How far the daemon is.
    pub fn stage(&self) -> Stage {
        self.lock().stage
    }

    /// Whether the store takes writes.
    pub fn store(&self) -> StoreHealth {
        self.lock().store
    }

    /// Whether commits and dispatch go on.
    pub fn progress(&self) -> Progress {
        self.lock().progress
    }

    /// Whether callers may be sent here: listeners up, store writable, not draining.
    pub fn is_ready(&self) -> bool {
        let report = self.lock();
        report.stage == Stage::Serving && report.store == StoreHealth::Writable
    }

    /// Reports how far the daemon is.
    pub fn set_stage(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    /// Reports whether the store takes writes.
    pub fn set_store(&self, store: StoreHealth) {
        self.lock().store = store;
    }

    /// Reports whether commits and dispatch go on.
    pub fn set_progress(&self, progress: Progress) {
        self.lock().progress = progress;
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
